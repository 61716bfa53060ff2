//! A provider's receipts of a model, proved under the anchor that the ledger holds.

use zero2ai_ledger::light::verify_log;
use zero2ai_proto::{
    ModelName, NodeId,
    calls::{Receipts, ReceiptsCall},
    encode,
    proof::SignedHeader,
    receipt::{ProvenReceipt, Receipt},
    record::Address,
    state::{AnchorState, key},
};

use crate::{client::Client, error::ClientError, trust::QUICK};

impl Client {
    /// Asks a provider for its receipts of `name` from log index `from` on, and checks each: both signatures, and its place
    /// in the log whose root the ledger anchors under `header`. Gives each with its index; at most
    /// [`zero2ai_proto::limits::RECEIPTS`] come at once, so ask again from behind the last.
    ///
    /// # Errors
    /// The call failed, or one part of the answer does not hold.
    pub async fn receipts(
        &self,
        provider: NodeId,
        addresses: &[Address],
        name: &ModelName,
        from: u64,
        header: &SignedHeader,
    ) -> Result<Vec<(u64, Receipt)>, ClientError> {
        let page = self.receipts_page(provider, addresses, name, from, header).await?;
        Ok(page.into_iter().map(|proven| (proven.proof.index, proven.receipt)).collect())
    }

    /// The same with the proofs.
    pub(crate) async fn receipts_page(
        &self,
        provider: NodeId,
        addresses: &[Address],
        name: &ModelName,
        from: u64,
        header: &SignedHeader,
    ) -> Result<Vec<ProvenReceipt>, ClientError> {
        let height = self.verify_header(header).await?.height;
        let request = ReceiptsCall { name: name.clone(), from, height };
        let answer = self.call::<Receipts>(provider, addresses, &request, QUICK).await?;
        let anchor: Option<AnchorState> = self.verified_entry(header, &answer.anchor, &key::anchor(&provider)).await?;
        let untrue = |why: &dyn std::fmt::Display| ClientError::untrue(&provider, why);
        let Some(anchor) = anchor else {
            return match answer.receipts.is_empty() {
                true => Ok(Vec::new()),
                false => Err(untrue(&"it shows receipts without an anchor")),
            };
        };
        for proven in &answer.receipts {
            if proven.proof.size != anchor.size {
                return Err(untrue(&"a receipt is proved in a log of another size than the anchored one"));
            }
            verify_log(&anchor.root, &proven.proof, &encode(&proven.receipt)?).map_err(|e| untrue(&e))?;
            let (_, request, _) = proven.receipt.verify(&self.pool()).map_err(|e| untrue(&e))?;
            if request.provider != provider || request.name != *name {
                return Err(untrue(&"a receipt is of another provider or model"));
            }
        }
        Ok(answer.receipts)
    }
}
