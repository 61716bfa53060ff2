//! DHT questions under way: which caller waits for which query, and when an answer is good enough.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use libp2p::kad::{
    GetProvidersOk, GetRecordOk, PutRecordError, QueryId, QueryResult, Record, RecordKey, store::RecordStore as _,
};
use tokio::time::Instant;
use zero2ai_proto::NodeId;

use crate::{
    config::{PROVIDERS_FOUND, QUERIES, SETTLE},
    error::NetError,
    handle::Reply,
    identity::node_id,
    judge::Judge,
    records::{Shelf, key_of, life_left},
};

/// A caller and what was found for him so far.
enum Waiting {
    Put { wanted: usize, reply: Reply<usize> },
    Get { key: [u8; 32], best: Option<(u64, Vec<u8>)>, reply: Reply<Option<Vec<u8>>> },
    Provide { reply: Reply<()> },
    Providers { key: [u8; 32], found: BTreeSet<NodeId>, reply: Reply<Vec<NodeId>> },
}

/// All callers that wait, at most 256.
#[derive(Default)]
pub(crate) struct Queries {
    waiting: HashMap<QueryId, Waiting>,
    /// Queries that have an answer, and when they are to be ended.
    settling: BTreeMap<(Instant, u64), QueryId>,
    counter: u64,
}

impl Queries {
    pub(crate) fn room(&self) -> Result<(), NetError> {
        if self.waiting.len() >= QUERIES { Err(NetError::Busy { limit: QUERIES }) } else { Ok(()) }
    }

    pub(crate) fn put(&mut self, id: QueryId, wanted: usize, reply: Reply<usize>) {
        self.waiting.insert(id, Waiting::Put { wanted, reply });
    }

    pub(crate) fn get(&mut self, id: QueryId, key: [u8; 32], reply: Reply<Option<Vec<u8>>>) {
        self.waiting.insert(id, Waiting::Get { key, best: None, reply });
    }

    pub(crate) fn provide(&mut self, id: QueryId, reply: Reply<()>) {
        self.waiting.insert(id, Waiting::Provide { reply });
    }

    pub(crate) fn providers(&mut self, id: QueryId, key: [u8; 32], reply: Reply<Vec<NodeId>>) {
        self.waiting.insert(id, Waiting::Providers { key, found: BTreeSet::new(), reply });
    }

    /// When the next query has settled.
    pub(crate) fn next_settled(&self) -> Option<Instant> {
        self.settling.keys().next().map(|(at, _)| *at)
    }

    /// Queries whose answers are good enough by now, with their callers answered: the driver ends them.
    pub(crate) fn settled(&mut self, now: Instant, shelf: &mut Shelf) -> Vec<QueryId> {
        let mut done = Vec::new();
        while let Some(entry) = self.settling.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let id = entry.remove();
            if let Some(waiting) = self.waiting.remove(&id) {
                finish(waiting, shelf);
                done.push(id);
            }
        }
        done
    }

    /// Queries whose callers have gone.
    pub(crate) fn abandoned(&mut self) -> Vec<QueryId> {
        let gone = |waiting: &Waiting| match waiting {
            Waiting::Get { reply, .. } => reply.is_closed(),
            Waiting::Providers { reply, .. } => reply.is_closed(),
            // These two do something that goes on without its caller.
            Waiting::Put { .. } | Waiting::Provide { .. } => false,
        };
        let ids: Vec<_> = self.waiting.iter().filter(|(_, waiting)| gone(waiting)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.waiting.remove(id);
        }
        ids
    }

    /// Takes Kademlia's progress on a query. `last`: nothing more will come.
    pub(crate) fn progress(
        &mut self,
        id: QueryId,
        result: QueryResult,
        last: bool,
        judge: &dyn Judge,
        shelf: &mut Shelf,
    ) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        let mut first = false;
        let mut copies = None;
        match (&mut *waiting, result) {
            (Waiting::Get { key, best, .. }, QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found)))) => {
                let had = best.is_some();
                better(key, best, found.record, judge);
                first = !had && best.is_some();
            }
            (
                Waiting::Providers { key, found, .. },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                let had = !found.is_empty();
                let nodes = providers.iter().filter_map(node_id);
                for node in nodes.filter(|node| judge.provider(key, node)) {
                    if found.len() < PROVIDERS_FOUND {
                        found.insert(node);
                    }
                }
                first = !had && !found.is_empty();
            }
            (Waiting::Put { wanted, .. }, QueryResult::PutRecord(result)) => {
                copies = Some(match result {
                    Ok(_) => *wanted,
                    Err(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => {
                        success.len()
                    }
                });
            }
            _ => {}
        }
        if last {
            match (self.waiting.remove(&id), copies) {
                (Some(Waiting::Put { reply, .. }), copies) => drop(reply.send(Ok(copies.unwrap_or(0)))),
                (Some(waiting), _) => finish(waiting, shelf),
                (None, _) => {}
            }
        } else if first {
            // Others may still better the first answer for a moment.
            self.counter = self.counter.wrapping_add(1);
            self.settling.insert((Instant::now() + SETTLE, self.counter), id);
        }
    }
}

/// Keeps `record` if it is valid at `key` and newer than the best so far.
fn better(key: &[u8; 32], best: &mut Option<(u64, Vec<u8>)>, record: Record, judge: &dyn Judge) {
    if key_of(&record.key).as_ref() != Some(key) {
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
        Waiting::Put { reply, .. } => drop(reply.send(Ok(0))),
        Waiting::Get { key, best, reply } => {
            let value = best.map(|(_, value)| value);
            heal(&key, value.as_deref(), shelf);
            drop(reply.send(Ok(value)));
        }
        Waiting::Provide { reply } => drop(reply.send(Ok(()))),
        Waiting::Providers { found, reply, .. } => drop(reply.send(Ok(found.into_iter().collect()))),
    }
}

/// A node that holds an older version at this key takes the better one it has just seen.
fn heal(key: &[u8; 32], value: Option<&[u8]>, shelf: &mut Shelf) {
    let wire = RecordKey::new(key);
    let stale = |value: &[u8]| shelf.get(&wire).is_some_and(|held| held.value != value);
    if let Some(value) = value.filter(|value| stale(value))
        && let Err(refusal) = shelf.take(Record::new(wire, value.to_vec()))
    {
        tracing::debug!(%refusal, "a better record was found but not taken");
    }
}
