//! Both halves of a receipt, as the caller sees them: signing a request, and checking a response against it.

use std::time::Duration;

use serde::Serialize;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ByteBuf, Digest, ModelName, NodeId, PoolId, SecretKey, Signed, encode,
    keys::random_bytes,
    limits::REQUEST_HORIZON_MS,
    pool::Nonce,
    receipt::{Receipt, Request, Response, Status, commit, commit_output},
};

use crate::{error::ClientError, resolve::Resolution};

/// What is asked, of which version.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: ModelName,
    pub(crate) version: u32,
    pub(crate) manifest: zero2ai_proto::ManifestId,
}

impl From<&Resolution> for Subject {
    fn from(found: &Resolution) -> Self {
        Self { name: found.name.clone(), version: found.version, manifest: found.manifest }
    }
}

/// A signed request to one provider, and the salt that only the two know.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) request: Signed<Request>,
    salt: [u8; 32],
    provider: NodeId,
}

impl Order {
    /// Signs a fresh request: commitment over the encoding of `input` under a fresh salt.
    pub(crate) fn sign<T: Serialize + ?Sized>(
        subject: &Subject,
        provider: NodeId,
        input: &T,
        patience: Duration,
        parent: Option<Digest>,
        (pool, key): (&PoolId, &SecretKey),
    ) -> Result<Self, ClientError> {
        let random = |e: &dyn std::fmt::Display| ClientError::Randomness(e.to_string());
        let salt = random_bytes().map_err(|e| random(&e))?;
        let time_ms = now_ms();
        let horizon = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).min(REQUEST_HORIZON_MS);
        let request = Request {
            provider,
            name: subject.name.clone(),
            version: subject.version,
            manifest: subject.manifest,
            commitment: commit(&salt, &encode(input)?),
            nonce: Nonce::generate().map_err(|e| random(&e))?,
            time_ms,
            deadline_ms: time_ms.saturating_add(horizon),
            price_cap: 0,
            parent,
        };
        Ok(Self { request: Signed::sign(&request, pool, key)?, salt, provider })
    }

    /// The salt itself, for whoever keeps the call.
    pub(crate) const fn secret(&self) -> [u8; 32] {
        self.salt
    }

    /// The salt as the call carries it.
    pub(crate) fn salt(&self) -> ByteBuf {
        ByteBuf::from(self.salt.to_vec())
    }

    /// Checks a response whole: both signatures, that it answers this request, that the provider gave it, that it commits
    /// to `output` and counts it as `units`, and how it says the call ended. Gives the receipt.
    pub(crate) fn check<T: Serialize + ?Sized>(
        &self,
        pool: &PoolId,
        response: Signed<Response>,
        (output, units): (&T, u64),
        status: Status,
    ) -> Result<Receipt, ClientError> {
        let untrue = |why: &str| Err(ClientError::untrue(&self.provider, why));
        let receipt = Receipt { request: self.request.clone(), response };
        let (_, _, said) = receipt.verify(pool).map_err(|e| ClientError::untrue(&self.provider, e))?;
        if said.commitment != commit_output(&self.salt, &encode(output)?) {
            return untrue("its signature commits to another output than it sent");
        }
        if said.units != units {
            return untrue("it bills another number of units than it gave");
        }
        if said.status != status {
            return untrue("it signs another end of the call than it shows");
        }
        Ok(receipt)
    }
}
