//! The libp2p swarm of one pool: QUIC with the pool proof inside the transport, Kademlia with a validating record
//! store, gossip with validation and peer scoring, discovery, and connections that come back after a crash.
//!
//! The only crate that names `libp2p`; none of its types cross this crate's border. It refuses to know what a record, a
//! vote or a model is: a [`Judge`] decides what is valid, this crate carries what was found valid. It writes nothing to
//! disk: it hands out the records it holds, and takes them back after a restart, when all are judged again.
//!
//! | module | owns |
//! |---|---|
//! | `config` | [`NetConfig`], and every tunable with its reason |
//! | `judge` | the [`Judge`] trait: what is admitted, valid, worth relaying |
//! | `identity` | `NodeId` to `PeerId` and back |
//! | `origins` | how many may be on their way to the gate from one place |
//! | `gate` | the pool proof and the admission check, before a connection reaches the swarm |
//! | `transport` | what connections are made of: QUIC, or Noise and yamux through a relay; and the gate at their end |
//! | `peer` | a peer's connections, and whether its process is a new one: pure |
//! | `records`, `providers`, `restore` | what the DHT makes this node hold: bounded, sequenced, expiring; and held again after a restart |
//! | `dht` | Kademlia, told which peer each record came from |
//! | `gossip` | topics, limits and peer scores of gossipsub |
//! | `swarm`, `listen` | the behaviours put together; listening |
//! | `circuits`, `widest` | how many addresses a relay may name; which of a node's are kept: the latter pure |
//! | `book`, `trim` | whom to dial, and when again; whom to let go: pure |
//! | `queries`, `announce`, `refresh` | questions under way; what is due to be published again; when the routing table is looked through: pure |
//! | `nat` | whether this node can be reached, and through which relays: pure |
//! | `autonat` | AutoNAT over connections of either direction |
//! | `tunnel` | datagrams to members that nothing reaches directly |
//! | `driver`, `events`, `reach` | the task that owns the swarm |
//! | `handle` | [`NetHandle`], which hides the task's channel |
//!
//! A connection's life: QUIC handshake (TLS proves the identity), or a relay's circuit and Noise → the gate (pool key, then admission, within three
//! seconds) → swarm → [`NetEvent::PeerUp`] … [`NetEvent::PeerDown`] → dialled again with back-off.

mod announce;
mod autonat;
mod book;
mod circuits;
mod config;
mod dht;
mod driver;
mod error;
mod events;
mod gate;
mod gossip;
mod handle;
mod identity;
mod judge;
mod listen;
mod nat;
mod origins;
mod peer;
mod providers;
mod queries;
mod reach;
mod records;
mod refresh;
#[cfg(test)]
mod relay_tests;
mod restore;
#[cfg(test)]
mod scripted;
mod swarm;
mod transport;
mod trim;
mod tunnel;
mod widest;

pub use config::NetConfig;
#[doc(hidden)]
pub use driver::start_over;
pub use driver::{Running, start};
pub use error::{Cause, NetError, Refusal};
pub use handle::{HeldRecord, NetEvent, NetHandle, Path};
pub use judge::{Judge, RecordFacts, Topic, Verdict};
pub use nat::Reach;
#[doc(hidden)]
pub use transport::Secured as Wire;
pub use tunnel::{DATAGRAM_BYTES, Tunnel, TunnelReceiver, TunnelSender};
