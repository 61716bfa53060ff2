//! The listener, its connections and their limits, and stopping in order.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use zero2ai_client::Client;
use zero2ai_proto::{NodeId, record::Address};

use crate::{
    error::GatewayError,
    guard::{Access, Token},
    routes,
    state::Shared,
    tls::Tls,
    tokens::Tokens,
    usage::Meter,
};

/// Connections open at a time. Beyond that, new ones wait in the kernel's queue until one closes.
const CONNECTIONS: usize = 256;
/// Of these, those of one IP address beyond this machine (of IPv6, of one network of 64 bits); more are closed at once.
const FROM_ONE: usize = 64;
/// How long TLS or a request's head may take to come, and a connection may be idle between two requests.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes of a request's head, and of what is read ahead.
const HEAD_BYTES: usize = 32 * 1024;
/// How long a caller may leave an answer unread, milliseconds; then the connection is cut and its work stops.
const UNREAD_MS: u32 = 30_000;
/// How long answers in hand may take to end when the node stops.
const STOPPING: Duration = Duration::from_secs(3);
/// Pause after the system refused a connection (too many open files): an error that repeats must not spin.
const REFUSED: Duration = Duration::from_millis(100);

/// The node behind the gateway: asked for what it holds.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its identity, which must be the client's own: only that may ask for its status.
    pub node: NodeId,
    /// Where its peer RPC listens.
    pub addresses: Vec<Address>,
}

/// Where a gateway listens, and who may ask.
#[derive(Debug)]
pub struct Listen {
    /// Port 0 is any free one.
    pub address: SocketAddr,
    /// Without it the address must be a loopback one.
    pub tls: Option<Tls>,
    /// May do everything.
    pub token: Token,
    /// The file of others, see [`crate::tokens`].
    pub tokens: PathBuf,
    /// The file of what tokens used, see [`crate::usage`].
    pub usage: PathBuf,
}

/// A gateway whose port is taken, before it answers.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    access: Access,
    meter: Arc<Meter>,
}

impl Gateway {
    /// Takes the port; callers wait until [`Gateway::serve`].
    ///
    /// # Errors
    /// The address is not a loopback address and there is no TLS, it cannot be listened on, or the file of usage is damaged.
    pub async fn bind(listen: Listen) -> Result<Self, GatewayError> {
        let Listen { address, tls, token, tokens, usage } = listen;
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(GatewayError::NotLoopback(address));
        }
        let fail = |source| GatewayError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let meter = Arc::new(Meter::open(usage, tokens.clone())?);
        let access = Access { own: token, others: Tokens::new(tokens), tls: tls.is_some() };
        Ok(Self { listener, address, tls, access, meter })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// SHA-256 of the certificate, if it answers by TLS: 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.tls.as_ref().map(Tls::fingerprint)
    }

    /// Answers until `stop` is cancelled; then takes no more, gives answers in hand a few seconds to end, and writes down
    /// what was used.
    ///
    /// # Errors
    /// The listener broke, or what was used cannot be written.
    pub async fn serve(self, client: Client, upstream: Upstream, stop: CancellationToken) -> Result<(), GatewayError> {
        let Self { listener, tls, access, meter, .. } = self;
        let router = routes::router(Arc::new(Shared::new(client, upstream, access, Arc::clone(&meter))));
        let stop_keeper = CancellationToken::new();
        let answering = async {
            let answered = answer(&listener, tls.as_ref(), &router, &stop).await;
            stop_keeper.cancel();
            answered
        };
        let (answered, ()) = tokio::join!(answering, meter.keep(stop_keeper.clone()));
        meter.write().await.map_err(GatewayError::Unwritten)?;
        answered
    }
}

/// Takes connections until `stop` is cancelled, and waits for those it took.
async fn answer(
    listener: &TcpListener,
    tls: Option<&Tls>,
    router: &Router,
    stop: &CancellationToken,
) -> Result<(), GatewayError> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let callers = Arc::new(Callers::default());
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while let Some(ended) = connections.try_join_next() {
            log_panic(ended);
        }
        match accepted {
            Ok((stream, from)) => {
                let Some(caller) = callers.enter(from.ip()) else {
                    tracing::debug!(%from, "a connection was closed: its address has as many as one may have");
                    continue;
                };
                let (router, stop, tls) = (router.clone(), stop.clone(), tls.cloned());
                connections.spawn(async move {
                    let _places = (place, caller);
                    connection(stream, tls, router, stop).await;
                });
            }
            Err(error) if is_passing(&error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(REFUSED).await;
            }
            Err(error) => return Err(GatewayError::Lost(error)),
        }
    }
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
    Ok(())
}

/// How many connections each address beyond this machine has.
#[derive(Debug, Default)]
struct Callers(Mutex<HashMap<IpAddr, usize>>);

impl Callers {
    /// A place for a connection of `address`, given back when it is dropped; none if it has too many. On this machine, who calls
    /// cannot be told by that.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Caller> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Some(Caller(None));
        }
        let address = match address {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => v4,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_default();
        if *count >= FROM_ONE {
            return None;
        }
        *count = count.saturating_add(1);
        drop(all);
        Some(Caller(Some((Arc::clone(self), address))))
    }
}

/// See [`Callers::enter`].
struct Caller(Option<(Arc<Callers>, IpAddr)>);

impl Drop for Caller {
    fn drop(&mut self) {
        let Some((callers, address)) = self.0.take() else { return };
        let mut all = callers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&address);
            }
        }
    }
}

/// A bug in a handler costs its connection, not the node; it is told.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an HTTP connection failed");
    }
}

/// True for what concerns one connection, or passes: not a broken listener.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    let full = matches!(error.raw_os_error(), Some(23 | 24)); // ENFILE, EMFILE
    full || matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::OutOfMemory
    )
}

/// One connection to its end. When its caller leaves, hyper drops the handler or the stream it was sending, and with it the
/// work at the provider.
async fn connection(stream: TcpStream, tls: Option<Tls>, router: Router, stop: CancellationToken) {
    // Tokens are small and must not wait for each other; a caller that reads no more must not hold a provider.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    if let Err(error) = set_tcp_user_timeout(&stream, UNREAD_MS) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT");
    }
    let Some(tls) = tls else { return requests(stream, router, stop).await };
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = tokio::time::timeout(HEAD_TIME, tls.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => requests(stream, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS came of a connection"),
        Err(_) => tracing::debug!("a connection did not come to TLS in time"),
    }
}

/// A connection's requests, one after another.
async fn requests<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(STOPPING, serving).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let callers = Arc::new(Callers::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut taken: Vec<Caller> = (0..FROM_ONE).map(|_| callers.enter(ip("192.0.2.1")).unwrap()).collect();
        assert!(callers.enter(ip("192.0.2.1")).is_none() && callers.enter(ip("::ffff:192.0.2.1")).is_none());
        assert!(callers.enter(ip("192.0.2.2")).is_some());
        taken.pop();
        assert!(callers.enter(ip("192.0.2.1")).is_some());
        taken.clear();
        // A network of IPv6 counts as one; on this machine nothing is counted.
        taken.extend((0..FROM_ONE).map(|i| callers.enter(ip(&format!("2001:db8::{i:x}"))).unwrap()));
        assert!(callers.enter(ip("2001:db8::ffff:1")).is_none());
        assert!(callers.enter(ip("2001:db8:0:1::1")).is_some());
        taken.extend((0..300).map(|_| callers.enter(ip("127.0.0.1")).unwrap()));
        taken.clear();
        assert!(callers.0.lock().unwrap().is_empty());
    }
}
