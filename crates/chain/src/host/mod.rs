//! The host of the consensus core: synchronous, without disk, socket or clock. Events come in with the time at which they
//! happen; what is to be done comes out as [`Output`], a decision and a deadline. One seed of events gives one run.
//!
//! | module | owns |
//! |---|---|
//! | [`world`] | the core's effects |
//! | [`intake`] | what peers send: checked, then given to the core, kept for the next height, or taken as a hint |
//! | [`claims`] | who says that he has newer blocks, and whose word held |
//! | [`pace`] | when a height is started, what is announced, whether the chain counts as halted |
//!
//! Order of a decision: the core decides → [`Host::decided`] → the caller stores the block → [`Host::apply`].

use std::sync::Arc;

use arc_malachitebft_core_consensus::{Error, Input, LocallyProposedValue, Params, State, ValuePayload, process};
use arc_malachitebft_core_types::{Round, VoteExtensionPolicy};
use zero2ai_proto::{
    ByteBuf, Digest, NodeId, Signed, TxId,
    block::{Block, Certificate},
    calls::SealedBlock,
    consensus::{HeadGossip, TxGossip},
    encode,
    tx::Tx,
};

mod claims;
mod intake;
mod pace;
#[cfg(test)]
mod simulation;
mod world;

pub(crate) use pace::Wish;
pub(crate) use world::Output;

use crate::{
    ChainTopic,
    config::ChainConfig,
    context::{Address, Height, Value, Zero},
    error::{ChainError, SubmitError, SyncError},
    mempool::{Added, Mempool},
    shared::Shared,
    signer::{Signed as Mark, Signer},
    wal::{Told, WalEntry},
};
use intake::Early;
use pace::Pacing;
use world::{Candidate, World, validators};

/// When an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Milliseconds of a steady clock with any origin.
    pub(crate) up: u64,
    /// Milliseconds since 1970 UTC.
    pub(crate) wall: u64,
}

/// Why nothing can come behind the newest block, if the next one follows rules that this program lacks.
pub(crate) fn lacks_rules(shared: &Shared) -> Option<ChainError> {
    let view = shared.read();
    let height = view.ledger.height().saturating_add(1);
    view.ledger.missing_rules().map(|needed| ChainError::Rules { height, needed })
}

/// The core and all it needs to know.
pub(crate) struct Host {
    core: State<Zero>,
    world: World,
    shared: Arc<Shared>,
    mempool: Mempool,
    early: Early,
    pacing: Pacing,
    /// True while the core works on the height after the head.
    started: bool,
    gossiped: u32,
    /// The last height at which a peer named another final block than ours.
    contradicted_at: Option<u64>,
}

impl Host {
    /// A host at the ledger's head. `mark` is what the node signed last, `wal` the log that goes with it.
    pub(crate) fn new(
        config: &ChainConfig,
        shared: Arc<Shared>,
        mark: Option<Mark>,
        wal: &[WalEntry],
        now: Now,
    ) -> Self {
        let (pool, height, set) = {
            let view = shared.read();
            (view.ledger.pool(), view.ledger.height(), validators(view.ledger.signers()))
        };
        let me = config.key.public();
        let params = Params {
            address: Address(me),
            threshold_params: Default::default(),
            // Not `ProposalOnly`: in that mode the core takes every proposed block for valid.
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        // The core's own queue for later heights stays unused: `Early` keeps those messages, checked.
        let core = State::new(Zero, Height(height.saturating_add(1)), set, params, 1, 1);
        // The log is written before the mark: if it does not hold what the mark says, its end is gone.
        let lost = mark.filter(|m| m.height() > height && !WalEntry::any_tells(wal, m, &me, &pool));
        let signer = Signer::new(config.key.clone(), pool, mark, lost.map(|m| m.height()));
        Self {
            core,
            world: World::new(pool, me, signer, config.timeouts.linear()),
            shared,
            mempool: Mempool::default(),
            early: Early::default(),
            pacing: Pacing::new(config.pace, now),
            started: false,
            gossiped: 0,
            contradicted_at: None,
        }
    }

    /// Why nothing can come behind the newest block here, if the next one follows rules that this program lacks.
    pub(crate) fn lacks_rules(&self) -> Option<ChainError> {
        lacks_rules(&self.shared)
    }

    /// The height being decided, or to be decided next.
    fn next_height(&self) -> u64 {
        self.shared.read().ledger.height().saturating_add(1)
    }

    /// Tells the core again what the write-ahead log says it was told at this height. Call once, before anything else.
    pub(crate) fn resume(&mut self, entries: &[WalEntry], now: Now) -> Result<(), ChainError> {
        let next = self.next_height();
        let mut inputs = Vec::new();
        let mut own_proposals = Vec::new();
        let mut known = std::collections::BTreeSet::new();
        for entry in entries.iter().filter(|e| e.height == next) {
            let (input, block) = entry.input()?;
            if let (Told::Block { valid, block: bytes, .. }, Some(block)) = (&entry.told, block) {
                self.world.candidates.insert(block.id(), Candidate { bytes: bytes.clone(), valid: *valid });
            }
            if let Told::Proposal { proposer, proposal, .. } = &entry.told
                && *proposer == self.world.me
            {
                own_proposals.push(Round::new(proposal.round));
            }
            known.insert(Digest::of(&entry.bytes()?));
            inputs.push(input);
        }
        if inputs.is_empty() {
            return self.go_on(now);
        }
        tracing::info!(height = next, entries = inputs.len(), "replaying the write-ahead log");
        self.world.replayed = Some(known);
        self.core.index_wal_entries(&inputs);
        self.start_core(now)?;
        for input in inputs {
            if self.world.decided.is_some() {
                break;
            }
            self.process(input, now)?;
        }
        self.core.reset_entries_index();
        self.world.replayed = None;
        if self.world.wanted.is_some_and(|round| own_proposals.contains(&round)) {
            self.world.wanted = None;
        }
        self.propose_if_wanted(now)
    }

    /// Starts the core on the next height.
    fn start_core(&mut self, now: Now) -> Result<(), ChainError> {
        let (next, set) = {
            let view = self.shared.read();
            (view.ledger.height().saturating_add(1), validators(view.ledger.signers()))
        };
        self.started = true;
        self.pacing.want(now);
        self.process(Input::StartHeight(Height(next), set, false, None, VoteExtensionPolicy::Disabled), now)
    }

    /// Starts the next height and gives the core what came early for it.
    fn start(&mut self, now: Now) -> Result<(), ChainError> {
        self.start_core(now)?;
        self.propose_if_wanted(now)?;
        for message in self.early.take(self.core.height().0) {
            if self.world.decided.is_some() {
                break;
            }
            self.deliver(message, now)?;
        }
        Ok(())
    }

    /// Gives the core one input, and whatever it asks for in answer.
    fn feed(&mut self, input: Input<Zero>, now: Now) -> Result<(), ChainError> {
        if self.world.decided.is_some() || !self.started {
            return Ok(());
        }
        self.process(input, now)?;
        self.propose_if_wanted(now)
    }

    fn process(&mut self, input: Input<Zero>, now: Now) -> Result<(), ChainError> {
        self.world.up = now.up;
        let Self { core, world, .. } = self;
        // An effect that fails leaves the core half-way: the error ends the chain, and the core is never asked again.
        let result: Result<(), Error<Zero>> = process!(input: input, state: core, metrics: &(), with: effect =>
            match world.effect(effect) {
                Ok(resume) => Ok::<_, std::convert::Infallible>(resume),
                Err(error) => return Err(error),
            }
        );
        result.map_err(|error| ChainError::Core { height: self.core.height().0, why: error.to_string() })
    }

    /// Answers the core's wish for a block of ours, unless that would be an empty one too soon behind an empty one: then
    /// the wish stays until a transaction comes, the time, or the next round.
    fn propose_if_wanted(&mut self, now: Now) -> Result<(), ChainError> {
        while let Some(round) = self.world.wanted.filter(|_| self.world.decided.is_none()) {
            if self.core.round() != round {
                self.world.wanted = None;
                break;
            }
            let (block, height, idle, proof) = {
                let view = self.shared.read();
                let height = view.ledger.height().saturating_add(1);
                let time = view.ledger.head_time_ms().saturating_add(1).max(now.wall);
                // Nothing to put into a block, and too soon for an empty one: no seed is drawn for it.
                if !view.ledger.head_had_txs()
                    && now.up < self.pacing.earliest_empty()
                    && !self.mempool.has_ready(&view.ledger)
                {
                    return Ok(());
                }
                let beacon = self.world.signer.beacon(&view.ledger);
                let beacon = beacon.map_err(|e| ChainError::Build { height, source: e.into() })?;
                let candidates: Vec<_> = beacon.into_iter().chain(self.mempool.candidates(&view.ledger)).collect();
                // What was refused was so behind the block's other transactions. They are not final yet, nor is that.
                let (block, _refused) = (view.ledger.build_block(self.world.me, time, &candidates))
                    .map_err(|source| ChainError::Build { height, source })?;
                let idle = view.ledger.is_idle(&block);
                (block, height, idle, view.ledger.head_had_txs())
            };
            if idle && !proof && now.up < self.pacing.earliest_empty() {
                return Ok(());
            }
            self.world.wanted = None;
            let id = block.id();
            let bytes = ByteBuf::from(encode(&block)?);
            self.world.candidates.insert(id, Candidate { bytes, valid: true });
            let value = LocallyProposedValue::new(Height(height), round, Value(id));
            self.process(Input::Propose(value), now)?;
        }
        Ok(())
    }

    /// Takes in a transaction of this node's own clients, and gossips it.
    pub(crate) fn submit(&mut self, tx: &Signed<Tx>, now: Now) -> Result<Result<Added, SubmitError>, ChainError> {
        let added = self.add(tx, now);
        if let Ok(Added::New(_)) = added {
            let data = encode(&TxGossip { repeat: 0, tx: tx.clone() })?;
            self.world.out.sends.push((ChainTopic::Tx, data));
            self.go_on(now)?;
        }
        Ok(added)
    }

    /// The height at which a transaction became final, if that is not long ago.
    pub(crate) fn recent(&self, id: &TxId) -> Option<u64> {
        self.shared.read().recent(id)
    }

    fn add(&mut self, tx: &Signed<Tx>, now: Now) -> Result<Added, SubmitError> {
        let view = self.shared.read();
        self.mempool.add(tx, &view.ledger, now.wall, now.up)
    }

    /// The block that was just decided, to be stored and then handed to [`Host::apply`]. Nothing else may come between.
    pub(crate) fn decided(&mut self) -> Option<SealedBlock> {
        self.world.decided.take()
    }

    /// Checks a block from a peer: that it is the next one, final, and applicable.
    pub(crate) fn check_sealed(&self, sealed: &SealedBlock) -> Result<(), SyncError> {
        let view = self.shared.read();
        let (got, want) = (sealed.certificate.height, view.ledger.height().saturating_add(1));
        if got != want {
            return Err(SyncError::Height { got, want });
        }
        sealed.certificate.verify(&self.world.pool, view.ledger.signers())?;
        let block = Block::read(&sealed.block)?;
        if block.id() != sealed.certificate.block {
            return Err(SyncError::OtherBlock);
        }
        view.ledger.check_block(&block)?;
        Ok(())
    }

    /// Applies a block that is final and stored. [`Host::go_on`] then starts the next height, if there is a reason to.
    pub(crate) fn apply(&mut self, sealed: &SealedBlock, now: Now) -> Result<(), ChainError> {
        let SealedBlock { block, certificate } = sealed;
        let block = Block::read(block)?;
        let Certificate { height, .. } = *certificate;
        let (header, ids) =
            self.shared.apply(&block, certificate).map_err(|source| ChainError::Apply { height, source })?;
        tracing::debug!(height, txs = ids.len(), round = certificate.round, "final");
        self.started = false;
        self.world.clear();
        {
            let view = self.shared.read();
            let refused = self.mempool.settle(&ids, &view.ledger, now.wall);
            self.world.out.settled.extend(ids.iter().map(|id| (*id, Ok(header.height))));
            self.world.out.settled.extend(refused.into_iter().map(|(id, error)| (id, Err(error))));
        }
        self.early.keep_from(height.saturating_add(1));
        self.pacing.decided(height, now);
        self.announce_head()
    }

    fn announce_head(&mut self) -> Result<(), ChainError> {
        let (height, block) = {
            let view = self.shared.read();
            (view.ledger.height(), view.ledger.head_id())
        };
        self.gossiped = self.gossiped.wrapping_add(1);
        let data = encode(&HeadGossip { repeat: self.gossiped, height, block })?;
        self.world.out.sends.push((ChainTopic::Head, data));
        Ok(())
    }

    /// What is to be done since the last call.
    pub(crate) fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.world.out)
    }

    /// The signer's mark, if it moved since the last call.
    pub(crate) fn take_mark(&mut self) -> Option<Mark> {
        self.world.signer.take_mark()
    }

    /// The height up to which this node signs nothing, since its log of it was lost.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.world.signer.lost()
    }

    /// Transactions that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.mempool.len()
    }

    /// True if the node is in the set that signs the next block.
    pub(crate) fn signs(&self) -> bool {
        self.shared.read().ledger.signers().power_of(&self.world.me).is_some()
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.world.me
    }
}
