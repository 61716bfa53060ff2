//! Any byte of the past that is altered on disk is found, and the place named: single bytes of every file, and records that
//! were written anew with checksums that hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use zero2ai_chain::{
    BlockSource, Chain, ChainConfig, ChainNet, ChainTopic,
    history::{self, Folders, Report},
};
use zero2ai_ledger::ReceiptLog;
use zero2ai_proto::{
    ByteBuf, ManifestId, NodeId, PoolId, SealingKey, SecretKey, Signed,
    block::{Block, Header, Vote, VoteKind},
    calls::SealedBlock,
    decode, encode,
    pool::{Genesis, Nonce},
    receipt::{Receipt, Request, Response, Status, commit, request_hash},
    state::{Signer, SignerSet},
    tx::{Anchor, ClaimHandle, Tx, TxBody},
};
use zero2ai_store::{Log, LogConfig};

/// Bytes flipped in each file.
const FLIPS: u32 = if cfg!(debug_assertions) { 20 } else { 100 };

struct Nobody;

impl ChainNet for Nobody {
    fn broadcast(&self, _: ChainTopic, _: Vec<u8>) {}
}

impl BlockSource for Nobody {
    fn blocks(&self, _: Option<NodeId>, _: u64, _: u32) -> BoxFuture<'_, Result<Vec<SealedBlock>, String>> {
        Box::pin(async { Err("nobody there".to_owned()) })
    }
}

fn receipt(pool: &PoolId, provider: &SecretKey, n: u8) -> Receipt {
    let request = Request {
        provider: provider.public(),
        name: "lab/m".parse().unwrap(),
        version: 1,
        manifest: ManifestId([1; 32]),
        commitment: commit(&[n; 32], b"input"),
        nonce: Nonce([n; 16]),
        time_ms: 1_700_000_000_000,
        deadline_ms: 1_700_000_001_000,
        price_cap: 0,
        parent: None,
    };
    let request = Signed::sign(&request, pool, &SecretKey::from_bytes(&[9; 32])).unwrap();
    let response = Response {
        request: request_hash(&request).unwrap(),
        commitment: commit(&[n; 32], b"output"),
        units: 1,
        status: Status::Complete,
        time_ms: 1_700_000_000_005,
    };
    Receipt { request, response: Signed::sign(&response, pool, provider).unwrap() }
}

fn genesis(nonce: u8) -> Vec<u8> {
    let admin = SecretKey::from_bytes(&[1; 32]).public();
    let genesis = Genesis {
        version: 1,
        created_ms: 1_700_000_000_000,
        nonce: Nonce([nonce; 16]),
        admin,
        admin_sealing: SealingKey([1; 32]),
        signers: SignerSet::new(vec![Signer { key: admin, power: 1 }]).unwrap(),
        rules_version: 1,
    };
    encode(&genesis).unwrap()
}

fn verify(home: &Path) -> Report {
    let provider = SecretKey::from_bytes(&[1; 32]).public();
    history::verify(&Folders { chain: home.join("chain"), receipts: home.join("receipts"), provider }, &genesis(1))
}

/// A home whose node signed some blocks and gave seven receipts, of which two anchors cover five. It is stopped.
async fn home() -> TempDir {
    let dir = TempDir::new().unwrap();
    let (key, genesis) = (SecretKey::from_bytes(&[1; 32]), genesis(1));
    let pool = PoolId::of(&genesis);
    let (mut log, _) = Log::open(&dir.path().join("receipts"), LogConfig::default()).unwrap();
    let mut tree = ReceiptLog::new();
    let opened = Chain::open(ChainConfig::new(dir.path().join("chain"), key.clone(), genesis)).await;
    let stop = CancellationToken::new();
    let running = opened.unwrap().run(Arc::new(Nobody), Arc::new(Nobody), stop.clone());
    let mut bodies = vec![TxBody::ClaimHandle(ClaimHandle { handle: "lab".into() })];
    for (seq, count) in [(1, 2), (2, 3)] {
        let before = tree.size();
        for _ in 0..count {
            let leaf = encode(&receipt(&pool, &key, u8::try_from(tree.size()).unwrap())).unwrap();
            log.append(&leaf).unwrap();
            tree.push(&leaf);
        }
        let consistency = if before == 0 { Vec::new() } else { tree.consistency(before, tree.size()).unwrap() };
        bodies.push(TxBody::Anchor(Anchor { seq, size: tree.size(), root: tree.root(), consistency }));
    }
    for n in 5..7 {
        log.append(&encode(&receipt(&pool, &key, n)).unwrap()).unwrap();
    }
    log.sync().unwrap();
    for (nonce, body) in (0..).zip(bodies) {
        let tx = Signed::sign(&Tx { nonce, body }, &pool, &key).unwrap();
        running.handle.submit_and_wait(tx, Duration::from_secs(60)).await.unwrap();
    }
    stop.cancel();
    drop(running.handle);
    running.task.await.unwrap().unwrap();
    dir
}

/// The only file of a log.
fn segment(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "log"));
    assert_eq!(files.len(), 1);
    files.remove(0)
}

fn places(report: &Report) -> Vec<&str> {
    report.faults.iter().map(|f| f.place.as_str()).collect()
}

fn rng(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untouched_home_holds_and_says_how_far() {
    let dir = home().await;
    let report = verify(dir.path());
    assert_eq!(report.faults, vec![]);
    assert!(report.height >= 4 && report.signatures == report.height, "{report:?}");
    assert_eq!((report.txs, report.receipts, report.anchored), (3, 7, 5));
    // Another pool's genesis is another truth.
    let provider = SecretKey::from_bytes(&[1; 32]).public();
    let folders = Folders { chain: dir.path().join("chain"), receipts: dir.path().join("receipts"), provider };
    let report = history::verify(&folders, &genesis(2));
    assert!(places(&report).contains(&"block 1") && report.height == 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_of_any_file_is_named() {
    let dir = home().await;
    let (path, mut rng) = (dir.path(), rng(1));
    let head = verify(path).height;
    let files =
        [segment(&path.join("chain/blocks")), segment(&path.join("chain/wal")), segment(&path.join("receipts"))];
    for file in files.into_iter().chain([path.join("chain/signed")]) {
        let good = fs::read(&file).unwrap();
        let mut named = 0;
        for _ in 0..FLIPS {
            let at = rng.random_range(0..good.len());
            let mut bad = good.clone();
            bad[at] ^= 1 << (rng.random_range(0..8u32));
            fs::write(&file, &bad).unwrap();
            let told = places(&verify(path)).iter().any(|p| !p.is_empty());
            named += u32::from(told);
            // No history: the mark says which height was signed last, so that it is not signed otherwise. An altered one that
            // still names a decided height, or the next, changes nothing of what the past was.
            assert!(told || file.ends_with("signed"), "byte {at} of {} was altered unseen", file.display());
        }
        assert!(named > 0, "{}", file.display());
        fs::write(&file, &good).unwrap();
    }
    assert_eq!(verify(path).height, head);
}

/// Writes a log anew, with record `nth` as `alter` makes it and all checksums right.
fn rewrite(dir: &Path, nth: u64, alter: impl Fn(&mut Vec<u8>)) {
    let records: Vec<Vec<u8>> = {
        let (log, _) = Log::open(dir, LogConfig::default()).unwrap();
        (0..log.len()).map(|i| log.get(i).unwrap().unwrap()).collect()
    };
    fs::remove_dir_all(dir).unwrap();
    let (mut log, _) = Log::open(dir, LogConfig::default()).unwrap();
    for (i, mut record) in (0..).zip(records) {
        if i == nth {
            alter(&mut record);
        }
        log.append(&record).unwrap();
    }
    log.sync().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_written_anew_with_its_checksum_is_named_by_height_or_number() {
    let dir = home().await;
    let (path, mut rng) = (dir.path(), rng(2));
    let whole = verify(path);
    for (folder, count) in [("chain/blocks", whole.height), ("receipts", whole.receipts)] {
        let (dir, copy) = (path.join(folder), path.join("copy"));
        fs::create_dir(&copy).unwrap();
        let name = segment(&dir).file_name().unwrap().to_owned();
        fs::copy(segment(&dir), copy.join(&name)).unwrap();
        for _ in 0..FLIPS {
            let (nth, at, bit) =
                (rng.random_range(0..count), rng.random_range(0..1_000_000usize), rng.random_range(0..8u32));
            rewrite(&dir, nth, |record| {
                let at = at % record.len();
                record[at] ^= 1 << bit;
            });
            let report = verify(path);
            let place = if folder == "receipts" { format!("receipt {nth}") } else { format!("block {}", nth + 1) };
            assert!(places(&report).contains(&place.as_str()), "{place}: {report:?}");
            fs::copy(copy.join(&name), dir.join(&name)).unwrap();
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    // A receipt that was left out, or put in another's place, breaks the anchors; one behind the last anchor is not missed.
    let log = path.join("receipts");
    let first = { Log::open(&log, LogConfig::default()).unwrap().0.get(0).unwrap().unwrap() };
    rewrite(&log, 3, |record| record.clone_from(&first));
    let report = verify(path);
    assert_eq!(places(&report), ["receipts 2 to 4"]);
}

/// Changes one thing about a header.
type Alter = fn(&mut Header);

/// A stored block with another header, and a certificate over it by the pool's one signer.
fn signed_anew(record: &[u8], alter: Alter) -> Vec<u8> {
    let key = SecretKey::from_bytes(&[1; 32]);
    let mut sealed: SealedBlock = decode(record, record.len()).unwrap();
    let mut block = Block::read(&sealed.block).unwrap();
    let mut header = block.read_header().unwrap();
    alter(&mut header);
    block.header = ByteBuf::from(encode(&header).unwrap());
    let (height, round) = (sealed.certificate.height, sealed.certificate.round);
    let vote = Vote { height, round, kind: VoteKind::Precommit, block: Some(block.id()) };
    sealed.certificate.block = block.id();
    let bytes = vote.sign_bytes(&PoolId::of(&genesis(1))).unwrap();
    sealed.certificate.signatures = vec![(key.public(), key.sign(&bytes))];
    sealed.block = ByteBuf::from(encode(&block).unwrap());
    encode(&sealed).unwrap()
}

/// Who holds the signers' keys can make a certificate for anything. What he writes into the past still does not fit what the
/// transactions come to: the height is named, and the part of the header that is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_its_signer_signed_anew_is_named_by_what_does_not_fit() {
    let dir = home().await;
    let (path, mut rng) = (dir.path(), rng(3));
    let (blocks, head) = (path.join("chain/blocks"), verify(path).height);
    let alterations: [(&str, Alter); 8] = [
        ("app_hash", |h| h.app_hash.0[7] ^= 1),
        ("parent", |h| h.parent.0[7] ^= 1),
        ("height", |h| h.height += 1),
        ("signers_hash", |h| h.signers_hash.0[7] ^= 1),
        ("next_signers_hash", |h| h.next_signers_hash.0[7] ^= 1),
        ("the transactions have root", |h| h.txs_root.0[7] ^= 1),
        ("time", |h| h.time_ms = 1),
        ("rules", |h| h.rules_version += 1),
    ];
    for (word, alter) in alterations {
        let nth = rng.random_range(0..head);
        let good = { Log::open(&blocks, LogConfig::default()).unwrap().0.get(nth).unwrap().unwrap() };
        rewrite(&blocks, nth, |record| *record = signed_anew(record, alter));
        let report = verify(path);
        let place = format!("block {}", nth + 1);
        let named = report.faults.iter().any(|f| f.place == place && f.why.contains(word));
        assert!(named && report.height == nth, "{word} of {place}: {report:?}");
        rewrite(&blocks, nth, |record| record.clone_from(&good));
    }
    // A time that fits both neighbours is the signer's word alone; but the next block tells of another parent.
    rewrite(&blocks, head - 2, |record| *record = signed_anew(record, |h| h.time_ms += 1));
    let report = verify(path);
    assert_eq!(report.faults.len(), 1, "{report:?}");
    let last = format!("block {head}");
    assert!(report.faults[0].place == last && report.faults[0].why.contains("parent"), "{report:?}");
}
