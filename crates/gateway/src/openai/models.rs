//! Listing models: those that the node behind the gateway holds. Any other name of the network can be asked for all the
//! same, and called.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures::{StreamExt as _, stream};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use zero2ai_proto::{
    ModelName, ModelRef,
    state::{Version, key},
};

use super::json_answer;
use crate::{fault::Fault, state::Shared};

/// Where the route of one model begins.
const MODELS: &str = "/v1/models/";
/// Models listed. A node that holds more lists the first of them by name; all can be called.
const LISTED: usize = 500;
/// Ledger entries read at a time, for the time of publication.
const READS: usize = 8;

fn model(id: &str, owner: &str, time_ms: u64) -> Value {
    json!({ "id": id, "object": "model", "created": time_ms / 1_000, "owned_by": owner })
}

pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Result<Response, Fault> {
    let mut held: Vec<(ModelName, u32)> =
        shared.status().await?.models.into_iter().map(|m| (m.name, m.version)).collect();
    // The newest version of each, in order of name.
    held.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
    held.dedup_by(|a, b| a.0 == b.0);
    held.truncate(LISTED);
    let described = stream::iter(held).map(|(name, version)| {
        let client = shared.client.clone();
        async move {
            // While the chain is halted the newest publications cannot be proved: their time is then told as 0.
            let entry: Option<Version> = client.entry(&key::version(&name, version)).await.ok().flatten();
            model(name.as_str(), name.publisher(), entry.map_or(0, |e| e.time_ms))
        }
    });
    let data: Vec<Value> = described.buffered(READS).collect().await;
    Ok(json_answer(&json!({ "object": "list", "data": data })))
}

pub(crate) async fn one(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Fault> {
    let id = request.uri().path().strip_prefix(MODELS).unwrap_or_default();
    let id = percent_decode_str(id).decode_utf8().map_err(|_| Fault::no_model("the model's name is not UTF-8"))?;
    let name: ModelRef = id.parse().map_err(|e: zero2ai_proto::name::NameError| Fault::no_model(e.to_string()))?;
    let found = shared.resolve(&name).await?;
    Ok(json_answer(&model(&id, found.name.publisher(), found.entry.time_ms)))
}
