//! The provider's receipt log: appended and fsynced before an answer leaves (many at a time, one flush), kept as an
//! RFC 6962 tree, and anchored on the ledger.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use zero2ai_ledger::receipt_log::ReceiptLog;
use zero2ai_proto::{
    Digest, ModelName, NodeId, decode, encode,
    limits::{RECEIPTS, SIGNED_BYTES},
    local::AccountUse,
    proof::LogProof,
    receipt::{ProvenReceipt, Receipt},
    rpc::{ErrorCode, RpcError},
    tx::Anchor,
};
use zero2ai_store::log::Log;

use crate::{
    error::NodeError,
    serve::errors::{internal, store_error},
};

/// Receipts waiting for the next flush. When full, calls wait: an answer without a durable receipt is not given.
const QUEUE: usize = 1_024;

/// A leaf to be written, and who waits for it.
type Waiting = (Vec<u8>, oneshot::Sender<Result<(), String>>);

/// What is known of the leaves on disk: about a hundred bytes each. The leaves themselves stay there.
#[derive(Default)]
struct Written {
    tree: ReceiptLog,
    /// Which leaves are receipts of which model, so that an audit reads those alone.
    by_model: BTreeMap<ModelName, Vec<u64>>,
    /// What each account had.
    by_account: BTreeMap<NodeId, AccountUse>,
}

impl Written {
    fn push(&mut self, leaf: &[u8]) {
        let index = self.tree.push(leaf);
        if let Ok(receipt) = decode::<Receipt>(leaf, 2 * SIGNED_BYTES)
            && let (Ok(request), Ok(response)) = (receipt.request.read_unverified(), receipt.response.read_unverified())
        {
            self.by_model.entry(request.name).or_default().push(index);
            let account = receipt.request.signer();
            let fresh = AccountUse { account, receipts: 0, units: 0, last_ms: 0 };
            let used = self.by_account.entry(account).or_insert(fresh);
            used.receipts = used.receipts.saturating_add(1);
            used.units = used.units.saturating_add(response.units);
            used.last_ms = used.last_ms.max(response.time_ms);
        }
    }
}

/// Appends receipts and answers questions about the log. Clones share it.
#[derive(Clone)]
pub(crate) struct Receipts {
    /// Locked by who writes, for as long as a flush takes. Whoever holds [`Self::written`] does not wait for it.
    log: Arc<RwLock<Log>>,
    written: Arc<RwLock<Written>>,
    append: mpsc::Sender<Waiting>,
}

impl Receipts {
    /// Reads the log and starts the thread that writes it. The future ends when `stop` is cancelled, or with an error if
    /// the disk refuses a receipt: then nothing more may be answered.
    pub(crate) fn open(
        log: Log,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = Result<(), NodeError>> + Send + 'static), NodeError> {
        let mut written = Written::default();
        for index in 0..log.len() {
            let leaf = log.get(index)?.ok_or_else(|| NodeError::Storage(format!("receipt {index} is missing")))?;
            written.push(&leaf);
        }
        let (log, written) = (Arc::new(RwLock::new(log)), Arc::new(RwLock::new(written)));
        let (append, mut queue) = mpsc::channel::<Waiting>(QUEUE);
        let (shared, writer) = (Arc::clone(&written), Arc::clone(&log));
        let task = async move {
            loop {
                let mut batch = Vec::new();
                let got = tokio::select! {
                    got = queue.recv_many(&mut batch, QUEUE) => got,
                    () = stop.cancelled() => return Ok(()),
                };
                if got == 0 {
                    return Ok(());
                }
                let (leaves, done): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                let log = Arc::clone(&writer);
                let (leaves, result) = tokio::task::spawn_blocking(move || {
                    let mut log = log.write().unwrap_or_else(PoisonError::into_inner);
                    let result = leaves.iter().try_for_each(|l| log.append(l).map(drop)).and_then(|()| log.sync());
                    drop(log);
                    (leaves, result)
                })
                .await
                .map_err(|e| NodeError::Internal(e.to_string()))?;
                if let Err(error) = result {
                    for waiter in done {
                        let _ = waiter.send(Err(error.to_string()));
                    }
                    return Err(NodeError::Storage(format!("a receipt could not be written: {error}")));
                }
                let mut written = shared.write().unwrap_or_else(PoisonError::into_inner);
                leaves.iter().for_each(|leaf| written.push(leaf));
                drop(written);
                for waiter in done {
                    // A caller that went away has its receipt in the log all the same.
                    let _ = waiter.send(Ok(()));
                }
            }
        };
        Ok((Self { log, written, append }, task))
    }

    /// Appends a receipt; returns once it is on disk.
    pub(crate) async fn append(&self, receipt: &Receipt) -> Result<(), RpcError> {
        let leaf = encode(receipt).map_err(internal)?;
        let (done, wait) = oneshot::channel();
        let stopped = || RpcError::new(ErrorCode::Unavailable, "the node is stopping");
        self.append.send((leaf, done)).await.map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?.map_err(|why| RpcError::new(ErrorCode::Storage, why))
    }

    fn read<T>(&self, f: impl FnOnce(&Written) -> T) -> T {
        f(&self.written.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Receipts in the log.
    pub(crate) fn size(&self) -> u64 {
        self.read(|w| w.tree.size())
    }

    /// What each account had of this node, by its receipts.
    pub(crate) fn by_account(&self) -> Vec<AccountUse> {
        self.read(|w| w.by_account.values().copied().collect())
    }

    /// One receipt, read from the disk.
    fn get(&self, index: u64) -> Result<Receipt, RpcError> {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let leaf = log.get(index).map_err(store_error)?;
        let leaf = leaf.ok_or_else(|| internal(format!("receipt {index} is missing")))?;
        decode(&leaf, 2 * SIGNED_BYTES).map_err(internal)
    }

    /// The newest receipts, back to the first that was signed before `time_ms`. Reads the disk.
    pub(crate) fn since(&self, time_ms: u64) -> Vec<Receipt> {
        let newest = (0..self.size()).rev().map_while(|index| self.get(index).ok());
        let fresh = |r: &Receipt| r.response.read_unverified().is_ok_and(|response| response.time_ms >= time_ms);
        newest.take_while(fresh).collect()
    }

    /// The next anchor after `(seq, size)`, if there is anything new.
    pub(crate) fn next_anchor(&self, last: Option<(u64, u64)>) -> Result<Option<Anchor>, RpcError> {
        let (seq, old) = last.unwrap_or((0, 0));
        self.read(|Written { tree: log, .. }| {
            if log.size() <= old {
                return Ok(None);
            }
            let consistency = if old == 0 { Vec::new() } else { log.consistency(old, log.size()).map_err(internal)? };
            Ok(Some(Anchor { seq: seq + 1, size: log.size(), root: log.root(), consistency }))
        })
    }

    /// The root of the log's first `size` leaves.
    pub(crate) fn root_at(&self, size: u64) -> Option<Digest> {
        self.read(|w| w.tree.root_at(size).ok())
    }

    /// Receipts of a model from index `from` on that `wanted` picks, proved under the log's first `size` leaves. Reads the disk.
    pub(crate) fn proven(
        &self,
        name: &ModelName,
        from: u64,
        size: u64,
        wanted: impl Fn(&Receipt) -> bool,
    ) -> Result<Vec<ProvenReceipt>, RpcError> {
        let places: Vec<u64> = self.read(|w| {
            let places = w.by_model.get(name).map_or(&[][..], Vec::as_slice);
            let first = places.partition_point(|index| *index < from);
            places.iter().skip(first).copied().take_while(|index| *index < size).collect()
        });
        let mut found: Vec<(u64, Receipt)> = Vec::new();
        for index in places {
            let receipt = self.get(index)?;
            if wanted(&receipt) {
                found.push((index, receipt));
            }
            if found.len() == RECEIPTS {
                break;
            }
        }
        self.read(|Written { tree, .. }| {
            let prove = |(index, receipt)| {
                let proof: LogProof = tree.prove(index, size).map_err(internal)?;
                Ok(ProvenReceipt { receipt, proof })
            };
            found.into_iter().map(prove).collect()
        })
    }
}
