//! `token ...`: what can be typed.

use std::time::Duration;

use clap::Subcommand;
use zero2ai_node::http::Scope;

/// `token ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for the HTTP gateway and print it: it is shown once, and only its hash is kept
    #[command(after_help = "Examples:\n  zero2ai token new chat-app\n  \
        zero2ai token new prometheus --scopes metrics\n  zero2ai token new trial --scopes infer --ttl 7d --per-minute 30 --budget 100000\n\n\
        A budget counts tokens of text, read and written, and rows of predictions. When it is spent, calls are refused until \
        'zero2ai token budget' raises it.")]
    New {
        /// What it is for
        name: String,
        /// What it may do: infer (predict, chat, complete), models (list, describe, health), metrics
        #[arg(long, value_delimiter = ',', default_value = "infer,models")]
        scopes: Vec<Scope>,
        /// How long it is good: 30s, 10m, 1h, 7d [default: until it is revoked]
        #[arg(long, value_parser = super::duration)]
        ttl: Option<Duration>,
        /// Requests a minute at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        per_minute: Option<u32>,
        /// Units it may use in all: tokens of text, read and written, and rows of predictions
        #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u64).range(1..))]
        budget: Option<u64>,
    },
    /// Set what a token may use in all, what it has used until now included
    #[command(after_help = "Examples:\n  zero2ai token budget 1f0c9a3e 200000\n  zero2ai token budget 1f0c9a3e none")]
    Budget {
        /// Its id, as 'list' shows it
        id: String,
        /// Tokens of text and rows of predictions; 'none' is no limit
        #[arg(value_name = "UNITS", value_parser = budget)]
        units: Budget,
    },
    /// The tokens of this home, without their secrets, and what each has used
    #[command(after_help = "Example:\n  zero2ai token list --json")]
    List,
    /// Revoke a token, from the next request on
    #[command(after_help = "Example:\n  zero2ai token revoke 1f0c9a3e")]
    Revoke {
        /// Its id, as 'list' shows it
        id: String,
    },
}

/// What a token may use in all; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget(pub(crate) Option<u64>);

fn budget(text: &str) -> Result<Budget, String> {
    match text {
        "none" => Ok(Budget(None)),
        _ => {
            text.parse().map(|units| Budget(Some(units))).map_err(|_| "say a whole number of units, or none".to_owned())
        }
    }
}
