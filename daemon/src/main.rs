//! The `zero2ai` binary: command line, configuration, signals, exit codes. It builds nothing itself: `up` hands over to
//! the node crate, every other command asks a running node over peer RPC.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | what can be typed |
//! | [`exit`] | exit codes, and the error that every command returns |
//! | [`errors`] | errors of the crates below, as exit codes and paragraphs |
//! | [`output`], [`progress`] | tables and JSON on standard output; progress on standard error |
//! | [`input`], [`samples`] | CSV and JSON that users feed models; conformance samples |
//! | [`session`] | the line to the node of `--home` |
//! | [`signals`], [`logging`] | Ctrl-C and SIGTERM; log lines on standard error |
//! | [`commands`] | what each command does |
//! | [`hub`] | downloads from a model hub, checked
//! | [`demo`] | the whole job with several nodes, before the user's eyes |

mod cli;
mod commands;
mod demo;
mod errors;
mod exit;
mod hub;
mod input;
mod logging;
mod output;
mod picture;
mod progress;
mod samples;
mod session;
mod signals;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};

use crate::{
    cli::{Cli, Command},
    exit::{Exit, Failure},
};

/// For the connections of a command, which say goodbye from tasks of their own once they are dropped. Without a word the
/// node would keep a place for each until it idles out.
const GOODBYE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    // A worker closes its doors before anything else happens in its process: no threads, no logging, no parsing.
    if std::env::args_os().nth(1).is_some_and(|word| word == "worker") {
        return zero2ai_engine::worker_main();
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let json = cli.global.json;
    logging::start(&cli.global, matches!(cli.command, Command::Up(_)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(async {
                let done = commands::run_command(cli).await;
                tokio::time::sleep(GOODBYE).await;
                done
            });
            // Blocking work that nobody waits for any more must not hold the process up.
            runtime.shutdown_timeout(Duration::from_secs(1));
            done
        }
        Err(e) => Err(Failure::new(Exit::Internal, format!("The runtime cannot be started: {e}."))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(json);
            ExitCode::from(failure.exit.code())
        }
    }
}

/// Reads the command line. Help and version end the program well, a mistake ends it with [`Exit::Usage`].
fn parse() -> Result<Cli, ExitCode> {
    let command = Cli::command().after_help(exit::help());
    let parsed = command.try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|e| {
        let json = std::env::args_os().any(|word| word == "--json");
        match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = e.print(); // a closed pipe is no error
                ExitCode::SUCCESS
            }
            _ if json => {
                Failure::new(Exit::Usage, e.render().to_string().trim().to_owned()).print(true);
                ExitCode::from(Exit::Usage.code())
            }
            _ => {
                let _ = e.print();
                ExitCode::from(Exit::Usage.code())
            }
        }
    })
}
