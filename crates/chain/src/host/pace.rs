//! When a height is started, when blocks are fetched, what is announced, and whether the chain counts as halted.

use zero2ai_ledger::EMPTY_PAUSE_MS;
use zero2ai_proto::{NodeId, consensus::TxGossip, encode, limits::BLOCKS};

use super::{Host, Now, claims::Claims};
use crate::{
    ChainTopic,
    config::{Pace, REGOSSIP_TXS},
    error::ChainError,
};
use arc_malachitebft_core_consensus::Input;

/// Blocks to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Who said that he has them.
    pub(crate) hint: NodeId,
    /// The first height that is missing.
    pub(crate) from: u64,
}

/// Times of the things that happen by the clock, in steady milliseconds.
#[derive(Debug)]
pub(super) struct Pacing {
    pace: Pace,
    last_block: u64,
    /// Since when a block is wanted that has not come.
    wanted_since: Option<u64>,
    announce_at: u64,
    claims: Claims,
    /// On whose word blocks are being fetched, and up to which height he said he has them.
    fetching: Option<(NodeId, u64)>,
    not_before: u64,
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Pacing {
    pub(super) fn new(pace: Pace, now: Now) -> Self {
        Self {
            pace,
            last_block: now.up,
            wanted_since: None,
            announce_at: now.up,
            claims: Claims::default(),
            fetching: None,
            not_before: 0,
        }
    }

    /// A block is wanted from now on.
    pub(super) fn want(&mut self, now: Now) {
        self.wanted_since.get_or_insert(now.up);
    }

    /// A block came.
    pub(super) fn decided(&mut self, height: u64, now: Now) {
        self.last_block = now.up;
        self.wanted_since = None;
        self.claims.reached(height);
    }

    /// Somebody has a block of `height`, he says; this node has `own`.
    pub(super) fn heard_of(&mut self, height: u64, from: NodeId, own: u64, now: Now) {
        if height <= own {
            return;
        }
        // One block behind is usual while votes are under way: consensus brings it sooner than a fetch.
        let grace = if height - own == 1 { ms(self.pace.sync_grace) } else { 0 };
        self.claims.hear(from, height, now.up.saturating_add(grace), now.up);
    }

    /// How long after the last block one without any reason may come.
    fn heartbeat(&self) -> u64 {
        self.last_block.saturating_add(ms(self.pace.heartbeat).max(EMPTY_PAUSE_MS))
    }

    /// When the ledger's rules allow an empty block behind an empty one, by the steady clock: the wall's may be set back.
    pub(super) fn earliest_empty(&self) -> u64 {
        self.last_block.saturating_add(EMPTY_PAUSE_MS)
    }
}

impl Host {
    /// What the clock brings: timeouts, announcements, the next height.
    pub(crate) fn tick(&mut self, now: Now) -> Result<(), ChainError> {
        self.world.up = now.up;
        while self.world.decided.is_none() {
            let Some(timeout) = self.world.take_due() else { break };
            self.feed(Input::TimeoutElapsed(timeout), now)?;
        }
        if self.pacing.announce_at <= now.up {
            let every = ms(self.pacing.pace.announce);
            self.pacing.announce_at = now.up.saturating_add(every.max(1));
            self.announce_head()?;
            let view = self.shared.read();
            let stranded = self.mempool.drop_stranded(&view.ledger, now.up);
            self.world.out.settled.extend(stranded.into_iter().map(|(id, error)| (id, Err(error))));
            let due = self.mempool.gossip_due(&view.ledger, now.up, every, REGOSSIP_TXS);
            drop(view);
            for (repeat, tx) in due {
                let data = encode(&TxGossip { repeat, tx })?;
                self.world.out.sends.push((ChainTopic::Tx, data));
            }
        }
        self.go_on(now)
    }

    /// Starts the next height if there is a reason to: something to record, a state root to publish, the heartbeat, or
    /// signers who have started already. Once it is started, proposes if that had to wait.
    pub(crate) fn go_on(&mut self, now: Now) -> Result<(), ChainError> {
        if self.world.decided.is_some() || self.lacks_rules().is_some() {
            return Ok(());
        }
        if self.started {
            return self.propose_if_wanted(now);
        }
        let wanted = now.up >= self.pacing.heartbeat() || {
            let view = self.shared.read();
            self.early.is_of(view.ledger.height().saturating_add(1))
                || view.ledger.head_had_txs()
                || self.mempool.has_ready(&view.ledger)
        };
        if wanted { self.start(now) } else { Ok(()) }
    }

    /// True if a block has been wanted for too long.
    pub(crate) fn halted(&self, now: Now) -> bool {
        let limit = ms(self.pacing.pace.halt_after);
        let oldest = self.mempool.oldest(&self.shared.read().ledger);
        let since = self.pacing.wanted_since.into_iter().chain(oldest).min();
        // Waiting began no earlier than the last block came.
        since.is_some_and(|since| now.up >= since.max(self.pacing.last_block).saturating_add(limit))
    }

    /// Blocks to fetch now, if any; the caller then owes [`Host::fetched`].
    pub(crate) fn take_wish(&mut self, now: Now) -> Option<Wish> {
        if self.pacing.fetching.is_some() || now.up < self.pacing.not_before {
            return None;
        }
        let (hint, height) = self.pacing.claims.best(now.up)?;
        self.pacing.fetching = Some((hint, height));
        Some(Wish { hint, from: self.next_height() })
    }

    /// A fetch ended with `blocks` good ones. It kept the claim if that was a whole batch, or all that was claimed. Else
    /// whoever made it is doubted: one who hands out single blocks is as slow as one who hands out none.
    pub(crate) fn fetched(&mut self, blocks: usize, now: Now) {
        let own = self.shared.read().ledger.height();
        let Some((asked, claimed)) = self.pacing.fetching.take() else { return };
        if own >= claimed || blocks >= BLOCKS {
            return self.pacing.claims.held(&asked);
        }
        let retry = ms(self.pacing.pace.sync_retry);
        self.pacing.claims.broken(&asked, retry.saturating_mul(4), now.up);
        if blocks == 0 {
            self.pacing.not_before = now.up.saturating_add(retry);
        }
    }

    /// When [`Host::tick`] or [`Host::take_wish`] has something to do, at the latest; steady milliseconds.
    pub(crate) fn deadline(&self) -> u64 {
        let fetch = self.pacing.claims.fetch_at().filter(|_| self.pacing.fetching.is_none());
        [
            Some(self.pacing.announce_at),
            self.world.deadline(),
            (!self.started).then(|| self.pacing.heartbeat()),
            self.world.wanted.map(|_| self.pacing.earliest_empty()),
            fetch.map(|at| at.max(self.pacing.not_before)),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.pacing.announce_at)
    }
}
