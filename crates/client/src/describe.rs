//! What a model takes and gives, in a provider's own words: nothing signs or proves them, a wrong one only makes a request
//! that the model refuses.

use std::time::Duration;

use zero2ai_proto::{
    NodeId,
    calls::{Describe, DescribeCall},
    limits::{DIMENSIONS, LABEL_BYTES, TENSORS},
    tensor::TensorSpec,
    worker::ModelInfo,
};

use crate::{
    client::Client,
    error::ClientError,
    predict::Line,
    resolve::{Resolution, ResolvedEndpoint},
};

impl Client {
    /// Asks the nearest endpoint of `found` that answers, within `patience`.
    ///
    /// # Errors
    /// Nobody serves it, or every endpoint failed.
    pub async fn describe(&self, found: &Resolution, patience: Duration) -> Result<ModelInfo, ClientError> {
        self.describe_in(Line::new(self, found, patience)?, found).await
    }

    /// Asks one node of `found`, such as the one that answered a call.
    ///
    /// # Errors
    /// It does not serve it, or did not answer.
    pub async fn describe_at(
        &self,
        node: NodeId,
        found: &Resolution,
        patience: Duration,
    ) -> Result<ModelInfo, ClientError> {
        let mut only = found.clone();
        only.endpoints.retain(|endpoint| endpoint.node == node);
        self.describe_in(Line::new(self, &only, patience)?, &only).await
    }

    async fn describe_in(&self, line: Line, found: &Resolution) -> Result<ModelInfo, ClientError> {
        let request = DescribeCall { name: found.name.clone(), version: found.version };
        self.ask_along::<Describe, _>(line, &request, |endpoint, info| check(endpoint, info?)).await
    }
}

/// Holds what a provider says to the bounds of what could be sent to it.
fn check(endpoint: &ResolvedEndpoint, info: ModelInfo) -> Result<ModelInfo, ClientError> {
    let fits = |spec: &TensorSpec| spec.name.len() <= LABEL_BYTES && spec.shape.len() <= DIMENSIONS;
    let all = |specs: &[TensorSpec]| specs.len() <= TENSORS && specs.iter().all(fits);
    if all(&info.inputs) && all(&info.outputs) && info.architecture.len() <= LABEL_BYTES {
        return Ok(info);
    }
    Err(ClientError::untrue(&endpoint.node, "it describes a model that is beyond every bound"))
}
