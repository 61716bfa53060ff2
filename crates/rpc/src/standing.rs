//! What a caller is to this node, and what that allows it. Whoever holds the pool key can prove it under any number of
//! identities: only the ledger tells who is one of us, so members and strangers never compete for the same places.

use std::{sync::Arc, time::Duration};

use zero2ai_proto::{NodeId, limits::FRAME_BYTES};

use crate::{
    load::{Load, Place},
    origin::Origin,
    tuning::{
        CALL, CALLS, CALLS_PER_PEER, CONNECTIONS, CONNECTIONS_PER_PEER, OWN_CONNECTIONS, STRANGER_CALLS,
        STRANGER_CONNECTIONS, STRANGER_FRAME, STRANGER_SHARE, UNPROVEN, WRITE,
    },
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The node's own identity: the command line on its machine.
    Own,
    /// Admitted on the ledger.
    Member,
    /// Holds the pool key, no more.
    Stranger,
}

/// Bounds of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallBounds {
    /// Bytes of its request.
    pub(crate) frame: usize,
    /// Time for all of it; `None` for the node's own identity, which may wait for days of downloads.
    pub(crate) whole: Option<Duration>,
    /// Time for each frame of the answer to be taken.
    pub(crate) write: Duration,
}

impl Standing {
    pub(crate) fn bounds(self) -> CallBounds {
        CallBounds {
            frame: if self == Self::Stranger { STRANGER_FRAME } else { FRAME_BYTES },
            whole: (self != Self::Own).then_some(CALL),
            write: WRITE,
        }
    }
}

/// Places for proven connections and for their calls.
#[derive(Debug)]
pub(crate) struct Rooms {
    connections: Arc<Load<NodeId>>,
    calls: Arc<Load<NodeId>>,
    stranger_connections: Arc<Load<NodeId>>,
    stranger_calls: Arc<Load<NodeId>>,
}

impl Rooms {
    pub(crate) fn new() -> Self {
        Self {
            connections: Load::new(CONNECTIONS),
            calls: Load::new(CALLS),
            stranger_connections: Load::new(STRANGER_CONNECTIONS),
            stranger_calls: Load::new(STRANGER_CALLS),
        }
    }

    /// A place for one more connection of `peer`.
    pub(crate) fn connection(&self, peer: NodeId, standing: Standing) -> Option<Place<NodeId>> {
        match standing {
            Standing::Own => self.connections.enter(peer, OWN_CONNECTIONS),
            Standing::Member => self.connections.enter(peer, CONNECTIONS_PER_PEER),
            Standing::Stranger => self.stranger_connections.enter(peer, STRANGER_SHARE),
        }
    }

    /// A place for one more call of `peer`.
    pub(crate) fn call(&self, peer: NodeId, standing: Standing) -> Option<Place<NodeId>> {
        match standing {
            Standing::Own | Standing::Member => self.calls.enter(peer, CALLS_PER_PEER),
            Standing::Stranger => self.stranger_calls.enter(peer, STRANGER_SHARE),
        }
    }
}

/// Places for connections that have proven nothing yet, counted by where they come from.
pub(crate) fn unproven() -> Arc<Load<Origin>> {
    Load::new(UNPROVEN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn peer(n: usize) -> NodeId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        zero2ai_proto::PublicKey(key)
    }

    #[test]
    fn strangers_of_any_number_leave_the_members_their_places() {
        let rooms = Rooms::new();
        let strangers = (0..2 * CONNECTIONS).flat_map(|n| rooms.connection(peer(n), Standing::Stranger));
        let connections: Vec<_> = strangers.collect();
        assert_eq!(connections.len(), STRANGER_CONNECTIONS);
        let calls: Vec<_> = (0..2 * CALLS).flat_map(|n| rooms.call(peer(n), Standing::Stranger)).collect();
        assert_eq!(calls.len(), STRANGER_CALLS);
        assert!(
            rooms.connection(peer(0), Standing::Member).is_some() && rooms.call(peer(0), Standing::Member).is_some()
        );
    }
}
