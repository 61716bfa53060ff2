//! Drives BFT consensus over the ledger: the host of Malachite's core (Tendermint, arXiv 1807.04938), write-ahead log,
//! mempool, block sync.
//!
//! This crate decides when blocks are made and makes them last. It knows nothing of what transactions mean (`ledger`
//! does), nor of sockets, topics or peers' addresses: gossip leaves through [`ChainNet`], missing blocks come through
//! [`BlockSource`]. It alone names the consensus engine.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | what a chain is started with, timeouts, bounds |
//! | [`task`] | [`Chain::open`], [`Opened::run`], the task |
//! | [`handle`] | [`ChainHandle`]: reading, submitting, delivering gossip |
//! | [`archive`] | [`Archive`]: the blocks on a disk, read and replayed without a chain that runs |
//! | [`error`] | [`ChainError`], [`SubmitError`], [`SyncError`] |
//! | [`snapshot`] | where the blocks on a disk begin: behind the genesis, or behind a snapshot |
//! | [`history`] | everything a disk holds of the past, checked from the genesis on |
//! | `machine` | host and files together: nothing leaves before the disk holds what it must |
//! | `host` | the core's host, without disk, socket or clock |
//! | `disk`, `wal`, `signer` | blocks, write-ahead log, the mark that keeps a node from signing twice |
//! | `mempool` | transactions that wait |
//! | `shared` | what readers see |
//! | `simulation` | whole hosts on a simulated clock, network and disk, from one seed; for tests and `testnet` |
//! | `context`, `convert`, `verify` | the core's types over this project's |
//!
//! # Safety
//! A vote or proposal leaves only when the write-ahead log with all that led to it, and the signer's mark, are fsynced. A
//! write that fails ends the task; its owner stops the node. After a restart the log of the current height is told to the
//! core again, which then is locked on what it was locked on and signs what it signed. Should that log be lost, or its end
//! with what the mark says was signed last, the node signs nothing at that height, in any round: it waits until the others
//! have decided it. What no node survives is the loss of log *and* mark, or a copy of an old folder put in their place.
//!
//! # Pace
//! There are no empty blocks but a heartbeat, and one behind every block with transactions, whose header carries their
//! state root. A block is made at once when a transaction waits. Two empty ones in a row are a second apart, whoever asks
//! for them: the ledger refuses others.

pub mod archive;
pub mod config;
pub mod error;
pub mod handle;
pub mod history;
pub mod snapshot;
pub mod task;

mod context;
mod convert;
mod disk;
mod host;
mod machine;
mod mempool;
mod shared;
mod signer;
pub mod simulation;
mod verify;
mod wal;

pub use archive::{Archive, Tail};
pub use config::{ChainConfig, Pace, Timeouts};
pub use error::{ChainError, SubmitError, SyncError};
pub use handle::{ChainHandle, ChainStatus};
pub use task::{Chain, Opened, Running};

use futures::future::BoxFuture;
use zero2ai_proto::{NodeId, calls::SealedBlock};

/// What chain gossip is about: three topics, so that none drowns another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainTopic {
    /// Votes, proposals and certificates: [`zero2ai_proto::consensus::ConsensusGossip`].
    Consensus,
    /// Transactions: [`zero2ai_proto::consensus::TxGossip`].
    Tx,
    /// Heads: [`zero2ai_proto::consensus::HeadGossip`].
    Head,
}

/// The way out for gossip.
pub trait ChainNet: Send + Sync + 'static {
    /// Publishes `data` to every node of the pool. Must not block; may drop, since everything is repeated.
    fn broadcast(&self, topic: ChainTopic, data: Vec<u8>);
}

/// Where missing blocks come from.
pub trait BlockSource: Send + Sync + 'static {
    /// Final blocks from height `from` on, in order, at most `max`; fewer are fine. `hint` said that it has them. They
    /// are checked here, so a source need not be trusted. An error says in words why there are none.
    fn blocks(&self, hint: Option<NodeId>, from: u64, max: u32) -> BoxFuture<'_, Result<Vec<SealedBlock>, String>>;
}
