//! Who may open this node's private models: grants, revocations, and sealing anew what a revoked member had the key of.

use std::collections::BTreeSet;

use zero2ai_chunk::Sealer;
use zero2ai_proto::{
    ModelName,
    local::{GrantModelCall, MemberGrant, RevokeModelCall, RevokeReport},
    manifest::{Domain, FileEntry, Manifest, Part},
    rpc::RpcError,
    state::Version,
    tx::{Grant, Publish, Revoke, SetChannel, TxBody, Withdraw},
};
use zero2ai_store::Store;

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{Tell, load::piece, tell},
    models::Held,
    serve::errors::{internal, invalid, store_error},
};

impl Core {
    /// Grants a member a model. Returns the height.
    pub(crate) async fn grant_model(&self, call: GrantModelCall) -> Result<u64, RpcError> {
        let GrantModelCall { name, member } = call;
        self.account.submit(TxBody::Grant(Grant { name, member }), PATIENCE).await
    }

    /// Who was ever granted a model.
    pub(crate) fn model_grants(&self, name: &ModelName) -> Vec<MemberGrant> {
        let grants = self.chain.read(|l| l.grants(name));
        grants.into_iter().map(|(member, grant)| MemberGrant { member, grant }).collect()
    }

    /// Revokes a grant; whatever is sealed from here on is under a new secret. A revocation that stands already is no error,
    /// so that an interrupted call can be made again.
    pub(crate) async fn revoke_model(&self, call: RevokeModelCall, progress: &Tell) -> Result<RevokeReport, RpcError> {
        let RevokeModelCall { name, member, reseal } = call;
        let standing = self.model_grants(&name).into_iter().find(|g| g.member == member);
        let height = match standing {
            Some(g) if !g.grant.granted => None,
            _ => {
                tell(progress, "putting the revocation on the ledger", 0, 0);
                let body = TxBody::Revoke(Revoke { name: name.clone(), member });
                Some(self.account.submit(body, PATIENCE).await?)
            }
        };
        self.contents.renew_own()?;
        let resealed = if reseal { self.reseal(&name, progress).await? } else { Vec::new() };
        Ok(RevokeReport { height, resealed })
    }

    /// Publishes every live private version again under the present secret, and withdraws the old ones. A version and its
    /// successor do not overlap in chunks: who could open the old one has nothing of the new.
    async fn reseal(&self, name: &ModelName, progress: &Tell) -> Result<Vec<(u32, u32)>, RpcError> {
        let latest = self.chain.read(|l| l.model(name)).map_or(0, |m| m.latest);
        let mut done = Vec::new();
        for old in 1..=latest {
            let Some(entry) = self.chain.read(|l| l.version(name, old)) else { continue };
            if entry.withdrawn || entry.domain != Domain::Private {
                continue;
            }
            done.push((old, self.reseal_version(name, old, &entry, progress).await?));
        }
        Ok(done)
    }

    async fn reseal_version(
        &self,
        name: &ModelName,
        old: u32,
        entry: &Version,
        progress: &Tell,
    ) -> Result<u32, RpcError> {
        // What was dropped here is brought back first.
        self.fetch(name, old, None, progress).await?;
        let was = self.manifest(&entry.manifest)?;
        let using = self.upkeep.using().await;
        let version = self.chain.read(|l| l.model(name)).map_or(1, |m| m.latest.saturating_add(1));
        let secret = self.contents.own();
        let sealer = Sealer::new(Domain::Private, secret.clone());
        let manifest = self
            .blocking({
                let (store, progress) = (self.store.clone(), progress.clone());
                move || {
                    let files = seal_again(&store, &was, &sealer, &progress)?;
                    let (name, format, task) = (was.name.clone(), was.format, was.task);
                    let (secret, domain) = (*secret.as_bytes(), Domain::Private);
                    let (conformance, preparation) = (was.conformance.clone(), was.preparation.clone());
                    Ok(Manifest { name, version, format, task, domain, secret, files, conformance, preparation })
                }
            })
            .await?;
        let id = self.keep_manifest(&manifest)?;
        tell(progress, format!("putting {name}@{version} on the ledger"), 0, 0);
        let chunks = u32::try_from(manifest.chunks().count()).map_err(internal)?;
        let (format, task, domain, thresholds) = (entry.format, entry.task, entry.domain, entry.thresholds);
        let (name_, base, bytes) = (name.clone(), Some(old), entry.bytes);
        #[rustfmt::skip]
        let body = Publish { name: name_, version, manifest: id, format, task, domain, bytes, chunks, base, thresholds };
        let before = self.held().into_iter().find(|h| h.name == *name && h.version == old);
        let (serve, copies) = before.map_or((false, None), |h| (h.serve, h.copies));
        let held = Held { name: name.clone(), version, manifest: id, serve, copies };
        let under_way = self.models.publishing(name, version);
        self.submit_held(body, &held, under_way.alone).await?;
        self.models.hold(held)?;
        drop((under_way, using));
        self.move_channels(name, old, version).await?;
        self.account.submit(TxBody::Withdraw(Withdraw { name: name.clone(), version: old }), PATIENCE).await?;
        Ok(version)
    }

    async fn move_channels(&self, name: &ModelName, old: u32, new: u32) -> Result<(), RpcError> {
        let channels = self.chain.read(|l| l.model(name)).map(|m| m.channels).unwrap_or_default();
        for (channel, _) in channels.into_iter().filter(|(_, version)| *version == old) {
            let body = SetChannel { name: name.clone(), channel, version: new };
            self.account.submit(TxBody::SetChannel(body), PATIENCE).await?;
        }
        Ok(())
    }
}

/// Opens each chunk and seals it anew; one is in memory at a time.
fn seal_again(store: &Store, was: &Manifest, sealer: &Sealer, progress: &Tell) -> Result<Vec<FileEntry>, RpcError> {
    let (total, mut done, mut seen) = (was.total_bytes(), 0u64, BTreeSet::new());
    let mut again = |part: &Part| -> Result<Part, RpcError> {
        let mut chunks = Vec::with_capacity(part.chunks.len());
        for chunk in &part.chunks {
            let plain = piece(store, was, chunk)?;
            let (sealed, data) = sealer.seal_chunk(&plain).map_err(invalid)?;
            if seen.insert(sealed.cid) {
                store.put_chunk(&sealed.cid, &data).map_err(store_error)?;
            }
            done = done.saturating_add(plain.len() as u64);
            tell(progress, "bytes sealed anew", done, total);
            chunks.push(sealed);
        }
        Ok(Part { name: part.name.clone(), chunks })
    };
    was.files
        .iter()
        .map(|file| {
            let parts = file.parts.iter().map(&mut again).collect::<Result<_, _>>()?;
            Ok(FileEntry { path: file.path.clone(), size: file.size, hash: file.hash, parts })
        })
        .collect()
}
