//! Chunks that arrive together: read at once, durable once settled, and looked at again after a crash.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

use zero2ai_proto::Cid;
use zero2ai_store::{Store, StoreConfig};

fn open(home: &Path) -> Store {
    Store::open(home, StoreConfig { cache_bytes: 1 << 20, ..StoreConfig::default() }).unwrap()
}

/// Files in `dir` and in the folders within it.
fn files_in(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

fn chunk(n: u8) -> (Cid, Vec<u8>) {
    let bytes = vec![n; 1000 + usize::from(n)];
    (Cid::of(&bytes), bytes)
}

#[test]
fn what_arrived_is_read_before_and_after_it_is_settled() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let chunks: Vec<_> = (0..20).map(chunk).collect();
    for (cid, bytes) in &chunks {
        assert!(store.put_arriving(cid, bytes).unwrap());
        assert!(!store.put_arriving(cid, bytes).unwrap(), "it is here already");
        assert_eq!(store.chunk(cid).unwrap().as_deref(), Some(bytes.as_slice()));
    }
    assert!(store.chunk_ids(None, 100).unwrap().is_empty(), "the index speaks of what is durable");
    let before = store.stats();
    store.settle().unwrap();
    assert_eq!(store.stats(), before);
    assert_eq!(before.chunks, 20);
    assert_eq!(store.chunk_ids(None, 100).unwrap().len(), 20);
    for (cid, bytes) in &chunks {
        assert!(store.has_chunk(cid).unwrap());
        assert_eq!(store.chunk(cid).unwrap().as_deref(), Some(bytes.as_slice()));
    }
    assert_eq!(files_in(&home.path().join("arriving")), 0);
    drop(store);
    let store = open(home.path());
    assert!(!store.open_report().rebuilt, "it was a clean stop");
    assert_eq!(store.stats(), before);
}

#[test]
fn a_durable_put_of_what_only_arrived_makes_it_durable() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (cid, bytes) = chunk(1);
    store.put_arriving(&cid, &bytes).unwrap();
    assert!(!store.put_chunk(&cid, &bytes).unwrap());
    assert_eq!(store.chunk_ids(None, 10).unwrap().len(), 1);
}

#[test]
fn what_is_let_go_while_it_arrives_stays_away() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let (cid, bytes) = chunk(1);
    store.put_arriving(&cid, &bytes).unwrap();
    assert!(store.delete_chunk(&cid).unwrap());
    store.settle().unwrap();
    assert_eq!((store.chunk(&cid).unwrap(), store.stats().chunks, store.stats().bytes), (None, 0, 0));
    assert!(!store.delete_chunk(&cid).unwrap());
}

#[test]
fn after_a_crash_whole_chunks_are_kept_and_torn_ones_go() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()));
    // As a process leaves it that was killed: no clean stop, files that arrived.
    fs::remove_file(home.path().join("clean")).unwrap();
    let arriving = home.path().join("arriving");
    let ((whole, bytes), (torn, cut), (empty, _)) = (chunk(1), chunk(2), chunk(3));
    let place = |cid: &Cid| arriving.join(format!("{:02}", cid.as_bytes()[0] % 64)).join(cid.to_string());
    fs::write(place(&whole), &bytes).unwrap();
    fs::write(place(&torn), &cut[..500]).unwrap();
    fs::write(place(&empty), b"").unwrap();
    fs::write(arriving.join("something else"), b"x").unwrap();
    let store = open(home.path());
    assert_eq!(store.chunk(&whole).unwrap().as_deref(), Some(bytes.as_slice()));
    assert_eq!(store.chunk_ids(None, 10).unwrap(), [(whole, u32::try_from(bytes.len()).unwrap())]);
    assert!(!store.has_chunk(&torn).unwrap() && !store.has_chunk(&empty).unwrap());
    assert_eq!((store.stats().chunks, store.stats().bytes), (1, bytes.len() as u64));
    assert_eq!(files_in(&arriving), 0);
}

#[test]
fn many_threads_settle_and_read_without_losing_any() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let bytes = |t: u32, n: u32| [t.to_le_bytes(), n.to_le_bytes()].concat();
    std::thread::scope(|scope| {
        for t in 0..6 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..200 {
                    let bytes = bytes(t, n);
                    let cid = Cid::of(&bytes);
                    assert!(store.chunk(&cid).unwrap().is_none(), "a look before it comes does no harm");
                    assert!(store.put_arriving(&cid, &bytes).unwrap());
                    if n % 50 == t {
                        store.settle().unwrap();
                    }
                    assert_eq!(store.chunk(&cid).unwrap(), Some(bytes));
                }
            });
        }
    });
    store.settle().unwrap();
    assert_eq!(store.stats().chunks, 1200);
    assert_eq!(store.chunk_ids(None, 5000).unwrap().len(), 1200);
}
