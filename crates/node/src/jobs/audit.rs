//! Gathers an audit: the ledger's entries of a model with their proofs, and every provider's receipts of it, all under
//! one header, so that whoever holds the genesis can check the whole offline.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use zero2ai_ledger::{LedgerError, light::verify_log};
use zero2ai_proto::{
    ByteBuf, ModelName, NodeId, PoolId,
    calls::{ProvenAudit, ProviderAddresses, Receipts as ReceiptsMethod, ReceiptsCall},
    decode, encode,
    limits::{ADDRESSES, RECEIPTS, SIGNED_BYTES},
    proof::StateProof,
    receipt::{AuditExport, ProvenReceipt, ProviderReceipts, Receipt, request_hash},
    rpc::{ErrorCode, RpcError},
    state::{AnchorState, Rights, key},
};
use zero2ai_rpc::CallError;

use crate::{
    core::Core,
    serve::errors::{internal, invalid, not_found, unavailable},
};

/// Patience with one provider.
const PROVIDER: Duration = Duration::from_secs(10);
/// Pages of receipts taken from one provider in one audit.
const PAGES: usize = 256;
/// Patience with one provider for all its pages, so that one who dawdles is left out and not waited for.
const ALL_PAGES: Duration = Duration::from_secs(60);
/// How long a provider may take to learn of the block that an audit stands on.
const BEHIND: Duration = Duration::from_secs(15);
/// Pause before such a provider is asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// Providers asked side by side.
const AT_ONCE: usize = 8;

/// The proof of one entry in the state that `height`'s header stands for.
pub(crate) fn prove(core: &Core, height: u64, entry: &[u8]) -> Result<StateProof, RpcError> {
    core.chain.read(|l| l.prove(entry, height.saturating_sub(1))).map_err(internal)
}

fn value<T: serde::Serialize + serde::de::DeserializeOwned>(proof: &StateProof) -> Result<Option<T>, RpcError> {
    proof.value.as_ref().map(|v| decode(v, SIGNED_BYTES).map_err(internal)).transpose()
}

impl Core {
    /// What the ledger proves, with every provider's anchor and no receipt; and the height of its header.
    pub(crate) fn audit_proofs(&self, name: &ModelName) -> Result<(AuditExport, u64), RpcError> {
        let (header, height) = self.head()?;
        let entries = self.chain.read(|l| l.audit_entries(name, height.saturating_sub(1))).map_err(|e| match e {
            LedgerError::Missing(_) => {
                not_found(format!("{e} is not on the ledger as of height {height}: is the name spelled right?"))
            }
            other => internal(other),
        })?;
        let mut providers = Vec::new();
        for provider in self.chain.read(|l| l.members().map(|(n, _)| n).collect::<Vec<_>>()) {
            let anchor = prove(self, height, &key::anchor(&provider))?;
            if anchor.value.is_some() {
                providers.push(ProviderReceipts { provider, anchor, receipts: Vec::new() });
            }
        }
        let genesis = ByteBuf::from(self.chain.read(|l| l.genesis_bytes().to_vec()));
        let steps = self.chain.trust_steps();
        Ok((AuditExport { version: 1, genesis, name: name.clone(), steps, header, entries, providers }, height))
    }

    /// The same for another member, and where those providers are.
    pub(crate) fn proven_audit(&self, name: &ModelName) -> Result<ProvenAudit, RpcError> {
        let (export, _) = self.audit_proofs(name)?;
        let at = |p: &ProviderReceipts| {
            let mut addresses = match p.provider == self.id {
                true => self.addresses(),
                false => self.directory.addresses(&p.provider).unwrap_or_default(),
            };
            addresses.truncate(ADDRESSES);
            ProviderAddresses { provider: p.provider, addresses }
        };
        let addresses = export.providers.iter().map(at).collect();
        Ok(ProvenAudit { export, addresses })
    }

    /// See the module.
    pub(crate) async fn audit(&self, name: &ModelName) -> Result<AuditExport, RpcError> {
        let (export, height) = self.audit_proofs(name)?;
        let asked = export.providers.into_iter().map(|ProviderReceipts { provider, anchor, .. }| async move {
            let state =
                value::<AnchorState>(&anchor)?.ok_or_else(|| internal("an anchor that is there has no value"))?;
            let asked = tokio::time::timeout(ALL_PAGES, self.receipts_of(&provider, name, height)).await;
            let receipts = asked.unwrap_or_else(|_| Err(unavailable("it took too long")));
            let checked = receipts.and_then(|r| self.check_receipts(&provider, name, &state, &r).map(|()| r));
            let receipts = checked.unwrap_or_else(|error| {
                // Its anchor stays in the answer: that its receipts are missing can be seen.
                tracing::warn!(provider = %provider.short(), %error, "a provider's receipts are left out");
                Vec::new()
            });
            Ok::<_, RpcError>(ProviderReceipts { provider, anchor, receipts })
        });
        let providers = futures::stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>().await;
        Ok(AuditExport { providers: providers.into_iter().collect::<Result<_, _>>()?, ..export })
    }

    async fn receipts_of(&self, node: &NodeId, name: &ModelName, height: u64) -> Result<Vec<ProvenReceipt>, RpcError> {
        let (mut all, mut from) = (Vec::new(), 0);
        for _ in 0..PAGES {
            let call = ReceiptsCall { name: name.clone(), from, height };
            let page = if *node == self.id {
                self.own_receipts(&self.id, &call).await?
            } else {
                self.page_in_time(node, &call).await?
            };
            let Some(last) = page.receipts.last() else { break };
            from = last.proof.index.checked_add(1).ok_or_else(|| invalid("it sent an impossible index"))?;
            let whole = page.receipts.len() < RECEIPTS;
            all.extend(page.receipts);
            if whole {
                break;
            }
        }
        Ok(all)
    }

    /// A page of a provider that may be a block behind this node.
    async fn page_in_time(&self, node: &NodeId, call: &ReceiptsCall) -> Result<ProviderReceipts, RpcError> {
        let start = Instant::now();
        loop {
            match self.roads.call::<ReceiptsMethod>(node, call, PROVIDER).await {
                Err(CallError::Remote(e)) if e.code == ErrorCode::Unavailable && start.elapsed() < BEHIND => {
                    tokio::time::sleep(AGAIN).await;
                }
                other => return other.map_err(unavailable),
            }
        }
    }

    /// One provider's receipts, checked by themselves: a lie of one must not spoil the audit of all.
    fn check_receipts(
        &self,
        provider: &NodeId,
        name: &ModelName,
        anchor: &AnchorState,
        receipts: &[ProvenReceipt],
    ) -> Result<(), RpcError> {
        let mut requests = BTreeSet::new();
        for proven in receipts {
            if !requests.insert(request_hash(&proven.receipt.request).map_err(internal)?) {
                return Err(invalid("one request has two receipts"));
            }
            let (_, request, _) = proven.receipt.verify(&self.pool).map_err(invalid)?;
            if request.provider != *provider || request.name != *name || proven.proof.size != anchor.size {
                return Err(invalid("a receipt is of another provider, model or log size"));
            }
            let leaf = encode(&proven.receipt).map_err(internal)?;
            verify_log(&anchor.root, &proven.proof, &leaf).map_err(invalid)?;
        }
        Ok(())
    }

    /// This provider's receipts of a model that `caller` may see, under its anchor as of `call.height`'s header.
    pub(crate) async fn own_receipts(
        &self,
        caller: &NodeId,
        call: &ReceiptsCall,
    ) -> Result<ProviderReceipts, RpcError> {
        let base = self.chain.read(|l| l.base());
        if base > 0 && call.height <= base {
            return Err(not_found(format!("this node's ledger begins with a snapshot after height {base}")));
        }
        if self.chain.signed_header(call.height).is_none() {
            return Err(unavailable(format!("height {} is not final here yet: try again in a moment", call.height)));
        }
        let anchor = prove(self, call.height, &key::anchor(&self.id))?;
        let state: AnchorState = value(&anchor)?.ok_or_else(|| not_found("nothing was anchored by that height"))?;
        if self.receipts.root_at(state.size) != Some(state.root) {
            return Err(internal(
                "this node's receipt log is not the one it anchored: was its home restored from a copy?",
            ));
        }
        let rights = self.chain.read(|l| l.member(caller)).map_or(Rights(0), |m| m.rights);
        let publisher = self.chain.read(|l| l.model(&call.name)).is_some_and(|m| m.owner == *caller);
        let sees_all = publisher || rights.has(Rights::AUDITOR) || *caller == self.id;
        let (log, call, caller) = (self.receipts.clone(), call.clone(), *caller);
        let read = move || {
            let wanted = |receipt: &Receipt| sees_all || receipt.request.signer() == caller;
            log.proven(&call.name, call.from, state.size, wanted)
        };
        let receipts = self.blocking(read).await?;
        Ok(ProviderReceipts { provider: self.id, anchor, receipts })
    }
}

/// Checks the pool of an export against ours before it is handed out: a bug here must not leave the house.
pub(crate) fn self_check(pool: &PoolId, export: &AuditExport) -> Result<(), RpcError> {
    zero2ai_ledger::audit::verify_audit(pool, export)
        .map(drop)
        .map_err(|e| invalid(format!("the audit does not verify: {e}")))
}
