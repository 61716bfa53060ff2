//! A process that writes into a store, a log and small files as fast as it can and says on standard output what is
//! durable, and the check of what it had said. It knows the store's own interface, since a node cannot be made to write
//! this densely.
//!
//! Each line it prints is one acknowledgement:
//!
//! | line | what is durable |
//! |---|---|
//! | `chunk CID` | this chunk is stored |
//! | `going CID` | nothing; it is about to be removed and may be there or not |
//! | `gone CID` | this chunk is removed |
//! | `manifest ID` | this manifest is stored |
//! | `log N` | the log has its first N records |
//! | `file N COUNT` | the small file N holds COUNT or a later count |
//! | `row N COUNT` | the row N of a map holds COUNT or a later count |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use zero2ai_proto::{Cid, ManifestId};
use zero2ai_store::{KeyValue, Log, LogConfig, Store, StoreConfig, atomic_write};

use super::rng::Rng;

/// Bytes of the largest chunk written: small ones make more crash points a second.
const CHUNK: u64 = 64 * 1024;
/// Chunks a thread keeps before it removes its oldest.
const KEPT: usize = 40;
/// Threads that write chunks, as a publication and a fetch side by side do.
const THREADS: u64 = 2;
/// Small files and rows written in turn.
const SMALL: u64 = 8;
/// Small segments, so that cuts fall on their beginnings too.
const LOG: LogConfig = LogConfig { segment_bytes: 16 * 1024, record_bytes: 64 * 1024 };

fn open(home: &Path) -> Result<Store> {
    let config = StoreConfig { cache_bytes: 4 << 20, ..StoreConfig::default() };
    Ok(Store::open(&home.join("store"), config)?)
}

/// One acknowledgement. Standard output is locked for a whole line.
fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Bytes of the log's record `index`.
fn record(index: u64) -> Vec<u8> {
    let mut rng = Rng::new(0x006c_6f67, index);
    let len = rng.below(3000);
    rng.bytes(usize::try_from(len).unwrap_or(0))
}

/// Writes into `home` until something fails. Counts begin at `first`, which must be beyond those of earlier writers.
///
/// # Errors
/// Always: what failed first.
pub fn write(home: &Path, seed: u64, first: u64) -> Result<()> {
    let store = open(home)?;
    let (log, _) = Log::open(&home.join("log"), LOG)?;
    thread::scope(|scope| {
        let chunks = (0..THREADS).map(|t| {
            let store = &store;
            scope.spawn(move || write_chunks(store, &mut Rng::new(seed, t)))
        });
        let mut all: Vec<_> = chunks.collect();
        all.push(scope.spawn(|| write_log(log, &mut Rng::new(seed, THREADS))));
        all.push(scope.spawn(|| write_small(home, &store, first)));
        let ends = all.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a writing thread panicked")));
        ends.fold(Ok(()), Result::and)
    })
}

fn write_chunks(store: &Store, rng: &mut Rng) -> Result<()> {
    let mut kept = Vec::new();
    loop {
        let len = usize::try_from(1 + rng.below(CHUNK))?;
        let bytes = rng.bytes(len);
        let cid = Cid::of(&bytes);
        if rng.below(3) == 0 {
            store.put_chunk(&cid, &bytes)?;
            say(format_args!("chunk {cid}"))?;
            kept.push(cid);
        } else {
            // As a fetch brings them: some together, durable only once they are settled.
            let mut some = vec![cid];
            store.put_arriving(&cid, &bytes)?;
            for _ in 0..rng.below(8) {
                let len = usize::try_from(1 + rng.below(CHUNK))?;
                let bytes = rng.bytes(len);
                some.push(Cid::of(&bytes));
                store.put_arriving(&Cid::of(&bytes), &bytes)?;
            }
            store.settle()?;
            for cid in &some {
                say(format_args!("chunk {cid}"))?;
            }
            kept.append(&mut some);
        }
        if rng.below(8) == 0 {
            let len = usize::try_from(1 + rng.below(4096))?;
            say(format_args!("manifest {}", store.put_manifest(&rng.bytes(len))?))?;
        }
        while kept.len() > KEPT {
            let cid = kept.remove(0);
            say(format_args!("going {cid}"))?;
            store.delete_chunk(&cid)?;
            say(format_args!("gone {cid}"))?;
        }
    }
}

fn write_log(mut log: Log, rng: &mut Rng) -> Result<()> {
    loop {
        for _ in 0..=rng.below(5) {
            log.append(&record(log.len()))?;
        }
        log.sync()?;
        say(format_args!("log {}", log.len()))?;
    }
}

fn write_small(home: &Path, store: &Store, first: u64) -> Result<()> {
    let tree = store.tree("faults")?;
    for count in first.. {
        let n = count % SMALL;
        atomic_write(&home.join(format!("small-{n}")), format!("{count:0200}").as_bytes())?;
        say(format_args!("file {n} {count}"))?;
        tree.put(&n.to_be_bytes(), &count.to_be_bytes())?;
        tree.flush()?;
        say(format_args!("row {n} {count}"))?;
    }
    Ok(())
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    chunks: BTreeSet<Cid>,
    gone: BTreeSet<Cid>,
    manifests: BTreeSet<ManifestId>,
    log: u64,
    files: BTreeMap<u64, u64>,
    rows: BTreeMap<u64, u64>,
    /// Lines read.
    pub lines: u64,
}

impl Acknowledged {
    /// Reads one line of the writer.
    ///
    /// # Errors
    /// It is none.
    pub fn read(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["chunk", cid] => drop(self.chunks.insert(cid.parse().ok().context("an id")?)),
            ["going", cid] => drop(self.chunks.remove(&cid.parse().ok().context("an id")?)),
            ["gone", cid] => drop(self.gone.insert(cid.parse().ok().context("an id")?)),
            ["manifest", id] => drop(self.manifests.insert(id.parse().ok().context("an id")?)),
            ["log", len] => self.log = len.parse()?,
            ["file", n, count] => drop(self.files.insert(n.parse()?, count.parse()?)),
            ["row", n, count] => drop(self.rows.insert(n.parse()?, count.parse()?)),
            _ => bail!("'{line}' is no acknowledgement"),
        }
        self.lines += 1;
        Ok(())
    }

    /// Reads a line that came after the power was gone: a kernel has been seen to end an fsync well that was under way
    /// when its journal was cut off, so such a word promises nothing. What may have been removed may be gone.
    ///
    /// # Errors
    /// It is no acknowledgement.
    pub fn read_late(&mut self, line: &str) -> Result<()> {
        if line.starts_with("going ") { self.read(line) } else { Ok(()) }
    }

    /// Looks at `home` after the fault, and gives the number of things found as they were acknowledged.
    ///
    /// # Errors
    /// Something is lost or not whole.
    pub fn check(&self, home: &Path) -> Result<u64> {
        let store = open(home)?;
        let mut found = 0;
        for cid in &self.chunks {
            ensure!(store.has_chunk(cid)?, "chunk {cid} was acknowledged and is not in the index");
            store.chunk(cid)?.with_context(|| format!("chunk {cid} was acknowledged and is lost"))?;
            found += 1;
        }
        for cid in &self.gone {
            ensure!(store.chunk(cid)?.is_none(), "the removal of chunk {cid} was acknowledged, and it is back");
            found += 1;
        }
        for id in &self.manifests {
            store.manifest(id)?.with_context(|| format!("manifest {id} was acknowledged and is lost"))?;
            found += 1;
        }
        let mut walked = (0, 0);
        for (cid, len) in store.chunk_ids(None, usize::MAX)? {
            walked = (walked.0 + 1, walked.1 + u64::from(len));
            store.chunk(&cid)?.with_context(|| format!("the index claims chunk {cid}, which is not there"))?;
        }
        let stats = store.stats();
        ensure!(walked == (stats.chunks, stats.bytes), "the figures say {stats:?}, the index {walked:?}");
        Ok(found + self.check_log(home)? + self.check_small(home, &store)?)
    }

    fn check_log(&self, home: &Path) -> Result<u64> {
        let (log, _) = Log::open(&home.join("log"), LOG)?;
        ensure!(log.len() >= self.log, "the log has {} records, {} were acknowledged", log.len(), self.log);
        for (index, read) in (0..).zip(log.iter_from(0)) {
            ensure!(read? == record(index), "record {index} of the log is not what was written");
        }
        Ok(self.log)
    }

    fn check_small(&self, home: &Path, store: &Store) -> Result<u64> {
        for (n, count) in &self.files {
            let path = home.join(format!("small-{n}"));
            let text = fs::read_to_string(&path).with_context(|| format!("small file {n}"))?;
            ensure!(text.len() == 200, "small file {n} is half there: {text:?}");
            ensure!(text.parse::<u64>()? >= *count, "small file {n} is older than {count}: {text}");
        }
        let tree = store.tree("faults")?;
        for (n, count) in &self.rows {
            // A database that was damaged is set aside, and then what it held is rebuilt by whoever needs it.
            if store.open_report().broken_index.is_some() {
                break;
            }
            let row = tree.get(&n.to_be_bytes())?.with_context(|| format!("row {n} was acknowledged and is lost"))?;
            let row = u64::from_be_bytes(row.try_into().ok().context("a count")?);
            ensure!(row >= *count, "row {n} is {row}, and {count} was acknowledged");
        }
        Ok((self.files.len() + self.rows.len()) as u64)
    }
}
