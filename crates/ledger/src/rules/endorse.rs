//! Endorsements and scores: a validator's counts become figures, a verdict and a score, computed here by every node and
//! again by every auditor.

use std::collections::BTreeSet;

use zero2ai_proto::{
    decode,
    limits::CLASSES,
    manifest::Task,
    state::{Endorsement, EventKind, Rights, Score, Verdict, Version, key},
    tx::Endorse,
};
use zero2ai_trust::{Vote, check_counts, macro_scores, round_score, verdict};

use super::{Call, Context, model, record};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

const PREFIX: &[u8] = b"endorsement/";

fn invalid(what: &'static str, why: impl Into<String>) -> TxError {
    TxError::Invalid { what, why: why.into() }
}

/// Records one validator's counts for a version, once. Nobody endorses what he published himself, or owns.
pub(super) fn endorse(draft: &mut Draft<'_>, call: &Call<'_>, body: &Endorse) -> Result<(), TxError> {
    call.need(Rights::VALIDATOR)?;
    let model = model::model(draft, &body.name)?;
    let version = model::version(draft, &body.name, body.version)?;
    if version.publisher == call.who || model.owner == call.who {
        return Err(invalid("endorsement", "neither the publisher of a version nor the model's owner can endorse it"));
    }
    if version.withdrawn {
        return Err(invalid("version", format!("{}@{} was withdrawn", body.name, body.version)));
    }
    let key = key::endorsement(&body.name, body.version, &call.who);
    if draft.get(&key).is_some() {
        return Err(TxError::Exists(format!("an endorsement of {}@{} by {}", body.name, body.version, call.who)));
    }
    let endorsement = grade(body, &version, call)?;
    draft.write(key, &endorsement)?;
    record(draft, call, &body.name, model, EventKind::Endorsed, body.version)
}

fn grade(body: &Endorse, version: &Version, call: &Call<'_>) -> Result<Endorsement, TxError> {
    check(body, version)?;
    let figures = figures(body, version).ok_or_else(|| invalid("counts", "they give no figures"))?;
    Ok(Endorsement { height: call.at.height, tx: call.id, ..figures })
}

/// Whether counts are of as many classes as the model has, and agree with each other and their totals.
pub(crate) fn check(counts: &Endorse, version: &Version) -> Result<(), TxError> {
    let classes = graded_classes(version.task)?;
    if counts.classes.len() != classes {
        return Err(invalid("counts", format!("{} classes; the model has {classes}", counts.classes.len())));
    }
    check_counts(&counts.classes, counts.samples, counts.correct).map_err(|e| invalid("counts", e.to_string()))
}

fn graded_classes(task: Task) -> Result<usize, TxError> {
    match task {
        Task::Classify { classes } if usize::from(classes) <= CLASSES => Ok(usize::from(classes)),
        Task::Classify { classes } => Err(invalid("task", format!("{classes} classes; at most {CLASSES} are graded"))),
        Task::Tensors | Task::Generate { .. } | Task::Embed { .. } => {
            Err(invalid("task", "only classifiers are graded by counts"))
        }
    }
}

/// What counts say, by the thresholds of the version: everything but height and transaction, which are left empty.
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
    })
}

/// The score that `endorsements` come to. Everyone weighs 1 while there is neither stake nor reputation.
pub(crate) fn score<'a>(endorsements: impl IntoIterator<Item = &'a Endorsement>) -> Score {
    let (mut votes, mut verdicts, mut height) = (Vec::new(), [0u32; 3], 0);
    for e in endorsements {
        let vote = Vote {
            weight: 1,
            quality_ppm: e.quality_ppm,
            dataset_root: e.counts.dataset_root,
            samples: e.counts.samples,
            height: e.height,
            index: 0,
        };
        votes.push(vote);
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
        crate::draft::with_prefix(draft.written(), PREFIX).filter_map(|(key, _)| version_part(key)).collect();
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
