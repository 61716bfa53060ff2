//! The whole state at one height, so that a new node need not execute every block before it.
//!
//! What proves it: the steps lead from the genesis to the signers of two headers in a row; the second carries the root of the
//! state after the first, and the entries must make up that very root. So a snapshot is worth what a light client's proofs are
//! worth: more than two thirds of the signers vouch for every bit of it. That those signers followed the rules before that
//! height is not checked again; a node that wants to see for itself executes the blocks.

use std::collections::{BTreeMap, BTreeSet};

use zero2ai_proto::{
    BlockId, ByteBuf, Digest, decode,
    limits::{SIGNED_BYTES, SNAPSHOT_BYTES},
    proof::{SignedHeader, Snapshot, TrustStep},
    state::{Handle, SeedState, Signers, key},
};

use crate::{
    Ledger, TrustedChain,
    draft::{Entries, HANDLES, VALUE_BYTES, with_prefix},
    error::LedgerError,
    light::LightError,
    past::PastSigners,
    receipt_log::root_of,
    tree::Tree,
};

/// Version of the struct's shape that this program writes and reads.
const VERSION: u16 = 1;

fn refused(why: impl ToString) -> LedgerError {
    LedgerError::Snapshot(why.to_string())
}

/// What the proofs of a snapshot say.
struct Proven {
    height: u64,
    time_ms: u64,
    head: BlockId,
    had_txs: bool,
    root: Digest,
    past: PastSigners,
}

impl Ledger {
    /// The state after the newest block's parent: what the newest header proves. `header` is the parent's, `next` the newest
    /// block's, and `steps` every change of the signers up to the parent.
    ///
    /// # Errors
    /// [`LedgerError::UnknownHeight`] if the parent's state is not held; [`LedgerError::Snapshot`] if the headers are others, or
    /// the state is beyond [`SNAPSHOT_BYTES`].
    pub fn snapshot(
        &self,
        header: SignedHeader,
        next: SignedHeader,
        steps: Vec<TrustStep>,
    ) -> Result<Snapshot, LedgerError> {
        let height = header.certificate.height;
        if next.certificate.block != self.head || height.checked_add(1) != Some(self.height) {
            return Err(refused("it is made under the newest header and its parent's alone"));
        }
        let (mut entries, mut bytes) = (Vec::with_capacity(self.entries.len()), 0_usize);
        // The newest block may have added keys, which its parent's state lacks, and taken some out, which it has.
        let keys: BTreeSet<&Vec<u8>> = self.entries.keys().chain(&self.removed).collect();
        for key in keys {
            if let Some(value) = self.tree.value(key, height)? {
                bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
                if bytes > SNAPSHOT_BYTES {
                    return Err(refused("the state is larger than a snapshot may be: fetch the blocks"));
                }
                entries.push((ByteBuf::from(key.clone()), ByteBuf::from(value)));
            }
        }
        Ok(Snapshot { version: VERSION, header, next, steps, entries })
    }

    /// The ledger of the pool that `genesis` makes, at the height of `snapshot`, with proofs from there on.
    ///
    /// # Errors
    /// [`LedgerError::Genesis`]; [`LedgerError::Snapshot`] names what does not hold.
    pub fn restore(genesis: &[u8], snapshot: &Snapshot) -> Result<Self, LedgerError> {
        let begin = Self::genesis(genesis)?;
        let proven = check(genesis, snapshot)?;
        let entries = read_entries(&snapshot.entries)?;
        let mut tree = Tree::from_height(proven.height);
        if tree.commit(entries.iter().map(|(key, value)| (key, Some(value))))? != proven.root {
            return Err(refused(format!(
                "its {} entries do not make up the state root that header {} carries",
                entries.len(),
                proven.height.saturating_add(1)
            )));
        }
        // What is under the root was written by the rules: it can be read.
        let sets = entries.get(key::SIGNERS).ok_or_else(|| refused("it has no signers"))?;
        let sets: Signers = decode(sets, VALUE_BYTES)?;
        let mut handles: BTreeMap<_, u32> = BTreeMap::new();
        for (_, value) in with_prefix(&entries, HANDLES) {
            let count = handles.entry(decode::<Handle>(value, VALUE_BYTES)?.owner).or_default();
            *count = count.saturating_add(1);
        }
        // From rules 2 on every block has a transaction, and the state says whether it had others.
        let seed: Option<SeedState> = entries.get(key::SEED).map(|seed| decode(seed, VALUE_BYTES)).transpose()?;
        let had_txs = seed.filter(|seed| seed.height == proven.height).map_or(proven.had_txs, |seed| seed.busy);
        Ok(Self {
            height: proven.height,
            time_ms: proven.time_ms,
            head: proven.head,
            head_had_txs: had_txs,
            sets,
            past: proven.past,
            entries,
            handles,
            tree,
            ..begin
        })
    }
}

/// Checks everything but the entries.
fn check(genesis: &[u8], snapshot: &Snapshot) -> Result<Proven, LedgerError> {
    if snapshot.version != VERSION {
        return Err(refused(format!("it has version {}, and this program knows {VERSION}", snapshot.version)));
    }
    let light = |e: LightError| refused(e);
    let chain = TrustedChain::with_steps(genesis, &snapshot.steps).map_err(light)?;
    let header = chain.verify_header(&snapshot.header).map_err(light)?;
    let next = chain.verify_header(&snapshot.next).map_err(light)?;
    let head = snapshot.header.certificate.block;
    if header.height.checked_add(1) != Some(next.height) || next.parent != head {
        return Err(refused(format!("header {} does not follow header {}", next.height, header.height)));
    }
    if snapshot.steps.iter().any(|step| step.header.certificate.height > header.height) {
        return Err(refused("it has a step beyond its height"));
    }
    Ok(Proven {
        height: header.height,
        time_ms: header.time_ms,
        head,
        had_txs: header.txs_root != root_of::<Vec<u8>>([]),
        root: next.app_hash,
        past: PastSigners::of(chain.sets(), header.height),
    })
}

/// The entries, if they are in order: one list stands for one state.
fn read_entries(list: &[(ByteBuf, ByteBuf)]) -> Result<Entries, LedgerError> {
    let mut entries = Entries::new();
    for (key, value) in list {
        if key.len() > SIGNED_BYTES || value.len() > VALUE_BYTES {
            return Err(refused("an entry is longer than any may be"));
        }
        if entries.last_key_value().is_some_and(|(last, _)| last.as_slice() >= key.as_slice()) {
            return Err(refused("its entries are not in ascending order"));
        }
        entries.insert(key.to_vec(), value.to_vec());
    }
    Ok(entries)
}
