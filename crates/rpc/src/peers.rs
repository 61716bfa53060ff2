//! A bounded cache of connections by identity: dials when needed, once for all who wait, and forgets what is closed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, select_ok},
};
use tokio::time::Instant;
use zero2ai_proto::{NodeId, record::Address};

use crate::{
    endpoint::Endpoint,
    error::ConnectError,
    peer::Peer,
    tuning::{CACHED_PEERS, DIALS, HANDSHAKE},
};

type Dial = Shared<BoxFuture<'static, Result<Peer, ConnectError>>>;

/// Connections of one endpoint. At most [`CACHED_PEERS`] are kept; the least recently used goes, and closes when its last
/// user is done.
#[derive(Debug)]
pub struct Peers {
    endpoint: Endpoint,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_node: HashMap<NodeId, Slot>,
    /// Counts uses, to tell which slot was used last.
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    dial: Dial,
    /// When the dial was made.
    begun: Instant,
    used: u64,
}

impl Slot {
    /// True if using it again makes no sense: the dial failed or is over its time, or the connection is closed. A dial
    /// whose waiters have all gone stands still; the next one would be told of its time, long past.
    fn is_dead(&self) -> bool {
        match self.dial.peek() {
            None => self.begun.elapsed() >= HANDSHAKE,
            Some(Ok(peer)) => peer.is_closed(),
            Some(Err(_)) => true,
        }
    }
}

impl Peers {
    /// An empty cache over `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, slots: Mutex::default() }
    }

    /// The endpoint that dials.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A connection to `node`: the open one, or a new one to whichever of the first [`DIALS`] addresses answers first.
    /// Callers that ask at the same time wait for the same dial, and share its error; a failure is not remembered.
    ///
    /// # Errors
    /// No address, or the dial failed at every one: the last failure.
    pub async fn get(&self, node: NodeId, addresses: &[Address]) -> Result<Peer, ConnectError> {
        self.slot(node, addresses).await
    }

    /// The open connection to `node`, if there is one; a use like [`Peers::get`].
    #[must_use]
    pub fn open(&self, node: &NodeId) -> Option<Peer> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        let used = slots.clock;
        let slot = slots.by_node.get_mut(node)?;
        let peer = slot.dial.peek()?.clone().ok().filter(|peer| !peer.is_closed())?;
        slot.used = used;
        Some(peer)
    }

    /// Every open connection, in no order. To look is no use of it: while a result lives, its connection stays open.
    #[must_use]
    pub fn connected(&self) -> Vec<Peer> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |slot: &Slot| slot.dial.peek()?.clone().ok().filter(|peer| !peer.is_closed());
        slots.by_node.values().filter_map(open).collect()
    }

    /// Forgets `node`, so that the next use dials afresh.
    pub fn forget(&self, node: &NodeId) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).by_node.remove(node);
    }

    fn slot(&self, node: NodeId, addresses: &[Address]) -> Dial {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        let used = slots.clock;
        if let Some(slot) = slots.by_node.get_mut(&node).filter(|slot| !slot.is_dead()) {
            slot.used = used;
            return slot.dial.clone();
        }
        if slots.by_node.len() >= CACHED_PEERS {
            slots.by_node.retain(|_, slot| !slot.is_dead());
        }
        if slots.by_node.len() >= CACHED_PEERS
            && let Some(oldest) = slots.by_node.iter().min_by_key(|(_, slot)| slot.used).map(|(node, _)| *node)
        {
            slots.by_node.remove(&oldest);
        }
        let dial = dial(self.endpoint.clone(), node, addresses);
        slots.by_node.insert(node, Slot { dial: dial.clone(), begun: Instant::now(), used });
        dial
    }
}

fn dial(endpoint: Endpoint, node: NodeId, addresses: &[Address]) -> Dial {
    let sockets: Vec<_> = addresses.iter().filter_map(Address::rpc_socket).take(DIALS).collect();
    async move {
        if sockets.is_empty() {
            return Err(ConnectError::NoAddress { node });
        }
        let attempts = sockets.into_iter().map(|addr| {
            let endpoint = endpoint.clone();
            async move { endpoint.connect(addr, Some(node)).await }.boxed()
        });
        select_ok(attempts).await.map(|(peer, _)| peer)
    }
    .boxed()
    .shared()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::{net::Ipv4Addr, sync::Arc};

    use futures::future::pending;
    use tokio_util::sync::CancellationToken;
    use zero2ai_proto::{
        PoolId, SecretKey,
        pool::{Keyring, PoolKey},
        rpc::RpcError,
    };

    use super::*;
    use crate::{EndpointConfig, Handler, IncomingCall, ReplySink};

    struct Nothing;

    impl Handler for Nothing {
        fn admitted(&self, _: &NodeId) -> bool {
            true
        }
        fn call<'a>(&'a self, _: IncomingCall, _: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
            async { Ok(()) }.boxed()
        }
    }

    #[tokio::test]
    async fn a_dial_that_its_waiters_left_is_made_anew_after_its_time() {
        let pool_keys = Keyring::from(PoolKey::generate().unwrap());
        let endpoint = || {
            let (bind, key) = ((Ipv4Addr::LOCALHOST, 0).into(), SecretKey::generate().unwrap());
            Endpoint::bind(EndpointConfig { bind, key, pool: PoolId([1; 32]), pool_keys: pool_keys.clone() }).unwrap()
        };
        let server = endpoint();
        let (node, addresses) = (server.id(), [Address::Rpc(server.local_addr().to_string())]);
        tokio::spawn(async move { server.serve(Arc::new(Nothing), CancellationToken::new()).await });
        let peers = Peers::new(endpoint());
        let put = |begun| {
            let slot = Slot { dial: pending().boxed().shared(), begun, used: 0 };
            peers.slots.lock().unwrap().by_node.insert(node, slot);
        };
        put(Instant::now());
        assert!(peers.get(node, &addresses).now_or_never().is_none(), "a fresh dial is shared");
        put(Instant::now().checked_sub(HANDSHAKE).unwrap());
        let peer = tokio::time::timeout(HANDSHAKE, peers.get(node, &addresses)).await.unwrap().unwrap();
        assert_eq!(peer.id(), node);
    }
}
