//! Accepting connections: who may come in, who is too much, and how it all stops.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    NodeId,
    rpc::{ErrorCode, FEATURE_LOAD, RpcError, close},
};

use crate::{
    connection::{BiStream, Connection},
    error::ServeError,
    handler::Handler,
    load::{Load, Place},
    origin::{Origin, Outlets},
    proof::{self, Membership, Proven},
    quic::QuicConnection,
    serve_call::{self, Caller},
    standing::{Rooms, Standing, unproven},
    tuning::{CANCEL_GRACE, DRAIN, FLUSH, HANDSHAKE, RETRY_FROM, RETRY_FROM_PER_IP, STRANGER_LIFE},
};

/// What every connection's task shares.
struct Server {
    membership: Arc<Membership>,
    handler: Arc<dyn Handler>,
    rooms: Rooms,
    stop: CancellationToken,
}

/// Serves until `stop`, then drains and closes.
pub(crate) async fn run(
    (socket, local): (quinn::Endpoint, IpAddr),
    outlets: Outlets,
    membership: Arc<Membership>,
    handler: Arc<dyn Handler>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let server = Arc::new(Server {
        membership,
        handler,
        rooms: Rooms::new(),
        // A child: if the socket is lost, the connections are told to stop, and nobody else is.
        stop: stop.child_token(),
    });
    let unproven = unproven();
    let mut connections = JoinSet::new();
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(done) = connections.join_next(), if !connections.is_empty() => report(done),
            incoming = socket.accept() => match incoming {
                None => break Err(ServeError::SocketLost),
                Some(incoming) => {
                    let origin = outlets.origin(incoming.remote_address(), local);
                    if let Some((incoming, place)) = admit(incoming, origin, &unproven) {
                        connections.spawn(Arc::clone(&server).connection(incoming, place));
                    }
                }
            },
        }
    };
    // In order: nothing new; calls in progress end or are cancelled; then the socket.
    socket.set_server_config(None);
    server.stop.cancel();
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN + 2 * CANCEL_GRACE + FLUSH, all).await.is_err() {
        tracing::warn!("some peer RPC connections did not end in time and were dropped");
        connections.shutdown().await;
    }
    socket.close(quinn::VarInt::from_u32(close::STOPPING), b"");
    // Lets the closing packets out.
    let _ = timeout(Duration::from_millis(500), socket.wait_idle()).await;
    result
}

/// Decides about a dialler before anything is spent on it: refused when there are too many, or too many from where it
/// is; asked to show that its address is its own when many are pending.
fn admit(
    incoming: quinn::Incoming,
    (origin, share): (Origin, usize),
    unproven: &Arc<Load<Origin>>,
) -> Option<(quinn::Incoming, Place<Origin>)> {
    let (all, from_there) = unproven.held(&origin);
    if (all >= RETRY_FROM || from_there >= RETRY_FROM_PER_IP) && !incoming.remote_address_validated() {
        // An unvalidated address may always be asked; if not, dropping the error refuses the dialler.
        let _ = incoming.retry();
        return None;
    }
    match unproven.enter(origin, share) {
        Some(place) => Some((incoming, place)),
        None => {
            incoming.refuse();
            None
        }
    }
}

impl Server {
    /// One connection's life: handshake, calls, end.
    async fn connection(self: Arc<Self>, incoming: quinn::Incoming, place: Place<Origin>) {
        let addr = incoming.remote_address();
        let proven = tokio::select! {
            () = self.stop.cancelled() => return,
            proven = timeout(HANDSHAKE, self.handshake(incoming)) => proven,
        };
        drop(place);
        // Anyone on the internet can cause these lines: at a higher level they would fill the log's disk.
        let (connection, proven) = match proven {
            Ok(Ok(done)) => done,
            Ok(Err(why)) => return tracing::debug!(%addr, "refused a peer RPC connection: {why}"),
            Err(_) => return tracing::debug!(%addr, "dropped a peer RPC connection: no proof within {HANDSHAKE:?}"),
        };
        let peer = connection.peer_id();
        let standing = self.standing(&peer);
        if proven.stale && standing == Standing::Stranger {
            tracing::debug!(%addr, peer = %peer.short(), "closed a peer RPC connection: its pool key is too old");
            return connection.close(close::WRONG_KEY);
        }
        let Some(place) = self.rooms.connection(peer, standing) else {
            tracing::debug!(%addr, peer = %peer.short(), ?standing, "closed a peer RPC connection: too many");
            return connection.close(close::BUSY);
        };
        if standing != Standing::Stranger {
            connection.widen();
        }
        self.calls(&*connection, proven, standing, place).await;
    }

    fn standing(&self, peer: &NodeId) -> Standing {
        match peer {
            own if *own == self.membership.id => Standing::Own,
            node if self.handler.admitted(node) => Standing::Member,
            _ => Standing::Stranger,
        }
    }

    /// TLS and the pool proof. Dropping it (on a timeout) closes the connection.
    async fn handshake(&self, incoming: quinn::Incoming) -> Result<(Arc<dyn Connection>, Proven), String> {
        let quic = incoming.await.map_err(|e| e.to_string())?;
        let connection = QuicConnection::new(quic).ok_or("it shows no identity")?;
        match proof::listen(&connection, &self.membership).await {
            Ok(proven) => Ok((Arc::new(connection), proven)),
            Err(error) => {
                connection.close(error.close_code());
                Err(error.to_string())
            }
        }
    }

    /// Serves calls until the connection or the server ends, then sees the calls in progress out.
    async fn calls(
        &self,
        connection: &dyn Connection,
        proven: Proven,
        mut standing: Standing,
        mut place: Place<NodeId>,
    ) {
        let peer = connection.peer_id();
        let mut calls = JoinSet::new();
        let abort = CancellationToken::new();
        let mut ask_again = interval_at(Instant::now() + STRANGER_LIFE, STRANGER_LIFE);
        let code = loop {
            tokio::select! {
                () = self.stop.cancelled() => break close::STOPPING,
                Some(done) = calls.join_next(), if !calls.is_empty() => {
                    report(done);
                    // That call may have been its admission; it may not make another one for long.
                    self.promote(connection, &mut standing, &mut place);
                }
                _ = ask_again.tick() => if self.standing(&peer) == Standing::Stranger { break close::BUSY },
                stream = connection.accept_bi() => match stream {
                    Ok(stream) => {
                        let now = self.promote(connection, &mut standing, &mut place);
                        // One that was revoked meanwhile came in with a key that lets no stranger in.
                        if proven.stale && now == Standing::Stranger {
                            break close::WRONG_KEY;
                        }
                        let wants_load = proven.features & FEATURE_LOAD != 0 && now != Standing::Stranger;
                        let from = connection.remote_addr();
                        let caller = Caller { peer, from, stale_key: proven.stale, wants_load, bounds: now.bounds() };
                        self.begin(caller, now, stream, &abort, &mut calls);
                    }
                    Err(_) => break close::STOPPING,
                },
            }
        };
        let all = async { while calls.join_next().await.is_some() {} };
        if timeout(DRAIN, all).await.is_err() {
            abort.cancel();
            let rest = async { while calls.join_next().await.is_some() {} };
            // Each call bounds itself by the same grace.
            let _ = timeout(CANCEL_GRACE + CANCEL_GRACE / 2, rest).await;
        }
        if connection.close_reason().is_none() {
            sleep(FLUSH).await;
            connection.close(code);
        }
        drop(place);
    }

    /// What the peer is by now. Admitted meanwhile, it no longer takes one of the few places for strangers.
    fn promote(&self, connection: &dyn Connection, standing: &mut Standing, place: &mut Place<NodeId>) -> Standing {
        let peer = connection.peer_id();
        let now = self.standing(&peer);
        if *standing == Standing::Stranger
            && now != *standing
            && let Some(better) = self.rooms.connection(peer, now)
        {
            (*standing, *place) = (now, better);
            connection.widen();
        }
        now
    }

    fn begin(
        &self,
        caller: Caller,
        standing: Standing,
        stream: BiStream,
        abort: &CancellationToken,
        calls: &mut JoinSet<()>,
    ) {
        match self.rooms.call(caller.peer, standing) {
            Some(place) => {
                let (handler, abort) = (Arc::clone(&self.handler), abort.clone());
                calls.spawn(async move {
                    serve_call::serve(caller, stream, handler, abort).await;
                    drop(place);
                });
            }
            // At most STREAMS of these exist per connection, each for a bounded time.
            None => {
                let error = RpcError::new(ErrorCode::Busy, "too many calls at once: try another node, or later");
                calls.spawn(async move {
                    let mut send = stream.send;
                    serve_call::say_error(&mut *send, error).await;
                });
            }
        }
    }
}

/// A task of the server's own must not panic: handlers' panics are caught before.
fn report(done: Result<(), JoinError>) {
    if let Err(e) = done {
        tracing::error!("a task of peer RPC died: {e}; this is a bug");
    }
}
