//! Opening a chain, and the task that runs it: waits for events, has each batch handled on a thread that may block, then
//! gossips and fetches.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use zero2ai_clock::now_ms;
use zero2ai_proto::{calls::SealedBlock, evidence::Evidence, limits::BLOCKS, proof::Snapshot};

use crate::{
    BlockSource, ChainNet,
    archive::check_final,
    config::{BATCH, ChainConfig, EVIDENCE, QUEUE},
    disk::{Disk, Found},
    error::ChainError,
    handle::{ChainHandle, ChainStatus},
    host::{Host, Now, Wish, lacks_rules},
    machine::{Done, Event, Machine},
    shared::Shared,
    snapshot,
};

/// How long a peer may take to send a batch of blocks before another is asked.
const FETCH_PATIENCE: Duration = Duration::from_secs(8);

/// Entry to this crate: [`Chain::open`].
#[derive(Clone, Copy, Debug)]
pub struct Chain;

/// A chain whose ledger can be read, but which makes no blocks yet.
pub struct Opened {
    /// Reads the ledger, and takes what is submitted and delivered.
    pub handle: ChainHandle,
    machine: Machine,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    status: watch::Sender<ChainStatus>,
    found: mpsc::Sender<Evidence>,
    evidence: mpsc::Receiver<Evidence>,
    clock: Clock,
}

/// A chain that runs.
#[derive(Debug)]
pub struct Running {
    /// As [`Opened::handle`].
    pub handle: ChainHandle,
    /// Ends with `Ok` when it was told to stop, with an error when the chain cannot go on: then the node must stop too.
    pub task: JoinHandle<Result<(), ChainError>>,
    /// Proofs that a signer contradicted itself, as the core finds them: for the node to put on the ledger. At most 64
    /// wait; more are dropped, since other nodes saw them too. A proof may come again after a restart.
    pub evidence: mpsc::Receiver<Evidence>,
}

/// A steady clock that starts at opening, and the wall's.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Now {
        Now { up: millis(self.0.elapsed()), wall: now_ms() }
    }

    fn at(&self, up: u64) -> Instant {
        // A deadline beyond an hour is looked at again in an hour.
        self.0 + Duration::from_millis(up.min(self.now().up.saturating_add(3_600_000)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Chain {
    /// Opens the chain's files, or makes them, and replays the stored blocks, from the snapshot on if there is one: each certificate and block is checked again.
    /// The folder belongs to this process alone; the caller holds the home's lock.
    ///
    /// # Errors
    /// The genesis, a stored block (named by height), or a file that guards against signing twice cannot be used.
    pub async fn open(config: ChainConfig) -> Result<Opened, ChainError> {
        let opened = spawn_blocking(move || Opened::open(&config)).await;
        opened.map_err(|e| ChainError::Worker(e.to_string()))?
    }
}

impl Opened {
    fn open(config: &ChainConfig) -> Result<Self, ChainError> {
        let snapshot = snapshot::read(&config.dir)?;
        let ledger = snapshot::begin(&config.dir, &config.genesis, snapshot.as_ref())?;
        // Its entries are the ledger's now.
        let begun = snapshot.map(|Snapshot { header, steps, .. }| (header, steps));
        let (disk, Found { wal, mark }) = Disk::open(&config.dir, ledger.base())?;
        let shared = Arc::new(match begun {
            Some((header, steps)) => Shared::at_snapshot(ledger, header, steps),
            None => Shared::new(ledger),
        });
        for height in disk.blocks.base().saturating_add(1)..=disk.blocks.height() {
            // Before a newer block is called damaged for its rules.
            if let Some(error) = lacks_rules(&shared) {
                return Err(error);
            }
            replay(&shared, &disk, height)?;
        }
        if let Some(error) = lacks_rules(&shared) {
            return Err(error);
        }
        let clock = Clock(Instant::now());
        let host = Host::new(config, shared.clone(), mark, &wal, clock.now());
        let (stored, path) = (disk.blocks.height(), config.dir.display());
        if let Some(signed) = host.lost() {
            tracing::error!(
                signed,
                stored,
                "this node signed at height {signed}, but {path} holds neither that block nor the whole log of it: the \
                 disk lost what it had promised, or an old copy was restored. It signs nothing until its peers have \
                 decided that height and bring it here; if it is the only signer and nobody saw that block, stop it \
                 and remove the file 'signed' there"
            );
        }
        let (sender, events) = mpsc::channel(QUEUE);
        let status = {
            let view = shared.read();
            let (height, head_time_ms) = (view.ledger.height(), view.ledger.head_time_ms());
            ChainStatus { height, head_time_ms, signing: host.signs(), ..ChainStatus::default() }
        };
        let (status, watch) = watch::channel(status);
        let handle = ChainHandle::new(shared.clone(), disk.blocks.clone(), sender, watch);
        let machine = Machine::new(host, disk, wal);
        let (found, evidence) = mpsc::channel(EVIDENCE);
        Ok(Self { handle, machine, shared, events, status, found, evidence, clock })
    }

    /// Runs the chain until `stop` is cancelled. Must be called inside a tokio runtime.
    #[must_use]
    pub fn run(self, net: Arc<dyn ChainNet>, source: Arc<dyn BlockSource>, stop: CancellationToken) -> Running {
        let Self { handle, machine, shared, events, status, found, evidence, clock } = self;
        let parts = Parts { machine, shared, events, status, found, clock };
        Running { handle, task: tokio::spawn(run(parts, net, source, stop)), evidence }
    }
}

/// Applies one stored block again.
fn replay(shared: &Shared, disk: &Disk, height: u64) -> Result<(), ChainError> {
    let damaged = |why: String| disk.blocks.damaged(height, why);
    let sealed = disk.blocks.get(height)?.ok_or_else(|| damaged("it is missing".into()))?;
    let block = check_final(&shared.read().ledger, height, &sealed).map_err(damaged)?;
    shared.apply(&block, &sealed.certificate).map_err(|e| damaged(e.to_string()))?;
    Ok(())
}

/// What the task works with. Not its own handle: that would keep the queue open for ever.
struct Parts {
    machine: Machine,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    status: watch::Sender<ChainStatus>,
    found: mpsc::Sender<Evidence>,
    clock: Clock,
}

async fn run(
    parts: Parts,
    net: Arc<dyn ChainNet>,
    source: Arc<dyn BlockSource>,
    stop: CancellationToken,
) -> Result<(), ChainError> {
    let Parts { mut machine, shared, mut events, status, found, clock } = parts;
    let mut fetches: JoinSet<Result<Vec<SealedBlock>, String>> = JoinSet::new();
    let mut batch = Vec::new();
    let mut open = true;
    loop {
        let (work, view, now) = (std::mem::take(&mut batch), shared.clone(), clock.now());
        let step = spawn_blocking(move || {
            let done = machine.step(work, &view, now);
            (machine, done)
        });
        let done;
        (machine, done) = step.await.map_err(|e| ChainError::Worker(e.to_string()))?;
        let Done { sends, wish, evidence, deadline, status: standing } = done.inspect_err(|error| {
            tracing::error!(%error, "the chain stops");
        })?;
        for (topic, data) in sends {
            net.broadcast(topic, data);
        }
        for proof in evidence {
            if found.try_send(proof).is_err() {
                tracing::debug!(signer = %proof.signer.short(), "nobody takes the evidence");
            }
        }
        status.send_if_modified(|old| std::mem::replace(old, standing) != standing);
        if let Some(wish) = wish {
            fetches.spawn(fetch(source.clone(), wish));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(fetched) = fetches.join_next() => {
                let fetched = fetched.unwrap_or_else(|e| Err(format!("the block source died: {e}")));
                batch.push(Event::Fetched(fetched));
            }
            count = events.recv_many(&mut batch, BATCH), if open => open = count > 0,
            () = sleep_until(clock.at(deadline)) => {}
        }
    }
}

async fn fetch(source: Arc<dyn BlockSource>, wish: Wish) -> Result<Vec<SealedBlock>, String> {
    let max = u32::try_from(BLOCKS).unwrap_or(u32::MAX);
    let fetched = timeout(FETCH_PATIENCE, source.blocks(Some(wish.hint), wish.from, max)).map(|r| match r {
        Ok(result) => result,
        Err(_) => Err("no answer in time".to_owned()),
    });
    let mut blocks = fetched.await?;
    blocks.truncate(BLOCKS);
    Ok(blocks)
}
