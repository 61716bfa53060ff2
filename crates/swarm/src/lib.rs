//! Moves sealed chunks between stores: fetches a model from many peers at once, and answers those who fetch.
//!
//! This crate knows ciphertext only: no keys, no names, no transport. How a peer is asked is the caller's [`Source`].
//!
//! | module | owns |
//! |---|---|
//! | [`source`] | [`Source`], the questions that a peer must be able to answer |
//! | [`fetch`](mod@fetch) | [`Fetch`]: one transfer from its manifest to its last chunk |
//! | `transfer` | the loop that carries out what `zero2ai-chunk`'s planner decides |
//! | `holders` | what peers say they hold, and how much each may say |
//! | [`board`] | [`Board`]: what open transfers hold, told as it comes |
//! | [`traffic`] | [`Traffic`]: upload slots and limits of bytes a second |
//! | `bucket` | the token bucket under these limits |
//! | [`serve`] | the other side: what this store can give |
//! | [`error`] | [`FetchError`] |

pub mod board;
mod bucket;
pub mod error;
pub mod fetch;
mod holders;
pub mod serve;
pub mod source;
pub mod traffic;
mod transfer;

pub use board::{Board, Listener, News};
pub use error::FetchError;
pub use fetch::{Fetch, FetchOptions, FetchReport, Progress, fetch};
pub use serve::{HaveStream, bitfield, have, serve_chunk};
pub use source::{NewsSink, Source, SourceError};
pub use traffic::{Traffic, TrafficLimits, UploadSlot};
