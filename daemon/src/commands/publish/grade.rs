//! Waiting for what validators make of a version just published.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zero2ai_proto::{
    calls::Empty,
    local::{PoolShow, PublishReport},
    state::{Rights, Score},
};

use crate::{
    commands::validator::models,
    exit::Outcome,
    output::{plural, ppm},
    progress::Progress,
    session::{QUICK, Session},
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Endorsements after which nothing more is waited for: as many different datasets make a score.
const ENOUGH: u32 = 3;
/// How much longer than for the first validator is waited for the others.
const LONGER: u32 = 10;

/// What came of it.
pub(super) enum Grade {
    /// It was not waited for.
    NotAsked,
    /// Nobody but the publisher may grade here.
    Nobody,
    /// Nobody did in this time.
    NotYet(Duration),
    /// These verdicts: for it, against it, neither.
    Graded(Box<Score>),
    /// The node could not be asked.
    Lost(String),
}

impl Grade {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Graded(score) => {
                let [positive, negative, abstain] = score.verdicts;
                let quality = score.score_ppm.map(|s| f64::from(s) / 1e6);
                json!({ "positive": positive, "negative": negative, "abstain": abstain, "score": quality })
            }
            _ => Value::Null,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::NotAsked => "Its grade was not waited for.".to_owned(),
            Self::Nobody => "Nobody else in this pool has the right to grade it ('validator').".to_owned(),
            Self::NotYet(time) => {
                format!(
                    "No validator graded it within {} s; what they find is told by 'zero2ai names ls'.",
                    time.as_secs()
                )
            }
            Self::Lost(why) => format!("Its grade could not be asked for: {why}"),
            Self::Graded(score) => {
                let [positive, negative, abstain] = score.verdicts;
                let count = plural(u64::from(positive.saturating_add(negative).saturating_add(abstain)), "validator");
                let quality = score.score_ppm.map_or_else(
                    || format!("no score yet, of {} of {ENOUGH} different datasets", score.datasets),
                    |s| format!("score {}", ppm(s)),
                );
                format!("Graded by {count}: {positive} for it, {negative} against it, {abstain} undecided; {quality}.")
            }
        }
    }
}

/// Waits `patience` for the first endorsement, and longer for the others.
pub(super) async fn wait(
    session: &Session,
    report: &PublishReport,
    patience: Duration,
    progress: &mut Progress,
) -> Grade {
    if patience.is_zero() {
        return Grade::NotAsked;
    }
    match look(session, report, patience, progress).await {
        Ok(grade) => grade,
        Err(failure) => Grade::Lost(failure.message),
    }
}

async fn look(
    session: &Session,
    report: &PublishReport,
    patience: Duration,
    progress: &mut Progress,
) -> Outcome<Grade> {
    let pool = session.call::<PoolShow>(&Empty {}, QUICK).await?;
    let others = pool.members.iter().filter(|(id, m)| *id != session.node && m.rights.has(Rights::VALIDATOR)).count();
    if others == 0 {
        return Ok(Grade::Nobody);
    }
    let enough = u32::try_from(others).unwrap_or(u32::MAX).min(ENOUGH);
    progress.say("waiting for validators to grade it");
    let start = Instant::now();
    loop {
        let all = models(session, report.name.to_string()).await?;
        let named = all.into_iter().find(|n| n.name == report.name && n.model.latest == report.version);
        let score = named.and_then(|n| n.score);
        let given = score.as_ref().map_or(0, |s| s.verdicts.iter().fold(0u32, |sum, n| sum.saturating_add(*n)));
        let over = start.elapsed() >= if given == 0 { patience } else { patience.saturating_mul(LONGER) };
        match score {
            Some(score) if given >= enough || (given > 0 && over) => return Ok(Grade::Graded(Box::new(score))),
            _ if over => return Ok(Grade::NotYet(patience)),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
