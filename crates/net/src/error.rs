//! What can go wrong, told so that a person knows what to do next.

use std::{error::Error, net::SocketAddr};

use zero2ai_proto::NodeId;

/// A cause from the networking library, whose types stay inside this crate.
pub type Cause = Box<dyn Error + Send + Sync + 'static>;

/// Why the swarm, or one thing asked of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The listening address cannot be had.
    #[error(
        "cannot listen on UDP {address}: {source}. If the address is in use, another program (perhaps this node already \
         running) holds the port: stop it or choose another port"
    )]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: Cause,
    },
    /// The listener ended while the node was running.
    #[error(
        "the swarm's listener ended unexpectedly: {source}. Restart the node; if it repeats, check the network interface"
    )]
    ListenerClosed {
        /// What the system said.
        source: Cause,
    },
    /// A part could not be set up.
    #[error("cannot set up {part}: {reason}")]
    Setup {
        /// Which part.
        part: &'static str,
        /// What it said.
        reason: String,
    },
    /// Text that is not a usable address.
    #[error("'{text}' is not a swarm address: {reason}. Expected the form /ip4/10.0.0.7/udp/7000/quic-v1")]
    Address {
        /// The text, shortened.
        text: String,
        /// Why.
        reason: String,
    },
    /// A node could not be reached, or refused this one.
    #[error(
        "cannot connect to node {} at {address}: {reason}. Check that it runs, that the address is right, and that both \
         are admitted to the same pool",
        node.short()
    )]
    Dial {
        /// The node.
        node: NodeId,
        /// The address tried.
        address: String,
        /// Every cause along the chain, in one line.
        reason: String,
    },
    /// A node is connected, and no tunnel to it could be opened.
    #[error("no tunnel to node {}: {reason}", node.short())]
    Tunnel {
        /// The node.
        node: NodeId,
        /// Why.
        reason: &'static str,
    },
    /// A record is not valid, or a better one is known.
    #[error("the record was not published: {0}")]
    Record(#[from] Refusal),
    /// This node may not stand as a provider of that key, or provides too many.
    #[error(
        "this node cannot be announced as a provider: it is not allowed for that key, or it provides {limit} keys already"
    )]
    Provide {
        /// Greatest number of keys one node provides.
        limit: usize,
    },
    /// A gossip message beyond the limit.
    #[error("a gossip message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A gossip message that could not leave.
    #[error("the gossip message was not sent: {0}. Peers are too slow to take it; send it again later")]
    Publish(String),
    /// Too many DHT questions at once.
    #[error("{limit} DHT queries are under way already: try again when some have ended")]
    Busy {
        /// How many may run at once.
        limit: usize,
    },
    /// The swarm's task has ended.
    #[error("the swarm has stopped: the node is shutting down or its network task failed (see the log)")]
    Stopped,
}

/// Why a record is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is not 32 bytes.
    #[error("its key is not 32 bytes")]
    Key,
    /// Larger than a record may be.
    #[error("it has {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The judge found it invalid.
    #[error("it is not valid: {0}")]
    Invalid(String),
    /// Its life is over.
    #[error("it has expired")]
    Expired,
    /// A newer one is held.
    #[error("its sequence number is {offered}, and {held} is known already")]
    Older {
        /// Sequence number held.
        held: u64,
        /// Sequence number offered.
        offered: u64,
    },
    /// Another one with the same number is held.
    #[error("another record with the same sequence number {seq} is known: raise the number")]
    Conflict {
        /// The number.
        seq: u64,
    },
    /// No room.
    #[error("no more records can be held ({what})")]
    Full {
        /// Which bound was met.
        what: &'static str,
    },
}

/// Every cause of an error in one line, outermost first.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    text
}
