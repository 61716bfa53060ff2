//! Peer RPC between real endpoints on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod cancel;
mod peers;
mod pool;
mod shares;
mod support;
