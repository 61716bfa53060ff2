//! Moves sealed chunks between stores: fetches a model from many peers at once, and answers those who fetch.
//!
//! This crate knows ciphertext only: no keys, no names, no transport. How a peer is asked is the caller's [`Source`].
//!
//! | module | owns |
//! |---|---|
//! | [`source`] | [`Source`], the questions that a peer must be able to answer |
//! | [`fetch`](mod@fetch) | [`fetch()`](fetch::fetch): one transfer from its manifest to its last chunk |
//! | `transfer` | the loop that carries out what `zero2ai-chunk`'s planner decides |
//! | [`serve`] | the other side: what this store can give |
//! | [`error`] | [`FetchError`] |

pub mod error;
pub mod fetch;
pub mod serve;
pub mod source;
mod transfer;

pub use error::FetchError;
pub use fetch::{FetchOptions, FetchReport, Progress, fetch};
pub use serve::{bitfield, have, serve_chunk};
pub use source::{Source, SourceError};
