//! Publishes a file: run once to see that it runs, cut, sealed, stored, put on the ledger, replicated, named, served.

use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use zero2ai_chunk::{Sealer, detect_format, named_format, seal_file, seal_manifest};
use zero2ai_engine::{ModelFile, Worker};
use zero2ai_proto::{
    ManifestId, ModelName, NodeId,
    calls::{Replicate, ReplicateCall},
    limits::CHUNK_BYTES,
    local::{PublishCall, PublishReport},
    manifest::{FileEntry, Format, Manifest, Task},
    rpc::{ErrorCode, RpcError},
    state::Rights,
    tx::{ClaimHandle, Publish, TxBody},
    worker::ModelInfo,
};
use zero2ai_store::Store;

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{Tell, load::start_worker, tell},
    models::{Held, Serving},
    serve::errors::{denied, engine_error, internal, invalid, store_error, unavailable},
};

/// How long one other node may take to fetch a whole copy.
const REPLICA: Duration = Duration::from_secs(600);

/// How long members that were not heard of yet are waited for: more than two of their announcements.
const INTRODUCTIONS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A file cut and sealed into the store.
struct Sealed {
    entry: FileEntry,
    reused: u32,
    distinct: u32,
    /// Chunks as the manifest lists them, a repeated one each time.
    listed: u32,
}

impl Core {
    /// See the module.
    pub(crate) async fn publish(&self, call: PublishCall, progress: &Tell) -> Result<PublishReport, RpcError> {
        let version = self.may_publish(&call)?;
        let path = PathBuf::from(&call.path);
        let format = self
            .blocking({
                let path = path.clone();
                move || open_model(&path)
            })
            .await?;
        tell(progress, "trying the model in a worker", 0, 0);
        let worker = self.try_run(&path, format).await?;
        let task = worker.as_ref().map_or(Task::Tensors, |(_, info)| info.task);

        let (domain, content) = (call.domain, self.content_secret(call.domain).await?);
        let size = tokio::fs::metadata(&path).await.map_or(0, |meta| meta.len());
        self.make_room(size, None).await?;
        let using = self.upkeep.using().await;
        let sealed = self
            .blocking({
                let (path, store, progress) = (path.clone(), self.store.clone(), progress.clone());
                let sealer = Sealer::new(domain, content.clone());
                move || seal_into(&store, &sealer, &path, format, &progress)
            })
            .await?;
        let (name, secret) = (call.name.clone(), *content.as_bytes());
        let bytes = sealed.entry.size;
        let files = vec![sealed.entry];
        let manifest = Manifest { name, version, format, task, domain, secret, files, conformance: Vec::new() };
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
            base: (version > 1).then(|| version - 1),
            thresholds: call.thresholds,
        };
        let held = Held { name: call.name.clone(), version, manifest: id, serve: worker.is_some() };
        // This call brings the worker; if it ends or this process dies after the ledger took the version, the keeper does.
        let under_way = self.models.publishing(&call.name, version);
        let height = self.submit_held(body, &held, under_way.alone).await?;
        self.models.hold(held.clone())?;
        // Held from here on: a collection keeps what it needs by itself.
        drop(using);
        if let Some((worker, info)) = worker {
            self.models.insert(Serving::new(held.clone(), info, worker));
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
        })
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
            if ledger.handle(call.name.publisher()).is_some_and(|h| h.owner != me) {
                return Err(denied(format!("the handle '{}' belongs to another account", call.name.publisher())));
            }
            if call.thresholds.reject_ppm >= call.thresholds.accept_ppm || call.thresholds.accept_ppm > 1_000_000 {
                return Err(invalid("the thresholds must be 0 ≤ reject < accept ≤ 1"));
            }
            Ok(ledger.model(&call.name).map_or(1, |m| m.latest.saturating_add(1)))
        })
    }

    /// Runs the file in a worker, so that what cannot run is refused before anything is stored. The worker is kept: it
    /// serves the model from then on. Opaque files are stored without being run.
    async fn try_run(&self, path: &Path, format: Format) -> Result<Option<(Worker, ModelInfo)>, RpcError> {
        if format == Format::Opaque {
            return Ok(None);
        }
        let path = path.to_owned();
        let memory = self.blocking(move || into_memory(&path)).await?;
        start_worker(self.worker.clone(), format, vec![memory], Vec::new()).await.map(Some)
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

    /// Asks providers that are up to hold a copy, as many at once as copies are wanted, until enough do. Members that the
    /// ledger knows as providers and that were not heard of yet are waited for a little: a pool that just came up is still
    /// introducing itself.
    async fn replicate(
        &self,
        name: &ModelName,
        version: u32,
        wanted: u32,
        progress: &Tell,
    ) -> Result<Vec<NodeId>, RpcError> {
        let (total, patience) = (u64::from(wanted), tokio::time::Instant::now() + INTRODUCTIONS);
        let (mut asked, mut running) = (BTreeSet::new(), FuturesUnordered::new());
        let (mut holders, mut last) = (Vec::new(), String::from("no other provider is up"));
        while holders.len() < wanted as usize {
            let (present, expected) = self.providers();
            for node in present {
                if running.len() + holders.len() < wanted as usize && asked.insert(node) {
                    let call = ReplicateCall { name: name.clone(), version, serve: false, from: self.id };
                    running.push(async move { (node, self.roads.call::<Replicate>(&node, &call, REPLICA).await) });
                }
            }
            tell(progress, "copies on other nodes", holders.len() as u64, total);
            match running.next().await {
                Some((node, Ok(_))) => holders.push(node),
                Some((node, Err(why))) => last = format!("{}: {why}", node.short()),
                None if asked.len() < expected && tokio::time::Instant::now() < patience => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                // A pool too small for the copies wanted is told, not failed.
                None => {
                    tell(progress, format!("fewer copies than wanted ({last})"), holders.len() as u64, total);
                    break;
                }
            }
        }
        Ok(holders)
    }

    /// Other members that may hold models: those heard of lately, and how many there are in all.
    fn providers(&self) -> (Vec<NodeId>, usize) {
        let others = self.others();
        self.chain.read(|l| {
            let all = l.members().filter(|(n, m)| *n != self.id && m.rights.has(Rights::PROVIDER)).count();
            let may = |n: &NodeId| l.member(n).is_some_and(|m| m.rights.has(Rights::PROVIDER));
            (others.into_iter().filter(may).collect(), all)
        })
    }

    /// Runs blocking work off the async threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        tokio::task::spawn_blocking(work).await.map_err(internal)?
    }
}

fn open(path: &Path) -> Result<(File, u64), RpcError> {
    let fail = |e: std::io::Error| invalid(format!("{} cannot be read: {e}", path.display()));
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(invalid(format!("{} is not a file: give the model's file", path.display())));
    }
    if meta.len() == 0 {
        return Err(invalid(format!("{} is empty", path.display())));
    }
    Ok((file, meta.len()))
}

fn open_model(path: &Path) -> Result<Format, RpcError> {
    let (mut file, _) = open(path)?;
    let format = detect_format(&mut file).map_err(|e| invalid(format!("{}: {e}", path.display())))?;
    if let Some(named) = named_format(&path.to_string_lossy()).filter(|named| *named != format) {
        let why =
            format!("its name says {named:?}, but its content is not a whole file of that format: is it cut short?");
        return Err(invalid(format!("{}: {why}", path.display())));
    }
    if format == Format::Opaque {
        return Err(invalid(format!(
            "{} is of no format this program can run: give an ONNX or GGUF file",
            path.display()
        )));
    }
    Ok(format)
}

fn into_memory(path: &Path) -> Result<ModelFile, RpcError> {
    use std::io::Read as _;
    let (mut file, size) = open(path)?;
    let name = path.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let mut memory = ModelFile::create(&name, size).map_err(engine_error)?;
    let mut buffer = vec![0u8; CHUNK_BYTES];
    loop {
        let n = file.read(&mut buffer).map_err(|e| invalid(format!("{} cannot be read: {e}", path.display())))?;
        if n == 0 {
            memory.seal().map_err(engine_error)?;
            return Ok(memory);
        }
        memory.append(&buffer[..n]).map_err(engine_error)?;
    }
}

fn seal_into(store: &Store, sealer: &Sealer, path: &Path, format: Format, progress: &Tell) -> Result<Sealed, RpcError> {
    let (mut file, _) = open(path)?;
    let name = path.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let (mut reused, mut seen, mut fresh, mut failed) = (0u32, BTreeSet::new(), Vec::new(), None);
    let entry = seal_file(
        sealer,
        &mut file,
        &name,
        format,
        &mut |cid, data| {
            if seen.insert(cid) {
                match store.put_chunk(&cid, data) {
                    Ok(true) => fresh.push(cid),
                    Ok(false) => reused = reused.saturating_add(1),
                    Err(error) => {
                        let text = std::io::Error::other(error.to_string());
                        failed = Some(error);
                        return Err(text);
                    }
                }
            }
            Ok(())
        },
        &mut |done, total| tell(progress, "bytes sealed", done, total),
    );
    if entry.is_err() {
        // What a failed publish brought goes again: a full disk must not stay full of it.
        for cid in &fresh {
            if let Err(error) = store.delete_chunk(cid) {
                tracing::warn!(%cid, %error, "a chunk of a failed publish could not be removed; store gc will");
            }
        }
    }
    if let Some(error) = failed {
        return Err(store_error(error));
    }
    let entry = entry.map_err(|e| RpcError::new(ErrorCode::Invalid, format!("{}: {e}", path.display())))?;
    let count = |n: usize| u32::try_from(n).map_err(|_| unavailable("too many chunks"));
    let listed = count(entry.parts.iter().map(|p| p.chunks.len()).sum())?;
    Ok(Sealed { entry, reused, distinct: count(seen.len())?, listed })
}
