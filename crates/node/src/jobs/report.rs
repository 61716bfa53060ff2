//! The report of a validation: the figures are computed on a thread that may block, and ask the worker when they attack.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use zero2ai_engine::{EngineError, GenEvent, Worker};
use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling},
    rpc::RpcError,
    tensor::Tensor,
    worker::Fault,
};
use zero2ai_trust::report::Report;
use zero2ai_validator::{
    Predictor, Said,
    assess::{Ask, Run, assess},
};

use crate::{
    jobs::{Tell, tell},
    serve::errors::{internal, invalid},
};

/// A worker that a validation or a juror asks.
pub(crate) struct Local<'a> {
    worker: &'a Worker,
    /// Time for one answer.
    within: Duration,
    /// Whose fault the last failure was.
    fault: Mutex<Option<Fault>>,
}

impl<'a> Local<'a> {
    /// With as much time as a worker takes at most.
    pub(crate) const fn new(worker: &'a Worker) -> Self {
        Self::within(worker, Duration::from_secs(3_600))
    }

    pub(crate) const fn within(worker: &'a Worker, within: Duration) -> Self {
        Self { worker, within, fault: Mutex::new(None) }
    }

    /// Whose fault the last failure was; `None` before one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &EngineError) -> String {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.fault());
        error.to_string()
    }
}

impl Predictor for Local<'_> {
    async fn predict(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        self.worker.predict_within(inputs, self.within).await.map_err(|e| self.failed(&e))
    }

    async fn say(&self, prompt: &str, tokens: u32) -> Result<Said, String> {
        let sampling = Sampling { max_tokens: tokens, ..Sampling::default() };
        let input = GenerateInput { prompt: Prompt::Text(prompt.to_owned()), sampling, resume: Vec::new() };
        let mut last = Instant::now();
        // Nobody's: what was computed for one sample is not used again for the next, so that each costs what it costs.
        let mut stream = self.worker.generate_within(&[], input, self.within).await.map_err(|e| self.failed(&e))?;
        let (mut said, mut first) = (Said::default(), true);
        while let Some(event) = stream.next().await {
            let GenEvent::Token(piece) = event.map_err(|e| self.failed(&e))? else { break };
            said.text.push_str(&piece.text);
            let micros = u32::try_from(last.elapsed().as_micros()).unwrap_or(u32::MAX);
            last = Instant::now();
            if std::mem::take(&mut first) {
                said.first_us = micros;
            } else {
                said.each_us.push(micros);
            }
        }
        Ok(said)
    }
}

/// A question, and where its answer goes.
enum Asked {
    Predict(Vec<Tensor>, std::sync::mpsc::SyncSender<Result<Vec<Tensor>, String>>),
    Say(String, u32, std::sync::mpsc::SyncSender<Result<Said, String>>),
}

/// The worker, as a thread that may block sees it.
struct Remote(mpsc::Sender<Asked>);

impl Remote {
    fn ask<T>(
        &self,
        question: impl FnOnce(std::sync::mpsc::SyncSender<Result<T, String>>) -> Asked,
    ) -> Result<T, String> {
        let gone = "the run was ended".to_owned();
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.0.blocking_send(question(reply)).map_err(|_| gone.clone())?;
        answer.recv().map_err(|_| gone)?
    }
}

impl Ask for Remote {
    fn predict(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        self.ask(|reply| Asked::Predict(inputs, reply))
    }

    fn say(&mut self, prompt: &str, tokens: u32) -> Result<Said, String> {
        self.ask(|reply| Asked::Say(prompt.to_owned(), tokens, reply))
    }
}

/// Computes the report of `run`. Whoever drops this future ends the attack with its next question.
pub(crate) async fn report(run: Run, worker: &Worker, progress: &Tell) -> Result<Report, RpcError> {
    let (asks, mut asked) = mpsc::channel(1);
    let heard = progress.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut watch = |done, total| tell(&heard, "steps of the attacks", done as u64, total as u64);
        assess(&run, &mut Remote(asks), &mut watch)
    });
    let worker = Local::new(worker);
    while let Some(question) = asked.recv().await {
        // Nobody listens only if the thread is gone, and then the loop ends.
        match question {
            Asked::Predict(inputs, reply) => drop(reply.send(worker.predict(inputs).await)),
            Asked::Say(prompt, tokens, reply) => drop(reply.send(worker.say(&prompt, tokens).await)),
        }
    }
    work.await.map_err(internal)?.map_err(invalid)
}
