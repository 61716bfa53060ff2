//! Blocks: replay gives the same roots, a refused block changes nothing, and every changed byte is found.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Pool, anchor, any::any_body, certify, claim, genesis_bytes, id, publish};
use proptest::prelude::*;
use zero2ai_ledger::{BlockError, EMPTY_PAUSE_MS, Ledger, LedgerError, LightError, ReceiptLog, TrustedChain, TxError};
use zero2ai_proto::{
    BlockId, ByteBuf, Signed, VerifyError,
    block::{Block, Header},
    decode, encode,
    limits::{BLOCK_BYTES, GOSSIP_BYTES},
    state::key,
    tx::{Tx, TxBody},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is tried: refused transactions leave no trace, and a second ledger that only sees the blocks agrees.
    #[test]
    fn replay_gives_the_same_app_hash(tries in proptest::collection::vec((0u8..7, 0u64..3, any_body()), 1..40)) {
        let mut pool = Pool::with_members(5);
        for chunk in tries.chunks(7) {
            let mut ahead = [0u64; 8];
            let candidates: Vec<Signed<Tx>> = chunk.iter().map(|(who, skip, body)| {
                let next = pool.ledger.member(&id(*who)).map_or(0, |m| m.nonce) + ahead[usize::from(*who)] + skip / 2;
                ahead[usize::from(*who)] += 1;
                pool.tx_at(*who, next, body.clone())
            }).collect();
            let (block, _) = pool.build(&candidates);
            let before = (pool.ledger.root(), pool.ledger.height());
            pool.ledger.check_block(&block).unwrap();
            // A block with one transaction that does not apply (a stranger's) is refused whole.
            let mut spoiled = block.clone();
            spoiled.txs.push(pool.tx_at(9, 0, claim("mine")));
            reseal(&mut spoiled);
            let refused = matches!(pool.ledger.apply(&spoiled), Err(BlockError::Tx { .. }));
            prop_assert!(refused);
            prop_assert_eq!((pool.ledger.root(), pool.ledger.height()), before);
            pool.apply(&block).unwrap();
        }
        let mut other = Ledger::genesis(&genesis_bytes(1)).unwrap();
        for (block, _) in &pool.blocks {
            let block = Block::read(&encode(block).unwrap()).unwrap();
            prop_assert_eq!(block.read_header().unwrap().app_hash, other.root());
            other.apply(&block).unwrap();
        }
        prop_assert_eq!((other.root(), other.head_id()), (pool.ledger.root(), pool.ledger.head_id()));
        prop_assert!(other.scan(b"").eq(pool.ledger.scan(b"")));
    }
}

/// Makes the header fit the block's transactions again.
fn reseal(block: &mut Block) {
    let leaves = block.txs.iter().map(|tx| encode(tx).unwrap());
    let txs_root = zero2ai_ledger::receipt_log::root_of(leaves);
    let header = Header { txs_root, ..block.read_header().unwrap() };
    block.header = ByteBuf::from(encode(&header).unwrap());
}

fn altered(block: &Block, change: impl FnOnce(&mut Header)) -> Block {
    let mut header = block.read_header().unwrap();
    change(&mut header);
    Block { header: ByteBuf::from(encode(&header).unwrap()), txs: block.txs.clone() }
}

#[test]
fn every_field_of_a_header_is_checked_and_named() {
    let mut pool = Pool::with_members(4);
    let tx = pool.tx(1, claim("lab"));
    let (block, _) = pool.build(&[tx]);
    let field = |change: fn(&mut Header)| match pool.ledger.check_block(&altered(&block, change)).unwrap_err() {
        BlockError::Field { field, .. } => field,
        BlockError::Unknown { what, .. } => what,
        BlockError::Time { .. } => "time",
        BlockError::Proposer(_) => "proposer",
        BlockError::TxsRoot { .. } => "txs_root",
        other => panic!("{other}"),
    };
    assert_eq!(field(|h| h.version = 2), "header version");
    assert_eq!(field(|h| h.rules_version = 2), "rules");
    assert_eq!(field(|h| h.pool.0[0] ^= 1), "pool");
    assert_eq!(field(|h| h.height += 1), "height");
    assert_eq!(field(|h| h.parent.0[31] ^= 1), "parent");
    assert_eq!(field(|h| h.app_hash.0[0] ^= 1), "app_hash");
    assert_eq!(field(|h| h.signers_hash.0[0] ^= 1), "signers_hash");
    assert_eq!(field(|h| h.next_signers_hash.0[0] ^= 1), "next_signers_hash");
    assert_eq!(field(|h| h.txs_root.0[0] ^= 1), "txs_root");
    assert_eq!(field(|h| h.time_ms -= 100), "time");
    assert_eq!(field(|h| h.proposer = id(1)), "proposer");
    let genesis = pool.ledger.root_at(0).unwrap();
    assert_eq!(pool.blocks[0].0.read_header().unwrap().app_hash, genesis, "the state after the parent");
    assert_eq!(pool.blocks[0].0.read_header().unwrap().parent, BlockId(pool.ledger.pool().0));
    pool.apply(&block).unwrap();
    assert!(matches!(pool.ledger.check_block(&block), Err(BlockError::Field { field: "height", .. })));
}

/// "A byte flipped in … a block is detected, and the test says by what."
#[test]
fn a_flipped_byte_in_a_block_or_its_certificate_is_found_and_named() {
    let mut pool = Pool::with_members(4);
    pool.set_signers(&[0, 1, 2, 3]);
    let mut trust = TrustedChain::new(&genesis_bytes(1)).unwrap();
    trust.extend(&pool.steps).unwrap();
    let txs = [pool.tx(1, claim("lab")), pool.tx(1, publish("lab/digits", 1))];
    let (block, _) = pool.build(&txs);
    let sealed = certify(&pool.ledger, &block, pool.ledger.signers(), 3);
    trust.verify_header(&sealed).unwrap();
    let bytes = encode(&block).unwrap();
    let mut found = std::collections::BTreeMap::<&str, u32>::new();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let Ok(other) = Block::read(&flipped) else {
            *found.entry("the codec").or_default() += 1;
            continue;
        };
        let by = match pool.ledger.check_block(&other) {
            Err(BlockError::Header(_)) => "the codec",
            Err(BlockError::Field { .. } | BlockError::Unknown { .. } | BlockError::Time { .. }) => "a header field",
            Err(BlockError::Proposer(_)) => "the proposer",
            Err(BlockError::TxsRoot { .. }) => "the root over the transactions",
            Err(other) => panic!("byte {at}: {other}"),
            // The time, moved forward, is the one thing that only the signatures cover.
            Ok(_) => {
                let header = zero2ai_proto::proof::SignedHeader { header: other.header, ..sealed.clone() };
                match trust.verify_header(&header) {
                    Err(LightError::OtherBlock { .. }) => "the certificate",
                    other => panic!("byte {at}: {other:?}"),
                }
            }
        };
        *found.entry(by).or_default() += 1;
    }
    for by in ["the codec", "a header field", "the proposer", "the root over the transactions", "the certificate"] {
        assert!(found.contains_key(by), "nothing was found by {by}: {found:?}");
    }
    let bytes = encode(&sealed.certificate).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let Ok(certificate) = decode(&flipped, GOSSIP_BYTES) else { continue };
        let header = zero2ai_proto::proof::SignedHeader { header: sealed.header.clone(), certificate };
        let refused = trust.verify_header(&header);
        let named = matches!(refused, Err(LightError::Certificate { .. } | LightError::OtherBlock { .. }));
        assert!(named, "byte {at} of the certificate: {refused:?}");
    }
}

#[test]
fn a_transaction_altered_inside_a_block_is_named() {
    let mut pool = Pool::with_members(2);
    let txs = [pool.tx(1, claim("lab")), pool.tx(2, claim("uni"))];
    let (mut block, _) = pool.build(&txs);
    let bytes = encode(&block.txs[1]).unwrap();
    let at = bytes.windows(3).position(|w| w == b"uni").unwrap();
    let mut flipped = bytes;
    flipped[at] ^= 1;
    block.txs[1] = decode(&flipped, GOSSIP_BYTES).unwrap();
    assert!(matches!(pool.ledger.apply(&block), Err(BlockError::TxsRoot { .. })));
    reseal(&mut block);
    let refused = pool.ledger.apply(&block).unwrap_err();
    assert!(matches!(refused, BlockError::Tx { index: 1, source: TxError::Envelope(_), .. }), "{refused}");
}

/// Signatures are checked on several cores where there are many; who looks at a block one by one comes to the same.
#[test]
fn of_many_transactions_the_first_that_is_wrong_is_named() {
    let pool = Pool::with_members(127);
    let claims =
        |handle: &str| (1..=127u8).map(|n| pool.tx_at(n, 0, claim(&format!("{handle}{n}")))).collect::<Vec<_>>();
    let twice = [claims("a"), (1..=64u8).map(|n| pool.tx_at(n, 1, claim(&format!("b{n}")))).collect()].concat();
    let (good, refused) = pool.build(&twice);
    assert_eq!((good.txs.len(), refused.len()), (191, 0));
    pool.ledger.check_block(&good).unwrap();
    let unsigned = |tx: &Signed<Tx>| {
        let mut bytes = encode(tx).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        decode::<Signed<Tx>>(&bytes, bytes.len()).unwrap()
    };
    for (first, second) in [(0, 190), (95, 96), (190, 190)] {
        let mut bad = good.clone();
        for at in [first, second] {
            bad.txs[at] = unsigned(&good.txs[at]);
        }
        reseal(&mut bad);
        match pool.ledger.check_block(&bad) {
            Err(BlockError::Tx { index, source: TxError::Envelope(VerifyError::BadSignature), .. }) => {
                assert_eq!(index, first);
            }
            other => panic!("{first}: {other:?}"),
        }
        // One that the rules refuse, before it.
        if first > 0 {
            bad.txs[0] = pool.tx_at(1, 9, claim("c"));
            reseal(&mut bad);
            let refused = pool.ledger.check_block(&bad);
            assert!(matches!(refused, Err(BlockError::Tx { index: 0, source: TxError::NonceAhead { .. }, .. })));
        }
    }
}

#[test]
fn blocks_stay_within_their_bounds() {
    let mut pool = Pool::with_members(127);
    // Far more than a block may hold: the largest anchors that are accepted as messages.
    let TxBody::Anchor(mut body) = anchor(&ReceiptLog::new(), 1, 0) else { panic!("an anchor") };
    body.consistency = vec![zero2ai_proto::Digest([1; 32]); 900];
    let fat: Vec<_> = (2..=20).map(|n| pool.tx_at(n, 0, TxBody::Anchor(body.clone()))).collect();
    let mut crowded = pool.build(&[]).0;
    crowded.txs = fat;
    // What anybody can append to a block on its way says nothing about the block.
    assert!(matches!(pool.ledger.check_block(&crowded), Err(BlockError::TxsRoot { .. })));
    reseal(&mut crowded);
    assert!(matches!(pool.ledger.check_block(&crowded), Err(BlockError::TooLarge { count: 19, .. })));
    let claims: Vec<_> = (1..=127u8)
        .flat_map(|n| (0..16).map(move |i| (n, i)))
        .map(|(n, i)| pool.tx(n, claim(&format!("h{n}-{i}"))))
        .collect();
    let (block, refused) = pool.build(&claims);
    assert!(refused.is_empty() && block.txs.len() < claims.len(), "the rest waits");
    let bytes: usize = block.txs.iter().map(|tx| encode(tx).unwrap().len()).sum();
    assert!(bytes <= BLOCK_BYTES && encode(&block).unwrap().len() <= GOSSIP_BYTES);
    pool.apply(&block).unwrap();
    let rest: Vec<_> = claims.iter().filter(|tx| !block.txs.contains(tx)).cloned().collect();
    pool.commit(&rest);
}

#[test]
fn empty_blocks_come_a_second_apart_but_a_state_root_is_proved_at_once() {
    let mut pool = Pool::new();
    // The genesis state and a transaction's are proved by an empty block at once.
    let at = |pool: &Pool, after: u64, txs: &[Signed<Tx>]| {
        let time = pool.ledger.head_time_ms() + after;
        pool.ledger.build_block(pool.proposer(), time, txs).unwrap().0
    };
    let early = |block: &Block, by: u64| altered(block, |h| h.time_ms -= by);
    for _ in 0..2 {
        let proof = at(&pool, 1, &[]);
        pool.apply(&proof).unwrap();
        // The one behind it is moved up, and refused if it says another time. One with a transaction need not wait.
        let empty = at(&pool, 1, &[]);
        let time = empty.read_header().unwrap().time_ms;
        assert_eq!(time, pool.ledger.head_time_ms() + EMPTY_PAUSE_MS);
        let refused = pool.ledger.check_block(&early(&empty, 1));
        assert_eq!(refused, Err(BlockError::TooSoon { got: time - 1, earliest: time }));
        pool.ledger.check_block(&empty).unwrap();
        let nonce = pool.ledger.member(&id(0)).unwrap().nonce;
        let tx = pool.tx(0, claim(&format!("lab{nonce}")));
        let full = at(&pool, 1, &[tx]);
        // Stripped of its transactions on its way it is not that block, rather than an empty one that came too soon.
        let stripped = Block { header: full.header.clone(), txs: vec![] };
        assert!(matches!(pool.ledger.check_block(&stripped), Err(BlockError::TxsRoot { .. })));
        pool.apply(&full).unwrap();
    }
}

#[test]
fn a_proposer_out_of_turn_or_time_builds_nothing() {
    let pool = Pool::with_members(1);
    let now = pool.ledger.head_time_ms();
    assert!(matches!(pool.ledger.build_block(id(1), now + 1, &[]), Err(BlockError::Proposer(_))));
    assert!(matches!(pool.ledger.build_block(id(0), now, &[]), Err(BlockError::Time { .. })));
    assert!(matches!(Ledger::genesis(b"nonsense"), Err(LedgerError::Genesis(_))));
    assert!(matches!(
        pool.ledger.prove(key::SIGNERS, 2),
        Err(LedgerError::UnknownHeight { asked: 2, base: 0, head: 1 })
    ));
}
