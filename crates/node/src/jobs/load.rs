//! From sealed chunks to a loaded model: the manifest's key is unwrapped, each chunk is opened and checked, and its bytes
//! go into sealed memory that the worker maps. No plaintext ever reaches a disk.

use std::time::Duration;

use zero2ai_chunk::{ManifestKey, open_manifest, unwrap_key, wrap_key};
use zero2ai_engine::{ModelFile, Worker, WorkerConfig};
use zero2ai_proto::{
    ManifestId, ModelName, decode, encode,
    manifest::{ConformanceSample, Format, GrantInfo, Manifest, WrappedKey},
    rpc::{ErrorCode, RpcError},
    state::Version,
    worker::ModelInfo,
};
use zero2ai_store::atomic_write;
use zero2ai_swarm::Listener;

use crate::{
    core::Core,
    jobs::open::{Opened, open_files},
    serve::errors::{engine_error, internal, not_found, store_error},
};

/// Patience with a worker that loads a model: minutes for the largest on a slow disk, not for ever for a hostile one.
const LOAD: Duration = Duration::from_secs(300);
/// Bytes of an encoded wrapped key: three ids, an encapsulated key and a ciphertext.
const WRAPPED_BYTES: usize = 1_024;

impl Core {
    fn grant_info(&self, manifest: ManifestId) -> GrantInfo {
        GrantInfo { pool: self.pool, manifest, grantee: self.id, epoch: self.pool_key.epoch }
    }

    fn grant_path(&self, manifest: &ManifestId) -> std::path::PathBuf {
        self.home.join("grants").join(manifest.to_string())
    }

    /// Keeps a manifest key, wrapped to our own sealing key, in a file of its own: the database holds nothing that could
    /// not be rebuilt, and no file holds the key in the clear.
    pub(crate) fn keep_key(&self, manifest: ManifestId, key: &ManifestKey) -> Result<(), RpcError> {
        let wrapped =
            wrap_key(key, &self.sealing.public().map_err(internal)?, self.grant_info(manifest)).map_err(internal)?;
        atomic_write(&self.grant_path(&manifest), &encode(&wrapped).map_err(internal)?).map_err(store_error)
    }

    /// The key of a manifest, if this node was granted it.
    pub(crate) fn manifest_key(&self, manifest: &ManifestId) -> Result<Option<ManifestKey>, RpcError> {
        let bytes = match std::fs::read(self.grant_path(manifest)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(RpcError::new(ErrorCode::Storage, format!("a granted key cannot be read: {e}"))),
        };
        let wrapped: WrappedKey = decode(&bytes, WRAPPED_BYTES).map_err(internal)?;
        // Wrapped by ourselves, in whatever epoch it was then.
        let info = GrantInfo { epoch: wrapped.info.epoch, ..self.grant_info(*manifest) };
        unwrap_key(&wrapped, &self.sealing, &info).map(Some).map_err(internal)
    }

    /// The opened manifest.
    pub(crate) fn manifest(&self, id: &ManifestId) -> Result<Manifest, RpcError> {
        let sealed = self.store.manifest(id).map_err(store_error)?;
        let sealed = sealed.ok_or_else(|| not_found("the manifest is not on this node"))?;
        let key = self.manifest_key(id)?.ok_or_else(|| {
            RpcError::new(ErrorCode::Denied, "this node holds the model's ciphertext but was not granted its key")
        })?;
        open_manifest(&sealed, id, &key).map_err(internal)
    }

    /// Opens a version's files into sealed memory. `entry` is the ledger's word on it: a manifest that says anything else is
    /// not opened, whatever its key opens. With `arriving`, chunks that are still on their way are waited for.
    pub(crate) async fn open_version(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
        arriving: Option<Listener>,
    ) -> Result<Opened, RpcError> {
        let manifest = self.manifest(&entry.manifest)?;
        check_manifest(&manifest, name, version, entry, self.worker.memory_bytes)?;
        let (format, conformance) = (manifest.format, manifest.conformance.clone());
        let files = open_files(self.store.clone(), manifest, arriving, |_| {}).await?;
        Ok(Opened { format, conformance, files })
    }

    /// Loads a held version into a worker of its own, from `opened` if it was opened while it came.
    pub(crate) async fn load(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
        opened: Option<Opened>,
    ) -> Result<(Worker, ModelInfo), RpcError> {
        let opened = match opened {
            Some(opened) => opened,
            None => self.open_version(name, version, entry, None).await?,
        };
        start_worker(self.worker.clone(), opened.format, opened.files, opened.conformance).await
    }
}

/// Starts a worker and loads a model into it.
pub(crate) async fn start_worker(
    config: WorkerConfig,
    format: Format,
    files: Vec<ModelFile>,
    conformance: Vec<ConformanceSample>,
) -> Result<(Worker, ModelInfo), RpcError> {
    let worker = Worker::spawn(config).await.map_err(engine_error)?;
    let loaded = tokio::time::timeout(LOAD, worker.load(format, files, conformance)).await;
    let why = || format!("the model was not loaded within {} s, and its worker was stopped", LOAD.as_secs());
    let info = loaded.map_err(|_| RpcError::new(ErrorCode::Model, why()))?.map_err(engine_error)?;
    Ok((worker, info))
}

/// Refuses a manifest that is not the ledger's version, or whose files would not fit a worker: its chunk lists may name
/// one small chunk very often.
fn check_manifest(
    manifest: &Manifest,
    name: &ModelName,
    version: u32,
    entry: &Version,
    memory_bytes: u64,
) -> Result<(), RpcError> {
    let fail = |why: String| Err(RpcError::new(ErrorCode::Model, format!("{name}@{version} is not loaded: {why}")));
    if (&manifest.name, manifest.version) != (name, version) {
        return fail(format!("its manifest is that of {}@{}", manifest.name, manifest.version));
    }
    if (manifest.format, manifest.task) != (entry.format, entry.task) || manifest.total_bytes() != entry.bytes {
        return fail("its manifest and the ledger differ in format, task or size".to_owned());
    }
    if entry.bytes > memory_bytes {
        return fail(format!("its {} bytes do not fit the {memory_bytes} of a worker (worker.memory_mb)", entry.bytes));
    }
    Ok(())
}
