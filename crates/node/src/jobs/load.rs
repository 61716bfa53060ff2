//! From sealed chunks to a loaded model: the manifest's key is unwrapped, each chunk is opened and checked, and its bytes
//! go into sealed memory that the worker maps. No plaintext ever reaches a disk.

use std::time::Duration;

use zero2ai_chunk::{OpenFileError, named_format, open_manifest, open_piece};
use zero2ai_engine::{ModelFile, Worker, WorkerConfig, is_embedder_file};
use zero2ai_proto::{
    Cid, ManifestId, ModelName,
    manifest::{ChunkRef, ConformanceSample, FileEntry, Format, Manifest},
    rpc::{ErrorCode, RpcError},
    state::Version,
    worker::ModelInfo,
};
use zero2ai_store::Store;
use zero2ai_swarm::Listener;

use crate::{
    core::Core,
    jobs::{
        open::{Opened, open_files},
        room::no_room,
    },
    memory::plan::Evict,
    models::{Loaded, Room},
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
        let preparation = manifest.preparation.clone();
        let files = open_files(self.store.clone(), manifest, arriving, |_| {}).await?;
        Ok(Opened { format, conformance, preparation, files })
    }

    /// Bytes of the files that a worker would load of a version.
    pub(crate) fn load_bytes(&self, entry: &Version, opened: Option<&Opened>) -> Result<u64, RpcError> {
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0u64, u64::saturating_add);
        Ok(match opened {
            Some(opened) => sum(&mut opened.files.iter().map(ModelFile::size)),
            None => sum(&mut loaded_files(&self.manifest(&entry.manifest)?).map(|f| f.size)),
        })
    }

    /// Loads a held version into a worker of its own, from `opened` if it was opened while it came. What it takes in the end
    /// must fit too, beside what `room` was made for.
    pub(crate) async fn load(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
        opened: Option<Opened>,
        room: Room,
    ) -> Result<Loaded, RpcError> {
        let opened = match opened {
            Some(opened) => opened,
            None => self.open_version(name, version, entry, None).await?,
        };
        let Opened { format, conformance, preparation, files } = opened;
        let (worker, info) = start_worker(self.worker.clone(), format, files, conformance).await?;
        self.settle(Some(&(name.clone(), version)), &worker, &room).await?;
        Ok(Loaded { worker, info, preparation, room })
    }

    /// The same for a worker that serves one job and goes: idle models make room for it.
    pub(crate) async fn load_for_once(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
        opened: Option<Opened>,
    ) -> Result<Loaded, RpcError> {
        let bytes = self.load_bytes(entry, opened.as_ref())?;
        let key = (name.clone(), version);
        let (known, sure) = (self.models.table.known_bytes(&key), self.models.table.is_too_big(&key));
        let room = self.room_for(known, sure, entry.format, bytes, Evict::Idle).await;
        let room = room.map_err(|why| no_room(&format!("{name}@{version}"), why))?;
        self.load(name, version, entry, opened, room).await
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

/// Refuses a manifest that is not the ledger's version.
pub(crate) fn check_entry(
    manifest: &Manifest,
    name: &ModelName,
    version: u32,
    entry: &Version,
) -> Result<(), RpcError> {
    let fail = |why: String| Err(RpcError::new(ErrorCode::Model, format!("{name}@{version} is not opened: {why}")));
    if (&manifest.name, manifest.version) != (name, version) {
        return fail(format!("its manifest is that of {}@{}", manifest.name, manifest.version));
    }
    if (manifest.format, manifest.task, manifest.domain) != (entry.format, entry.task, entry.domain)
        || manifest.total_bytes() != entry.bytes
    {
        return fail("its manifest and the ledger differ in format, task, domain or size".to_owned());
    }
    Ok(())
}

/// Refuses one also whose files would not fit a worker: its chunk lists may name one small chunk very often.
fn check_manifest(
    manifest: &Manifest,
    name: &ModelName,
    version: u32,
    entry: &Version,
    memory_bytes: u64,
) -> Result<(), RpcError> {
    check_entry(manifest, name, version, entry)?;
    let fail = |why: String| Err(RpcError::new(ErrorCode::Model, format!("{name}@{version} is not loaded: {why}")));
    let (loaded, bytes) = loaded_files(manifest).fold((0, 0u64), |(n, b), f| (n + 1, b.saturating_add(f.size)));
    if loaded == 0 {
        return fail(format!(
            "none of its {} files is of a kind that this version runs: it is stored, named, replicated and fetched",
            manifest.files.len()
        ));
    }
    if bytes > memory_bytes {
        return fail(format!("its {bytes} bytes do not fit the {memory_bytes} of a worker (worker.memory_mb)"));
    }
    Ok(())
}

/// True if a worker loads this file of a model of this format. What lies beside it stays ciphertext.
pub(crate) fn is_loaded(format: Format, path: &str) -> bool {
    match format {
        Format::Gguf | Format::Onnx => named_format(path) == Some(format),
        Format::Safetensors => is_embedder_file(path),
        Format::Opaque => false,
    }
}

pub(crate) fn loaded_files(manifest: &Manifest) -> impl Iterator<Item = &FileEntry> {
    manifest.files.iter().filter(|f| is_loaded(manifest.format, &f.path))
}

/// The plaintext of one piece. A damaged chunk is deleted, so that the next fetch brings it again; the base of a delta is one
/// of them.
pub(crate) fn piece(store: &Store, manifest: &Manifest, chunk: &ChunkRef) -> Result<Vec<u8>, RpcError> {
    let mut read = |cid: &Cid| match zero2ai_swarm::serve_chunk(store, cid) {
        Ok(Some(sealed)) => Ok(sealed),
        Ok(None) => Err(not_found(format!("chunk {cid} is missing: fetch the model again"))),
        Err(error) => Err(store_error(error)),
    };
    open_piece(manifest, chunk, &mut read).map_err(open_error)
}

/// What the store said, as it said it: its caller acts on the code.
fn open_error(error: OpenFileError) -> RpcError {
    match error {
        OpenFileError::Source { source, .. } => match source.downcast::<RpcError>() {
            Ok(answer) => *answer,
            Err(other) => internal(other),
        },
        other => internal(other),
    }
}
