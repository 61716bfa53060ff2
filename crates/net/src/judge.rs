//! What this crate asks of the outside: who is admitted, what is valid. It holds no opinion of its own.

use zero2ai_proto::NodeId;

/// Decides what this node accepts. Called from the task that owns the swarm and from connection upgrades, so every
/// method must answer from memory, within microseconds, and never block.
pub trait Judge: Send + Sync + 'static {
    /// May this identity take part now? Asked after it proved the pool key, of both ends of every connection, and again
    /// every second of those connected: an identity that is no longer admitted is disconnected.
    fn admitted(&self, node: &NodeId) -> bool;

    /// Is this value valid at this key, now? The facts order versions and end its life.
    ///
    /// # Errors
    /// Why not, in words for the log and for a local publisher.
    fn record(&self, key: &[u8; 32], value: &[u8]) -> Result<RecordFacts, String>;

    /// May this node stand as a provider of this key?
    fn provider(&self, key: &[u8; 32], node: &NodeId) -> bool;

    /// Is this message worth handing on? Structural checks only: what needs work is done behind the event queue.
    fn gossip(&self, topic: Topic, author: &NodeId, data: &[u8]) -> Verdict;
}

/// What a valid record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// Version order at one key: a lower one never replaces a higher one; equal ones must be equal bytes.
    pub seq: u64,
    /// Not held, and not served, after this: milliseconds since 1970 UTC.
    pub expires_ms: u64,
}

/// What gossip is about. Each pool has its own three; a peer can subscribe to no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Votes, proposals and liveness messages of the signers.
    Consensus,
    /// Transactions on their way to a block.
    Tx,
    /// Headers of final blocks.
    Head,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Consensus, Self::Tx, Self::Head];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Tx => "tx",
            Self::Head => "head",
        }
    }
}

/// What becomes of a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered here and handed on.
    Accept,
    /// Dropped in silence: not wrong, only of no use (old, already known, too early).
    Ignore,
    /// Dropped, and whoever handed it on loses score: no honest node would have.
    Reject,
}

/// Admits everybody, and takes nothing.
#[cfg(test)]
pub(crate) struct Anyone;

#[cfg(test)]
impl Judge for Anyone {
    fn admitted(&self, _: &NodeId) -> bool {
        true
    }
    fn record(&self, _: &[u8; 32], _: &[u8]) -> Result<RecordFacts, String> {
        Err("none".into())
    }
    fn provider(&self, _: &[u8; 32], _: &NodeId) -> bool {
        false
    }
    fn gossip(&self, _: Topic, _: &NodeId, _: &[u8]) -> Verdict {
        Verdict::Reject
    }
}
