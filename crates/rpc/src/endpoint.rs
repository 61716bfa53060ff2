//! One UDP socket for both directions: dialling peers and serving them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{NodeId, PoolId, SecretKey, pool::Keyring, rpc::close};

use crate::{
    connection::Connection,
    error::{BindError, ConnectError, ServeError},
    handler::Handler,
    identity::{NodeVerifier, TlsIdentity},
    origin::Outlets,
    peer::Peer,
    proof::{self, Membership, ProofError},
    quic::{self, QuicConnection},
    server,
    tuning::HANDSHAKE,
};

/// What an endpoint is made of.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Where to listen; port 0 takes any free one.
    pub bind: SocketAddr,
    /// The node's or account's identity.
    pub key: SecretKey,
    /// The pool.
    pub pool: PoolId,
    /// The keys that connections prove: today's, and those before it. They may be renewed while the endpoint is open.
    pub pool_keys: Keyring,
}

/// One UDP socket that dials and serves. Clones share it; it closes when [`Endpoint::serve`] ends, on
/// [`Endpoint::close`], or when the last clone and the last connection are gone.
#[derive(Clone)]
pub struct Endpoint {
    socket: quinn::Endpoint,
    local: SocketAddr,
    identity: Arc<TlsIdentity>,
    membership: Arc<Membership>,
    outlets: Outlets,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} at {})", self.membership.id.short(), self.local)
    }
}

impl Endpoint {
    /// Opens the socket. Must be called inside a tokio runtime. Nobody is answered before [`Endpoint::serve`] runs.
    ///
    /// # Errors
    /// The port is taken, the address is not this machine's, or the key gives no TLS identity.
    pub fn bind(config: EndpointConfig) -> Result<Self, BindError> {
        let identity = TlsIdentity::new(&config.key).map_err(|e| BindError::Identity(e.to_string()))?;
        let socket = quic::open(config.bind, quic::server_config(&identity)?)?;
        let local = socket.local_addr().map_err(|source| BindError::Socket { addr: config.bind, source })?;
        let membership = Membership { id: config.key.public(), pool: config.pool, keys: config.pool_keys };
        Ok(Self {
            socket,
            local,
            identity: Arc::new(identity),
            membership: Arc::new(membership),
            outlets: Outlets::default(),
        })
    }

    /// The same at any free port, for who only dials: over IPv6, which carries IPv4 too, where the machine has it.
    ///
    /// # Errors
    /// As [`Endpoint::bind`].
    pub fn bind_to_dial(key: &SecretKey, pool: PoolId, pool_keys: &Keyring) -> Result<Self, BindError> {
        let bind = |ip: IpAddr| {
            let (key, pool_keys) = (key.clone(), pool_keys.clone());
            Self::bind(EndpointConfig { bind: SocketAddr::new(ip, 0), key, pool, pool_keys })
        };
        bind(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| bind(Ipv4Addr::UNSPECIFIED.into()))
    }

    /// Where it listens; an unspecified IP address stays unspecified.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where it is said which ports of this machine are the ends of tunnels.
    #[must_use]
    pub fn outlets(&self) -> Outlets {
        self.outlets.clone()
    }

    /// Its own identity.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.membership.id
    }

    /// Dials, authenticates and proves, within five seconds. With `expect`, another node behind the address is refused
    /// before it learns who called.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, addr: SocketAddr, expect: Option<NodeId>) -> Result<Peer, ConnectError> {
        let slow = || ConnectError::Unreachable { addr, why: format!("nothing came within {HANDSHAKE:?}") };
        let verifier = Arc::new(NodeVerifier::new(quic::provider(), expect));
        let attempt = self.attempt(addr, Arc::clone(&verifier));
        match timeout(HANDSHAKE, attempt).await.unwrap_or_else(|_| Err(slow())) {
            // quinn reports the verifier's refusal as text only: the verifier itself knows whom it saw.
            Err(error) => match (expect, verifier.seen()) {
                (Some(expected), Some(got)) if expected != got => {
                    Err(ConnectError::WrongIdentity { addr, expected, got })
                }
                _ => Err(error),
            },
            Ok(peer) => Ok(peer),
        }
    }

    async fn attempt(&self, addr: SocketAddr, verifier: Arc<NodeVerifier>) -> Result<Peer, ConnectError> {
        let unreachable = |why: String| ConnectError::Unreachable { addr, why };
        let config = quic::client_config(&self.identity, verifier).map_err(|e| unreachable(e.to_string()))?;
        // No certificate is checked against this name and SNI is off: it is a formality of the API.
        let dial = self.socket.connect_with(config, addr, "zero2ai").map_err(|e| unreachable(e.to_string()))?;
        let quic = dial.await.map_err(|e| match e {
            // Before TLS is complete, QUIC hides a close's code; a refusal is a full or stopping server.
            quinn::ConnectionError::ConnectionClosed(ref c) if is_refusal(c) => ConnectError::Busy { addr },
            e => unreachable(e.to_string()),
        })?;
        let connection = QuicConnection::new(quic)
            .ok_or_else(|| ConnectError::Handshake { addr, why: "it shows no identity".into() })?;
        match proof::dial(&connection, &self.membership).await {
            Ok(proven) => Ok(Peer::new(Box::new(connection), proven.epoch)),
            Err(error) => {
                // In this order: closing puts our own reason in the place of theirs.
                let refusal = refusal(addr, &connection, &error);
                connection.close(error.close_code());
                Err(refusal)
            }
        }
    }

    /// Serves until `stop` is cancelled; then takes nothing new, lets calls in progress end for a bounded time (see
    /// [`crate::tuning::DRAIN`]), cancels the rest, and closes the socket. One server per endpoint.
    ///
    /// # Errors
    /// The socket was lost or closed before `stop`.
    pub async fn serve(&self, handler: Arc<dyn Handler>, stop: CancellationToken) -> Result<(), ServeError> {
        let socket = (self.socket.clone(), self.local.ip());
        server::run(socket, self.outlets.clone(), Arc::clone(&self.membership), handler, stop).await
    }

    /// Closes every connection and the socket; for endpoints that only dial.
    pub fn close(&self) {
        self.socket.close(quinn::VarInt::from_u32(close::DONE), b"");
    }
}

fn is_refusal(close: &quinn::ConnectionClose) -> bool {
    close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED
}

/// Who refused whom, from our own error and the code with which the other end closed.
fn refusal(addr: SocketAddr, connection: &dyn Connection, error: &ProofError) -> ConnectError {
    let theirs = connection.close_reason().and_then(|(code, _)| code);
    match (theirs, error) {
        (_, ProofError::WrongKey) => ConnectError::WrongPoolKey { addr, why: "could not prove our key".into() },
        (_, ProofError::WrongEpoch { ours, theirs }) => {
            ConnectError::WrongPoolKey { addr, why: format!("uses a key of epoch {theirs}, ours is of epoch {ours}") }
        }
        (Some(close::WRONG_KEY), _) => ConnectError::WrongPoolKey { addr, why: "refused our proof".into() },
        (Some(close::BUSY | close::STOPPING), _) => ConnectError::Busy { addr },
        _ => ConnectError::Handshake { addr, why: error.to_string() },
    }
}
