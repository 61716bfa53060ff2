//! A bounded cache of connections by identity: dials when needed, once for all who wait, and forgets what is closed.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Either, Shared, select, select_ok},
};
use tokio::time::{Instant, timeout};
use zero2ai_proto::{NodeId, record::Address};

use crate::{
    endpoint::Endpoint,
    error::ConnectError,
    peer::Peer,
    tuning::{CACHED_PEERS, DETOUR, DETOURED, DIALS, HANDSHAKE, HEAD_START, SHORT_START},
};

type Dial = Shared<BoxFuture<'static, Result<Peer, ConnectError>>>;

/// A way to a node that does not answer at its addresses: found out only when it is needed, since that takes a question.
pub struct Detour {
    /// True if the node says itself that its addresses are of little use: then it is asked for soon.
    pub likely: bool,
    /// An address that leads there; `None` if there is none.
    pub address: BoxFuture<'static, Option<SocketAddr>>,
}

impl fmt::Debug for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detour").field("likely", &self.likely).finish_non_exhaustive()
    }
}

/// Nodes that were reached by a detour of late, and when: at most [`CACHED_PEERS`].
type Detoured = Arc<Mutex<HashMap<NodeId, Instant>>>;

/// Connections of one endpoint. At most [`CACHED_PEERS`] are kept; the least recently used goes, and closes when its last
/// user is done.
#[derive(Debug)]
pub struct Peers {
    endpoint: Endpoint,
    slots: Mutex<Slots>,
    detoured: Detoured,
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
    /// How long it may take.
    limit: Duration,
    used: u64,
}

impl Slot {
    /// True if using it again makes no sense: the dial failed or is over its time, or the connection is closed. A dial
    /// whose waiters have all gone stands still; the next one would be told of its time, long past.
    fn is_dead(&self) -> bool {
        match self.dial.peek() {
            None => self.begun.elapsed() >= self.limit,
            Some(Ok(peer)) => peer.is_closed(),
            Some(Err(_)) => true,
        }
    }
}

impl Peers {
    /// An empty cache over `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, slots: Mutex::default(), detoured: Detoured::default() }
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
        self.slot(node, addresses, None).await
    }

    /// The same; and if no address answers soon, the detour is asked for and dialled beside them, and the first to answer is
    /// taken. "Soon" is [`HEAD_START`], or [`SHORT_START`] for a node that was reached by a detour within [`DETOURED`].
    ///
    /// # Errors
    /// Neither answered: the failure of the addresses, or of the detour if there were none.
    pub async fn get_or(&self, node: NodeId, addresses: &[Address], detour: Detour) -> Result<Peer, ConnectError> {
        self.slot(node, addresses, Some(detour)).await
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

    fn slot(&self, node: NodeId, addresses: &[Address], detour: Option<Detour>) -> Dial {
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
        let limit = if detour.is_some() { HANDSHAKE + DETOUR } else { HANDSHAKE };
        let direct = direct(self.endpoint.clone(), node, addresses);
        let dial = match detour {
            None => direct.shared(),
            Some(detour) => {
                either(self.endpoint.clone(), node, direct, detour, Arc::clone(&self.detoured)).boxed().shared()
            }
        };
        slots.by_node.insert(node, Slot { dial: dial.clone(), begun: Instant::now(), limit, used });
        dial
    }
}

fn direct(endpoint: Endpoint, node: NodeId, addresses: &[Address]) -> BoxFuture<'static, Result<Peer, ConnectError>> {
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
}

/// The addresses first, the detour beside them if they are slow, and alone if they fail.
async fn either(
    endpoint: Endpoint,
    node: NodeId,
    mut direct: BoxFuture<'static, Result<Peer, ConnectError>>,
    detour: Detour,
    detoured: Detoured,
) -> Result<Peer, ConnectError> {
    let soon = detour.likely || was_detoured(&detoured, &node);
    let failed = match timeout(if soon { SHORT_START } else { HEAD_START }, &mut direct).await {
        Ok(Ok(peer)) => return Ok(peer),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let around = async {
        let addr = detour.address.await?;
        let peer = endpoint.connect(addr, Some(node)).await;
        Some(peer.inspect(|_| note(&detoured, node)))
    };
    let around = timeout(DETOUR, around).map(|outcome| outcome.ok().flatten()).boxed();
    match failed {
        Some(error) => match around.await {
            Some(Err(detour)) if matches!(error, ConnectError::NoAddress { .. }) => Err(detour),
            Some(Ok(peer)) => Ok(peer),
            _ => Err(error),
        },
        None => match select(direct, around).await {
            Either::Left((Ok(peer), _)) => Ok(peer),
            Either::Left((Err(error), around)) => match around.await {
                Some(Ok(peer)) => Ok(peer),
                _ => Err(error),
            },
            Either::Right((Some(Ok(peer)), _)) => Ok(peer),
            Either::Right((_, direct)) => direct.await,
        },
    }
}

fn was_detoured(detoured: &Detoured, node: &NodeId) -> bool {
    let known = detoured.lock().unwrap_or_else(PoisonError::into_inner);
    known.get(node).is_some_and(|at| at.elapsed() < DETOURED)
}

fn note(detoured: &Detoured, node: NodeId) {
    let mut known = detoured.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, at| at.elapsed() < DETOURED);
    if known.len() < CACHED_PEERS {
        known.insert(node, Instant::now());
    }
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
            let slot = Slot { dial: pending().boxed().shared(), begun, limit: HANDSHAKE, used: 0 };
            peers.slots.lock().unwrap().by_node.insert(node, slot);
        };
        put(Instant::now());
        assert!(peers.get(node, &addresses).now_or_never().is_none(), "a fresh dial is shared");
        put(Instant::now().checked_sub(HANDSHAKE).unwrap());
        let peer = tokio::time::timeout(HANDSHAKE, peers.get(node, &addresses)).await.unwrap().unwrap();
        assert_eq!(peer.id(), node);
    }

    #[tokio::test]
    async fn a_detour_is_asked_for_only_if_no_address_answers_and_then_soon() {
        let pool_keys = Keyring::from(PoolKey::generate().unwrap());
        let endpoint = || {
            let (bind, key) = ((Ipv4Addr::LOCALHOST, 0).into(), SecretKey::generate().unwrap());
            Endpoint::bind(EndpointConfig { bind, key, pool: PoolId([1; 32]), pool_keys: pool_keys.clone() }).unwrap()
        };
        let server = endpoint();
        let (node, at) = (server.id(), server.local_addr());
        tokio::spawn(async move { server.serve(Arc::new(Nothing), CancellationToken::new()).await });
        let peers = Peers::new(endpoint());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let begun = Arc::new(Mutex::new(Instant::now()));
        let detour = |address| {
            let (asked, begun) = (Arc::clone(&asked), Arc::clone(&begun));
            let address = async move {
                let waited = begun.lock().unwrap().elapsed();
                asked.lock().unwrap().push(waited);
                address
            };
            Detour { likely: false, address: address.boxed() }
        };
        let good = [Address::Rpc(at.to_string())];
        peers.get_or(node, &good, detour(Some(at))).await.unwrap();
        assert!(asked.lock().unwrap().is_empty(), "the address answered");
        // A socket that swallows everything, as a NAT does.
        let hole = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dead = [Address::Rpc(hole.local_addr().unwrap().to_string())];
        for _ in 0..2 {
            peers.forget(&node);
            *begun.lock().unwrap() = Instant::now();
            assert_eq!(peers.get_or(node, &dead, detour(Some(at))).await.unwrap().id(), node);
            peers.get_or(node, &dead, detour(Some(at))).await.unwrap();
        }
        let waited = asked.lock().unwrap().clone();
        assert_eq!(waited.len(), 2, "asked once for each dial; the open connection is used");
        assert!(waited[0] >= HEAD_START && (SHORT_START..HEAD_START).contains(&waited[1]), "{waited:?}");
        peers.forget(&node);
        let lost = peers.get_or(node, &dead, detour(None)).await.unwrap_err();
        assert!(matches!(lost, ConnectError::Unreachable { .. }), "{lost}");
        let nowhere = peers.get_or(SecretKey::generate().unwrap().public(), &[], detour(None)).await.unwrap_err();
        assert!(matches!(nowhere, ConnectError::NoAddress { .. }), "{nowhere}");
        // The detour leads to another node than was wanted.
        let wrong = peers.get_or(SecretKey::generate().unwrap().public(), &[], detour(Some(at))).await.unwrap_err();
        assert!(matches!(wrong, ConnectError::WrongIdentity { .. }), "{wrong}");
    }
}
