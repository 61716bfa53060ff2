//! The client's own identity on the ledger: being admitted, and submitting transactions.

use std::{sync::atomic::Ordering, time::Duration};

use zero2ai_proto::{
    SealingKey, Signed,
    calls::{Redeem, RedeemCall, SubmitCall, SubmitTx, Submitted},
    pool::Invite,
    rpc::ErrorCode,
    state::{Member, key},
    tx::{self, Tx, TxBody},
};
use zero2ai_rpc::CallError;

use crate::{client::Client, error::ClientError};

/// Patience for what must become final: several rounds of blocks, even with a signer down.
const FINAL: Duration = Duration::from_secs(45);
/// Nonces tried before giving up: proofs lag behind the ledger by a block, which may hold as many of our transactions.
const NONCES: u64 = 16;

/// What an admission gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The encoded genesis, which hashes to the pool's id: keep it.
    pub genesis: Vec<u8>,
    /// Height of the admission.
    pub height: u64,
}

impl Client {
    /// Redeems an invite's ticket for this account. Doing it again is harmless. From then on proofs can be checked.
    ///
    /// # Errors
    /// The invite is of another pool, the ticket admits nobody, the chain is halted, or the node lies about the genesis.
    pub async fn redeem(&self, invite: &Invite, sealing_key: SealingKey) -> Result<Admission, ClientError> {
        let pool = self.pool();
        if invite.pool != pool {
            return Err(ClientError::OtherPool { what: "invite", got: invite.pool, expected: pool });
        }
        let body = TxBody::Redeem(tx::Redeem { ticket: invite.ticket.clone(), sealing_key });
        let tx = Signed::sign(&Tx { nonce: 0, body }, &pool, &self.inner.key)?;
        let (redeemed, _) = self.ask::<Redeem>(&RedeemCall { tx }, FINAL).await?;
        self.inner.trust.begin(&redeemed.genesis)?;
        Ok(Admission { genesis: redeemed.genesis.into_vec(), height: redeemed.height })
    }

    /// Signs `body` with the account's next nonce, submits it, and waits until it is final.
    ///
    /// # Errors
    /// The account is not admitted, the ledger refuses the transaction, or the chain does not move.
    pub async fn submit(&self, body: TxBody) -> Result<Submitted, ClientError> {
        let me = self.id();
        let member: Member = self.entry(&key::member(&me)).await?.ok_or(ClientError::NotAdmitted(me))?;
        let mut nonce = member.nonce.max(self.inner.next_nonce.load(Ordering::Relaxed));
        let last = nonce.saturating_add(NONCES);
        loop {
            let tx = Signed::sign(&Tx { nonce, body: body.clone() }, &self.pool(), &self.inner.key)?;
            match self.ask::<SubmitTx>(&SubmitCall { tx, wait: true }, FINAL).await {
                // The proof was older than our last transaction, or another client of this account was faster.
                Err(ClientError::Call(CallError::Remote(e))) if nonce < last && is_nonce_race(e.code, &e.message) => {
                    nonce = nonce.saturating_add(1);
                }
                Err(error) => return Err(error),
                Ok((submitted, _)) => {
                    self.inner.next_nonce.fetch_max(nonce.saturating_add(1), Ordering::Relaxed);
                    return Ok(submitted);
                }
            }
        }
    }
}

/// The protocol has no code of its own for it; nodes say it in these words.
fn is_nonce_race(code: ErrorCode, message: &str) -> bool {
    matches!(code, ErrorCode::Invalid | ErrorCode::Unavailable)
        && message.contains("nonce")
        && !message.contains("ahead")
}
