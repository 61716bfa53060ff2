//! Tests of what somebody without the key, or without manners, can do: raw QUIC against a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    ByteBuf, NodeId, PoolId, SecretKey,
    limits::HANDSHAKE_BYTES,
    pool::PoolKey,
    rpc::{Challenge, Proof, RpcError, close},
};

use crate::{
    Endpoint, EndpointConfig, Handler, IncomingCall, ReplySink,
    connection::Connection,
    frame::{self, FrameReader},
    identity::{NodeVerifier, TlsIdentity, node_of},
    proof::{self, Membership, ProofError},
    quic::{self, QuicConnection},
    tuning::HANDSHAKE,
};

/// Must never be reached.
struct Unreachable;

impl Handler for Unreachable {
    fn admitted(&self, _: &NodeId) -> bool {
        panic!("a stranger was asked for")
    }
    fn call<'a>(&'a self, _: IncomingCall, _: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
        async { panic!("a stranger reached the handler") }.boxed()
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const LONG: Duration = Duration::from_secs(15);

fn membership(pool_key: &PoolKey) -> (SecretKey, Membership) {
    let key = SecretKey::generate().unwrap();
    let id = key.public();
    (key, Membership { id, pool: PoolId([1; 32]), keys: pool_key.clone().into() })
}

fn serve() -> SocketAddr {
    serve_at(LOOPBACK)
}

fn serve_at(bind: SocketAddr) -> SocketAddr {
    let (key, own) = membership(&PoolKey::generate().unwrap());
    let endpoint = Endpoint::bind(EndpointConfig { bind, key, pool: own.pool, pool_keys: own.keys.clone() });
    let endpoint = endpoint.unwrap();
    let addr = endpoint.local_addr();
    tokio::spawn(async move { endpoint.serve(Arc::new(Unreachable), CancellationToken::new()).await });
    addr
}

/// Dials with TLS alone.
async fn dial(addr: SocketAddr, key: &SecretKey) -> (quinn::Endpoint, QuicConnection) {
    let identity = TlsIdentity::new(key).unwrap();
    let socket = quic::open(LOOPBACK, quic::server_config(&identity).unwrap()).unwrap();
    let verifier = Arc::new(NodeVerifier::new(quic::provider(), None));
    let config = quic::client_config(&identity, verifier).unwrap();
    let quic = socket.connect_with(config, addr, "x").unwrap().await.unwrap();
    (socket, QuicConnection::new(quic).unwrap())
}

/// Waits for the other side to close, and returns its code.
async fn closed(connection: &QuicConnection) -> Option<u32> {
    timeout(LONG, connection.accept_bi()).await.expect("it is closed").expect_err("a stranger is given no stream");
    connection.close_reason().unwrap().0
}

/// Over IPv6 as well, but that is what it is bound to. Skipped, with a word, where this machine has no IPv6.
#[tokio::test]
async fn who_listens_on_every_address_is_reached_over_ipv4() {
    let everywhere = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    if let Err(error) = std::net::UdpSocket::bind(everywhere) {
        return println!("skipped: this machine has no IPv6: {error}");
    }
    let addr = SocketAddr::new(LOOPBACK.ip(), serve_at(everywhere).port());
    timeout(LONG, dial(addr, &SecretKey::generate().unwrap())).await.expect("TLS answers there");
}

#[tokio::test]
async fn silence_is_dropped_within_the_bound() {
    let addr = serve();
    let start = Instant::now();
    let (_socket, connection) = dial(addr, &SecretKey::generate().unwrap()).await;
    closed(&connection).await;
    assert!(start.elapsed() >= HANDSHAKE / 2 && start.elapsed() < 2 * HANDSHAKE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn garbage_on_the_first_stream_closes_it() {
    for garbage in [&[0xff; 64][..], &[0, 0, 0, 3, 1, 2, 3], &[0, 0, 1, 1]] {
        let (_socket, connection) = dial(serve(), &SecretKey::generate().unwrap()).await;
        let mut stream = connection.open_bi().await.unwrap();
        stream.send.write_all(garbage).await.unwrap();
        assert_eq!(closed(&connection).await, Some(close::HANDSHAKE));
    }
}

#[tokio::test]
async fn a_stranger_gets_a_challenge_and_nothing_else() {
    let (_socket, connection) = dial(serve(), &SecretKey::generate().unwrap()).await;
    let mut stream = connection.open_bi().await.unwrap();
    let mut recv = FrameReader::new(stream.recv);
    let challenge = Challenge { nonce: ByteBuf::from(vec![1; 32]), epoch: 0 };
    frame::write(&mut *stream.send, &challenge, HANDSHAKE_BYTES).await.unwrap();
    let theirs: Challenge = recv.next(HANDSHAKE_BYTES).await.unwrap();
    assert_eq!(theirs.nonce.len(), 32);
    let guess = Proof { mac: ByteBuf::from(vec![0; 32]) };
    frame::write(&mut *stream.send, &guess, HANDSHAKE_BYTES).await.unwrap();
    assert!(recv.next::<Proof>(HANDSHAKE_BYTES).await.is_err(), "no proof is given for a wrong one");
    assert_eq!(closed(&connection).await, Some(close::WRONG_KEY));
}

#[tokio::test]
async fn no_second_stream_and_no_calls_before_the_proof() {
    let (_socket, connection) = dial(serve(), &SecretKey::generate().unwrap()).await;
    let _first = connection.open_bi().await.unwrap();
    let second = timeout(Duration::from_millis(200), connection.open_bi()).await;
    assert!(second.is_err(), "a second stream waits until the key is proven");
}

/// A listener of a stranger's that gives the challenge and a wrong proof, so that the dialler's own check is seen too.
#[tokio::test]
async fn both_sides_name_the_wrong_key() {
    let (key, listener) = membership(&PoolKey::generate().unwrap());
    let identity = TlsIdentity::new(&key).unwrap();
    let socket = quic::open(LOOPBACK, quic::server_config(&identity).unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let (key, dialler) = membership(&PoolKey::generate().unwrap());
    let accept = async {
        let quic = socket.accept().await.unwrap().await.unwrap();
        let connection = QuicConnection::new(quic).unwrap();
        let error = proof::listen(&connection, &listener).await.unwrap_err();
        connection.close(error.close_code());
        error
    };
    let connect = async {
        let (socket, connection) = dial(addr, &key).await;
        let error = proof::dial(&connection, &dialler).await.unwrap_err();
        (socket, error, connection.close_reason().unwrap().0)
    };
    let (theirs, (_socket, ours, code)) = tokio::join!(accept, connect);
    assert!(matches!(theirs, ProofError::WrongKey), "{theirs}");
    assert_eq!(code, Some(close::WRONG_KEY), "{ours}");
}

#[test]
fn only_self_signed_ed25519_certificates_name_a_node() {
    let key = SecretKey::generate().unwrap();
    let (chain, _) = TlsIdentity::new(&key).unwrap().parts();
    assert_eq!(node_of(&chain[0]).unwrap(), key.public());
    for at in 0..chain[0].len() {
        let mut bent = chain[0].to_vec();
        bent[at] ^= 1;
        assert!(node_of(&bent.into()).is_err(), "byte {at}");
    }
    let other = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    assert!(node_of(other.cert.der()).is_err(), "ECDSA");
}
