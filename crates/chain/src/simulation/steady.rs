//! Signers on a network where every message takes the same time and none is lost: how long blocks take in simulated time. Some of
//! the signers may be dead from the beginning; nobody is hostile.

use std::collections::BTreeMap;

use zero2ai_proto::{
    PoolId, SecretKey, Signed,
    consensus::TxGossip,
    encode,
    limits::BLOCKS,
    state::Rights,
    tx::{SetRights, Tx, TxBody},
};

use super::{node::Node, pool_of, signer_keys};
use crate::{ChainTopic, error::ChainError, machine::Event};

/// Blocks before the first that counts: until every signer has begun.
const WARM: usize = 2;
/// Steps of machines that one run may take: a chain that stands still ends there.
const STEPS: u64 = 50_000_000;

/// What to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// Signers, 1 to 100.
    pub signers: u8,
    /// How many of them never say anything; less than a third, or no block comes.
    pub dead: u8,
    /// How long a message takes from any to any other, milliseconds.
    pub one_way_ms: u64,
    /// Blocks that count, at least 1.
    pub blocks: usize,
}

/// How long blocks took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// All that counted, simulated milliseconds.
    pub all_ms: u64,
    /// The slowest of them, simulated milliseconds.
    pub most_ms: u64,
    /// How many counted.
    pub blocks: u64,
}

/// Simulates until the blocks are made. A transaction waits at every signer all the time, so that no block is waited with; every
/// second block is the one that proves its state.
///
/// # Errors
/// The signers are none or too many, a machine failed, or no block comes any more.
pub fn steady(plan: Steady) -> Result<Took, ChainError> {
    let mut sim = Sim::new(plan)?;
    let target = plan.blocks.max(1).saturating_add(WARM);
    for _ in 0..STEPS {
        if sim.times.len() >= target {
            return Ok(sim.took(target));
        }
        sim.step()?;
    }
    Err(ChainError::Worker(format!("the simulated chain stands still at height {}", sim.times.len())))
}

struct Sim {
    plan: Steady,
    pool: PoolId,
    admin: SecretKey,
    /// Those that live.
    nodes: Vec<Node>,
    /// What arrives, by when and where.
    queue: BTreeMap<(u64, usize), Vec<Event>>,
    /// The administrator's transactions, by nonce.
    txs: Vec<Vec<u8>>,
    /// When the first node had each height, from 1.
    times: Vec<u64>,
}

impl Sim {
    fn new(plan: Steady) -> Result<Self, ChainError> {
        let keys = signer_keys(plan.signers);
        let (genesis, pool) = pool_of(&keys)?;
        let admin = keys[0].clone();
        let alive = keys.len().saturating_sub(usize::from(plan.dead)).max(1);
        let nodes = keys.into_iter().take(alive).map(|key| Node::new(key, genesis.clone(), true, 0, 0));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let mut sim = Self { plan, pool, admin, nodes, queue: BTreeMap::new(), txs: Vec::new(), times: Vec::new() };
        for nth in 0..sim.nodes.len() {
            sim.submit(0, nth)?;
        }
        Ok(sim)
    }

    fn took(&self, target: usize) -> Took {
        let counted = &self.times[WARM - 1..target];
        let gaps = counted.windows(2).map(|pair| pair[1] - pair[0]);
        let all_ms = counted.last().zip(counted.first()).map_or(0, |(last, first)| last - first);
        Took { all_ms, most_ms: gaps.max().unwrap_or(0), blocks: (counted.len() as u64).saturating_sub(1) }
    }

    /// Whatever comes next: messages for one node, or its deadline.
    fn step(&mut self) -> Result<(), ChainError> {
        let message = self.queue.first_key_value().map(|(at, _)| *at);
        let due = self.nodes.iter().map(Node::due).zip(0..).min();
        let Some((now, nth)) = message.into_iter().chain(due).min() else {
            return Err(ChainError::Worker("nobody lives".into()));
        };
        let events = self.queue.remove(&(now, nth)).unwrap_or_default();
        let node = &mut self.nodes[nth];
        let before = node.height();
        let done = node.step(events, None, now)?;
        let (after, author) = (node.height(), node.key.public());
        let late = now.saturating_add(self.plan.one_way_ms);
        for to in (0..self.nodes.len()).filter(|to| *to != nth) {
            let heard = done.sends.iter().map(|(topic, data)| Event::Gossip {
                topic: *topic,
                from: author,
                data: data.clone(),
            });
            let heard: Vec<_> = heard.collect();
            if !heard.is_empty() {
                self.queue.entry((late, to)).or_default().extend(heard);
            }
        }
        if let Some(wish) = done.wish {
            let source = self.nodes.iter().find(|n| n.key.public() == wish.hint);
            let from = usize::try_from(wish.from.saturating_sub(1)).unwrap_or(usize::MAX);
            let blocks = source.map(|n| n.blocks().iter().skip(from).take(BLOCKS).cloned().collect());
            let answer = Event::Fetched(blocks.ok_or_else(|| "nobody there".to_owned()));
            self.queue.entry((late.saturating_add(self.plan.one_way_ms), nth)).or_default().push(answer);
        }
        if after > before {
            self.submit(now, nth)?;
        }
        if nth == 0 {
            self.times.resize(after, now);
        }
        Ok(())
    }

    /// The next transaction reaches node `nth` at once.
    fn submit(&mut self, now: u64, nth: usize) -> Result<(), ChainError> {
        let admin = self.admin.public();
        let nonce = self.nodes[nth].next_nonce(&admin);
        let place = usize::try_from(nonce).unwrap_or(usize::MAX);
        while self.txs.len() <= place {
            let rights = Rights((1 << Rights::NAMES.len()) - 1);
            let body = TxBody::SetRights(SetRights { member: admin, rights });
            let tx = Signed::sign(&Tx { nonce: self.txs.len() as u64, body }, &self.pool, &self.admin)?;
            self.txs.push(encode(&TxGossip { repeat: 0, tx })?);
        }
        let event = Event::Gossip { topic: ChainTopic::Tx, from: admin, data: self.txs[place].clone() };
        self.queue.entry((now, nth)).or_default().push(event);
        Ok(())
    }
}
