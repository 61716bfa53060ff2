//! What holds of the state after every block, whatever was tried: nothing that the rules promise depends on who asks for what
//! in which order. What is held together changes by what an administrator allots and what is burned, and by nothing else.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{
    Pool,
    any::{any_body, any_step},
    id, name,
    rounds::{MODEL, quick},
};
use proptest::prelude::*;
use zero2ai_ledger::{Ledger, rules::HANDLES};
use zero2ai_proto::{
    NodeId, Signed, decode,
    limits::{CHANNELS, LEAVING, SIGNED_BYTES, SIGNER_POWER, SIGNERS},
    state::{AnchorState, EventKind, Handle, Rights, StakeState, key},
    tx::Tx,
};

/// Runs of the property: fewer in an unoptimised build, where signatures take most of the time.
const CASES: u32 = if cfg!(debug_assertions) { 4 } else { 24 };
/// Power of one set below which the consensus core's arithmetic is exact.
const POWER: u64 = 1 << 60;

#[test]
fn the_largest_set_of_signers_is_far_below_what_the_core_can_add_up() {
    assert!((SIGNERS as u64).checked_mul(SIGNER_POWER).is_some_and(|power| power < POWER));
}

/// Counters that only grow: nonces, and each provider's anchor.
#[derive(Default)]
struct Seen {
    nonces: BTreeMap<NodeId, u64>,
    anchors: BTreeMap<NodeId, AnchorState>,
}

fn check_members(ledger: &Ledger, seen: &mut Seen) -> Result<(), TestCaseError> {
    let members: BTreeMap<_, _> = ledger.members().collect();
    prop_assert!(members.values().any(|m| m.rights.has(Rights::ADMIN)), "no administrator is left");
    let sets = ledger.signers_state();
    for set in [&sets.current, &sets.next] {
        prop_assert!(set.is_valid() && set.total_power() < POWER);
        let may = |signer: &NodeId| members.get(signer).is_some_and(|m| m.rights.has(Rights::SIGNER));
        prop_assert!(set.as_slice().iter().all(|s| may(&s.key)), "somebody signs who may not");
    }
    for (who, member) in &members {
        let before = seen.nonces.insert(*who, member.nonce).unwrap_or(0);
        prop_assert!(before <= member.nonce, "a nonce can be used again");
        if let Some(anchor) = ledger.anchor(who) {
            match seen.anchors.insert(*who, anchor) {
                Some(old) if old.seq == anchor.seq => prop_assert_eq!(old, anchor),
                Some(old) => prop_assert!(old.seq < anchor.seq && old.size < anchor.size, "an anchored log shrank"),
                None => {}
            }
        }
    }
    Ok(())
}

fn check_models(ledger: &Ledger) -> Result<(), TestCaseError> {
    let mut owned = BTreeMap::<NodeId, u32>::new();
    for (_, value) in ledger.scan(b"handle/") {
        *owned.entry(decode::<Handle>(value, SIGNED_BYTES).unwrap().owner).or_default() += 1;
    }
    prop_assert!(owned.values().all(|count| *count <= HANDLES));
    for (name, model) in ledger.models() {
        prop_assert!(ledger.handle(name.publisher()).is_some());
        let events = ledger.events(&name);
        let owner = events.iter().rev().find(|e| e.kind == EventKind::Transferred).or(events.first());
        prop_assert_eq!(owner.map(|e| e.account), Some(model.owner), "the history tells another owner");
        prop_assert_eq!(events.len() as u64, model.events);
        prop_assert!(events.is_sorted_by_key(|e| (e.height, e.time_ms)));
        for number in 1..=model.latest {
            let version = ledger.version(&name, number);
            prop_assert!(version.is_some_and(|v| v.base.is_none_or(|base| base < number)), "versions have no gaps");
            let found = ledger.endorsements(&name, number);
            prop_assert!(found.iter().all(|(who, _)| ledger.version(&name, number).unwrap().publisher != *who));
            prop_assert_eq!(ledger.score(&name, number).is_some(), !found.is_empty());
        }
        prop_assert!(ledger.version(&name, model.latest + 1).is_none());
        prop_assert!(model.channels.len() <= CHANNELS && model.channels.is_sorted());
        prop_assert!(model.channels.iter().all(|(_, version)| (1..=model.latest).contains(version)));
        for (member, grant) in ledger.grants(&name) {
            prop_assert!(!grant.granted || ledger.member(&member).is_some(), "a stranger was granted a model");
        }
    }
    Ok(())
}

/// Value is conserved, nobody has less than nothing, and no conviction takes more than was liable.
fn check_stakes(ledger: &Ledger) -> Result<(), TestCaseError> {
    let mut held = 0u64;
    for (_, value) in ledger.scan(b"stake/") {
        let stake: StakeState = decode(value, SIGNED_BYTES).unwrap();
        let leaving: u64 = stake.leaving.iter().map(|(amount, _)| amount).sum();
        held += stake.free + stake.own + stake.staked + leaving;
        prop_assert!(stake.bonds <= stake.staked + leaving && stake.leaving.len() <= LEAVING);
    }
    prop_assert_eq!(ledger.stake_total().unwrap_or_default().held, held, "value was made or lost");
    for (end, _, conviction) in ledger.convictions() {
        prop_assert!(conviction.charged.is_none_or(|charged| charged <= conviction.liable));
        prop_assert_eq!(conviction.charged.is_some(), end <= ledger.height(), "charged at the end of its window");
    }
    for (end, _, reward) in ledger.rewards() {
        prop_assert!(end > ledger.height(), "paid at the end of its epoch, and gone");
        prop_assert!(ledger.epoch(end).is_some_and(|epoch| epoch.claims >= reward.claim));
    }
    let open = ledger.disputes().into_iter().filter(|(_, told)| told.settled.is_none()).count();
    let counted: usize = ledger.stakes().iter().map(|(_, stake)| usize::from(stake.disputes)).sum();
    prop_assert_eq!(open, counted, "every open dispute is somebody's");
    for (key, _) in ledger.scan(b"due/") {
        let height: u64 = String::from_utf8_lossy(key).split('/').nth(1).unwrap().parse().unwrap();
        prop_assert!(height > ledger.height(), "what is done is due no more");
    }
    for round in 1..=ledger.rounds(&name(MODEL), 1) {
        let state = ledger.round(&name(MODEL), 1, round).unwrap();
        let next = key::due(ledger.height() + 1, &name(MODEL), 1, round);
        let waits = state.disputes > 0 || ledger.get(&next).is_some();
        prop_assert_eq!(state.outcome.is_some(), state.end() <= ledger.height() && !waits);
        prop_assert_eq!(state.selection.is_some(), state.draws <= ledger.height());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Under rules 2, with windows so short that a few blocks see a round to its end and a liar charged.
    #[test]
    fn value_is_conserved_and_a_replay_gives_the_same_state(
        tries in proptest::collection::vec((0u8..6, any_step()), 1..120),
        first in any::<bool>(),
    ) {
        let mut pool = Pool::staked(5, quick(), &[(2, 1_000), (3, 500), (4, 700)]);
        if first {
            pool.published();
        }
        for chunk in tries.chunks(3) {
            let mut ahead = [0u64; 8];
            let candidates: Vec<Signed<Tx>> = chunk.iter().map(|(who, body)| {
                let nonce = pool.ledger.member(&id(*who)).map_or(0, |m| m.nonce) + ahead[usize::from(*who)];
                ahead[usize::from(*who)] += 1;
                pool.tx_at(*who, nonce, body.clone())
            }).collect();
            let (block, _) = pool.build(&candidates);
            pool.apply(&block).unwrap();
            check_stakes(&pool.ledger)?;
        }
        let mut again = Ledger::genesis(pool.ledger.genesis_bytes()).unwrap();
        for (block, _) in &pool.blocks {
            again.apply(block).unwrap();
        }
        prop_assert_eq!(again.root(), pool.ledger.root());
    }

    #[test]
    fn every_state_is_sound_and_every_key_provable(tries in proptest::collection::vec((0u8..8, any_body()), 1..48)) {
        let (mut pool, mut seen) = (Pool::with_members(5), Seen::default());
        for chunk in tries.chunks(6) {
            let mut ahead = [0u64; 8];
            let candidates: Vec<Signed<Tx>> = chunk.iter().map(|(who, body)| {
                let nonce = pool.ledger.member(&id(*who)).map_or(0, |m| m.nonce) + ahead[usize::from(*who)];
                ahead[usize::from(*who)] += 1;
                pool.tx_at(*who, nonce, body.clone())
            }).collect();
            let (block, refused) = pool.build(&candidates);
            prop_assert!(block.txs.len() + refused.len() <= candidates.len());
            // What was left out left nothing behind: without it the block is the same.
            prop_assert_eq!(&pool.build(&block.txs).0, &block);
            pool.apply(&block).unwrap();
            check_members(&pool.ledger, &mut seen)?;
            check_models(&pool.ledger)?;
            for tx in &block.txs {
                let again = pool.ledger.check_tx(tx, pool.ledger.head_time_ms() + 1);
                prop_assert!(again.is_err(), "a transaction applies twice");
            }
        }
        let root = pool.ledger.root();
        for key in [key::SIGNERS.to_vec(), key::member(&id(0)), key::handle("nobody")] {
            let proof = pool.ledger.prove(&key, pool.ledger.height()).unwrap();
            prop_assert_eq!(zero2ai_ledger::verify_state(&root, &proof).unwrap(), pool.ledger.get(&key));
        }
    }
}
