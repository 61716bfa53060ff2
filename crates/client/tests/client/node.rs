//! A small node: serves the chain's proofs, and a model that doubles numbers and counts tokens, or misbehaves.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::open_sealed;
use zero2ai_client::{Client, ClientConfig};
use zero2ai_proto::{
    ByteBuf, NodeId, PoolId, SecretKey, Signed, calls, decode, encode,
    limits::OUTCOME_BYTES,
    outcome::{CheckedOutcome, OutcomeInfo, OutcomeReport, Shown},
    pool::PoolKey,
    proof::StateProof,
    receipt::{AuditExport, ProviderReceipts, Receipt, Request, Response, Status, commit, commit_output, request_hash},
    record::Address,
    rpc::{ErrorCode, Load, Method, RpcError},
    state::key,
    tensor::Tensor,
};
use zero2ai_rpc::{Endpoint, EndpointConfig, Handler, IncomingCall, ReplySink};

use crate::chain::{Chain, name};

/// How a node serves its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Honest,
    /// Has no time.
    Busy,
    /// Says that many milliseconds of calls wait for it, with the answer to each.
    Crowded(u64),
    /// Gives no answer to a prediction and no token of a text, while it says that its calls take a millisecond.
    Hangs,
    /// Says that the caller's clock is wrong.
    Blames,
    /// Bills more than it gave.
    Overbills,
    /// Signs another output than it sends.
    Lies,
    /// Gives the answer of the first request to every later one.
    Replays,
    /// Leaves the newest event out of audits.
    Hides,
    /// Knows the newest block only when its receipts are asked for the third time.
    Behind,
    /// Has no receipts, whoever asks.
    Forgot,
    /// Gives another pool key than the ledger's.
    OtherKey,
    /// Breaks down after so many tokens.
    DiesAfter(usize),
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: Address,
    pub(crate) served: Arc<Served>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) struct Served {
    chain: Arc<Mutex<Chain>>,
    key: SecretKey,
    pool: PoolId,
    manners: Manners,
    /// Receipts this provider would log, in order.
    pub(crate) receipts: Mutex<Vec<Receipt>>,
    /// Requests with their resume lengths, for generations.
    pub(crate) generations: Mutex<Vec<(Request, Vec<u32>)>>,
    /// Times that its receipts were asked for.
    pub(crate) receipt_calls: AtomicUsize,
    /// Predictions asked for.
    pub(crate) predictions: AtomicUsize,
    /// Outcomes told, with what came along.
    pub(crate) outcomes: Mutex<Vec<(CheckedOutcome, Shown)>>,
}

/// Starts a node; with `version`, it serves the model and is among the chain's endpoints.
pub(crate) fn start(chain: &Arc<Mutex<Chain>>, version: Option<u32>, manners: Manners) -> Node {
    start_as(SecretKey::generate().unwrap(), chain, version, manners)
}

/// The same under a given identity.
pub(crate) fn start_as(key: SecretKey, chain: &Arc<Mutex<Chain>>, version: Option<u32>, manners: Manners) -> Node {
    let mut locked = chain.lock().unwrap();
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = EndpointConfig { bind, key: key.clone(), pool: locked.pool, pool_keys: locked.pool_keys.clone() };
    let endpoint = Endpoint::bind(config).unwrap();
    let address = Address::Rpc(endpoint.local_addr().to_string());
    if let Some(version) = version {
        let record = locked.endpoint(&key, version, &address);
        locked.endpoints.push(record);
    }
    let served = Arc::new(Served {
        chain: Arc::clone(chain),
        key: key.clone(),
        pool: locked.pool,
        manners,
        receipts: Mutex::default(),
        generations: Mutex::default(),
        receipt_calls: AtomicUsize::new(0),
        predictions: AtomicUsize::new(0),
        outcomes: Mutex::default(),
    });
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (served, stop) = (Arc::clone(&served), stop.clone());
        async move { endpoint.serve(served, stop).await.unwrap() }
    });
    Node { id: key.public(), address, served, stop, task }
}

/// A client with a fresh account that knows the genesis and begins at `node`.
pub(crate) async fn client(chain: &Arc<Mutex<Chain>>, node: &Node) -> Client {
    let config = config(chain, &[node]);
    Client::connect(config).await.unwrap()
}

pub(crate) fn config(chain: &Arc<Mutex<Chain>>, nodes: &[&Node]) -> ClientConfig {
    let chain = chain.lock().unwrap();
    ClientConfig {
        key: SecretKey::generate().unwrap(),
        pool: chain.pool,
        pool_key: chain.pool_keys.current(),
        bootstrap: nodes.iter().map(|n| (n.id, vec![n.address.clone()])).collect(),
        genesis: Some(chain.genesis.clone()),
    }
}

fn refused(code: ErrorCode, why: impl std::fmt::Display) -> RpcError {
    RpcError::new(code, why.to_string())
}

impl Served {
    async fn answer(&self, call: IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
        let renews = [calls::GetPoolKey::ID, calls::Head::ID, calls::Prove::ID, calls::TrustSteps::ID];
        if call.stale_key && !renews.contains(&call.method) {
            return Err(refused(ErrorCode::Denied, "an old pool key"));
        }
        match call.method {
            calls::Ping::ID => {
                let (queue, queue_us) = if self.manners == Manners::Hangs { (1, 1_000) } else { (0, 0) };
                let pong = calls::Pong { time_ms: 0, height: 0, queue, queue_us, version: "test".into() };
                reply.item::<calls::Ping>(&pong).await
            }
            calls::GetPoolKey::ID => {
                let key = match self.manners {
                    Manners::OtherKey => PoolKey::generate().unwrap().next().unwrap(),
                    _ => self.chain.lock().unwrap().pool_keys.current(),
                };
                reply.item::<calls::GetPoolKey>(&key).await
            }
            calls::Head::ID => {
                let head = self.chain.lock().unwrap().head.clone();
                reply.item::<calls::Head>(&head).await
            }
            calls::TrustSteps::ID => {
                let steps = self.chain.lock().unwrap().steps.clone();
                for step in &steps {
                    reply.item::<calls::TrustSteps>(step).await?;
                }
                Ok(())
            }
            calls::Prove::ID => {
                let proved = self.prove(&call.request::<calls::Prove>()?);
                reply.item::<calls::Prove>(&proved).await
            }
            calls::Resolve::ID => {
                let resolved = self.resolve(&call.request::<calls::Resolve>()?)?;
                reply.item::<calls::Resolve>(&resolved).await
            }
            calls::Redeem::ID => {
                let redeemed = self.redeem(&call.request::<calls::Redeem>()?)?;
                reply.item::<calls::Redeem>(&redeemed).await
            }
            calls::TellOutcome::ID => {
                let taken = self.take_outcome(call.peer, &call.request::<calls::TellOutcome>()?)?;
                reply.item::<calls::TellOutcome>(&taken).await
            }
            calls::SubmitTx::ID => {
                let submitted = self.submit(&call.request::<calls::SubmitTx>()?)?;
                reply.item::<calls::SubmitTx>(&submitted).await
            }
            calls::Predict::ID if self.manners == Manners::Hangs => {
                self.predictions.fetch_add(1, Ordering::SeqCst);
                call.cancelled.cancelled().await;
                Err(refused(ErrorCode::Timeout, "cancelled"))
            }
            calls::Predict::ID => {
                let predicted = self.predict(&call.request::<calls::Predict>()?)?;
                reply.item::<calls::Predict>(&predicted).await
            }
            calls::Generate::ID if self.manners == Manners::Hangs => {
                let asked = call.request::<calls::Generate>()?;
                let request = asked.request.verify(&self.pool).unwrap();
                self.generations.lock().unwrap().push((request, asked.input.resume));
                call.cancelled.cancelled().await;
                Err(refused(ErrorCode::Timeout, "cancelled"))
            }
            calls::Generate::ID => self.generate(call.request::<calls::Generate>()?, &mut reply).await,
            calls::AuditProofs::ID => {
                let audit = self.audit(&call.request::<calls::AuditProofs>()?)?;
                for piece in encode(&audit).unwrap().chunks(1000) {
                    reply.item::<calls::AuditProofs>(&calls::Piece { data: ByteBuf::from(piece) }).await?;
                }
                Ok(())
            }
            calls::Receipts::ID => {
                let asked = self.receipt_calls.fetch_add(1, Ordering::SeqCst);
                match self.manners {
                    Manners::Behind if asked < 2 => Err(refused(ErrorCode::Unavailable, "not final here yet")),
                    Manners::Forgot => Err(refused(ErrorCode::Internal, "the log is gone")),
                    _ => {
                        let (provider, anchor) = (self.key.public(), self.anchor());
                        reply.item::<calls::Receipts>(&ProviderReceipts { provider, anchor, receipts: vec![] }).await
                    }
                }
            }
            method => Err(refused(ErrorCode::Unsupported, format!("no method {method}"))),
        }
    }

    fn prove(&self, call: &calls::ProveCall) -> calls::Proved {
        let chain = self.chain.lock().unwrap();
        let height = chain.ledger.height() - 1;
        let proofs: Vec<StateProof> = call.keys.iter().map(|k| chain.ledger.prove(k, height).unwrap()).collect();
        calls::Proved { header: chain.head.clone(), proofs }
    }

    /// The proof of what this node anchored, or that it did not.
    fn anchor(&self) -> StateProof {
        let chain = self.chain.lock().unwrap();
        chain.ledger.prove(&key::anchor(&self.key.public()), chain.ledger.height() - 1).unwrap()
    }

    fn resolve(&self, call: &calls::ResolveCall) -> Result<calls::Resolved, RpcError> {
        let chain = self.chain.lock().unwrap();
        let record = chain.ledger.name_record(&call.name.name, chain.head.clone());
        let record = record.map_err(|e| refused(ErrorCode::NotFound, e))?;
        let (version, _) =
            chain.ledger.resolve(&call.name).ok_or_else(|| refused(ErrorCode::NotFound, "no version"))?;
        let height = chain.ledger.height() - 1;
        Ok(calls::Resolved {
            record,
            version: chain.ledger.prove(&key::version(&name(), version), height).unwrap(),
            version_header: chain.head.clone(),
            endpoints: chain.endpoints.clone(),
            source: calls::Source::Ledger,
            took_us: 1,
        })
    }

    fn audit(&self, call: &calls::AuditProofsCall) -> Result<calls::ProvenAudit, RpcError> {
        let (provider, anchor) = (self.key.public(), self.anchor());
        let chain = self.chain.lock().unwrap();
        let entries = chain.ledger.audit_entries(&call.name, chain.ledger.height() - 1);
        let mut entries = entries.map_err(|e| refused(ErrorCode::NotFound, e))?;
        if self.manners == Manners::Hides {
            let event = entries.iter().rposition(|e| e.key.starts_with(b"event/")).unwrap();
            entries.remove(event);
        }
        let export = AuditExport {
            version: 1,
            genesis: ByteBuf::from(chain.genesis.clone()),
            name: call.name.clone(),
            steps: chain.steps.clone(),
            header: chain.head.clone(),
            entries,
            providers: match anchor.value {
                Some(_) => vec![ProviderReceipts { provider, anchor, receipts: vec![] }],
                None => vec![],
            },
        };
        // The client began at this node, and dials it no second time.
        Ok(calls::ProvenAudit { export, addresses: vec![] })
    }

    fn redeem(&self, call: &calls::RedeemCall) -> Result<calls::Redeemed, RpcError> {
        let mut chain = self.chain.lock().unwrap();
        let height = chain.block(std::slice::from_ref(&call.tx)).map_err(|(_, e)| refused(ErrorCode::Invalid, e))?;
        chain.block(&[]).unwrap();
        Ok(calls::Redeemed { genesis: ByteBuf::from(chain.genesis.clone()), height })
    }

    /// One block and no more: the newest header does not prove the new nonce yet, as on a real chain.
    fn submit(&self, call: &calls::SubmitCall) -> Result<calls::Submitted, RpcError> {
        let mut chain = self.chain.lock().unwrap();
        let height = chain.block(std::slice::from_ref(&call.tx)).map_err(|(_, e)| refused(ErrorCode::Invalid, e))?;
        Ok(calls::Submitted { id: call.tx.tx_id().unwrap(), height: Some(height) })
    }

    /// As a model's owner does, without its bounds.
    fn take_outcome(&self, peer: NodeId, call: &calls::OutcomeCall) -> Result<calls::OutcomeTaken, RpcError> {
        let info = encode(&OutcomeInfo::new(self.pool, peer, self.key.public())).unwrap();
        let sealing = self.chain.lock().unwrap().sealing.clone();
        let opened = open_sealed(&call.encapsulated, &call.ciphertext, &sealing, &info);
        let bytes = opened.map_err(|e| refused(ErrorCode::Invalid, e))?;
        let report: OutcomeReport = decode(&bytes, OUTCOME_BYTES).unwrap();
        let checked = report.check(&self.pool).map_err(|e| refused(ErrorCode::Invalid, e))?;
        let mut outcomes = self.outcomes.lock().unwrap();
        let fresh = outcomes.iter().all(|(known, _)| known.outcome.receipt != checked.outcome.receipt);
        outcomes.push((checked, report.shown));
        Ok(calls::OutcomeTaken { fresh })
    }

    fn admit<T: Serialize + ?Sized>(&self, signed: &Signed<Request>, salt: &[u8], input: &T) -> [u8; 32] {
        let request = signed.verify(&self.pool).unwrap();
        let salt: [u8; 32] = salt.try_into().unwrap();
        assert_eq!(request.provider, self.key.public());
        assert_eq!(request.commitment, commit(&salt, &encode(input).unwrap()));
        salt
    }

    fn respond<T: Serialize + ?Sized>(
        &self,
        request: &Signed<Request>,
        salt: &[u8; 32],
        (output, units): (&T, u64),
        status: Status,
    ) -> Signed<Response> {
        let commitment = commit_output(salt, &encode(output).unwrap());
        let request_id = request_hash(request).unwrap();
        let units = units + u64::from(self.manners == Manners::Overbills);
        let response = Response { request: request_id, commitment, units, status, time_ms: 0 };
        let response = Signed::sign(&response, &self.pool, &self.key).unwrap();
        self.receipts.lock().unwrap().push(Receipt { request: request.clone(), response: response.clone() });
        response
    }

    fn predict(&self, call: &calls::PredictCall) -> Result<calls::Predicted, RpcError> {
        self.predictions.fetch_add(1, Ordering::SeqCst);
        let salt = self.admit(&call.request, &call.salt, &call.inputs);
        if self.manners == Manners::Busy {
            return Err(refused(ErrorCode::Busy, "no time"));
        }
        if self.manners == Manners::Blames {
            return Err(refused(ErrorCode::Clock, "your clock is wrong"));
        }
        let double = |t: &Tensor| {
            let values: Vec<f32> = t.to_f32().unwrap().iter().map(|v| v * 2.0).collect();
            Tensor::f32("doubled", &t.shape, &values)
        };
        let outputs: Vec<Tensor> = call.inputs.iter().map(double).collect();
        let units = zero2ai_proto::tensor::units(&call.inputs);
        let response = match self.manners {
            Manners::Lies => self.respond(&call.request, &salt, (&call.inputs, units), Status::Complete),
            _ => self.respond(&call.request, &salt, (&outputs, units), Status::Complete),
        };
        let first = self.receipts.lock().unwrap()[0].response.clone();
        let response = if self.manners == Manners::Replays { first } else { response };
        Ok(calls::Predicted { response, outputs })
    }

    /// Token `i` of a text is `100 + i`, whoever gives it.
    async fn generate(&self, call: calls::GenerateCall, reply: &mut ReplySink) -> Result<(), RpcError> {
        let salt = self.admit(&call.request, &call.salt, &call.input);
        let request = call.request.verify(&self.pool).unwrap();
        self.generations.lock().unwrap().push((request, call.input.resume.clone()));
        let mut said: Vec<u32> = Vec::new();
        for position in call.input.resume.len()..call.input.sampling.max_tokens as usize {
            if self.manners == Manners::DiesAfter(said.len()) {
                return Err(refused(ErrorCode::Model, "the worker died"));
            }
            let id = 100 + u32::try_from(position).unwrap();
            said.push(id);
            let piece = calls::TokenPiece { id, text: format!("{id} "), scores: vec![] };
            reply.item::<calls::Generate>(&calls::Generated::Token(piece)).await?;
            if said.len().is_multiple_of(4) {
                let point = self.respond(&call.request, &salt, (&said, said.len() as u64), Status::Checkpoint);
                reply.item::<calls::Generate>(&calls::Generated::Checkpoint(point)).await?;
            }
        }
        let given = said.len() as u64;
        if self.manners == Manners::Lies {
            said.push(0);
        }
        let response = self.respond(&call.request, &salt, (&said, given), Status::Complete);
        let end = calls::GenerationEnd { response, reason: calls::StopReason::Length, prompt_tokens: 3 };
        reply.item::<calls::Generate>(&calls::Generated::Done(end)).await
    }
}

impl Handler for Served {
    fn admitted(&self, _: &NodeId) -> bool {
        true
    }

    fn load(&self, method: u16) -> Option<Load> {
        match self.manners {
            Manners::Crowded(ms) if method == calls::Predict::ID => Some(Load { queue: 9, queue_us: ms * 1_000 }),
            _ => None,
        }
    }

    fn call<'a>(&'a self, call: IncomingCall, reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
        self.answer(call, reply).boxed()
    }
}
