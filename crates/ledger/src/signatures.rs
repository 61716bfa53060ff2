//! The signatures of a block's transactions, checked on all cores, each by itself.
//!
//! Not as one batch, though Ed25519 offers that: a batch adds the equations of all signatures up under random factors, and a key
//! or signature with a part of small order may pass there and fail alone, or pass with one draw of the factors and fail with the
//! next. Two nodes would disagree on a block that somebody made for that. To rule such parts out first costs as much as the
//! strict check does. So each signature meets the one strict check that all others in the system meet, and every node comes to
//! the same verdict.

use std::thread::{available_parallelism, scope};

use zero2ai_proto::{PoolId, Signed, tx::Tx};

/// Transactions for which one more thread is worth its start: some milliseconds of work.
const SHARE: usize = 64;

/// Which of `txs` carry their signer's signature in `pool`, in their order.
pub(crate) fn valid(pool: &PoolId, txs: &[Signed<Tx>]) -> Vec<bool> {
    let check = |txs: &[Signed<Tx>]| txs.iter().map(|tx| tx.signature_is_valid(pool)).collect::<Vec<bool>>();
    let threads = available_parallelism().map_or(1, usize::from).min(txs.len() / SHARE);
    if threads < 2 {
        return check(txs);
    }
    let shares = txs.chunks(txs.len().div_ceil(threads));
    scope(|all| {
        let checked: Vec<_> = shares.map(|share| (share, all.spawn(move || check(share)))).collect();
        // A thread that could not end does not decide: its share is checked again here.
        checked.into_iter().flat_map(|(share, thread)| thread.join().unwrap_or_else(|_| check(share))).collect()
    })
}
