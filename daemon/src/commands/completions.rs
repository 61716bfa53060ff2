//! `completions`: what a shell must know to complete this program's command lines.

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, CompletionsArgs},
    output::print_piece,
};

/// The command.
pub(crate) fn completions(args: &CompletionsArgs) {
    // Into memory first: the generator cannot bear a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "zero2ai", &mut script);
    print_piece(&String::from_utf8_lossy(&script));
}
