//! What a disk does to a store and to a node: full, failing, read-only, and too few file descriptors. Each time a clear
//! paragraph, nothing half-written, and all as before once the cause is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use zero2ai_proto::Cid;
use zero2ai_store::{Log, LogConfig, Store, StoreConfig, StoreError};
use zero2ai_testnet::{
    Daemon, Ran,
    binary::zero2ai,
    daemon::run,
    faults::{
        audit::audit,
        image::{Image, missing},
        model,
        rng::Rng,
    },
};

/// Exit code as `zero2ai --help` lists it.
const STORAGE: i32 = 8;

/// A small file system, or none where none can be mounted.
fn image(mib: u64) -> Option<Image> {
    match missing() {
        Some(why) => {
            println!("skipped: {why}");
            None
        }
        None => Some(Image::new(mib).unwrap()),
    }
}

/// Opens the store. A child that another test forks at this moment holds the lock of the one before, until it runs its program.
fn open(home: &Path) -> Store {
    let start = std::time::Instant::now();
    loop {
        let config = StoreConfig { cache_bytes: 1 << 20, quota_bytes: None, reserve_bytes: 1 << 20 };
        match Store::open(&home.join("store"), config) {
            Err(StoreError::InUse { .. }) if start.elapsed().as_secs() < 30 => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Stores chunks until one is refused; what was stored, and why not more.
fn fill(store: &Store, len: usize, limit: usize) -> (Vec<Cid>, Option<StoreError>) {
    let (mut rng, mut stored) = (Rng::new(1, len as u64), Vec::new());
    while stored.len() < limit {
        let bytes = rng.bytes(len);
        let cid = Cid::of(&bytes);
        match store.put_chunk(&cid, &bytes) {
            Ok(_) => stored.push(cid),
            Err(error) => return (stored, Some(error)),
        }
    }
    (stored, None)
}

#[test]
fn a_full_disk_is_said_and_nothing_half_written_stays() {
    let Some(image) = image(16) else { return };
    let home = image.path();
    let store = open(&home);
    let (mut log, _) = Log::open(&home.join("log"), LogConfig::default()).unwrap();
    log.append(b"first").unwrap();
    log.sync().unwrap();
    let (stored, refused) = fill(&store, 200_000, usize::MAX);
    let refused = refused.unwrap();
    assert!(
        matches!(refused, StoreError::Space { .. }) && refused.to_string().contains("Free some space"),
        "{refused}"
    );
    // The last bytes go to somebody else: now the writes themselves fail.
    let mut filler = fs::File::create(home.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    let full = loop {
        if let Err(error) = log.append(&[7; 4096]).and_then(|_| log.sync()) {
            break error;
        }
    };
    assert!(full.to_string().contains("The disk is full"), "{full}");
    assert!(matches!(log.append(b"x"), Err(StoreError::LogStopped { .. })), "unknown what is on disk: it stops");
    assert!(store.put_manifest(b"a manifest").is_err());
    assert!(fill(&store, 100, 1).1.is_some());
    for folder in fs::read_dir(home.join("store/temp")).unwrap() {
        assert_eq!(fs::read_dir(folder.unwrap().path()).unwrap().count(), 0, "a temporary file stays");
    }
    assert_eq!(audit(&home.join("store")).unwrap().chunks, stored.len() as u64);

    drop(filler);
    fs::remove_file(home.join("filler")).unwrap();
    // The index stops for good when a write of its own fails, as its message says; the next start rebuilds it.
    drop(store);
    let store = open(&home);
    let (log, _) = Log::open(&home.join("log"), LogConfig::default()).unwrap();
    assert_eq!(log.get(0).unwrap().unwrap(), b"first");
    let (go, stay) = stored.split_at(5);
    assert!(go.iter().all(|cid| store.delete_chunk(cid).unwrap()));
    assert_eq!(fill(&store, 100_000, 1).0.len(), 1);
    for cid in stay {
        assert!(store.chunk(cid).unwrap().is_some());
    }
}

#[test]
fn a_disk_that_fails_is_an_error_and_keeps_what_was_acknowledged() {
    let Some(mut image) = image(32) else { return };
    let home = image.path();
    let (stored, said) = {
        let store = open(&home);
        let (mut log, _) = Log::open(&home.join("log"), LogConfig::default()).unwrap();
        let (stored, none) = fill(&store, 50_000, 10);
        assert!(none.is_none());
        log.append(b"first").unwrap();
        log.sync().unwrap();
        image.switch(false).unwrap().cut().unwrap();
        let said = fill(&store, 40_000, 1).1.unwrap();
        let failed = log.append(b"second").and_then(|_| log.sync()).unwrap_err();
        assert!(matches!(failed, StoreError::Io { .. }), "{failed}");
        assert!(matches!(log.sync(), Err(StoreError::LogStopped { .. })));
        (stored, said.to_string())
    };
    assert!(said.contains("look at the system's log"), "{said}");
    image.power_on().unwrap();
    let store = open(&home);
    for cid in &stored {
        assert!(store.chunk(cid).unwrap().is_some());
    }
    let (log, _) = Log::open(&home.join("log"), LogConfig::default()).unwrap();
    assert_eq!(log.get(0).unwrap().unwrap(), b"first");
}

/// A paragraph, no panic.
#[track_caller]
fn refused(ran: &Ran, word: &str) {
    assert_eq!(ran.code, STORAGE, "{ran:?}");
    assert!(ran.stderr.contains(word) && !ran.stderr.contains("panicked"), "'{word}' is not in: {}", ran.stderr);
}

#[test]
fn a_read_only_home_is_said() {
    let Some(image) = image(64) else { return };
    let home = image.path().join("node");
    let mut node = Daemon::up(&home, &[]).unwrap();
    node.terminate().unwrap();
    image.read_only().unwrap();
    let said = Store::open(&home.join("store"), StoreConfig::default()).err().unwrap();
    assert!(said.to_string().contains("mounted read-only"), "{said}");
    refused(&run(&home, &["up"]).unwrap(), "read-only");
}

#[test]
fn a_node_on_a_full_disk_refuses_models_and_goes_on() {
    let Some(image) = image(96) else { return };
    let node = Daemon::up(&image.path().join("node"), &[]).unwrap();
    let publish = |n: u64| {
        let file = model::write(image.beside(), n, 16 << 20).unwrap();
        node.run(&["publish", file.to_str().unwrap(), "--name", "acme/m", "--replicas", "0", "--json"]).unwrap()
    };
    let full = (0..10).map(publish).find(|ran| ran.code != 0).expect("ten models of 16 MiB do not fit 96 MiB");
    refused(&full, "nearly full");
    let verified = node.json(&["store", "verify"]).unwrap();
    assert_eq!((&verified["damaged"], &verified["missing"]), (&0.into(), &0.into()));
    assert_eq!(node.json(&["store", "stats"]).unwrap()["unneeded_chunks"], 0, "what was brought for nothing is gone");
    node.json(&["store", "drop", "acme/m@1", "--stop-serving"]).unwrap();
    node.json(&["store", "gc"]).unwrap();
    let again = publish(20);
    assert_eq!(again.code, 0, "{again:?}");
}

#[test]
fn a_node_with_64_file_descriptors_publishes_or_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("node");
    // Made with enough of them, so that what is seen is a running node's want.
    let mut node = Daemon::up(&home, &[]).unwrap();
    node.terminate().unwrap();
    let log = fs::File::create(dir.path().join("few.log")).unwrap();
    let mut few = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(zero2ai().unwrap())
        .arg("--home")
        .arg(&home)
        .arg("up")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    while run(&home, &["status"]).unwrap().code != 0 {
        assert!(few.try_wait().unwrap().is_none(), "{}", fs::read_to_string(dir.path().join("few.log")).unwrap());
        assert!(start.elapsed().as_secs() < 30, "it does not answer");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let file = model::write(dir.path(), 1, 8 << 20).unwrap();
    for _ in 0..4 {
        let ran = run(&home, &["publish", file.to_str().unwrap(), "--name", "acme/m", "--replicas", "0"]).unwrap();
        assert!(ran.code == 0 || ran.stderr.contains("open files") || ran.stderr.contains("Too many"), "{ran:?}");
    }
    let alive = run(&home, &["store", "verify", "--json"]).unwrap();
    assert_eq!(alive.json().unwrap()["damaged"], 0);
    few.kill().unwrap();
    few.wait().unwrap();
    let log = fs::read_to_string(dir.path().join("few.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
