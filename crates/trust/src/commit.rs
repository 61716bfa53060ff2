//! Commit, then reveal: nobody sees another's finding before his own is fixed. Owns the commitment's bytes, the windows of a round and
//! what becomes of a bond. What is revealed, and where it is kept, are the ledger's.

use zero2ai_proto::{Digest, ModelName, NodeId, PoolId, ids::tagged_hash};

const COMMITMENT: &str = "zero2ai endorsement commitment v1";

/// What a commitment fixes.
#[derive(Clone, Copy, Debug)]
pub struct Commitment<'a> {
    /// The pool, which is the chain.
    pub pool: &'a PoolId,
    /// The model.
    pub name: &'a ModelName,
    /// The version.
    pub version: u32,
    /// The round of that version.
    pub round: u64,
    /// Who commits. With the key inside, a copied commitment can be revealed by nobody.
    pub validator: &'a NodeId,
    /// Hash of the encoded body that will be revealed.
    pub body: &'a Digest,
    /// 32 random bytes, without which the few likely bodies could be tried.
    pub salt: &'a [u8; 32],
}

impl Commitment<'_> {
    /// The digest that goes on the ledger. Fields have a fixed length or are led by it, so no two commitments share their bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let name = self.name.to_string();
        let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
        let bytes = [
            self.pool.as_bytes().as_slice(),
            &length.to_le_bytes(),
            name.as_bytes(),
            &self.version.to_le_bytes(),
            &self.round.to_le_bytes(),
            &self.validator.0,
            self.body.as_bytes(),
            self.salt,
        ];
        Digest(tagged_hash(COMMITMENT, &bytes.concat()))
    }
}

/// The lengths of a round's parts, in heights: a chain that stands still closes no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Heights in which commitments are taken.
    pub commit: u64,
    /// Heights in which they are revealed.
    pub reveal: u64,
    /// Heights in which leaves are opened and findings disputed. The score counts only what stood up to that.
    pub dispute: u64,
}

/// Windows that are too short to be fair.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a window of {window} heights is too short for {signers} signers: the proposers that may be hostile could keep an endorsement \
     out for all of it. Give every window at least {least} heights."
)]
pub struct WindowError {
    /// The shortest of the windows.
    pub window: u64,
    /// Signers.
    pub signers: u64,
    /// What it must be at least.
    pub least: u64,
}

impl Windows {
    /// Checks that every window is longer than f + 1 proposers, f being the most signers that may be hostile.
    ///
    /// # Errors
    /// If one is not.
    pub fn check(&self, signers: u64) -> Result<(), WindowError> {
        let least = signers.saturating_sub(1) / 3 + 2;
        let window = self.commit.min(self.reveal).min(self.dispute);
        if window < least { Err(WindowError { window, signers, least }) } else { Ok(()) }
    }
}

/// Where a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has not begun.
    Before,
    /// Commitments are taken.
    Commit,
    /// They are revealed.
    Reveal,
    /// Leaves are opened and findings disputed.
    Dispute,
    /// Its score is final.
    Settled,
}

/// A round: when it began, and its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The first height at which a commitment is taken.
    pub opened: u64,
    /// Its parts.
    pub windows: Windows,
}

impl Schedule {
    /// Where the round stands at a height.
    #[must_use]
    pub fn phase(&self, height: u64) -> Phase {
        let Some(mut past) = height.checked_sub(self.opened) else { return Phase::Before };
        let parts = [
            (self.windows.commit, Phase::Commit),
            (self.windows.reveal, Phase::Reveal),
            (self.windows.dispute, Phase::Dispute),
        ];
        for (length, phase) in parts {
            match past.checked_sub(length) {
                Some(rest) => past = rest,
                None => return phase,
            }
        }
        Phase::Settled
    }
}

/// What one validator has done in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It committed.
    Committed {
        /// To this.
        digest: Digest,
        /// In the block at this height.
        height: u64,
        /// As this one of the block's commitments.
        index: u32,
    },
    /// It revealed what it had committed to.
    Revealed {
        /// Height of the commitment, which decides who was first.
        height: u64,
        /// Its place in that block.
        index: u32,
        /// Hash of the body.
        body: Digest,
    },
}

/// Why a step of a round is refused.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StepError {
    /// Outside its window.
    #[error(
        "the round is in its phase {at:?} at this height and takes this in its phase {needs:?} only; wait for it, or for the next round"
    )]
    Phase {
        /// Where the round stands.
        at: Phase,
        /// Where it must stand.
        needs: Phase,
    },
    /// A second one.
    #[error("this validator has done so in this round already; an endorsement is fixed once it is committed to")]
    Again,
    /// Nothing was committed.
    #[error("this validator committed to nothing in this round, so there is nothing to reveal; commit in the next one")]
    Nothing,
    /// Something else was committed.
    #[error(
        "what was revealed is not what was committed to: pool, name, version, round, validator, body and salt must all be the same. \
         Reveal the body and salt that were kept with the commitment."
    )]
    Other,
}

/// Takes a commitment at a height, as the `index`th of its block.
///
/// # Errors
/// Outside the window, or if there is one already.
pub fn commit(
    schedule: &Schedule,
    held: Option<&Entry>,
    digest: Digest,
    height: u64,
    index: u32,
) -> Result<Entry, StepError> {
    need(schedule, height, Phase::Commit)?;
    if held.is_some() { Err(StepError::Again) } else { Ok(Entry::Committed { digest, height, index }) }
}

/// Takes a reveal at a height.
///
/// # Errors
/// Outside the window, without a commitment, a second time, or if something else was committed to.
pub fn reveal(
    schedule: &Schedule,
    held: Option<&Entry>,
    revealed: &Commitment<'_>,
    height: u64,
) -> Result<Entry, StepError> {
    need(schedule, height, Phase::Reveal)?;
    match held {
        None => Err(StepError::Nothing),
        Some(Entry::Revealed { .. }) => Err(StepError::Again),
        Some(Entry::Committed { digest, .. }) if *digest != revealed.digest() => Err(StepError::Other),
        Some(Entry::Committed { height, index, .. }) => {
            Ok(Entry::Revealed { height: *height, index: *index, body: *revealed.body })
        }
    }
}

fn need(schedule: &Schedule, height: u64, needs: Phase) -> Result<(), StepError> {
    let at = schedule.phase(height);
    if at == needs { Ok(()) } else { Err(StepError::Phase { at, needs }) }
}

/// A pause between two blocks within a window that counts as a halt of the chain, milliseconds: sixty of the slow heartbeats of
/// an idle chain. What was to be done meanwhile could not be.
pub const HALT_MS: u64 = 600_000;

/// What becomes of a bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// It goes back.
    Returned,
    /// It is burned.
    Burned,
}

/// What becomes of the bond of a commitment once the window of reveals is over: burned if nothing was revealed, unless the chain
/// halted meanwhile. `longest_pause_ms` is the longest time between two blocks from the commitment to the end of the window.
#[must_use]
pub fn bond(entry: &Entry, longest_pause_ms: u64) -> Bond {
    match entry {
        Entry::Revealed { .. } => Bond::Returned,
        Entry::Committed { .. } if longest_pause_ms >= HALT_MS => Bond::Returned,
        Entry::Committed { .. } => Bond::Burned,
    }
}
