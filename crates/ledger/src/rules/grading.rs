//! How models are graded: windows, seats, bonds, openings. Set by an administrator; each round keeps what was in force when it was
//! opened.

use zero2ai_proto::{
    limits::{OPENED_LEAVES, ROUND_HEIGHTS, SEATS, WINDOW_HEIGHTS},
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

/// The windows in which somebody has to be heard: of the last one what is left when leaves were opened, to dispute them.
pub(super) const fn windows(grading: &Grading) -> Windows {
    let Grading { commit, reveal, dispute, .. } = *grading;
    Windows { commit, reveal, dispute: dispute.saturating_sub(1).saturating_sub(reveal) }
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
    if dispute <= reveal.saturating_add(1) {
        let why = format!(
            "dispute is {dispute} heights; 1 draws leaves, {reveal} open them, and behind those they are disputed"
        );
        return Err(invalid(why));
    }
    windows(body).check(signers).map_err(|e| invalid(e.to_string()))?;
    let span = commit.saturating_add(reveal).saturating_add(dispute);
    if span > ROUND_HEIGHTS {
        return Err(invalid(format!(
            "commit, reveal and dispute are {span} heights; {ROUND_HEIGHTS} are possible, or a stake could leave before its round is over"
        )));
    }
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
