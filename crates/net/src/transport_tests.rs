//! What a relay can do to a connection that goes through it. The relay is a pair of channels in memory with somebody
//! between them who writes down, or changes, what passes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    ops::Range,
    pin::{Pin, pin},
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    future::{Either, join, join_all, poll_fn, select},
};
use libp2p::{
    Multiaddr,
    core::{
        ConnectedPoint, Endpoint,
        muxing::StreamMuxerExt as _,
        transport::{DialOpts, ListenerId, MemoryTransport, PortUse, TransportEvent},
    },
};
use tokio::time::timeout;
use zero2ai_proto::{
    PoolId, SecretKey, encode,
    pool::{Keyring, PoolKey},
};

use super::*;
use crate::{identity::keypair, judge::Anyone};

const WORDS: &[u8] = b"words of the application, which nobody else is to read";
const PATIENCE: Duration = Duration::from_secs(4);

struct End {
    transport: Secured,
}

fn end(keys: &Keyring) -> End {
    let key = SecretKey::generate().unwrap();
    let gate = Gate { pool: PoolId([7; 32]), keys: keys.clone(), local: key.public(), judge: Arc::new(Anyone) };
    End { transport: gated(secured(MemoryTransport::new(), &keypair(&key).unwrap()).unwrap(), gate) }
}

fn options() -> DialOpts {
    DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse }
}

async fn listen<T: Transport + Unpin>(transport: &mut T) -> Multiaddr {
    transport.listen_on(ListenerId::next(), "/memory/0".parse().unwrap()).map_err(drop).unwrap();
    loop {
        if let TransportEvent::NewAddress { listen_addr, .. } = next(transport).await {
            return listen_addr;
        }
    }
}

async fn next<T: Transport + Unpin>(transport: &mut T) -> TransportEvent<T::ListenerUpgrade, T::Error> {
    poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
}

async fn accept<T: Transport + Unpin>(transport: &mut T) -> Result<T::Output, T::Error> {
    loop {
        if let TransportEvent::Incoming { upgrade, .. } = next(transport).await {
            return upgrade.await;
        }
    }
}

/// What passed, and which bytes are to be changed.
struct Wire {
    seen: Mutex<Vec<u8>>,
    passed: AtomicUsize,
    /// How much had passed when both ends were connected.
    connected: AtomicUsize,
    flip: Range<usize>,
}

/// Somebody in the middle: whoever connects is connected on to `target`.
async fn relay(target: Multiaddr, wire: Arc<Wire>) -> Multiaddr {
    let mut middle = MemoryTransport::new();
    let address = listen(&mut middle).await;
    tokio::spawn(async move {
        let from = accept(&mut middle).await.unwrap();
        let to = middle.dial(target, options()).unwrap().await.unwrap();
        let ((from_read, from_write), (to_read, to_write)) = (from.split(), to.split());
        join(pass(from_read, to_write, &wire), pass(to_read, from_write, &wire)).await;
    });
    address
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: &Wire) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..count];
        let before = wire.passed.fetch_add(count, Ordering::SeqCst);
        for (_, byte) in bytes.iter_mut().enumerate().filter(|(n, _)| wire.flip.contains(&(before + n))) {
            *byte ^= 0x20;
        }
        wire.seen.lock().unwrap().extend_from_slice(bytes);
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

/// Does `work` while `muxer` moves, which it does only while it is polled: the last words of its end's proof among others.
async fn beside<T>(muxer: &mut StreamMuxerBox, work: impl Future<Output = T>) -> T {
    let (mut work, mut ended) = (pin!(work), false);
    poll_fn(|cx| {
        ended = ended || muxer.poll_unpin(cx).is_ready();
        work.as_mut().poll(cx)
    })
    .await
}

/// Connects two ends through a relay, and sends words over a stream. `Ok` if they came, as they were.
async fn exchange(dialler: &Keyring, listener: &Keyring, flip: Range<usize>) -> (Result<(), String>, Arc<Wire>) {
    let [passed, connected] = std::array::from_fn(|_| AtomicUsize::new(0));
    let wire = Arc::new(Wire { seen: Mutex::default(), passed, connected, flip });
    let (mut a, mut b) = (end(dialler), end(listener));
    let address = relay(listen(&mut b.transport).await, Arc::clone(&wire)).await;
    let outcome = async {
        let dial = a.transport.dial(address, options()).unwrap();
        let (mut dialled, mut accepted) = match select(pin!(dial), pin!(accept(&mut b.transport))).await {
            Either::Left((dialled, accept)) => {
                let mut dialled = dialled.map_err(|e| e.to_string())?.1;
                let accepted = beside(&mut dialled, accept).await.map_err(|e| e.to_string())?.1;
                (dialled, accepted)
            }
            Either::Right((accepted, dial)) => {
                let mut accepted = accepted.map_err(|e| e.to_string())?.1;
                let dialled = beside(&mut accepted, dial).await.map_err(|e| e.to_string())?.1;
                (dialled, accepted)
            }
        };
        wire.connected.store(wire.passed.load(Ordering::SeqCst), Ordering::SeqCst);
        let send = async {
            let mut stream = poll_fn(|cx| dialled.poll_outbound_unpin(cx)).await?;
            let talk = async {
                stream.write_all(WORDS).await?;
                stream.close().await
            };
            // The muxer moves only while it is polled; the words' receiver ends the whole.
            join(talk, poll_fn(|cx| dialled.poll_unpin(cx).map(drop))).await.0
        };
        let receive = async {
            let mut stream = poll_fn(|cx| accepted.poll_inbound_unpin(cx)).await.map_err(|e| e.to_string())?;
            let mut got = vec![0; WORDS.len()];
            tokio::select! {
                read = stream.read_exact(&mut got) => read.map_err(|e| e.to_string())?,
                end = poll_fn(|cx| accepted.poll_unpin(cx)) => return Err(format!("{end:?}")),
            }
            if got == WORDS { Ok(()) } else { Err("other words".to_owned()) }
        };
        tokio::select! {
            received = receive => received,
            Err(error) = send => Err(error.to_string()),
        }
    };
    (timeout(PATIENCE, outcome).await.unwrap_or_else(|_| Err("nothing came".into())), wire)
}

#[tokio::test]
async fn a_relay_reads_nothing_and_whatever_it_changes_ends_the_connection() {
    let key = PoolKey::generate().unwrap();
    let keys = Keyring::from(key.clone());
    let (outcome, wire) = exchange(&keys, &keys, 0..0).await;
    outcome.unwrap();
    let seen = wire.seen.lock().unwrap().clone();
    let shows = |bytes: &[u8]| seen.windows(bytes.len()).any(|window| window == bytes);
    assert!(shows(b"/noise"), "the relay sees what is spoken there");
    let encoded = encode(&key).unwrap();
    let secret = &encoded[encoded.len() - 32..];
    assert!(!shows(WORDS) && !shows(b"/yamux") && !shows(secret), "and nothing behind it");

    // The last of what connects them may still be on its way when the words are: so not up to the last byte.
    let connected = wire.connected.load(Ordering::SeqCst);
    let places: Vec<usize> = (0..connected * 2 / 3).step_by(23).collect();
    assert!(places.len() > 10, "{connected} bytes connect them");
    let tries = join_all(places.iter().map(|at| exchange(&keys, &keys, *at..at + 1))).await;
    for (at, (outcome, _)) in places.iter().zip(tries) {
        assert!(outcome.is_err(), "byte {at} of {connected} was changed, and nobody noticed");
    }
    let words = exchange(&keys, &keys, connected..usize::MAX).await.0;
    assert!(words.is_err(), "the words themselves were changed");
}

#[tokio::test]
async fn without_the_key_nobody_comes_through_a_relay() {
    let [ours, theirs] = std::array::from_fn(|_| Keyring::from(PoolKey::generate().unwrap()));
    for (dialler, listener) in [(&theirs, &ours), (&ours, &theirs)] {
        let why = exchange(dialler, listener, 0..0).await.0.unwrap_err();
        assert!(!why.contains("nothing came"), "{why}");
    }
}

#[test]
fn who_listens_when_both_dial_is_who_was_told_to() {
    use crate::gate::role;
    let point = |role_override| ConnectedPoint::Dialer {
        address: "/ip4/1.2.3.4/udp/5/quic-v1".parse().unwrap(),
        role_override,
        port_use: PortUse::Reuse,
    };
    assert_eq!(role(&point(Endpoint::Listener)), Endpoint::Listener);
    assert_eq!(role(&point(Endpoint::Dialer)), Endpoint::Dialer);
}
