//! Endorsements and scores: a validator commits to its counts and reveals them; they become figures, a verdict and a score, computed here by every node and
//! again by every auditor.

use std::collections::BTreeSet;

use zero2ai_proto::{
    CodecError, Digest, ModelName, NodeId, PoolId, decode, encode,
    ids::tagged_hash,
    limits::CLASSES,
    manifest::Task,
    state::{CommitState, Committed, Endorsement, EventKind, Model, Rights, Score, Verdict, Version, key},
    tx::{Commit, Endorse, Reveal},
};
use zero2ai_trust::{Vote, check_counts, commit::Commitment, macro_scores, round_score, verdict};

use super::{Call, Context, model, record};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

const PREFIX: &[u8] = b"endorsement/";

fn invalid(what: &'static str, why: impl Into<String>) -> TxError {
    TxError::Invalid { what, why: why.into() }
}

/// The commitment to figures: a digest that shows nothing of them without the salt.
///
/// # Errors
/// Never with figures that can be encoded, as all that were decoded can.
pub fn commitment(pool: &PoolId, validator: &NodeId, endorse: &Endorse, salt: &[u8; 32]) -> Result<Digest, CodecError> {
    let body = Digest(tagged_hash("zero2ai endorsement body v1", &encode(endorse)?));
    let Endorse { name, version, .. } = endorse;
    Ok(Commitment { pool, name, version: *version, round: 0, validator, body: &body, salt }.digest())
}

/// Fixes what a validator will say. Until it is revealed another commitment may take its place, and its turn is lost then: a
/// validator that lost its salt begins again.
pub(super) fn commit(draft: &mut Draft<'_>, call: &Call<'_>, body: &Commit) -> Result<(), TxError> {
    gradable(draft, call, &body.name, body.version)?;
    let mut index = 0u32;
    for (key, value) in draft.scan(&key::commits(&body.name, body.version)) {
        let made = decode::<CommitState>(value, VALUE_BYTES).map_err(|e| broken(key, &e))?;
        index = index.max(made.place.index.saturating_add(1));
    }
    let place = Committed { height: call.at.height, index };
    draft.write(key::commit(&body.name, body.version, &call.who), &CommitState { commitment: body.commitment, place })
}

/// Records what a validator committed to in an earlier block. So nobody who saw a dataset's root here was before the one who
/// brought it.
pub(super) fn reveal(draft: &mut Draft<'_>, call: &Call<'_>, body: &Reveal) -> Result<(), TxError> {
    let Reveal { endorse, salt } = body;
    let made: Option<CommitState> = draft.read(&key::commit(&endorse.name, endorse.version, &call.who))?;
    let made = made.ok_or_else(|| TxError::Missing(format!("a commitment to {}@{}", endorse.name, endorse.version)))?;
    if made.place.height >= call.at.height {
        return Err(invalid("reveal", "its commitment must be final first: it belongs into a later block"));
    }
    let salt: &[u8; 32] =
        salt.as_slice().try_into().map_err(|_| invalid("salt", format!("{} bytes instead of 32", salt.len())))?;
    let shown = commitment(call.at.pool, &call.who, endorse, salt).map_err(|e| invalid("reveal", e.to_string()))?;
    if shown != made.commitment {
        return Err(invalid("reveal", "these figures with this salt are not what was committed to"));
    }
    record_figures(draft, call, endorse, Some(made.place))
}

/// Records one validator's counts for a version, once, without a commitment before.
pub(super) fn endorse(draft: &mut Draft<'_>, call: &Call<'_>, body: &Endorse) -> Result<(), TxError> {
    record_figures(draft, call, body, None)
}

/// The model and the version, if the signer may grade it: nobody endorses what he published himself, or owns, or a version twice.
fn gradable(draft: &Draft<'_>, call: &Call<'_>, name: &ModelName, number: u32) -> Result<(Model, Version), TxError> {
    let found = may_grade(draft, call, name, number)?;
    if draft.get(&key::endorsement(name, number, &call.who)).is_some() {
        return Err(TxError::Exists(format!("an endorsement of {name}@{number} by {}", call.who)));
    }
    Ok(found)
}

/// The same, but for having done so before.
pub(crate) fn may_grade(
    draft: &Draft<'_>,
    call: &Call<'_>,
    name: &ModelName,
    number: u32,
) -> Result<(Model, Version), TxError> {
    call.need(Rights::VALIDATOR)?;
    let model = model::model(draft, name)?;
    let version = model::version(draft, name, number)?;
    if version.publisher == call.who || model.owner == call.who {
        return Err(invalid("endorsement", "neither the publisher of a version nor the model's owner can endorse it"));
    }
    if version.withdrawn {
        return Err(invalid("version", format!("{name}@{number} was withdrawn")));
    }
    graded_classes(version.task)?;
    Ok((model, version))
}

fn record_figures(
    draft: &mut Draft<'_>,
    call: &Call<'_>,
    body: &Endorse,
    committed: Option<Committed>,
) -> Result<(), TxError> {
    let (model, version) = gradable(draft, call, &body.name, body.version)?;
    check(body, &version)?;
    let figures = figures(body, &version).ok_or_else(|| invalid("counts", "they give no figures"))?;
    let endorsement = Endorsement { height: call.at.height, tx: call.id, committed, ..figures };
    draft.write(key::endorsement(&body.name, body.version, &call.who), &endorsement)?;
    record(draft, call, &body.name, model, EventKind::Endorsed, body.version)
}

/// Whether counts are of as many classes as the model has, and agree with each other and their totals.
pub(crate) fn check(counts: &Endorse, version: &Version) -> Result<(), TxError> {
    let classes = graded_classes(version.task)?;
    if counts.classes.len() != classes {
        return Err(invalid("counts", format!("{} classes; the model has {classes}", counts.classes.len())));
    }
    check_counts(&counts.classes, counts.samples, counts.correct).map_err(|e| invalid("counts", e.to_string()))
}

/// Counts that an endorsement of such a model carries. What is no classifier has one class: a sample was right (a true positive) or was
/// not (a false positive and a false negative at once), and all figures are the share of right ones.
pub(super) fn graded_classes(task: Task) -> Result<usize, TxError> {
    match task {
        Task::Classify { classes } if usize::from(classes) <= CLASSES => Ok(usize::from(classes)),
        Task::Classify { classes } => Err(invalid("task", format!("{classes} classes; at most {CLASSES} are graded"))),
        Task::Tensors | Task::Generate { .. } | Task::Embed { .. } => Ok(1),
    }
}

/// What counts say, by the thresholds of the version: everything but height, transaction and commitment, which are left empty.
/// `None` if the counts give no figures.
pub(crate) fn figures(counts: &Endorse, version: &Version) -> Option<Endorsement> {
    let figures = macro_scores(&counts.classes)?;
    Some(Endorsement {
        counts: counts.clone(),
        precision_ppm: figures.precision_ppm,
        recall_ppm: figures.recall_ppm,
        f1_ppm: figures.f1_ppm,
        quality_ppm: figures.f1_ppm,
        verdict: verdict(figures.f1_ppm, version.thresholds),
        height: 0,
        tx: zero2ai_proto::TxId([0; 32]),
        committed: None,
    })
}

/// An endorsement without a round as a vote: everyone weighs 1.
fn vote(e: &Endorsement) -> Vote {
    // What was never committed to stands behind all commitments of its block.
    let place = e.committed.unwrap_or(Committed { height: e.height, index: u32::MAX });
    Vote {
        weight: 1,
        quality_ppm: e.quality_ppm,
        dataset_root: e.counts.dataset_root,
        samples: e.counts.samples,
        height: place.height,
        index: place.index,
    }
}

/// Which of a version's endorsements (without a round) its score is of: one for each dataset.
#[must_use]
pub fn counted<'a>(endorsements: impl IntoIterator<Item = &'a Endorsement>) -> Vec<bool> {
    zero2ai_trust::counted(&endorsements.into_iter().map(vote).collect::<Vec<_>>())
}

/// The score that `endorsements` come to. Everyone weighs 1 while there is neither stake nor reputation.
pub(crate) fn score<'a>(endorsements: impl IntoIterator<Item = &'a Endorsement>) -> Score {
    let (mut votes, mut verdicts, mut height) = (Vec::new(), [0u32; 3], 0);
    for e in endorsements {
        votes.push(vote(e));
        let place = match e.verdict {
            Verdict::Positive => 0,
            Verdict::Negative => 1,
            Verdict::Abstain => 2,
        };
        verdicts[place] = verdicts[place].saturating_add(1);
        height = height.max(e.height);
    }
    let parts = round_score(&votes);
    Score { score_ppm: parts.score_ppm, verdicts, datasets: parts.datasets, samples: parts.samples, height }
}

/// Computes anew the score of every version that this block endorses: once a block, since each takes all endorsements.
pub(super) fn update_scores(draft: &mut Draft<'_>, at: &Context<'_>) -> Result<(), TxError> {
    let touched: BTreeSet<Vec<u8>> =
        crate::draft::written_under(draft.written(), PREFIX).filter_map(|(key, _)| version_part(key)).collect();
    for version in touched {
        let prefix = [PREFIX, &version, b"/"].concat();
        let mut endorsements = Vec::new();
        for (key, value) in draft.scan(&prefix) {
            endorsements.push(decode::<Endorsement>(value, VALUE_BYTES).map_err(|e| broken(key, &e))?);
        }
        let score = score(&endorsements);
        debug_assert_eq!(score.height, at.height, "this block holds the newest endorsement");
        draft.write([b"score/".as_slice(), &version].concat(), &score)?;
    }
    Ok(())
}

/// `NAME@V` of `endorsement/NAME@V/KEY`.
fn version_part(key: &[u8]) -> Option<Vec<u8>> {
    let rest = key.strip_prefix(PREFIX)?;
    let end = rest.iter().rposition(|b| *b == b'/')?;
    Some(rest[..end].to_vec())
}
