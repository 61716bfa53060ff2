//! A pool in whose next block every step of a round can be taken: one model's leaves are opened, another's figures revealed, a third's
//! committed to, and of a fourth's leaves one can be disputed, one voted over, one taken to the next instance.

use zero2ai_ledger::{ReceiptLog, asked, round_commitment, round_job};
use zero2ai_proto::{
    Digest, ModelName,
    manifest::Domain,
    tx::{
        Allot, Authorise, Ballot, ClassCounts, CommitRound, Contradict, Dispute, Disputed, Elect, Endorse, Graders,
        Grading, OpenLeaves, OpenRound, OpenedLeaf, Publish, RevealRound, SetPot, SetRules, Stake, TxBody, Unstake,
    },
};

use super::{Begun, Ledger, Signed, Tx, id, publish, sign};

/// Windows as short as four signers allow.
const GRADING: Grading = Grading {
    delay: 1,
    commit: 3,
    reveal: 3,
    dispute: 7,
    seats: 8,
    bond_ppm: 10_000,
    open_ppm: 1_000_000,
    leaves: 4,
    window: 50,
};

fn name(model: &str) -> ModelName {
    model.parse().expect("a name")
}

/// Four samples of two classes, all answered rightly, and their leaves.
fn leaves() -> (ReceiptLog, Vec<OpenedLeaf>) {
    let sample = Digest([6; 32]);
    let mut log = ReceiptLog::new();
    for i in 0..4u16 {
        log.push(&OpenedLeaf::bytes(i % 2, i % 2, &sample));
    }
    let leaf = |index: u32| {
        let siblings = log.prove(u64::from(index), 4).expect("a leaf").siblings;
        OpenedLeaf { index, label: index as u16 % 2, answer: index as u16 % 2, sample, siblings }
    };
    let all = (0..4).map(leaf).collect();
    (log, all)
}

/// What `who` says of a model: 2 the truth, 3 that the model erred on everything.
fn counts(model: &str, who: u8) -> Endorse {
    let right = who == 2;
    let class = if right { ClassCounts { tp: 2, fp: 0, fn_: 0 } } else { ClassCounts { tp: 0, fp: 2, fn_: 2 } };
    Endorse {
        name: name(model),
        version: 1,
        classes: vec![class; 2],
        samples: 4,
        correct: if right { 4 } else { 0 },
        p50_us: 300,
        dataset_root: Digest([who; 32]),
        predictions_root: leaves().0.root(),
    }
}

fn commit(ledger: &Ledger, model: &str, who: u8) -> TxBody {
    let commitment = round_commitment(&ledger.pool(), &id(who), 1, &counts(model, who), &[5; 32]).expect("it encodes");
    TxBody::CommitRound(CommitRound { name: name(model), version: 1, round: 1, commitment })
}

fn reveal(model: &str, who: u8) -> TxBody {
    TxBody::RevealRound(RevealRound { endorse: counts(model, who), round: 1, salt: vec![5; 32].into() })
}

/// All leaves that 2 is asked for.
fn opened(ledger: &Ledger, model: &str) -> TxBody {
    let round = ledger.round(&name(model), 1, 1).expect("a round");
    let places = asked(&round, &round_job(&name(model), 1, 1), &id(2), 4).expect("everybody is asked");
    let all = leaves().1;
    let leaves = places.into_iter().map(|place| all[place as usize].clone()).collect();
    TxBody::OpenLeaves(OpenLeaves { name: name(model), version: 1, round: 1, leaves })
}

fn disputed(leaf: u32) -> Disputed {
    Disputed { name: name("kept/d"), version: 1, round: 1, validator: id(2), leaf }
}

fn dispute(place: usize) -> TxBody {
    let leaf = leaves().1[place].clone();
    TxBody::Dispute(Dispute { name: name("kept/d"), version: 1, round: 1, validator: id(2), leaf })
}

/// For the whole pool, so that everybody may grade it.
fn published(model: &str) -> TxBody {
    match publish(model, 1) {
        TxBody::Publish(body) => TxBody::Publish(Publish { domain: Domain::Pool, ..body }),
        other => other,
    }
}

/// See [`super::staked`]. `kept/m` was published under rules 1, without a round.
pub(super) fn begun() -> Begun {
    let mut begun = Begun::new();
    let from = begun.ledger.height() + 3;
    step(&mut begun, vec![(0, TxBody::SetRules(SetRules { version: 2, height: from }))]);
    while begun.ledger.height() < from {
        step(&mut begun, vec![]);
    }
    let allot = |who: u8| (0, TxBody::Allot(Allot { member: id(who), amount: 1_000 }));
    step(&mut begun, vec![(0, TxBody::SetGrading(GRADING)), allot(1), allot(2), allot(3)]);
    step(&mut begun, [1, 2, 3].map(|who| (who, TxBody::Stake(Stake { amount: 900 }))).to_vec());
    step(&mut begun, vec![(4, published("kept/d"))]);
    step(&mut begun, vec![]);
    let made = (2, commit(&begun.ledger, "kept/d", 2));
    step(&mut begun, vec![made]);
    step(&mut begun, vec![]);
    step(&mut begun, vec![]);
    // Fourteen heights from a publication to the end of its round: d's leaves can be disputed up to the block in which a's are opened.
    step(&mut begun, vec![(4, published("kept/a")), (2, reveal("kept/d", 2))]);
    step(&mut begun, vec![]);
    let both = [2, 3].map(|who| (who, commit(&begun.ledger, "kept/a", who)));
    step(&mut begun, both.to_vec());
    step(&mut begun, vec![(4, published("kept/b"))]);
    // The first dispute's only juror, number 1, is silent: so the leaf stands, and who disputes it may appeal.
    let opened = (2, opened(&begun.ledger, "kept/d"));
    step(&mut begun, vec![opened, (3, dispute(0))]);
    let (shown, made) = ([2, 3].map(|who| (who, reveal("kept/a", who))), (2, commit(&begun.ledger, "kept/b", 2)));
    step(&mut begun, [shown.to_vec(), vec![made, (3, dispute(1))]].concat());
    step(&mut begun, vec![(4, published("kept/c"))]);
    step(&mut begun, vec![]);
    step(&mut begun, vec![]);
    begun
}

fn step(begun: &mut Begun, bodies: Vec<(u8, TxBody)>) {
    let mut next = [0; 8];
    let sign = |(who, body): (u8, TxBody)| {
        let nonce = begun.ledger.member(&id(who)).map_or(0, |m| m.nonce) + next[usize::from(who)];
        next[usize::from(who)] += 1;
        sign(&begun.ledger, who, nonce, body)
    };
    let txs: Vec<Signed<Tx>> = bodies.into_iter().map(sign).collect();
    begun.commit(&txs);
}

/// One transaction of each kind that rules 2 add, in an order in which all of them apply, and who signs it.
pub(super) fn deeds(ledger: &Ledger) -> Vec<(u8, TxBody)> {
    let (model, one) = (name("kept/a"), leaves().1[..1].to_vec());
    let wrong = Contradict { name: model.clone(), version: 1, round: 1, validator: id(3), leaves: one };
    vec![
        (0, TxBody::Allot(Allot { member: id(1), amount: 7 })),
        (1, TxBody::Stake(Stake { amount: 3 })),
        (1, TxBody::Unstake(Unstake { amount: 1 })),
        (0, TxBody::SetGrading(GRADING)),
        (4, TxBody::OpenRound(OpenRound { name: name("kept/m"), version: 1 })),
        (2, commit(ledger, "kept/c", 2)),
        (2, reveal("kept/b", 2)),
        (2, opened(ledger, "kept/a")),
        (1, TxBody::Contradict(wrong)),
        (1, TxBody::Elect(Elect { candidate: Some(id(2)) })),
        (4, TxBody::Authorise(Authorise { name: name("kept/c"), graders: Graders::Named(vec![id(2)]) })),
        (0, TxBody::SetPot(SetPot { amount: 5 })),
        (3, dispute(2)),
        (1, TxBody::Ballot(Ballot { disputed: disputed(1), refuted: true })),
        (3, TxBody::Appeal(disputed(0))),
    ]
}
