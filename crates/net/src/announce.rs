//! What is due to be published again: own records and provider keys every ten minutes and shortly after a peer joined,
//! and records of others that nobody renewed, so that they outlive their publisher's absence. Bounded by what is held.

use std::{
    collections::{HashSet, VecDeque},
    num::NonZeroUsize,
    time::Instant,
};

use libp2p::kad::{self, QueryId, Quorum, RecordKey, store::RecordStore as _};

use zero2ai_proto::keys::random_bytes;

use crate::{
    config::{ANNOUNCE_AFTER_JOIN, ANNOUNCE_EVERY, ANNOUNCE_JITTER, ANNOUNCING, REPLICATION},
    records::Shelf,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Record([u8; 32]),
    Provider([u8; 32]),
}

/// The announcer of one node, driven by the driver's tick.
pub(crate) struct Announcer {
    jobs: VecDeque<Job>,
    running: HashSet<QueryId>,
    /// Next round of everything.
    full: Instant,
    /// Next round of what is our own, after a join.
    joined: Option<Instant>,
}

impl Announcer {
    pub(crate) fn new(now: Instant) -> Self {
        Self { jobs: VecDeque::new(), running: HashSet::new(), full: next_round(now), joined: None }
    }

    /// A peer joined, and is one of so many. Several in a row cause one round, after the first of them has settled. Once there are
    /// enough of them for every copy, one more changes little, and in a large pool somebody comes all the time.
    pub(crate) fn peer_joined(&mut self, peers: usize, now: Instant) {
        if peers <= 2 * REPLICATION {
            self.joined.get_or_insert(now + ANNOUNCE_AFTER_JOIN);
        }
    }

    /// A query ended. True if it was one of these.
    pub(crate) fn ended(&mut self, id: &QueryId) -> bool {
        self.running.remove(id)
    }

    /// Starts what is due, a few queries at a time.
    pub(crate) fn run(&mut self, kad: &mut kad::Behaviour<Shelf>, now: Instant) {
        if now >= self.full {
            self.full = next_round(now);
            self.joined = None;
            self.fill(kad, true);
        } else if self.joined.is_some_and(|at| now >= at) {
            self.joined = None;
            self.fill(kad, false);
        }
        while self.running.len() < ANNOUNCING {
            let Some(job) = self.jobs.pop_front() else { return };
            self.running.extend(start(kad, job));
        }
    }

    fn fill(&mut self, kad: &mut kad::Behaviour<Shelf>, foreign_too: bool) {
        let shelf = kad.store_mut();
        let records = shelf.to_announce(foreign_too.then_some(ANNOUNCE_EVERY)).into_iter().map(Job::Record);
        let providers = shelf.providers.own().map(Job::Provider);
        // A round that has not ended is taken up by the new one.
        self.jobs = records.chain(providers).collect();
    }
}

/// When the next round of everything begins.
fn next_round(now: Instant) -> Instant {
    now + ANNOUNCE_EVERY - ANNOUNCE_JITTER * u32::from(chance()) / 255
}

/// What spreads nodes that were started together. Without randomness from the system, 0: what is spread then happens when it must at
/// the latest.
pub(crate) fn chance() -> u8 {
    random_bytes::<1>().map_or(0, |[byte]| byte)
}

fn start(kad: &mut kad::Behaviour<Shelf>, job: Job) -> Option<QueryId> {
    match job {
        Job::Record(key) => {
            let key = RecordKey::new(&key);
            let mut record = kad.store_mut().get(&key)?.into_owned();
            record.publisher = None;
            // Any number of copies will do; the query stores as many as it can.
            kad.put_record(record, Quorum::All).ok()
        }
        Job::Provider(key) => kad.start_providing(RecordKey::new(&key)).ok(),
    }
}

/// The quorum for a number of wanted copies.
pub(crate) fn quorum(wanted: usize) -> Quorum {
    NonZeroUsize::new(wanted).map_or(Quorum::One, Quorum::N)
}
