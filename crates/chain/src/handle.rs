//! What the rest of a node holds of a chain: reading the ledger and its proofs, submitting transactions, passing gossip in.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    NodeId, Signed, TxId,
    calls::SealedBlock,
    consensus::{ConsensusGossip, HeadGossip, TxGossip},
    limits::BLOCKS,
    proof::{SignedHeader, Snapshot, TrustStep},
    tx::Tx,
};

use crate::{
    ChainTopic,
    disk::Blocks,
    error::{ChainError, SubmitError},
    machine::{Event, Waiter},
    shared::Shared,
};

/// How a chain stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainStatus {
    /// Height of the last final block; 0 before the first.
    pub height: u64,
    /// That block's time, milliseconds since 1970 UTC; the genesis's before the first.
    pub head_time_ms: u64,
    /// True if a block has been wanted for longer than [`crate::Pace::halt_after`]: everything but the ledger goes on.
    pub halted: bool,
    /// Transactions that wait.
    pub mempool: usize,
    /// True if this node is in the set that signs the next block.
    pub signing: bool,
}

/// A handle to a chain, cheap to clone. Reading works from the moment the chain is opened; what is submitted or delivered
/// before it runs waits in the queue.
#[derive(Clone, Debug)]
pub struct ChainHandle {
    shared: Arc<Shared>,
    blocks: Blocks,
    events: mpsc::Sender<Event>,
    status: watch::Receiver<ChainStatus>,
}

impl ChainHandle {
    pub(crate) fn new(
        shared: Arc<Shared>,
        blocks: Blocks,
        events: mpsc::Sender<Event>,
        status: watch::Receiver<ChainStatus>,
    ) -> Self {
        Self { shared, blocks, events, status }
    }

    /// Passes in a gossip message that `from` published. When the queue of 4096 is full it is dropped: consensus and
    /// transactions are repeated by their makers.
    pub fn deliver(&self, topic: ChainTopic, from: NodeId, data: Vec<u8>) {
        if self.events.try_send(Event::Gossip { topic, from, data }).is_err() {
            tracing::debug!(?topic, "gossip dropped: the chain is busy or has stopped");
        }
    }

    /// True if `data` is well-formed for `topic`. Quick: no signature is checked and no state read.
    #[must_use]
    pub fn check_gossip(&self, topic: ChainTopic, data: &[u8]) -> bool {
        match topic {
            ChainTopic::Consensus => ConsensusGossip::read(data).is_ok(),
            ChainTopic::Tx => TxGossip::read(data).is_ok_and(|g| g.tx.read_unverified().is_ok()),
            ChainTopic::Head => HeadGossip::read(data).is_ok(),
        }
    }

    /// Takes in a transaction and gossips it. It is kept in memory until it is final or refused: after a restart of every
    /// node that knows it, it must be sent again.
    ///
    /// # Errors
    /// See [`SubmitError`]; `NotYet` is none of this method's.
    pub async fn submit(&self, tx: Signed<Tx>) -> Result<TxId, SubmitError> {
        self.send(tx, None).await
    }

    /// Takes in a transaction and waits until it is final: the height of its block. The state it makes is proven by the
    /// next block's header, which follows at once.
    ///
    /// # Errors
    /// See [`SubmitError`]. After `NotYet` the transaction still waits.
    pub async fn submit_and_wait(&self, tx: Signed<Tx>, patience: Duration) -> Result<u64, SubmitError> {
        let (waiter, outcome) = oneshot::channel();
        let all = async {
            let id = self.send(tx, Some(waiter)).await?;
            Ok::<_, SubmitError>((id, outcome))
        };
        let (id, outcome) = all.await?;
        match timeout(patience, outcome).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SubmitError::Stopped),
            Err(_) => {
                Err(SubmitError::NotYet { id, waited_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX) })
            }
        }
    }

    async fn send(&self, tx: Signed<Tx>, waiter: Option<Waiter>) -> Result<TxId, SubmitError> {
        let (answer, taken) = oneshot::channel();
        self.events.try_send(Event::Submit { tx: Box::new(tx), answer, waiter }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
        })?;
        taken.await.map_err(|_| SubmitError::Stopped)?
    }

    /// Reads the ledger as it is after the last final block. Keep it short: blocks wait for it to be applied. Never call
    /// another method of this handle inside.
    pub fn read<T>(&self, f: impl FnOnce(&Ledger) -> T) -> T {
        f(&self.shared.read().ledger)
    }

    /// Reads the ledger together with the header of its last final block (`None` at genesis), so that a proof and the
    /// header it is checked against belong together. As [`ChainHandle::read`].
    pub fn read_with_head<T>(&self, f: impl FnOnce(&Ledger, Option<&SignedHeader>) -> T) -> T {
        let view = self.shared.read();
        f(&view.ledger, view.head())
    }

    /// The last final header and its certificate; `None` at genesis.
    #[must_use]
    pub fn head(&self) -> Option<SignedHeader> {
        self.shared.read().head().cloned()
    }

    /// The final header of `height` and its certificate, if there is one.
    #[must_use]
    pub fn signed_header(&self, height: u64) -> Option<SignedHeader> {
        self.shared.read().header(height).cloned()
    }

    /// Every change of the signer set since genesis, oldest first: what a light client needs before it can check a header.
    #[must_use]
    pub fn trust_steps(&self) -> Vec<TrustStep> {
        self.shared.read().steps().to_vec()
    }

    /// The whole state after the newest block's parent, with what proves it; `None` below height 2. Blocks wait while it is
    /// copied: some microseconds an entry.
    ///
    /// # Errors
    /// The ledger's own failure.
    pub async fn snapshot(&self) -> Result<Option<Snapshot>, ChainError> {
        let shared = Arc::clone(&self.shared);
        let taken = spawn_blocking(move || shared.read().snapshot()).await;
        Ok(taken.map_err(|e| ChainError::Worker(e.to_string()))??)
    }

    /// Final blocks from height `from` on, at most `max` and [`BLOCKS`]; fewer, or none, where there are no more, or where
    /// the chain began with a snapshot behind them. Reads the disk, on a thread that may block.
    ///
    /// # Errors
    /// A stored block is damaged or cannot be read.
    pub async fn blocks(&self, from: u64, max: u32) -> Result<Vec<SealedBlock>, ChainError> {
        let blocks = self.blocks.clone();
        let count = u64::from(max).min(BLOCKS as u64);
        let read =
            move || (from.max(1)..from.max(1).saturating_add(count)).map_while(|h| blocks.get(h).transpose()).collect();
        spawn_blocking(read).await.map_err(|e| ChainError::Worker(e.to_string()))?
    }

    /// How the chain stands, now and at every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ChainStatus> {
        self.status.clone()
    }
}
