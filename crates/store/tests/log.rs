//! The record log: what survives a crash, what is cut, and what is reported.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use proptest::prelude::*;
use tempfile::tempdir;
use zero2ai_store::{Log, LogConfig, StoreError};

const SMALL: LogConfig = LogConfig { segment_bytes: 200, record_bytes: 1000 };

fn open(dir: &Path) -> Log {
    Log::open(dir, SMALL).unwrap().0
}

fn all(log: &Log) -> Vec<Vec<u8>> {
    log.iter_from(0).map(Result::unwrap).collect()
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A log of one segment whose records are each synced (or not, as `sync` says), and the end of each.
fn one_segment(dir: &Path, records: &[&[u8]], sync: bool) -> Vec<u64> {
    let config = LogConfig { segment_bytes: 1 << 20, ..SMALL };
    let mut log = Log::open(dir, config).unwrap().0;
    let mut ends = vec![16];
    for record in records {
        log.append(record).unwrap();
        if sync {
            log.sync().unwrap();
        }
        ends.push(fs::metadata(&segments(dir)[0]).unwrap().len());
    }
    ends
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_offset() {
    let records: [&[u8]; 4] = [b"one", b"", b"three and more", b"4"];
    let made = tempdir().unwrap();
    let ends = one_segment(made.path(), &records, true);
    let name = segments(made.path())[0].file_name().unwrap().to_owned();
    let whole = fs::read(&segments(made.path())[0]).unwrap();
    for cut in 16..=whole.len() {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join(&name), &whole[..cut]).unwrap();
        let (mut log, report) = Log::open(dir.path(), SMALL).unwrap();
        let complete = ends[1..].iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(all(&log), records[..complete], "cut at {cut}");
        assert_eq!(report.records, complete as u64);
        assert_eq!(report.cut_bytes, cut as u64 - ends[complete]);
        // The log goes on where it was cut.
        assert_eq!(log.append(b"next").unwrap(), complete as u64);
        log.sync().unwrap();
        drop(log);
        assert_eq!(all(&open(dir.path())).last().unwrap(), b"next");
    }
}

#[test]
fn damage_to_a_synced_record_names_it_and_changes_nothing() {
    let made = tempdir().unwrap();
    let ends = one_segment(made.path(), &[b"one", b"two, longer", b"three"], true);
    let path = segments(made.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    for at in 0..ends[2] as usize {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let expected = ends[1..].iter().filter(|&&end| end <= at as u64).count() as u64;
        match Log::open(made.path(), SMALL) {
            Err(StoreError::LogDamaged { record, .. }) => assert_eq!(record, expected, "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn what_was_never_synced_may_be_torn_in_the_middle() {
    let made = tempdir().unwrap();
    let ends = one_segment(made.path(), &[b"one", b"two", b"three"], false);
    let path = segments(made.path())[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    // A power cut may keep the last page and lose the one before it.
    bytes[ends[1] as usize + 5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (log, report) = Log::open(made.path(), SMALL).unwrap();
    assert_eq!(all(&log), [b"one"]);
    assert!(report.cut_bytes > 0);
}

#[test]
fn a_flipped_byte_in_an_earlier_segment_or_a_missing_one_is_damage() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path());
    for n in 0..50u8 {
        log.append(&[n; 20]).unwrap();
    }
    log.sync().unwrap();
    let paths = segments(dir.path());
    assert!(paths.len() > 3);
    let good = fs::read(&paths[1]).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&paths[1], &bad).unwrap();
    // Found while running, too.
    assert!((0..50).any(|n| matches!(log.get(n), Err(StoreError::LogDamaged { .. }))));
    drop(log);
    assert!(matches!(Log::open(dir.path(), SMALL), Err(StoreError::LogDamaged { .. })));
    fs::remove_file(&paths[1]).unwrap();
    assert!(matches!(Log::open(dir.path(), SMALL), Err(StoreError::LogDamaged { .. })));
    fs::write(&paths[1], good).unwrap();
    assert_eq!(open(dir.path()).len(), 50);
}

#[test]
fn reset_starts_again_and_leaves_one_segment() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path());
    for n in 0..50u8 {
        log.append(&[n; 20]).unwrap();
    }
    log.reset().unwrap();
    assert!(log.is_empty());
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(log.append(b"after").unwrap(), 0);
    log.sync().unwrap();
    drop(log);
    assert_eq!(all(&open(dir.path())), [b"after"]);
}

#[test]
fn too_long_a_record_is_refused_and_the_log_goes_on() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path());
    assert!(matches!(log.append(&[0; 1001]), Err(StoreError::TooLarge { .. })));
    assert_eq!(log.append(&[0; 1000]).unwrap(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_log_reads_back_what_was_written(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40),
        keep in 0u64..50,
    ) {
        let dir = tempdir().unwrap();
        let mut log = open(dir.path());
        for (n, record) in records.iter().enumerate() {
            prop_assert_eq!(log.append(record).unwrap(), n as u64);
        }
        drop(log);
        let mut log = open(dir.path());
        prop_assert_eq!(&all(&log), &records);
        log.truncate(keep).unwrap();
        prop_assert_eq!(&all(&log)[..], &records[..records.len().min(keep as usize)]);
        log.append(b"x").unwrap();
        drop(log);
        prop_assert_eq!(open(dir.path()).len(), (records.len() as u64).min(keep) + 1);
    }

    #[test]
    fn no_damage_makes_it_panic_or_invent_records(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
    ) {
        let dir = tempdir().unwrap();
        one_segment(dir.path(), &[b"one", b"two two", b"three", b"four"], true);
        let path = segments(dir.path())[0].clone();
        let mut bytes = fs::read(&path).unwrap();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        fs::write(&path, bytes).unwrap();
        if let Ok((log, _)) = Log::open(dir.path(), SMALL) {
            let expected: [&[u8]; 4] = [b"one", b"two two", b"three", b"four"];
            prop_assert_eq!(all(&log), &expected[..log.len() as usize]);
        }
    }
}

#[test]
fn damage_is_told_from_a_torn_tail_across_the_windows_of_the_search() {
    let big = LogConfig { segment_bytes: 16 << 20, record_bytes: 4 << 20 };
    for between in [0usize, 1, 15, 16, 17] {
        let dir = tempdir().unwrap();
        let (mut log, _) = Log::open(dir.path(), big).unwrap();
        // The record behind the broken one starts near the end of the first window of 1 MiB.
        log.append(&vec![7; (1 << 20) - 24 + between]).unwrap();
        log.sync().unwrap();
        log.append(b"after a sync").unwrap();
        drop(log);
        let path = segments(dir.path())[0].clone();
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[40] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(Log::open(dir.path(), big), Err(StoreError::LogDamaged { record: 0, .. })), "{between}");
        // Without what stands behind it, the same damage is a torn tail.
        fs::write(&path, &bad[..bad.len() - 1]).unwrap();
        let (log, report) = Log::open(dir.path(), big).unwrap();
        assert!(log.is_empty() && report.cut_bytes > 1 << 20, "{between}");
    }
}
