//! The loop that carries out what the planner decides: asks peers, writes what came, tells the planner what happened.
//!
//! One task runs it. Requests are futures that it polls, so dropping the transfer drops them; writes are blocking tasks that
//! it waits for before it returns, so that nothing touches the store afterwards.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinError, JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::{
    ChunkSet,
    planner::{Action, DropReason, Event, Planner, PlannerConfig},
};
use zero2ai_proto::{ManifestId, NodeId, calls::HaveNews, manifest::SealedManifest};
use zero2ai_store::{Store, StoreError};

use crate::{
    board::{Board, Posting},
    error::FetchError,
    fetch::{FetchOptions, FetchReport, Progress},
    holders::Holders,
    source::{Source, SourceError},
    traffic::Traffic,
};

/// How often peers that ended their news without holding everything are asked again. Shorter costs a bit field a peer each
/// time.
const REFRESH: Duration = Duration::from_secs(2);
/// Ticks within one stall time, as the planner wants.
const TICKS_PER_STALL: u32 = 10;
/// Chunks written at a time. Their threads wait for no disk; more of them would only wait for each other.
const WRITERS: usize = 4;
/// How much longer than [`FetchOptions::patience`] a transfer waits while peers hold what is missing and are busy.
const QUEUEING: u32 = 10;

/// An answer from the network.
enum Answer {
    /// A peer tells no more of what it holds; `None` if it was not to.
    Told {
        peer: NodeId,
        ended: Option<Result<(), SourceError>>,
    },
    Chunk {
        peer: NodeId,
        chunk: u32,
        bytes: Result<Vec<u8>, SourceError>,
    },
    /// The request was taken back.
    Cancelled,
}

/// A chunk that went to the disk.
struct Written {
    peer: NodeId,
    chunk: u32,
    stored: Result<bool, StoreError>,
}

pub(crate) struct Transfer {
    store: Store,
    source: Arc<dyn Source>,
    manifest: Arc<SealedManifest>,
    options: FetchOptions,
    report: FetchReport,
    total_bytes: u64,
    planner: Planner<NodeId>,
    started: Instant,
    /// What is here.
    held: ChunkSet,
    holders: Holders,
    news: mpsc::Receiver<(NodeId, HaveNews)>,
    posting: Posting,
    traffic: Traffic,
    /// Bytes of the longest chunk.
    longest: u64,
    network: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// At most as many as requests in flight, since the planner counts a chunk as open until it is written; `writers` lets some
    /// of them write.
    writes: JoinSet<Result<Written, JoinError>>,
    writers: Arc<Semaphore>,
    open: BTreeMap<(NodeId, u32), AbortHandle>,
    starved_since: Option<Instant>,
    next_refresh: Instant,
}

/// What a transfer starts from.
pub(crate) struct Start {
    pub(crate) store: Store,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) id: ManifestId,
    pub(crate) manifest: Arc<SealedManifest>,
    pub(crate) peers: Vec<NodeId>,
    pub(crate) options: FetchOptions,
    /// What the planner's random choices follow from.
    pub(crate) seed: u64,
    /// The chunks that are here.
    pub(crate) held: ChunkSet,
    /// What happened before.
    pub(crate) report: FetchReport,
    /// This node, if it takes part in sharing an origin out.
    pub(crate) me: Option<NodeId>,
    pub(crate) board: Board,
    pub(crate) traffic: Traffic,
}

impl Transfer {
    pub(crate) fn new(start: Start) -> Self {
        let Start { store, source, id, manifest, peers, options, seed, held, report, me, board, traffic } = start;
        let config = PlannerConfig {
            seed,
            in_flight: options.in_flight.max(1),
            stall_ms: u64::try_from(options.stall.as_millis()).unwrap_or(u64::MAX),
            order: options.order,
            ..PlannerConfig::default()
        };
        let missing = (0u32..).zip(&manifest.chunks).filter(|(nth, _)| !held.contains(*nth));
        let total_bytes = missing.map(|(_, chunk)| u64::from(chunk.len)).sum();
        let longest = manifest.chunks.iter().map(|c| u64::from(c.len)).max().unwrap_or(1).max(1);
        let (holders, news) = Holders::new(id, manifest.chunks.len(), peers);
        let planner = Planner::new(config, &held);
        let now = Instant::now();
        Self {
            store,
            source,
            manifest,
            options,
            report,
            total_bytes,
            planner: match me {
                Some(me) => planner.sharing(me),
                None => planner,
            },
            started: now,
            posting: board.post(id, held.clone()),
            held,
            holders,
            news,
            traffic,
            longest,
            network: FuturesUnordered::new(),
            writes: JoinSet::new(),
            writers: Arc::new(Semaphore::new(WRITERS)),
            open: BTreeMap::new(),
            starved_since: None,
            next_refresh: now,
        }
    }

    /// Runs to the end, then waits for the writes that are still under way.
    pub(crate) async fn run(
        mut self,
        progress: &(impl Fn(Progress<'_>) + Send + Sync),
        stop: &CancellationToken,
    ) -> Result<FetchReport, FetchError> {
        progress(self.progress());
        let ended = self.until_done(progress, stop).await;
        self.network.clear();
        while self.writes.join_next().await.is_some() {}
        // However it ended, what came stays: all of it is flushed at once.
        let store = self.store.clone();
        let settled = spawn_blocking(move || store.settle()).await;
        ended?;
        settled??;
        Ok(self.report)
    }

    async fn until_done(
        &mut self,
        progress: &(impl Fn(Progress<'_>) + Send + Sync),
        stop: &CancellationToken,
    ) -> Result<(), FetchError> {
        let mut tick = interval((self.options.stall / TICKS_PER_STALL).max(Duration::from_millis(5)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.planner.is_done() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(FetchError::Stopped),
                Some(written) = self.writes.join_next() => {
                    self.on_written(written??)?;
                    progress(self.progress());
                }
                Some(answer) = self.network.next() => self.on_answer(answer),
                Some((peer, news)) = self.news.recv() => self.on_news(peer, news),
                _ = tick.tick() => self.on_tick()?,
            }
        }
        Ok(())
    }

    fn on_tick(&mut self) -> Result<(), FetchError> {
        self.tell(Event::Tick);
        let now = Instant::now();
        if now >= self.next_refresh {
            self.next_refresh = now + REFRESH;
            self.ask_what_they_hold();
        }
        let at_its_limit = self.traffic.may_download().is_some_and(|bytes| bytes < self.longest);
        if !self.planner.is_starved() || !self.writes.is_empty() || at_its_limit {
            self.starved_since = None;
            return Ok(());
        }
        let since = *self.starved_since.get_or_insert(now);
        let patience = self.options.patience * if self.planner.is_queueing() { QUEUEING } else { 1 };
        if self.holders.is_empty() || now.duration_since(since) > patience {
            let total = u32::try_from(self.manifest.chunks.len()).unwrap_or(u32::MAX);
            return Err(FetchError::NoSource { missing: self.planner.missing(), total });
        }
        Ok(())
    }

    fn ask_what_they_hold(&mut self) {
        for question in self.holders.ask(&self.source) {
            self.network.push(Box::pin(async move {
                let (peer, ended) = question.await;
                Answer::Told { peer, ended }
            }));
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Cancelled => {}
            Answer::Told { peer, ended } => {
                self.take_news();
                self.holders.ended(peer);
                match ended {
                    Some(Ok(())) if self.planner.holds_all(&peer) => self.holders.complete(peer),
                    Some(Err(e)) => tracing::debug!(%peer, error = %e, "a peer did not say what it holds: asked later"),
                    _ => {}
                }
            }
            Answer::Chunk { peer, chunk, bytes } => {
                self.open.remove(&(peer, chunk));
                match bytes {
                    Ok(bytes) => self.write(peer, chunk, bytes),
                    Err(SourceError::Busy) => self.tell(Event::Busy { peer, chunk }),
                    Err(e) => {
                        tracing::debug!(%peer, chunk, error = %e, "a peer did not give a chunk");
                        self.holders.doubt(peer);
                        self.tell(Event::Failed { peer, chunk });
                    }
                }
            }
        }
    }

    /// Looks at the news that wait already: those of a peer come before the word that it tells no more.
    fn take_news(&mut self) {
        while let Ok((peer, news)) = self.news.try_recv() {
            self.on_news(peer, news);
        }
    }

    fn on_news(&mut self, peer: NodeId, news: HaveNews) {
        match self.holders.heard(peer, news) {
            Ok(events) => events.into_iter().for_each(|event| self.tell(event)),
            Err(e) => {
                tracing::warn!(%peer, error = %e, "not used any more");
                self.holders.leave(peer);
                self.tell(Event::Left { peer });
            }
        }
    }

    fn write(&mut self, peer: NodeId, chunk: u32, bytes: Vec<u8>) {
        let Some(listed) = self.manifest.chunks.get(chunk as usize).copied() else { return };
        if bytes.len() != listed.len as usize {
            self.tell(Event::Wrong { peer, chunk });
            return;
        }
        let store = self.store.clone();
        let writers = Arc::clone(&self.writers);
        self.writes.spawn(async move {
            let _turn = writers.acquire().await;
            let put = spawn_blocking(move || store.put_arriving(&listed.cid, &bytes)).await;
            put.map(|stored| Written { peer, chunk, stored })
        });
    }

    fn on_written(&mut self, Written { peer, chunk, stored }: Written) -> Result<(), FetchError> {
        match stored {
            Ok(_) => {
                // Not what the store says: of two copies of a chunk, written side by side near the end, the one that it calls new may
                // be told last, or never, when the other was the last that was missing.
                let first = !self.held.contains(chunk);
                self.held.insert(chunk);
                self.posting.gained(chunk);
                if first {
                    let len = self.manifest.chunks.get(chunk as usize).map_or(0, |c| u64::from(c.len));
                    self.report.bytes += len;
                    self.report.chunks += 1;
                    *self.report.by_peer.entry(peer).or_insert(0) += len;
                }
                self.tell(Event::Received { peer, chunk });
                Ok(())
            }
            Err(StoreError::WrongHash { .. }) => {
                self.tell(Event::Wrong { peer, chunk });
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Tells the planner what happened, and does what it says.
    fn tell(&mut self, event: Event<NodeId>) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let may = self.traffic.may_download().map(|bytes| bytes / self.longest);
        self.planner.allow(may.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX)));
        let mut actions = VecDeque::from(self.planner.handle(now_ms, event));
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Request { peer, chunk } => self.request(peer, chunk),
                Action::Cancel { peer, chunk } => {
                    // None if it is being written already: then it is taken all the same.
                    if let Some(request) = self.open.remove(&(peer, chunk)) {
                        request.abort();
                    }
                }
                Action::Drop { peer, why } => {
                    tracing::warn!(%peer, ?why, "not used any more in this transfer");
                    self.holders.leave(peer);
                    if why == DropReason::WrongHash {
                        self.report.banned.push(peer);
                    }
                }
            }
        }
    }

    fn request(&mut self, peer: NodeId, chunk: u32) {
        let Some((cid, len)) = self.manifest.chunks.get(chunk as usize).map(|c| (c.cid, c.len)) else { return };
        self.traffic.downloading(u64::from(len));
        let (handle, registration) = AbortHandle::new_pair();
        self.open.insert((peer, chunk), handle);
        let source = Arc::clone(&self.source);
        let asked = Abortable::new(async move { source.chunk(peer, cid).await }, registration);
        self.network.push(Box::pin(async move {
            asked.await.map_or(Answer::Cancelled, |bytes| Answer::Chunk { peer, chunk, bytes })
        }));
    }

    fn progress(&self) -> Progress<'_> {
        let total_chunks = u32::try_from(self.manifest.chunks.len()).unwrap_or(u32::MAX);
        Progress {
            chunks: total_chunks.saturating_sub(self.planner.missing()),
            total_chunks,
            bytes: self.report.bytes,
            total_bytes: self.total_bytes,
            peers: self.planner.peers(),
            held: &self.held,
            by_peer: &self.report.by_peer,
        }
    }
}
