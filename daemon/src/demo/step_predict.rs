//! Step 4: a node that never held the model joins late with the right `user` alone, finds it through Kademlia, and a
//! client predicts a hundred samples at the nearest endpoint.

use std::time::{Duration, Instant};

use zero2ai_client::Resolution;
use zero2ai_proto::state::Rights;

use super::{
    Demo,
    cluster::{USER, VALIDATORS},
    fixtures::predict_rows,
    report,
    step_pool::invite_file,
    wait::until,
};
use crate::{
    commands::{
        predict::{at_nearest, classes},
        resolve::{endpoints_json, endpoints_table, lookup, source},
        status::node_status,
    },
    exit::{Exit, Failure, Outcome},
    input::Rows,
    output::millis,
};

/// The late node holds the whole chain within this.
const SYNC: Duration = Duration::from_secs(20);
/// Every validator's endpoint record is found in the DHT within this.
const ENDPOINTS: Duration = Duration::from_secs(20);
/// Patience for one prediction.
pub(crate) const PREDICTION: Duration = Duration::from_secs(20);

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("4. A user's node joins late, finds the model by its name, and predicts at the nearest node");
    let progress = demo.progress("starting the user's node");
    let invite = invite_file(demo, Rights::USER, 1).await?;
    demo.cluster.start(&[USER], Some(&invite)).await?;
    let _ = std::fs::remove_file(&invite);
    let head = node_status(demo.session(0)?).await?.height;
    let status = until("the user's node holds every block", SYNC, async || {
        let status = node_status(demo.session(USER)?).await?;
        Ok((status.height >= head).then_some(status))
    })
    .await?;
    if !status.models.is_empty() {
        return Err(Failure::new(Exit::Internal, "the user's node holds a model, though it should hold none"));
    }
    drop(progress);
    demo.say(&format!("   it synced {} blocks, holds no model, and may only use the pool", status.height));

    let progress = demo.progress("resolving the name");
    let found = until("the name resolves to every validator", ENDPOINTS, async || {
        let found = lookup(demo.session(USER)?, &demo.model_ref(), true).await?;
        Ok((found.endpoints.len() >= VALIDATORS.len()).then_some(found))
    })
    .await?;
    drop(progress);
    let (ms, from) = (millis(found.took), source(found.source));
    demo.say(&format!("   {}@{} by {from} in {ms:.1} ms, proved from the genesis:", found.name, found.version));
    demo.say(&endpoints_table(&found, 3));
    demo.report.resolve = Some(report::Resolve { ms, source: from, endpoints: endpoints_json(&found) });

    let progress = demo.progress("predicting a hundred samples");
    let rows = predict_rows()?;
    let mut run = many(demo, &found, &rows).await?;
    drop(progress);
    run.took.sort_unstable();
    let percentile = |p: usize| run.took.get((run.took.len() * p / 100).min(run.took.len().saturating_sub(1))).copied();
    let (p50, p99) = (percentile(50).map_or(0.0, millis), percentile(99).map_or(0.0, millis));
    demo.say(&format!(
        "   {} of {} right; p50 {p50:.1} ms, p99 {p99:.1} ms; every request signed by the caller, every answer by its node",
        run.correct, run.answered
    ));
    demo.report.predict =
        Some(report::Predict { requests: run.answered, correct: run.correct, p50_ms: p50, p99_ms: p99 });
    Ok(())
}

/// What a row of predictions came to.
pub(crate) struct Many {
    pub(crate) answered: usize,
    pub(crate) correct: usize,
    pub(crate) took: Vec<Duration>,
}

/// Predicts each row by a request of its own, one after the other, as the user's account.
pub(crate) async fn many(demo: &Demo, found: &Resolution, rows: &Rows) -> Outcome<Many> {
    let session = demo.session(USER)?;
    let mut run = Many { answered: 0, correct: 0, took: Vec::with_capacity(rows.labels.len()) };
    for (row, label) in rows.features.iter().zip(&rows.labels) {
        let start = Instant::now();
        let answer = at_nearest(session, found, vec![Rows::tensor(std::slice::from_ref(row))], PREDICTION).await?;
        run.took.push(start.elapsed());
        run.answered += 1;
        let said = answer.outputs.first().and_then(classes).unwrap_or_default();
        run.correct += usize::from(said.first().is_some_and(|(class, _)| class == label));
    }
    Ok(run)
}
