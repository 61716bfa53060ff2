//! The chain of seeds: every block under these rules begins with its proposer's VRF output over the seed before. The output is fixed by
//! key and seed, so that a proposer can add it or withhold his block, and nothing else: one bit for each block withheld, and what a
//! cabal makes of that is told in `zero2ai_trust::committee`.

use zero2ai_proto::{
    Digest, NodeId, PoolId, SecretKey, Signed, TxId, VerifyError,
    state::{Halt, SeedState, key},
    tx::{Beacon, Tx, TxBody},
    vrf,
};
use zero2ai_trust::{commit::HALT_MS, committee::next_seed};

use super::{Context, STAKED_RULES};
use crate::{Ledger, LedgerError, draft::Draft, error::TxError};

const INPUT: &[u8] = b"zero2ai beacon v1\0";

/// What the proposer of `height` proves its output over.
fn input(pool: &PoolId, seed: &Digest, height: u64) -> Vec<u8> {
    [INPUT, pool.as_bytes(), seed.as_bytes(), &height.to_le_bytes()].concat()
}

/// The seed so far: at the beginning the pool's id.
pub(super) fn seed(draft: &Draft<'_>, pool: &PoolId) -> Result<Digest, TxError> {
    Ok(draft.read::<SeedState>(key::SEED)?.map_or(Digest(pool.0), |state| state.seed))
}

/// Takes the first transaction of a block by `proposer`.
pub(crate) fn take(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    proposer: &NodeId,
    signed: &Signed<Tx>,
    valid: bool,
) -> Result<TxId, TxError> {
    let invalid = |why: &str| TxError::Invalid { what: "beacon", why: why.to_owned() };
    if !valid {
        return Err(VerifyError::BadSignature.into());
    }
    let Tx { nonce, body } = signed.read_unverified()?;
    let TxBody::Beacon(Beacon { proof }) = body else {
        return Err(invalid("a block begins with its proposer's"));
    };
    if signed.signer() != *proposer || nonce != 0 {
        return Err(invalid("it is signed by the block's proposer, with the nonce 0"));
    }
    let before = seed(draft, at.pool)?;
    let output = vrf::verify(proposer, &input(at.pool, &before, at.height), &proof)
        .ok_or_else(|| invalid("its proof does not hold over the seed before and this height"))?;
    let state = SeedState { seed: next_seed(&before, at.height, &output), height: at.height, busy: false };
    draft.write(key::SEED.to_vec(), &state)?;
    draft.keep();
    signed.tx_id().map_err(|e| TxError::Envelope(VerifyError::Codec(e)))
}

/// At a block's end: whether it held more than that, and whether the chain stood still before it.
pub(super) fn end(draft: &mut Draft<'_>, at: &Context<'_>, busy: bool) -> Result<(), TxError> {
    if let Some(state) = draft.read::<SeedState>(key::SEED)?.filter(|_| busy) {
        draft.write(key::SEED.to_vec(), &SeedState { busy, ..state })?;
    }
    let pause_ms = at.time_ms.saturating_sub(at.parent_ms);
    if pause_ms >= HALT_MS {
        draft.write(key::HALT.to_vec(), &Halt { height: at.height, pause_ms })?;
    }
    Ok(())
}

impl Ledger {
    /// What a block that `key` proposes now must begin with; `None` where the rules of that height know no such thing.
    ///
    /// # Errors
    /// [`LedgerError::Codec`]; [`LedgerError::Tree`] if there is no output, which does not happen.
    pub fn beacon(&self, key: &SecretKey) -> Result<Option<Signed<Tx>>, LedgerError> {
        let height = self.height().saturating_add(1);
        if self.rules().at(height) < STAKED_RULES {
            return Ok(None);
        }
        let input = input(&self.pool, &self.seed(), height);
        let proof = vrf::prove(key, &input).ok_or_else(|| LedgerError::Tree("no VRF output over a seed".into()))?;
        let body = TxBody::Beacon(Beacon { proof: proof.to_vec().into() });
        Ok(Some(Signed::sign(&Tx { nonce: 0, body }, &self.pool, key)?))
    }
}
