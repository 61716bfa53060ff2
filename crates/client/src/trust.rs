//! Whom to believe: the signer sets from the genesis on, kept, and extended by steps that nodes tell and this checks.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_ledger::{LightError, TrustedChain, light::name::proven};
use zero2ai_proto::{
    ByteBuf, PoolId,
    block::Header,
    calls::{Empty, Head, Prove, ProveCall, TrustSteps},
    proof::{SignedHeader, StateProof},
};
use zero2ai_rpc::{CallError, Peer};

use crate::{client::Client, error::ClientError};

/// Patience for what a node answers from memory.
pub(crate) const QUICK: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Trust {
    pool: PoolId,
    chain: Mutex<Option<TrustedChain>>,
}

impl Trust {
    pub(crate) fn new(pool: PoolId, genesis: Option<&[u8]>) -> Result<Self, ClientError> {
        let trust = Self { pool, chain: Mutex::new(None) };
        if let Some(genesis) = genesis {
            trust.begin(genesis)?;
        }
        Ok(trust)
    }

    /// Begins at a genesis, which must be this pool's. What is known already stays.
    pub(crate) fn begin(&self, genesis: &[u8]) -> Result<(), ClientError> {
        let fresh = TrustedChain::new(genesis)?;
        if fresh.pool() != self.pool {
            return Err(ClientError::OtherPool { what: "genesis", got: fresh.pool(), expected: self.pool });
        }
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fresh);
        Ok(())
    }

    /// Runs `check` on the chain as it is known.
    fn with<T>(&self, check: impl FnOnce(&mut TrustedChain) -> Result<T, LightError>) -> Result<T, ClientError> {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = chain.as_mut().ok_or(ClientError::NoGenesis(self.pool))?;
        Ok(check(chain)?)
    }
}

impl Client {
    /// The chain of trust as far as it is known, to be kept for another time; `None` before the genesis is known.
    #[must_use]
    pub fn trusted_chain(&self) -> Option<TrustedChain> {
        self.inner.trust.chain.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a check that needs the signer sets; if one is missing, fetches the steps and runs it again.
    pub(crate) async fn checked<T>(
        &self,
        check: impl Fn(&TrustedChain) -> Result<T, LightError>,
    ) -> Result<T, ClientError> {
        match self.inner.trust.with(|chain| check(chain)) {
            Err(ClientError::Proof(LightError::OtherSigners { .. })) => {
                self.extend().await?;
                self.inner.trust.with(|chain| check(chain))
            }
            other => other,
        }
    }

    /// Fetches the steps from the node that answered last; if it turns out to be gone, from the next one, once for each.
    async fn extend(&self) -> Result<(), ClientError> {
        let mut tries = self.inner.nodes.len();
        loop {
            let peer = self.home().await?;
            match self.extend_from(&peer).await {
                Err(ClientError::Call(CallError::Closed { .. })) if tries > 1 => self.gone(&peer, &mut tries),
                other => return other,
            }
        }
    }

    /// Follows each step as it comes: none is kept that does not hold, so a lying node costs its time alone.
    async fn extend_from(&self, peer: &Peer) -> Result<(), ClientError> {
        let mut steps = peer.stream::<TrustSteps>(&Empty {}, QUICK).await?;
        while let Some(step) = steps.next().await {
            let step = step?;
            self.inner.trust.with(|chain| chain.extend(std::slice::from_ref(&step)))?;
        }
        Ok(())
    }

    /// Checks that a header is final.
    ///
    /// # Errors
    /// It is not, or the steps to its signers cannot be had.
    pub async fn verify_header(&self, signed: &SignedHeader) -> Result<Header, ClientError> {
        self.checked(|chain| chain.verify_header(signed)).await
    }

    /// The newest final header that the node knows, checked.
    ///
    /// # Errors
    /// As [`Client::verify_header`], or the call failed.
    pub async fn head(&self) -> Result<(Header, SignedHeader), ClientError> {
        let (signed, _) = self.ask::<Head>(&Empty {}, QUICK).await?;
        Ok((self.verify_header(&signed).await?, signed))
    }

    /// Reads one entry of the ledger's state with its proof checked; `None` is proven absence. The state is that after the
    /// parent of the newest block.
    ///
    /// # Errors
    /// The call failed, or the proof does not hold.
    pub async fn entry<T: Serialize + DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ClientError> {
        let request = ProveCall { keys: vec![ByteBuf::from(key.to_vec())] };
        let (proved, node) = self.ask::<Prove>(&request, QUICK).await?;
        let [proof] = proved.proofs.as_slice() else {
            return Err(ClientError::untrue(&node, "one proof was asked for, and another number came"));
        };
        self.verified_entry(&proved.header, proof, key).await
    }

    /// Checks a header and the proof of one entry under it.
    pub(crate) async fn verified_entry<T: Serialize + DeserializeOwned>(
        &self,
        header: &SignedHeader,
        proof: &StateProof,
        key: &[u8],
    ) -> Result<Option<T>, ClientError> {
        let header = self.verify_header(header).await?;
        Ok(proven(&header.app_hash, proof, key)?)
    }
}
