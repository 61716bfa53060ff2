//! Chunks, manifests, the index, the lock and key files, in real folders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::tempdir;
use zero2ai_proto::{Cid, ManifestId, limits::CHUNK_BYTES};
use zero2ai_store::{Change, KeyValue, Stats, Store, StoreConfig, StoreError, atomic_write, secret_file};

fn open(home: &Path) -> Store {
    Store::open(home, StoreConfig { cache_bytes: 1 << 20, quota_bytes: None, ..StoreConfig::default() }).unwrap()
}

/// Files in `dir` and in the folders within it.
fn files_in(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

fn chunk_file(home: &Path, cid: &Cid) -> std::path::PathBuf {
    let name = cid.to_string();
    home.join("chunks").join(&name[..2]).join(name)
}

#[test]
fn chunks_survive_reopening_and_are_counted_once() {
    let home = tempdir().unwrap();
    let cid = Cid::of(b"first");
    {
        let store = open(home.path());
        assert!(store.put_chunk(&cid, b"first").unwrap());
        assert!(!store.put_chunk(&cid, b"first").unwrap());
        assert_eq!(store.stats(), Stats { chunks: 1, bytes: 5 });
    }
    let store = open(home.path());
    assert!(!store.open_report().rebuilt);
    assert_eq!(store.chunk(&cid).unwrap().unwrap(), b"first");
    assert_eq!(store.stats(), Stats { chunks: 1, bytes: 5 });
    assert!(store.delete_chunk(&cid).unwrap());
    assert!(!store.delete_chunk(&cid).unwrap());
    assert_eq!(store.chunk(&cid).unwrap(), None);
    assert_eq!(store.stats(), Stats::default());
}

#[test]
fn a_walk_in_pages_sees_every_chunk_once_even_while_they_are_deleted() {
    let home = tempdir().unwrap();
    let store = open(home.path());
    let mut all: Vec<(Cid, u32)> = (0..25u8).map(|n| (Cid::of(&vec![n; 1 + n as usize]), 1 + u32::from(n))).collect();
    for n in 0..25u8 {
        let bytes = vec![n; 1 + n as usize];
        store.put_chunk(&Cid::of(&bytes), &bytes).unwrap();
    }
    all.sort_unstable();
    for size in [1, 7, 25, 26] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.chunk_ids(after.as_ref(), size).unwrap();
            assert!(page.len() <= size);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            seen.extend(page);
        }
        assert_eq!(seen, all, "pages of {size}");
    }
    let mut after = None;
    while let Some((cid, _)) = store.chunk_ids(after.as_ref(), 1).unwrap().pop() {
        assert!(store.delete_chunk(&cid).unwrap());
        after = Some(cid);
    }
    assert_eq!(store.stats(), Stats::default());
    assert_eq!(store.quota(), None);
}

#[test]
fn writers_side_by_side_stay_within_the_quota() {
    const LEN: usize = 100_000;
    let home = tempfile::tempdir().unwrap();
    let quota_bytes = Some(5 * LEN as u64 + 7);
    let config = StoreConfig { cache_bytes: 1 << 20, quota_bytes, ..StoreConfig::default() };
    let store = Store::open(home.path(), config).unwrap();
    for round in 0..20u8 {
        let chunks: Vec<Vec<u8>> = (0..8).map(|n| vec![round * 8 + n; LEN]).collect();
        let stored: usize = std::thread::scope(|threads| {
            let write = |chunk: &Vec<u8>| usize::from(store.put_arriving(&Cid::of(chunk), chunk).is_ok());
            let writers: Vec<_> = chunks.iter().map(|chunk| threads.spawn(move || write(chunk))).collect();
            writers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert!(stored <= 5 && store.used() == (stored * LEN) as u64, "{stored} stored, {} bytes", store.used());
        for chunk in &chunks {
            store.delete_chunk(&Cid::of(chunk)).unwrap();
        }
        assert_eq!(store.used(), 0);
    }
}

#[test]
fn wrong_hashes_lengths_and_quotas_are_refused() {
    let home = tempdir().unwrap();
    let store =
        Store::open(home.path(), StoreConfig { cache_bytes: 1 << 20, quota_bytes: Some(10), ..StoreConfig::default() })
            .unwrap();
    let wrong = store.put_chunk(&Cid::of(b"a"), b"b").unwrap_err();
    assert!(matches!(wrong, StoreError::WrongHash { .. }), "{wrong}");
    assert!(matches!(store.put_chunk(&Cid::of(b""), b""), Err(StoreError::TooLarge { .. })));
    let long = vec![0; CHUNK_BYTES + 17];
    assert!(matches!(store.put_chunk(&Cid::of(&long), &long), Err(StoreError::TooLarge { .. })));
    store.put_chunk(&Cid::of(b"12345678"), b"12345678").unwrap();
    let full = store.put_chunk(&Cid::of(b"90a"), b"90a").unwrap_err();
    assert!(matches!(full, StoreError::Quota { needed: 3, used: 8, quota: 10 }), "{full}");
    // Manifests count, each once, and give their room back.
    let id = store.put_manifest(b"m1").unwrap();
    assert_eq!(store.put_manifest(b"m1").unwrap(), id);
    assert!(matches!(store.put_manifest(b"n"), Err(StoreError::Quota { needed: 1, used: 10, quota: 10 })));
    assert!(matches!(store.put_chunk(&Cid::of(b"9"), b"9"), Err(StoreError::Quota { used: 10, .. })));
    drop(store);
    let config = StoreConfig { cache_bytes: 1 << 20, quota_bytes: Some(10), ..StoreConfig::default() };
    let store = Store::open(home.path(), config).unwrap();
    assert!(store.put_chunk(&Cid::of(b"9"), b"9").is_err(), "they are counted at open");
    assert!(store.delete_manifest(&id).unwrap() && !store.delete_manifest(&id).unwrap());
    store.put_chunk(&Cid::of(b"90"), b"90").unwrap();
    assert_eq!(files_in(&home.path().join("temp")), 0);
}

#[test]
fn every_flipped_byte_of_a_chunk_is_detected() {
    let home = tempdir().unwrap();
    let store = open(home.path());
    let bytes = b"some ciphertext";
    let cid = Cid::of(bytes);
    store.put_chunk(&cid, bytes).unwrap();
    let path = chunk_file(home.path(), &cid);
    for at in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(matches!(store.chunk(&cid), Err(StoreError::Corrupt { cid: c }) if c == cid));
    }
    fs::write(&path, vec![0; CHUNK_BYTES + 17]).unwrap();
    assert!(matches!(store.chunk(&cid), Err(StoreError::Corrupt { .. })));
    store.delete_chunk(&cid).unwrap();
    assert!(store.put_chunk(&cid, bytes).unwrap());
    assert_eq!(store.chunk(&cid).unwrap().unwrap(), bytes);
}

#[test]
fn a_second_store_on_the_same_home_is_refused() {
    let home = tempdir().unwrap();
    let store = open(home.path());
    let tree = store.tree("t").unwrap();
    let second = Store::open(home.path(), StoreConfig::default()).err().unwrap();
    assert!(matches!(second, StoreError::InUse { .. }));
    assert!(second.to_string().contains("in use by a running node"));
    drop(store);
    assert!(Store::open(home.path(), StoreConfig::default()).is_err(), "a tree still holds the home");
    drop(tree);
    open(home.path());
}

#[test]
fn a_crash_at_any_step_of_a_write_leaves_the_old_state_or_the_new_one() {
    let home = tempdir().unwrap();
    let (kept, renamed) = (Cid::of(b"kept"), Cid::of(b"renamed"));
    open(home.path()).put_chunk(&kept, b"kept").unwrap();
    // Died while writing the temporary file; died between rename and index row.
    fs::write(home.path().join("temp/.1-2.tmp"), b"half of").unwrap();
    let path = chunk_file(home.path(), &renamed);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"renamed").unwrap();
    // A process that is killed never says that it stopped cleanly.
    fs::remove_file(home.path().join("clean")).unwrap();

    let store = open(home.path());
    assert_eq!(store.open_report().temp_files, 1);
    assert!(store.open_report().rebuilt);
    assert_eq!(store.stats(), Stats { chunks: 2, bytes: 11 });
    assert_eq!(store.chunk(&kept).unwrap().unwrap(), b"kept");
    assert_eq!(store.chunk(&renamed).unwrap().unwrap(), b"renamed");
    assert_eq!(files_in(&home.path().join("temp")), 0);
}

#[test]
fn a_file_removed_under_us_is_forgotten() {
    let home = tempdir().unwrap();
    let store = open(home.path());
    let cid = Cid::of(b"x");
    store.put_chunk(&cid, b"x").unwrap();
    fs::remove_file(chunk_file(home.path(), &cid)).unwrap();
    assert_eq!(store.chunk(&cid).unwrap(), None);
    assert!(!store.has_chunk(&cid).unwrap());
    assert_eq!(store.stats(), Stats::default());
}

#[test]
fn a_broken_index_is_set_aside_and_rebuilt() {
    for damage in 0..4u8 {
        let home = tempdir().unwrap();
        let cids: Vec<Cid> = (0..20u8).map(|n| Cid::of(&[n])).collect();
        {
            let store = open(home.path());
            for (n, cid) in cids.iter().enumerate() {
                store.put_chunk(cid, &[n as u8]).unwrap();
            }
            store.tree("other").unwrap().put(b"k", b"v").unwrap();
        }
        let db = home.path().join("index/db");
        let mut bytes = fs::read(&db).unwrap();
        match damage {
            0 => bytes.fill(0x5a),
            1 => bytes.truncate(100),
            2 => fs::write(home.path().join("index/conf"), b"garbage").unwrap(),
            _ => bytes.iter_mut().step_by(97).for_each(|b| *b ^= 0xff),
        }
        fs::write(&db, bytes).unwrap();
        let store = open(home.path());
        for cid in &cids {
            assert!(store.has_chunk(cid).unwrap(), "damage {damage}: {:?}", store.open_report());
            assert!(store.chunk(cid).unwrap().is_some());
        }
        // A damaged settings file alone loses nothing.
        assert!(store.open_report().rebuilt || damage == 2, "damage {damage}");
        assert_eq!(store.stats(), Stats { chunks: 20, bytes: 20 });
    }
}

#[test]
fn manifests_are_kept_by_their_hash() {
    let home = tempdir().unwrap();
    let store = open(home.path());
    let id = store.put_manifest(b"sealed").unwrap();
    assert_eq!(id, ManifestId::of(b"sealed"));
    assert_eq!(store.put_manifest(b"sealed").unwrap(), id);
    assert_eq!(store.manifest(&id).unwrap().unwrap(), b"sealed");
    let piece = |id, offset, most| store.manifest_piece(id, offset, most).unwrap();
    let pieces: Vec<_> = [0, 4, 6, 99].iter().map(|at| piece(&id, *at, 4).unwrap()).collect();
    assert_eq!(pieces, [&b"seal"[..], b"ed", b"", b""]);
    assert_eq!(piece(&ManifestId([9; 32]), 0, 4), None);
    assert_eq!(store.manifests().unwrap(), [id]);
    fs::write(home.path().join("manifests").join(id.to_string()), b"sealex").unwrap();
    assert!(matches!(store.manifest(&id), Err(StoreError::Damaged { .. })));
    assert!(store.delete_manifest(&id).unwrap());
    assert_eq!(store.manifest(&id).unwrap(), None);
}

#[test]
fn a_tree_is_an_ordered_map_with_atomic_batches() {
    let home = tempdir().unwrap();
    {
        let tree = open(home.path()).tree("names").unwrap();
        let put = |k: &str, v: &str| Change::Put(k.into(), v.into());
        tree.apply(vec![put("a/1", "x"), put("a/3", "y"), put("b/1", "z"), put("a/2", "gone")]).unwrap();
        tree.apply(vec![Change::Delete(b"a/2".to_vec())]).unwrap();
        let too_long = Change::Put(b"k".to_vec(), vec![0; zero2ai_store::tree::VALUE_BYTES + 1]);
        assert!(tree.apply(vec![put("c", "not kept"), too_long]).is_err());
        tree.flush().unwrap();
    }
    let tree = open(home.path()).tree("names").unwrap();
    assert_eq!(tree.get(b"c").unwrap(), None);
    assert_eq!(tree.scan_prefix(b"a/").unwrap(), [(b"a/1".to_vec(), b"x".to_vec()), (b"a/3".to_vec(), b"y".to_vec())]);
    assert_eq!(tree.scan(b"", b"a/2", 1).unwrap(), [(b"a/3".to_vec(), b"y".to_vec())]);
    assert_eq!(tree.last(b"a/", b"a/2").unwrap().unwrap().1, b"x");
    assert_eq!(tree.last(b"b/", b"a/9").unwrap(), None);
    tree.clear().unwrap();
    assert_eq!(tree.scan_prefix(b"").unwrap(), []);
}

#[test]
fn key_files_are_private_and_replaced_whole() {
    let home = tempdir().unwrap();
    let path = home.path().join("keys/node.key");
    secret_file::write(&path, b"secret").unwrap();
    secret_file::write(&path, b"rotated").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(secret_file::read(&path, 32).unwrap().as_slice(), b"rotated");
    assert!(matches!(secret_file::read(&path, 6), Err(StoreError::Damaged { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = secret_file::read(&path, 32).unwrap_err();
    assert!(matches!(exposed, StoreError::Exposed { mode: 0o640, .. }));
    assert!(exposed.to_string().contains("chmod 600"), "{exposed}");
    assert_eq!(fs::read_dir(home.path().join("keys")).unwrap().count(), 1);
}

#[test]
fn a_write_that_fails_says_what_to_do_and_leaves_nothing() {
    let home = tempdir().unwrap();
    fs::write(home.path().join("file"), b"").unwrap();
    let not_a_folder = atomic_write(&home.path().join("file/inside"), b"x").unwrap_err();
    assert!(not_a_folder.to_string().contains("Something else stands"), "{not_a_folder}");
    let target = home.path().join("target");
    fs::create_dir(&target).unwrap();
    assert!(atomic_write(&target, b"x").is_err());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "the temporary file is gone");
}

#[test]
fn a_rebuild_makes_the_index_say_what_the_files_say() {
    let home = tempdir().unwrap();
    let store = open(home.path());
    let [kept, lost, brought] = [&b"kept"[..], b"lost", b"brought"].map(Cid::of);
    store.put_chunk(&kept, b"kept").unwrap();
    store.put_chunk(&lost, b"lost").unwrap();
    fs::remove_file(chunk_file(home.path(), &lost)).unwrap();
    let path = chunk_file(home.path(), &brought);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"brought").unwrap();
    let mut words = Vec::new();
    let rebuilt = store.rebuild(|done, total| words.push((done, total))).unwrap();
    assert_eq!((rebuilt.chunks, rebuilt.bytes, rebuilt.added, rebuilt.removed), (2, 11, 1, 1));
    assert_eq!(store.stats(), Stats { chunks: 2, bytes: 11 });
    assert!(store.has_chunk(&brought).unwrap() && !store.has_chunk(&lost).unwrap());
    assert!(words.len() >= 2 && words[0].0 == 0, "{words:?}");
    // A file that grew is damaged, and counted as what it takes.
    fs::write(&path, b"brought and more").unwrap();
    let again = store.rebuild(|_, _| ()).unwrap();
    assert_eq!((again.corrected, again.added, again.bytes), (1, 0, 20));
    assert!(matches!(store.chunk(&brought), Err(StoreError::Corrupt { .. })));
    drop(store);
    assert!(!open(home.path()).open_report().rebuilt, "the figures agree with the rows");
}

#[test]
fn what_others_left_among_the_chunks_keeps_no_node_from_starting() {
    let home = tempdir().unwrap();
    let cid = Cid::of(b"mine");
    open(home.path()).put_chunk(&cid, b"mine").unwrap();
    let stray = Cid::of(b"stray").to_string();
    let other = if stray.starts_with("00") { "01" } else { "00" };
    fs::write(home.path().join("chunks/.DS_Store"), b"x").unwrap();
    fs::create_dir_all(home.path().join("chunks").join(other)).unwrap();
    fs::write(home.path().join("chunks").join(other).join(&stray), b"stray").unwrap();
    fs::remove_file(home.path().join("clean")).unwrap();
    let store = open(home.path());
    assert!(store.open_report().rebuilt);
    assert_eq!(store.stats(), Stats { chunks: 1, bytes: 4 });
}

#[test]
fn the_use_of_a_manifest_is_remembered() {
    let home = tempdir().unwrap();
    let id = {
        let store = open(home.path());
        let id = store.put_manifest(b"sealed").unwrap();
        store.put_chunk(&Cid::of(b"c"), b"c").unwrap();
        assert_eq!((store.used(), store.stats().bytes), (7, 1));
        id
    };
    let path = home.path().join("manifests").join(id.to_string());
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    let store = open(home.path());
    assert_eq!(store.last_used(&id).unwrap(), Some(old));
    store.mark_used(&id).unwrap();
    assert!(store.last_used(&id).unwrap().unwrap() > old);
    assert_eq!(store.manifest(&id).unwrap().unwrap(), b"sealed");
    let gone = ManifestId::of(b"gone");
    store.mark_used(&gone).unwrap();
    assert_eq!(store.last_used(&gone).unwrap(), None);
}
