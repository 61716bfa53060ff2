//! Peer RPC over QUIC: server, client, TLS identity, pool proof. The only crate that names quinn and rustls; it knows
//! nothing of what calls do.
//!
//! A connection is made in three steps. TLS 1.3 with self-signed certificates tells each side the other's identity key
//! (`identity`); on the first stream both prove the pool key over these identities (`proof`); from then on every call
//! is one bidirectional stream ([`Peer`] at the dialling end, [`Handler`] at the listening end). Only the dialling end
//! calls.
//!
//! | module | owns |
//! |---|---|
//! | `connection` | the trait that calls and proofs stand on; quinn is one binding of it |
//! | `quic` | that binding: sockets, transport settings, TLS configurations |
//! | `identity` | certificates from identity keys, and who is behind a certificate |
//! | `frame` | length-framed messages on a stream |
//! | `proof` | the first stream: pool proof and hello |
//! | `endpoint` | one UDP socket: [`Endpoint::bind`], [`Endpoint::connect`], [`Endpoint::serve`] |
//! | `server`, `serve_call` | accepting connections; one call |
//! | `standing`, `load` | what members and strangers may hold; how many at once |
//! | `origin` | whose share of unproven connections is taken |
//! | `handler` | what a server implements |
//! | `peer`, `peers` | calling one peer; a bounded cache of peers |
//! | [`tuning`] | every bound and every delay, with its reason |

mod connection;
mod endpoint;
mod error;
mod frame;
mod handler;
mod identity;
mod load;
mod origin;
mod peer;
mod peers;
mod proof;
mod quic;
mod serve_call;
mod server;
mod standing;
#[cfg(test)]
mod strangers;
pub mod tuning;

pub use connection::{BiStream, Connection, SendHalf};
pub use endpoint::{Endpoint, EndpointConfig};
pub use error::{BindError, CallError, ConnectError, ServeError};
pub use handler::{Handler, IncomingCall, ReplySink};
pub use origin::{Outlet, Outlets};
pub use peer::{Peer, Replies};
pub use peers::{Detour, Peers};
