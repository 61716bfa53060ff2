//! Samples of the state of grading by stake.

use zero2ai_proto::{
    TxId,
    state::{
        Backer, BallotState, Committed, ContradictionState, Conviction, DisputeState, Due, EntryState, EpochState,
        FindingState, GradersState, Halt, Offence, Outcome, PotState, RewardState, RoundCount, RoundState, SeedState,
        Selection, StakeState, StakeTotal, Standing, Tally, VoteState, key as state_key,
    },
    tx::Graders,
};

use super::{super::Vectors, digest, disputed, endorsement, key, leaf, name};

fn round() -> RoundState {
    let outcome = Outcome {
        score_ppm: Some(898_989),
        datasets: 3,
        samples: 900,
        confidence_ppm: 82_568,
        verdicts: [2, 0, 1],
        height: 489,
    };
    RoundState {
        opened: 4,
        draws: 8,
        commit: 200,
        reveal: 40,
        dispute: 241,
        seats: 21,
        bond_ppm: 10_000,
        open_ppm: 300_000,
        leaves: 24,
        staked: true,
        selection: Some(Selection::Random),
        committee: vec![key(2).public(), key(3).public()],
        open_seed: Some(digest(0xe8)),
        outcome: Some(outcome),
        disputes: 0,
        halted: false,
    }
}

fn entry() -> EntryState {
    let history = FindingState { weighted: 9_000_000, samples: 10_000_000, epoch: 3 };
    EntryState {
        commitment: digest(0xc1),
        place: Committed { height: 5, index: 1 },
        bond: 10,
        found: Some(endorsement()),
        opened: Some(260),
        contradicted: Some(261),
        standing: Some(Standing { stake: 1_000, good: 1_980_000, bad: 3_920_000, history }),
        refuted: Some(500),
    }
}

fn add_disputes(v: &mut Vectors) {
    let dispute = DisputeState {
        leaf: leaf(),
        appellant: key(4).public(),
        tx: TxId([0xe2; 32]),
        height: 262,
        instance: 1,
        draws: 266,
        vote: 200,
        appeal: 40,
        first: 10,
        backers: vec![
            Backer { who: key(4).public(), refutes: true, amount: 10 },
            Backer { who: key(3).public(), refutes: false, amount: 10 },
        ],
        votes: Tally { refuting: 5_000_000_000, standing: 1_000_000_000, cast: 9, jurors: 11 },
        tally: Some(Tally { refuting: 5_000_000_000, standing: 1_000_000_000, cast: 9, jurors: 11 }),
        earlier: None,
        settled: Some(506),
    };
    v.add("state/dispute", &dispute);
    let earlier = dispute.tally;
    let appealed =
        DisputeState { instance: 2, votes: Tally::default(), tally: None, earlier, settled: None, ..dispute };
    v.add("state/dispute_open", &appealed);
    v.add("state/ballot", &BallotState { weight: 950_000_000, bond: 10, refuted: None });
    v.add("state/pot", &PotState { amount: 500 });
    let reward = RewardState {
        shared: vec![(898_989, 900_000), (700_000, 710_000)],
        stake: 950,
        void: false,
        same: 1_779_780,
        all: 1_779_780,
        claim: 845_000_000,
    };
    v.add("state/reward", &reward);
    v.add("state/epoch", &EpochState { claims: 1_690_000_000, amount: Some(500), left: 250 });
}

pub(super) fn add(v: &mut Vectors) {
    let leaving = vec![(30, 110_009)];
    let (good, bad) = (1_000_000, 4_000_000);
    let stake = StakeState { free: 20, staked: 950, bonds: 10, leaving, good, bad, own: 7, earned: 5, disputes: 1 };
    v.add("state/stake", &stake);
    v.add("state/stakes", &StakeTotal { held: 1_000, burned: 50 });
    v.add("state/seed", &SeedState { seed: digest(0xe9), height: 9, busy: true });
    v.add("state/halt", &Halt { height: 9, pause_ms: 700_000 });
    v.add("state/rounds", &RoundCount { newest: 2 });
    v.add("state/round", &round());
    let fresh = RoundState { selection: None, committee: Vec::new(), open_seed: None, outcome: None, ..round() };
    v.add("state/round_open", &fresh);
    v.add("state/entry", &entry());
    let committed =
        EntryState { found: None, opened: None, contradicted: None, standing: None, refuted: None, ..entry() };
    v.add("state/entry_committed", &committed);
    v.add("state/finding", &FindingState { weighted: 9_000_000, samples: 10_000_000, epoch: 3 });
    let reporter = key(4).public();
    let proof = ContradictionState { leaves: vec![leaf()], reporter, tx: TxId([0xe2; 32]), height: 261 };
    v.add("state/contradiction", &proof);
    let conviction = Conviction {
        offence: Offence::Contradiction,
        liable: 980,
        height: 261,
        tx: TxId([0xe2; 32]),
        charged: Some(49),
    };
    v.add("state/conviction", &conviction);
    v.add("state/due", &Due::Settle);
    v.add("state/due_sweep", &Due::Sweep);
    v.add("state/vote", &VoteState { candidate: Some(key(3).public()), height: 9 });
    v.add("state/graders", &GradersState { graders: Graders::Elected, height: 9 });
    add_disputes(v);
    let (name, node) = (name(), key(2).public());
    let keys = [
        state_key::STAKES.to_vec(),
        state_key::SEED.to_vec(),
        state_key::HALT.to_vec(),
        state_key::GRADING.to_vec(),
        state_key::stake(&node),
        state_key::rounds(&name, 2),
        state_key::round(&name, 2, 1),
        state_key::entry(&name, 2, 1, &node),
        state_key::finding(&name, 2, &node),
        state_key::contradiction(&name, 2, 1, &node),
        state_key::convicted(10_000, &node),
        state_key::due(308, &name, 2, 1),
        state_key::vote(&node),
        state_key::graders(&name),
        state_key::dispute(&disputed()),
        state_key::ballot(&disputed(), 1, &node),
        state_key::due_of(508, &disputed()),
        state_key::POT.to_vec(),
        state_key::reward(10_000, &node),
        state_key::epoch(10_000),
    ];
    v.raw("derived/grading_keys", keys.join(&b'\n'));
}
