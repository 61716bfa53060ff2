//! Accepting connections: who may come in, who is too much, and how it all stops.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::rpc::{ErrorCode, RpcError, close};

use crate::{
    connection::{BiStream, Connection},
    error::ServeError,
    handler::Handler,
    load::Load,
    proof::{self, Membership},
    quic::QuicConnection,
    serve_call,
    tuning::{CANCEL_GRACE, CONNECTIONS, DRAIN, FLUSH, HANDSHAKE, RETRY_FROM, UNPROVEN},
};

/// What every connection's task shares.
struct Server {
    membership: Arc<Membership>,
    handler: Arc<dyn Handler>,
    load: Arc<Load>,
    proven: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Serves until `stop`, then drains and closes.
pub(crate) async fn run(
    socket: quinn::Endpoint,
    membership: Arc<Membership>,
    handler: Arc<dyn Handler>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let server = Arc::new(Server {
        membership,
        handler,
        load: Arc::default(),
        proven: Arc::new(Semaphore::new(CONNECTIONS)),
        // A child: if the socket is lost, the connections are told to stop, and nobody else is.
        stop: stop.child_token(),
    });
    let unproven = Arc::new(Semaphore::new(UNPROVEN));
    let mut connections = JoinSet::new();
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(done) = connections.join_next(), if !connections.is_empty() => report(done),
            incoming = socket.accept() => match incoming {
                None => break Err(ServeError::SocketLost),
                Some(incoming) => {
                    if let Some((incoming, place)) = admit(incoming, &unproven) {
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

/// Decides about a dialler before anything is spent on it: refused when full; asked to show that its address is its own
/// when many are pending.
fn admit(incoming: quinn::Incoming, unproven: &Arc<Semaphore>) -> Option<(quinn::Incoming, OwnedSemaphorePermit)> {
    let pending = UNPROVEN.saturating_sub(unproven.available_permits());
    if pending >= RETRY_FROM && !incoming.remote_address_validated() {
        // An unvalidated address may always be asked; if not, dropping the error refuses the dialler.
        let _ = incoming.retry();
        return None;
    }
    match Arc::clone(unproven).try_acquire_owned() {
        Ok(place) => Some((incoming, place)),
        Err(_) => {
            incoming.refuse();
            None
        }
    }
}

impl Server {
    /// One connection's life: handshake, calls, end.
    async fn connection(self: Arc<Self>, incoming: quinn::Incoming, place: OwnedSemaphorePermit) {
        let addr = incoming.remote_address();
        let proven = tokio::select! {
            () = self.stop.cancelled() => return,
            proven = timeout(HANDSHAKE, self.handshake(incoming)) => proven,
        };
        drop(place);
        let connection = match proven {
            Ok(Ok(connection)) => connection,
            Ok(Err(why)) => return tracing::info!(%addr, "refused a peer RPC connection: {why}"),
            Err(_) => return tracing::info!(%addr, "dropped a peer RPC connection: no proof within {HANDSHAKE:?}"),
        };
        let Ok(_place) = Arc::clone(&self.proven).try_acquire_owned() else {
            return connection.close(close::BUSY);
        };
        self.calls(&*connection).await;
    }

    /// TLS and the pool proof. Dropping it (on a timeout) closes the connection.
    async fn handshake(&self, incoming: quinn::Incoming) -> Result<Arc<dyn Connection>, String> {
        let quic = incoming.await.map_err(|e| e.to_string())?;
        let connection = QuicConnection::new(quic).ok_or("it shows no identity")?;
        match proof::listen(&connection, &self.membership).await {
            Ok(()) => Ok(Arc::new(connection)),
            Err(error) => {
                connection.close(error.close_code());
                Err(error.to_string())
            }
        }
    }

    /// Serves calls until the connection or the server ends, then sees the calls in progress out.
    async fn calls(&self, connection: &dyn Connection) {
        let mut calls = JoinSet::new();
        let abort = CancellationToken::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(done) = calls.join_next(), if !calls.is_empty() => report(done),
                stream = connection.accept_bi() => match stream {
                    Ok(stream) => self.begin(connection, stream, &abort, &mut calls),
                    Err(_) => break,
                },
            }
        }
        let all = async { while calls.join_next().await.is_some() {} };
        if timeout(DRAIN, all).await.is_err() {
            abort.cancel();
            let rest = async { while calls.join_next().await.is_some() {} };
            // Each call bounds itself by the same grace.
            let _ = timeout(CANCEL_GRACE + CANCEL_GRACE / 2, rest).await;
        }
        if connection.close_reason().is_none() {
            sleep(FLUSH).await;
            connection.close(close::STOPPING);
        }
    }

    fn begin(&self, connection: &dyn Connection, stream: BiStream, abort: &CancellationToken, calls: &mut JoinSet<()>) {
        let peer = connection.peer_id();
        match self.load.enter(peer) {
            Some(place) => {
                let handler = Arc::clone(&self.handler);
                calls.spawn(serve_call::serve(peer, stream, handler, abort.clone(), place));
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
