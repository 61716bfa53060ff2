//! `score`: what a version's grades come to, in each respect that the ledger knows, and who contributed what. All of it is recomputed
//! here from endorsements that are proved from the genesis on; `score verify` does so from two files.

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_ledger::{
    audit::{AuditReport, EntryRow, RoundRow},
    conduct, counted, round_job,
};
use zero2ai_proto::{
    ModelName, NodeId,
    state::{Endorsement, EntryState, Score},
};
use zero2ai_trust::{PPM, Reputation, settle::Conduct};

use crate::{
    cli::{ScoreArgs, ScoreCommand, ScorePart},
    commands::{
        audit,
        validate::{endorsement_json, score_text, verdict},
        validator::stake::selection,
    },
    exit::{Exit, Failure, Outcome},
    output::{Output, Table, facts, ppm},
    session::Session,
};

/// Why an endorsement does not count that came to a dataset second.
const REPEATED: &str = "another committed to this dataset first";

/// One validator's part in a score.
struct Contribution<'a> {
    validator: NodeId,
    found: &'a Endorsement,
    /// What it weighs: stake times reputation, in units of stake; 1 for everyone without rounds.
    weight: f64,
    /// Why it does not count, if it does not.
    left_out: Option<&'static str>,
}

/// What is told of one version.
struct Told<'a> {
    name: &'a ModelName,
    version: u32,
    score: Option<Score>,
    /// Of the newest settled round, millionths.
    confidence_ppm: Option<u32>,
    /// That round, and how its committee came about, if the pool grades in rounds.
    round: Option<(u64, &'static str)>,
    contributions: Vec<Contribution<'a>>,
}

/// The command.
pub(crate) async fn score(home: &Path, args: ScoreArgs, out: Output) -> Outcome {
    let (report, part, offline) = match (args.command, args.name) {
        (Some(ScoreCommand::Verify { file, genesis, part }), _) => (audit::read_files(&file, &genesis)?, part, true),
        (None, Some(name)) => {
            let session = Session::open(home).await?;
            let gathered = audit::gather(&session, &name).await?;
            (audit::check(session.genesis(), &gathered)?, args.part, false)
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "Name a model: zero2ai score lab/digits.")),
    };
    let told = told(&report, part.version)?;
    out.result(&told_json(&told, &report), || told_text(&told, part, offline));
    Ok(())
}

fn told(report: &AuditReport, version: Option<u32>) -> Outcome<Told<'_>> {
    let version = version.unwrap_or(report.model.latest);
    if report.versions.iter().all(|(number, _)| *number != version) {
        let name = &report.name;
        return Err(Failure::new(
            Exit::NotFound,
            format!("{name} has no version {version}: the newest is {}.", report.model.latest),
        ));
    }
    // A round that came to no score leaves the one before.
    let came = |row: &&RoundRow| row.version == version && row.state.outcome.is_some_and(|o| o.score_ppm.is_some());
    let settled = report.rounds.iter().rev().find(came);
    let contributions = match settled {
        Some(row) => in_round(&report.name, row),
        None => without_round(report, version),
    };
    Ok(Told {
        name: &report.name,
        version,
        score: report.scores.iter().find(|(number, _)| *number == version).map(|(_, score)| *score),
        confidence_ppm: settled.and_then(|row| row.state.outcome).map(|outcome| outcome.confidence_ppm),
        round: settled.map(|row| (row.round, selection(row.state.selection))),
        contributions,
    })
}

fn without_round(report: &AuditReport, version: u32) -> Vec<Contribution<'_>> {
    let rows = || report.endorsements.iter().filter(move |row| row.version == version);
    let counts = counted(rows().map(|row| &row.endorsement));
    let parts = rows().zip(counts).map(|(row, counts)| Contribution {
        validator: row.validator,
        found: &row.endorsement,
        weight: 1.0,
        left_out: (!counts).then_some(REPEATED),
    });
    parts.collect()
}

/// Why an entry does not count that was not upheld when its round was settled at that height.
fn why(entry: &EntryState, settled: u64) -> &'static str {
    if entry.contradicted.is_some_and(|height| height <= settled) {
        "its own leaves contradict it"
    } else if entry.refuted.is_some_and(|height| height <= settled) {
        "a jury found that the model does not say what it opened"
    } else {
        "it did not open the leaves that were drawn"
    }
}

fn in_round<'a>(name: &ModelName, row: &'a RoundRow) -> Vec<Contribution<'a>> {
    let job = round_job(name, row.version, row.round);
    let part = |entry: &'a EntryRow| -> Option<Contribution<'a>> {
        let (found, stood) = (entry.entry.found.as_ref()?, entry.entry.standing?);
        let settled = row.state.outcome.map_or(u64::MAX, |outcome| outcome.height);
        let conduct = conduct(&row.state, &job, &entry.validator, &entry.entry, settled);
        let left_out = (!matches!(conduct, Conduct::Upheld(_))).then(|| why(&entry.entry, settled));
        let record = Reputation { good: stood.good, bad: stood.bad };
        #[allow(clippy::cast_precision_loss)] // shown with two digits
        let weight = stood.stake as f64 * f64::from(record.weight_ppm()) / f64::from(PPM);
        Some(Contribution { validator: entry.validator, found, weight, left_out })
    };
    let mut parts: Vec<Contribution<'a>> = row.entries.iter().filter_map(part).collect();
    // Of those upheld, each dataset counts once.
    let standing: Vec<usize> = (0..parts.len()).filter(|place| parts[*place].left_out.is_none()).collect();
    let counts = counted(standing.iter().map(|place| parts[*place].found));
    for (place, counts) in standing.into_iter().zip(counts) {
        parts[place].left_out = (!counts).then_some(REPEATED);
    }
    parts
}

/// The median of what validators say of latency, microseconds: told, and proved by nobody.
fn latency(told: &Told<'_>) -> Option<u32> {
    let mut all: Vec<u32> =
        told.contributions.iter().filter(|c| c.left_out.is_none()).map(|c| c.found.counts.p50_us).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

fn told_json(told: &Told<'_>, report: &AuditReport) -> Value {
    let parts = told.contributions.iter().map(|c| {
        let mut json = endorsement_json(&c.validator, c.found);
        json["weight"] = c.weight.into();
        json["counts"] = c.left_out.is_none().into();
        json["left_out"] = c.left_out.into();
        json
    });
    json!({
        "name": told.name.to_string(), "version": told.version, "height": report.header.height,
        "score": told.score.and_then(|s| s.score_ppm).map(|s| f64::from(s) / 1e6),
        "confidence": told.confidence_ppm.map(|c| f64::from(c) / 1e6), "round": told.round.map(|r| r.0),
        "committee": told.round.map(|r| r.1),
        "verdicts": told.score.map(|s| s.verdicts), "datasets": told.score.map(|s| s.datasets),
        "samples": told.score.map(|s| s.samples), "p50_us": latency(told),
        "contributions": parts.collect::<Vec<_>>(),
    })
}

fn told_text(told: &Told<'_>, part: ScorePart, offline: bool) -> String {
    let score = told.score;
    let [positive, negative, abstaining] = score.map_or([0; 3], |s| s.verdicts);
    let mut rows = vec![
        ("model", format!("{}@{}", told.name, told.version)),
        ("quality", score_text(score.and_then(|s| s.score_ppm), score.map_or(0, |s| s.datasets))),
        (
            "rests on",
            score.map_or_else(|| "nothing".into(), |s| format!("{} datasets, {} samples", s.datasets, s.samples)),
        ),
        ("verdicts", format!("{positive} positive, {negative} negative, {abstaining} abstaining")),
        ("latency", latency(told).map_or_else(|| "-".into(), |us| format!("{us} µs at the median, as validators say"))),
        ("robustness, fairness", "not on the ledger: in each validator's report (zero2ai validate --report)".into()),
    ];
    if let (Some((round, committee)), Some(confidence)) = (told.round, told.confidence_ppm) {
        rows.insert(2, ("confidence", format!("{}, as of round {round}; its committee: {committee}", ppm(confidence))));
    }
    let mut text = facts(&rows);
    if offline {
        text = format!(
            "RECOMPUTED offline, from the genesis alone: the ledger's score is what these endorsements come to.\n\n{text}"
        );
    }
    if part.explain {
        text.push('\n');
        text += &explained(told);
    }
    text
}

fn explained(told: &Told<'_>) -> String {
    if told.contributions.is_empty() {
        return "Nobody has graded it yet: zero2ai validate NAME --data PATH.\n".to_owned();
    }
    let mut table =
        Table::new(&["validator", ">weight", "dataset", ">samples", ">quality", "verdict", ">committed", "counts"]);
    for c in &told.contributions {
        let dataset: String = c.found.counts.dataset_root.to_string().chars().take(12).collect();
        table.row([
            c.validator.short(),
            format!("{:.2}", c.weight),
            dataset,
            c.found.counts.samples.to_string(),
            ppm(c.found.quality_ppm),
            verdict(c.found.verdict).to_owned(),
            c.found.committed.map_or_else(|| "-".to_owned(), |place| place.height.to_string()),
            c.left_out.map_or_else(|| "yes".to_owned(), |why| format!("no: {why}")),
        ]);
    }
    let rule = match told.round {
        Some(_) => {
            "The score is the largest quality that at least half of the weight that counts supports, of what each found over all rounds; \
             three datasets are needed."
        }
        None => {
            "The score is the largest quality that at least half of those that count support; three datasets are needed."
        }
    };
    format!("{}{rule}\n", table.render(0))
}
