//! Audits: who published, graded and used a model. A node gives what the ledger proves; the receipts are asked of each provider,
//! who shows what this account may see; the whole is checked here before a line of it is shown.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};
use zero2ai_ledger::{AuditReport, verify_audit};
use zero2ai_proto::{
    ModelName, NodeId, PoolId,
    calls::{AuditProofs, AuditProofsCall, ProvenAudit},
    decode,
    limits::RECEIPTS,
    proof::SignedHeader,
    receipt::{AuditExport, ProvenReceipt},
    record::Address,
    rpc::ErrorCode,
};
use zero2ai_rpc::CallError;

use crate::{client::Client, error::ClientError};

/// Bytes of a ledger's part at most: some ten thousand entries with their proofs. A node that sends more is not believed.
const LEDGER_BYTES: usize = 64 << 20;
/// Pages of receipts taken from one provider.
const PAGES: usize = 256;
/// How long a provider may take to learn of the block that an audit stands on: blocks reach every node within seconds.
const BEHIND: Duration = Duration::from_secs(15);
/// Pause before such a provider is asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// Providers asked side by side.
const AT_ONCE: usize = 8;

/// An audit that holds.
#[derive(Clone, Debug)]
pub struct Audit {
    /// What it proves.
    pub report: AuditReport,
    /// Everything to check it again offline, from the genesis alone.
    pub export: AuditExport,
    /// Providers whose receipts are not in it: they could not be reached in time, or what they gave does not hold. Their
    /// anchors are there all the same.
    pub missing: Vec<NodeId>,
}

impl Client {
    /// Gathers and checks an audit of `name`, within `patience`. A provider that does not answer costs its receipts alone.
    ///
    /// # Errors
    /// No such model, no node answers, or what one gave does not hold.
    pub async fn audit(&self, name: &ModelName, patience: Duration) -> Result<Audit, ClientError> {
        let deadline = Instant::now().checked_add(patience);
        let ProvenAudit { mut export, addresses } = self.ledger_audit(name, patience).await?;
        let (pool, got) = (self.pool(), PoolId::of(&export.genesis));
        if got != pool {
            return Err(ClientError::OtherPool { what: "audit", got, expected: pool });
        }
        self.verify_header(&export.header).await?;
        let providers: Vec<NodeId> = export.providers.iter().map(|p| p.provider).collect();
        let header = &export.header;
        let asked = providers.into_iter().map(|provider| {
            let at =
                addresses.iter().find(|a| a.provider == provider).map(|a| a.addresses.as_slice()).unwrap_or_default();
            async move {
                let all = self.all_receipts(provider, at, name, header);
                match deadline {
                    None => all.await.ok(),
                    Some(at) => timeout_at(at, all).await.ok().and_then(Result::ok),
                }
            }
        });
        let receipts: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut missing = Vec::new();
        for (part, receipts) in export.providers.iter_mut().zip(receipts) {
            match receipts {
                Some(receipts) => part.receipts = receipts,
                None => missing.push(part.provider),
            }
        }
        let report = verify_audit(&pool, &export)?;
        Ok(Audit { report, export, missing })
    }

    async fn ledger_audit(&self, name: &ModelName, patience: Duration) -> Result<ProvenAudit, ClientError> {
        let node = self.home().await?;
        let mut pieces = node.stream::<AuditProofs>(&AuditProofsCall { name: name.clone() }, patience).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await.transpose()? {
            if bytes.len().saturating_add(piece.data.len()) > LEDGER_BYTES {
                return Err(ClientError::untrue(&node.id(), "its audit is longer than any"));
            }
            bytes.extend_from_slice(&piece.data);
        }
        let audit: ProvenAudit = decode(&bytes, LEDGER_BYTES).map_err(|e| ClientError::untrue(&node.id(), e))?;
        if audit.export.name != *name {
            return Err(ClientError::untrue(&node.id(), "its audit is of another model"));
        }
        Ok(audit)
    }

    /// A page of a provider that may be a block behind: what the header says is not final there yet, and soon will be.
    async fn page_in_time(
        &self,
        provider: NodeId,
        addresses: &[Address],
        name: &ModelName,
        from: u64,
        header: &SignedHeader,
    ) -> Result<Vec<ProvenReceipt>, ClientError> {
        let give_up = Instant::now().checked_add(BEHIND);
        loop {
            let page = self.receipts_page(provider, addresses, name, from, header).await;
            let behind =
                matches!(&page, Err(ClientError::Call(CallError::Remote(e))) if e.code == ErrorCode::Unavailable);
            if !behind || give_up.is_none_or(|at| Instant::now() >= at) {
                return page;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn all_receipts(
        &self,
        provider: NodeId,
        addresses: &[Address],
        name: &ModelName,
        header: &SignedHeader,
    ) -> Result<Vec<ProvenReceipt>, ClientError> {
        let (mut all, mut from) = (Vec::new(), 0);
        for _ in 0..PAGES {
            let page = self.page_in_time(provider, addresses, name, from, header).await?;
            let Some(last) = page.last() else { break };
            let next = last.proof.index.checked_add(1).filter(|next| *next > from);
            from = next.ok_or_else(|| ClientError::untrue(&provider, "its receipts are out of order"))?;
            let whole = page.len() < RECEIPTS;
            all.extend(page);
            if whole {
                break;
            }
        }
        Ok(all)
    }
}
