//! Whole hosts in one thread on a simulated clock, network and disk, all from one seed. Messages are late, lost, doubled
//! and out of order; the network falls apart and heals; disks lose power between any two writes; some signers are hostile.
//! The same seed gives the same run, to the byte.
//!
//! | module | owns |
//! |---|---|
//! | `node` | one machine with its disk, its start and its crash |
//! | `disk` | what of the writes a loss of power leaves |
//! | `byzantine` | what a hostile signer does |
//! | `check` | what must hold: one chain, no honest contradiction, nothing acknowledged lost |
//! | `rng` | numbers that a seed fixes |
//! | [`steady`] | a network without faults: how long blocks take |
//!
//! A hostile signer is two copies of one node with one key, each with a disk of its own: they contradict each other as soon
//! as the network is split, and do not know it. On top of that each of them does what `byzantine` says.

mod byzantine;
mod check;
mod disk;
mod node;
mod rng;
pub mod steady;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use zero2ai_proto::{
    Digest, PoolId, SealingKey, SecretKey, Signed, encode,
    evidence::Evidence,
    limits::BLOCKS,
    pool::{Genesis, Nonce},
    state::{Signer, SignerSet},
    tx::{ClaimHandle, Tx, TxBody},
};

use crate::{ChainTopic, error::ChainError, host::Wish, machine::Event};
use check::Checks;
use node::Node;
use rng::Rng;

/// Milliseconds since 1970 UTC at which every run begins.
const WALL: u64 = 1_700_000_000_000;
/// Simulated milliseconds in which things go wrong.
const CHAOS: u64 = 20_000;
/// Simulated milliseconds within which healed nodes must have made [`AFTER`] more blocks.
const HEALED: u64 = 180_000;
/// Blocks that prove that the chain goes on after it has healed.
const AFTER: usize = 3;
/// Events of one run at most: a network that talks for ever is a failure too.
const EVENTS: u64 = 400_000;

/// What to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Fixes everything.
    pub seed: u64,
    /// Signers, 4 to 16.
    pub signers: u8,
    /// How many of them are hostile, fewer than all.
    pub hostile: u8,
    /// The control: the network stays split so that each half has a copy of every hostile signer. With a third of the
    /// signers hostile the chain must fork, and the checks must see it.
    pub collude: bool,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash over every message, crash and block, in order.
    pub trace: Digest,
    /// The lowest height that every honest node reached.
    pub height: u64,
    /// Losses of power, those between two writes of one step among them.
    pub crashes: (u64, u64),
    /// Transactions acknowledged as final.
    pub acknowledged: u64,
    /// Contradictions of hostile signers that are recorded on the ledger of every honest node.
    pub recorded: u64,
    /// True if two honest nodes hold different blocks of one height.
    pub forked: bool,
    /// What should not have happened; empty if all held.
    pub failures: Vec<String>,
}

/// One thing on its way.
struct Sent {
    to: usize,
    event: Event,
    /// The start of the receiver that it is for; any for gossip.
    start: Option<u64>,
}

/// See the module.
struct Sim {
    plan: Plan,
    rng: Rng,
    now: u64,
    nodes: Vec<Node>,
    keys: Vec<SecretKey>,
    queue: BTreeMap<(u64, u64), Sent>,
    sent: u64,
    /// Lost of a hundred messages.
    loss: u64,
    healed: bool,
    split_until: u64,
    next_tx: (u64, u64),
    /// Proofs found by honest nodes, when they may be submitted next, and when they were found.
    evidence: Vec<(Evidence, u64, u64)>,
    checks: Checks,
    crashes: (u64, u64),
}

/// Carries a plan out.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    Sim::new(plan).and_then(Sim::run).unwrap_or_else(|error| Outcome {
        trace: Digest([0; 32]),
        height: 0,
        crashes: (0, 0),
        acknowledged: 0,
        recorded: 0,
        forked: false,
        failures: vec![format!("the run could not be set up: {error}")],
    })
}

/// Signers' keys, in the order of a set: the same in every run.
fn signer_keys(count: u8) -> Vec<SecretKey> {
    let mut keys: Vec<_> = (1..=count).map(|i| SecretKey::from_bytes(&[i; 32])).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

/// The encoded genesis of a pool that all of these sign, and its id; the first is the administrator.
fn pool_of(keys: &[SecretKey]) -> Result<(Vec<u8>, PoolId), ChainError> {
    let set = keys.iter().map(|k| Signer { key: k.public(), power: 1 }).collect();
    let wrong = || ChainError::Worker("no such signer set".into());
    let genesis = Genesis {
        version: 1,
        created_ms: WALL - 1,
        nonce: Nonce([7; 16]),
        admin: keys.first().ok_or_else(wrong)?.public(),
        admin_sealing: SealingKey([1; 32]),
        signers: SignerSet::new(set).ok_or_else(wrong)?,
        rules_version: 1,
    };
    let genesis = encode(&genesis)?;
    let pool = PoolId::of(&genesis);
    Ok((genesis, pool))
}

impl Sim {
    fn new(plan: Plan) -> Result<Self, ChainError> {
        let mut rng = Rng::new(plan.seed ^ 0x5a5a_0000);
        let mut keys = signer_keys(plan.signers);
        // The honest ones come first here; whose turn it is goes by key, so the hostile are spread by rotating.
        let turn = rng.index(keys.len());
        keys.rotate_left(turn);
        let honest = usize::from(plan.signers.saturating_sub(plan.hostile)).max(1);
        let (genesis, pool) = pool_of(&keys)?;
        let mut nodes = Vec::new();
        for (nth, key) in keys.iter().enumerate() {
            let copies = if nth < honest { 1 } else { 2 };
            for copy in 0..copies {
                nodes.push(Node::new(key.clone(), genesis.clone(), nth < honest, copy, rng.below(200))?);
            }
        }
        let loss = rng.below(25);
        let mut sim = Self {
            plan,
            rng,
            now: 0,
            nodes,
            keys,
            queue: BTreeMap::new(),
            sent: 0,
            loss: if plan.collude { 0 } else { loss },
            healed: false,
            split_until: 0,
            next_tx: (500, 0),
            evidence: Vec::new(),
            checks: Checks::new(pool, honest),
            crashes: (0, 0),
        };
        if plan.collude {
            sim.split_colluders();
        }
        for node in 0..sim.nodes.len() {
            sim.step_node(node, Vec::new());
        }
        Ok(sim)
    }

    fn run(mut self) -> Result<Outcome, ChainError> {
        let mut target = None;
        for _ in 0..EVENTS {
            if self.checks.failed() || (self.plan.collude && self.now > 2 * CHAOS) {
                break;
            }
            if !self.healed && self.now >= CHAOS && !self.plan.collude {
                self.heal();
                target = Some(self.checks.top().saturating_add(AFTER));
            }
            if let Some(target) = target {
                // What was acknowledged must reach every honest node, which may take longer than the blocks that were asked for.
                let target = target.max(self.checks.last_acknowledged());
                if self.lowest() >= target && self.evidence_rests() {
                    break;
                }
                if self.now > CHAOS + HEALED {
                    self.checks.fail(format!("healed, and still at height {} of {target}", self.lowest()));
                }
            }
            self.event();
        }
        if target.is_some_and(|t| self.lowest() < t) && !self.checks.failed() {
            self.checks.fail(format!("too many events at height {}", self.lowest()));
        }
        Ok(self.outcome())
    }

    fn outcome(mut self) -> Outcome {
        let honest: Vec<&Node> = self.nodes.iter().filter(|n| n.honest).collect();
        let (acknowledged, recorded) = self.checks.end(&honest, self.plan.collude);
        Outcome {
            trace: self.checks.trace(),
            height: self.lowest() as u64,
            crashes: self.crashes,
            acknowledged,
            recorded,
            forked: self.checks.forked(),
            failures: self.checks.take_failures(),
        }
    }

    /// The lowest height of an honest node.
    fn lowest(&self) -> usize {
        self.nodes.iter().filter(|n| n.honest).map(Node::height).min().unwrap_or(0)
    }

    /// One event: the next message, deadline, start or change of the network.
    fn event(&mut self) {
        let message = self.queue.first_key_value().map(|(key, _)| key.0);
        let due = self.nodes.iter().map(Node::due).enumerate().min_by_key(|(nth, due)| (*due, *nth));
        let Some((nth, due)) = due else { return };
        if self.next_tx.0 <= due.min(message.unwrap_or(u64::MAX)) {
            self.now = self.now.max(self.next_tx.0);
            return self.clients();
        }
        if message.is_some_and(|at| at <= due)
            && let Some((key, sent)) = self.queue.pop_first()
        {
            self.now = self.now.max(key.0);
            let node = &mut self.nodes[sent.to];
            if node.is_up() && sent.start.is_none_or(|start| start == node.starts) {
                if let (false, Event::Gossip { topic, data, .. }) = (node.honest, &sent.event) {
                    node.mischief.hear(*topic, data, &mut self.rng);
                }
                self.step_node(sent.to, vec![sent.event]);
            }
            return;
        }
        self.now = self.now.max(due);
        if self.nodes[nth].is_up() {
            self.step_node(nth, Vec::new());
        } else {
            self.start_node(nth);
        }
    }

    fn start_node(&mut self, nth: usize) {
        let kept = self.rng.index(8);
        match self.nodes[nth].start(kept, self.now) {
            Ok(()) => self.step_node(nth, Vec::new()),
            Err(error) => self.checks.fail(format!("node {nth} does not start: {error}")),
        }
    }

    /// One step of a machine, and what comes of it. An honest node's power may go at any write of it.
    fn step_node(&mut self, nth: usize, events: Vec<Event>) {
        let may_crash = self.nodes[nth].honest && !self.healed && !self.plan.collude;
        let crash_after = (may_crash && self.rng.chance(4)).then(|| self.rng.below(7));
        let done = self.nodes[nth].step(events, crash_after, self.now);
        if self.nodes[nth].honest {
            // Before anything is forgotten: what was told was told, whatever comes next.
            self.checks.acknowledged(&mut self.nodes[nth]);
        }
        match done {
            Ok(done) => {
                for (topic, data) in done.sends {
                    self.send(nth, topic, data);
                }
                if let Some(wish) = done.wish {
                    self.fetch(nth, wish);
                }
                if self.nodes[nth].honest {
                    for proof in done.evidence {
                        self.found(proof);
                    }
                }
                // Between two steps too.
                if may_crash && self.rng.below(80) == 0 {
                    self.crashes.0 += 1;
                    self.checks.trace_add(b"crash");
                    let down = self.rng.below(3_000);
                    self.nodes[nth].stop(self.now + down);
                }
            }
            Err(_) if self.nodes[nth].lost_power() => {
                self.crashes.1 += 1;
                self.checks.trace_add(b"power");
                let down = self.rng.below(3_000);
                self.nodes[nth].stop(self.now + down);
            }
            Err(error) if self.nodes[nth].honest => {
                self.checks.fail(format!("honest node {nth} stopped: {error}"));
            }
            Err(_) => self.nodes[nth].stop(u64::MAX),
        }
        if self.nodes[nth].honest {
            self.checks.blocks(&mut self.nodes[nth]);
        }
    }

    /// A message of `nth` to all others, as far as network and mischief let it through.
    fn send(&mut self, nth: usize, topic: ChainTopic, data: Vec<u8>) {
        let node = &self.nodes[nth];
        self.checks.said(node.honest.then_some(node.key.public()), &data, topic);
        if node.honest || self.plan.collude {
            return self.spread(nth, topic, &data, 0);
        }
        let withheld = if self.rng.chance(20) { 100 } else { self.rng.below(60) };
        let (key, wall, ledger) = (node.key.clone(), WALL + self.now, std::sync::Arc::clone(&node.shared));
        let extra = if topic == ChainTopic::Consensus {
            let view = ledger.read();
            self.nodes[nth].mischief.add(&data, &key, &view.ledger, wall, &mut self.rng)
        } else {
            Vec::new()
        };
        self.spread(nth, topic, &data, withheld);
        for (topic, data) in extra {
            self.spread(nth, topic, &data, 0);
        }
    }

    fn spread(&mut self, from: usize, topic: ChainTopic, data: &[u8], withheld: u64) {
        let author = self.nodes[from].key.public();
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if !self.connected(from, to) || self.rng.chance(self.loss) || self.rng.chance(withheld) {
                continue;
            }
            let times = if self.rng.chance(2) { 2 } else { 1 };
            for _ in 0..times {
                let event = Event::Gossip { topic, from: author, data: data.to_vec() };
                let late = 1 + self.rng.below(60);
                self.queue_at(late, to, event, None);
            }
        }
    }

    fn queue_at(&mut self, late: u64, to: usize, event: Event, start: Option<u64>) {
        self.sent += 1;
        self.queue.insert((self.now.saturating_add(late), self.sent), Sent { to, event, start });
    }

    /// Answers a wish for blocks by whoever was named, if he can be reached. A hostile one may lie.
    fn fetch(&mut self, nth: usize, wish: Wish) {
        let start = Some(self.nodes[nth].starts);
        let reachable = |(i, n): &(usize, &Node)| n.key.public() == wish.hint && n.is_up() && self.connected(nth, *i);
        let source = self.nodes.iter().enumerate().find(reachable).map(|(i, _)| i);
        let Some(source) = source.filter(|_| !self.rng.chance(self.loss)) else {
            return self.queue_at(2_000, nth, Event::Fetched(Err("nobody there".into())), start);
        };
        let from = usize::try_from(wish.from.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut blocks: Vec<_> = self.nodes[source].blocks().iter().skip(from).take(BLOCKS).cloned().collect();
        if !self.nodes[source].honest && self.rng.chance(50) {
            for sealed in &mut blocks {
                let at = self.rng.index(sealed.block.len());
                if let Some(byte) = sealed.block.get_mut(at) {
                    *byte ^= 1;
                }
            }
        }
        let late = 2 + self.rng.below(120);
        self.queue_at(late, nth, Event::Fetched(Ok(blocks)), start);
    }

    fn connected(&self, one: usize, other: usize) -> bool {
        self.nodes[one].side == self.nodes[other].side
    }

    /// The control's network: each half has a copy of every hostile signer, and half of the honest ones.
    fn split_colluders(&mut self) {
        let mut honest = 0u8;
        for node in &mut self.nodes {
            node.side = if node.honest { honest % 2 } else { node.copy };
            honest += u8::from(node.honest);
        }
    }

    /// Clients submit; the network changes; proofs are put on the ledger.
    fn clients(&mut self) {
        let (_, nonce) = self.next_tx;
        let wait = if self.healed { 300 } else { self.rng.below(1_500) };
        self.next_tx = (self.now + 1 + wait, nonce);
        if !self.healed && !self.plan.collude {
            self.shake();
        }
        let admin_nonce = self.nodes[0].next_nonce(&self.keys[0].public());
        let body = match self.due_evidence() {
            Some(proof) => TxBody::Evidence(proof),
            None if nonce < 16 && !self.healed => {
                self.next_tx.1 += 1;
                TxBody::ClaimHandle(ClaimHandle { handle: format!("handle-{nonce}") })
            }
            None => return,
        };
        let Ok(tx) = Signed::sign(&Tx { nonce: admin_nonce, body }, &self.checks.pool(), &self.keys[0]) else { return };
        let honest: Vec<usize> =
            (0..self.nodes.len()).filter(|n| self.nodes[*n].honest && self.nodes[*n].is_up()).collect();
        if honest.is_empty() {
            return;
        }
        let to = honest[self.rng.index(honest.len())];
        let event = self.nodes[to].submission(tx);
        self.step_node(to, vec![event]);
    }

    /// Splits the network at random, or joins it again.
    fn shake(&mut self) {
        if self.now >= self.split_until {
            let split = self.rng.chance(40);
            self.split_until = self.now + 500 + self.rng.below(4_000);
            for node in &mut self.nodes {
                node.side = if split { u8::from(self.rng.chance(40)) } else { 0 };
            }
        }
    }

    fn heal(&mut self) {
        (self.healed, self.loss) = (true, 0);
        for node in &mut self.nodes {
            node.side = 0;
            if node.honest {
                node.start_by(self.now);
            }
        }
    }

    fn found(&mut self, proof: Evidence) {
        let (height, ..) = proof.place();
        let known = self.evidence.iter().any(|(e, ..)| e.signer == proof.signer && e.place().0 == height);
        if !known {
            self.checks.evidence(&proof);
            self.evidence.push((proof, 0, self.now));
        }
    }

    /// A proof that the first honest node's ledger does not have yet, and that was not submitted a moment ago.
    fn due_evidence(&mut self) -> Option<Evidence> {
        let (now, node) = (self.now, &self.nodes[0]);
        let due = self.evidence.iter_mut().find(|(e, at, _)| *at <= now && !node.has_evidence(e))?;
        due.1 = now + 2_000;
        Some(due.0)
    }

    /// True once every proof that was found before the network healed is on the ledger of every honest node. The hostile do
    /// not stop, so there is always a newer one.
    fn evidence_rests(&self) -> bool {
        let honest: Vec<&Node> = self.nodes.iter().filter(|n| n.honest).collect();
        let mut old = self.evidence.iter().filter(|(.., found)| *found < CHAOS);
        old.all(|(e, ..)| honest.iter().all(|n| n.has_evidence(e)))
    }
}
