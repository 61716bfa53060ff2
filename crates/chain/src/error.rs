//! What goes wrong with a chain, and what refuses a transaction.

use std::{path::PathBuf, sync::Arc};

use zero2ai_ledger::{BlockError, LedgerError, TxError};
use zero2ai_proto::{CodecError, TxId, block::CertificateError};
use zero2ai_store::StoreError;

/// Why a chain cannot be opened, or stopped. After any of these the node signs nothing more.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The genesis.
    #[error("the chain cannot start from its genesis: {0}")]
    Genesis(#[source] LedgerError),
    /// The snapshot that the chain begins with.
    #[error("the snapshot {} that this chain begins with cannot be used: {why}; set its folder aside and start again, so that the node fetches the blocks from its peers", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// A file of the chain could not be read or written.
    #[error(
        "the chain stopped, since {what} failed: {source}; nothing was signed that is not on disk; free the disk or repair it, then start the node again"
    )]
    Disk {
        /// What was being done.
        what: &'static str,
        /// The store's error.
        source: StoreError,
    },
    /// A stored block is not the one that was final.
    #[error("the stored block of height {height} is damaged: {why}; set the folder {} aside and start again, so that the node fetches the blocks from its peers", dir.display())]
    StoredBlock {
        /// Its height.
        height: u64,
        /// What about it does not hold.
        why: String,
        /// Where the blocks are.
        dir: PathBuf,
    },
    /// A file that guards against signing twice cannot be read.
    #[error("{} cannot be read: {why}; it keeps this node from signing twice: if this node signs for a pool, restore the file or take another identity; only if it never signed, remove the file", path.display())]
    Guard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A block that more than two thirds of the signers made final cannot be applied here.
    #[error(
        "the final block of height {height} cannot be applied: {source}; this program follows other rules than the pool's signers, or its state is damaged: update it, or start from an empty chain folder"
    )]
    Apply {
        /// Its height.
        height: u64,
        /// Why.
        source: BlockError,
    },
    /// The pool's administrators named rules for the next block that this program lacks.
    #[error(
        "the pool follows rules {needed} from block {height} on, and this program lacks them: update it and start the node again; everything up to block {} is on disk and holds", height.saturating_sub(1)
    )]
    Rules {
        /// The first height of those rules.
        height: u64,
        /// Their version.
        needed: u16,
    },
    /// The ledger could not build a block.
    #[error("no block of height {height} could be built: {source}; this is a fault of the program, report it")]
    Build {
        /// Its height.
        height: u64,
        /// Why.
        source: BlockError,
    },
    /// The consensus core failed.
    #[error(
        "the consensus core stopped at height {height}: {why}; start the node again, and report this if it comes back"
    )]
    Core {
        /// The height being decided.
        height: u64,
        /// The core's words.
        why: String,
    },
    /// The ledger failed at something that does not depend on what a peer sent.
    #[error("the ledger failed: {0}")]
    Ledger(#[from] LedgerError),
    /// Something of our own making could not be encoded.
    #[error("the chain could not encode its own message: {0}; this is a fault of the program, report it")]
    Codec(#[from] CodecError),
    /// A worker thread of the chain died.
    #[error("the chain's worker stopped unexpectedly: {0}; start the node again")]
    Worker(String),
}

/// Why a block that a peer sent was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Malformed bytes.
    #[error("the block cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// Another height than the next.
    #[error("the block has height {got}, and {want} is next")]
    Height {
        /// Its height.
        got: u64,
        /// The height asked for.
        want: u64,
    },
    /// The certificate is for another block.
    #[error("the certificate is for another block")]
    OtherBlock,
    /// The certificate does not prove the block final.
    #[error("the certificate of the block does not hold: {0}")]
    Certificate(#[from] CertificateError),
    /// The ledger refuses it.
    #[error("the ledger refuses the block: {0}")]
    Block(#[from] BlockError),
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The ledger refuses it. Shared, since everyone who waits is told.
    #[error("the transaction is refused: {0}")]
    Refused(#[source] Arc<TxError>),
    /// Another transaction of the account with this nonce is waiting.
    #[error(
        "transaction {0} of the same account with the same nonce is waiting already: wait for it, then use the next nonce"
    )]
    NonceTaken(TxId),
    /// Too much is waiting already.
    #[error("{0}; wait until waiting transactions are final, then send it again")]
    Full(&'static str),
    /// The chain has more to do than it can.
    #[error("the chain's queue is full: send the transaction again in a moment")]
    Busy,
    /// The chain task has ended.
    #[error(
        "the chain has stopped, so nothing can become final: see the node's log for the reason, and start it again"
    )]
    Stopped,
    /// Not final within the time given; it still may become so.
    #[error(
        "transaction {id} is not final after {waited_ms} ms; it keeps waiting and is gossiped: look at the ledger before sending it again"
    )]
    NotYet {
        /// The transaction.
        id: TxId,
        /// How long was waited, milliseconds.
        waited_ms: u64,
    },
}

impl From<TxError> for SubmitError {
    fn from(error: TxError) -> Self {
        Self::Refused(Arc::new(error))
    }
}
