//! Records are believed for what they prove, at the key they belong to, while they are young, and never for anything else.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use zero2ai_ledger::{Ledger, TrustedChain};
use zero2ai_names::{
    CheckError, HeaderTrust,
    cache::{Age, Cache, ENTRIES, FRESH_MS, HEIGHTS, Older, STALE_MS},
    check::{ENDPOINT_AGE_MS, NAME_AGE_MS},
    check_value,
};
use zero2ai_proto::{
    ManifestId, ModelName, PoolId, SealingKey, SecretKey, Signed,
    block::{Certificate, Header, Vote, VoteKind},
    encode,
    manifest::{Domain, Format, Task},
    pool::{Genesis, Nonce},
    proof::SignedHeader,
    record::{Address, DhtValue, EndpointRecord, NameRecord, dht_key},
    state::{Signer, SignerSet},
    tx::{ClaimHandle, Publish, Thresholds, Tx, TxBody},
};

const START: u64 = 1_800_000_000_000;

struct Light(TrustedChain);

impl HeaderTrust for Light {
    fn verify_header(&self, header: &SignedHeader) -> Result<Header, String> {
        self.0.verify_header(header).map_err(|e| e.to_string())
    }
}

/// A pool with one signer, who publishes.
struct Chain {
    ledger: Ledger,
    key: SecretKey,
    head: Option<SignedHeader>,
    nonce: u64,
}

impl Chain {
    fn new() -> Self {
        let key = SecretKey::from_bytes(&[1; 32]);
        let signers = SignerSet::new(vec![Signer { key: key.public(), power: 1 }]).unwrap();
        let genesis = Genesis {
            version: 1,
            created_ms: START,
            nonce: Nonce([2; 16]),
            admin: key.public(),
            admin_sealing: SealingKey([9; 32]),
            signers,
            rules_version: 1,
        };
        let ledger = Ledger::genesis(&encode(&genesis).unwrap()).unwrap();
        let mut chain = Self { ledger, key, head: None, nonce: 0 };
        chain.block(Some(TxBody::ClaimHandle(ClaimHandle { handle: "lab".into() })));
        chain
    }

    fn block(&mut self, body: Option<TxBody>) {
        let pool = self.ledger.pool();
        let txs: Vec<_> = body
            .into_iter()
            .map(|body| {
                self.nonce += 1;
                Signed::sign(&Tx { nonce: self.nonce - 1, body }, &pool, &self.key).unwrap()
            })
            .collect();
        let (block, refused) =
            self.ledger.build_block(self.key.public(), self.ledger.head_time_ms() + 1_000, &txs).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        self.ledger.apply(&block).unwrap();
        let (height, id) = (self.ledger.height(), block.id());
        let vote = Vote { height, round: 0, kind: VoteKind::Precommit, block: Some(id) };
        let signature = self.key.sign(&vote.sign_bytes(&pool).unwrap());
        let certificate = Certificate { height, round: 0, block: id, signatures: vec![(self.key.public(), signature)] };
        self.head = Some(SignedHeader { header: block.header, certificate });
    }

    fn publish(&mut self, name: &ModelName, version: u32) {
        self.block(Some(TxBody::Publish(Publish {
            name: name.clone(),
            version,
            manifest: ManifestId([7; 32]),
            format: Format::Onnx,
            task: Task::Tensors,
            domain: Domain::Pool,
            bytes: 1_000,
            chunks: 1,
            base: None,
            thresholds: Thresholds::default(),
        })));
        self.block(None);
    }

    fn record(&self, name: &ModelName) -> NameRecord {
        self.ledger.name_record(name, self.head.clone().unwrap()).unwrap()
    }

    fn check(&self, key: &[u8; 32], record: &NameRecord, now: u64) -> Result<u64, CheckError> {
        let trust = Light(TrustedChain::new(self.ledger.genesis_bytes()).unwrap());
        let value = encode(&DhtValue::Name(Box::new(record.clone()))).unwrap();
        check_value(key, &value, &self.ledger.pool(), &trust, now).map(|facts| facts.seq)
    }
}

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

#[test]
fn a_name_record_proves_itself_at_its_own_key_for_a_week() {
    let mut chain = Chain::new();
    chain.publish(&name("lab/one"), 1);
    chain.publish(&name("lab/two"), 1);
    let pool = chain.ledger.pool();
    let (key, now) = (dht_key::name(&pool, &name("lab/one")), chain.ledger.head_time_ms());
    let record = chain.record(&name("lab/one"));
    for place in dht_key::places(&key) {
        assert_eq!(chain.check(&place, &record, now).unwrap(), chain.ledger.height());
    }

    let other = dht_key::name(&pool, &name("lab/two"));
    assert!(matches!(chain.check(&other, &record, now), Err(CheckError::WrongKey)));
    assert!(matches!(chain.check(&key, &chain.record(&name("lab/two")), now), Err(CheckError::WrongKey)));
    assert!(chain.check(&key, &record, now + NAME_AGE_MS - 1_000).is_ok());
    assert!(matches!(chain.check(&key, &record, now + NAME_AGE_MS + 1_000), Err(CheckError::Time(_))));
    assert!(matches!(chain.check(&key, &NameRecord { version: 2, ..record.clone() }, now), Err(CheckError::Bounds(_))));

    // The proof of another model's version in the place of this one's, and one of an older height.
    let swapped = NameRecord { latest: chain.record(&name("lab/two")).latest, ..record.clone() };
    assert!(matches!(chain.check(&key, &swapped, now), Err(CheckError::Proof(_))));
    chain.publish(&name("lab/one"), 2);
    let newer = chain.record(&name("lab/one"));
    let mixed = NameRecord { latest: record.latest.clone(), ..newer.clone() };
    assert!(matches!(chain.check(&key, &mixed, now), Err(CheckError::Proof(_))));
    assert!(chain.check(&key, &newer, now).unwrap() > chain.check(&key, &record, now).unwrap());

    // A header that nobody signed.
    let mut unsigned = newer;
    unsigned.header.certificate.signatures.clear();
    assert!(matches!(chain.check(&key, &unsigned, now), Err(CheckError::Header(_))));
}

#[test]
fn no_flipped_byte_of_a_name_record_is_believed() {
    let mut chain = Chain::new();
    chain.publish(&name("lab/one"), 1);
    let (pool, now) = (chain.ledger.pool(), chain.ledger.head_time_ms());
    let key = dht_key::name(&pool, &name("lab/one"));
    let trust = Light(TrustedChain::new(chain.ledger.genesis_bytes()).unwrap());
    let value = encode(&DhtValue::Name(Box::new(chain.record(&name("lab/one"))))).unwrap();
    assert!(check_value(&key, &value, &pool, &trust, now).is_ok());
    for at in 0..value.len() {
        let mut flipped = value.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(check_value(&key, &flipped, &pool, &trust, now).is_err(), "byte {at} of {}", value.len());
    }
}

fn endpoint(key: &SecretKey, pool: &PoolId, change: impl FnOnce(&mut EndpointRecord)) -> Vec<u8> {
    let mut record = EndpointRecord {
        name: name("lab/one"),
        version: 1,
        manifest: ManifestId([7; 32]),
        addresses: vec![Address::Rpc("192.0.2.7:7411".into())],
        seq: 5,
        expires_ms: START + 60_000,
        region: None,
        price: None,
    };
    change(&mut record);
    encode(&DhtValue::Endpoint(Signed::sign(&record, pool, key).unwrap())).unwrap()
}

#[test]
fn an_endpoint_record_is_its_nodes_own_and_runs_out() {
    let chain = Chain::new();
    let (pool, trust) = (chain.ledger.pool(), Light(TrustedChain::new(chain.ledger.genesis_bytes()).unwrap()));
    let (node, other) = (SecretKey::from_bytes(&[3; 32]), SecretKey::from_bytes(&[4; 32]));
    let key = dht_key::endpoint(&pool, &name("lab/one"), &node.public());
    let check = |value: &[u8], now| check_value(&key, value, &pool, &trust, now);
    let good = endpoint(&node, &pool, |_| {});
    let facts = check(&good, START).unwrap();
    assert_eq!((facts.seq, facts.expires_ms), (5, START + 60_000));

    assert!(matches!(check(&good, START + 60_000), Err(CheckError::Time(_))), "it ran out");
    let long = endpoint(&node, &pool, |r| r.expires_ms = START + ENDPOINT_AGE_MS + 1);
    assert!(matches!(check(&long, START), Err(CheckError::Time(_))), "a dead node would be remembered for too long");
    for region in ["", "Eu", "eu west", &"e".repeat(33)] {
        let bad = endpoint(&node, &pool, |r| r.region = Some(region.to_owned()));
        assert!(matches!(check(&bad, START), Err(CheckError::Bounds(_))), "{region}");
    }
    let named = endpoint(&node, &pool, |r| (r.region, r.price) = (Some("eu-west-1".into()), Some(u64::MAX)));
    assert!(check(&named, START).is_ok());
    let elsewhere = endpoint(&node, &pool, |r| r.name = name("lab/two"));
    assert!(matches!(check(&elsewhere, START), Err(CheckError::WrongKey)));
    assert!(matches!(check(&endpoint(&other, &pool, |_| {}), START), Err(CheckError::WrongKey)), "another node's");
    let foreign = endpoint(&node, &PoolId([8; 32]), |_| {});
    assert!(matches!(check(&foreign, START), Err(CheckError::Signature(_))), "of another pool");
    let nowhere = endpoint(&node, &pool, |r| r.addresses.clear());
    assert!(matches!(check(&nowhere, START), Err(CheckError::Bounds(_))));
    let crowded = endpoint(&node, &pool, |r| r.addresses = vec![r.addresses[0].clone(); 64]);
    assert!(matches!(check(&crowded, START), Err(CheckError::Bounds(_))));
    let nonsense = endpoint(&node, &pool, |r| r.addresses = vec![Address::Rpc("not an address".into())]);
    assert!(matches!(check(&nonsense, START), Err(CheckError::Bounds(_))));
}

#[test]
fn a_cached_answer_grows_stale_and_never_goes_back() {
    let mut chain = Chain::new();
    chain.publish(&name("lab/one"), 1);
    let (record, one) = (chain.record(&name("lab/one")), name("lab/one"));
    let mut cache = Cache::default();
    cache.put(one.clone(), record.clone(), 9, Vec::new(), START).unwrap();
    let age = |cache: &mut Cache, now| cache.get(&one, now).map(|(_, age)| age);
    assert_eq!(age(&mut cache, START + FRESH_MS), Some(Age::Fresh));
    assert_eq!(age(&mut cache, START + FRESH_MS + 1), Some(Age::Stale));
    assert_eq!(age(&mut cache, START + STALE_MS + 1), None);
    // Even one that is too old to be given out keeps the resolver from an older header.
    let mut older = record.clone();
    older.version = 7;
    let now = cache.put(one.clone(), older.clone(), 8, Vec::new(), START + STALE_MS + 1).unwrap();
    assert_eq!((now.height, &now.record), (9, &record));
    assert_eq!(cache.height(&one), 9);
    // So does one that is not kept at all any more.
    cache.forget(&one);
    let refused = cache.put(one.clone(), older, 8, Vec::new(), START + STALE_MS + 1);
    assert_eq!(refused.unwrap_err(), Older { seen: 9, offered: 8 });

    // An answer whose endpoint ran out is asked for anew.
    let DhtValue::Endpoint(signed) = zero2ai_proto::decode(
        &endpoint(&SecretKey::from_bytes(&[3; 32]), &chain.ledger.pool(), |r| r.expires_ms = START + 500),
        1 << 16,
    )
    .unwrap() else {
        panic!()
    };
    cache.put(one.clone(), record.clone(), 10, vec![signed], START).unwrap();
    assert_eq!((age(&mut cache, START + 499), age(&mut cache, START + 500)), (Some(Age::Fresh), None));

    // Full, it gives up what was not used for longest, and remembers how new that was.
    for i in 0..u64::try_from(ENTRIES).unwrap() + 10 {
        cache.put(name(&format!("lab/m{i}")), record.clone(), 1 + i, Vec::new(), START + 1_000 + i).unwrap();
    }
    assert!(cache.get(&name("lab/m0"), START + 1_000).is_none());
    assert!(cache.get(&name(&format!("lab/m{ENTRIES}")), START + 1_000).is_some());
    assert_eq!(cache.height(&name("lab/m0")), 1);
    assert_eq!(cache.height(&one), 10);
    for i in 0..HEIGHTS {
        cache.put(name(&format!("lab/n{i}")), record.clone(), 50, Vec::new(), START + 9_000).unwrap();
    }
    assert_eq!((cache.height(&name("lab/m0")), cache.height(&name("lab/n7"))), (0, 50), "the lowest go first");
}

#[test]
fn what_was_seen_before_a_restart_counts_after_it() {
    let mut chain = Chain::new();
    chain.publish(&name("lab/one"), 1);
    let (record, one) = (chain.record(&name("lab/one")), name("lab/one"));
    let mut before = Cache::default();
    assert_eq!(before.seen_since(0), None, "nothing was seen");
    before.put(one.clone(), record.clone(), 9, Vec::new(), START).unwrap();
    let (mark, seen) = before.seen_since(0).unwrap();
    assert_eq!(seen, [(one.clone(), 9)]);
    before.put(one.clone(), record.clone(), 9, Vec::new(), START).unwrap();
    assert_eq!(before.seen_since(mark), None, "the same again is nothing new");
    before.put(one.clone(), record.clone(), 10, Vec::new(), START).unwrap();
    let (_, seen) = before.seen_since(mark).unwrap();

    let mut after = Cache::default();
    after.restore(seen);
    let refused = after.put(one.clone(), record.clone(), 9, Vec::new(), START);
    assert_eq!(refused.unwrap_err(), Older { seen: 10, offered: 9 });
    after.restore([(one.clone(), 3)]);
    assert_eq!(after.height(&one), 10, "nothing is lowered");
    after.put(one.clone(), record, 10, Vec::new(), START).unwrap();
    after.restore((0..2 * HEIGHTS).map(|i| (name(&format!("lab/m{i}")), 20)));
    let (_, all) = after.seen_since(0).unwrap();
    assert!(all.len() <= HEIGHTS, "{} are kept", all.len());
}

#[test]
fn no_bytes_panic() {
    let chain = Chain::new();
    let trust = Light(TrustedChain::new(chain.ledger.genesis_bytes()).unwrap());
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..512))| {
        prop_assert!(check_value(&[0; 32], &bytes, &chain.ledger.pool(), &trust, START).is_err());
    });
}
