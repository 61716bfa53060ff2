//! Who is there, what the models are really worth, and what each validator says of them.

use zero2ai_proto::NodeId;

use super::{
    rng::Rng,
    scenario::{Attack, How, Scenario, Shift},
};

pub(crate) const MODELS: usize = 40;
/// Of these, so many are the cabal's own.
pub(crate) const CABAL_MODELS: usize = 10;
/// Quality from which a model is accepted, millionths.
pub(crate) const ACCEPT: u32 = 800_000;
/// How far datasets differ in truth: the deviation of what a model is worth on one validator's data, millionths.
const DATASETS: f64 = 4_000.0;
/// Honest validators that commit and then fail to reveal, millionths.
const NO_SHOW: u32 = 10_000;
/// The part of its samples that a lazy validator really runs: one in so many.
const LAZY: u32 = 10;
const TOTAL_STAKE: u64 = 1_000_000_000;

pub(crate) struct Validator {
    pub(crate) id: NodeId,
    pub(crate) stake: u64,
    pub(crate) attacker: bool,
}

pub(crate) struct World {
    pub(crate) validators: Vec<Validator>,
    /// What each model is worth, millionths.
    pub(crate) models: Vec<u32>,
    offsets: Vec<Vec<f64>>,
    /// One each, so that what one does moves no other's chances.
    rngs: Vec<Rng>,
}

/// What lies under a finding, when leaves of it are opened.
#[derive(Clone, Copy)]
pub(crate) enum Under {
    /// The model really says what the leaves hold.
    Held,
    /// The leaves say that so many were right, and the counts say something else.
    Other { right: u32 },
    /// The leaves from one place up to another say what the model did not.
    Forged { from: u32, to: u32 },
    /// Leaves from this place on are guessed; each is right with a chance in millionths.
    Guessed { from: u32, ppm: u32 },
}

/// One validator's finding on one model.
#[derive(Clone, Copy)]
pub(crate) struct Report {
    pub(crate) who: usize,
    /// Samples that it says were right.
    pub(crate) right: u32,
    pub(crate) found_ppm: u32,
    pub(crate) under: Under,
}

fn ppm(right: u32, samples: u32) -> u32 {
    u32::try_from(u64::from(right) * 1_000_000 / u64::from(samples)).unwrap_or(1_000_000)
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1);
        let (attackers, honest) = scenario.identities();
        let models = (0..MODELS).map(|_| 600_000 + u32::try_from(rng.below(380_001)).unwrap_or(0)).collect();
        let mut stakes = |count: usize, total: u64| -> Vec<u64> {
            let parts: Vec<u64> = (0..count).map(|_| 50 + rng.below(101)).collect();
            let sum: u64 = parts.iter().sum::<u64>().max(1);
            parts.iter().map(|p| total / sum * p).collect()
        };
        let theirs = TOTAL_STAKE / 100 * scenario.share;
        let mut all: Vec<(u64, bool)> = stakes(honest, TOTAL_STAKE - theirs).into_iter().map(|s| (s, false)).collect();
        all.extend(stakes(attackers, theirs).into_iter().map(|s| (s, true)));
        let validators: Vec<Validator> = (0u64..)
            .zip(all)
            .map(|(n, (stake, attacker))| {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&Rng::new(seed, 100 + n).draw().to_le_bytes());
                key[8..16].copy_from_slice(&n.to_le_bytes());
                Validator { id: zero2ai_proto::PublicKey(key), stake, attacker }
            })
            .collect();
        let mut rngs: Vec<Rng> = (0u64..).zip(&validators).map(|(n, _)| Rng::new(seed, 1_000 + n)).collect();
        let offsets = rngs.iter_mut().map(|rng| (0..MODELS).map(|_| rng.normal() * DATASETS).collect()).collect();
        Self { validators, models, offsets, rngs }
    }

    /// What a run of the model on this validator's next samples gives: how many are right.
    fn run(&mut self, who: usize, model: usize, samples: u32) -> u32 {
        let p = ((f64::from(self.models[model]) + self.offsets[who][model]) / 1e6).clamp(0.0, 1.0);
        let n = f64::from(samples);
        let right = n * p + self.rngs[who].normal() * (n * p * (1.0 - p)).sqrt();
        right.round().clamp(0.0, n) as u32
    }

    /// The findings on one model in one epoch. `known` is the score that stands on the ledger before.
    pub(crate) fn reports(
        &mut self,
        scenario: &Scenario,
        epoch: usize,
        model: usize,
        seats: &[usize],
        known: Option<u32>,
    ) -> Vec<Report> {
        let samples = scenario.rules.samples;
        // Whoever split his stake runs the model once for all his identities.
        let mut shared = None;
        let mut reports = Vec::new();
        for &who in seats {
            let attack = if self.validators[who].attacker { scenario.attack } else { Attack::None };
            let (right, under) = match attack {
                Attack::None if self.rngs[who].chance(NO_SHOW) => continue,
                Attack::None => (self.run(who, model, samples), Under::Held),
                Attack::Split { .. } => {
                    let right = shared.unwrap_or_else(|| self.run(who, model, samples));
                    shared = Some(right);
                    (right, Under::Held)
                }
                Attack::Collude { from, .. } if epoch < from => (self.run(who, model, samples), Under::Held),
                Attack::Collude { own, rivals, how, .. } => {
                    let shift = if model < CABAL_MODELS { own } else { rivals };
                    self.collude(who, model, samples, shift, how)
                }
                Attack::Copy => self.guess(who, model, samples, known.unwrap_or(ACCEPT)),
                Attack::Lazy => {
                    let run = samples / LAZY;
                    let found = ppm(self.run(who, model, run), run);
                    let right = u32::try_from(u64::from(found) * u64::from(samples) / 1_000_000).unwrap_or(samples);
                    (right, Under::Guessed { from: run, ppm: self.luck(model, found) })
                }
            };
            reports.push(Report { who, right, found_ppm: ppm(right, samples), under });
        }
        reports
    }

    fn collude(&mut self, who: usize, model: usize, samples: u32, shift: Shift, how: How) -> (u32, Under) {
        let real = self.run(who, model, samples);
        let (n, p) = (f64::from(samples), f64::from(self.models[model]) / 1e6);
        let by = match shift {
            Shift::Ppm(by) => f64::from(by) / 1e6 * n,
            Shift::Deviations(by) => by * (n * p * (1.0 - p)).sqrt(),
        };
        // A cabal knows its own models and measures the others: all its members say one thing.
        let said = (n * p + by).round().clamp(0.0, n) as u32;
        match how {
            How::Contradicted => (said, Under::Other { right: real }),
            How::Forged => (said, Under::Forged { from: real.min(said), to: real.max(said) }),
            How::Rigged => (said, Under::Held),
        }
    }

    /// Who ran nothing says what is known already, blurred as a run of its own would be.
    fn guess(&mut self, who: usize, model: usize, samples: u32, known: u32) -> (u32, Under) {
        let (n, p) = (f64::from(samples), f64::from(known) / 1e6);
        let right = (n * p + self.rngs[who].normal() * (n * p * (1.0 - p)).sqrt()).round().clamp(0.0, n) as u32;
        (right, Under::Guessed { from: 0, ppm: self.luck(model, known) })
    }

    /// The chance that a guessed answer is the model's: it says the true label as often as the model is known to be right, and
    /// one of nine others else.
    fn luck(&self, model: usize, known: u32) -> u32 {
        let (q, s) = (f64::from(self.models[model]) / 1e6, f64::from(known) / 1e6);
        ((q * s + (1.0 - q) * (1.0 - s) / 9.0) * 1e6) as u32
    }

    /// Whether any of these opened leaves says what the model does not.
    pub(crate) fn differs(&mut self, who: usize, under: Under, opened: &[u32]) -> bool {
        opened.iter().any(|place| match under {
            Under::Held | Under::Other { .. } => false,
            Under::Forged { from, to } => (from..to).contains(place),
            Under::Guessed { from, ppm } => *place >= from && !self.rngs[who].chance(ppm),
        })
    }
}
