//! DHT questions under way: which caller waits for which queries, and when an answer is good enough. A question is one
//! query at each of its key's places. One for a record, which proves itself, asks at the first place alone, and at the others
//! if that takes long; one for providers, whom anyone could name, waits for two places.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use libp2p::kad::{
    GetProvidersOk, GetRecordOk, PutRecordError, QueryId, QueryResult, QueryStats, Record, RecordKey,
    store::RecordStore as _,
};
use tokio::time::Instant;
use zero2ai_proto::{
    NodeId,
    record::dht_key::{PLACES, places},
};

use crate::{
    config::{HEDGE, PROVIDERS_FOUND, PROVIDERS_SETTLE, QUERIES, SETTLE},
    error::NetError,
    handle::Reply,
    identity::node_id,
    judge::Judge,
    records::{Shelf, key_of, life_left},
};

/// Places of a key that must have named providers before that is the answer: who holds one of them may name its friends
/// alone, and nothing in what it says shows that.
const PLACES_TOLD: usize = 2;

/// What a caller waits for, and what was found for him so far.
enum Waiting {
    Put { wanted: usize, copies: usize, reply: Option<Reply<usize>> },
    Get { key: [u8; 32], best: Option<(u64, Vec<u8>)>, newest: bool, reply: Reply<Option<Vec<u8>>> },
    Provide { reply: Reply<()> },
    Providers { key: [u8; 32], found: BTreeSet<NodeId>, told: BTreeSet<[u8; 32]>, reply: Reply<Vec<NodeId>> },
}

/// A question and its queries.
struct Ask {
    waiting: Waiting,
    running: HashSet<QueryId>,
    /// Places where it was not asked yet.
    left: Vec<[u8; 32]>,
}

/// What a question looks for at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    Record,
    Providers,
}

/// What the driver is to do now.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Queries to begin, each for a question: see [`Queries::began`].
    pub(crate) begin: Vec<(u64, Search, [u8; 32])>,
    /// Queries whose callers were answered.
    pub(crate) end: Vec<QueryId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Ask at the places that are left.
    Hedge,
    /// The answer is good enough.
    Settle,
}

/// All callers that wait, at most 256.
#[derive(Default)]
pub(crate) struct Queries {
    asks: HashMap<u64, Ask>,
    of: HashMap<QueryId, u64>,
    timers: BTreeMap<(Instant, u64), (u64, Timer)>,
    counter: u64,
}

impl Queries {
    pub(crate) fn room(&self) -> Result<(), NetError> {
        if self.asks.len() >= QUERIES { Err(NetError::Busy { limit: QUERIES }) } else { Ok(()) }
    }

    pub(crate) fn put(&mut self, ids: Vec<QueryId>, wanted: usize, reply: Reply<usize>) {
        self.running(ids, Waiting::Put { wanted, copies: 0, reply: Some(reply) });
    }

    pub(crate) fn provide(&mut self, ids: Vec<QueryId>, reply: Reply<()>) {
        self.running(ids, Waiting::Provide { reply });
    }

    /// A question for a record: the `newest` that any place has, or a good one soon.
    pub(crate) fn get(&mut self, key: [u8; 32], newest: bool, reply: Reply<Option<Vec<u8>>>) {
        self.ask(&key, Waiting::Get { key, best: None, newest, reply });
    }

    pub(crate) fn providers(&mut self, key: [u8; 32], reply: Reply<Vec<NodeId>>) {
        self.ask(&key, Waiting::Providers { key, found: BTreeSet::new(), told: BTreeSet::new(), reply });
    }

    fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        self.counter
    }

    fn running(&mut self, ids: Vec<QueryId>, waiting: Waiting) {
        let ask = self.next();
        self.of.extend(ids.iter().map(|id| (*id, ask)));
        self.asks.insert(ask, Ask { waiting, running: ids.into_iter().collect(), left: Vec::new() });
    }

    /// Due at once: the driver begins it with its next turn.
    fn ask(&mut self, key: &[u8; 32], waiting: Waiting) {
        let ask = self.next();
        let left = places(key).into_iter().rev().collect();
        self.asks.insert(ask, Ask { waiting, running: HashSet::new(), left });
        self.timer(ask, Instant::now(), Timer::Hedge);
    }

    fn timer(&mut self, ask: u64, at: Instant, timer: Timer) {
        let number = self.next();
        self.timers.insert((at, number), (ask, timer));
    }

    /// When something is due next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// What is due by now; callers whose answers are good enough are answered.
    pub(crate) fn due(&mut self, now: Instant, shelf: &mut Shelf) -> Due {
        let mut due = Due::default();
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                (ask, Timer::Hedge) => self.hedge(ask, now, &mut due),
                (ask, Timer::Settle) => due.end.extend(self.close(ask, shelf)),
            }
        }
        due
    }

    /// Asks at one more place, or, of those in no hurry or late, at all that are left.
    fn hedge(&mut self, number: u64, now: Instant, due: &mut Due) {
        let Some(ask) = self.asks.get_mut(&number) else { return };
        let (search, all) = match &ask.waiting {
            Waiting::Get { newest, best, .. } if *newest || best.is_none() => (Search::Record, *newest),
            Waiting::Providers { .. } => (Search::Providers, true),
            // It has an answer, which settles.
            _ => return,
        };
        let first = ask.left.len() == PLACES;
        let now_asked =
            if first && !all { ask.left.pop().into_iter().collect() } else { std::mem::take(&mut ask.left) };
        due.begin.extend(now_asked.into_iter().map(|place| (number, search, place)));
        if first && !all {
            self.timer(number, now + HEDGE, Timer::Hedge);
        }
    }

    /// Notes a query that the driver began for a question.
    pub(crate) fn began(&mut self, ask: u64, id: QueryId) {
        if let Some(entry) = self.asks.get_mut(&ask) {
            entry.running.insert(id);
            self.of.insert(id, ask);
        }
    }

    /// Answers a question's caller. Returns the queries that need not go on.
    fn close(&mut self, ask: u64, shelf: &mut Shelf) -> Vec<QueryId> {
        let Some(Ask { waiting, running, .. }) = self.asks.remove(&ask) else { return Vec::new() };
        for id in &running {
            self.of.remove(id);
        }
        finish(waiting, shelf);
        running.into_iter().collect()
    }

    /// Queries whose callers have gone.
    pub(crate) fn abandoned(&mut self) -> Vec<QueryId> {
        let gone = |ask: &Ask| match &ask.waiting {
            Waiting::Get { reply, .. } => reply.is_closed(),
            Waiting::Providers { reply, .. } => reply.is_closed(),
            // These two do something that goes on without its caller.
            Waiting::Put { .. } | Waiting::Provide { .. } => false,
        };
        let asks: Vec<_> = self.asks.iter().filter(|(_, ask)| gone(ask)).map(|(number, _)| *number).collect();
        let running = asks.iter().filter_map(|ask| self.asks.remove(ask)).flat_map(|ask| ask.running);
        let ids: Vec<_> = running.collect();
        for id in &ids {
            self.of.remove(id);
        }
        ids
    }

    /// Takes Kademlia's progress on a query. `last`: nothing more will come of it.
    pub(crate) fn progress(
        &mut self,
        id: QueryId,
        (result, stats): (QueryResult, &QueryStats),
        last: bool,
        judge: &dyn Judge,
        shelf: &mut Shelf,
    ) {
        let Some(number) = self.of.get(&id).copied() else { return };
        let Some(ask) = self.asks.get_mut(&number) else { return };
        tracing::trace!(requests = stats.num_requests(), failed = stats.num_failures(), last, "a DHT query goes on");
        let settles = take(&mut ask.waiting, result, judge);
        if last {
            self.of.remove(&id);
            ask.running.remove(&id);
            if ask.running.is_empty() {
                if ask.left.is_empty() || ask.waiting.answered() {
                    self.close(number, shelf);
                } else {
                    self.timer(number, Instant::now(), Timer::Hedge);
                }
                return;
            }
        }
        if let Some(pause) = settles {
            self.timer(number, Instant::now() + pause, Timer::Settle);
        }
    }
}

impl Waiting {
    /// True if its caller can be given something.
    fn answered(&self) -> bool {
        match self {
            Self::Get { best, newest, .. } => best.is_some() && !newest,
            Self::Providers { told, .. } => told.len() >= PLACES_TOLD,
            Self::Put { .. } | Self::Provide { .. } => true,
        }
    }
}

/// Adds what a query found. If that was the first that its caller can be given: after which pause he is.
fn take(waiting: &mut Waiting, result: QueryResult, judge: &dyn Judge) -> Option<Duration> {
    match (waiting, result) {
        (Waiting::Get { key, best, newest, .. }, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found)))) => {
            let had = best.is_some();
            better(key, best, found.record, judge);
            (!had && best.is_some() && !*newest).then_some(SETTLE)
        }
        (
            Waiting::Providers { key, found, told, .. },
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key: place, providers })),
        ) => {
            let had = told.len() >= PLACES_TOLD;
            for node in providers.iter().filter_map(node_id).filter(|node| judge.provider(key, node)) {
                told.extend(key_of(&place));
                if found.len() < PROVIDERS_FOUND {
                    found.insert(node);
                }
            }
            (!had && told.len() >= PLACES_TOLD).then_some(PROVIDERS_SETTLE)
        }
        (Waiting::Put { wanted, copies, reply }, QueryResult::PutRecord(result)) => {
            let stored = match result {
                Ok(_) => *wanted,
                Err(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => {
                    success.len()
                }
            };
            *copies = stored.max(*copies);
            if *copies >= *wanted
                && let Some(reply) = reply.take()
            {
                drop(reply.send(Ok(*copies)));
            }
            None
        }
        _ => None,
    }
}

/// Keeps `record` if it is valid at `key` and newer than the best so far.
fn better(key: &[u8; 32], best: &mut Option<(u64, Vec<u8>)>, record: Record, judge: &dyn Judge) {
    if !key_of(&record.key).is_some_and(|place| places(key).contains(&place)) {
        return;
    }
    match judge.record(key, &record.value) {
        Ok(facts) if life_left(&facts).is_some() => {
            if best.as_ref().is_none_or(|(seq, _)| facts.seq > *seq) {
                *best = Some((facts.seq, record.value));
            }
        }
        Ok(_) => {}
        Err(reason) => tracing::debug!(%reason, "a peer served an invalid record"),
    }
}

/// Answers a caller with what was found. A caller that has gone is no error.
fn finish(waiting: Waiting, shelf: &mut Shelf) {
    match waiting {
        Waiting::Put { copies, reply, .. } => {
            if let Some(reply) = reply {
                drop(reply.send(Ok(copies)));
            }
        }
        Waiting::Get { key, best, reply, .. } => {
            let value = best.map(|(_, value)| value);
            heal(&key, value.as_deref(), shelf);
            drop(reply.send(Ok(value)));
        }
        Waiting::Provide { reply } => drop(reply.send(Ok(()))),
        Waiting::Providers { found, reply, .. } => drop(reply.send(Ok(found.into_iter().collect()))),
    }
}

/// A node that holds an older version at one of this key's places takes the better one it has just seen.
fn heal(key: &[u8; 32], value: Option<&[u8]>, shelf: &mut Shelf) {
    let Some(value) = value else { return };
    for place in places(key) {
        let wire = RecordKey::new(&place);
        if shelf.get(&wire).is_some_and(|held| held.value != value)
            && let Err(refusal) = shelf.take(Record::new(wire, value.to_vec()))
        {
            tracing::debug!(%refusal, "a better record was found but not taken");
        }
    }
}
