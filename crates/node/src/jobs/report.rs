//! The report of a validation: the figures are computed on a thread that may block, and ask the worker when they attack.

use tokio::sync::mpsc;
use zero2ai_engine::Worker;
use zero2ai_proto::{rpc::RpcError, tensor::Tensor};
use zero2ai_trust::{attacks::Model, report::Report};
use zero2ai_validator::{
    assess::{Run, assess},
    predicted_scores,
};

use crate::{
    jobs::{Tell, tell},
    serve::errors::{internal, invalid},
};

/// A batch to be answered, and where to.
struct Asked {
    batch: Vec<Vec<f32>>,
    reply: std::sync::mpsc::SyncSender<Result<Vec<Vec<f32>>, String>>,
}

/// The worker, as a thread that may block sees it.
struct Remote(mpsc::Sender<Asked>);

impl Model<Vec<f32>> for Remote {
    fn predict(&mut self, batch: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, String> {
        let gone = "the run was ended".to_owned();
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.0.blocking_send(Asked { batch: batch.to_vec(), reply }).map_err(|_| gone.clone())?;
        answer.recv().map_err(|_| gone)?
    }
}

/// Computes the report of `run`. Whoever drops this future ends the attack with its next question.
pub(crate) async fn report(run: Run, worker: &Worker, progress: &Tell) -> Result<Report, RpcError> {
    let classes = u16::try_from(run.findings.classes.len()).unwrap_or(u16::MAX);
    let (asks, mut asked) = mpsc::channel(1);
    let heard = progress.clone();
    let work = tokio::task::spawn_blocking(move || {
        let watch = |done, total| tell(&heard, "samples attacked", done as u64, total as u64);
        assess(&run, &mut Remote(asks), watch)
    });
    while let Some(Asked { batch, reply }) = asked.recv().await {
        // Nobody listens only if the thread is gone, and then the loop ends.
        let _ = reply.send(answer(worker, &batch, classes).await);
    }
    work.await.map_err(internal)?.map_err(invalid)
}

async fn answer(worker: &Worker, batch: &[Vec<f32>], classes: u16) -> Result<Vec<Vec<f32>>, String> {
    let mut rows = Vec::with_capacity(batch.len());
    for row in batch {
        let outputs = worker.predict(vec![Tensor::f32("", &[1, row.len() as u64], row)]).await;
        rows.push(predicted_scores(&outputs.map_err(|e| e.to_string())?, classes)?);
    }
    Ok(rows)
}
