//! `/v2`: the Open Inference Protocol, version 2: health, metadata and inference, with the binary tensor extension as
//! Triton's clients use it.
//!
//! | module | owns |
//! |---|---|
//! | [`path`] | which model and which action a path means, `publisher/model` being two segments or one |
//! | [`element`] | tensors in JSON and in bytes |
//! | [`request`] | an inference request: JSON, and raw bytes behind it |
//! | [`answer`] | its answer, in the same two forms |

mod answer;
mod element;
mod path;
mod request;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use zero2ai_proto::{
    manifest::Task,
    tensor::{self, TensorSpec},
};

use self::{
    path::{Action, Target},
    request::{Infer, JSON_LENGTH},
};
use crate::{
    body::{self, Accept},
    fault::Fault,
    state::Shared,
    usage::Need,
};

/// Patience for one prediction, over all endpoints, where the caller names none.
const PREDICT: Duration = Duration::from_secs(60);
/// Patience for a model's description.
const DESCRIBE: Duration = Duration::from_secs(5);

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

pub(crate) async fn server() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body = json!({ "name": "zero2ai", "version": version, "extensions": ["binary_tensor_data"] });
    json_answer(StatusCode::OK, &body)
}

pub(crate) async fn live() -> Response {
    json_answer(StatusCode::OK, &json!({ "live": true }))
}

/// Ready means that the node behind it answers.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let ready = shared.status().await.is_ok();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &json!({ "ready": ready }))
}

/// Metadata or readiness of a model.
pub(crate) async fn model(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Fault> {
    let Target { name, action } = path::target(request.uri().path())?;
    let found = shared.resolve(&name).await?;
    match action {
        Action::Infer => Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "infer takes POST")),
        Action::Ready => {
            let ready = !found.endpoints.is_empty();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Ok(json_answer(status, &json!({ "name": found.name.as_str(), "ready": ready })))
        }
        Action::Metadata => {
            let info = shared.client.describe(&found, DESCRIBE).await.inspect_err(|_| shared.forget(&name))?;
            let body = json!({
                "name": found.name.as_str(),
                "versions": [found.version.to_string()],
                "platform": format!("zero2ai_{}", info.architecture),
                "inputs": info.inputs.iter().map(tensor_metadata).collect::<Vec<_>>(),
                "outputs": info.outputs.iter().map(tensor_metadata).collect::<Vec<_>>(),
            });
            Ok(json_answer(StatusCode::OK, &body))
        }
    }
}

/// The protocol writes a free dimension as -1.
fn tensor_metadata(spec: &TensorSpec) -> Value {
    let shape: Vec<i64> = spec.shape.iter().map(|d| d.and_then(|d| i64::try_from(d).ok()).unwrap_or(-1)).collect();
    json!({ "name": spec.name, "datatype": element::datatype(spec.dtype), "shape": shape })
}

/// One prediction, at the nearest peer that gives one.
pub(crate) async fn infer(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Fault> {
    let Target { name, action } = path::target(request.uri().path())?;
    if action != Action::Infer {
        return Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "only .../infer takes POST"));
    }
    let (head, body) = request.into_parts();
    let (_place, body) = shared.enter(body).await?;
    let body = body::read(&head.headers, body, Accept::Tensors).await?;
    let Infer { id, inputs, wanted, patience } = request::parse(&body, head.headers.get(JSON_LENGTH))?;
    let found = shared.resolve(&name).await?;
    if matches!(found.entry.task, Task::Generate { .. }) {
        return Err(Fault::invalid(format!("{} writes text: use /v1/chat/completions", found.name)));
    }
    let bill = shared.bill(&head, Need::exact(tensor::units(&inputs))).await?;
    let predicted = match shared.client.predict(&found, inputs, patience.unwrap_or(PREDICT)).await {
        Ok(predicted) => predicted,
        Err(error) => {
            bill.cancel();
            shared.forget(&name);
            return Err(error.into());
        }
    };
    let answer = answer::encode(&found, id.as_deref(), &predicted.outputs, &wanted)?;
    let receipt = predicted.receipt.id().map_err(Fault::internal)?;
    let marks = [("zero2ai-node", predicted.node.to_string()), ("zero2ai-receipt", receipt.to_string())];
    let mut response = (marks, [(CONTENT_TYPE, answer.kind())]).into_response();
    if let Some(length) = answer.json_length {
        response.headers_mut().insert(JSON_LENGTH, length.into());
    }
    *response.body_mut() = Body::from(answer.body);
    Ok(response)
}
