//! Predictions: at the nearest endpoint, and at the next one if it is gone, full, or does not keep to its word.

use std::{collections::VecDeque, future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, timeout};
use zero2ai_proto::{
    NodeId,
    calls::{Empty, Ping, Pong, Predict, PredictCall},
    kept::{CallInput, CallOutput, KeptCall},
    keys::random_bytes,
    limits::TENSORS,
    receipt::{Receipt, Status},
    rpc::{ErrorCode, Method},
    tensor::{Tensor, units},
};
use zero2ai_rpc::Peer;

use crate::{
    client::{Client, left},
    error::ClientError,
    order::{Order, Subject},
    resolve::{Resolution, ResolvedEndpoint},
};

/// How long a provider's machine may be silent before the next one is asked. Short: the worst is a second prediction.
const SILENCE: Duration = Duration::from_secs(1);
/// How often endpoints that are full are asked again once there are no others, and how long before the first time; twice as long
/// each time after that, and somewhat more or less, so that callers do not come back all at once. About three seconds in all.
const ROUNDS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(50);
/// How long a call is waited for before its node is asked how much it has to do, and again between two such questions.
const PATIENT: Duration = Duration::from_millis(1_000);
/// A call that takes so many times what its node says that all it has in hand will take is not believed to come.
const OVERDUE: u128 = 4;
/// How long dialling one endpoint may take before the next one is asked.
const DIAL: Duration = Duration::from_secs(2);

/// A prediction whose receipt holds.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The inputs, as they were sent.
    pub inputs: Vec<Tensor>,
    /// The outputs.
    pub outputs: Vec<Tensor>,
    /// The call's salt, from which those of both commitments follow. Whoever has it can link them to what was said.
    pub salt: [u8; 32],
    /// Both signed halves, checked.
    pub receipt: Receipt,
    /// Who answered.
    pub node: NodeId,
    /// From the first attempt to the checked answer.
    pub took: Duration,
    /// Endpoints that were tried before, in vain.
    pub failed: usize,
}

impl Prediction {
    /// The call as it may be kept: to be checked, and run again, by whoever is given it.
    #[must_use]
    pub fn kept(&self) -> KeptCall {
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        KeptCall::new(self.receipt.clone(), self.salt, CallInput::Tensors(inputs), CallOutput::Tensors(outputs))
    }
}

impl Client {
    /// Predicts at the nearest endpoint of `found` that gives an answer which holds, within `patience`. Each attempt is a
    /// request of its own, signed for that provider alone; an endpoint that fails goes to the back of the line for a while.
    ///
    /// # Errors
    /// Bad tensors, nobody serves it, every endpoint failed, or the request is refused for a reason that holds everywhere.
    pub async fn predict(
        &self,
        found: &Resolution,
        inputs: Vec<Tensor>,
        patience: Duration,
    ) -> Result<Prediction, ClientError> {
        if inputs.is_empty() || inputs.len() > TENSORS {
            return Err(ClientError::Tensors(inputs.len()));
        }
        inputs.iter().try_for_each(Tensor::check)?;
        let start = Instant::now();
        let subject = Subject::from(found);
        let mut line = Line::new(self, found, patience)?;
        loop {
            let endpoint = line.next(self).await?;
            let attempt = self.predict_at(&endpoint, &subject, &inputs, line.deadline);
            match self.while_in_time(&line, &endpoint, attempt).await {
                Ok((outputs, receipt, salt)) => {
                    self.inner.health.answered(&endpoint.node);
                    self.inner.used.answered(&subject.name, subject.version, endpoint.node);
                    let failed = line.tried - 1;
                    let (node, took) = (endpoint.node, start.elapsed());
                    return Ok(Prediction { inputs, outputs, salt, receipt, node, took, failed });
                }
                Err(error) => line.failed(self, &endpoint, error)?,
            }
        }
    }

    /// Waits for `attempt` as long as that makes sense: a second from its beginning on, its node is asked how much it has to do.
    /// If it takes far longer than the node says, or others wait there for longer than another endpoint would take, it is
    /// left, which cancels it there.
    async fn while_in_time<T>(
        &self,
        line: &Line,
        endpoint: &ResolvedEndpoint,
        attempt: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let (start, mut attempt, node) = (Instant::now(), pin!(attempt), endpoint.node);
        loop {
            if let Ok(done) = timeout(PATIENT, &mut attempt).await {
                return done;
            }
            let others = line.waiting.iter().filter(|_| !line.left_one);
            let Some(other) = self.best_other(others, &node) else { return attempt.await };
            let pong = tokio::select! {
                biased;
                done = &mut attempt => return done,
                pong = self.pong(&node) => pong,
            };
            let after = start.elapsed();
            if pong.is_some_and(|pong| is_overdue(after, &pong, other)) {
                return Err(ClientError::Overdue { node: node.short(), after });
            }
        }
    }

    /// What an endpoint with an open connection says of its load.
    async fn pong(&self, node: &NodeId) -> Option<Pong> {
        self.inner.peers.open(node)?.call::<Ping>(&Empty {}, PATIENT).await.ok()
    }

    async fn predict_at(
        &self,
        endpoint: &ResolvedEndpoint,
        subject: &Subject,
        inputs: &[Tensor],
        deadline: Option<Instant>,
    ) -> Result<(Vec<Tensor>, Receipt, [u8; 32]), ClientError> {
        let peer = self.reach(endpoint, deadline).await?;
        let signer = (&self.inner.pool, &self.inner.key);
        let order = Order::sign(subject, endpoint.node, inputs, left(deadline), None, signer)?;
        let call = PredictCall { request: order.request.clone(), salt: order.salt(), inputs: inputs.to_vec() };
        let answer = peer.call::<Predict>(&call, left(deadline)).await?;
        let untrue = |why: &dyn std::fmt::Display| ClientError::untrue(&endpoint.node, why);
        if answer.outputs.len() > TENSORS {
            return Err(untrue(&"it sends too many tensors"));
        }
        answer.outputs.iter().try_for_each(Tensor::check).map_err(|e| untrue(&e))?;
        let receipt =
            order.check(&self.inner.pool, answer.response, (&answer.outputs, units(inputs)), Status::Complete)?;
        Ok((answer.outputs, receipt, order.secret()))
    }

    /// Asks one endpoint of a line after the other, until `read` takes an answer.
    pub(crate) async fn ask_along<M: Method, T>(
        &self,
        mut line: Line,
        request: &M::Request,
        read: impl Fn(&ResolvedEndpoint, Result<M::Reply, ClientError>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        loop {
            let endpoint = line.next(self).await?;
            let asked = async {
                let peer = self.reach(&endpoint, line.deadline).await?;
                Ok(peer.call::<M>(request, left(line.deadline)).await?)
            };
            match read(&endpoint, asked.await) {
                Ok(answer) => return Ok(answer),
                Err(error) => line.failed(self, &endpoint, error)?,
            }
        }
    }

    /// A connection to an endpoint, or a quick failure.
    pub(crate) fn reach<'a>(
        &'a self,
        endpoint: &'a ResolvedEndpoint,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<Peer, ClientError>> + 'a {
        let by = Instant::now() + DIAL.min(left(deadline));
        async move {
            let peer = self.dial(endpoint.node, &endpoint.addresses, Some(by)).await;
            Ok(peer.map_err(zero2ai_rpc::CallError::from)?.with_patience(SILENCE))
        }
    }
}

/// True if a call should be made elsewhere that has been waited for `after` so long, at a node that says `pong`, where
/// another would begin in `other` microseconds.
fn is_overdue(after: Duration, pong: &Pong, other: u128) -> bool {
    // A node that has not ended a call yet does not know how long they take; nor do we.
    let (queue, wait) = (u128::from(pong.queue), u128::from(pong.queue_us));
    if queue == 0 || wait == 0 {
        return false;
    }
    let before_ours = wait / queue * (queue - 1);
    after.as_micros() > wait.saturating_mul(OVERDUE) || before_ours > other.saturating_add(PATIENT.as_micros())
}

/// From 0 to 1.
fn random_share() -> f64 {
    random_bytes::<1>().map_or(0.5, |[byte]| f64::from(byte) / 255.0)
}

/// The endpoints still to be tried, in order, and what the others came to.
#[derive(Debug)]
pub(crate) struct Line {
    subject: Subject,
    waiting: VecDeque<ResolvedEndpoint>,
    /// Those that had no place, and how often they were waited for.
    full: Vec<ResolvedEndpoint>,
    rounds: u32,
    /// Until when all attempts together may take; `None` is no limit.
    pub(crate) deadline: Option<Instant>,
    /// Attempts begun.
    pub(crate) tried: usize,
    endpoints: usize,
    /// An endpoint was left because it took too long. That happens once a call, since a request may truly be that much work.
    left_one: bool,
    /// What an endpoint said that holds the request itself to be at fault.
    blame: Option<ClientError>,
    last: Option<ClientError>,
}

impl Line {
    /// Every endpoint once, as ranked, but with a clearly better one in front if the first became worse since, and with those that
    /// failed lately behind.
    pub(crate) fn new(client: &Client, found: &Resolution, patience: Duration) -> Result<Self, ClientError> {
        let subject = Subject::from(found);
        if found.endpoints.is_empty() {
            return Err(ClientError::NoEndpoint { name: subject.name, version: subject.version });
        }
        let mut waiting = found.endpoints.clone();
        client.move_on(&mut waiting);
        waiting.sort_by_key(|e| client.inner.health.is_benched(&e.node));
        let deadline = Instant::now().checked_add(patience);
        let (full, rounds, endpoints) = (Vec::new(), 0, waiting.len());
        Ok(Self {
            subject,
            waiting: waiting.into(),
            full,
            rounds,
            deadline,
            tried: 0,
            endpoints,
            left_one: false,
            blame: None,
            last: None,
        })
    }

    /// The next endpoint to try. Where only full ones are left, waits a moment for them.
    pub(crate) async fn next(&mut self, client: &Client) -> Result<ResolvedEndpoint, ClientError> {
        if self.waiting.is_empty() && !self.full.is_empty() && self.rounds < ROUNDS {
            let pause = PAUSE.saturating_mul(1 << self.rounds).mul_f64(0.5 + random_share());
            if self.deadline.is_none_or(|at| Instant::now() + pause < at) {
                tokio::time::sleep(pause).await;
                self.waiting.extend(self.full.drain(..));
                self.rounds += 1;
            }
        }
        let name = || self.subject.name.clone();
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            return Err(self.last.take().unwrap_or(ClientError::TimeOver { name: name() }));
        }
        // One may have failed meanwhile in another call: it waits while there are others.
        let healthy = self.waiting.iter().position(|e| !client.inner.health.is_benched(&e.node));
        match self.waiting.remove(healthy.unwrap_or(0)) {
            Some(endpoint) => {
                self.tried += 1;
                Ok(endpoint)
            }
            None => Err(match (self.blame.take(), self.last.take()) {
                // The others were not there to contradict it.
                (Some(blame), _) => blame,
                (None, Some(last)) => {
                    ClientError::Exhausted { name: name(), tried: self.tried.min(self.endpoints), last: Box::new(last) }
                }
                (None, None) => ClientError::NoEndpoint { name: name(), version: self.subject.version },
            }),
        }
    }

    /// True if an endpoint that takes too long may be left for another one: none was yet, and one is left that did not fail lately.
    pub(crate) fn may_leave(&self, client: &Client) -> bool {
        !self.left_one && self.waiting.iter().any(|e| !client.inner.health.is_benched(&e.node))
    }

    /// Notes a failure. Gives it back if no other endpoint would do better. That the request itself is at fault (its shape,
    /// the caller's clock) is believed once two endpoints say so: one alone may lie, or be the one whose clock is wrong.
    pub(crate) fn failed(
        &mut self,
        client: &Client,
        endpoint: &ResolvedEndpoint,
        error: ClientError,
    ) -> Result<(), ClientError> {
        if !error.may_retry_elsewhere() {
            // One that was full may have a place in a moment.
            let alone = self.waiting.is_empty() && self.full.is_empty();
            if error.remote().is_none() || self.blame.is_some() || alone {
                return Err(error);
            }
            self.blame = Some(error);
            return Ok(());
        }
        tracing::debug!(node = %endpoint.node.short(), "an endpoint failed: {error}");
        match &error {
            ClientError::Overdue { .. } => client.inner.health.slow(endpoint.node),
            _ if error.code() == Some(ErrorCode::Busy) => {
                self.full.push(endpoint.clone());
                client.inner.health.full(endpoint.node);
            }
            // A refusal is no failure: the node may only be a block behind our admission.
            _ if error.code() == Some(ErrorCode::Denied) => {}
            _ => client.inner.health.failed(endpoint.node),
        }
        self.left_one |= matches!(error, ClientError::Overdue { .. });
        self.last = Some(error);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(queue: u32, queue_us: u64) -> Pong {
        Pong { time_ms: 0, height: 0, queue, queue_us, version: String::new() }
    }

    #[test]
    fn a_call_is_overdue_when_it_takes_far_longer_than_its_node_says_or_others_wait_there_for_longer_than_elsewhere() {
        let after = Duration::from_secs(2);
        // In hand, what they take, what another endpoint costs: all in microseconds.
        for (queue, queue_us, other, overdue) in [
            (1, 1_000, 10_000, true),         // a millisecond was said
            (1, 1_500_000, 10_000, false),    // it is as much work as that
            (8, 8_000_000, 10_000, true),     // seven seconds of others' calls come first
            (8, 8_000_000, 9_000_000, false), // and elsewhere it is no better
            (0, 0, 10_000, false),            // the answer is on its way
            (1, 0, 10_000, false),            // no call has ended there yet: nobody knows
            (u32::MAX, u64::MAX, 0, true),
        ] {
            assert_eq!(is_overdue(after, &pong(queue, queue_us), other), overdue, "{queue} {queue_us} {other}");
        }
    }
}
