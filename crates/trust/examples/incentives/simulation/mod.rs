//! Sixty validators, forty models, twenty epochs, from one seed: attackers by the row, the crate's own rules, and other ways to make a score beside
//! them on the same findings.

mod estimators;
mod pool;
mod rng;
pub(crate) mod scenario;
mod world;

use pool::Pool;
use scenario::{Attack, Scenario};
use world::{ACCEPT, CABAL_MODELS, MODELS, World};
use zero2ai_trust::{Aging, Cumulative, score::ScoreParts};

pub(crate) const EPOCHS: usize = 20;
/// The estimators, in the order of [`Outcome::scores`]; the last is the crate's.
pub(crate) const ESTIMATORS: [&str; 5] = ["stake mean", "Yuma clip", "winsorised", "stake median", "ours"];

/// An epoch is one height here.
const AGING: Aging = Aging { epoch: 1, keep_ppm: 900_000, cap: 100_000, half: 10_000 };

/// How good the scores of one estimator are after the last epoch. Sums over seeds, until [`Outcome::mean`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quality {
    /// Mean distance from what a model is worth, over all models, as a part of one.
    pub(crate) error: f64,
    /// The same over the cabal's own models.
    pub(crate) cabal_error: f64,
    /// Models rightly accepted or rejected, as a part of one.
    pub(crate) right: f64,
}

/// What a row comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) scores: [Quality; 5],
    /// Right decisions over all epochs, not the last alone: the crate's rules.
    pub(crate) right_always: f64,
    /// Honest validators whose stake was slashed, and attackers.
    pub(crate) slashed: (f64, f64),
    /// Stake that attackers lost, as a part of theirs.
    pub(crate) lost: f64,
    /// Honest validators whose leaf was refuted at the end, and those a first committee would have refuted.
    pub(crate) wronged: (f64, f64),
    /// Disputes of a liar's leaf, and those a first committee would have let pass.
    pub(crate) disputes: (f64, f64),
    /// Attackers' part of all rewards; and under rewards against random peers, where that was asked for.
    pub(crate) rewards: (f64, f64),
    /// Epochs, from the attack's beginning, until the attackers' part of the weight was half of what it was: over the seeds in
    /// which it came to that.
    pub(crate) halved: f64,
    /// The part of the seeds in which it did.
    pub(crate) halvings: f64,
    /// Mean reputation of the honest at the end.
    pub(crate) honest_standing: f64,
}

/// The row's mean over so many seeds.
pub(crate) fn run(scenario: &Scenario, first_seed: u64, seeds: u64) -> Outcome {
    let mut sum = Outcome::default();
    for seed in first_seed..first_seed + seeds {
        play(scenario, seed, &mut sum);
    }
    sum.mean(seeds)
}

impl Outcome {
    fn mean(mut self, seeds: u64) -> Self {
        let n = seeds.max(1) as f64;
        for q in &mut self.scores {
            (q.error, q.cabal_error, q.right) = (q.error / n, q.cabal_error / n, q.right / n);
        }
        let pair = |p: (f64, f64)| (p.0 / n, p.1 / n);
        self.halved /= self.halvings.max(1.0);
        self.halvings /= n;
        self.right_always /= n;
        self.lost /= n;
        self.honest_standing /= n;
        self.slashed = pair(self.slashed);
        self.wronged = pair(self.wronged);
        self.disputes = pair(self.disputes);
        self.rewards = pair(self.rewards);
        self
    }
}

fn play(scenario: &Scenario, seed: u64, sum: &mut Outcome) {
    let mut world = World::new(scenario, seed);
    let mut pool = Pool::new(&world, scenario, seed);
    let begin = if let Attack::Collude { from, .. } = scenario.attack { from } else { 0 };
    let mut scores = [[Cumulative::default(); MODELS]; 5];
    let (mut before, mut halved) = (0.0, None);
    for epoch in 0..EPOCHS {
        if epoch == begin {
            before = pool.attackers_weight(&world);
        }
        let mut rounds = Vec::with_capacity(MODELS);
        for (model, known) in scores[4].iter().enumerate() {
            let seats = pool.seats(&world, epoch, model);
            rounds.push(world.reports(scenario, epoch, model, &seats, known.score_ppm()));
        }
        let height = epoch as u64 + 1;
        for (model, reports) in rounds.iter().enumerate() {
            let findings: Vec<(u64, u32)> =
                reports.iter().map(|r| (world.validators[r.who].stake, r.found_ppm)).collect();
            let told = [
                estimators::stake_mean(&findings),
                estimators::yuma_clip(&findings),
                estimators::winsorised(&findings),
                estimators::median(&findings),
            ];
            for (scores, score) in scores.iter_mut().zip(told) {
                let round = ScoreParts { score_ppm: Some(score), datasets: 3, samples: u64::from(AGING.cap) };
                scores[model] = scores[model].with_round(height, &round, &AGING);
            }
        }
        for (model, round) in pool.settle(&mut world, epoch, &rounds, sum).into_iter().enumerate() {
            let held = if scenario.rules.by_validator { Cumulative::default() } else { scores[4][model] };
            scores[4][model] = held.with_round(height, &round, &AGING);
        }
        sum.right_always += quality(&world, &scores[4]).right / EPOCHS as f64;
        if epoch >= begin && halved.is_none() && before > 0.0 && pool.attackers_weight(&world) <= before / 2.0 {
            halved = Some(epoch + 1 - begin);
        }
    }
    for (sum, scores) in sum.scores.iter_mut().zip(&scores) {
        let got = quality(&world, scores);
        (sum.error, sum.cabal_error, sum.right) =
            (sum.error + got.error, sum.cabal_error + got.cabal_error, sum.right + got.right);
    }
    if let Some(epochs) = halved {
        (sum.halved, sum.halvings) = (sum.halved + epochs as f64, sum.halvings + 1.0);
    }
    pool.report(&world, sum);
}

fn quality(world: &World, scores: &[Cumulative; MODELS]) -> Quality {
    let mut got = Quality::default();
    for (model, (worth, score)) in world.models.iter().zip(scores).enumerate() {
        let score = score.score_ppm();
        let error = f64::from(score.unwrap_or(0).abs_diff(*worth)) / 1e6;
        got.error += error / MODELS as f64;
        if model < CABAL_MODELS {
            got.cabal_error += error / CABAL_MODELS as f64;
        }
        if score.is_some_and(|s| s >= ACCEPT) == (*worth >= ACCEPT) {
            got.right += 1.0 / MODELS as f64;
        }
    }
    got
}
