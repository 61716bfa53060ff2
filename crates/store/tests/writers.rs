//! Chunks stored side by side: all of them durable at the end, and an error told with what was stored before it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tempfile::tempdir;
use zero2ai_proto::Cid;
use zero2ai_store::{Store, StoreConfig, StoreError, Writers};

fn chunk(n: u32) -> (Cid, Vec<u8>) {
    let bytes = n.to_le_bytes().repeat(1000);
    (Cid::of(&bytes), bytes)
}

#[test]
fn everything_handed_on_is_stored() {
    let home = tempdir().unwrap();
    let store = Store::open(home.path(), StoreConfig::default()).unwrap();
    let (cid, bytes) = chunk(0);
    store.put_chunk(&cid, &bytes).unwrap();
    let writers = Writers::start(&store).unwrap();
    for n in 0..200 {
        let (cid, bytes) = chunk(n);
        writers.put(cid, bytes).unwrap();
    }
    let (written, result) = writers.finish();
    result.unwrap();
    assert_eq!((written.fresh.len(), written.reused), (199, 1));
    for n in 0..200 {
        let (cid, bytes) = chunk(n);
        assert_eq!(store.chunk(&cid).unwrap().unwrap(), bytes);
    }
}

#[test]
fn an_error_stops_the_rest_and_what_was_stored_is_told() {
    let home = tempdir().unwrap();
    let store = Store::open(home.path(), StoreConfig::default()).unwrap();
    let writers = Writers::start(&store).unwrap();
    let (cid, _) = chunk(1);
    // Every writer could fail on one of these; more than may wait are offered, so that a stuck queue would hang here.
    let mut refused = false;
    for n in 0..500 {
        let (good, bytes) = chunk(n);
        let name = if n % 2 == 0 { good } else { cid };
        refused |= writers.put(name, if n % 2 == 0 { bytes } else { vec![0; 10] }).is_err();
    }
    let (written, result) = writers.finish();
    assert!(refused);
    assert!(matches!(result, Err(StoreError::WrongHash { .. })), "{result:?}");
    for cid in &written.fresh {
        assert!(store.has_chunk(cid).unwrap());
    }
    assert_eq!(store.stats().chunks, written.fresh.len() as u64);
}
