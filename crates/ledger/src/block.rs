//! Blocks: building one from candidates, checking one whole, applying one. Owns the header's rules:
//!
//! - `parent` is the id of the block before (the pool's id at height 1), `height` one above its, `time_ms` later than its;
//! - `app_hash` is the state root after the *parent*, so that a block can be proposed before it is executed;
//! - `signers_hash` names the set that signs this block, `next_signers_hash` the one of the next height. A `SetSigners` in
//!   block h signs from h + 2, so header h + 1 carries it as next;
//! - `rules_version` is the one in force at that height: the genesis', until a `SetRules` names another;
//! - `txs_root` is the RFC 6962 root (SHA-256) over the encoded signed transactions;
//! - from rules 2 on, the first transaction is the proposer's `Beacon`; what is said of blocks without transactions below is then said
//!   of blocks without others;
//! - a block without transactions whose parent had none either is at least [`EMPTY_PAUSE_MS`] younger than that: else one
//!   signer could make everyone's disk fill with empty blocks. The empty block that proves a state root may come at once;
//! - the proposer is one of the signers. Whose turn it is the voters judge, and that the time is not too far *ahead* of
//!   their clocks. Nobody judges whether it is behind: being later than the parent is all that is asked.

use zero2ai_proto::{
    BlockId, ByteBuf, CodecError, NodeId, Signed, TxId,
    block::{Block, Header},
    encode,
    limits::{BLOCK_BYTES, BLOCK_TXS},
    tx::Tx,
};

use crate::{
    Ledger,
    draft::{Draft, Writes},
    error::{BlockError, LedgerError, TxError},
    receipt_log::root_of,
    rules::{self, Admission, Context, STAKED_RULES},
    signatures,
};

/// Version of the header's shape that this program writes and reads.
const HEADER_VERSION: u16 = 1;

/// Milliseconds between two blocks without transactions, at least: part of the rules. Shorter, and one hostile signer fills
/// everyone's disk faster for nothing; longer, and no heartbeat can be quicker.
pub const EMPTY_PAUSE_MS: u64 = 1_000;

/// A block that was executed: what applying it will write.
pub(crate) struct Prepared {
    id: BlockId,
    header: Header,
    tx_ids: Vec<TxId>,
    writes: Writes,
}

/// A block that has been applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its id.
    pub id: BlockId,
    /// Its header.
    pub header: Header,
    /// Its transactions, in order.
    pub tx_ids: Vec<TxId>,
}

impl Ledger {
    /// Whether `tx` would be accepted into a block that comes now.
    ///
    /// # Errors
    /// Why not. [`TxError::NonceAhead`] only beyond [`rules::NONCE_WINDOW`]; nearer ones are [`Admission::Later`].
    pub fn check_tx(&self, tx: &Signed<Tx>, now_ms: u64) -> Result<Admission, TxError> {
        let at = self.context(now_ms.max(self.time_ms.saturating_add(1)));
        let mut draft = self.draft();
        rules::begin_block(&mut draft, &at)?;
        rules::admit(&mut draft, &at, tx)
    }

    /// Builds the next block of those candidates that apply, in their order, as many as fit. The first of them is
    /// [`Ledger::beacon`]'s, where there is one. Also returns those that are
    /// refused behind the ones before them, which is final only once this block is; what is merely too early (a nonce
    /// ahead) or too much for one block is left out silently. Where none is left and the parent is empty too, the block's
    /// time is moved up to the earliest that the rules allow.
    ///
    /// # Errors
    /// `time_ms` not after the newest block's, a proposer that is no signer, no beacon where there must be one, or this ledger's
    /// own failure.
    pub fn build_block(
        &self,
        proposer: NodeId,
        time_ms: u64,
        candidates: &[Signed<Tx>],
    ) -> Result<(Block, Vec<(TxId, TxError)>), BlockError> {
        self.check_time(time_ms)?;
        self.check_proposer(&proposer)?;
        let rules_version = self.check_rules()?;
        let at = self.context(time_ms);
        let mut draft = self.draft();
        rules::begin_block(&mut draft, &at).map_err(own)?;
        let (mut txs, mut leaves, mut tx_ids, mut refused) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, valid) = (0usize, signatures::valid(&self.pool, candidates));
        if let Some(id) = self.begin(&mut draft, &at, &proposer, candidates, &valid)? {
            let leaf = encode(&candidates[0]).map_err(LedgerError::from)?;
            bytes += leaf.len();
            txs.push(candidates[0].clone());
            leaves.push(leaf);
            tx_ids.push(id);
        }
        let own_txs = txs.len();
        for (tx, valid) in candidates.iter().zip(valid).skip(own_txs) {
            let leaf = encode(tx).map_err(LedgerError::from)?;
            if txs.len() == BLOCK_TXS || bytes.saturating_add(leaf.len()) > BLOCK_BYTES {
                continue;
            }
            match rules::execute(&mut draft, &at, tx, valid) {
                Ok(id) => {
                    bytes += leaf.len();
                    txs.push(tx.clone());
                    leaves.push(leaf);
                    tx_ids.push(id);
                }
                Err(TxError::NonceAhead { .. }) => {}
                Err(why) => refused.push((TxId::of(&leaf), why)),
            }
        }
        let busy = txs.len() > own_txs;
        let time_ms = if busy { time_ms } else { time_ms.max(self.earliest_empty()) };
        let at = self.context(time_ms);
        rules::end_block(&mut draft, &at, busy).map_err(own)?;
        let header = Header {
            version: HEADER_VERSION,
            rules_version,
            pool: self.pool,
            height: at.height,
            time_ms,
            parent: self.head,
            txs_root: root_of(&leaves),
            app_hash: self.root(),
            signers_hash: self.sets.current.hash().map_err(LedgerError::from)?,
            next_signers_hash: self.sets.next.hash().map_err(LedgerError::from)?,
            proposer,
        };
        let block = Block { header: ByteBuf::from(encode(&header).map_err(LedgerError::from)?), txs };
        self.remember(Prepared { id: block.id(), header, tx_ids, writes: draft.into_writes() });
        Ok((block, refused))
    }

    /// Checks a block whole: every field of its header, and that every transaction applies. The certificate, the
    /// proposer's turn and the voter's clock are the caller's.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check_block(&self, block: &Block) -> Result<Header, BlockError> {
        let header = self.check_header(block)?;
        let known = self.checked.lock().is_ok_and(|held| held.as_ref().is_some_and(|p| p.id == block.id()));
        if !known {
            self.remember(self.execute(block, header.clone())?);
        }
        Ok(header)
    }

    /// Applies the next block, checking it whole unless it was the last one checked. A refused block changes nothing.
    ///
    /// # Errors
    /// As [`Ledger::check_block`].
    pub fn apply(&mut self, block: &Block) -> Result<Applied, BlockError> {
        let header = self.check_header(block)?;
        let held = self.checked.get_mut().ok().and_then(Option::take);
        // The id covers the header, and the header the root over the transactions, which was just compared: a block of
        // the same id is the same block.
        let prepared = match held.filter(|p| p.id == block.id()) {
            Some(prepared) => prepared,
            None => self.execute(block, header)?,
        };
        let Prepared { id, header, tx_ids, writes } = prepared;
        self.commit(writes)?;
        (self.height, self.time_ms, self.head) = (header.height, header.time_ms, id);
        self.head_had_txs = !is_idle(header.rules_version, block.txs.len());
        Ok(Applied { id, header, tx_ids })
    }

    fn check_header(&self, block: &Block) -> Result<Header, BlockError> {
        let header = block.read_header().map_err(BlockError::Header)?;
        let unknown = |what, got, known| Err(BlockError::Unknown { what, got, known });
        if header.version != HEADER_VERSION {
            return unknown("header version", header.version, HEADER_VERSION);
        }
        if header.rules_version > self.known_rules {
            return unknown("rules", header.rules_version, self.known_rules);
        }
        same("rules", &header.rules_version, &self.check_rules()?)?;
        let hash = |set: Result<_, CodecError>| set.map_err(LedgerError::from);
        same("pool", &header.pool, &self.pool)?;
        same("height", &header.height, &self.next_height())?;
        same("parent", &header.parent, &self.head)?;
        same("app_hash", &header.app_hash, &self.root())?;
        same("signers_hash", &header.signers_hash, &hash(self.sets.current.hash())?)?;
        same("next_signers_hash", &header.next_signers_hash, &hash(self.sets.next.hash())?)?;
        self.check_time(header.time_ms)?;
        self.check_proposer(&header.proposer)?;
        check_txs(block, &header)?;
        // Only now is it sure that the transactions, or their absence, are the header's.
        let (got, earliest) = (header.time_ms, self.earliest_empty());
        if is_idle(header.rules_version, block.txs.len()) && got < earliest {
            return Err(BlockError::TooSoon { got, earliest });
        }
        Ok(header)
    }

    fn execute(&self, block: &Block, header: Header) -> Result<Prepared, BlockError> {
        let at = self.context(header.time_ms);
        let mut draft = self.draft();
        rules::begin_block(&mut draft, &at).map_err(own)?;
        let mut tx_ids = Vec::with_capacity(block.txs.len());
        let valid = signatures::valid(&self.pool, &block.txs);
        tx_ids.extend(self.begin(&mut draft, &at, &header.proposer, &block.txs, &valid)?);
        for (index, (tx, valid)) in block.txs.iter().zip(valid).enumerate().skip(tx_ids.len()) {
            match rules::execute(&mut draft, &at, tx, valid) {
                Ok(id) => tx_ids.push(id),
                Err(source) => {
                    let id = tx.tx_id().map_err(LedgerError::from)?;
                    return Err(BlockError::Tx { index, id, source });
                }
            }
        }
        rules::end_block(&mut draft, &at, !is_idle(at.rules, block.txs.len())).map_err(own)?;
        Ok(Prepared { id: block.id(), header, tx_ids, writes: draft.into_writes() })
    }

    /// Takes the beacon that `txs` begin with, where the rules ask for one, and gives its id.
    fn begin(
        &self,
        draft: &mut Draft<'_>,
        at: &Context<'_>,
        proposer: &NodeId,
        txs: &[Signed<Tx>],
        valid: &[bool],
    ) -> Result<Option<TxId>, BlockError> {
        if at.rules < STAKED_RULES {
            return Ok(None);
        }
        let (Some(first), Some(valid)) = (txs.first(), valid.first()) else {
            return Err(BlockError::Beacon("it holds no transaction".into()));
        };
        let id = rules::beacon::take(draft, at, proposer, first, *valid);
        id.map(Some).map_err(|why| BlockError::Beacon(why.to_string()))
    }

    /// True if `block`, the next one, holds nothing but what every block must.
    #[must_use]
    pub fn is_idle(&self, block: &Block) -> bool {
        is_idle(self.rules().at(self.next_height()), block.txs.len())
    }

    pub(crate) fn draft(&self) -> Draft<'_> {
        Draft::new(&self.entries, &self.handles)
    }

    const fn next_height(&self) -> u64 {
        self.height.saturating_add(1)
    }

    pub(crate) fn context(&self, time_ms: u64) -> Context<'_> {
        Context {
            pool: &self.pool,
            height: self.next_height(),
            time_ms,
            genesis_rules: self.genesis.rules_version,
            rules: self.rules().at(self.next_height()),
            parent_ms: self.time_ms,
            signers: &self.sets.current,
            past: &self.past,
        }
    }

    /// The rules of the next block, if this program knows them.
    fn check_rules(&self) -> Result<u16, BlockError> {
        let (got, known) = (self.rules().at(self.next_height()), self.known_rules);
        if got > known { Err(BlockError::Unknown { what: "rules", got, known }) } else { Ok(got) }
    }

    const fn check_time(&self, got: u64) -> Result<(), BlockError> {
        if got > self.time_ms { Ok(()) } else { Err(BlockError::Time { got, parent: self.time_ms }) }
    }

    /// The earliest time that the next block may carry if it has no transactions.
    const fn earliest_empty(&self) -> u64 {
        self.time_ms.saturating_add(if self.head_had_txs { 1 } else { EMPTY_PAUSE_MS })
    }

    fn check_proposer(&self, proposer: &NodeId) -> Result<(), BlockError> {
        let signs = self.sets.current.power_of(proposer).is_some();
        if signs { Ok(()) } else { Err(BlockError::Proposer(*proposer)) }
    }

    /// Keeps one executed block. If another thread died while it held the slot, nothing is kept and it is executed again.
    fn remember(&self, prepared: Prepared) {
        if let Ok(mut held) = self.checked.lock() {
            *held = Some(prepared);
        }
    }
}

/// Whether a block of so many transactions holds nothing but what these rules ask of every block.
pub(crate) const fn is_idle(rules: u16, txs: usize) -> bool {
    txs <= if rules >= STAKED_RULES { 1 } else { 0 }
}

/// The root first: transactions that are not the header's say nothing about the block, whatever their number. Whoever
/// relays a block can append to it, and must not make it look invalid by that.
fn check_txs(block: &Block, header: &Header) -> Result<(), BlockError> {
    let leaves: Result<Vec<Vec<u8>>, CodecError> = block.txs.iter().map(encode).collect();
    let leaves = leaves.map_err(LedgerError::from)?;
    let got = root_of(&leaves);
    if got != header.txs_root {
        return Err(BlockError::TxsRoot { got, expected: header.txs_root });
    }
    let (count, bytes) = (leaves.len(), leaves.iter().map(Vec::len).sum());
    if count > BLOCK_TXS || bytes > BLOCK_BYTES {
        return Err(BlockError::TooLarge { count, bytes });
    }
    Ok(())
}

fn same<T: PartialEq + ToString>(field: &'static str, got: &T, expected: &T) -> Result<(), BlockError> {
    if got == expected {
        return Ok(());
    }
    Err(BlockError::Field { field, got: got.to_string(), expected: expected.to_string() })
}

/// Rules at a block's edges fail only on unreadable state.
fn own(why: TxError) -> BlockError {
    LedgerError::Tree(why.to_string()).into()
}
