//! `store ...`: what can be typed.

use std::str::FromStr;

use clap::Subcommand;
use zero2ai_proto::{ModelName, ModelRef, name::Selector};

/// `store ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// The versions held: manifest, chunks here of all, sealed bytes, whether served and pinned
    #[command(after_help = "Examples:\n  zero2ai store ls\n  zero2ai store ls --json")]
    Ls,
    /// How much is stored, of which quota, and how much of it no held version needs
    #[command(after_help = "Example:\n  zero2ai store stats")]
    Stats,
    /// Hash everything stored again, delete what is damaged, and fetch it from peers; exit code 8 if something stays damaged
    #[command(
        after_help = "Examples:\n  zero2ai store verify\n  zero2ai store verify --json || echo 'look at .broken'"
    )]
    Verify,
    /// Delete chunks and manifests that no held version needs; refused (16) while models are published or fetched
    #[command(after_help = "Examples:\n  zero2ai store gc --dry-run\n  zero2ai store gc\n\n\
        What an interrupted fetch brought is deleted too: fetch the model first if it is to go on.")]
    Gc {
        /// Say what would be deleted, and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the index say what the chunk files say; with or without a running node
    #[command(after_help = "Examples:\n  zero2ai store rebuild\n  zero2ai store rebuild --json\n\n\
        A running node does it itself, and refuses (16) while models are published or fetched; without one the command \
        opens the store, and no node can start on it meanwhile. A node rebuilds its index by itself after a crash.")]
    Rebuild,
    /// Pin a held version: it is never dropped
    #[command(after_help = "Example:\n  zero2ai store pin lab/chat@3")]
    Pin {
        /// publisher/model@version
        name: VersionName,
    },
    /// Take the pin of a held version away
    #[command(after_help = "Example:\n  zero2ai store unpin lab/chat@3")]
    Unpin {
        /// publisher/model@version
        name: VersionName,
    },
    /// Forget a held version that is neither pinned nor served, so that 'store gc' frees it
    #[command(after_help = "Examples:\n  zero2ai store drop lab/chat@2 && zero2ai store gc\n  \
        zero2ai store drop lab/chat@2 --stop-serving\n\n\
        Its key is kept. Its chunks are gone for good after 'store gc' if no other node holds them: look at 'zero2ai resolve'.")]
    Drop {
        /// publisher/model@version
        name: VersionName,
        /// Stop serving it first
        #[arg(long)]
        stop_serving: bool,
    },
}

/// One version of a model, said in full: what is kept or dropped must not depend on what is newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionName {
    pub(crate) name: ModelName,
    pub(crate) version: u32,
}

impl FromStr for VersionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ModelRef { name, selector } = text.parse().map_err(|e: zero2ai_proto::name::NameError| e.to_string())?;
        match selector {
            Selector::Version(version) => Ok(Self { name, version }),
            _ => Err(format!("write which version: {name}@1 ('zero2ai store ls' lists them)")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_version_is_said_in_full() {
        let read = "lab/m@3".parse::<VersionName>().unwrap();
        assert_eq!((read.name.to_string().as_str(), read.version), ("lab/m", 3));
        for text in ["lab/m", "lab/m:stable", "lab/m@0", "m"] {
            assert!(text.parse::<VersionName>().is_err(), "{text}");
        }
    }
}
