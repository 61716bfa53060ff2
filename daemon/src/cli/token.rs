//! `token ...`: what can be typed.

use std::time::Duration;

use clap::Subcommand;
use zero2ai_node::http::Scope;

/// `token ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for the HTTP gateway and print it: it is shown once, and only its hash is kept
    #[command(after_help = "Examples:\n  zero2ai token new chat-app\n  \
        zero2ai token new prometheus --scopes metrics\n  zero2ai token new trial --scopes infer --ttl 7d --per-minute 30")]
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
    },
    /// The tokens of this home, without their secrets
    #[command(after_help = "Example:\n  zero2ai token list --json")]
    List,
    /// Revoke a token, from the next request on
    #[command(after_help = "Example:\n  zero2ai token revoke 1f0c9a3e")]
    Revoke {
        /// Its id, as 'list' shows it
        id: String,
    },
}
