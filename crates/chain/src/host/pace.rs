//! When a height is started, when blocks are fetched, what is announced, and whether the chain counts as halted.

use std::collections::BTreeMap;

use zero2ai_proto::{NodeId, consensus::TxGossip, encode};

use super::{Host, Now};
use crate::{
    ChainTopic,
    config::{DOUBTED, Pace, REGOSSIP_TXS},
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

/// A newer block that was heard of.
#[derive(Clone, Copy, Debug)]
struct Behind {
    height: u64,
    from: NodeId,
    fetch_at: u64,
}

/// Times of the things that happen by the clock, in steady milliseconds.
#[derive(Debug)]
pub(super) struct Pacing {
    pace: Pace,
    last_block: u64,
    /// Since when a block is wanted that has not come.
    wanted_since: Option<u64>,
    announce_at: u64,
    behind: Option<Behind>,
    /// Who is being asked.
    fetching: Option<NodeId>,
    not_before: u64,
    /// Nodes whose claims brought nothing, and until when they are ignored: else one liar could keep this node from
    /// hearing the others.
    doubted: BTreeMap<NodeId, u64>,
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
            behind: None,
            fetching: None,
            not_before: 0,
            doubted: BTreeMap::new(),
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
        self.behind = self.behind.filter(|b| b.height > height);
    }

    /// Somebody has a block of `height`; this node has `own`. The highest claim counts, until fetching proves it wrong.
    pub(super) fn heard_of(&mut self, height: u64, from: NodeId, own: u64, now: Now) {
        let doubted = self.doubted.get(&from).is_some_and(|until| now.up < *until);
        if height <= own || doubted || self.behind.is_some_and(|b| b.height >= height) {
            return;
        }
        // One block behind is usual while votes are under way: consensus brings it sooner than a fetch.
        let grace = if height == own + 1 { ms(self.pace.sync_grace) } else { 0 };
        let fetch_at = self.behind.map_or(now.up.saturating_add(grace), |b| b.fetch_at.min(now.up + grace));
        self.behind = Some(Behind { height, from, fetch_at });
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
            for (repeat, tx) in self.mempool.gossip_due(now.up, every, REGOSSIP_TXS) {
                let data = encode(&TxGossip { repeat, tx })?;
                self.world.out.sends.push((ChainTopic::Tx, data));
            }
        }
        self.go_on(now)
    }

    /// Starts the next height if there is a reason to: something to record, a state root to publish, the heartbeat, or
    /// signers who have started already.
    pub(crate) fn go_on(&mut self, now: Now) -> Result<(), ChainError> {
        if self.started || self.world.decided.is_some() {
            return Ok(());
        }
        let due = now.up >= self.pacing.last_block.saturating_add(ms(self.pacing.pace.heartbeat));
        let wanted = due || !self.early.is_empty() || {
            let view = self.shared.read();
            view.last_had_txs || self.mempool.has_ready(&view.ledger)
        };
        if wanted { self.start(now) } else { Ok(()) }
    }

    /// True if a block has been wanted for too long.
    pub(crate) fn halted(&self, now: Now) -> bool {
        let limit = ms(self.pacing.pace.halt_after);
        let since = self.pacing.wanted_since.into_iter().chain(self.mempool.oldest()).min();
        // Waiting began no earlier than the last block came.
        since.is_some_and(|since| now.up >= since.max(self.pacing.last_block).saturating_add(limit))
    }

    /// Blocks to fetch now, if any; the caller then owes [`Host::fetched`].
    pub(crate) fn take_wish(&mut self, now: Now) -> Option<Wish> {
        let behind = self.pacing.behind.filter(|b| b.fetch_at.max(self.pacing.not_before) <= now.up)?;
        if self.pacing.fetching.is_some() {
            return None;
        }
        self.pacing.fetching = Some(behind.from);
        Some(Wish { hint: behind.from, from: self.next_height() })
    }

    /// A fetch ended. After one that brought nothing the claim is dropped and its maker doubted for a few retries.
    pub(crate) fn fetched(&mut self, progress: bool, now: Now) {
        let asked = self.pacing.fetching.take();
        if progress {
            return;
        }
        let retry = ms(self.pacing.pace.sync_retry);
        self.pacing.behind = None;
        self.pacing.not_before = now.up.saturating_add(retry);
        self.pacing.doubted.retain(|_, until| now.up < *until);
        if let Some(asked) = asked.filter(|_| self.pacing.doubted.len() < DOUBTED) {
            self.pacing.doubted.insert(asked, now.up.saturating_add(retry.saturating_mul(4)));
        }
    }

    /// When [`Host::tick`] or [`Host::take_wish`] has something to do, at the latest; steady milliseconds.
    pub(crate) fn deadline(&self) -> u64 {
        let heartbeat = self.pacing.last_block.saturating_add(ms(self.pacing.pace.heartbeat));
        let fetch = self.pacing.behind.filter(|_| self.pacing.fetching.is_none());
        [
            Some(self.pacing.announce_at),
            self.world.deadline(),
            (!self.started).then_some(heartbeat),
            fetch.map(|b| b.fetch_at.max(self.pacing.not_before)),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.pacing.announce_at)
    }
}
