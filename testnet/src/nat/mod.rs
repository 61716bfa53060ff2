//! A pool across NATs: two members, each behind a NAT of its own, and one that can be reached, which relays for them. Real
//! daemons in network namespaces; the NATs are the kernel's.
//!
//! ```text
//! node a ── gateway a ─┐                 ┌─ gateway b ── node b
//! 192.168.11.2   203.0.113.11         203.0.113.12   192.168.12.2
//!                      └── 203.0.113.0/24 ──┘
//!                                │
//!                         relay 203.0.113.1
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`world`] | namespaces, wires, NATs |
//! | [`lab`] | the pool in it, and what is tried and measured |
//! | [`probe`] | predictions over one HTTP connection, from inside a namespace |

pub mod lab;
pub mod probe;
pub mod world;

pub use lab::{Lab, Options};
pub use world::{Kind, World, missing};
