//! How models are graded: windows, seats, bonds, openings. Set by an administrator; each round keeps what was in force when it was
//! opened.

use zero2ai_proto::{
    limits::{OPENED_LEAVES, SEATS, WINDOW_HEIGHTS},
    state::{Rights, key},
    tx::Grading,
};
use zero2ai_trust::{PPM, commit::Windows, score::MIN_DATASETS};

use super::Call;
use crate::{draft::Draft, error::TxError};

/// What is in force.
pub(super) fn grading(draft: &Draft<'_>) -> Result<Grading, TxError> {
    Ok(draft.read(key::GRADING)?.unwrap_or_default())
}

/// Sets it for rounds that are opened from here on.
pub(super) fn set(draft: &mut Draft<'_>, call: &Call<'_>, body: &Grading) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let invalid = |why: String| TxError::Invalid { what: "grading", why };
    let Grading { delay, commit, reveal, dispute, seats, bond_ppm, open_ppm, leaves, window } = *body;
    for (what, heights) in
        [("delay", delay), ("commit", commit), ("reveal", reveal), ("dispute", dispute), ("window", window)]
    {
        if !(1..=WINDOW_HEIGHTS).contains(&heights) {
            return Err(invalid(format!("{what} is {heights} heights; 1 to {WINDOW_HEIGHTS} are possible")));
        }
    }
    let signers = call.at.signers.as_slice().len() as u64;
    // Leaves are drawn by the seed of the first block of the last window.
    let windows = Windows { commit, reveal, dispute: dispute.saturating_sub(1) };
    windows.check(signers).map_err(|e| invalid(e.to_string()))?;
    if usize::from(seats) < MIN_DATASETS || seats > SEATS {
        return Err(invalid(format!("{seats} seats; {MIN_DATASETS} to {SEATS} are possible")));
    }
    if bond_ppm > PPM || open_ppm > PPM {
        return Err(invalid(format!("a bond of {bond_ppm} and openings of {open_ppm} millionths; {PPM} are the most")));
    }
    if !(1..=OPENED_LEAVES).contains(&leaves) {
        return Err(invalid(format!("{leaves} leaves; 1 to {OPENED_LEAVES} are possible")));
    }
    draft.write(key::GRADING.to_vec(), body)
}
