//! From sealed chunks to a loaded model: the manifest's key is unwrapped, each chunk is opened and checked, and its bytes
//! go into sealed memory that the worker maps. No plaintext ever reaches a disk.

use std::time::Duration;

use zero2ai_chunk::{open_chunk, open_manifest};
use zero2ai_engine::{ModelFile, Worker, WorkerConfig};
use zero2ai_proto::{
    ManifestId, ModelName,
    manifest::{ChunkRef, ConformanceSample, Format, Manifest},
    rpc::{ErrorCode, RpcError},
    state::Version,
    worker::ModelInfo,
};
use zero2ai_store::Store;

use crate::{
    core::Core,
    serve::errors::{engine_error, internal, not_found, store_error},
};

/// Patience with a worker that loads a model: minutes for the largest on a slow disk, not for ever for a hostile one.
const LOAD: Duration = Duration::from_secs(300);

impl Core {
    /// The opened manifest.
    pub(crate) fn manifest(&self, id: &ManifestId) -> Result<Manifest, RpcError> {
        let sealed = self.store.manifest(id).map_err(store_error)?;
        let sealed = sealed.ok_or_else(|| not_found("the manifest is not on this node"))?;
        let key = self.manifest_key(id)?.ok_or_else(|| {
            RpcError::new(ErrorCode::Denied, "this node holds the model's ciphertext only: it was not granted its key")
        })?;
        open_manifest(&sealed, id, &key).map_err(internal)
    }

    /// Loads a held version into a worker of its own. `entry` is the ledger's word on it: a manifest that says anything
    /// else is not loaded, whatever its key opens.
    pub(crate) async fn load(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
    ) -> Result<(Worker, ModelInfo), RpcError> {
        let manifest = self.manifest(&entry.manifest)?;
        check_manifest(&manifest, name, version, entry, self.worker.memory_bytes)?;
        let (format, conformance) = (manifest.format, manifest.conformance.clone());
        let store = self.store.clone();
        let files = tokio::task::spawn_blocking(move || open_files(&store, &manifest)).await.map_err(internal)??;
        start_worker(self.worker.clone(), format, files, conformance).await
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
    if (manifest.format, manifest.task, manifest.domain) != (entry.format, entry.task, entry.domain)
        || manifest.total_bytes() != entry.bytes
    {
        return fail("its manifest and the ledger differ in format, task, domain or size".to_owned());
    }
    if entry.bytes > memory_bytes {
        return fail(format!("its {} bytes do not fit the {memory_bytes} of a worker (worker.memory_mb)", entry.bytes));
    }
    Ok(())
}

fn open_files(store: &Store, manifest: &Manifest) -> Result<Vec<ModelFile>, RpcError> {
    manifest
        .files
        .iter()
        .map(|file| {
            let mut memory = ModelFile::create(&file.path, file.size).map_err(engine_error)?;
            for chunk in file.parts.iter().flat_map(|p| &p.chunks) {
                memory.append(&plain_chunk(store, manifest, chunk)?).map_err(engine_error)?;
            }
            memory.seal().map_err(engine_error)?;
            Ok(memory)
        })
        .collect()
}

/// The plaintext of one chunk. A damaged one is deleted, so that the next fetch brings it again.
pub(crate) fn plain_chunk(store: &Store, manifest: &Manifest, chunk: &ChunkRef) -> Result<Vec<u8>, RpcError> {
    let sealed = zero2ai_swarm::serve_chunk(store, &chunk.cid).map_err(store_error)?;
    let sealed = sealed.ok_or_else(|| not_found(format!("chunk {} is missing: fetch the model again", chunk.cid)))?;
    open_chunk(manifest.domain, &manifest.secret, chunk, sealed).map_err(internal)
}
