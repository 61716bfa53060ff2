//! What a model takes and gives, in a provider's own words: nothing signs or proves them, a wrong one only makes a request
//! that the model refuses.

use std::time::Duration;

use zero2ai_proto::{
    calls::{Describe, DescribeCall},
    limits::{DIMENSIONS, LABEL_BYTES, TENSORS},
    tensor::TensorSpec,
    worker::ModelInfo,
};

use crate::{
    client::{Client, left},
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
        let mut line = Line::new(self, found, patience)?;
        let request = DescribeCall { name: found.name.clone(), version: found.version };
        loop {
            let endpoint = line.next(self)?;
            let asked = async {
                let peer = self.reach(&endpoint, line.deadline).await?;
                check(&endpoint, peer.call::<Describe>(&request, left(line.deadline)).await?)
            };
            match asked.await {
                Ok(info) => return Ok(info),
                Err(error) => line.failed(self, &endpoint, error)?,
            }
        }
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
