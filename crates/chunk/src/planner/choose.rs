//! Which chunk a peer is asked for next.

use std::hash::Hash;

use super::{Order, Planner, SLOWER, peer::Peer};

impl<P: Copy + Ord + Hash> Planner<P> {
    pub(super) fn choose(&mut self, now_ms: u64, peer: P) -> Option<u32> {
        let known = self.peers.get(&peer)?;
        if !known.may_be_asked(now_ms) {
            return None;
        }
        if known.fruitless == Some(self.pool.epoch()) {
            return self.choose_again(now_ms, peer);
        }
        match self.config.order {
            Order::InOrder { window } => {
                let late = self.choose_again_below(now_ms, peer, self.pool.lowest().saturating_add(window));
                late.or_else(|| self.choose_in_order(now_ms, peer, window)).or_else(|| self.choose_any(now_ms, peer))
            }
            Order::RarestFirst if self.is_origin(peer) => self.choose_own_share(now_ms, peer),
            Order::RarestFirst => self.choose_any(now_ms, peer),
        }
    }

    /// One of the lowest that are missing; for a peer that is too slow for these, and once all of them are asked for, the
    /// first behind them.
    fn choose_in_order(&self, now_ms: u64, peer: P, window: u32) -> Option<u32> {
        let known = self.peers.get(&peer)?;
        let low = self.pool.choose_low(&known.held, window);
        let low = low.filter(|chunk| !self.others_are_sooner(now_ms, peer, *chunk, window));
        let behind = || {
            let chunk = self.pool.first_from(&known.held, self.pool.lowest().saturating_add(window))?;
            (!self.others_are_sooner(now_ms, peer, chunk, self.missing())).then_some(chunk)
        };
        low.or_else(behind)
    }

    /// Any free one, the first few at random, then the rarest; else one of the end game.
    fn choose_any(&mut self, now_ms: u64, peer: P) -> Option<u32> {
        let known = self.peers.get_mut(&peer)?;
        let Some(chunk) = self.pool.choose(&known.held, self.received < self.config.random_first) else {
            known.fruitless = Some(self.pool.epoch());
            return self.choose_again(now_ms, peer);
        };
        (!self.others_are_sooner(now_ms, peer, chunk, self.missing())).then_some(chunk)
    }

    /// True if `peer` holds everything while others fetch beside us, and is not so much faster than these that sharing its
    /// line out would be a loss.
    fn is_origin(&self, peer: P) -> bool {
        let (Some(share), Some(known)) = (&self.share, self.peers.get(&peer)) else { return false };
        let slower = |p: &Peer| p.usual_ms() > known.usual_ms().max(1).saturating_mul(4);
        let mut others = self.peers.values().filter(|p| !p.held.is_full() && p.usual_ms() > 0).peekable();
        share.is_shared() && known.held.is_full() && (others.peek().is_none() || !others.all(slower))
    }

    /// From an origin: what is our share of the chunks that nobody else has got. Once all of that has come, one at a time of
    /// what is left, so that a node that fell asleep over its share does not stop the others.
    fn choose_own_share(&mut self, now_ms: u64, peer: P) -> Option<u32> {
        let (share, known) = (self.share.as_ref()?, self.peers.get(&peer)?);
        let wanted = |chunk: u32| self.pool.is_unspread(chunk) && known.held.contains(chunk);
        if let Some(chunk) = share.own(wanted) {
            return Some(chunk);
        }
        if !known.open.is_empty() {
            return None;
        }
        share.to_help(wanted).or_else(|| self.choose_any(now_ms, peer))
    }

    /// True if the peers that are much faster than `peer` will have brought `count` chunks before it could bring one, and one
    /// of them holds `chunk`.
    fn others_are_sooner(&self, now_ms: u64, peer: P, chunk: u32, count: u32) -> bool {
        let Some(known) = self.peers.get(&peer).filter(|p| p.rate() > 0) else { return false };
        let others = self.total_rate.saturating_sub(known.rate());
        let Some(needed_ms) = (u64::from(count) * 1_000_000).checked_div(others) else { return false };
        let fast = |p: &Peer| {
            !p.is_paused(now_ms) && p.rate() >= known.rate().saturating_mul(SLOWER) && p.held.contains(chunk)
        };
        known.next_answer_ms() > needed_ms.saturating_mul(SLOWER) && self.peers.values().any(fast)
    }

    /// End game: what `peer` could bring sooner than whoever was asked.
    fn choose_again(&self, now_ms: u64, peer: P) -> Option<u32> {
        self.choose_again_below(now_ms, peer, u32::MAX)
    }

    fn choose_again_below(&self, now_ms: u64, peer: P, end: u32) -> Option<u32> {
        let known = self.peers.get(&peer)?;
        let helps = |chunk: u32, askers: &[P]| {
            askers.len() < self.config.copies
                && !askers.contains(&peer)
                && known.held.contains(chunk)
                && askers.iter().all(|other| self.is_overdue(now_ms, *other, chunk, known))
        };
        self.asked.range(..end).find(|(chunk, askers)| helps(**chunk, askers)).map(|(chunk, _)| *chunk)
    }

    /// True if `other` has kept `chunk` open for twice as long as `helper` usually takes. A helper of which nothing is known helps
    /// only where `other` takes twice its own time.
    fn is_overdue(&self, now_ms: u64, other: P, chunk: u32, helper: &Peer) -> bool {
        let Some(asked) = self.peers.get(&other) else { return false };
        let Some(since) = asked.open.get(&chunk).map(|r| r.since_ms) else { return false };
        let bar = match (helper.usual_ms(), asked.usual_ms()) {
            (0, 0) => self.config.stall_ms / 4,
            (0, its) => its.saturating_mul(2),
            (ours, _) => ours.saturating_mul(2),
        };
        now_ms.saturating_sub(since) > bar
    }
}
