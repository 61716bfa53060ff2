//! Where members can be reached, as they gossip it themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use zero2ai_proto::{NodeId, pool::Bootstrap, record::Address};

/// Members remembered; beyond that the one heard of longest ago goes.
const MEMBERS: usize = 4_096;
/// After this long without a word a member counts as away, milliseconds: several announcements are missed by then.
const AWAY_MS: u64 = 15_000;

/// What is known of one member.
#[derive(Clone, Debug)]
struct Seen {
    addresses: Vec<Address>,
    at_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    members: Mutex<BTreeMap<NodeId, Seen>>,
}

impl Directory {
    /// Starts with the nodes that we joined by, as if heard of long ago.
    pub(crate) fn new(bootstrap: &[Bootstrap]) -> Self {
        let members = bootstrap.iter().map(|b| (b.node, Seen { addresses: b.addresses.clone(), at_ms: 0 })).collect();
        Self { members: Mutex::new(members) }
    }

    /// Takes a member's own word.
    pub(crate) fn heard(&self, node: NodeId, addresses: Vec<Address>, now_ms: u64) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.insert(node, Seen { addresses, at_ms: now_ms });
        while members.len() > MEMBERS {
            let Some(oldest) = members.iter().min_by_key(|(_, s)| s.at_ms).map(|(n, _)| *n) else { break };
            members.remove(&oldest);
        }
    }

    /// Where `node` can be reached, if anyone ever said.
    pub(crate) fn addresses(&self, node: &NodeId) -> Option<Vec<Address>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(node).map(|s| s.addresses.clone())
    }

    /// When `node` was last heard of, milliseconds since 1970 UTC; `None` if it never was since this node started.
    pub(crate) fn heard_at(&self, node: &NodeId) -> Option<u64> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(node).map(|s| s.at_ms).filter(|at| *at > 0)
    }

    /// Members heard of lately and where they are, newest first, at most `most`.
    pub(crate) fn heard_lately(&self, now_ms: u64, most: usize) -> Vec<Bootstrap> {
        let mut list = self.present(now_ms);
        list.truncate(most);
        let place = |node: NodeId| Some(Bootstrap { node, addresses: self.addresses(&node)? });
        list.into_iter().filter_map(place).collect()
    }

    /// Every member whose address is known, heard of or not: for a node that just started and has heard of nobody yet.
    pub(crate) fn known(&self) -> Vec<NodeId> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Members heard of lately, newest first.
    pub(crate) fn present(&self, now_ms: u64) -> Vec<NodeId> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<(u64, NodeId)> = members.iter().map(|(n, s)| (s.at_ms, *n)).collect();
        list.retain(|(at, _)| now_ms.saturating_sub(*at) < AWAY_MS);
        list.sort_by(|a, b| b.cmp(a));
        list.into_iter().map(|(_, n)| n).collect()
    }
}
