//! `doctor`: what can be typed.

use std::{fmt, str::FromStr};

use clap::Args;
use zero2ai_proto::{ModelRef, NodeId};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A node key (64 hexadecimal digits) or a model: publisher/model, publisher/model@3, publisher/model:channel
    #[arg(value_name = "PEER|NAME")]
    pub(crate) patient: Option<Patient>,
}

/// What cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patient {
    Peer(NodeId),
    Name(ModelRef),
}

impl FromStr for Patient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return text.parse().map(Self::Name).map_err(|e: zero2ai_proto::name::NameError| e.to_string());
        }
        let key = text.parse().map(Self::Peer);
        key.map_err(|_| "write a node key (64 hexadecimal digits, see 'zero2ai pool show') or publisher/model".into())
    }
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(node) => write!(f, "{node}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}
