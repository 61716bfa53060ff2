//! `account ...`: what can be typed.

use std::path::PathBuf;

use clap::Subcommand;

use super::TokenCommand;

/// `account ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Make an account that a program uses without a node: a key in a file, admitted with an invite
    #[command(after_help = "Examples:\n  zero2ai account new me.account --join-file invite.txt\n\n\
        The file holds the account's secret and the pool key. The client libraries of Rust and Python open it. A file that is \
        there already is opened, and admitted if it was not yet.")]
    New {
        /// The account's file
        file: PathBuf,
        /// The invite (a secret: prefer --join-file where others can list processes)
        #[arg(long, value_name = "INVITE", conflicts_with = "join_file", required_unless_present = "join_file")]
        join: Option<String>,
        /// The invite in this file
        #[arg(long, value_name = "FILE")]
        join_file: Option<PathBuf>,
    },
    /// The pool's accounts, their rights, and what each had of this node by signed receipts
    #[command(after_help = "Example:\n  zero2ai account list --json")]
    List,
    /// The same as 'zero2ai token': tokens of the HTTP gateway, which asks as this node's account
    #[command(subcommand)]
    Token(TokenCommand),
}
