//! How a model's publisher said that pictures or sounds become its inputs, in a provider's own words; with the feature `media`,
//! making the inputs.

use std::time::Duration;

use zero2ai_proto::{
    calls::{DescribeCall, Prepare, Prepared},
    prepare::Preparation,
    rpc::ErrorCode,
};

use crate::{
    client::Client,
    error::ClientError,
    predict::Line,
    resolve::{Resolution, ResolvedEndpoint},
};

impl Client {
    /// Asks the nearest endpoint of `found` that answers, within `patience`. `None` if the model takes tensors alone, or its
    /// providers are too old to know of anything else.
    ///
    /// # Errors
    /// Nobody serves it, every endpoint failed, or one says what is out of bounds.
    pub async fn preparation(
        &self,
        found: &Resolution,
        patience: Duration,
    ) -> Result<Option<Preparation>, ClientError> {
        let request = DescribeCall { name: found.name.clone(), version: found.version };
        let line = Line::new(self, found, patience)?;
        let read = |endpoint: &ResolvedEndpoint, answer: Result<Prepared, ClientError>| match answer {
            Ok(Prepared { preparation }) => {
                let checked = preparation.as_ref().map_or(Ok(()), Preparation::check);
                checked.map(|()| preparation).map_err(|e| ClientError::untrue(&endpoint.node, e))
            }
            Err(error) if error.code() == Some(ErrorCode::Unsupported) => Ok(None),
            Err(error) => Err(error),
        };
        self.ask_along::<Prepare, _>(line, &request, read).await
    }

    /// Makes a model's inputs of the contents of files: pictures (PNG, JPEG, WebP, BMP), one a row, or one sound (WAV, FLAC, Ogg
    /// Vorbis, MP3). They are decoded here, within limits; the provider sees tensors.
    ///
    /// # Errors
    /// As [`Client::preparation`]; the model takes tensors alone; content of another kind, damaged, or more than one call carries.
    #[cfg(feature = "media")]
    pub async fn prepare(
        &self,
        found: &Resolution,
        contents: Vec<Vec<u8>>,
        patience: Duration,
    ) -> Result<Vec<zero2ai_proto::tensor::Tensor>, ClientError> {
        let said = self.preparation(found, patience).await?;
        let preparation =
            said.ok_or_else(|| ClientError::NoPreparation { name: found.name.clone(), version: found.version })?;
        let work = tokio::task::spawn_blocking(move || zero2ai_media::prepare(&preparation, &contents));
        let made = work.await.map_err(|e| ClientError::Content(e.to_string()))?;
        made.map_err(|e| ClientError::Content(e.to_string()))
    }
}
