//! Chunks stored side by side. One chunk after the other, each waits for its own flush of the disk; writers side by side share
//! them: sixteen stored ten times as much a second on the disk this was measured on, and more brought nothing.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use zero2ai_proto::Cid;

use crate::{error::StoreError, store::Store};

/// Threads that write, and chunks that wait for one: memory is bounded by twice as many chunks.
const WRITERS: usize = 16;

/// What was stored so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Chunks that were not here before.
    pub fresh: Vec<Cid>,
    /// Chunks that were.
    pub reused: u32,
}

/// A writer failed, and nothing more is taken: [`Writers::finish`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk could not be stored, so the rest are not tried")]
pub struct WritersStopped;

/// Threads that store chunks durably, side by side. Dropping it waits for them.
#[derive(Debug)]
pub struct Writers {
    /// `None` only once it is finished.
    queue: Option<SyncSender<(Cid, Vec<u8>)>>,
    threads: Vec<JoinHandle<(Written, Result<(), StoreError>)>>,
    failed: Arc<AtomicBool>,
}

impl Writers {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the operating system gives no thread.
    pub fn start(store: &Store) -> Result<Self, StoreError> {
        let (queue, waiting) = sync_channel(WRITERS);
        let (waiting, failed) = (Arc::new(Mutex::new(waiting)), Arc::new(AtomicBool::new(false)));
        let mut writers = Self { queue: Some(queue), threads: Vec::new(), failed };
        for _ in 0..WRITERS {
            let (store, waiting, failed) = (store.clone(), Arc::clone(&waiting), Arc::clone(&writers.failed));
            let thread = thread::Builder::new().name("chunk writer".into());
            let thread = thread.spawn(move || write(&store, &waiting, &failed));
            writers
                .threads
                .push(thread.map_err(StoreError::io("start a thread that writes to", Path::new("the store")))?);
        }
        Ok(writers)
    }

    /// Hands on a chunk; waits while all writers are busy and as many chunks wait. Each chunk may be handed on once.
    ///
    /// # Errors
    /// [`WritersStopped`] once a chunk could not be stored.
    pub fn put(&self, cid: Cid, ciphertext: Vec<u8>) -> Result<(), WritersStopped> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(WritersStopped);
        }
        self.queue.as_ref().and_then(|queue| queue.send((cid, ciphertext)).ok()).ok_or(WritersStopped)
    }

    /// Waits until everything handed on is durable, or given up. The first error of [`Store::put_chunk`] comes beside what was
    /// stored, so that the caller can take that back.
    pub fn finish(mut self) -> (Written, Result<(), StoreError>) {
        self.queue = None;
        let (mut all, mut result) = (Written::default(), Ok(()));
        for thread in self.threads.drain(..) {
            let (written, ended) = thread.join().unwrap_or_else(|_| (Written::default(), Err(died())));
            all.fresh.extend(written.fresh);
            all.reused = all.reused.saturating_add(written.reused);
            result = result.and(ended);
        }
        (all, result)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Its result is of no use to whoever drops it.
            let _ = thread.join();
        }
    }
}

fn died() -> StoreError {
    StoreError::io("write to", Path::new("the store"))(io::Error::other("a writer's thread died"))
}

/// One writer: stores what comes until nothing more comes, or until one of them failed.
fn write(
    store: &Store,
    waiting: &Mutex<Receiver<(Cid, Vec<u8>)>>,
    failed: &AtomicBool,
) -> (Written, Result<(), StoreError>) {
    let mut written = Written::default();
    loop {
        // Held while it waits: whoever holds it is the next to get a chunk.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((cid, ciphertext)) = next else { return (written, Ok(())) };
        if failed.load(Ordering::Relaxed) {
            continue; // Taken and thrown away, so that nobody waits for room in the queue.
        }
        match store.put_chunk(&cid, &ciphertext) {
            Ok(true) => written.fresh.push(cid),
            Ok(false) => written.reused = written.reused.saturating_add(1),
            Err(e) => {
                failed.store(true, Ordering::Relaxed);
                // The others throw away what waits; this one may end.
                return (written, Err(e));
            }
        }
    }
}
