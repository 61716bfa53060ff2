//! Which endpoint a call goes to: what is known of each at this moment, and who was used last.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use zero2ai_placement::{Candidate, choose, costs, stay_or_move};
use zero2ai_proto::{ModelName, NodeId, calls::Pong, keys::random_bytes, rpc::Load};
use zero2ai_rpc::Peer;

use crate::{client::Client, resolve::ResolvedEndpoint};

/// How long it is believed how busy a node said it was. Longer, and a node that was busy once is shunned after it is idle; shorter,
/// and a caller falls on a busy one again and again.
const LOAD: Duration = Duration::from_secs(2);
/// Versions of which it is remembered who was used last. When full, all are forgotten: callers choose anew.
const VERSIONS: usize = 256;

/// Who answered last, by version.
#[derive(Debug, Default)]
pub(crate) struct Used {
    last: Mutex<HashMap<(ModelName, u32), NodeId>>,
}

impl Used {
    /// `node` answered for this version.
    pub(crate) fn answered(&self, name: &ModelName, version: u32, node: NodeId) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= VERSIONS {
            last.clear();
        }
        last.insert((name.clone(), version), node);
    }

    fn last(&self, name: &ModelName, version: u32) -> Option<NodeId> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(&(name.clone(), version)).copied()
    }
}

/// Keeps what a ping said of its node's load.
pub(crate) fn note(peer: &Peer, pong: &Pong) {
    peer.note_load(Load { queue: pong.queue, queue_us: pong.queue_us });
}

impl Client {
    /// What is known of an endpoint now. Of an open connection that is QUIC's own estimate of the round trip, renewed with
    /// every packet (RFC 9002, section 5.3), and how busy the node said it was with its last answer.
    pub(crate) fn candidate(&self, endpoint: &ResolvedEndpoint) -> Candidate {
        let node = endpoint.node;
        // Those that are left out are in no answer.
        let extra_us = endpoint.extra_us(&self.wishes()).unwrap_or(u64::MAX);
        let Some(peer) = self.inner.peers.open(&node) else {
            return Candidate { node, rtt: endpoint.rtt, queue_us: 0, extra_us };
        };
        let told = peer.load().filter(|(_, at)| at.elapsed() < LOAD);
        Candidate { node, rtt: Some(peer.rtt()), queue_us: told.map_or(0, |(load, _)| load.queue_us), extra_us }
    }

    /// Puts the endpoint to use first: of those that did not fail lately, the one that was used last while that is about as
    /// good as any, else one of the best.
    pub(crate) fn put_first(&self, name: &ModelName, version: u32, endpoints: &mut [ResolvedEndpoint]) {
        let well = self.well(endpoints.iter());
        let candidates: Vec<Candidate> = well.iter().map(|&i| self.candidate(&endpoints[i])).collect();
        let random = random_bytes().map_or(0, u64::from_le_bytes);
        if let Some(first) = choose(&candidates, self.inner.used.last(name, version), random) {
            endpoints[..=well[first]].rotate_right(1);
        }
    }

    /// Puts a better endpoint before the first one if that became clearly worse since they were ranked.
    pub(crate) fn move_on(&self, endpoints: &mut [ResolvedEndpoint]) {
        let well = self.well(endpoints.iter());
        let candidates: Vec<Candidate> = well.iter().map(|&i| self.candidate(&endpoints[i])).collect();
        // Who has no connection was never reached, or not lately: nothing is known that would speak for it.
        let held = endpoints.first().map(|e| e.node);
        if let Some(first) = stay_or_move(&candidates, held) {
            endpoints[..=well[first]].rotate_right(1);
        }
    }

    /// The least that any of these but `node` costs, of those that did not fail lately, microseconds.
    pub(crate) fn best_other<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a ResolvedEndpoint>,
        node: &NodeId,
    ) -> Option<u128> {
        let others = endpoints.filter(|e| e.node != *node && !self.inner.health.is_benched(&e.node));
        let candidates: Vec<Candidate> = others.map(|e| self.candidate(e)).collect();
        costs(&candidates).into_iter().min()
    }

    /// Places of those that did not fail lately.
    fn well<'a>(&self, endpoints: impl Iterator<Item = &'a ResolvedEndpoint>) -> Vec<usize> {
        let well = endpoints.enumerate().filter(|(_, e)| !self.inner.health.is_benched(&e.node));
        well.map(|(i, _)| i).collect()
    }
}
