//! What a chain is started with, and the bounds of its queues.

use std::{path::PathBuf, time::Duration};

use arc_malachitebft_core_types::LinearTimeouts;
use zero2ai_proto::SecretKey;

/// Events waiting for the chain task: gossip of a few hundred blocks. When it is full, gossip is dropped (it is repeated
/// by its senders) and submissions are refused with [`crate::SubmitError::Busy`].
pub(crate) const QUEUE: usize = 4_096;
/// Proofs against signers that wait for the node to put them on the ledger.
pub(crate) const EVIDENCE: usize = 64;
/// Events handled in one step, before the disk is asked to make them last: one flush for all of them.
pub(crate) const BATCH: usize = 128;
/// Transactions that wait for a block. The next is refused; the sender retries.
pub(crate) const MEMPOOL_TXS: usize = 5_000;
/// Bytes of transactions that wait for a block.
pub(crate) const MEMPOOL_BYTES: usize = 16 * 1024 * 1024;
/// Milliseconds that a transaction may wait for one of its account that should come first. Then it is dropped and its
/// sender told: the gap will hardly be filled any more, and the room is for those that can become final.
pub(crate) const STRANDED_MS: u64 = 60_000;
/// Waiting transactions gossiped again at one time.
pub(crate) const REGOSSIP_TXS: usize = 64;
/// Consensus messages kept for the height after the next one, per signer of it: a proposal, votes and certificates of a
/// round or two. More are dropped; their senders repeat them.
pub(crate) const EARLY_MESSAGES: usize = 12;
/// Bytes of consensus messages kept for the height after the next one.
pub(crate) const EARLY_BYTES: usize = 4 * 1024 * 1024;
/// Distinct blocks looked at per round: the core keeps two, enough to prove that a proposer contradicts himself.
pub(crate) const BLOCKS_PER_ROUND: usize = 2;
/// Bytes of proposed blocks kept for the height being decided: over a hundred of the largest, or a quarter of a million
/// empty ones, that is as many rounds. Beyond it no new block is looked at, and the height waits to be synced.
pub(crate) const CANDIDATE_BYTES: usize = 64 * 1024 * 1024;
/// Nodes whose claims of newer blocks are remembered, and how fetching on their word went.
pub(crate) const CLAIMS: usize = 256;
/// Milliseconds for which a node's claims are ignored at most, after many in a row that brought nothing.
pub(crate) const DOUBT_MS: u64 = 10 * 60 * 1000;
/// Rounds ahead of the current one from which proposals are looked at; the core drops votes by the same rule.
pub(crate) const ROUND_LOOKAHEAD: u32 = 10;
/// No message of a round beyond this is looked at: at a second per round it is eleven days into one height, and the
/// core's arithmetic on rounds stays far from its limits.
pub(crate) const ROUND_LIMIT: u32 = 1_000_000;

/// The consensus core's timeouts, all growing with the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a proposal is awaited in round 0: too short, and a slow network wastes rounds; too long, and a dead
    /// proposer costs every fourth block that long.
    pub propose: Duration,
    /// How long straggling votes are awaited once two thirds disagree, in round 0.
    pub vote: Duration,
    /// What each round adds to both.
    pub delta: Duration,
    /// How often votes are sent again while nothing moves.
    pub rebroadcast: Duration,
    /// What no timeout exceeds.
    pub max: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(1_000),
            vote: Duration::from_millis(400),
            delta: Duration::from_millis(300),
            rebroadcast: Duration::from_millis(1_000),
            max: Duration::from_secs(20),
        }
    }
}

impl Timeouts {
    pub(crate) fn linear(&self) -> LinearTimeouts {
        LinearTimeouts {
            propose: self.propose,
            propose_delta: self.delta,
            prevote: self.vote,
            prevote_delta: self.delta,
            precommit: self.vote,
            precommit_delta: self.delta,
            rebroadcast: self.rebroadcast,
            max_timeout: self.max,
        }
    }
}

/// When a chain makes blocks, and when it says that it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// With nothing to record, a block is made this long after the last one; the ledger's rules want a second at least.
    pub heartbeat: Duration,
    /// A block wanted for this long without coming makes [`crate::ChainStatus::halted`] true.
    pub halt_after: Duration,
    /// How often the own head is announced, and waiting transactions gossiped again.
    pub announce: Duration,
    /// How long a node waits, once it hears of a newer block, for consensus to bring it, before it fetches it.
    pub sync_grace: Duration,
    /// How long it waits after a fetch that failed.
    pub sync_retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            halt_after: Duration::from_secs(10),
            announce: Duration::from_secs(2),
            sync_grace: Duration::from_millis(250),
            sync_retry: Duration::from_millis(500),
        }
    }
}

/// What a chain is started with.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// Its folder: blocks, write-ahead log, signer's mark. Made if it is not there.
    pub dir: PathBuf,
    /// The node's key, with which it signs when it is in the signer set.
    pub key: SecretKey,
    /// The encoded genesis.
    pub genesis: Vec<u8>,
    /// When blocks are made.
    pub pace: Pace,
    /// The consensus core's timeouts.
    pub timeouts: Timeouts,
}

impl ChainConfig {
    /// A configuration with the default pace and timeouts.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, key: SecretKey, genesis: Vec<u8>) -> Self {
        Self { dir: dir.into(), key, genesis, pace: Pace::default(), timeouts: Timeouts::default() }
    }
}
