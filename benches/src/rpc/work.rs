//! The call that is measured: a prediction of a small model with everything a provider does but running a worker and writing
//! the receipt to disk. And the processes that answer it, over peer RPC and over gRPC.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    ByteBuf, ManifestId, ModelName, NodeId, PoolId, SecretKey, Signed,
    calls::{Generate, Generated, GetChunk, Piece, Predict, PredictCall, Predicted, TokenPiece},
    decode, encode,
    keys::random_bytes,
    pool::{Nonce, PoolKey},
    receipt::{Request, Response, Status, commit, commit_output, request_hash},
    rpc::{ErrorCode, Method, RpcError},
    tensor::{Tensor, units},
};
use zero2ai_rpc::{Endpoint, EndpointConfig, Handler, IncomingCall, ReplySink};

use super::grpc;
use crate::{
    files::MIB,
    tools::{say, until_stopped, wait_for_go},
};

/// Numbers in, and classes out: as the digits classifier has them.
pub(crate) const FEATURES: usize = 64;
const CLASSES: usize = 10;
/// Pieces of 1 MiB in one stream of bytes.
pub(crate) const PIECES: usize = 128;
/// Tokens of one text, and the pause before each: as a fast model gives them.
pub(crate) const TOKENS: usize = 400;
const PACE: Duration = Duration::from_millis(2);

/// Bytes of an encoded pool key at most.
const KEY_BYTES: usize = 256;

/// The model's name; the pool is told apart from any real one by its id.
pub(crate) fn name() -> Result<ModelName> {
    "bench/digits".parse().context("the name")
}

pub(crate) const POOL: PoolId = PoolId([7; 32]);
pub(crate) const MANIFEST: ManifestId = ManifestId([8; 32]);

/// Nanoseconds of a clock that all processes of this machine share.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A provider.
pub(crate) struct Provider {
    pub(crate) key: SecretKey,
    weights: Vec<f32>,
}

impl Provider {
    pub(crate) fn new(key: SecretKey) -> Self {
        #[allow(clippy::cast_precision_loss)] // small numbers
        let weights = (0..FEATURES * CLASSES).map(|i| (i as f32 * 0.37).sin()).collect();
        Self { key, weights }
    }

    /// Checks the request, computes, signs.
    pub(crate) fn predict(&self, call: &PredictCall) -> Result<Predicted> {
        let request = call.request.verify(&POOL)?;
        let salt: [u8; 32] = call.salt.as_slice().try_into()?;
        ensure!(request.provider == self.key.public(), "it is for another provider");
        ensure!(request.commitment == commit(&salt, &encode(&call.inputs)?), "the commitment is of another input");
        let input = call.inputs.first().context("no input")?.to_f32()?;
        let row = |row: &[f32]| -> Vec<f32> {
            let class = |w: &[f32]| w.iter().zip(row).map(|(w, x)| w * x).sum();
            self.weights.chunks(FEATURES).map(class).collect()
        };
        let scores: Vec<f32> = input.chunks(FEATURES).flat_map(row).collect();
        let rows = units(&call.inputs);
        let outputs = vec![Tensor::f32("scores", &[rows, CLASSES as u64], &scores)];
        let commitment = commit_output(&salt, &encode(&outputs)?);
        let request = request_hash(&call.request)?;
        let response = Response { request, commitment, units: rows, status: Status::Complete, time_ms: 0 };
        Ok(Predicted { response: Signed::sign(&response, &POOL, &self.key)?, outputs })
    }
}

/// A signed call to `provider`, as a client sends it.
pub(crate) fn call(account: &SecretKey, provider: NodeId) -> Result<PredictCall> {
    let salt: [u8; 32] = random_bytes()?;
    let inputs = vec![Tensor::f32("", &[1, FEATURES as u64], &[0.5; FEATURES])];
    let request = Request {
        provider,
        name: name()?,
        version: 1,
        manifest: MANIFEST,
        commitment: commit(&salt, &encode(&inputs)?),
        nonce: Nonce::generate()?,
        time_ms: 0,
        deadline_ms: u64::MAX,
        price_cap: 0,
        parent: None,
    };
    let request = Signed::sign(&request, &POOL, account)?;
    Ok(PredictCall { request, salt: ByteBuf::from(salt.to_vec()), inputs })
}

/// What the process that answers is to do: it speaks both protocols, on a port each.
#[derive(Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) seed: [u8; 32],
    /// The pool's key, encoded, in hexadecimal.
    pub(crate) pool_key: String,
}

/// Where it answers, and the certificate of its gRPC.
#[derive(Serialize, Deserialize)]
pub(crate) struct At {
    pub(crate) rpc: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) certificate: String,
}

pub(crate) async fn play(role: Role) -> Result<()> {
    let provider = Arc::new(Provider::new(SecretKey::from_bytes(&role.seed)));
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let pool_key: PoolKey = decode(&hex::decode(&role.pool_key)?, KEY_BYTES)?;
    let endpoint =
        Endpoint::bind(EndpointConfig { bind, key: provider.key.clone(), pool: POOL, pool_keys: pool_key.into() })?;
    let rpc = endpoint.local_addr();
    let (grpc, certificate) = grpc::serve(Arc::clone(&provider)).await?;
    tokio::spawn(async move {
        if let Err(e) = endpoint.serve(Arc::new(Answers(provider)), CancellationToken::new()).await {
            eprintln!("{e}");
        }
    });
    say("at", &At { rpc, grpc, certificate })?;
    wait_for_go().await?;
    until_stopped().await
}

struct Answers(Arc<Provider>);

impl Handler for Answers {
    fn admitted(&self, _: &NodeId) -> bool {
        true
    }

    fn call<'a>(&'a self, call: IncomingCall, reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(self.answer(call, reply))
    }
}

impl Answers {
    async fn answer(&self, call: IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
        match call.method {
            Predict::ID => {
                let predicted = self.0.predict(&call.request::<Predict>()?);
                let predicted = predicted.map_err(|e| RpcError::new(ErrorCode::Invalid, e.to_string()))?;
                reply.item::<Predict>(&predicted).await
            }
            GetChunk::ID => {
                let piece = Piece { data: ByteBuf::from(vec![7; MIB]) };
                for _ in 0..PIECES {
                    reply.item::<GetChunk>(&piece).await?;
                }
                Ok(())
            }
            Generate::ID => {
                for id in 0..TOKENS {
                    tokio::time::sleep(PACE).await;
                    reply.item::<Generate>(&Generated::Token(token(id))).await?;
                }
                Ok(())
            }
            other => Err(RpcError::new(ErrorCode::Unsupported, format!("method {other}"))),
        }
    }
}

/// A token that says when it was given.
pub(crate) fn token(id: usize) -> TokenPiece {
    TokenPiece { id: u32::try_from(id).unwrap_or(u32::MAX), text: now_ns().to_string(), scores: Vec::new() }
}

/// The next token of a paced text; `None` after the last.
pub(crate) async fn next_token(id: usize) -> Option<(TokenPiece, usize)> {
    if id == TOKENS {
        return None;
    }
    tokio::time::sleep(PACE).await;
    Some((token(id), id + 1))
}
