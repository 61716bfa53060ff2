//! The first stream of a connection: both ends prove the pool key, then say hello. A stranger gets the listener's
//! [`Challenge`] and a closing code, nothing else.
//!
//! ```text
//! dialler  Challenge →            Proof →                    Hello →
//! listener            ← Challenge         ← Proof, ← Hello
//! ```
//!
//! Each challenge names the epoch of its end's newest pool key; what both prove is the older one, as long as the other end still
//! knows it. One that is past its grace opens nothing but the way to the newer one ([`Proven::stale`]).

use tokio::io::AsyncWriteExt;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ByteBuf, NodeId, PoolId,
    keys::random_bytes,
    limits::HANDSHAKE_BYTES,
    pool::{Keyring, PoolKey, ProofInput, Role, TransportLabel},
    rpc::{Challenge, FEATURE_LOAD, Hello, PROTOCOL, Proof, close},
};

use crate::{
    connection::{Connection, SendHalf},
    frame::{self, FrameError, FrameReader},
};

/// Who this node is, and what it proves.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) id: NodeId,
    pub(crate) pool: PoolId,
    pub(crate) keys: Keyring,
}

/// What the other end proved, and said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    /// Epoch of its newest pool key.
    pub(crate) epoch: u32,
    /// The key that both proved is past its grace.
    pub(crate) stale: bool,
    /// Optional features that it understands.
    pub(crate) features: u64,
}

/// Why a connection was not proven.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error("wrong pool key: the other side's proof does not verify")]
    WrongKey,
    #[error(
        "wrong pool key: the other side's is of epoch {theirs}, ours of epoch {ours}, and the older of both is not accepted"
    )]
    WrongEpoch { ours: u32, theirs: u32 },
    #[error("it speaks versions {min} to {max} of the protocol, this program {PROTOCOL}")]
    Version { min: u16, max: u16 },
    #[error("its hello names another pool")]
    OtherPool,
    #[error("a nonce or proof is not 32 bytes long")]
    Length,
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
    #[error("{0}")]
    Frame(#[from] FrameError),
}

impl ProofError {
    /// The code with which the connection is closed.
    pub(crate) fn close_code(&self) -> u32 {
        match self {
            Self::WrongKey | Self::WrongEpoch { .. } => close::WRONG_KEY,
            _ => close::HANDSHAKE,
        }
    }
}

/// The two ends' identities and nonces, as both see them.
struct Transcript<'a> {
    membership: &'a Membership,
    /// The older of both ends' keys.
    key: PoolKey,
    dialer: NodeId,
    listener: NodeId,
    dialer_nonce: [u8; 32],
    listener_nonce: [u8; 32],
}

impl Transcript<'_> {
    fn input(&self, role: Role) -> ProofInput<'_> {
        ProofInput {
            pool: &self.membership.pool,
            transport: TransportLabel::Rpc,
            role,
            dialer: &self.dialer,
            listener: &self.listener,
            dialer_nonce: &self.dialer_nonce,
            listener_nonce: &self.listener_nonce,
        }
    }

    fn own(&self, role: Role) -> Proof {
        Proof { mac: ByteBuf::from(self.key.proof(&self.input(role)).to_vec()) }
    }

    fn check(&self, role: Role, proof: &Proof) -> Result<(), ProofError> {
        match self.key.check(&self.input(role), &fixed(&proof.mac)?) {
            true => Ok(()),
            false => Err(ProofError::WrongKey),
        }
    }
}

/// The dialling end. The caller bounds the time, and closes the connection by [`ProofError::close_code`].
///
/// Listeners whose key is past its grace are not believed: they dial us, and get the newer one.
pub(crate) async fn dial(connection: &dyn Connection, membership: &Membership) -> Result<Proven, ProofError> {
    let stream = connection.open_bi().await.map_err(FrameError::from)?;
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    let nonce = fresh_nonce()?;
    say(&mut *send, &challenge(&nonce, membership)).await?;
    let theirs: Challenge = recv.next(HANDSHAKE_BYTES).await?;
    let (key, mut proven) = shared(membership, &theirs)?;
    if proven.stale {
        return Err(wrong_epoch(membership, &theirs));
    }
    let transcript = Transcript {
        membership,
        key,
        dialer: membership.id,
        listener: connection.peer_id(),
        dialer_nonce: nonce,
        listener_nonce: fixed(&theirs.nonce)?,
    };
    say(&mut *send, &transcript.own(Role::Dialer)).await?;
    transcript.check(Role::Listener, &recv.next(HANDSHAKE_BYTES).await?)?;
    // Whom to call was the caller's choice: answers may be large.
    connection.widen();
    say(&mut *send, &hello(membership)).await?;
    send.shutdown().await.map_err(FrameError::from)?;
    proven.features = greet(membership, &recv.next(HANDSHAKE_BYTES).await?)?;
    Ok(proven)
}

/// The listening end. The caller bounds the time, and closes the connection by [`ProofError::close_code`].
pub(crate) async fn listen(connection: &dyn Connection, membership: &Membership) -> Result<Proven, ProofError> {
    let stream = connection.accept_bi().await.map_err(FrameError::from)?;
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    let theirs: Challenge = recv.next(HANDSHAKE_BYTES).await?;
    let nonce = fresh_nonce()?;
    say(&mut *send, &challenge(&nonce, membership)).await?;
    // Only then the epochs are compared: closing at once would overtake the challenge that tells the dialler ours.
    let proof = recv.next(HANDSHAKE_BYTES).await;
    let (key, mut proven) = shared(membership, &theirs)?;
    let transcript = Transcript {
        membership,
        key,
        dialer: connection.peer_id(),
        listener: membership.id,
        dialer_nonce: fixed(&theirs.nonce)?,
        listener_nonce: nonce,
    };
    transcript.check(Role::Dialer, &proof?)?;
    connection.unlock();
    say(&mut *send, &transcript.own(Role::Listener)).await?;
    say(&mut *send, &hello(membership)).await?;
    send.shutdown().await.map_err(FrameError::from)?;
    proven.features = greet(membership, &recv.next(HANDSHAKE_BYTES).await?)?;
    Ok(proven)
}

async fn say<T: serde::Serialize>(send: &mut dyn SendHalf, value: &T) -> Result<(), FrameError> {
    frame::write(send, value, HANDSHAKE_BYTES).await
}

fn challenge(nonce: &[u8; 32], membership: &Membership) -> Challenge {
    Challenge { nonce: ByteBuf::from(nonce.to_vec()), epoch: membership.keys.epoch() }
}

fn hello(membership: &Membership) -> Hello {
    Hello { pool: membership.pool, min_version: PROTOCOL, max_version: PROTOCOL, features: FEATURE_LOAD }
}

/// The key that both ends prove: the older one of theirs and ours.
fn shared(membership: &Membership, theirs: &Challenge) -> Result<(PoolKey, Proven), ProofError> {
    let known = membership.keys.shared(theirs.epoch).ok_or_else(|| wrong_epoch(membership, theirs))?;
    Ok((known.key, Proven { epoch: theirs.epoch, stale: known.until_ms <= now_ms(), features: 0 }))
}

fn wrong_epoch(membership: &Membership, theirs: &Challenge) -> ProofError {
    ProofError::WrongEpoch { ours: membership.keys.epoch(), theirs: theirs.epoch }
}

/// The features of a hello, if that fits ours.
fn greet(membership: &Membership, theirs: &Hello) -> Result<u64, ProofError> {
    if theirs.pool != membership.pool {
        return Err(ProofError::OtherPool);
    }
    if !(theirs.min_version..=theirs.max_version).contains(&PROTOCOL) {
        return Err(ProofError::Version { min: theirs.min_version, max: theirs.max_version });
    }
    Ok(theirs.features)
}

fn fresh_nonce() -> Result<[u8; 32], ProofError> {
    random_bytes().map_err(|e| ProofError::Randomness(e.to_string()))
}

fn fixed(bytes: &[u8]) -> Result<[u8; 32], ProofError> {
    bytes.try_into().map_err(|_| ProofError::Length)
}
