//! The rounds of an audited version: that each reveal was committed to in time, that each figure follows from its counts, that the
//! outcome is what the entries come to, and that who is said to be contradicted is, by leaves under his own root.
//!
//! What stake and record a validator had before a settlement, what it had found in earlier rounds, and that a jury refuted what it opened,
//! is the ledger's word.

use zero2ai_proto::{
    ModelName, NodeId, decode,
    state::{ContradictionState, EntryState, Event, EventKind, RoundState, Score, Version, key},
};

use super::{AuditError, Walk, check_endorsement};
use crate::{
    LedgerError,
    draft::VALUE_BYTES,
    light::show,
    rules::{judge, outcome, round_job, score_after},
};

/// One round of an [`super::AuditReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundRow {
    /// The version.
    pub version: u32,
    /// The round, from 1.
    pub round: u64,
    /// When it was opened, who sat, what it came to.
    pub state: RoundState,
    /// Everyone who revealed figures in it, in that order.
    pub entries: Vec<EntryRow>,
}

/// What one validator did in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// Who.
    pub validator: NodeId,
    /// What.
    pub entry: EntryState,
    /// What proves its counts wrong, if anything does.
    pub contradiction: Option<ContradictionState>,
}

/// The rounds of a version as the history tells them: each with its opening, then its reveals.
fn told(events: &[Event], version: u32) -> Vec<Vec<&Event>> {
    let mut rounds: Vec<Vec<&Event>> = Vec::new();
    for event in events.iter().filter(|event| event.version == version) {
        match (event.kind, rounds.last_mut()) {
            (EventKind::Opened, _) => rounds.push(vec![event]),
            (EventKind::Revealed, Some(round)) => round.push(event),
            _ => {}
        }
    }
    rounds
}

/// Shows the entries of a version's rounds, in the order in which [`read`] takes them.
pub(super) fn show_all(
    (name, version): (&ModelName, u32),
    events: &[Event],
    show: &mut impl FnMut(Vec<u8>) -> Result<Option<Vec<u8>>, LedgerError>,
) -> Result<(), LedgerError> {
    for (round, events) in (1..).zip(told(events, version)) {
        show(key::round(name, version, round))?;
        for event in events.iter().skip(1) {
            let Some(bytes) = show(key::entry(name, version, round, &event.account))? else { continue };
            if decode::<EntryState>(&bytes, VALUE_BYTES)?.contradicted.is_some() {
                show(key::contradiction(name, version, round, &event.account))?;
            }
        }
    }
    Ok(())
}

/// Reads and checks them. `score` is what the version's endorsements without a round come to; the score after its rounds is returned.
pub(super) fn read(
    walk: &mut Walk<'_>,
    name: &ModelName,
    (number, version): (u32, &Version),
    events: &[Event],
    mut score: Option<Score>,
) -> Result<(Vec<RoundRow>, Option<Score>), AuditError> {
    let mut rows = Vec::new();
    for (round, events) in (1..).zip(told(events, number)) {
        let state_key = key::round(name, number, round);
        let state: RoundState = walk.must(&state_key)?;
        let mut entries = Vec::new();
        for event in events.iter().skip(1) {
            entries.push(read_entry(walk, name, (number, version), (round, &state), event)?);
        }
        let row = RoundRow { version: number, round, state, entries };
        if events.first().is_none_or(|opened| opened.height != row.state.opened) {
            return Err(fail(&state_key, "the history tells its opening otherwise"));
        }
        check_outcome(&state_key, name, &row)?;
        if let Some(outcome) = row.state.outcome.filter(|_| score.is_some() || !row.entries.is_empty()) {
            score = Some(score_after(score, &outcome));
        }
        rows.push(row);
    }
    let proved = rows.iter().flat_map(|row| &row.entries).filter(|row| row.contradiction.is_some()).count();
    let told = events.iter().filter(|e| e.kind == EventKind::Contradicted && e.version == number).count();
    if proved != told {
        return Err(fail(&key::rounds(name, number), "the history tells of another number of contradictions"));
    }
    let refuted = rows.iter().flat_map(|row| &row.entries).filter(|row| row.entry.refuted.is_some()).count();
    if refuted != events.iter().filter(|e| e.kind == EventKind::Refuted && e.version == number).count() {
        return Err(fail(&key::rounds(name, number), "the history tells of another number of refutations"));
    }
    Ok((rows, score))
}

fn fail(key: &[u8], why: &'static str) -> AuditError {
    AuditError::Contradiction { key: show(key), why }
}

fn read_entry(
    walk: &mut Walk<'_>,
    name: &ModelName,
    (number, version): (u32, &Version),
    (round, state): (u64, &RoundState),
    event: &Event,
) -> Result<EntryRow, AuditError> {
    let validator = event.account;
    let key = key::entry(name, number, round, &validator);
    let entry: EntryState = walk.must(&key)?;
    let Some(found) = &entry.found else { return Err(fail(&key, "the history tells of figures, and it has none")) };
    check_endorsement(&key, name, number, version, found, event)?;
    let within = |height: u64, after: u64, last: u64| after < height && height <= last;
    if found.committed != Some(entry.place)
        || !within(entry.place.height, state.draws, state.commit_end())
        || !within(found.height, state.commit_end(), state.reveal_end())
        || entry.opened.is_some_and(|height| !within(height, state.reveal_end(), state.open_end()))
    {
        return Err(fail(&key, "a step of it stands outside of its window"));
    }
    if !state.seats(&validator) {
        return Err(fail(&key, "its validator has no seat"));
    }
    let contradiction = match entry.contradicted {
        None => None,
        Some(height) => {
            let proof_key = key::contradiction(name, number, round, &validator);
            let proof: ContradictionState = walk.must(&proof_key)?;
            if proof.height != height || !matches!(judge(found, &proof.leaves), Ok(Some(_))) {
                return Err(fail(&proof_key, "its leaves do not contradict the counts that were revealed"));
            }
            Some(proof)
        }
    };
    Ok(EntryRow { validator, entry, contradiction })
}

fn check_outcome(key: &[u8], name: &ModelName, row: &RoundRow) -> Result<(), AuditError> {
    let Some(outcome_told) = row.state.outcome else { return Ok(()) };
    // Disputes, of which an audit has no part, may have delayed it.
    if outcome_told.height < row.state.end()
        || row.state.disputes > 0
        || row.entries.iter().any(|e| e.entry.standing.is_none())
    {
        return Err(fail(key, "it is settled, and before its end or not with everyone who revealed"));
    }
    let entries: Vec<_> = row.entries.iter().map(|e| (e.validator, e.entry.clone())).collect();
    let job = round_job(name, row.version, row.round);
    let (computed, _) = outcome(&row.state, &job, &entries, outcome_told.height);
    if computed == outcome_told { Ok(()) } else { Err(fail(key, "its outcome is not what its entries come to")) }
}
