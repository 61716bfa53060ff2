//! One pool under the crate's rules: committees, openings, disputes, scores, records, rewards, slashing. Every decision is a call of
//! the crate; this file only carries things from one to the next.

use zero2ai_proto::{Digest, NodeId, tx::ClassCounts};
use zero2ai_trust::{
    Cumulative, PPM, Reach, Reputation,
    committee::{draw, is_challenged, leaves, next_seed},
    dispute::{Ballot, Instance, refuted},
    reward::{Shared, agreement, claim, split},
    score::ScoreParts,
    settle::{Conduct, Finding, Standing, settle},
    slash::{Leaf, charges, contradiction},
};

use super::{
    AGING, Outcome,
    rng::Rng,
    scenario::{Rules, Scenario},
    world::{MODELS, Report, Under, World},
};

/// Paid in an epoch.
const REWARDS: u64 = 1_000_000_000;
/// Findings further apart than this agree no more than any two.
const TOLERANCE: u32 = 50_000;
/// Honest leaves that the attackers dispute, each epoch, hoping for a committee of their own.
const FALSE_DISPUTES: usize = 5;
/// Models that rewards against random peers are computed over: every pair of validators is gone through.
const PEER_MODELS: usize = 10;

pub(crate) struct Pool {
    rules: Rules,
    seed: Digest,
    rng: Rng,
    records: Vec<Reputation>,
    /// The records as the epoch began: what votes and claims of it weigh.
    weights: Vec<Reputation>,
    /// What each validator found of each model over all epochs.
    trails: Vec<[Cumulative; MODELS]>,
    stakes: Vec<u64>,
    earned: Vec<u64>,
    peers: Vec<f64>,
    ever_slashed: Vec<bool>,
}

/// The name of a round, as bytes.
fn job(epoch: usize, model: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(epoch as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&(model as u64).to_le_bytes());
    bytes
}

impl Pool {
    pub(crate) fn new(world: &World, scenario: &Scenario, seed: u64) -> Self {
        let count = world.validators.len();
        Self {
            rules: scenario.rules,
            seed: next_seed(&Digest([0; 32]), 0, &seed.to_le_bytes()),
            rng: Rng::new(seed, 2),
            records: vec![Reputation::default(); count],
            weights: vec![Reputation::default(); count],
            trails: vec![[Cumulative::default(); MODELS]; count],
            stakes: world.validators.iter().map(|v| v.stake).collect(),
            earned: vec![0; count],
            peers: vec![0.0; count],
            ever_slashed: vec![false; count],
        }
    }

    fn weight(&self, who: usize) -> u64 {
        u64::try_from(self.records[who].weight(self.stakes[who])).unwrap_or(u64::MAX)
    }

    /// The attackers' part of all stake × reputation.
    pub(crate) fn attackers_weight(&self, world: &World) -> f64 {
        let sum = |attackers_only: bool| -> f64 {
            let counted = world.validators.iter().enumerate().filter(|(_, v)| v.attacker || !attackers_only);
            counted.map(|(i, _)| self.weight(i) as f64).sum()
        };
        sum(true) / sum(false).max(1.0)
    }

    /// Who grades this model in this epoch.
    pub(crate) fn seats(&self, world: &World, epoch: usize, model: usize) -> Vec<usize> {
        match self.rules.seats {
            None => (0..world.validators.len()).collect(),
            Some(seats) => self.drawn(world, &job(epoch, model), seats, None),
        }
    }

    fn drawn(&self, world: &World, job: &[u8], seats: usize, party: Option<usize>) -> Vec<usize> {
        let others = world.validators.iter().enumerate().filter(|(i, _)| Some(*i) != party);
        let candidates: Vec<(NodeId, u64)> = others.map(|(i, v)| (v.id, self.stakes[i])).collect();
        let index = |id: &NodeId| world.validators.iter().position(|v| v.id == *id);
        draw(&self.seed, job, &candidates, seats).iter().filter_map(index).collect()
    }

    /// One epoch: what was revealed is opened, disputed, scored and paid.
    pub(crate) fn settle(
        &mut self,
        world: &mut World,
        epoch: usize,
        rounds: &[Vec<Report>],
        sum: &mut Outcome,
    ) -> Vec<ScoreParts> {
        self.seed = next_seed(&self.seed, epoch as u64, b"after the reveals");
        let (void, convicted) = self.open(world, epoch, rounds, sum);
        self.false_disputes(world, epoch, sum);
        self.weights.clone_from(&self.records);
        let scores: Vec<ScoreParts> = rounds
            .iter()
            .enumerate()
            .map(|(model, reports)| self.settle_round(world, epoch, model, reports, &void))
            .collect();
        self.pay(world, rounds, &scores, &void);
        self.slash(&convicted);
        scores
    }

    /// Opens what the seed says. Which findings are void, by validator and model, and who was convicted.
    fn open(
        &mut self,
        world: &mut World,
        epoch: usize,
        rounds: &[Vec<Report>],
        sum: &mut Outcome,
    ) -> (Vec<[bool; MODELS]>, Vec<usize>) {
        let mut void = vec![[false; MODELS]; world.validators.len()];
        let mut convicted = Vec::new();
        let samples = self.rules.samples;
        for (model, reports) in rounds.iter().enumerate() {
            let job = job(epoch, model);
            for report in reports {
                let id = world.validators[report.who].id;
                let void_already = void[report.who][model];
                if void_already || !is_challenged(&self.seed, &job, &id, self.rules.challenged_ppm) {
                    continue;
                }
                let places = leaves(&self.seed, &job, &id, samples, self.rules.leaves);
                let proved = contradicted(report, samples, &places);
                if proved && !convicted.contains(&report.who) {
                    convicted.push(report.who);
                }
                if proved
                    || (world.differs(report.who, report.under, &places)
                        && self.dispute(world, report.who, true, &job, sum))
                {
                    if self.rules.void_epoch {
                        void[report.who] = [true; MODELS];
                    }
                    void[report.who][model] = true;
                }
            }
        }
        (void, convicted)
    }

    /// Whether a leaf of `accused` is refuted by those who run the model again. The honest vote for what they see, the
    /// attackers for their own; whoever loses before the last instance appeals, so that the last one decides.
    fn dispute(&self, world: &World, accused: usize, false_leaf: bool, job: &[u8], sum: &mut Outcome) -> bool {
        let ours = world.validators[accused].attacker;
        let vote = |who: usize| {
            let of_cabal = world.validators[who].attacker;
            let weight = u128::from(self.weight(who));
            Ballot { weight, refuted: if of_cabal { !ours } else { false_leaf } }
        };
        let ballots = |seats: Option<usize>| -> Vec<Ballot> {
            match seats {
                Some(seats) => {
                    let job = [job, &accused.to_le_bytes()].concat();
                    self.drawn(world, &job, seats, Some(accused)).into_iter().map(vote).collect()
                }
                None => (0..world.validators.len()).filter(|i| *i != accused).map(vote).collect(),
            }
        };
        let (first, last) = (refuted(&ballots(Instance::First.seats())), refuted(&ballots(Instance::Last.seats())));
        if false_leaf {
            sum.disputes.0 += 1.0;
            sum.disputes.1 += f64::from(u8::from(!first));
        } else {
            sum.wronged.0 += f64::from(u8::from(last));
            sum.wronged.1 += f64::from(u8::from(first));
        }
        last
    }

    fn false_disputes(&mut self, world: &World, epoch: usize, sum: &mut Outcome) {
        if !world.validators.iter().any(|v| v.attacker) {
            return;
        }
        for n in 0..FALSE_DISPUTES {
            let who = usize::try_from(self.rng.below(world.validators.len() as u64)).unwrap_or(0);
            if !world.validators[who].attacker && self.dispute(world, who, false, &job(epoch, MODELS + n), sum) {
                self.records[who] = self.records[who].after(0, 1);
            }
        }
    }

    /// Settles a model's round: scores, records and everyone's own findings so far.
    fn settle_round(
        &mut self,
        world: &World,
        epoch: usize,
        model: usize,
        reports: &[Report],
        void: &[[bool; MODELS]],
    ) -> ScoreParts {
        let height = epoch as u64 + 1;
        let mut part: Vec<usize> = reports.iter().map(|r| r.who).collect();
        let mut conducts: Vec<Conduct> = reports
            .iter()
            .map(|r| {
                let mut root = [0; 32];
                root[..8].copy_from_slice(&(r.who as u64).to_le_bytes());
                let index = u32::try_from(r.who).unwrap_or(u32::MAX);
                let samples = self.rules.samples;
                let dataset_root = Digest(root);
                let found = Finding { quality_ppm: r.found_ppm, samples, dataset_root, height, index };
                if void[r.who][model] { Conduct::Refuted } else { Conduct::Upheld(found) }
            })
            .collect();
        if self.rules.seats.is_none() {
            // Where everyone has a seat, who is missing was silent; on a committee the draw is not kept here.
            let silent: Vec<usize> = (0..self.records.len()).filter(|who| !part.contains(who)).collect();
            conducts.extend(silent.iter().map(|_| Conduct::Silent));
            part.extend(silent);
        }
        let standings: Vec<Standing> = part
            .iter()
            .zip(conducts)
            .map(|(&who, conduct)| Standing {
                validator: world.validators[who].id,
                stake: self.stakes[who],
                // Weights are of the epoch's beginning for all its rounds; events are added to what the record has become.
                reputation: self.weights[who],
                history: if self.rules.by_validator { self.trails[who][model] } else { Cumulative::default() },
                conduct,
            })
            .collect();
        let reach = if self.rules.reach { Reach::default() } else { Reach { deviations: 0, slack_ppm: PPM } };
        let settled = settle(&standings, height, &AGING, &reach);
        for ((&who, before), after) in part.iter().zip(&standings).zip(&settled.validators) {
            self.trails[who][model] = after.history;
            let unscored = after.shared.is_none() && matches!(before.conduct, Conduct::Upheld(_));
            if !unscored {
                let ok = after.reputation == before.reputation.after(1, 0);
                self.records[who] = self.records[who].after(u32::from(ok), u32::from(!ok));
            }
        }
        settled.score
    }

    fn pay(&mut self, world: &World, rounds: &[Vec<Report>], scores: &[ScoreParts], void: &[[bool; MODELS]]) {
        let mut found = vec![[None; MODELS]; world.validators.len()];
        for (model, reports) in rounds.iter().enumerate() {
            for report in reports.iter().filter(|r| !void[r.who][model]) {
                found[report.who][model] = Some(report.found_ppm);
            }
        }
        let beyond = |who: usize, models: usize, against: &dyn Fn(usize) -> Option<u32>| {
            let shared = |model: usize| Some(Shared { found_ppm: found[who][model]?, score_ppm: against(model)? });
            agreement(&(0..models).filter_map(shared).collect::<Vec<_>>(), TOLERANCE)
        };
        let claims: Vec<u128> = (0..found.len())
            .map(|who| {
                claim(self.weights[who].weight(self.stakes[who]), beyond(who, MODELS, &|m| scores[m].score_ppm), false)
            })
            .collect();
        for (earned, share) in self.earned.iter_mut().zip(split(REWARDS, &claims).shares) {
            *earned += share;
        }
        if self.rules.peers {
            for who in 0..found.len() {
                let others = (0..found.len()).filter(|p| *p != who);
                let (sum, weights) = others.fold((0.0, 0.0), |(sum, weights), p| {
                    let stake = self.stakes[p] as f64;
                    (sum + stake * beyond(who, PEER_MODELS, &|m| found[p][m]) as f64, weights + stake)
                });
                self.peers[who] += self.weights[who].weight(self.stakes[who]) as f64 * (sum / weights).max(0.0) / 1e6;
            }
        }
    }

    fn slash(&mut self, convicted: &[usize]) {
        let total = self.stakes.iter().sum();
        let stakes: Vec<u64> = convicted.iter().map(|who| self.stakes[*who]).collect();
        for (who, lost) in convicted.iter().zip(charges(&stakes, total)) {
            self.stakes[*who] -= lost;
            self.ever_slashed[*who] = true;
        }
    }

    /// Adds up what the run came to.
    pub(crate) fn report(&self, world: &World, sum: &mut Outcome) {
        let of = |attacker: bool| world.validators.iter().enumerate().filter(move |(_, v)| v.attacker == attacker);
        let count = |attacker: bool| of(attacker).filter(|(i, _)| self.ever_slashed[*i]).count() as f64;
        sum.slashed = (sum.slashed.0 + count(false), sum.slashed.1 + count(true));
        let (had, have) = of(true).fold((0u64, 0u64), |(had, have), (i, v)| (had + v.stake, have + self.stakes[i]));
        sum.lost += 1.0 - have as f64 / had.max(1) as f64;
        let paid = |attacker: bool| of(attacker).map(|(i, _)| self.earned[i] as f64).sum::<f64>();
        sum.rewards.0 += paid(true) / (paid(true) + paid(false)).max(1.0);
        let peers = |attacker: bool| of(attacker).map(|(i, _)| self.peers[i]).sum::<f64>();
        sum.rewards.1 += peers(true) / (peers(true) + peers(false)).max(1.0);
        let honest = of(false).count().max(1) as f64;
        sum.honest_standing +=
            of(false).map(|(i, _)| f64::from(self.records[i].weight_ppm()) / 1e6).sum::<f64>() / honest;
    }
}

/// Whether the opened leaves contradict the counts. Whoever tells counts that his leaves do not hold is asked for all labels and
/// answers, some bytes each; honest ones open what was drawn.
fn contradicted(report: &Report, samples: u32, places: &[u32]) -> bool {
    let (right, wrong) = (report.right, samples - report.right);
    let counts = [ClassCounts { tp: right, fp: 0, fn_: wrong }, ClassCounts { tp: 0, fp: wrong, fn_: 0 }];
    let leaf = |index: u32, right: u32| Leaf { index, label: 0, answer: u16::from(index >= right) };
    match report.under {
        Under::Other { right } => {
            let all: Vec<Leaf> = (0..samples).map(|i| leaf(i, right)).collect();
            contradiction(&counts, samples, &all).is_some()
        }
        Under::Held | Under::Forged { .. } | Under::Guessed { .. } => {
            let opened: Vec<Leaf> = places.iter().map(|i| leaf(*i, right)).collect();
            contradiction(&counts, samples, &opened).is_some()
        }
    }
}
