//! How many calls are served at once: of one peer, and all together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use zero2ai_proto::NodeId;

use crate::tuning::{CALLS, CALLS_PER_PEER};

/// Counts calls in progress. Entries exist only for peers with a call in progress, so there are at most [`CALLS`].
#[derive(Debug, Default)]
pub(crate) struct Load {
    calls: Mutex<HashMap<NodeId, usize>>,
}

/// A place for one call, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    load: Arc<Load>,
    peer: NodeId,
}

impl Load {
    /// A place for a call of `peer`, unless it or all together have their share.
    pub(crate) fn enter(self: &Arc<Self>, peer: NodeId) -> Option<Place> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = calls.values().sum();
        let own = calls.get(&peer).copied().unwrap_or(0);
        if all >= CALLS || own >= CALLS_PER_PEER {
            return None;
        }
        calls.insert(peer, own + 1);
        Some(Place { load: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.load.calls.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                calls.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_peer_and_all_together_are_bounded_and_places_come_back() {
        let load = Arc::new(Load::default());
        let peer = |n: u8| zero2ai_proto::PublicKey([n; 32]);
        let mut places: Vec<_> = (0..CALLS_PER_PEER).map(|_| load.enter(peer(0)).unwrap()).collect();
        assert!(load.enter(peer(0)).is_none(), "a peer has its share");
        let others = u8::try_from(CALLS / CALLS_PER_PEER).unwrap();
        for n in 1..others {
            places.extend((0..CALLS_PER_PEER).map(|_| load.enter(peer(n)).unwrap()));
        }
        assert!(load.enter(peer(others)).is_none(), "all together have theirs");
        places.pop();
        assert!(load.enter(peer(others)).is_some());
        drop(places);
        assert!(load.calls.lock().unwrap().is_empty(), "no entry outlives its calls");
    }
}
