//! A pool whose rules know stake and rounds, and validators that tell the truth or lie.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use zero2ai_ledger::{ReceiptLog, asked, round_commitment, round_job};
use zero2ai_proto::{
    ByteBuf, Digest, Signed,
    state::{Endorsement, EntryState},
    tx::{
        Allot, Ballot, ClassCounts, CommitRound, Contradict, Dispute, Disputed, Endorse, Grading, OpenLeaves,
        OpenedLeaf, RevealRound, SetRules, Stake, Tx, TxBody,
    },
};

use super::{Pool, claim, id, name, publish};

pub const MODEL: &str = "lab/digits";

/// Short windows, everybody is asked, and a window of convictions that ends soon.
pub fn quick() -> Grading {
    Grading {
        delay: 1,
        commit: 3,
        reveal: 3,
        dispute: 6,
        seats: 21,
        bond_ppm: 10_000,
        open_ppm: 1_000_000,
        leaves: 8,
        window: 40,
    }
}

/// What a validator ran: its leaves, and the counts that it tells of them.
#[derive(Clone, Debug)]
pub struct Run {
    pub counts: Endorse,
    pub log: ReceiptLog,
    /// Label and answer of each sample.
    pub rows: Vec<(u16, u16)>,
}

impl Run {
    /// A run over 100 samples of two classes, of which so many were answered wrongly.
    pub fn honest(root: u8, wrong: usize) -> Self {
        let rows: Vec<(u16, u16)> = (0..100u16)
            .map(|i| {
                let label = i % 2;
                let missed = usize::from(i) * wrong / 100 != (usize::from(i) + 1) * wrong / 100;
                (label, if missed { 1 - label } else { label })
            })
            .collect();
        let mut log = ReceiptLog::new();
        for (i, (label, answer)) in rows.iter().enumerate() {
            log.push(&OpenedLeaf::bytes(*label, *answer, &sample(i)));
        }
        let mut classes = vec![ClassCounts::default(); 2];
        for (label, answer) in &rows {
            if label == answer {
                classes[usize::from(*label)].tp += 1;
            } else {
                classes[usize::from(*answer)].fp += 1;
                classes[usize::from(*label)].fn_ += 1;
            }
        }
        let counts = Endorse {
            name: name(MODEL),
            version: 1,
            correct: classes.iter().map(|c| c.tp).sum(),
            classes,
            samples: 100,
            p50_us: 300,
            dataset_root: Digest([root; 32]),
            predictions_root: log.root(),
        };
        Self { counts, log, rows }
    }

    /// The same leaves under counts of a run without a mistake.
    pub fn lying(root: u8, wrong: usize) -> Self {
        let told = Self::honest(root, 0).counts;
        let run = Self::honest(root, wrong);
        let counts = Endorse { predictions_root: run.log.root(), ..told };
        Self { counts, ..run }
    }

    /// One leaf with its proof.
    pub fn leaf(&self, index: u32) -> OpenedLeaf {
        let (label, answer) = self.rows[index as usize];
        let siblings = self.log.prove(u64::from(index), self.log.size()).unwrap().siblings;
        OpenedLeaf { index, label, answer, sample: sample(index as usize), siblings }
    }

    /// Places whose answer was wrong.
    pub fn wrong(&self) -> Vec<u32> {
        (0..100).filter(|i| self.rows[*i as usize].0 != self.rows[*i as usize].1).collect()
    }
}

fn sample(i: usize) -> Digest {
    Digest::of(&i.to_le_bytes())
}

pub fn allot(who: u8, amount: u64) -> TxBody {
    TxBody::Allot(Allot { member: id(who), amount })
}

pub fn commit(pool: &Pool, who: u8, round: u64, run: &Run) -> TxBody {
    let commitment = round_commitment(&pool.ledger.pool(), &id(who), round, &run.counts, &[who; 32]).unwrap();
    TxBody::CommitRound(CommitRound { name: name(MODEL), version: 1, round, commitment })
}

pub fn reveal(who: u8, round: u64, run: &Run) -> TxBody {
    let salt = ByteBuf::from(vec![who; 32]);
    TxBody::RevealRound(RevealRound { endorse: run.counts.clone(), round, salt })
}

pub fn contradict(who: u8, round: u64, leaves: Vec<OpenedLeaf>) -> TxBody {
    TxBody::Contradict(Contradict { name: name(MODEL), version: 1, round, validator: id(who), leaves })
}

/// Which leaf of `who` in a round.
pub fn disputed(who: u8, round: u64, leaf: u32) -> Disputed {
    Disputed { name: name(MODEL), version: 1, round, validator: id(who), leaf }
}

pub fn dispute(who: u8, round: u64, leaf: OpenedLeaf) -> TxBody {
    TxBody::Dispute(Dispute { name: name(MODEL), version: 1, round, validator: id(who), leaf })
}

pub fn ballot(of: &Disputed, refuted: bool) -> TxBody {
    TxBody::Ballot(Ballot { disputed: of.clone(), refuted })
}

/// The leaves that `who` is asked for in a round.
pub fn open(pool: &Pool, who: u8, round: u64, run: &Run) -> Option<TxBody> {
    let state = pool.ledger.round(&name(MODEL), 1, round).unwrap();
    let places = asked(&state, &round_job(&name(MODEL), 1, round), &id(who), 100)?;
    let leaves = places.into_iter().map(|place| run.leaf(place)).collect();
    Some(TxBody::OpenLeaves(OpenLeaves { name: name(MODEL), version: 1, round, leaves }))
}

impl Pool {
    /// A pool under rules 2, members 1 to `n`, with `grading` and, for each of `stakes`, so much staked.
    pub fn staked(n: u8, grading: Grading, stakes: &[(u8, u64)]) -> Self {
        let mut pool = Self::with_members(n);
        let from = pool.ledger.height() + 3;
        let tx = pool.tx(0, TxBody::SetRules(SetRules { version: 2, height: from }));
        pool.commit(&[tx]);
        pool.until(from);
        let mut txs = vec![pool.tx(0, TxBody::SetGrading(grading))];
        for (who, amount) in stakes {
            txs.push(pool.tx(0, allot(*who, *amount)));
        }
        pool.commit(&txs);
        let stake = |(who, amount): &(u8, u64)| pool.tx(*who, TxBody::Stake(Stake { amount: *amount }));
        let txs: Vec<Signed<Tx>> = stakes.iter().map(stake).collect();
        pool.commit(&txs);
        pool
    }

    /// Empty blocks up to this height.
    pub fn until(&mut self, height: u64) {
        while self.ledger.height() < height {
            self.commit(&[]);
        }
    }

    /// Publishes the model of member 1 and goes on to where commitments are taken.
    pub fn published(&mut self) {
        let txs = [self.tx(1, claim("lab")), self.tx(1, publish(MODEL, 1))];
        self.commit(&txs);
        self.until(self.ledger.round(&name(MODEL), 1, 1).unwrap().draws);
    }

    pub fn do_all(&mut self, bodies: impl IntoIterator<Item = (u8, TxBody)>) {
        let txs: Vec<_> = bodies.into_iter().map(|(who, body)| self.tx(who, body)).collect();
        self.commit(&txs);
    }

    /// Everybody commits and reveals; those of `opens` also open what they are asked for. Ends with the round settled.
    pub fn round(&mut self, round: u64, runs: &[(u8, Run)], opens: &[u8]) {
        self.committed_and_revealed(round, runs);
        self.opened(round, runs, opens);
        let end = self.ledger.round(&name(MODEL), 1, round).unwrap().end();
        self.until(end);
    }

    /// Up to where leaves can be opened.
    pub fn committed_and_revealed(&mut self, round: u64, runs: &[(u8, Run)]) {
        let state = self.ledger.round(&name(MODEL), 1, round).unwrap();
        let bodies: Vec<_> = runs.iter().map(|(who, run)| (*who, commit(self, *who, round, run))).collect();
        self.do_all(bodies);
        self.until(state.commit_end());
        self.do_all(runs.iter().map(|(who, run)| (*who, reveal(*who, round, run))));
        self.until(state.reveal_end() + 1);
    }

    pub fn opened(&mut self, round: u64, runs: &[(u8, Run)], opens: &[u8]) {
        let asked = runs.iter().filter(|(who, _)| opens.contains(who));
        let bodies: Vec<_> = asked.filter_map(|(who, run)| Some((*who, open(self, *who, round, run)?))).collect();
        self.do_all(bodies);
    }

    pub fn entry(&self, round: u64, who: u8) -> EntryState {
        self.ledger.entry(&name(MODEL), 1, round, &id(who)).unwrap()
    }

    pub fn found(&self, round: u64, who: u8) -> Endorsement {
        self.entry(round, who).found.unwrap()
    }
}
