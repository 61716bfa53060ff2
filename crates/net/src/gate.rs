//! The gate: what a fresh connection must pass before the swarm learns of it. TLS (over QUIC) or Noise (through a relay)
//! has proven the peer's identity; here both ends prove the pool key on the first stream, and both ask whether the other
//! is admitted.
//!
//! ```text
//! dialler  → hello {version u8, epoch u32 be, nonce 32}     (only if the listener is admitted)
//! listener → hello
//! dialler  → proof 32
//! listener → 0, proof 32  |  1: "you hold the key but are not admitted"  |  closes: the key is wrong
//! ```
//! Each hello names the epoch of its end's newest pool key; what both prove is the older one, while it is good.
//! A stranger who connects learns from TLS this node's identity and that it speaks libp2p; if he says hello as a node
//! would, in the right version, also a nonce and, from its hello, that version and epoch. After that, only that
//! something closes his connection: not which pool this is, and nothing of what is in it.
//!
//! Through a relay it is the same exchange, inside the encryption from end to end, and not Noise's prologue with the key in
//! it: two ends whose newest keys differ could not agree on one prologue before they have spoken, and of a wrong one Noise
//! only says that it failed. The relay, a member itself, sees two identities that ask for each other, the name of the Noise
//! protocol, and ciphertext; what it changes ends the connection (see `transport`). It could as well answer in the place of
//! the target, but only as itself: the proof is over the identities that Noise authenticated, and a dialler ends what is
//! not whom it dialled.

use std::{io, sync::Arc, task::Poll};

use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use libp2p::{
    PeerId,
    core::{
        ConnectedPoint, Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
    },
};
use tokio::time::timeout;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId, PoolId,
    keys::random_bytes,
    pool::{Keyring, PoolKey, ProofInput, Role, TransportLabel},
};

use crate::{
    config::{GATE_TIMEOUT, GOODBYE},
    identity::node_id,
    judge::Judge,
};

/// Version of the exchange above.
const VERSION: u8 = 1;
const HELLO_BYTES: usize = 37;
const ADMITTED: u8 = 0;
const NOT_ADMITTED: u8 = 1;

/// Why a connection was refused at the gate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error("the peer's identity is not an Ed25519 key")]
    Identity,
    #[error("the peer speaks version {0} of the pool proof, this node version {VERSION}: update the older of the two")]
    Version(u8),
    #[error(
        "the peer's pool key has epoch {theirs}, this node's {ours}, and the older of both is not accepted any more"
    )]
    Epoch { ours: u32, theirs: u32 },
    #[error("the peer does not hold this pool's key")]
    WrongKey,
    #[error("the peer closed without an answer: it holds another pool's key, or is no node of a pool")]
    NoAnswer,
    #[error("node {} is not admitted to this pool", .0.short())]
    Unadmitted(NodeId),
    #[error("the peer says that this node is not admitted to the pool: redeem a ticket first")]
    NotAdmittedThere,
    #[error("no proof within {} seconds", GATE_TIMEOUT.as_secs())]
    Timeout,
    #[error("the connection broke during the proof: {0}")]
    Broken(#[source] io::Error),
}

/// What the gate of one node knows.
pub(crate) struct Gate {
    pub(crate) pool: PoolId,
    pub(crate) keys: Keyring,
    pub(crate) local: NodeId,
    pub(crate) judge: Arc<dyn Judge>,
}

impl Gate {
    /// Lets the connection through, or closes it and says why.
    pub(crate) async fn pass(
        self: Arc<Self>,
        (peer, mut connection): (PeerId, StreamMuxerBox),
        point: ConnectedPoint,
    ) -> Result<(PeerId, StreamMuxerBox), GateError> {
        let outcome = timeout(GATE_TIMEOUT, async {
            let remote = node_id(&peer).ok_or(GateError::Identity)?;
            match role(&point) {
                Endpoint::Dialer => self.knock(remote, &mut connection).await,
                Endpoint::Listener => self.answer(remote, &mut connection).await,
            }
        })
        .await
        .unwrap_or(Err(GateError::Timeout));
        match outcome {
            Ok(()) => Ok((peer, connection)),
            Err(error) => {
                let _ = timeout(GOODBYE, connection.close()).await;
                Err(error)
            }
        }
    }

    async fn knock(&self, listener: NodeId, connection: &mut StreamMuxerBox) -> Result<(), GateError> {
        // It is authenticated already, so it can be turned down before it hears anything.
        if !self.judge.admitted(&listener) {
            return Err(GateError::Unadmitted(listener));
        }
        let stream = poll_fn(|cx| connection.poll_outbound_unpin(cx)).await.map_err(GateError::Broken)?;
        driven(connection, self.ask(listener, stream)).await
    }

    async fn ask(&self, listener: NodeId, mut stream: SubstreamBox) -> Result<(), GateError> {
        let (hello, dialer_nonce) = self.hello()?;
        stream.write_all(&hello).await.map_err(GateError::Broken)?;
        stream.flush().await.map_err(GateError::Broken)?;
        let (theirs, listener_nonce) = read_hello(&mut stream).await?;
        let key = self.shared(theirs)?;

        let input = |role| ProofInput {
            pool: &self.pool,
            transport: TransportLabel::Swarm,
            role,
            dialer: &self.local,
            listener: &listener,
            dialer_nonce: &dialer_nonce,
            listener_nonce: &listener_nonce,
        };
        stream.write_all(&key.proof(&input(Role::Dialer))).await.map_err(GateError::Broken)?;
        stream.flush().await.map_err(GateError::Broken)?;

        let [verdict] = read::<1>(&mut stream).await?;
        if verdict == NOT_ADMITTED {
            return Err(GateError::NotAdmittedThere);
        }
        let proof = read::<32>(&mut stream).await?;
        if verdict != ADMITTED || !key.check(&input(Role::Listener), &proof) {
            return Err(GateError::WrongKey);
        }
        stream.close().await.map_err(GateError::Broken)
    }

    async fn answer(&self, dialer: NodeId, connection: &mut StreamMuxerBox) -> Result<(), GateError> {
        let stream = poll_fn(|cx| connection.poll_inbound_unpin(cx)).await.map_err(GateError::Broken)?;
        driven(connection, self.reply(dialer, stream)).await
    }

    async fn reply(&self, dialer: NodeId, mut stream: SubstreamBox) -> Result<(), GateError> {
        let (theirs, dialer_nonce) = read_hello(&mut stream).await?;
        let (hello, listener_nonce) = self.hello()?;
        stream.write_all(&hello).await.map_err(GateError::Broken)?;
        stream.flush().await.map_err(GateError::Broken)?;
        // Only now: a dialler who is refused has learnt our epoch.
        let key = self.shared(theirs)?;

        let input = |role| ProofInput {
            pool: &self.pool,
            transport: TransportLabel::Swarm,
            role,
            dialer: &dialer,
            listener: &self.local,
            dialer_nonce: &dialer_nonce,
            listener_nonce: &listener_nonce,
        };
        let proof = read::<32>(&mut stream).await?;
        if !key.check(&input(Role::Dialer), &proof) {
            return Err(GateError::WrongKey);
        }
        if !self.judge.admitted(&dialer) {
            stream.write_all(&[NOT_ADMITTED]).await.map_err(GateError::Broken)?;
            stream.close().await.map_err(GateError::Broken)?;
            // Closing the connection now would drop the byte on its way: wait until the dialler has gone.
            let _ = timeout(GOODBYE, stream.read(&mut [0])).await;
            return Err(GateError::Unadmitted(dialer));
        }
        stream.write_all(&[ADMITTED]).await.map_err(GateError::Broken)?;
        stream.write_all(&key.proof(&input(Role::Listener))).await.map_err(GateError::Broken)?;
        stream.flush().await.map_err(GateError::Broken)?;
        stream.close().await.map_err(GateError::Broken)
    }

    fn hello(&self) -> Result<([u8; HELLO_BYTES], [u8; 32]), GateError> {
        let nonce: [u8; 32] = random_bytes().map_err(|e| GateError::Broken(io::Error::other(e.to_string())))?;
        let mut hello = [VERSION; HELLO_BYTES];
        hello[1..5].copy_from_slice(&self.keys.epoch().to_be_bytes());
        hello[5..].copy_from_slice(&nonce);
        Ok((hello, nonce))
    }

    /// The key that both ends prove: the older one of theirs and ours, while it is good.
    fn shared(&self, theirs: u32) -> Result<PoolKey, GateError> {
        let known = self.keys.shared(theirs).filter(|known| known.until_ms > now_ms());
        known.map(|known| known.key).ok_or_else(|| GateError::Epoch { ours: self.keys.epoch(), theirs })
    }
}

/// The other end's newest epoch, and its nonce.
async fn read_hello(stream: &mut SubstreamBox) -> Result<(u32, [u8; 32]), GateError> {
    let [version] = read::<1>(stream).await?;
    if version != VERSION {
        return Err(GateError::Version(version));
    }
    let theirs = u32::from_be_bytes(read::<4>(stream).await?);
    Ok((theirs, read::<32>(stream).await?))
}

async fn read<const N: usize>(stream: &mut SubstreamBox) -> Result<[u8; N], GateError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
            GateError::NoAnswer
        }
        _ => GateError::Broken(e),
    })?;
    Ok(bytes)
}

/// Who knocks. When a hole is punched both ends dial, and one of them takes the listener's part.
pub(crate) const fn role(point: &ConnectedPoint) -> Endpoint {
    match point {
        ConnectedPoint::Dialer { role_override, .. } => *role_override,
        ConnectedPoint::Listener { .. } => Endpoint::Listener,
    }
}

/// The outcome of an exchange on a stream of a connection that moves its bytes only while it is polled: yamux, through a
/// relay. (QUIC has a task of its own.)
async fn driven(
    connection: &mut StreamMuxerBox,
    exchange: impl Future<Output = Result<(), GateError>>,
) -> Result<(), GateError> {
    tokio::pin!(exchange);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(outcome) = exchange.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            match connection.poll_unpin(cx) {
                Poll::Ready(Ok(_)) => {}
                // What came before the end can still be read.
                Poll::Ready(Err(error)) => {
                    let outcome = exchange.as_mut().poll(cx);
                    return Poll::Ready(match outcome {
                        Poll::Ready(outcome) => outcome,
                        Poll::Pending => Err(GateError::Broken(error)),
                    });
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
