//! The end of a round: what everyone's conduct and findings come to. Owns the order of the steps: what counts, the score, then the
//! records by that score. Whose leaves were refuted, and who was silent, is known before.

use zero2ai_proto::{Digest, NodeId};

use crate::{Aging, Cumulative, PPM, Reach, Reputation, ScoreParts, Vote, reward::Shared, round_score};

/// What a validator found in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The quality, millionths.
    pub quality_ppm: u32,
    /// Samples.
    pub samples: u32,
    /// Root over them.
    pub dataset_root: Digest,
    /// Height of the commitment.
    pub height: u64,
    /// Its place in that block.
    pub index: u32,
}

/// How a validator that committed to something stands when the disputes are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It revealed, and what it opened stood up.
    Upheld(Finding),
    /// A leaf of its was refuted, or not opened when it had to be, in this or another round of the epoch.
    Refuted,
    /// It did not reveal.
    Silent,
}

/// One validator before the settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub validator: NodeId,
    /// Its stake.
    pub stake: u64,
    /// Its record.
    pub reputation: Reputation,
    /// What it found of this version before. Empty if a pool takes each round by itself.
    pub history: Cumulative,
    /// How it stands.
    pub conduct: Conduct,
}

/// One validator after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who.
    pub validator: NodeId,
    /// Its record from now on.
    pub reputation: Reputation,
    /// What it found of this version so far; empty again if it was refuted.
    pub history: Cumulative,
    /// What its reward of the epoch is computed from, if it was upheld and there is a score.
    pub shared: Option<Shared>,
}

/// A settled round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The median, by stake × reputation, over what those who were upheld found of the version so far.
    pub score: ScoreParts,
    /// Everyone who took part, in the order told.
    pub validators: Vec<Outcome>,
}

/// Settles the round that ends at `height`. The order of the standings makes no difference to the score or to anyone. Weights beyond 64
/// bits count as the most that fits: all stakes together should stay below 2^44.
#[must_use]
pub fn settle(standings: &[Standing], height: u64, aging: &Aging, reach: &Reach) -> Settled {
    let histories: Vec<Cumulative> = standings.iter().map(|s| history(s, height, aging)).collect();
    let votes: Vec<Vote> = standings.iter().zip(&histories).filter_map(|(s, history)| vote(s, *history)).collect();
    let score = round_score(&votes);
    let outcome = |(standing, history): (&Standing, &Cumulative)| outcome(standing, *history, &score, reach);
    let validators = standings.iter().zip(&histories).map(outcome).collect();
    Settled { score, validators }
}

fn history(standing: &Standing, height: u64, aging: &Aging) -> Cumulative {
    match standing.conduct {
        Conduct::Refuted => Cumulative::default(),
        Conduct::Silent => standing.history.aged(height, aging),
        Conduct::Upheld(found) => {
            let round =
                ScoreParts { score_ppm: Some(found.quality_ppm), datasets: 1, samples: u64::from(found.samples) };
            standing.history.with_round(height, &round, aging)
        }
    }
}

fn samples(history: Cumulative) -> u32 {
    u32::try_from(history.samples / u64::from(PPM)).unwrap_or(u32::MAX)
}

fn vote(standing: &Standing, history: Cumulative) -> Option<Vote> {
    let Conduct::Upheld(found) = standing.conduct else { return None };
    Some(Vote {
        weight: u64::try_from(standing.reputation.weight(standing.stake)).unwrap_or(u64::MAX),
        quality_ppm: history.score_ppm()?,
        dataset_root: found.dataset_root,
        samples: samples(history),
        height: found.height,
        index: found.index,
    })
}

fn outcome(standing: &Standing, history: Cumulative, score: &ScoreParts, reach: &Reach) -> Outcome {
    let held = Outcome { validator: standing.validator, reputation: standing.reputation, history, shared: None };
    let (Conduct::Upheld(found), Some(counted)) = (standing.conduct, history.score_ppm()) else {
        return Outcome { reputation: standing.reputation.after(0, 1), ..held };
    };
    // Too few datasets for a score: nothing to be measured by.
    let Some(score_ppm) = score.score_ppm else { return held };
    let near = reach.holds(counted, samples(history), score_ppm);
    Outcome {
        reputation: standing.reputation.after(u32::from(near), u32::from(!near)),
        shared: Some(Shared { found_ppm: found.quality_ppm, score_ppm }),
        ..held
    }
}
