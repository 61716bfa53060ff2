//! Every rule's refusal, beside what the rule allows.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Pool, START_MS, anchor, claim, endorse, id, name, publish, secret, signers};
use zero2ai_ledger::{Admission, BlockError, ReceiptLog, TicketError, TxError, commitment};
use zero2ai_proto::{
    ByteBuf, Digest, PoolId, Signed, VerifyError,
    limits::KEY_GRACE_MS,
    manifest::{Domain, Task},
    pool::{Nonce, Ticket},
    state::{EventKind, Rights, Rules, Verdict},
    tx::{
        Accept, Anchor, ClassCounts, Commit, Endorse, Grant, Offer, Publish, Reveal, Revoke, RotateKey, SetChannel,
        SetRights, SetRules, SetSigners, Thresholds, Tx, TxBody, Withdraw,
    },
};

fn set_rights(member: u8, rights: Rights) -> TxBody {
    TxBody::SetRights(SetRights { member: id(member), rights })
}

fn set_signers(of: &[u8], force: bool) -> TxBody {
    TxBody::SetSigners(SetSigners { signers: signers(of), force })
}

fn set_channel(channel: &str, version: u32) -> TxBody {
    TxBody::SetChannel(SetChannel { name: name("lab/digits"), channel: channel.into(), version })
}

fn withdraw(version: u32) -> TxBody {
    TxBody::Withdraw(Withdraw { name: name("lab/digits"), version })
}

fn is_invalid(error: &TxError, part: &str) -> bool {
    matches!(error, TxError::Invalid { what, .. } if *what == part)
}

/// A pool where account 1 published `lab/digits@1`.
fn published() -> Pool {
    let mut pool = Pool::with_members(6);
    let txs = [pool.tx(1, claim("lab")), pool.tx(1, publish("lab/digits", 1))];
    pool.commit(&txs);
    pool
}

#[test]
fn envelopes_of_another_pool_or_signer_are_refused() {
    let pool = Pool::with_members(1);
    let tx = Tx { nonce: 0, body: claim("lab") };
    let foreign = Signed::sign(&tx, &PoolId([7; 32]), &secret(1)).unwrap();
    assert_eq!(pool.ledger.check_tx(&foreign, START_MS), Err(TxError::Envelope(VerifyError::BadSignature)));
    assert_eq!(pool.refusal(9, claim("lab")), TxError::NotMember(id(9)));
}

#[test]
fn nonces_are_used_once_and_in_order() {
    let mut pool = Pool::with_members(1);
    let first = pool.tx(1, claim("a"));
    pool.commit(std::slice::from_ref(&first));
    let now = pool.ledger.head_time_ms() + 1;
    assert_eq!(pool.ledger.check_tx(&first, now), Err(TxError::NonceUsed { got: 0, expected: 1 }));
    assert_eq!(pool.ledger.check_tx(&pool.tx_at(1, 1, claim("b")), now), Ok(Admission::Ready));
    assert_eq!(pool.ledger.check_tx(&pool.tx_at(1, 3, claim("c")), now), Ok(Admission::Later));
    let far = pool.ledger.check_tx(&pool.tx_at(1, 65, claim("d")), now);
    assert_eq!(far, Err(TxError::NonceAhead { got: 65, expected: 1 }));
    let two = [pool.tx_at(1, 2, claim("c")), pool.tx_at(1, 1, claim("b"))];
    let (block, refused) = pool.build(&two);
    assert_eq!((block.txs.len(), refused), (1, Vec::new()), "what is early waits, and is not refused for good");
}

#[test]
fn tickets_admit_as_often_as_they_say_and_not_for_ever() {
    let mut pool = Pool::new();
    let ticket = pool.ticket(1, 2, Rights::MEMBER);
    let txs = [pool.redeem(1, &ticket), pool.redeem(2, &ticket)];
    pool.commit(&txs);
    assert_eq!(pool.ledger.member(&id(1)).unwrap().rights, Rights::MEMBER);
    assert_eq!(pool.ledger.member(&id(1)).unwrap().nonce, 0, "a redemption uses no nonce");
    let refused = |tx: &Signed<Tx>| pool.ledger.check_tx(tx, START_MS).unwrap_err();
    let ticket_error = |ticket: &Signed<Ticket>| match refused(&pool.redeem(3, ticket)) {
        TxError::Ticket(why) => why,
        other => panic!("{other}"),
    };
    assert_eq!(refused(&pool.redeem(1, &ticket)), TxError::AlreadyMember(id(1)));
    assert_eq!(ticket_error(&ticket), TicketError::UsedUp(2));
    let fresh = Ticket { nonce: Nonce([5; 16]), expires_ms: START_MS + 9_000, uses: 1, rights: Rights::USER };
    assert_eq!(ticket_error(&pool.ticket_by(1, fresh.clone())), TicketError::NotAdmin(id(1)));
    let late = Ticket { expires_ms: START_MS, ..fresh.clone() };
    assert!(matches!(ticket_error(&pool.ticket_by(0, late)), TicketError::Expired { .. }));
    for rights in [Rights(0), Rights(1 << 7), Rights(0xffff)] {
        let odd = Ticket { rights, ..fresh.clone() };
        assert_eq!(ticket_error(&pool.ticket_by(0, odd)), TicketError::Rights(rights.0));
    }
    let foreign = Signed::sign(&fresh, &PoolId([7; 32]), &secret(0)).unwrap();
    assert!(matches!(ticket_error(&foreign), TicketError::Envelope(VerifyError::BadSignature)));
    let TxBody::Redeem(body) = pool.redeem(3, &pool.ticket_by(0, fresh)).verify(&pool.ledger.pool()).unwrap().body
    else {
        panic!("a redemption");
    };
    assert!(is_invalid(&refused(&pool.tx_at(3, 1, TxBody::Redeem(body))), "nonce"));
}

#[test]
fn rights_are_set_by_administrators_and_one_stays() {
    let mut pool = Pool::with_members(4);
    assert_eq!(pool.refusal(1, set_rights(2, Rights::USER)), TxError::Forbidden { who: id(1), need: Rights::ADMIN });
    assert_eq!(pool.refusal(0, set_rights(9, Rights::USER)), TxError::NotMember(id(9)));
    assert!(is_invalid(&pool.refusal(0, set_rights(1, Rights(1 << 9))), "rights"));
    assert!(is_invalid(&pool.refusal(0, set_rights(0, Rights::SIGNER)), "rights"), "the last administrator");
    assert!(is_invalid(&pool.refusal(0, set_rights(0, Rights::ADMIN)), "rights"), "a signer of the next block");
    let txs = [pool.tx(0, set_rights(1, Rights::ADMIN)), pool.tx(0, set_rights(0, Rights::SIGNER))];
    pool.commit(&txs);
    assert!(!pool.ledger.member(&id(0)).unwrap().rights.has(Rights::ADMIN));
    let revoke = pool.tx(1, set_rights(2, Rights(0)));
    pool.commit(&[revoke]);
    assert_eq!(pool.refusal(2, claim("lab")), TxError::Revoked(id(2)));
    let again = pool.redeem(2, &pool.ticket(8, 1, Rights::MEMBER));
    assert_eq!(pool.ledger.check_tx(&again, START_MS), Err(TxError::Revoked(id(2))), "no ticket undoes that");
}

#[test]
fn signers_change_two_heights_later_and_small_sets_need_force() {
    let mut pool = Pool::with_members(4);
    assert!(matches!(pool.refusal(1, set_signers(&[1], false)), TxError::Forbidden { .. }));
    assert!(is_invalid(&pool.refusal(0, set_signers(&[], true)), "signer set"));
    assert!(is_invalid(&pool.refusal(0, set_signers(&[0, 0], true)), "signer set"));
    assert!(is_invalid(&pool.refusal(0, set_signers(&[0, 1, 2], false)), "signer set"));
    assert_eq!(pool.refusal(0, set_signers(&[9], false)), TxError::NotMember(id(9)));
    let tx = pool.tx(0, set_rights(4, Rights::USER));
    pool.commit(&[tx]);
    let no_right = TxError::Forbidden { who: id(4), need: Rights::SIGNER };
    assert_eq!(pool.refusal(0, set_signers(&[0, 1, 2, 4], false)), no_right);
    let tx = pool.tx(0, set_signers(&[0, 1, 2, 3], false));
    let block = pool.commit(&[tx]);
    let changed = block.read_header().unwrap().height;
    assert_eq!(pool.ledger.signers().as_slice().len(), 1, "height {} is still signed by one", changed + 1);
    assert!(is_invalid(&pool.refusal(0, set_rights(3, Rights::USER)), "rights"), "it signs soon");
    let next = pool.commit(&[]).read_header().unwrap();
    assert_ne!(next.signers_hash, next.next_signers_hash);
    assert_eq!(pool.ledger.signers().as_slice().len(), 4);
    let last = pool.commit(&[]).read_header().unwrap();
    assert_eq!((last.height, last.signers_hash), (changed + 2, next.next_signers_hash));
    assert_eq!(last.signers_hash, last.next_signers_hash);
}

#[test]
fn new_rules_are_named_early_in_order_and_by_administrators() {
    let mut pool = Pool::with_members(2);
    let rules = |version, height| TxBody::SetRules(SetRules { version, height });
    let next = pool.ledger.height() + 1;
    assert_eq!(pool.refusal(1, rules(2, next + 9)), TxError::Forbidden { who: id(1), need: Rights::ADMIN });
    for (version, height) in [(1, 0), (1, next + 9), (0, next + 9), (3, next + 9), (2, 0), (2, next), (2, next + 1)] {
        assert!(is_invalid(&pool.refusal(0, rules(version, height)), "rules"), "{version} at {height}");
    }
    assert_eq!(pool.ledger.rules(), Rules { version: 1, next: None });
    let tx = pool.tx(0, rules(2, next + 2));
    pool.commit(&[tx]);
    // Named otherwise, and taken back, as long as the height is to come.
    let tx = pool.tx(0, rules(2, next + 8));
    pool.commit(&[tx]);
    assert_eq!(pool.ledger.rules().next, Some((2, next + 8)));
    let tx = pool.tx(0, rules(1, 0));
    pool.commit(&[tx]);
    assert_eq!((pool.ledger.rules(), pool.ledger.missing_rules()), (Rules { version: 1, next: None }, None));
    let last = pool.ledger.height() + 2;
    let tx = pool.tx(0, rules(2, last + 1));
    pool.commit(&[tx]);
    pool.commit(&[]);
    assert_eq!((pool.ledger.height(), pool.ledger.missing_rules()), (last, None));
    assert_eq!(pool.commit(&[]).read_header().unwrap().rules_version, 2, "this program knows them");
    let last = pool.ledger.height() + 2;
    let tx = pool.tx(0, rules(3, last + 1));
    pool.commit(&[tx]);
    pool.commit(&[]);
    // These it lacks: nothing comes behind the last block of the old ones, and the state up to there is proved.
    assert_eq!((pool.ledger.height(), pool.ledger.missing_rules()), (last, Some(3)));
    let built = pool.ledger.build_block(pool.proposer(), pool.ledger.head_time_ms() + 5_000, &[]);
    let unknown = BlockError::Unknown { what: "rules", got: 3, known: 2 };
    assert_eq!(built.unwrap_err(), unknown);
    assert!(unknown.to_string().contains("update"));
}

#[test]
fn handles_are_scarce_and_owned() {
    let mut pool = Pool::with_members(2);
    for bad in ["", "Lab", "-lab", "a/b", &"x".repeat(64)] {
        assert!(is_invalid(&pool.refusal(1, claim(bad)), "handle"), "{bad}");
    }
    let txs: Vec<_> = (0..10).map(|i| pool.tx(1, claim(&format!("lab{i}")))).collect();
    pool.commit(&txs);
    assert!(matches!(pool.refusal(1, claim("lab3")), TxError::Exists(_)));
    assert!(matches!(pool.refusal(2, claim("lab3")), TxError::NotOwner { owner, .. } if owner == id(1)));
    let txs: Vec<_> = (10..17).map(|i| pool.tx(1, claim(&format!("lab{i}")))).collect();
    let (block, refused) = pool.build(&txs);
    assert_eq!((block.txs.len(), refused.len()), (6, 1), "16 in all, counted within a block too");
    pool.apply(&block).unwrap();
    assert!(is_invalid(&pool.refusal(1, claim("lab17")), "handle"));
}

#[test]
fn versions_follow_each_other_under_an_owned_handle() {
    let mut pool = published();
    assert!(matches!(pool.refusal(1, publish("free/digits", 1)), TxError::Missing(_)));
    assert!(matches!(pool.refusal(2, publish("lab/digits", 2)), TxError::NotOwner { .. }));
    for version in [0, 1, 3, u32::MAX] {
        assert!(is_invalid(&pool.refusal(1, publish("lab/digits", version)), "version"), "{version}");
    }
    let with = |change: fn(&mut Publish)| {
        let TxBody::Publish(mut body) = publish("lab/digits", 2) else { panic!("a publication") };
        change(&mut body);
        TxBody::Publish(body)
    };
    for (part, body) in [
        ("chunks", with(|p| p.chunks = 0)),
        ("chunks", with(|p| p.chunks = 150_001)),
        ("bytes", with(|p| p.bytes = 0)),
        ("bytes", with(|p| p.bytes = 3 * 1024 * 1024 + 1)),
        ("base", with(|p| p.base = Some(2))),
        ("base", with(|p| p.base = Some(0))),
        ("thresholds", with(|p| p.thresholds = Thresholds { accept_ppm: 1_000_001, reject_ppm: 0 })),
        ("thresholds", with(|p| p.thresholds = Thresholds { accept_ppm: 5, reject_ppm: 5 })),
        ("task", with(|p| p.task = Task::Classify { classes: 0 })),
    ] {
        assert!(is_invalid(&pool.refusal(1, body), part), "{part}");
    }
    let tx = pool.tx(1, publish("lab/digits", 2));
    pool.commit(&[tx]);
    assert_eq!(pool.ledger.model(&name("lab/digits")).unwrap().latest, 2);
    assert_eq!(pool.ledger.resolve(&"lab/digits@1".parse().unwrap()).unwrap().0, 1);
    assert_eq!(pool.ledger.resolve(&"lab/digits@9".parse().unwrap()), None);
}

#[test]
fn channels_point_at_versions_that_stand() {
    let mut pool = published();
    assert!(matches!(pool.refusal(2, set_channel("stable", 1)), TxError::NotOwner { .. }));
    assert!(matches!(pool.refusal(1, set_channel("stable", 2)), TxError::Missing(_)));
    assert!(is_invalid(&pool.refusal(1, set_channel("no spaces", 1)), "channel"));
    let txs: Vec<_> = (0..16).rev().map(|i| pool.tx(1, set_channel(&format!("c{i:02}"), 1))).collect();
    pool.commit(&txs);
    assert!(is_invalid(&pool.refusal(1, set_channel("one-more", 1)), "channel"));
    let model = pool.ledger.model(&name("lab/digits")).unwrap();
    assert!(model.channels.is_sorted() && model.channels.len() == 16);
    assert_eq!(pool.ledger.resolve(&"lab/digits:c07".parse().unwrap()).unwrap().0, 1);

    assert!(matches!(pool.refusal(2, withdraw(1)), TxError::NotOwner { .. }));
    assert!(matches!(pool.refusal(1, withdraw(2)), TxError::Missing(_)));
    let tx = pool.tx(1, withdraw(1));
    pool.commit(&[tx]);
    assert!(pool.ledger.version(&name("lab/digits"), 1).unwrap().withdrawn);
    assert!(matches!(pool.refusal(1, withdraw(1)), TxError::Exists(_)));
    assert!(is_invalid(&pool.refusal(1, set_channel("c00", 1)), "version"));
    assert!(is_invalid(&pool.refusal(2, TxBody::Endorse(endorse("lab/digits", 1, 1, 0))), "version"));
    assert_eq!(pool.ledger.events(&name("lab/digits")).last().unwrap().kind, EventKind::Withdrawn);
}

#[test]
fn a_model_changes_hands_when_it_was_offered_and_accepted() {
    let mut pool = published();
    let model = name("lab/digits");
    let offer = |to: Option<u8>| TxBody::Offer(Offer { name: name("lab/digits"), to: to.map(id) });
    let accept = || TxBody::Accept(Accept { name: name("lab/digits") });
    let tx = pool.tx(0, TxBody::SetRights(SetRights { member: id(3), rights: Rights::USER }));
    pool.commit(&[tx]);
    assert!(matches!(pool.refusal(2, offer(Some(4))), TxError::NotOwner { .. }));
    assert_eq!(pool.refusal(1, offer(Some(9))), TxError::NotMember(id(9)));
    assert_eq!(pool.refusal(1, offer(Some(3))), TxError::Forbidden { who: id(3), need: Rights::PUBLISHER });
    assert!(is_invalid(&pool.refusal(1, offer(Some(1))), "offer"));
    assert!(matches!(pool.refusal(1, offer(None)), TxError::Missing(_)), "there is none to take back");
    assert!(matches!(pool.refusal(2, accept()), TxError::Missing(_)), "nobody takes what was not offered");

    let txs = [pool.tx(1, offer(Some(4))), pool.tx(1, offer(Some(2)))];
    pool.commit(&txs);
    assert!(matches!(pool.refusal(4, accept()), TxError::Missing(_)), "the later offer stands");
    let tx = pool.tx(1, offer(None));
    pool.commit(&[tx]);
    assert!(matches!(pool.refusal(2, accept()), TxError::Missing(_)), "it was taken back");

    let TxBody::Publish(secret) = publish("lab/digits", 2) else { panic!() };
    let private = TxBody::Publish(Publish { domain: Domain::Private, ..secret });
    let txs = [pool.tx(1, private), pool.tx(1, offer(Some(2))), pool.tx(2, accept())];
    assert!(!pool.ledger.may_open(&model, 2, &id(2)));
    pool.commit(&txs);
    assert!(pool.ledger.may_open(&model, 2, &id(2)), "the owner may open what he owns");
    assert!(pool.ledger.may_open(&model, 2, &id(1)), "and who published it what he made");
    let last = *pool.ledger.events(&model).last().unwrap();
    assert_eq!((last.kind, last.account, last.version), (EventKind::Transferred, id(2), 2));
    assert!(matches!(pool.refusal(2, accept()), TxError::Missing(_)), "an offer is taken once");

    // Nobody grades first what becomes his own.
    let endorsed = TxBody::Endorse(endorse("lab/digits", 1, 7, 5));
    let txs = [pool.tx(4, endorsed), pool.tx(2, offer(Some(4)))];
    pool.commit(&txs);
    assert!(is_invalid(&pool.refusal(4, accept()), "offer"));

    // The handle stays where it was: the new owner publishes this model, and begins none.
    assert!(matches!(pool.refusal(1, publish("lab/digits", 3)), TxError::NotOwner { .. }));
    assert!(matches!(pool.refusal(2, publish("lab/other", 1)), TxError::NotOwner { .. }));
    assert!(is_invalid(&pool.refusal(2, TxBody::Endorse(endorse("lab/digits", 1, 7, 5))), "endorsement"));
    let txs = [pool.tx(2, publish("lab/digits", 3)), pool.tx(1, publish("lab/other", 1))];
    pool.commit(&txs);
    assert_eq!(pool.ledger.model(&model).unwrap().owner, id(2));
}

#[test]
fn keys_are_for_those_whom_the_ledger_lets_open_a_version() {
    let mut pool = published();
    let model = name("lab/digits");
    let grant = |member| TxBody::Grant(Grant { name: name("lab/digits"), member: id(member) });
    let revoke = |member| TxBody::Revoke(Revoke { name: name("lab/digits"), member: id(member) });
    let TxBody::Publish(secret) = publish("lab/digits", 2) else { panic!() };
    let txs = [
        pool.tx(1, TxBody::Publish(Publish { domain: Domain::Private, ..secret })),
        pool.tx(0, set_rights(3, Rights::USER)),
        pool.tx(0, set_rights(4, Rights::VALIDATOR)),
        pool.tx(0, set_rights(5, Rights(0))),
    ];
    pool.commit(&txs);
    let may = |pool: &Pool, version, who| pool.ledger.may_open(&model, version, &id(who));
    // Version 1 is the pool's, version 2 private.
    assert!(may(&pool, 1, 1) && may(&pool, 1, 2) && may(&pool, 1, 4));
    assert!(!may(&pool, 1, 3) && !may(&pool, 1, 5) && !may(&pool, 1, 9) && !may(&pool, 3, 1));
    assert!(may(&pool, 2, 1) && !may(&pool, 2, 2) && !may(&pool, 2, 4));

    assert!(matches!(pool.refusal(2, grant(2)), TxError::NotOwner { .. }), "a member cannot grant himself");
    assert_eq!(pool.refusal(1, grant(9)), TxError::NotMember(id(9)));
    assert!(is_invalid(&pool.refusal(1, grant(3)), "grant"), "a user runs no models");
    assert!(matches!(pool.refusal(1, revoke(2)), TxError::Missing(_)));
    let tx = pool.tx(1, grant(2));
    pool.commit(&[tx]);
    assert!(may(&pool, 2, 2) && !may(&pool, 2, 4));
    assert!(matches!(pool.refusal(1, grant(2)), TxError::Exists(_)));
    assert!(matches!(pool.refusal(2, revoke(2)), TxError::NotOwner { .. }));

    let tx = pool.tx(1, revoke(2));
    pool.commit(&[tx]);
    assert!(!may(&pool, 2, 2));
    assert_eq!(
        pool.ledger.grants(&model).iter().map(|(who, g)| (*who, g.granted)).collect::<Vec<_>>(),
        [(id(2), false)]
    );
    let txs = [pool.tx(1, grant(2)), pool.tx(1, withdraw(2))];
    pool.commit(&txs);
    assert!(!may(&pool, 2, 2) && may(&pool, 2, 1), "a withdrawn version is its publisher's alone");
}

/// A commitment to figures by `who`.
fn commit(pool: &Pool, who: u8, endorse: &Endorse, salt: u8) -> TxBody {
    let commitment = commitment(&pool.ledger.pool(), &id(who), endorse, &[salt; 32]).unwrap();
    TxBody::Commit(Commit { name: endorse.name.clone(), version: endorse.version, commitment })
}

fn reveal(endorse: &Endorse, salt: &[u8]) -> TxBody {
    TxBody::Reveal(Reveal { endorse: endorse.clone(), salt: ByteBuf::from(salt.to_vec()) })
}

#[test]
fn what_was_committed_to_is_revealed_in_a_later_block_and_by_who_committed() {
    let mut pool = published();
    let (endorse, other) = (endorse("lab/digits", 1, 7, 5), endorse("lab/digits", 1, 7, 4));
    assert!(is_invalid(&pool.refusal(1, commit(&pool, 1, &endorse, 1)), "endorsement"), "its publisher grades nothing");
    assert!(matches!(pool.refusal(2, reveal(&endorse, &[1; 32])), TxError::Missing(_)));
    let both = [pool.tx_at(2, 0, commit(&pool, 2, &endorse, 1)), pool.tx_at(2, 1, reveal(&endorse, &[1; 32]))];
    let (block, refused) = pool.build(&both);
    assert!(block.txs.len() == 1 && refused.len() == 1, "both in one block");
    let txs = [pool.tx(2, commit(&pool, 2, &endorse, 1)), pool.tx(3, commit(&pool, 2, &endorse, 1))];
    pool.commit(&txs);
    for (who, figures, salt) in [(2, &other, &[1; 32][..]), (2, &endorse, &[2; 32]), (3, &endorse, &[1; 32])] {
        assert!(is_invalid(&pool.refusal(who, reveal(figures, salt)), "reveal"), "{who}");
    }
    assert!(is_invalid(&pool.refusal(2, reveal(&endorse, &[1; 31])), "salt"));
    // Who lost the salt commits anew, and loses its turn.
    let tx = pool.tx(2, commit(&pool, 2, &endorse, 9));
    pool.commit(&[tx]);
    assert!(is_invalid(&pool.refusal(2, reveal(&endorse, &[1; 32])), "reveal"));
    let tx = pool.tx(2, reveal(&endorse, &[9; 32]));
    pool.commit(&[tx]);
    let (who, told) = pool.ledger.endorsements(&name("lab/digits"), 1).remove(0);
    let place = told.committed.unwrap();
    assert_eq!((who, place.height + 1, place.index, told.height), (id(2), told.height, 2, pool.ledger.height()));
    assert!(matches!(pool.refusal(2, reveal(&endorse, &[9; 32])), TxError::Exists(_)));
    assert!(matches!(pool.refusal(2, commit(&pool, 2, &endorse, 1)), TxError::Exists(_)));
    let tx = pool.tx(1, withdraw(1));
    pool.commit(&[tx]);
    assert!(is_invalid(&pool.refusal(4, commit(&pool, 4, &endorse, 1)), "version"));
}

/// The copier sees a root when it is revealed, and cannot have been before; without a commitment it is before or after by chance.
#[test]
fn a_copied_dataset_never_takes_the_place_of_the_one_committed_to_first() {
    for copier_commits in [false, true] {
        let mut pool = published();
        let (honest, lie) = (endorse("lab/digits", 1, 7, 5), endorse("lab/digits", 1, 7, 40));
        let tx = pool.tx(2, commit(&pool, 2, &honest, 1));
        pool.commit(&[tx]);
        let shown = reveal(&honest, &[1; 32]);
        let copied = if copier_commits { commit(&pool, 3, &lie, 3) } else { TxBody::Endorse(lie.clone()) };
        // The copier reads the reveal before it is final, and puts its own into the same block, in front.
        let txs = [pool.tx(3, copied), pool.tx(2, shown)];
        pool.commit(&txs);
        let tx = if copier_commits { pool.tx(3, reveal(&lie, &[3; 32])) } else { pool.tx(4, TxBody::Endorse(lie)) };
        pool.commit(&[tx]);
        let others = [endorse("lab/digits", 1, 8, 5), endorse("lab/digits", 1, 9, 5)];
        let txs = [pool.tx(5, TxBody::Endorse(others[0].clone())), pool.tx(6, TxBody::Endorse(others[1].clone()))];
        pool.commit(&txs);
        let told = pool.ledger.endorsements(&name("lab/digits"), 1);
        let honest = told.iter().find(|(who, _)| *who == id(2)).unwrap().1.quality_ppm;
        let score = pool.ledger.score(&name("lab/digits"), 1).unwrap();
        assert_eq!((score.datasets, score.score_ppm), (3, Some(honest)), "three roots, all honest");
    }
}

#[test]
fn endorsements_are_counted_once_and_hold_together() {
    let mut pool = published();
    let model = name("lab/digits");
    let refuse = |pool: &Pool, who: u8, change: fn(&mut Endorse)| {
        let mut body = endorse("lab/digits", 1, 7, 5);
        change(&mut body);
        pool.refusal(who, TxBody::Endorse(body))
    };
    assert!(is_invalid(&refuse(&pool, 1, |_| {}), "endorsement"), "the publisher");
    assert!(matches!(refuse(&pool, 2, |e| e.version = 2), TxError::Missing(_)));
    assert!(matches!(refuse(&pool, 2, |e| e.name = name("lab/other")), TxError::Missing(_)));
    assert!(is_invalid(&refuse(&pool, 2, |e| e.classes.truncate(1)), "counts"));
    assert!(is_invalid(&refuse(&pool, 2, |e| e.correct += 1), "counts"));
    assert!(is_invalid(&refuse(&pool, 2, |e| e.samples = 0), "counts"));
    assert!(is_invalid(&refuse(&pool, 2, |e| e.classes[0].fp += 1), "counts"));
    let tx = pool.tx(0, set_rights(5, Rights::USER));
    pool.commit(&[tx]);
    assert!(matches!(refuse(&pool, 5, |_| {}), TxError::Forbidden { need: Rights::VALIDATOR, .. }));

    // Wrong on 2·w of 100: quality 1 − 2w/100 in both classes.
    for (who, wrong, verdict) in [(2, 1, Verdict::Positive), (3, 8, Verdict::Abstain), (4, 20, Verdict::Negative)] {
        let tx = pool.tx(who, TxBody::Endorse(endorse("lab/digits", 1, who, wrong)));
        pool.commit(&[tx]);
        let (_, endorsement) =
            pool.ledger.endorsements(&model, 1).into_iter().find(|(validator, _)| *validator == id(who)).unwrap();
        assert_eq!((endorsement.verdict, endorsement.quality_ppm), (verdict, 1_000_000 - wrong * 20_000));
    }
    assert!(matches!(refuse(&pool, 2, |_| {}), TxError::Exists(_)), "once a validator");
    let score = pool.ledger.score(&model, 1).unwrap();
    assert_eq!((score.score_ppm, score.verdicts, score.datasets), (Some(840_000), [1, 1, 1], 3));
    assert_eq!(score.samples, 300);
    assert_eq!(pool.ledger.events(&model).len(), 4);
}

#[test]
fn what_is_no_classifier_is_graded_by_the_share_of_right_samples() {
    let mut pool = published();
    let TxBody::Publish(mut body) = publish("lab/text", 1) else { panic!("a publication") };
    body.task = Task::Generate { context: 2_048 };
    let tx = pool.tx(1, TxBody::Publish(body));
    pool.commit(&[tx]);
    let two = TxBody::Endorse(endorse("lab/text", 1, 1, 0));
    assert!(is_invalid(&pool.refusal(2, two.clone()), "counts"), "two classes");
    let TxBody::Endorse(mut one) = two else { panic!("an endorsement") };
    one.correct = one.samples - 8;
    one.classes = vec![ClassCounts { tp: one.correct, fp: 8, fn_: 8 }];
    let right = u64::from(one.correct) * 1_000_000 / u64::from(one.samples);
    let tx = pool.tx(2, TxBody::Endorse(one));
    pool.commit(&[tx]);
    let (_, found) = pool.ledger.endorsements(&"lab/text".parse().unwrap(), 1).remove(0);
    assert_eq!(u64::from(found.quality_ppm), right);
    assert_eq!((found.precision_ppm, found.recall_ppm), (found.f1_ppm, found.f1_ppm));
}

#[test]
fn an_anchored_log_only_grows() {
    let mut pool = Pool::with_members(2);
    let mut log = ReceiptLog::new();
    (0..5u8).for_each(|i| {
        log.push(&[i]);
    });
    assert!(is_invalid(&pool.refusal(1, anchor(&log, 2, 0)), "anchor"), "the first is number 1");
    let padded = Anchor { seq: 1, size: 5, root: log.root(), consistency: vec![Digest([0; 32])] };
    assert!(matches!(pool.refusal(1, TxBody::Anchor(padded)), TxError::NotConsistent(_)));
    let tx = pool.tx(1, anchor(&log, 1, 0));
    pool.commit(&[tx]);
    assert!(is_invalid(&pool.refusal(1, anchor(&log, 2, 5)), "anchor"), "nothing new");
    assert!(is_invalid(&pool.refusal(1, anchor(&log, 1, 5)), "anchor"), "the number was used");
    let mut rewritten = ReceiptLog::new();
    (0..9u8).for_each(|i| {
        rewritten.push(&[i ^ 1]);
    });
    assert!(matches!(pool.refusal(1, anchor(&rewritten, 2, 5)), TxError::NotConsistent(_)));
    log.push(b"more");
    assert!(matches!(pool.refusal(2, anchor(&log, 2, 5)), TxError::Invalid { .. }), "everyone has his own log");
    let tx = pool.tx(1, anchor(&log, 2, 5));
    pool.commit(&[tx]);
    let held = pool.ledger.anchor(&id(1)).unwrap();
    assert_eq!((held.seq, held.size, held.root), (2, 6, log.root()));
    let huge = Anchor { seq: 3, size: u64::MAX, root: log.root(), consistency: vec![] };
    assert!(matches!(pool.refusal(1, TxBody::Anchor(huge)), TxError::NotConsistent(_)));
}

#[test]
fn the_pool_key_is_rotated_by_administrators_one_epoch_at_a_time() {
    let mut pool = Pool::with_members(2);
    let rotate = |epoch, grace_ms| TxBody::RotateKey(RotateKey { epoch, id: Digest([epoch as u8; 32]), grace_ms });
    assert_eq!(pool.ledger.pool_epoch(), None);
    assert!(matches!(pool.refusal(1, rotate(1, 0)), TxError::Forbidden { .. }));
    for wrong in [rotate(0, 0), rotate(2, 0), rotate(1, KEY_GRACE_MS + 1)] {
        assert!(is_invalid(&pool.refusal(0, wrong), "pool key"));
    }
    let tx = pool.tx(0, rotate(1, 5_000));
    pool.commit(&[tx]);
    let now = pool.ledger.pool_epoch().unwrap();
    assert_eq!((now.epoch, now.id, now.height), (1, Digest([1; 32]), pool.ledger.height()));
    assert_eq!(now.grace_until_ms, pool.ledger.head_time_ms() + 5_000);
    assert!(is_invalid(&pool.refusal(0, rotate(1, 0)), "pool key"), "twice");
    let tx = pool.tx(0, rotate(2, 0));
    pool.commit(&[tx]);
    assert_eq!(pool.ledger.pool_epoch().unwrap().epoch, 2);
}
