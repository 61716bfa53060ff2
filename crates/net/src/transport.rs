//! How connections come to be: QUIC, or through a relay, each with the gate at its end. Nothing else in this crate knows
//! what a connection is made of; another transport (in memory, keyed Initials) is put in here.
//!
//! ```text
//! direct    QUIC v1 (TLS 1.3)                              → gate → swarm
//! relayed   relay's circuit → Noise XX → yamux             → gate → swarm
//! punched   QUIC v1, dialled by both, asked for by a relayed connection (DCUtR)  → gate → swarm
//! ```
//! Over a circuit Noise authenticates both identities and encrypts from end to end: the relay forwards ciphertext. It can
//! end the circuit, delay it and count its bytes; a byte that it changes, drops or repeats fails the next
//! authentication tag and ends the connection.

use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identity::Keypair,
    noise, quic, relay, yamux,
};

use crate::{
    circuits::FewAddresses,
    config::{
        CIRCUIT_SETUP, CIRCUIT_STREAMS, CONNECTION_WINDOW, HANDSHAKE_TIMEOUT, QUIC_IDLE_MS, QUIC_KEEP_ALIVE,
        STREAM_WINDOW, STREAMS,
    },
    error::NetError,
    gate::Gate,
};

/// A transport whose connections are authenticated and carry streams.
pub type Secured = Boxed<(PeerId, StreamMuxerBox)>;

/// QUIC and circuits through relays, behind the gate.
pub(crate) fn build_transport(
    keys: &Keypair,
    circuits: relay::client::Transport,
    gate: Gate,
) -> Result<Secured, NetError> {
    Ok(gated(beside_circuits(direct(keys), circuits, keys)?, gate))
}

/// A transport, and circuits beside it.
pub(crate) fn beside_circuits(
    transport: Secured,
    circuits: relay::client::Transport,
    keys: &Keypair,
) -> Result<Secured, NetError> {
    Ok(secured(FewAddresses::new(circuits), keys)?.or_transport(transport).map(|either, _| either.into_inner()).boxed())
}

/// Puts the gate at the end of every connection.
pub(crate) fn gated(transport: Secured, gate: Gate) -> Secured {
    let gate = Arc::new(gate);
    transport.and_then(move |connection, point| Arc::clone(&gate).pass(connection, point)).boxed()
}

fn direct(keys: &Keypair) -> Secured {
    let mut quic = quic::Config::new(keys);
    quic.handshake_timeout = HANDSHAKE_TIMEOUT;
    quic.max_idle_timeout = QUIC_IDLE_MS;
    quic.keep_alive_interval = QUIC_KEEP_ALIVE;
    quic.max_concurrent_stream_limit = STREAMS;
    quic.max_stream_data = STREAM_WINDOW;
    quic.max_connection_data = CONNECTION_WINDOW;
    quic::tokio::Transport::new(quic).map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed()
}

/// Noise and yamux over whatever carries bytes in order.
pub(crate) fn secured<T>(carrier: T, keys: &Keypair) -> Result<Secured, NetError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let noise = noise::Config::new(keys)
        .map_err(|e| NetError::Setup { part: "Noise, which relayed connections need", reason: e.to_string() })?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(CIRCUIT_STREAMS);
    Ok(carrier.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux).timeout(CIRCUIT_SETUP).boxed())
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
