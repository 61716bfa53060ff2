//! Four hosts in one thread on a simulated clock and network, from one seed: messages are late, lost and out of order,
//! hosts forget everything but their log and mark. The same seed gives the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng},
};
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    SealingKey, SecretKey,
    block::VoteKind,
    consensus::{ConsensusGossip, ConsensusMessage},
    limits::CLOCK_SKEW_MS,
    pool::{Genesis, Nonce},
    state::{Signer as SignerEntry, SignerSet},
};

use super::*;
use crate::{config::Pace, signer::Signed as Mark};

const WALL: u64 = 1_700_000_000_000;

struct Sim {
    configs: Vec<ChainConfig>,
    hosts: Vec<Host>,
    /// What each host's disk holds: log entries and mark; blocks are in `chains`.
    disks: Vec<(Vec<WalEntry>, Option<Mark>)>,
    chains: Vec<Vec<SealedBlock>>,
    /// Events by time and number: to whom, and the bytes.
    queue: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    sent: u64,
    up: u64,
    rng: TestRng,
    loss: u32,
    /// How far each host's wall clock is ahead.
    ahead: Vec<u64>,
    trace: trace::Trace,
    signed: BTreeMap<(NodeId, u64, u32, u8), Option<zero2ai_proto::BlockId>>,
}

/// A running hash of everything that happened.
mod trace {
    use zero2ai_proto::Digest;
    #[derive(Default)]
    pub(super) struct Trace(Vec<u8>);
    impl Trace {
        pub(super) fn add(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(Digest::of(bytes).as_bytes());
            self.0 = Digest::of(&self.0).as_bytes().to_vec();
        }
        pub(super) fn digest(&self) -> Digest {
            Digest::of(&self.0)
        }
    }
}

impl Sim {
    fn new(seed: u64, loss: u32, ahead: [u64; 4]) -> Self {
        let mut keys: Vec<_> = (1..=4).map(|i| SecretKey::from_bytes(&[i; 32])).collect();
        keys.sort_by_key(SecretKey::public);
        let set = keys.iter().map(|k| SignerEntry { key: k.public(), power: 1 }).collect();
        let genesis = Genesis {
            version: 1,
            created_ms: WALL - 1,
            nonce: Nonce([7; 16]),
            admin: keys[0].public(),
            admin_sealing: SealingKey([1; 32]),
            signers: SignerSet::new(set).unwrap(),
            rules_version: 1,
        };
        let genesis = encode(&genesis).unwrap();
        let pace = Pace { heartbeat: std::time::Duration::from_millis(50), ..Pace::default() };
        let configs: Vec<_> =
            keys.into_iter().map(|k| ChainConfig { pace, ..ChainConfig::new("", k, genesis.clone()) }).collect();
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut sim = Self {
            hosts: Vec::new(),
            disks: vec![(Vec::new(), None); 4],
            chains: vec![Vec::new(); 4],
            configs,
            queue: BTreeMap::new(),
            sent: 0,
            up: 0,
            rng: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            loss,
            ahead: ahead.to_vec(),
            trace: Default::default(),
            signed: BTreeMap::new(),
        };
        for i in 0..4 {
            let host = sim.open(i);
            sim.hosts.push(host);
        }
        sim
    }

    fn now(&self, i: usize) -> Now {
        Now { up: self.up, wall: WALL + self.up + self.ahead[i] }
    }

    /// A host made from what its disk holds.
    fn open(&self, i: usize) -> Host {
        let shared = Arc::new(Shared::new(Ledger::genesis(&self.configs[i].genesis).unwrap()));
        for sealed in &self.chains[i] {
            shared.apply(&Block::read(&sealed.block).unwrap(), &sealed.certificate).unwrap();
        }
        let mut host = Host::new(&self.configs[i], shared, self.disks[i].1, self.now(i));
        host.resume(&self.disks[i].0, self.now(i)).unwrap();
        host
    }

    /// Carries out what a host wants, as the machine does, with the disk first.
    fn carry_out(&mut self, i: usize) {
        let mut sends = Vec::new();
        loop {
            let out = self.hosts[i].take_output();
            self.disks[i].0.extend(out.wal);
            sends.extend(out.sends);
            let Some(sealed) = self.hosts[i].decided() else { break };
            self.chains[i].push(sealed.clone());
            self.disks[i].0.clear();
            let now = self.now(i);
            self.hosts[i].apply(&sealed, now).unwrap();
            self.hosts[i].go_on(now).unwrap();
        }
        self.disks[i].1 = self.hosts[i].take_mark().or(self.disks[i].1);
        for (topic, data) in sends.into_iter().filter(|(t, _)| *t == ChainTopic::Consensus) {
            debug_assert_eq!(topic, ChainTopic::Consensus);
            self.record(&data);
            for to in (0..4).filter(|to| *to != i) {
                if self.rng.random_range(0..100) >= self.loss {
                    let at = self.up + self.rng.random_range(1..60);
                    self.sent += 1;
                    self.queue.insert((at, self.sent), (to, data.clone()));
                }
            }
        }
    }

    /// Nobody may ever contradict himself.
    fn record(&mut self, data: &[u8]) {
        self.trace.add(data);
        let (step, what) = match ConsensusGossip::read(data).unwrap().message {
            ConsensusMessage::Vote(v) => {
                let step = if v.vote.kind == VoteKind::Prevote { 1 } else { 2 };
                ((v.voter, v.vote.height, v.vote.round, step), v.vote.block)
            }
            ConsensusMessage::Proposal(p) => {
                ((p.proposer, p.proposal.height, p.proposal.round, 0), Some(p.proposal.block))
            }
            _ => return,
        };
        assert_eq!(*self.signed.entry(step).or_insert(what), what, "{step:?} was signed twice");
    }

    /// One event: the next message or the next deadline.
    fn step(&mut self) {
        let deadline = (0..4).map(|i| (self.hosts[i].deadline(), i)).min().unwrap();
        match self.queue.first_key_value().map(|(k, _)| *k).filter(|k| k.0 <= deadline.0) {
            Some(key) => {
                let (to, data) = self.queue.remove(&key).unwrap();
                self.up = self.up.max(key.0);
                let (message, now) = (ConsensusGossip::read(&data).unwrap().message, self.now(to));
                self.hosts[to].message(self.configs[0].key.public(), message, now).unwrap();
                self.carry_out(to);
            }
            None => {
                self.up = self.up.max(deadline.0);
                let (i, now) = (deadline.1, self.now(deadline.1));
                self.hosts[i].tick(now).unwrap();
                self.sync(i);
                self.carry_out(i);
            }
        }
    }

    /// Block sync, as if the peers answered at once.
    fn sync(&mut self, i: usize) {
        let now = self.now(i);
        let Some(wish) = self.hosts[i].take_wish(now) else { return };
        let best = (0..4).max_by_key(|p| self.chains[*p].len()).unwrap();
        let missing: Vec<_> = self.chains[best].iter().skip(usize::try_from(wish.from).unwrap() - 1).cloned().collect();
        for sealed in &missing {
            self.hosts[i].check_sealed(sealed).unwrap();
            self.chains[i].push(sealed.clone());
            self.disks[i].0.clear();
            self.hosts[i].apply(sealed, now).unwrap();
        }
        self.hosts[i].fetched(!missing.is_empty(), now);
    }

    /// Heads are announced here by word of mouth.
    fn gossip_heads(&mut self) {
        let heights: Vec<u64> = self.chains.iter().map(|c| c.len() as u64).collect();
        let top = heights.iter().copied().max().unwrap();
        for i in 0..4 {
            let now = self.now(i);
            self.hosts[i].head(self.configs[0].key.public(), top, now);
        }
    }

    /// A crash between two events: memory is lost, the disk is not.
    fn restart(&mut self, i: usize) {
        self.hosts[i] = self.open(i);
        self.carry_out(i);
    }

    /// Steps with crashes at any event, whatever comes of it.
    fn suffer(&mut self, steps: u32) {
        for step in 0..steps {
            self.step();
            if step % 20 == 0 {
                self.gossip_heads();
            }
            if self.rng.random_range(0..100) < 2 {
                let i = self.rng.random_range(0..4);
                self.restart(i);
            }
        }
    }

    /// Steps until every chain has `heights` blocks, which must be the same.
    fn run(&mut self, heights: usize) {
        let until = self.up + 120_000;
        for step in 0u64.. {
            if self.chains.iter().all(|c| c.len() >= heights) {
                break;
            }
            assert!(self.up < until, "no progress: {:?}", self.chains.iter().map(Vec::len).collect::<Vec<_>>());
            self.step();
            if step % 20 == 0 {
                self.gossip_heads();
            }
        }
        for h in 0..heights {
            assert!(self.chains.iter().all(|c| c[h].block == self.chains[0][h].block), "a fork at height {}", h + 1);
        }
    }
}

#[test]
fn a_quiet_network_decides_and_the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut sim = Sim::new(seed, 0, [0; 4]);
        sim.run(20);
        sim.trace.digest()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn loss_and_delay_alone_never_stop_the_chain(seed: u64, loss in 0..30u32) {
        Sim::new(seed, loss, [0; 4]).run(6);
    }

    #[test]
    fn loss_delay_and_crashes_make_no_fork_and_no_double_vote_and_healed_hosts_go_on(seed: u64, loss in 0..30u32) {
        let mut sim = Sim::new(seed, loss, [0; 4]);
        sim.suffer(1_500);
        sim.loss = 0;
        let top = sim.chains.iter().map(Vec::len).max().unwrap_or(0);
        sim.run(top + 3);
    }
}

#[test]
fn a_block_from_a_clock_too_far_ahead_gets_nil_and_the_next_proposer_is_heard() {
    // It is node 1's turn at height 1, round 0.
    let mut sim = Sim::new(3, 0, [0, CLOCK_SKEW_MS + 60_000, 0, 0]);
    sim.run(1);
    let (fast, honest) = (sim.configs[1].key.public(), sim.configs[2].key.public());
    assert_eq!(sim.signed.get(&(honest, 1, 0, 1)), Some(&None), "an honest signer prevoted a block from the future");
    assert!(sim.signed.contains_key(&(fast, 1, 0, 0)), "the fast clock's owner proposed nothing");
    assert!(sim.chains[0][0].certificate.round > 0);
}
