//! Opens a model while its chunks arrive: each chunk is decrypted, checked and appended to sealed memory as soon as those
//! before it are there, so that the worker can load the model a moment after the last one came.

use zero2ai_engine::ModelFile;
use zero2ai_proto::{
    manifest::{ChunkRef, ConformanceSample, Format, Manifest},
    prepare::Preparation,
    rpc::{ErrorCode, RpcError},
};
use zero2ai_store::Store;
use zero2ai_swarm::Listener;

use crate::{
    jobs::load::{loaded_files, piece},
    serve::errors::{engine_error, internal, not_found},
};

/// Chunks opened in one go: between two of them the task can be dropped.
const BATCH: usize = 32;

/// Where a file's plaintext goes.
pub(crate) trait Target: Sized + Send + 'static {
    /// An empty one for a file of this name and size, bytes.
    fn create(name: &str, size: u64) -> Result<Self, RpcError>;
    /// Adds bytes behind the last ones.
    fn append(&mut self, bytes: &[u8]) -> Result<(), RpcError>;
    /// Nothing is added any more.
    fn finish(&mut self) -> Result<(), RpcError>;
}

impl Target for ModelFile {
    fn create(name: &str, size: u64) -> Result<Self, RpcError> {
        Self::create(name, size).map_err(engine_error)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), RpcError> {
        self.append(bytes).map_err(engine_error)
    }

    fn finish(&mut self) -> Result<(), RpcError> {
        self.seal().map_err(engine_error)
    }
}

/// A model's files in memory, ready for a worker.
pub(crate) struct Opened {
    pub(crate) format: Format,
    pub(crate) conformance: Vec<ConformanceSample>,
    pub(crate) preparation: Option<Preparation>,
    pub(crate) files: Vec<ModelFile>,
}

/// How far an opener came.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    /// There is more to do at once.
    More,
    /// The next chunk is not here.
    Waiting,
}

/// Opens files from their first chunk to their last.
struct Opener<T> {
    store: Store,
    manifest: Manifest,
    /// The last one is being written.
    files: Vec<T>,
    /// The chunks of that file, in order.
    chunks: Vec<ChunkRef>,
    /// Of these, the one that comes next.
    next: usize,
}

impl<T: Target> Opener<T> {
    fn new(store: Store, manifest: Manifest) -> Self {
        Self { store, manifest, files: Vec::new(), chunks: Vec::new(), next: 0 }
    }

    /// Opens up to [`BATCH`] chunks that are here. Blocks.
    fn advance(&mut self) -> Result<Step, RpcError> {
        for _ in 0..BATCH {
            if self.files.is_empty() && !self.begin_file()? {
                return Ok(Step::Done);
            }
            let Some(chunk) = self.chunks.get(self.next) else {
                if let Some(memory) = self.files.last_mut() {
                    memory.finish()?;
                }
                if !self.begin_file()? {
                    return Ok(Step::Done);
                }
                continue;
            };
            let plain = match piece(&self.store, &self.manifest, chunk) {
                Err(error) if error.code == ErrorCode::NotFound => return Ok(Step::Waiting),
                opened => opened?,
            };
            if let Some(memory) = self.files.last_mut() {
                memory.append(&plain)?;
            }
            self.next += 1;
        }
        Ok(Step::More)
    }

    /// False behind the last file.
    fn begin_file(&mut self) -> Result<bool, RpcError> {
        let Some(file) = loaded_files(&self.manifest).nth(self.files.len()) else { return Ok(false) };
        self.files.push(T::create(&file.path, file.size)?);
        self.chunks = file.parts.iter().flat_map(|p| &p.chunks).cloned().collect();
        self.next = 0;
        Ok(true)
    }

    fn missing(&self) -> RpcError {
        let file = loaded_files(&self.manifest).nth(self.files.len().saturating_sub(1));
        let file = file.map_or("a file", |f| f.path.as_str());
        not_found(format!("chunk {} of {file} is missing: fetch the model again", self.next))
    }
}

/// Opens every file of `manifest` that a worker loads. What is not here yet is waited for as long as `arriving` tells of chunks; without it a
/// missing chunk is an error. `opened` hears the number of chunks opened of the file at hand after each batch.
pub(crate) async fn open_files<T: Target>(
    store: Store,
    manifest: Manifest,
    mut arriving: Option<Listener>,
    opened: impl Fn(usize),
) -> Result<Vec<T>, RpcError> {
    let mut opener = Opener::<T>::new(store, manifest);
    loop {
        let advanced = tokio::task::spawn_blocking(move || opener.advance().map(|step| (opener, step)));
        let (back, step) = advanced.await.map_err(internal)??;
        opener = back;
        opened(opener.next);
        match (step, &mut arriving) {
            (Step::Done, _) => return Ok(opener.files),
            (Step::More, _) => {}
            (Step::Waiting, Some(listener)) => {
                if listener.next().await.is_none() {
                    // The transfer ended: what is not here now will not come.
                    arriving = None;
                }
            }
            (Step::Waiting, None) => return Err(opener.missing()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::future::BoxFuture;
    use tokio_util::sync::CancellationToken;
    use zero2ai_chunk::{ContentSecret, Sealer, planner::Order, seal_manifest};
    use zero2ai_proto::{
        Cid, Digest, ManifestId, NodeId, PublicKey,
        manifest::{Domain, FileEntry, Part, Task},
    };
    use zero2ai_store::StoreConfig;
    use zero2ai_swarm::{Board, Fetch, FetchOptions, Source, SourceError, Traffic};

    use super::*;

    /// Plaintext, and whether it was finished.
    struct Plain(Vec<u8>, bool);

    impl Target for Plain {
        fn create(_: &str, _: u64) -> Result<Self, RpcError> {
            Ok(Self(Vec::new(), false))
        }
        fn append(&mut self, bytes: &[u8]) -> Result<(), RpcError> {
            assert!(!self.1);
            self.0.extend_from_slice(bytes);
            Ok(())
        }
        fn finish(&mut self) -> Result<(), RpcError> {
            self.1 = true;
            Ok(())
        }
    }

    /// One peer that gives the second half of a model only once the first was opened.
    struct Halting {
        store: Store,
        manifest: Vec<u8>,
        late: Vec<Cid>,
        opened: Arc<AtomicUsize>,
    }

    impl Source for Halting {
        fn manifest(&self, _: NodeId, _: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
            Box::pin(async { Ok(self.manifest.clone()) })
        }
        fn have(&self, _: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
            Box::pin(async move { Ok(zero2ai_swarm::have(&self.store, &id).unwrap().unwrap()) })
        }
        fn chunk(&self, _: NodeId, cid: Cid) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
            Box::pin(async move {
                while self.late.contains(&cid) && self.opened.load(Ordering::SeqCst) < 20 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Ok(self.store.chunk(&cid).unwrap().unwrap())
            })
        }
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        let config = StoreConfig { cache_bytes: 1 << 20, quota_bytes: None, ..StoreConfig::default() };
        Store::open(dir.path(), config).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn opening_begins_before_the_transfer_ends_and_gives_the_same_bytes() {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (theirs, ours) = (store(&there), store(&here));
        let sealer = Sealer::new(Domain::Private, ContentSecret::from_bytes([1; 32]));
        // Two files; the second repeats a chunk of the first.
        let plain: Vec<Vec<u8>> = (0..50u32).map(|n| (n % 45).to_le_bytes().repeat(500)).collect();
        let mut chunks = Vec::new();
        for bytes in &plain {
            let (chunk, sealed) = sealer.seal_chunk(bytes).unwrap();
            theirs.put_chunk(&chunk.cid, &sealed).unwrap();
            chunks.push(chunk);
        }
        let file = |path: &str, chunks: &[ChunkRef]| FileEntry {
            path: path.into(),
            size: chunks.iter().map(|c| u64::from(c.len)).sum(),
            hash: Digest([0; 32]),
            parts: vec![Part { name: "#data".into(), chunks: chunks.to_vec() }],
        };
        let manifest = Manifest {
            name: "a/b".parse().unwrap(),
            version: 1,
            format: Format::Gguf,
            task: Task::Tensors,
            domain: Domain::Private,
            secret: *sealer.secret(),
            files: vec![file("m.gguf", &chunks[..40]), file("n.gguf", &chunks[40..])],
            conformance: Vec::new(),
            preparation: None,
        };
        let (bytes, id, _) = seal_manifest(&manifest).unwrap();
        theirs.put_manifest(&bytes).unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let late = chunks[30..45].iter().map(|c| c.cid).collect();
        let source = Halting { store: theirs, manifest: bytes, late, opened: Arc::clone(&opened) };
        let board = Board::default();
        let (begun, mut begins) = tokio::sync::watch::channel(false);
        let job = Fetch {
            store: ours.clone(),
            source: Arc::new(source),
            id,
            peers: vec![PublicKey([1; 32])],
            options: FetchOptions { order: Order::InOrder { window: 16 }, ..FetchOptions::default() },
            me: None,
            board: board.clone(),
            traffic: Traffic::default(),
            stop: CancellationToken::new(),
        };
        let fetching = job.run(move |_| {
            begun.send_replace(true);
        });
        let opening = async {
            begins.wait_for(|b| *b).await.unwrap();
            let count = |n: usize| {
                opened.fetch_max(n, Ordering::SeqCst);
            };
            open_files::<Plain>(ours.clone(), manifest.clone(), board.listen(&id), count).await
        };
        // The transfer cannot end unless 20 chunks were opened before.
        let both = async { tokio::join!(fetching, opening) };
        let (report, files) = tokio::time::timeout(std::time::Duration::from_secs(20), both).await.expect("it hangs");
        assert_eq!(report.unwrap().chunks, 45);
        let files = files.unwrap();
        assert!(files.iter().all(|f| f.1));
        assert_eq!((&files[0].0, &files[1].0), (&plain[..40].concat(), &plain[40..].concat()));
        let again = open_files::<Plain>(ours.clone(), manifest.clone(), None, |_| {}).await.unwrap();
        assert_eq!(again[0].0, files[0].0);
        ours.delete_chunk(&chunks[3].cid).unwrap();
        let error = open_files::<Plain>(ours, manifest, None, |_| {}).await.err().expect("a chunk is missing");
        assert!(error.message.contains("chunk 3 of m.gguf"), "{error}");
    }
}
