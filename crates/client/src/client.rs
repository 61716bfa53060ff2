//! The client itself: one socket, one identity, one pool, and calls of any method to any node.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, timeout_at};
use zero2ai_placement::Wishes;
use zero2ai_proto::{
    NodeId, PoolId, SecretKey,
    calls::{Forward, ForwardCall},
    limits::ADDRESSES,
    pool::{Keyring, PoolKey},
    record::Address,
    rpc::Method,
};
use zero2ai_rpc::{CallError, ConnectError, Detour, Endpoint, Peer, Peers, Replies};

use crate::{choice::Used, error::ClientError, health::Health, nodes::Nodes, recent::Recent, trust::Trust};

/// How long a call bears a silent machine: such calls (a transaction, a command to one's own node) are dear to repeat.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a node may take to find a way to another one: a dial through the swarm.
const FORWARD: Duration = Duration::from_secs(7);

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The account: signs requests and transactions, and is the client's TLS identity.
    pub key: SecretKey,
    /// The pool.
    pub pool: PoolId,
    /// Its key; if the pool has a newer one, the client fetches and checks that, see [`Client::pool_key`].
    pub pool_key: PoolKey,
    /// Nodes to begin with; the first that answers is asked for names and proofs. Once they are gone, providers that were met
    /// since are asked.
    pub bootstrap: Vec<(NodeId, Vec<Address>)>,
    /// The encoded genesis, from which everything is checked. `None` until an invite is redeemed.
    pub genesis: Option<Vec<u8>>,
}

/// A client of one pool. Clones share its connections and what it has learnt.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) key: SecretKey,
    pub(crate) pool: PoolId,
    pub(crate) keys: Keyring,
    /// Held while the newest pool key is asked for.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    pub(crate) peers: Peers,
    pub(crate) trust: Trust,
    pub(crate) health: Health,
    pub(crate) recent: Recent,
    pub(crate) used: Used,
    /// One above the last nonce this client used, since proofs lag behind its own transactions.
    pub(crate) next_nonce: AtomicU64,
    pub(crate) nodes: Nodes,
    wishes: RwLock<Arc<Wishes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} in pool {})", self.id().short(), self.inner.pool)
    }
}

impl Client {
    /// Opens a socket on a free port and connects to the first node that answers.
    ///
    /// # Errors
    /// No socket, no node answers, a wrong pool key, or a genesis of another pool.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let trust = Trust::new(config.pool, config.genesis.as_deref())?;
        let keys = Keyring::from(config.pool_key);
        let endpoint = Endpoint::bind_to_dial(&config.key, config.pool, &keys)?;
        let client = Self {
            inner: Arc::new(Inner {
                key: config.key,
                pool: config.pool,
                keys,
                renewing: tokio::sync::Mutex::new(()),
                peers: Peers::new(endpoint),
                trust,
                health: Health::default(),
                recent: Recent::default(),
                used: Used::default(),
                next_nonce: AtomicU64::new(0),
                nodes: Nodes::new(config.bootstrap),
                wishes: RwLock::default(),
            }),
        };
        client.home().await?;
        Ok(client)
    }

    /// From now on endpoints are chosen by these wishes, too, by this client and its clones.
    pub fn wish(&self, wishes: Wishes) {
        *self.inner.wishes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(wishes);
        self.inner.recent.clear();
    }

    pub(crate) fn wishes(&self) -> Arc<Wishes> {
        Arc::clone(&self.inner.wishes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The account.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.key.public()
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> PoolId {
        self.inner.pool
    }

    /// Whether the open connection to `node` goes to one of its own addresses, rather than by way of another node; `None` if
    /// there is none.
    #[must_use]
    pub fn is_direct(&self, node: NodeId, addresses: &[Address]) -> Option<bool> {
        let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let at = plain(self.inner.peers.open(&node)?.remote_addr());
        Some(addresses.iter().filter_map(Address::rpc_socket).any(|own| plain(own) == at))
    }

    /// Calls any method that answers with one item, at `node`, within `patience`, dialling included.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<M: Method>(
        &self,
        node: NodeId,
        addresses: &[Address],
        request: &M::Request,
        patience: Duration,
    ) -> Result<M::Reply, CallError> {
        let deadline = Instant::now().checked_add(patience);
        let peer = self.dial(node, addresses, deadline).await?.with_patience(SILENCE);
        peer.call::<M>(request, left(deadline)).await
    }

    /// Calls any method that answers with a stream of items; `patience` is for all of it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream<M: Method>(
        &self,
        node: NodeId,
        addresses: &[Address],
        request: &M::Request,
        patience: Duration,
    ) -> Result<Replies<M>, CallError> {
        let deadline = Instant::now().checked_add(patience);
        let peer = self.dial(node, addresses, deadline).await?.with_patience(SILENCE);
        peer.stream::<M>(request, left(deadline)).await
    }

    /// An open connection to `node`, made by `deadline`. Boxed: where the node has a newer pool key, others are dialled for it.
    pub(crate) fn dial<'a>(
        &'a self,
        node: NodeId,
        addresses: &'a [Address],
        deadline: Option<Instant>,
    ) -> BoxFuture<'a, Result<Peer, ConnectError>> {
        self.connect_to(node, addresses, deadline, true)
    }

    /// The same, at the node's own addresses alone.
    pub(crate) fn dial_directly<'a>(
        &'a self,
        node: NodeId,
        addresses: &'a [Address],
    ) -> BoxFuture<'a, Result<Peer, ConnectError>> {
        self.connect_to(node, addresses, None, false)
    }

    fn connect_to<'a>(
        &'a self,
        node: NodeId,
        addresses: &'a [Address],
        deadline: Option<Instant>,
        detours: bool,
    ) -> BoxFuture<'a, Result<Peer, ConnectError>> {
        let addresses = &addresses[..addresses.len().min(ADDRESSES)];
        let dial = async move {
            let peer = self.peer(node, addresses, detours).await?;
            if !self.is_behind(&peer) || !self.catch_up().await {
                return Ok(peer);
            }
            // What was proved with the older key may open nothing any more.
            self.inner.peers.forget(&node);
            self.peer(node, addresses, detours).await
        };
        async move {
            match deadline {
                None => dial.await,
                Some(at) => timeout_at(at, dial).await.unwrap_or_else(|_| Err(no_answer(node, addresses))),
            }
        }
        .boxed()
    }

    /// An open connection to `node`: the one there is; or a new one, at its addresses or by way of the node that this client
    /// asks for names.
    pub(crate) async fn peer(&self, node: NodeId, addresses: &[Address], detours: bool) -> Result<Peer, ConnectError> {
        if let Some(peer) = self.inner.peers.open(&node) {
            return Ok(peer);
        }
        if !detours {
            return self.inner.peers.get(node, addresses).await;
        }
        let (likely, client) = (addresses.iter().any(Address::is_relayed), self.clone());
        let address = async move {
            let home = client.home_but(Some(node)).await.ok().filter(|home| home.id() != node)?;
            let forwarded = home.call::<Forward>(&ForwardCall { node }, FORWARD).await;
            // Who answers there must still prove to be `node`.
            forwarded.ok().map(|f| SocketAddr::new(home.remote_addr().ip(), f.port))
        };
        self.inner.peers.get_or(node, addresses, Detour { likely, address: address.boxed() }).await
    }
}

/// What is left until `deadline`; no deadline is no limit.
pub(crate) fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
}

fn no_answer(node: NodeId, addresses: &[Address]) -> ConnectError {
    match addresses.iter().find_map(Address::rpc_socket) {
        Some(addr) => ConnectError::Unreachable { addr, why: "nothing came in time".into() },
        None => ConnectError::NoAddress { node },
    }
}
