//! Everything a node's disk holds of the past, checked from the genesis on, without a node: blocks, certificates, state
//! roots, and the provider's receipts against the roots that the ledger holds of them. Changes nothing; a node may be running
//! on the folders.

use std::path::{Path, PathBuf};

use zero2ai_ledger::ReceiptLog;
use zero2ai_proto::{BlockId, Digest, NodeId, PoolId, decode, limits::SIGNED_BYTES, receipt::Receipt};
use zero2ai_store::{Log, LogConfig, StoreError, Tail};

use crate::{
    archive::{Archive, Guards},
    error::ChainError,
};

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The chain's folder.
    pub chain: PathBuf,
    /// The folder of the provider's receipt log.
    pub receipts: PathBuf,
    /// Whose receipts these are.
    pub provider: NodeId,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: a file, a height, a receipt.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

/// What was checked, and what does not hold.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The pool that the genesis makes.
    pub pool: Option<PoolId>,
    /// Height of the snapshot that the chain begins with, whose proofs hold; 0 without one.
    pub base: u64,
    /// Blocks that hold: from the one after the base to here.
    pub height: u64,
    /// The last of them.
    pub head: Option<BlockId>,
    /// Transactions in them.
    pub txs: u64,
    /// Signatures in their certificates, each verified.
    pub signatures: u64,
    /// State root after the last of them. The next header will carry it; no block on this disk does.
    pub root: Option<Digest>,
    /// Receipts that hold.
    pub receipts: u64,
    /// How many of them are under an anchor that a block carries.
    pub anchored: u64,
    /// What does not hold.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Adds something that does not hold.
    pub fn fault(&mut self, place: impl Into<String>, why: impl ToString) {
        self.faults.push(Fault { place: place.into(), why: why.to_string() });
    }

    fn tail(&mut self, dir: &Path, tail: &Tail, what: &str) {
        let place = format!("{} at byte {}", dir.join(&tail.segment).display(), tail.offset);
        let bytes = tail.bytes;
        self.fault(
            place,
            format!("{bytes} bytes are no whole {what}: a write that a crash cut off, or the last {what} damaged"),
        );
    }
}

/// Reads and replays everything in `folders` from `genesis` on. What does not hold is named.
#[must_use]
pub fn verify(folders: &Folders, genesis: &[u8]) -> Report {
    let mut report = Report { pool: Some(PoolId::of(genesis)), ..Report::default() };
    let anchors = check_blocks(folders, genesis, &mut report);
    check_guards(&folders.chain, &mut report);
    check_receipts(folders, &anchors, &mut report);
    report
}

/// Sizes and roots that the provider anchored, oldest first.
type Anchors = Vec<(u64, Digest)>;

fn check_blocks(folders: &Folders, genesis: &[u8], report: &mut Report) -> Anchors {
    let (dir, mut anchors) = (&folders.chain, Anchors::new());
    let replayed = Archive::open(dir).and_then(|archive| {
        if let Some(tail) = archive.tail() {
            report.tail(&dir.join("blocks"), tail, "block");
        }
        report.base = archive.base();
        (report.height, report.head) = (report.base, None);
        let begun = archive.begin(genesis)?;
        if let Some(anchor) = begun.anchor(&folders.provider) {
            anchors.push((anchor.size, anchor.root));
        }
        archive.replay(begun, |ledger, sealed, block, applied| {
            (report.height, report.head, report.root) = (applied.header.height, Some(applied.id), Some(ledger.root()));
            report.txs = report.txs.saturating_add(block.txs.len() as u64);
            report.signatures = report.signatures.saturating_add(sealed.certificate.signatures.len() as u64);
            if let Some(anchor) = ledger.anchor(&folders.provider).filter(|a| a.height == applied.header.height) {
                anchors.push((anchor.size, anchor.root));
            }
        })
    });
    match replayed {
        Ok(_) => {}
        Err(ChainError::StoredBlock { height, why, .. }) => report.fault(format!("block {height}"), why),
        Err(ChainError::Snapshot { path, why }) => report.fault(path.display().to_string(), why),
        Err(ChainError::Genesis(error)) => report.fault("genesis", error),
        Err(error) => report.fault(dir.display().to_string(), error),
    }
    anchors
}

/// The files that keep a signer from signing twice: no history, but a node does not start on damaged ones.
fn check_guards(dir: &Path, report: &mut Report) {
    match Guards::look(dir) {
        Ok(guards) => {
            if let Some(tail) = &guards.tail {
                report.tail(&dir.join("wal"), tail, "entry");
            }
            let next = report.height.saturating_add(1);
            if let Some(signed) = guards.signed.filter(|signed| *signed > next && report.faults.is_empty()) {
                let why = format!(
                    "it says that height {signed} was signed, and {next} would be next: blocks are gone, or it is damaged"
                );
                report.fault(dir.join("signed").display().to_string(), why);
            }
        }
        Err(ChainError::Guard { path, why }) => report.fault(path.display().to_string(), why),
        Err(error) => report.fault(dir.display().to_string(), error),
    }
}

fn check_receipts(folders: &Folders, anchors: &Anchors, report: &mut Report) {
    let (dir, me) = (&folders.receipts, folders.provider);
    let (log, tail) = match Log::look(dir, LogConfig::default()) {
        Err(StoreError::LogDamaged { record, offset, segment, .. }) => {
            let place = format!("receipt {record}, {} at byte {offset}", dir.join(segment).display());
            return report.fault(place, "its record does not hold");
        }
        Err(error) => return report.fault(dir.display().to_string(), error),
        Ok(looked) => looked,
    };
    if let Some(tail) = &tail {
        report.tail(dir, tail, "receipt");
    }
    let (pool, mut tree) = (report.pool, ReceiptLog::new());
    for index in 0..log.len() {
        let leaf = match log.get(index) {
            Ok(Some(leaf)) => leaf,
            Ok(None) => return report.fault(format!("receipt {index}"), "it is missing"),
            Err(error) => return report.fault(format!("receipt {index}"), error),
        };
        tree.push(&leaf);
        let read = decode::<Receipt>(&leaf, 2 * SIGNED_BYTES).map_err(|e| e.to_string());
        let checked = read.and_then(|r| match pool {
            Some(pool) if r.response.signer() == me => r.verify(&pool).map(drop).map_err(|e| e.to_string()),
            Some(_) => Err("it is signed by another provider than this node".to_owned()),
            None => Ok(()),
        });
        match checked {
            Ok(()) => report.receipts += 1,
            Err(why) => report.fault(format!("receipt {index}"), why),
        }
    }
    let mut held = 0;
    for (size, root) in anchors {
        match tree.root_at(*size) {
            Ok(own) if own == *root => held = *size,
            Ok(_) => {
                let place = format!("receipts {held} to {}", size.saturating_sub(1));
                return report.fault(place, format!("their root is not the one anchored over {size} receipts"));
            }
            Err(_) => {
                let why = format!("{size} receipts were anchored, and {} are here", log.len());
                return report.fault(format!("receipts {} to {}", log.len(), size.saturating_sub(1)), why);
            }
        }
    }
    report.anchored = held;
}
