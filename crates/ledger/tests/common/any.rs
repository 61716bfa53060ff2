//! Any transaction of any kind, for properties that must hold whatever is tried. Needs a pool of [`super::genesis_bytes`]`(1)`.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use proptest::prelude::*;
use zero2ai_ledger::{ReceiptLog, commitment, round_commitment};
use zero2ai_proto::{
    BlockId, ByteBuf, PoolId, SealingKey, Signed,
    block::{Vote, VoteKind},
    evidence::{Evidence, SignedStatement, Statement},
    manifest::Domain,
    pool::{Nonce, Ticket},
    state::Rights,
    tx::{
        Accept, Authorise, Commit, CommitRound, Elect, Endorse, Graders, Grading, Grant, Offer, OpenLeaves, OpenRound,
        Publish, Redeem, Reveal, Revoke, SetChannel, SetPot, SetRights, SetRules, SetSigners, Stake, TxBody, Unstake,
        Withdraw,
    },
};

use super::{
    START_MS, anchor, claim, endorse, genesis_bytes, id, name, publish,
    rounds::{MODEL, Run, allot, ballot, contradict, dispute, disputed, quick, reveal},
    secret, signers,
};

fn model(m: u8) -> String {
    format!("lab{}/m", m % 2)
}

/// Publishes the first or a later version, for the pool or for some.
fn any_publication() -> impl Strategy<Value = TxBody> {
    (0u8..2, 1u32..4, any::<bool>()).prop_map(|(m, v, private)| match publish(&model(m), v) {
        TxBody::Publish(body) if private => TxBody::Publish(Publish { domain: Domain::Private, ..body }),
        other => other,
    })
}

/// The first anchor of one log, or the second.
fn any_anchor() -> impl Strategy<Value = TxBody> {
    (1u64..3, 1u64..9).prop_map(|(seq, size)| {
        let mut log = ReceiptLog::new();
        (0..size).for_each(|i| {
            log.push(&i.to_be_bytes());
        });
        anchor(&log, seq, if seq == 1 { 0 } else { 1 })
    })
}

/// Two prevotes of one signer at one height.
fn any_evidence() -> impl Strategy<Value = TxBody> {
    (0u8..6, 1u64..8).prop_map(|(who, height)| {
        let pool = PoolId::of(&genesis_bytes(1));
        let say = |block| {
            let statement = Statement::Vote(Vote { height, round: 0, kind: VoteKind::Prevote, block });
            SignedStatement { statement, signature: secret(who).sign(&statement.sign_bytes(&pool).unwrap()) }
        };
        TxBody::Evidence(Evidence::new(id(who), say(None), say(Some(BlockId([7; 32])))))
    })
}

/// A ticket of the administrator, for whoever signs the transaction.
fn any_redemption() -> impl Strategy<Value = TxBody> {
    (0u8..4, 0u32..3, 0u16..256).prop_map(|(nonce, uses, rights)| {
        let ticket =
            Ticket { nonce: Nonce([nonce; 16]), expires_ms: START_MS + 1_000_000, uses, rights: Rights(rights) };
        let ticket = Signed::sign(&ticket, &PoolId::of(&genesis_bytes(1)), &secret(0)).unwrap();
        TxBody::Redeem(Redeem { ticket, sealing_key: SealingKey([nonce; 32]) })
    })
}

/// Figures that are committed to and revealed, and their salt.
fn committed(m: u8, root: u8) -> (Endorse, [u8; 32]) {
    (endorse(&model(m), 1, root, 3), [root; 32])
}

/// Figures of a round, some of which their own leaves contradict.
fn any_run() -> impl Strategy<Value = Run> {
    (0u8..4, any::<bool>()).prop_map(|(root, lies)| if lies { Run::lying(root, 40) } else { Run::honest(root, 40) })
}

/// Any step of a dispute over a leaf of the first round.
pub fn any_dispute() -> impl Strategy<Value = TxBody> {
    prop_oneof![
        (any_run(), 0u8..6, 0u32..100).prop_map(|(run, who, place)| dispute(who, 1, run.leaf(place))),
        (0u8..6, 0u32..100, any::<bool>()).prop_map(|(who, leaf, refuted)| ballot(&disputed(who, 1, leaf), refuted)),
        (0u8..6, 0u32..100).prop_map(|(who, leaf)| TxBody::Appeal(disputed(who, 1, leaf))),
    ]
}

/// Any transaction of those that rules 2 add. The one model that is graded is `lab/digits`.
pub fn any_step() -> impl Strategy<Value = TxBody> {
    let pool = || PoolId::of(&genesis_bytes(1));
    prop_oneof![
        (0u8..6, 0u64..3_000).prop_map(|(who, amount)| allot(who, amount)),
        (0u64..900).prop_map(|amount| TxBody::Stake(Stake { amount })),
        (0u64..900).prop_map(|amount| TxBody::Unstake(Unstake { amount })),
        (1u64..4, 2u64..5, 0u32..2).prop_map(|(delay, window, asked)| {
            let (open_ppm, window) = (asked * 1_000_000, window * 10);
            TxBody::SetGrading(Grading { delay, open_ppm, window, ..quick() })
        }),
        (1u32..3).prop_map(|version| TxBody::OpenRound(OpenRound { name: name(MODEL), version })),
        (any_run(), 0u8..6, 1u64..4).prop_map(move |(run, who, round)| {
            let commitment = round_commitment(&pool(), &id(who), round, &run.counts, &[who; 32]).unwrap();
            TxBody::CommitRound(CommitRound { name: name(MODEL), version: 1, round, commitment })
        }),
        (any_run(), 0u8..6, 1u64..4).prop_map(|(run, who, round)| reveal(who, round, &run)),
        (any_run(), 1u64..4, proptest::collection::vec(0u32..100, 0..9)).prop_map(|(run, round, mut places)| {
            places.sort_unstable();
            let leaves = places.into_iter().map(|place| run.leaf(place)).collect();
            TxBody::OpenLeaves(OpenLeaves { name: name(MODEL), version: 1, round, leaves })
        }),
        (any_run(), 0u8..6, 1u64..4, 0usize..40).prop_map(|(run, who, round, nth)| contradict(
            who,
            round,
            vec![run.leaf(run.wrong()[nth])]
        )),
        (0u64..3_000).prop_map(|amount| TxBody::SetPot(SetPot { amount })),
        any_dispute(),
        (0u8..7).prop_map(|who| TxBody::Elect(Elect { candidate: Some(who).filter(|who| *who < 6).map(id) })),
        (0u8..3, 0u8..6).prop_map(|(how, who)| {
            let graders =
                [Graders::Everyone, Graders::Elected, Graders::Named(vec![id(who)])][usize::from(how)].clone();
            TxBody::Authorise(Authorise { name: name(MODEL), graders })
        }),
        any_evidence(),
    ]
}

/// Any transaction, most of them refused at most states.
pub fn any_body() -> impl Strategy<Value = TxBody> {
    prop_oneof![
        (0u8..3).prop_map(|n| claim(&format!("lab{n}"))),
        any_publication(),
        (0u8..2, 1u32..4, any::<u8>(), 0u32..20).prop_map(|(m, v, root, wrong)| TxBody::Endorse(endorse(
            &model(m),
            v,
            root,
            wrong
        ))),
        any_anchor(),
        (0u8..2, 1u32..3).prop_map(|(m, version)| {
            TxBody::SetChannel(SetChannel { name: name(&model(m)), channel: "stable".into(), version })
        }),
        (0u8..2, 1u32..3).prop_map(|(m, version)| TxBody::Withdraw(Withdraw { name: name(&model(m)), version })),
        (0u8..6, 0u16..128)
            .prop_map(|(m, rights)| TxBody::SetRights(SetRights { member: id(m), rights: Rights(rights | 3) })),
        (0u8..6, 0u16..256)
            .prop_map(|(m, rights)| TxBody::SetRights(SetRights { member: id(m), rights: Rights(rights) })),
        (proptest::collection::vec(0u8..6, 1..6), any::<bool>())
            .prop_map(|(of, force)| TxBody::SetSigners(SetSigners { signers: signers(&of), force })),
        (0u8..2, 0u8..6).prop_map(|(m, who)| TxBody::Grant(Grant { name: name(&model(m)), member: id(who) })),
        (0u8..2, 0u8..6).prop_map(|(m, who)| TxBody::Revoke(Revoke { name: name(&model(m)), member: id(who) })),
        (0u8..2, 0u8..7).prop_map(|(m, who)| {
            TxBody::Offer(Offer { name: name(&model(m)), to: Some(who).filter(|who| *who < 6).map(id) })
        }),
        (0u8..2).prop_map(|m| TxBody::Accept(Accept { name: name(&model(m)) })),
        (0u8..2, 0u8..4, 0u8..6).prop_map(|(m, root, who)| {
            let (endorse, salt) = committed(m, root);
            TxBody::Commit(Commit {
                name: endorse.name.clone(),
                version: 1,
                commitment: commitment(&PoolId::of(&genesis_bytes(1)), &id(who), &endorse, &salt).unwrap(),
            })
        }),
        (0u8..2, 0u8..4).prop_map(|(m, root)| {
            let (endorse, salt) = committed(m, root);
            TxBody::Reveal(Reveal { endorse, salt: ByteBuf::from(salt.to_vec()) })
        }),
        any_evidence(),
        any_redemption(),
        // Too late for any block of a test.
        (0u16..4, 0u64..2_000)
            .prop_map(|(version, height)| TxBody::SetRules(SetRules { version, height: height * 1_000 })),
    ]
}
