//! The client against small real nodes on loopback: a real ledger, real proofs, real receipts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod account;
mod audit;
mod chain;
mod generate;
mod node;
mod outcome;
mod pool_key;
mod predict;
mod resolve;
