//! Publishes a file or a folder: run once to see that it runs, cut, sealed, stored, put on the ledger, replicated, named,
//! served. What this version cannot run is published all the same, and said not to be served.
//!
//! | module | owns |
//! |---|---|
//! | [`source`] | the files: listed, opened without following links, what they are, whether they are whole |
//! | [`trial`] | a first run in a worker, which then serves the model |
//! | [`sealing`] | chunks into the store, against a base version if one is given |
//! | [`replicate`] | copies on other nodes |
//! | [`inspect`] | a look at the files without publishing them |

pub(crate) mod inspect;

mod replicate;
mod sealing;
mod source;
mod trial;

use std::{path::PathBuf, sync::Arc};

use zero2ai_chunk::{Sealer, seal_manifest};
use zero2ai_proto::{
    ManifestId, ModelName, ModelRef,
    keys::random_bytes,
    local::{LocalData, PublishCall, PublishReport},
    manifest::{ConformanceSample, Manifest, Task},
    prepare::Preparation,
    rpc::{ErrorCode, RpcError},
    state::Rights,
    tx::{ClaimHandle, Publish, TxBody},
};
use zero2ai_store::Store;
use zero2ai_trust::report::Domain;
use zero2ai_validator::{
    Subject,
    prints::{self, Prints},
};

use self::{
    sealing::{Base, seal_into},
    source::Source,
};
use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{
        Tell,
        store::{present, stored_manifest},
        tell,
    },
    models::{Held, Serving},
    serve::errors::{denied, internal, invalid, not_found, store_error},
};

impl Core {
    /// See the module.
    pub(crate) async fn publish(&self, call: PublishCall, progress: &Tell) -> Result<PublishReport, RpcError> {
        let version = self.may_publish(&call)?;
        ConformanceSample::check_all(&call.conformance).map_err(invalid)?;
        call.preparation.as_ref().map_or(Ok(()), Preparation::check).map_err(invalid)?;
        let path = PathBuf::from(&call.path);
        let mut source = Arc::new(self.blocking(move || Source::look(&path)).await?);
        let format = source.format;
        let (loaded, not_served) = self.try_run(&source, &call, progress).await?;
        let task = loaded.as_ref().map_or(Task::Tensors, |loaded| loaded.info.task);
        if let Some(training) = call.training.clone() {
            tell(progress, "taking fingerprints of the training data", 0, 0);
            let bytes = self.take_fingerprints(training, &call, task).await?;
            let source = Arc::get_mut(&mut source).ok_or_else(|| internal("the publication is still being read"))?;
            source.add(prints::FILE, bytes)?;
        }

        let (domain, content) = (call.domain, self.content_secret(call.domain).await?);
        self.make_room(source.bytes, None).await?;
        let using = self.upkeep.using().await;
        let base = match &call.base {
            Some(base) => Some(self.base_version(base).await?),
            None => None,
        };
        let made_from = match &base {
            None => version.checked_sub(1).filter(|before| *before > 0),
            // The ledger names versions of one model only.
            Some(base) => (base.manifest.name == call.name).then_some(base.manifest.version),
        };
        let sealed = self
            .blocking({
                let (source, store, progress) = (Arc::clone(&source), self.store.clone(), progress.clone());
                let sealer = Sealer::new(domain, content.clone());
                move || seal_into(&store, &sealer, &source, base.as_ref(), &progress)
            })
            .await?;
        let (name, secret) = (call.name.clone(), *content.as_bytes());
        let (bytes, files) = (source.bytes, sealed.entries);
        let PublishCall { conformance, preparation, .. } = call.clone();
        let manifest = Manifest { name, version, format, task, domain, secret, files, conformance, preparation };
        let id = self.keep_manifest(&manifest)?;

        tell(progress, "putting the version on the ledger", 0, 0);
        self.claim_handle(&call.name).await?;
        let body = Publish {
            name: call.name.clone(),
            version,
            manifest: id,
            format,
            task,
            domain,
            bytes,
            chunks: sealed.listed,
            base: made_from,
            thresholds: call.thresholds,
        };
        let copies = Some(call.replicas.saturating_add(1));
        let held = Held { name: call.name.clone(), version, manifest: id, serve: loaded.is_some(), copies };
        // This call brings the worker; if it ends or this process dies after the ledger took the version, the keeper does.
        let under_way = self.models.publishing(&call.name, version);
        let height = self.submit_held(body, &held, under_way.alone).await?;
        self.models.hold(held.clone())?;
        // Held from here on: a collection keeps what it needs by itself.
        drop(using);
        if let Some(loaded) = loaded {
            drop(self.models.table.insert(&Arc::new(Serving::new(held.clone(), loaded))));
        }
        drop(under_way);
        let mut holders = vec![self.id];
        holders.extend(self.replicate(&call.name, version, call.replicas, progress).await?);
        tell(progress, "announcing it", 0, 0);
        if held.serve {
            self.announce(&held).await;
        } else {
            self.publish_name(&call.name).await;
        }
        Ok(PublishReport {
            name: call.name,
            version,
            manifest: id,
            bytes,
            chunks: sealed.distinct,
            reused: sealed.reused,
            opened: true,
            holders,
            height,
            files: u32::try_from(source.files.len()).unwrap_or(u32::MAX),
            not_served,
            deltas: sealed.deltas,
            saved: sealed.saved,
            seal_ms: sealed.millis,
        })
    }

    /// Fingerprints of the data that a model was made with.
    async fn take_fingerprints(&self, data: LocalData, call: &PublishCall, task: Task) -> Result<Vec<u8>, RpcError> {
        let (name, preparation) = (call.name.to_string(), call.preparation.clone());
        // Rows and texts are compared as they are, pictures and sounds as their preparation has them: the domain decides nothing here.
        let subject = Subject { name, domain: Domain::Unknown, task, preparation };
        let data = self.read_data(data).await?;
        let salt = random_bytes::<32>().map_err(internal)?;
        self.blocking(move || {
            let made = Prints::make(&data, &subject, salt).map_err(invalid)?;
            made.to_bytes().map_err(invalid)
        })
        .await
    }

    /// Checks what can be checked before any work, and picks the version number.
    fn may_publish(&self, call: &PublishCall) -> Result<u32, RpcError> {
        let me = self.id;
        self.chain.read(|ledger| {
            let rights = ledger.member(&me).map_or(Rights(0), |m| m.rights);
            if !rights.has(Rights::PUBLISHER) {
                return Err(denied(
                    "this node has no right to publish in the pool: ask an administrator for 'publisher'",
                ));
            }
            // A model may have been handed to this node under a handle that is another's.
            let model = ledger.model(&call.name);
            if model.as_ref().is_some_and(|m| m.owner != me) {
                return Err(denied(format!("the model {} belongs to another account", call.name)));
            }
            if model.is_none() && ledger.handle(call.name.publisher()).is_some_and(|h| h.owner != me) {
                return Err(denied(format!("the handle '{}' belongs to another account", call.name.publisher())));
            }
            if call.thresholds.reject_ppm >= call.thresholds.accept_ppm || call.thresholds.accept_ppm > 1_000_000 {
                return Err(invalid("the thresholds must be 0 ≤ reject < accept ≤ 1"));
            }
            Ok(model.map_or(1, |m| m.latest.saturating_add(1)))
        })
    }

    /// A base version: held whole, and opened.
    async fn base_version(&self, wanted: &ModelRef) -> Result<Base, RpcError> {
        let version = self.pick_version(wanted)?;
        let id = self.version(&wanted.name, version).await?.manifest;
        let store = self.store.clone();
        let whole = move || Ok(sealed_whole(&store, &id));
        if let Err(why) = self.blocking(whole).await? {
            let name = &wanted.name;
            return Err(not_found(format!(
                "the base {name}@{version} is not whole on this node ({why}): run 'zero2ai fetch {name}@{version}' first"
            )));
        }
        Ok(Base { label: format!("{}@{version}", wanted.name), manifest: self.manifest(&id)? })
    }

    pub(crate) fn keep_manifest(&self, manifest: &Manifest) -> Result<ManifestId, RpcError> {
        manifest.check().map_err(internal)?;
        let (bytes, id, key) = seal_manifest(manifest).map_err(internal)?;
        self.store.put_manifest(&bytes).map_err(store_error)?;
        self.keep_key(id, &key)?;
        Ok(id)
    }

    /// Puts a version on the ledger. It is held from before, since a transaction may become final after its caller was gone
    /// or told to wait; what the ledger refuses is let go again.
    pub(crate) async fn submit_held(&self, body: Publish, held: &Held, alone: bool) -> Result<u64, RpcError> {
        let stale = alone && self.chain.read(|l| l.version(&held.name, held.version)).is_none();
        let reserved = self.models.reserve(held, stale)?;
        let submitted = self.account.submit(TxBody::Publish(body), PATIENCE).await;
        if reserved && submitted.as_ref().is_err_and(|e| e.code == ErrorCode::Invalid) {
            self.models.unreserve(held)?;
        }
        submitted
    }

    async fn claim_handle(&self, name: &ModelName) -> Result<(), RpcError> {
        let handle = name.publisher().to_owned();
        if self.chain.read(|l| l.handle(&handle).is_none()) {
            self.account.submit(TxBody::ClaimHandle(ClaimHandle { handle }), PATIENCE).await?;
        }
        Ok(())
    }

    /// Runs blocking work off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        tokio::task::spawn_blocking(work).await.map_err(internal)?
    }
}

/// Says what keeps a stored version from being whole.
fn sealed_whole(store: &Store, id: &ManifestId) -> Result<(), String> {
    let sealed = stored_manifest(store, id)?;
    let missing = sealed.chunks.len().saturating_sub(present(store, &sealed).map_err(|e| e.message)? as usize);
    if missing == 0 { Ok(()) } else { Err(format!("{missing} of its {} chunks are missing", sealed.chunks.len())) }
}
