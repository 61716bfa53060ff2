//! Step 5: the serving node is killed between two requests; then half of the signers stop, the chain halts, and
//! predictions go on; the signers return and the receipts are anchored.

use std::time::{Duration, Instant};

use zero2ai_client::Resolution;
use zero2ai_proto::NodeId;

use super::{
    Demo,
    cluster::{USER, VALIDATORS},
    fixtures::predict_rows,
    report,
    step_predict::{PREDICTION, many},
    wait::until,
};
use crate::{
    commands::{predict::at_nearest, resolve::lookup, status::node_status},
    exit::{Exit, Failure, Outcome},
    input::Rows,
    output::millis,
};

/// A restarted node has its model loaded again within this.
const RELOAD: Duration = Duration::from_secs(20);
/// The chain is seen to halt within this.
const HALT: Duration = Duration::from_secs(30);
/// A waiting transaction that is in no block for so long shows a halt: blocks take a fraction of a second here.
const EVIDENCE: Duration = Duration::from_secs(3);
/// Blocks come again within this after the signers' return.
const RECOVERY: Duration = Duration::from_secs(40);
/// Receipts are anchored within this once blocks come.
const ANCHORS: Duration = Duration::from_secs(30);

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("5. Failures: the serving node is killed, then half of the signers stop");
    let found = lookup(demo.session(USER)?, &demo.model_ref(), false).await?;
    let killed = failover(demo, &found).await?;

    let progress = demo.progress("restarting the killed node");
    demo.cluster.start(&[killed], None).await?;
    serving(demo, killed).await?;
    drop(progress);
    demo.say(&format!("   node {} is back on its own home and serves again", killed + 1));

    halt(demo, &found, killed).await
}

/// Kills the node that answers, and lets the next request find another. Returns the killed node's index.
async fn failover(demo: &mut Demo, found: &Resolution) -> Outcome<usize> {
    let rows = predict_rows()?;
    let [first, second, ..] = rows.features.as_slice() else {
        return Err(Failure::new(Exit::Internal, "the embedded samples are too few"));
    };
    let before = predict_one(demo, found, first).await?;
    let killed = index_of(demo, &before)?;
    demo.cluster.node_mut(killed)?.kill();
    let start = Instant::now();
    let after = predict_one(demo, found, second).await?;
    let ms = millis(start.elapsed());
    if after == before {
        return Err(Failure::new(Exit::Internal, "a killed node seems to have answered"));
    }
    demo.say(&format!(
        "   node {} answered, then died by SIGKILL; the next request was answered by node {} in {ms:.0} ms",
        killed + 1,
        index_of(demo, &after)? + 1
    ));
    demo.report.failover = Some(report::Failover { ms });
    Ok(killed)
}

async fn predict_one(demo: &Demo, found: &Resolution, row: &[f32]) -> Outcome<NodeId> {
    let inputs = vec![Rows::tensor(&[row.to_vec()])];
    Ok(at_nearest(demo.session(USER)?, found, inputs, PREDICTION).await?.node)
}

/// Which of the serving nodes (the publisher's and the validators') this is.
fn index_of(demo: &Demo, node: &NodeId) -> Outcome<usize> {
    let mut all = 0..VALIDATORS.end;
    all.find(|i| demo.session(*i).is_ok_and(|s| s.node == *node))
        .ok_or_else(|| Failure::new(Exit::Internal, format!("{} answered, which should serve nothing", node.short())))
}

/// Waits until a node has the model loaded.
async fn serving(demo: &mut Demo, index: usize) -> Outcome {
    let what = format!("node {} serves the model again", index + 1);
    until(&what, RELOAD, async || {
        demo.cluster.alive()?;
        let status = node_status(demo.session(index)?).await?;
        Ok(status.models.iter().any(|m| m.serving).then_some(()))
    })
    .await
}

/// Waits until a transaction has waited for [`EVIDENCE`] at `witness` without a block, and says at which height.
async fn halted_at(demo: &mut Demo, witness: usize) -> Outcome<u64> {
    let mut since: Option<(u64, Instant)> = None;
    until("the chain halts", HALT, async || {
        demo.cluster.alive()?;
        let status = node_status(demo.session(witness)?).await?;
        match since {
            Some((height, at)) if height == status.height && status.mempool > 0 => {
                return Ok((at.elapsed() >= EVIDENCE).then_some(height));
            }
            _ => since = (status.mempool > 0).then(|| (status.height, Instant::now())),
        }
        Ok(None)
    })
    .await
}

async fn halt(demo: &mut Demo, found: &Resolution, restarted: usize) -> Outcome {
    // The publisher and one provider stop: two of four signers, so that two thirds can never sign.
    let second = VALIDATORS.rev().find(|i| *i != restarted).unwrap_or(VALIDATORS.start);
    let stopped = [0, second];
    let living: Vec<usize> = VALIDATORS.filter(|i| *i != second).collect();
    let witness = living.first().copied().unwrap_or(VALIDATORS.start);
    let progress = demo.progress("stopping two signers");
    for index in stopped {
        demo.cluster.node_mut(index)?.stop().await?;
    }
    let rows = predict_rows()?;
    if let Some(first) = rows.features.first() {
        predict_one(demo, found, first).await?; // its receipt's anchor is the transaction that now waits
    }
    let height = halted_at(demo, witness).await?;
    drop(progress);
    demo.say(&format!("   nodes 1 and {} stopped in order; the chain halts at block {height}", second + 1));

    let progress = demo.progress("predicting while the chain is halted");
    let run = many(demo, found, &rows).await?;
    drop(progress);
    let after = node_status(demo.session(witness)?).await?.height;
    if after != height {
        return Err(Failure::new(
            Exit::Internal,
            format!("the chain went on from block {height} to {after} with two of four signers"),
        ));
    }
    demo.say(&format!("   {} of {} predictions were answered meanwhile", run.answered, rows.labels.len()));

    let progress = demo.progress("starting the two signers again");
    demo.cluster.start(&stopped, None).await?;
    let start = Instant::now();
    until("blocks come again", RECOVERY, async || {
        demo.cluster.alive()?;
        Ok((node_status(demo.session(witness)?).await?.height > height).then_some(()))
    })
    .await?;
    let recovered_ms = millis(start.elapsed());
    drop(progress);
    let progress = demo.progress("waiting for the anchors");
    let mut receipts = 0;
    for index in 0..VALIDATORS.end {
        let what = format!("node {} has anchored its receipts", index + 1);
        receipts += until(&what, ANCHORS, async || {
            let status = node_status(demo.session(index)?).await?;
            Ok((status.receipts == status.anchored && !status.halted).then_some(status.receipts))
        })
        .await?;
    }
    drop(progress);
    demo.say(&format!(
        "   both are back: the next block came {recovered_ms:.0} ms after they answered, and all {receipts} receipts are anchored"
    ));
    demo.report.halted = Some(report::Halted { predictions: rows.labels.len(), ok: run.answered, recovered_ms });
    Ok(())
}
