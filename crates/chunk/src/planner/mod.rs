//! Which chunk to ask of which peer: a state machine. Events and the time go in, actions come out; no clock, no sockets, and
//! the same seed gives the same plan.
//!
//! The rules are BitTorrent's (Cohen, "Incentives Build Robustness in BitTorrent", 2003, section 2.4), with windows as BBR
//! sizes them:
//! - the first few chunks at random, so that there is soon something to share; then the rarest first;
//! - a peer has as many requests open as its rate × round trip wants, so slow peers do not sit on many chunks;
//! - towards the end a slow peer gets no chunk that faster ones will have brought before it could;
//! - end game: once a peer finds nothing unasked, it is asked for what another peer has kept open too long; the first copy
//!   cancels the others;
//! - a wrong hash bans at once; silence and refusals give a pause that doubles, then the peer is dropped; a peer without a
//!   free slot gets a short pause and no strike;
//! - of several nodes that fetch at the same time, each takes its own share from the peers that hold everything, and the rest
//!   from the others ([`Planner::sharing`]);
//! - a model that is to be used at once comes in order ([`Order::InOrder`]): a window of the lowest missing chunks first.

mod choose;
mod peer;
mod pool;
mod share;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

use crate::chunk_set::ChunkSet;
use peer::Peer;
use pool::Pool;
use share::Share;

/// Peers known at once, the dropped ones included. Beyond it, newcomers are ignored until one leaves.
const PEERS: usize = 1_024;
/// A peer that said within so many milliseconds that it got a chunk is fetching too. Deltas come several times a second.
const GROWING_MS: u64 = 5_000;
/// How much slower than the others a peer must be to be kept off their chunks.
const SLOWER: u64 = 2;

/// Which chunks come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// A few at random, then the rarest: best for the swarm.
    #[default]
    RarestFirst,
    /// The rarest among the `window` lowest that are missing, then the rest: for a model that is opened while it comes. It
    /// takes no part in sharing out ([`Planner::sharing`]).
    InOrder {
        /// Chunks. Small is in strict order, and hangs on the slowest peer of few; the requests in flight are a good measure.
        window: u32,
    },
}

/// How a planner behaves. The defaults fit chunks of 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannerConfig {
    /// What random choices follow from.
    pub seed: u64,
    /// Chunks fetched at random before the rarest come first.
    pub random_first: u32,
    /// Most requests open to one peer. Each may hold a chunk in memory.
    pub peer_window: u32,
    /// Most requests open at all: bounds memory to this many chunks.
    pub in_flight: u32,
    /// Milliseconds without a chunk after which a peer that owes one is passed over. Too short and slow links are dropped;
    /// too long and a silent peer delays the end.
    pub stall_ms: u64,
    /// Copies of one chunk on their way in the end game.
    pub copies: usize,
    /// Pauses in a row after which a peer is dropped.
    pub strikes: u32,
    /// Which chunks come first.
    pub order: Order,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            random_first: 4,
            peer_window: 32,
            in_flight: 64,
            stall_ms: 10_000,
            copies: 2,
            strikes: 4,
            order: Order::RarestFirst,
        }
    }
}

/// What happened. Chunks are numbers in the sealed manifest's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// A peer came, or said anew what it holds. Ignored for banned peers.
    Joined {
        /// The peer.
        peer: P,
        /// What it holds.
        held: ChunkSet,
    },
    /// A peer got another chunk.
    Has {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer went. Its open requests are cancelled.
    Left {
        /// The peer.
        peer: P,
    },
    /// A peer's chunk arrived, had the right hash, and is stored.
    Received {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer's chunk had the wrong hash.
    Wrong {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer did not give a chunk.
    Failed {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer said at once that it has no slot free: it is asked again soon, and others meanwhile.
    Busy {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// Time passed: send one at least every tenth of [`PlannerConfig::stall_ms`].
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// Ask `peer` for `chunk`.
    Request {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// Take back that request. An answer that still comes is welcome.
    Cancel {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// Never speak to `peer` again in this transfer. Its open requests were cancelled before this.
    Drop {
        /// The peer.
        peer: P,
        /// Why.
        why: DropReason,
    },
}

/// Why a peer was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It sent bytes with the wrong hash.
    WrongHash,
    /// It was silent or refused too often.
    Useless,
}

/// The planner of one transfer. `P` names a peer.
#[derive(Debug)]
pub struct Planner<P> {
    config: PlannerConfig,
    pool: Pool,
    peers: BTreeMap<P, Peer>,
    dropped: BTreeSet<P>,
    /// Peers that were asked for a chunk and have not answered, by chunk.
    asked: BTreeMap<u32, Vec<P>>,
    in_flight: u32,
    received: u32,
    /// Requests that may still be made before [`Planner::allow`] is called again.
    allowed: u32,
    share: Option<Share<P>>,
    /// Sum of the rates of the peers that may be asked, chunks per million milliseconds; taken once an event.
    total_rate: u64,
}

impl<P: Copy + Ord + Hash> Planner<P> {
    /// A planner for what is missing from `held`.
    #[must_use]
    pub fn new(config: PlannerConfig, held: &ChunkSet) -> Self {
        Self {
            config,
            pool: Pool::new(config.seed, held),
            peers: BTreeMap::new(),
            dropped: BTreeSet::new(),
            asked: BTreeMap::new(),
            in_flight: 0,
            received: 0,
            allowed: u32::MAX,
            share: None,
            total_rate: 0,
        }
    }

    /// Lets this node, `me`, share out with others who fetch at the same time what only peers that hold everything have. All
    /// of them must name each other alike.
    #[must_use]
    pub fn sharing(mut self, me: P) -> Self {
        self.share = (self.config.order == Order::RarestFirst).then(|| Share::new(me, self.pool.chunks()));
        self
    }

    /// From now on at most `requests` more are made, until this is called again: how a limit on the rate of bytes is kept.
    pub fn allow(&mut self, requests: u32) {
        self.allowed = requests;
    }

    /// Chunks not yet received.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.pool.missing()
    }

    /// True once every chunk is here.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.missing() == 0
    }

    /// True if chunks are missing and none is on its way, requests to peers that were busy last time left out: only a new
    /// peer, or one whose pause ends, can help.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        !self.is_done() && self.peers.values().all(|p| p.open.is_empty() || p.is_busy())
    }

    /// True if a peer holds missing chunks and has only no slot free at the moment.
    #[must_use]
    pub fn is_queueing(&self) -> bool {
        self.peers.values().any(Peer::is_busy)
    }

    /// True if `peer` is in use and holds everything, as far as it said.
    #[must_use]
    pub fn holds_all(&self, peer: &P) -> bool {
        self.peers.get(peer).is_some_and(|p| p.held.is_full())
    }

    /// Peers in use.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Takes in `event` at `now_ms` (milliseconds, never going back) and says what to do, in order.
    pub fn handle(&mut self, now_ms: u64, event: Event<P>) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        // News of one peer can only make that one useful; a swarm brings very many of them.
        let only = if let Event::Has { peer, .. } = event { Some(peer) } else { None };
        match event {
            Event::Joined { peer, held } => self.join(now_ms, peer, held),
            Event::Has { peer, chunk } => self.has(now_ms, peer, chunk),
            Event::Left { peer } => self.remove(peer, &mut actions),
            Event::Received { peer, chunk } => self.received(now_ms, peer, chunk, &mut actions),
            Event::Wrong { peer, chunk } => {
                self.answered(peer, chunk);
                self.drop_peer(peer, DropReason::WrongHash, &mut actions);
            }
            Event::Failed { peer, chunk } => self.failed(now_ms, peer, chunk, &mut actions),
            Event::Busy { peer, chunk } => {
                self.answered(peer, chunk);
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.no_slot(now_ms);
                }
            }
            Event::Tick => self.pass_over_silent(now_ms, &mut actions),
        }
        match only {
            Some(peer) if self.peers.contains_key(&peer) => self.fill(now_ms, vec![peer], &mut actions),
            Some(_) => {}
            None => {
                self.look_around(now_ms);
                let mut eager: Vec<P> = self.peers.keys().copied().collect();
                eager.sort_by_cached_key(|peer| self.peers.get(peer).map(Peer::next_answer_ms));
                self.fill(now_ms, eager, &mut actions);
            }
        }
        actions
    }

    fn join(&mut self, now_ms: u64, peer: P, held: ChunkSet) {
        if self.dropped.contains(&peer) || held.chunks() != self.pool.chunks() {
            return;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            self.pool.count_out(&known.held);
            self.pool.count_in(&held);
            if held.count() > known.held.count() {
                known.gained(now_ms);
            }
            known.held = held;
            known.fruitless = None;
        } else if self.peers.len() + self.dropped.len() < PEERS {
            self.pool.count_in(&held);
            self.peers.insert(peer, Peer::new(now_ms, held));
        }
    }

    fn has(&mut self, now_ms: u64, peer: P, chunk: u32) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if !known.held.insert(chunk) {
            return;
        }
        known.gained(now_ms);
        self.pool.count_one_in(chunk);
        if known.held.is_full() {
            // Those who hold everything are not counted: the pass over all chunks comes once a peer.
            known.held.remove(chunk);
            self.pool.count_one_out(chunk);
            self.pool.count_out(&known.held);
            known.held.insert(chunk);
        }
    }

    fn received(&mut self, now_ms: u64, peer: P, chunk: u32, actions: &mut Vec<Action<P>>) {
        let is_new = self.pool.take(chunk);
        self.take_back(peer, chunk);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.delivered(now_ms, chunk, self.config.peer_window);
        }
        if !is_new {
            return; // Another copy was first.
        }
        self.received += 1;
        if let Some(share) = &mut self.share {
            share.forget(|c| self.pool.is_here(c));
        }
        for other in self.asked.get(&chunk).cloned().unwrap_or_default() {
            self.answered(other, chunk);
            actions.push(Action::Cancel { peer: other, chunk });
        }
    }

    fn failed(&mut self, now_ms: u64, peer: P, chunk: u32, actions: &mut Vec<Action<P>>) {
        self.answered(peer, chunk);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        // It may not have it after all: not asked again for this one until it says anew what it holds.
        if known.held.is_full() {
            known.held.remove(chunk);
            self.pool.count_in(&known.held);
        } else if known.held.remove(chunk) {
            self.pool.count_one_out(chunk);
        }
        self.strike(now_ms, peer, actions);
    }

    fn pass_over_silent(&mut self, now_ms: u64, actions: &mut Vec<Action<P>>) {
        let stall = self.config.stall_ms;
        let silent = |p: &Peer| p.waiting_since().is_some_and(|t| now_ms.saturating_sub(t) > p.patience_ms(stall));
        let silent: Vec<P> = self.peers.iter().filter(|(_, p)| silent(p)).map(|(peer, _)| *peer).collect();
        for peer in silent {
            self.cancel_all(peer, actions);
            self.strike(now_ms, peer, actions);
        }
    }

    fn strike(&mut self, now_ms: u64, peer: P, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.strike(now_ms, self.config.stall_ms) >= self.config.strikes {
            self.drop_peer(peer, DropReason::Useless, actions);
        }
    }

    fn drop_peer(&mut self, peer: P, why: DropReason, actions: &mut Vec<Action<P>>) {
        if self.peers.contains_key(&peer) {
            self.remove(peer, actions);
            self.dropped.insert(peer);
            actions.push(Action::Drop { peer, why });
        }
    }

    fn remove(&mut self, peer: P, actions: &mut Vec<Action<P>>) {
        self.cancel_all(peer, actions);
        if let Some(gone) = self.peers.remove(&peer) {
            self.pool.count_out(&gone.held);
        }
    }

    fn cancel_all(&mut self, peer: P, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        for chunk in std::mem::take(&mut known.open).into_keys() {
            self.take_back(peer, chunk);
            actions.push(Action::Cancel { peer, chunk });
        }
    }

    /// Nothing more is expected of `peer` for `chunk`.
    fn answered(&mut self, peer: P, chunk: u32) {
        self.take_back(peer, chunk);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.open.remove(&chunk);
        }
    }

    /// Forgets that `peer` was asked for `chunk`; the chunk is free again if nobody else was.
    fn take_back(&mut self, peer: P, chunk: u32) {
        let Some(askers) = self.asked.get_mut(&chunk) else { return };
        let before = askers.len();
        askers.retain(|p| *p != peer);
        self.in_flight -= u32::try_from(before - askers.len()).unwrap_or(0);
        if askers.is_empty() {
            self.asked.remove(&chunk);
            self.pool.release(chunk);
        }
    }

    /// Asks until the windows of `eager` are full: one request a peer and round, those first who would answer first, since the
    /// bound of all requests may leave room for few.
    fn fill(&mut self, now_ms: u64, mut eager: Vec<P>, actions: &mut Vec<Action<P>>) {
        while !eager.is_empty() && !self.is_done() {
            eager.retain(|peer| {
                let may = self.allowed > 0 && self.in_flight < self.config.in_flight;
                let chunk = if may { self.choose(now_ms, *peer) } else { None };
                if let Some(chunk) = chunk {
                    self.ask(now_ms, *peer, chunk);
                    actions.push(Action::Request { peer: *peer, chunk });
                }
                chunk.is_some()
            });
        }
    }

    /// What choices depend on beside the peer at hand: how fast all of them are, and who else fetches.
    fn look_around(&mut self, now_ms: u64) {
        let active = self.peers.values().filter(|p| !p.is_paused(now_ms));
        self.total_rate = active.map(Peer::rate).fold(0, u64::saturating_add);
        if let Some(share) = &mut self.share {
            let growing = self.peers.iter().filter(|(_, p)| p.is_growing(now_ms, GROWING_MS));
            share.among(&growing.map(|(peer, _)| *peer).collect::<Vec<_>>());
        }
    }

    fn ask(&mut self, now_ms: u64, peer: P, chunk: u32) {
        self.pool.reserve(chunk);
        self.asked.entry(chunk).or_default().push(peer);
        self.in_flight += 1;
        self.allowed = self.allowed.saturating_sub(1);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.ask(now_ms, chunk);
        }
    }
}
