//! The quinn binding: sockets, transport settings, TLS configurations, and [`Connection`] over a QUIC connection.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use quinn::{
    TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::{crypto::CryptoProvider, pki_types::CertificateDer, version::TLS13};
use zero2ai_proto::{NodeId, rpc::ALPN};

use crate::{
    connection::{BiStream, Connection, SendHalf},
    error::BindError,
    identity::{NodeVerifier, TlsIdentity, node_of},
    tuning::{
        IDLE, KEEP_ALIVE, SOCKET_BUFFER, STRANGER_STREAMS, STRANGER_WINDOW, STREAM_WINDOW, STREAMS, UNPROVEN,
        UNPROVEN_WINDOW, WINDOW,
    },
};

/// The cryptography of every connection: ring, named here so that no other crate's features can change it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Settings that both ends share. Windows start small and grow with [`Connection::unlock`] and [`Connection::widen`].
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(VarInt::from_u32(u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX)).into()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(UNPROVEN_WINDOW))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(None)
        // Large answers one after the other, not a packet of each in turn: that costs both ends less, and the first is whole
        // sooner. Small ones do not wait behind them: see `SendHalf::give_way`.
        .send_fairness(false);
    transport
}

/// How this node listens.
pub(crate) fn server_config(identity: &TlsIdentity) -> Result<quinn::ServerConfig, BindError> {
    let fail = |e: &dyn fmt::Display| BindError::Identity(e.to_string());
    let (chain, key) = identity.parts();
    let verifier = Arc::new(NodeVerifier::new(provider(), None));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| fail(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| fail(&e))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the certificate: identities are shown afresh every time.
    tls.send_tls13_tickets = 0;
    let mut transport = transport();
    // One stream, for the proof; unlock() opens more.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    let quic = QuicServerConfig::try_from(tls).map_err(|e| fail(&e))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    config.transport_config(Arc::new(transport)).max_incoming(UNPROVEN);
    Ok(config)
}

/// How this node dials; `verifier` may insist on one node.
pub(crate) fn client_config(
    identity: &TlsIdentity,
    verifier: Arc<NodeVerifier>,
) -> Result<quinn::ClientConfig, BindError> {
    let fail = |e: &dyn fmt::Display| BindError::Identity(e.to_string());
    let (chain, key) = identity.parts();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| fail(&e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|e| fail(&e))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_sni = false;
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0)).keep_alive_interval(Some(KEEP_ALIVE));
    let quic = QuicClientConfig::try_from(tls).map_err(|e| fail(&e))?;
    let mut config = quinn::ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Opens the UDP socket and starts quinn on it. Must be called inside a tokio runtime.
pub(crate) fn open(addr: SocketAddr, server: quinn::ServerConfig) -> Result<quinn::Endpoint, BindError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::PortTaken(addr),
        _ => BindError::Socket { addr, source },
    };
    let socket = bind(addr).map_err(fail)?;
    // Best effort: with less, bulk transfer is slower, nothing breaks.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
    let runtime = quinn::default_runtime().ok_or_else(|| fail(io::Error::other("no tokio runtime is running")))?;
    quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(server), socket, runtime).map_err(fail)
}

/// A UDP socket. At `[::]` it takes IPv4 as well, whatever the system's default is.
fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    if !(addr.is_ipv6() && addr.ip().is_unspecified()) {
        return UdpSocket::bind(addr);
    }
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    rustix::net::bind(&socket, &addr)?;
    Ok(socket.into())
}

/// An authenticated QUIC connection.
#[derive(Debug)]
pub(crate) struct QuicConnection {
    quic: quinn::Connection,
    peer: NodeId,
}

impl QuicConnection {
    /// Reads the peer's identity off a connection whose TLS handshake is complete; `None` if it has none (never with the
    /// configurations made here).
    pub(crate) fn new(quic: quinn::Connection) -> Option<Self> {
        let chain = quic.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let peer = node_of(chain.first()?).ok()?;
        Some(Self { quic, peer })
    }

    fn allow(&self, window: u32, streams: u32) {
        self.quic.set_receive_window(VarInt::from_u32(window));
        if self.quic.side() == quinn::Side::Server {
            self.quic.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
        }
    }
}

impl Connection for QuicConnection {
    fn peer_id(&self) -> NodeId {
        self.peer
    }

    fn remote_addr(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    fn open_bi(&self) -> BoxFuture<'_, io::Result<BiStream>> {
        Box::pin(async { Ok(stream(self.quic.open_bi().await?)) })
    }

    fn accept_bi(&self) -> BoxFuture<'_, io::Result<BiStream>> {
        Box::pin(async { Ok(stream(self.quic.accept_bi().await?)) })
    }

    fn unlock(&self) {
        self.allow(STRANGER_WINDOW, STRANGER_STREAMS);
    }

    fn widen(&self) {
        self.allow(WINDOW, STREAMS);
    }

    fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    fn packets_received(&self) -> u64 {
        self.quic.stats().udp_rx.datagrams
    }

    fn close(&self, code: u32) {
        self.quic.close(VarInt::from_u32(code), b"");
    }

    fn close_reason(&self) -> Option<(Option<u32>, String)> {
        let reason = self.quic.close_reason()?;
        Some((close_code(&reason), reason.to_string()))
    }
}

/// The other end's code, if that end closed the connection.
pub(crate) fn close_code(reason: &quinn::ConnectionError) -> Option<u32> {
    match reason {
        quinn::ConnectionError::ApplicationClosed(close) => u32::try_from(close.error_code.into_inner()).ok(),
        _ => None,
    }
}

fn stream((send, recv): (quinn::SendStream, quinn::RecvStream)) -> BiStream {
    BiStream { send: Box::new(send), recv: Box::new(recv) }
}

impl SendHalf for quinn::SendStream {
    fn send(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { Ok(self.write_chunk(bytes).await?) })
    }

    fn reset(&mut self) {
        // Fails only if the stream is over, which is as good.
        let _ = quinn::SendStream::reset(self, VarInt::from_u32(0));
    }

    fn give_way(&mut self) {
        // Fails only if the stream is over, which is as good.
        let _ = self.set_priority(-1);
    }

    fn abandoned(&self) -> BoxFuture<'static, ()> {
        let stopped = self.stopped();
        Box::pin(async move {
            let _ = stopped.await;
        })
    }
}
