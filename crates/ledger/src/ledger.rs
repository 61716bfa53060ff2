//! The ledger: the state after every final block, and typed reads of the newest. Owns the entries and their tree; blocks
//! reach it through the `block` module alone.

use std::{collections::BTreeMap, sync::Mutex};

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{
    AccountId, BlockId, Digest, ModelName, ModelRef, NodeId, PoolId, decode, encode,
    manifest::Domain,
    name::Selector,
    pool::Genesis,
    proof::{SignedHeader, StateProof},
    record::NameRecord,
    state::{
        AnchorState, Endorsement, Equivocation, Event, GrantState, Handle, Member, Model, PoolEpoch, Rights, Rules,
        Score, SignerSet, Signers, Version, key,
    },
};

use crate::{
    RULES_VERSION,
    block::Prepared,
    draft::{Entries, HANDLES, VALUE_BYTES, Writes, with_prefix, written_under},
    error::LedgerError,
    past::PastSigners,
    tree::Tree,
};

/// The state of one pool after its newest final block, with proofs at every height before. Everything is in memory:
/// some kilobytes a transaction, for as long as the process lives; it is rebuilt from the blocks.
pub struct Ledger {
    pub(crate) pool: PoolId,
    pub(crate) height: u64,
    pub(crate) time_ms: u64,
    pub(crate) head: BlockId,
    /// True if the newest block had transactions, whose state root the next header proves; true at genesis.
    pub(crate) head_had_txs: bool,
    pub(crate) sets: Signers,
    /// Who signed the heights before the last change of the signers: derived from the blocks.
    pub(crate) past: PastSigners,
    pub(crate) entries: Entries,
    /// Keys that the newest block took out: its parent's state, of which snapshots are made, still has them.
    pub(crate) removed: Vec<Vec<u8>>,
    /// How many handles each account holds: derived from `entries`.
    pub(crate) handles: BTreeMap<AccountId, u32>,
    /// The block that was checked last, so that applying it does not execute it again.
    pub(crate) checked: Mutex<Option<Prepared>>,
    /// The newest rules that this ledger follows: those of the program, unless a test knows more.
    pub(crate) known_rules: u16,
    pub(crate) tree: Tree,
    pub(crate) genesis: Genesis,
    pub(crate) genesis_bytes: Vec<u8>,
}

impl Ledger {
    /// The ledger at height 0. Its maker is the one member, with every right. Signers that the genesis names need not be
    /// members: the pool's id pins them.
    ///
    /// # Errors
    /// [`LedgerError::Genesis`] if the bytes cannot be read, carry rules that this program does not know, or name an
    /// impossible signer set.
    pub fn genesis(bytes: &[u8]) -> Result<Self, LedgerError> {
        let (genesis, pool) = Genesis::read(bytes).map_err(|e| LedgerError::Genesis(e.to_string()))?;
        if !(1..=RULES_VERSION).contains(&genesis.rules_version) {
            let why =
                format!("it follows rules {}, and this program knows 1 to {RULES_VERSION}", genesis.rules_version);
            return Err(LedgerError::Genesis(why));
        }
        if !genesis.signers.is_valid() {
            return Err(LedgerError::Genesis("its signers are out of order, of bounds, or none".into()));
        }
        let all = Rights((1 << Rights::NAMES.len()) - 1);
        let admin = Member { rights: all, sealing_key: genesis.admin_sealing, admitted: 0, nonce: 0 };
        let sets = Signers { current: genesis.signers.clone(), next: genesis.signers.clone() };
        let writes = Writes::from([
            (key::member(&genesis.admin), Some(encode(&admin)?)),
            (key::SIGNERS.to_vec(), Some(encode(&sets)?)),
        ]);
        let mut ledger = Self {
            pool,
            height: 0,
            time_ms: genesis.created_ms,
            head: BlockId(pool.0),
            head_had_txs: true,
            sets,
            past: PastSigners::default(),
            entries: Entries::new(),
            removed: Vec::new(),
            handles: BTreeMap::new(),
            checked: Mutex::new(None),
            known_rules: RULES_VERSION,
            tree: Tree::default(),
            genesis,
            genesis_bytes: bytes.to_vec(),
        };
        ledger.commit(writes)?;
        Ok(ledger)
    }

    /// Writes the next version of the state. Nothing changes if it fails.
    pub(crate) fn commit(&mut self, writes: Writes) -> Result<(), LedgerError> {
        let sets = writes.get(key::SIGNERS).and_then(Option::as_ref);
        let sets: Option<Signers> = sets.map(|bytes| decode(bytes, VALUE_BYTES)).transpose()?;
        let mut claims = Vec::new();
        for (key, value) in written_under(&writes, HANDLES) {
            if !self.entries.contains_key(key) {
                claims.push(decode::<Handle>(value, VALUE_BYTES)?.owner);
            }
        }
        // What is not there cannot be taken out of the tree either.
        let done = writes.iter().filter(|(key, value)| value.is_some() || self.entries.contains_key(*key));
        self.tree.commit(done.map(|(key, value)| (key, value.as_ref())))?;
        if let Some(sets) = sets {
            // The state being committed is of the next height, which the old set has just signed.
            if sets.current != self.sets.current {
                self.past.replaced(self.height.saturating_add(1), self.sets.current.clone());
            }
            self.sets = sets;
        }
        for owner in claims {
            let count = self.handles.entry(owner).or_default();
            *count = count.saturating_add(1);
        }
        self.removed.clear();
        for (key, value) in writes {
            match value {
                Some(value) => drop(self.entries.insert(key, value)),
                None if self.entries.remove(&key).is_some() => self.removed.push(key),
                None => {}
            }
        }
        Ok(())
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        self.pool
    }

    /// The first state.
    #[must_use]
    pub const fn genesis_state(&self) -> &Genesis {
        &self.genesis
    }

    /// The encoded genesis, whose hash is the pool's id.
    #[must_use]
    pub fn genesis_bytes(&self) -> &[u8] {
        &self.genesis_bytes
    }

    /// Height of the newest final block; 0 before the first.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// Time of the newest final block, or of the genesis; milliseconds since 1970 UTC.
    #[must_use]
    pub const fn head_time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Id of the newest final block: the parent of the next. At height 0 the pool's id, as bytes.
    #[must_use]
    pub const fn head_id(&self) -> BlockId {
        self.head
    }

    /// Height of the oldest state that is held: 0, or that of the snapshot that the ledger began with.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.tree.base()
    }

    /// True if the newest block had transactions: their state root is proved by the next header only, so that one is
    /// wanted. True at height 0, since block 1 proves the genesis state.
    #[must_use]
    pub const fn head_had_txs(&self) -> bool {
        self.head_had_txs
    }

    /// Root of the state after the newest block: the next header's `app_hash`.
    #[must_use]
    pub fn root(&self) -> Digest {
        // Never missing: every height commits a version.
        self.tree.root(self.height).unwrap_or(crate::light::state::EMPTY)
    }

    /// Root of the state after `height`, if it is at most the newest.
    #[must_use]
    pub fn root_at(&self, height: u64) -> Option<Digest> {
        self.tree.root(height)
    }

    /// Who signs the next block (`height() + 1`).
    #[must_use]
    pub const fn signers(&self) -> &SignerSet {
        &self.sets.current
    }

    /// Who signs the next block, and the one after it.
    #[must_use]
    pub const fn signers_state(&self) -> &Signers {
        &self.sets
    }

    /// Which rules blocks follow, and which are to come.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.read(key::RULES).unwrap_or(Rules { version: self.genesis.rules_version, next: None })
    }

    /// The rules of the next block, if this program lacks them: then nothing comes behind the newest block here, until it is
    /// updated.
    #[must_use]
    pub fn missing_rules(&self) -> Option<u16> {
        Some(self.rules().at(self.height.saturating_add(1))).filter(|version| *version > self.known_rules)
    }

    /// The bytes of one entry; keys are made by [`zero2ai_proto::state::key`].
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// All entries whose key starts with `prefix`, in order of key.
    pub fn scan<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        with_prefix(&self.entries, prefix)
    }

    pub(crate) fn read<T: Serialize + DeserializeOwned>(&self, key: &[u8]) -> Option<T> {
        // Entries are written by the rules alone, in this very encoding: what is there can be read.
        decode(self.get(key)?, VALUE_BYTES).ok()
    }

    /// An admitted identity, revoked ones (without rights) included.
    #[must_use]
    pub fn member(&self, id: &NodeId) -> Option<Member> {
        self.read(&key::member(id))
    }

    /// The newest pool key; `None` while it is the one that the pool was made with.
    #[must_use]
    pub fn pool_epoch(&self) -> Option<PoolEpoch> {
        self.read(key::POOL_EPOCH)
    }

    /// All identities ever admitted, in order of key. The iterator owns what it gives, so it may outlive a lock.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, Member)> + use<> {
        let read = |(key, value)| Some((last_part(key)?, decode(value, VALUE_BYTES).ok()?));
        self.scan(b"member/").filter_map(read).collect::<Vec<_>>().into_iter()
    }

    /// Who owns a handle.
    #[must_use]
    pub fn handle(&self, handle: &str) -> Option<Handle> {
        self.read(&key::handle(handle))
    }

    /// A model.
    #[must_use]
    pub fn model(&self, name: &ModelName) -> Option<Model> {
        self.read(&key::model(name))
    }

    /// All models, in order of name. The iterator owns what it gives.
    pub fn models(&self) -> impl Iterator<Item = (ModelName, Model)> + use<> {
        let read = |(key, value): (&[u8], &[u8])| {
            let name = std::str::from_utf8(key.strip_prefix(b"model/")?).ok()?;
            Some((name.parse().ok()?, decode(value, VALUE_BYTES).ok()?))
        };
        self.scan(b"model/").filter_map(read).collect::<Vec<_>>().into_iter()
    }

    /// One version of a model.
    #[must_use]
    pub fn version(&self, name: &ModelName, version: u32) -> Option<Version> {
        self.read(&key::version(name, version))
    }

    /// The version that a reference means today: the newest published, the one named, or where the channel points.
    /// It may be withdrawn: see [`Version::withdrawn`].
    #[must_use]
    pub fn resolve(&self, reference: &ModelRef) -> Option<(u32, Version)> {
        let version = match &reference.selector {
            Selector::Latest => self.model(&reference.name)?.latest,
            Selector::Version(version) => *version,
            Selector::Channel(channel) => {
                let channels = self.model(&reference.name)?.channels;
                channels.iter().find(|(name, _)| name == channel)?.1
            }
        };
        Some((version, self.version(&reference.name, version)?))
    }

    /// Who was ever granted a model, in order of key, and whether the grant holds.
    #[must_use]
    pub fn grants(&self, name: &ModelName) -> Vec<(NodeId, GrantState)> {
        self.scan(&key::grants(name))
            .filter_map(|(key, value)| Some((last_part(key)?, decode(value, VALUE_BYTES).ok()?)))
            .collect()
    }

    /// True if `member` may be given the key of that version: its publisher and the model's owner always; others if they may run models, the
    /// version was not withdrawn and, where it is private, they were granted the model.
    #[must_use]
    pub fn may_open(&self, name: &ModelName, version: u32, member: &NodeId) -> bool {
        let rights = self.member(member).map_or(Rights(0), |m| m.rights);
        let Some(entry) = self.version(name, version).filter(|_| rights != Rights(0)) else { return false };
        let runs_models = rights.has(Rights::PROVIDER) || rights.has(Rights::VALIDATOR);
        let granted = || self.read::<GrantState>(&key::grant(name, member)).is_some_and(|g| g.granted);
        entry.publisher == *member
            || self.model(name).is_some_and(|model| model.owner == *member)
            || (runs_models && !entry.withdrawn && (entry.domain != Domain::Private || granted()))
    }

    /// The endorsements of a version, in order of the validators' keys: those of its newest round with any, if it has rounds.
    #[must_use]
    pub fn endorsements(&self, name: &ModelName, version: u32) -> Vec<(NodeId, Endorsement)> {
        let rounds = (1..=self.rounds(name, version)).rev();
        let revealed = rounds.map(|round| self.revealed(name, version, round)).find(|found| !found.is_empty());
        revealed.unwrap_or_else(|| self.endorsed(name, version))
    }

    /// Those without a round.
    fn endorsed(&self, name: &ModelName, version: u32) -> Vec<(NodeId, Endorsement)> {
        self.scan(&key::endorsements(name, version))
            .filter_map(|(key, value)| Some((last_part(key)?, decode(value, VALUE_BYTES).ok()?)))
            .collect()
    }

    /// What a version's endorsements come to; `None` before the first.
    #[must_use]
    pub fn score(&self, name: &ModelName, version: u32) -> Option<Score> {
        self.read(&key::score(name, version))
    }

    /// The last anchor of a provider's receipt log.
    #[must_use]
    pub fn anchor(&self, provider: &NodeId) -> Option<AnchorState> {
        self.read(&key::anchor(provider))
    }

    /// Who signed, or signs, the block of `height`; `None` for 0, for heights that are not decided next, and for those too
    /// long ago for evidence.
    #[must_use]
    pub fn signers_at(&self, height: u64) -> Option<&SignerSet> {
        let known = (1..=self.height.saturating_add(1)).contains(&height);
        known.then(|| self.past.at(height).unwrap_or(&self.sets.current))
    }

    /// What is proved against a signer at a height.
    #[must_use]
    pub fn equivocation(&self, signer: &NodeId, height: u64) -> Option<Equivocation> {
        self.read(&key::evidence(signer, height))
    }

    /// Every contradiction that is proved: who, at which height, and what; in order of signer, then height.
    #[must_use]
    pub fn equivocations(&self) -> Vec<(NodeId, u64, Equivocation)> {
        let read = |(key, value): (&[u8], &[u8])| {
            let (signer, height) = std::str::from_utf8(key.strip_prefix(b"evidence/")?).ok()?.split_once('/')?;
            Some((signer.parse().ok()?, height.parse().ok()?, decode(value, VALUE_BYTES).ok()?))
        };
        let mut all: Vec<(NodeId, u64, Equivocation)> = self.scan(b"evidence/").filter_map(read).collect();
        all.sort_by_key(|(signer, height, _)| (*signer, *height));
        all
    }

    /// A model's history, oldest first.
    #[must_use]
    pub fn events(&self, name: &ModelName) -> Vec<Event> {
        let count = self.model(name).map_or(0, |m| m.events);
        (0..count).filter_map(|i| self.read(&key::event(name, i))).collect()
    }

    /// Proves what `key` is, or that it is not, under the state root after `height`: the `app_hash` of header `height + 1`.
    ///
    /// # Errors
    /// [`LedgerError::UnknownHeight`] above the newest, and below the snapshot that the ledger began with.
    pub fn prove(&self, key: &[u8], height: u64) -> Result<StateProof, LedgerError> {
        self.tree.prove(key, height)
    }

    /// The ledger's word on a name, proved under `header`, which must be final and of height 1 or more.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] if the model did not exist before that header's block; others as [`Ledger::prove`].
    pub fn name_record(&self, name: &ModelName, header: SignedHeader) -> Result<NameRecord, LedgerError> {
        let height = header.certificate.height.checked_sub(1).ok_or(LedgerError::UnknownHeight {
            asked: 0,
            base: 0,
            head: 0,
        })?;
        let model = self.prove(&key::model(name), height)?;
        let value = model.value.as_ref().ok_or_else(|| LedgerError::Missing(format!("the model {name}")))?;
        let newest = decode::<Model>(value, VALUE_BYTES)?.latest;
        let latest = self.prove(&key::version(name, newest), height)?;
        Ok(NameRecord { version: 1, model, latest, header })
    }
}

/// The key at the end of `prefix/…/KEY`.
pub(crate) fn last_part(key: &[u8]) -> Option<NodeId> {
    let start = key.iter().rposition(|b| *b == b'/')?;
    std::str::from_utf8(&key[start + 1..]).ok()?.parse().ok()
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger(pool {}, height {}, {} entries)", self.pool, self.height, self.entries.len())
    }
}
