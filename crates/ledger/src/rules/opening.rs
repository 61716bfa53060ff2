//! Leaves of a validator's predictions, opened: those that a seed drew, and those that anybody has and that contradict the counts. A
//! contradiction is the only thing in grading that costs stake: no run of any model gives such leaves with such counts, whatever
//! others found. An opinion that nobody shares is none.

use zero2ai_proto::{
    ModelName, NodeId,
    limits::{EVIDENCE_HEIGHTS, OPENED_LEAVES},
    proof::LogProof,
    state::{ContradictionState, Due, Endorsement, EntryState, EventKind, FindingState, Offence, RoundState, key},
    tx::{Contradict, OpenLeaves, OpenedLeaf},
};
use zero2ai_trust::{
    commit::Phase,
    committee::{is_challenged, leaves},
    slash::{Contradiction, Leaf, contradiction},
};

use super::{
    Call, Context, beacon, model, record, reward,
    round::{invalid, load, load_entry, round_job, schedule},
    stake,
};
use crate::{draft::Draft, error::TxError, receipt_log::verify_inclusion};

/// Fixes the seed that draws the leaves to open: of the block behind the last one that takes reveals, so that whoever reveals last
/// does not choose it.
pub(super) fn fix_seed(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    (name, number, round): (&ModelName, u32, u64),
) -> Result<(), TxError> {
    let state = load(draft, name, number, round)?;
    let open_seed = Some(beacon::seed(draft, at.pool)?);
    draft.write(key::due(state.end(), name, number, round), &Due::Settle)?;
    draft.write(key::round(name, number, round), &RoundState { open_seed, ..state })
}

/// The places of the leaves that a validator has to open in a round; `None` if it was not asked, or not yet.
#[must_use]
pub fn asked(round: &RoundState, job: &[u8], validator: &NodeId, samples: u32) -> Option<Vec<u32>> {
    let seed = round.open_seed.filter(|seed| is_challenged(seed, job, validator, round.open_ppm))?;
    Some(leaves(&seed, job, validator, samples, u32::from(round.leaves)))
}

/// Looks for a contradiction between what was revealed and leaves that are proved to stand under its root.
///
/// # Errors
/// In words, if there are too many, or one is not under that root.
pub(crate) fn judge(found: &Endorsement, opened: &[OpenedLeaf]) -> Result<Option<Contradiction>, String> {
    if opened.is_empty() || opened.len() > usize::from(OPENED_LEAVES) {
        return Err(format!("{} leaves; 1 to {OPENED_LEAVES} are possible", opened.len()));
    }
    let counts = &found.counts;
    for leaf in opened {
        let (index, size, siblings) = (u64::from(leaf.index), u64::from(counts.samples), leaf.siblings.clone());
        let bytes = OpenedLeaf::bytes(leaf.label, leaf.answer, &leaf.sample);
        verify_inclusion(&counts.predictions_root, &LogProof { index, size, siblings }, &bytes)
            .map_err(|e| e.to_string())?;
    }
    let told: Vec<Leaf> = opened.iter().map(|l| Leaf { index: l.index, label: l.label, answer: l.answer }).collect();
    Ok(contradiction(&counts.classes, counts.samples, &told))
}

/// Takes the leaves that were drawn. If they contradict the counts, the validator has convicted itself.
pub(super) fn open(draft: &mut Draft<'_>, call: &Call<'_>, body: &OpenLeaves) -> Result<(), TxError> {
    let (name, number, round) = (&body.name, body.version, body.round);
    let state = load(draft, name, number, round)?;
    let entry = load_entry(draft, (name, number, round), &call.who)?;
    let Some(found) = &entry.found else { return Err(invalid("nothing was revealed, so there is nothing to open")) };
    // Behind that they can be disputed: who opens late must not escape it.
    if schedule(&state).phase(call.at.height) != Phase::Dispute || call.at.height > state.open_end() {
        let (first, last) = (state.reveal_end().saturating_add(1), state.open_end());
        return Err(invalid(format!("leaves are opened from height {first} to {last}")));
    }
    if entry.opened.is_some() || entry.contradicted.is_some() {
        return Err(invalid("its leaves were opened already"));
    }
    let wanted = asked(&state, &round_job(name, number, round), &call.who, found.counts.samples)
        .ok_or_else(|| invalid("no seed asks this validator to open leaves in this round"))?;
    if !body.leaves.iter().map(|leaf| leaf.index).eq(wanted.iter().copied()) {
        return Err(invalid(format!("the leaves to open are {wanted:?}, in this order")));
    }
    match judge(found, &body.leaves).map_err(|why| TxError::Invalid { what: "leaves", why })? {
        Some(_) => refute(draft, call, (name, number, round), &call.who, entry, &body.leaves),
        None => {
            let opened = Some(call.at.height);
            draft.write(key::entry(name, number, round, &call.who), &EntryState { opened, ..entry })
        }
    }
}

/// Takes a proof that somebody's counts are wrong, from whoever has it.
pub(super) fn contradict(draft: &mut Draft<'_>, call: &Call<'_>, body: &Contradict) -> Result<(), TxError> {
    let Contradict { name, version, round, validator, leaves } = body;
    let entry = load_entry(draft, (name, *version, *round), validator)?;
    let Some(found) = &entry.found else { return Err(invalid("it revealed nothing that could be contradicted")) };
    if entry.contradicted.is_some() {
        return Err(TxError::Exists(format!("a contradiction of {validator} in round {round} of {name}@{version}")));
    }
    if call.at.height.saturating_sub(found.height) > EVIDENCE_HEIGHTS {
        return Err(invalid(format!("it was revealed more than {EVIDENCE_HEIGHTS} heights ago")));
    }
    let judged = judge(found, leaves).map_err(|why| TxError::Invalid { what: "leaves", why })?;
    if judged.is_none() {
        let why = "they agree with the counts: what others found otherwise is no proof".to_owned();
        return Err(TxError::Invalid { what: "leaves", why });
    }
    refute(draft, call, (name, *version, *round), validator, entry, leaves)
}

/// Records a contradiction and convicts. Before the settlement the entry then counts for nothing there; after it, what its validator
/// found of the version is taken away for the rounds to come, and the score that was told stands until the next.
fn refute(
    draft: &mut Draft<'_>,
    call: &Call<'_>,
    (name, number, round): (&ModelName, u32, u64),
    validator: &NodeId,
    entry: EntryState,
    opened: &[OpenedLeaf],
) -> Result<(), TxError> {
    let height = call.at.height;
    let proof = ContradictionState { leaves: opened.to_vec(), reporter: call.who, tx: call.id, height };
    draft.write(key::contradiction(name, number, round, validator), &proof)?;
    stake::convict(draft, call, validator, Offence::Contradiction)?;
    let contradicted = EntryState { contradicted: Some(height), ..entry };
    strike(draft, call, (name, number, round), validator, contradicted, EventKind::Contradicted)
}

/// Writes an entry that was found wrong. What its validator found of the version counts no more from the next settlement on, its record has
/// a bad event, and the epoch in which that came out earns it nothing; a settlement that is yet to come sees to the record itself. All of that
/// once for an entry, however many proofs there are.
pub(super) fn strike(
    draft: &mut Draft<'_>,
    call: &Call<'_>,
    (name, number, round): (&ModelName, u32, u64),
    validator: &NodeId,
    entry: EntryState,
    kind: EventKind,
) -> Result<(), TxError> {
    let first = entry.contradicted.is_none() || entry.refuted.is_none();
    if first && entry.standing.is_some() {
        stake::judge(draft, call.at, validator, 0, 1)?;
        draft.write(key::finding(name, number, validator), &FindingState::default())?;
    }
    if first {
        reward::void(draft, call.at.height, validator)?;
    }
    draft.write(key::entry(name, number, round, validator), &entry)?;
    // The history tells of whom it is, the state who brought it.
    let model = model::model(draft, name)?;
    let of = Call { who: *validator, ..*call };
    record(draft, &of, name, model, kind, number)
}
