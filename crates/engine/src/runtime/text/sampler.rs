//! Choosing a token. Chance is a function of the seed and the position alone, so that another node can take over or check.
//! In order: penalties, then the likeliest by number (top-k), temperature, the likeliest by share (top-p), and those near
//! enough to the likeliest (min-p).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use zero2ai_proto::{calls::Sampling, limits::TOP_SCORES};

use crate::error::EngineError;

/// Separates this use of BLAKE3 from all others.
const CONTEXT: &str = "zero2ai 2026 engine: chance of a token's position";
/// Highest temperature, thousandths: beyond it a distribution is noise.
const MAX_TEMPERATURE: u32 = 5_000;

/// Least and largest penalty on repetition, thousandths. Beyond them scores would be lost in each other.
const REPETITION: std::ops::RangeInclusive<u32> = 100..=10_000;
/// Largest penalties by frequency and presence, thousandths: as OpenAI's.
const MAX_PENALTY: u32 = 2_000;

/// Holds sampling parameters to their ranges.
pub(super) fn check(sampling: &Sampling) -> Result<(), EngineError> {
    let within = |what: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
        if range.contains(&value) {
            return Ok(());
        }
        let (least, most) = (range.start(), range.end());
        Err(EngineError::input(format!("{what} must be {least} to {most} thousandths; {value} were sent")))
    };
    within("the temperature", sampling.temperature_milli, 0..=MAX_TEMPERATURE)?;
    within("top-p", sampling.top_p_milli, 1..=1000)?;
    within("min-p", sampling.min_p_milli, 0..=1000)?;
    within("the repetition penalty", sampling.repetition_milli, REPETITION)?;
    within("the frequency penalty", sampling.frequency_milli, 0..=MAX_PENALTY)?;
    within("the presence penalty", sampling.presence_milli, 0..=MAX_PENALTY)?;
    match sampling.logprobs {
        Some(count) if count > TOP_SCORES => Err(EngineError::input(format!(
            "probabilities of {count} tokens were asked for beside each; at most {TOP_SCORES} are told"
        ))),
        _ => Ok(()),
    }
}

/// What penalties look at: the tokens so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    prompt: HashSet<u32>,
    /// How often the answer has each.
    answer: HashMap<u32, u32>,
}

impl Past {
    pub(super) fn of(prompt: &[u32]) -> Self {
        Self { prompt: prompt.iter().copied().collect(), answer: HashMap::new() }
    }

    /// Another token of the answer.
    pub(super) fn give(&mut self, id: u32) {
        let count = self.answer.entry(id).or_default();
        *count = count.saturating_add(1);
    }

    /// Whether anything is to be taken note of.
    pub(super) const fn matters(sampling: &Sampling) -> bool {
        sampling.repetition_milli != 1000 || sampling.frequency_milli != 0 || sampling.presence_milli != 0
    }

    /// The scores after penalties. Each token's is its own matter, so no order of them shows.
    fn weigh_down<'a>(&self, scores: &'a [f32], sampling: &Sampling) -> Cow<'a, [f32]> {
        if !Self::matters(sampling) {
            return Cow::Borrowed(scores);
        }
        let part = |milli: u32| milli as f32 / 1000.0;
        let repetition = part(sampling.repetition_milli);
        let mut scores = scores.to_vec();
        for id in self.prompt.iter().chain(self.answer.keys().filter(|id| !self.prompt.contains(id))) {
            let Some(score) = usize::try_from(*id).ok().and_then(|id| scores.get_mut(id)) else { continue };
            *score = if *score > 0.0 { *score / repetition } else { *score * repetition };
            if let Some(count) = self.answer.get(id) {
                *score -= *count as f32 * part(sampling.frequency_milli) + part(sampling.presence_milli);
            }
        }
        Cow::Owned(scores)
    }
}

/// The token at `position` of the answer. Equal scores go to the lower id.
pub(super) fn choose(scores: &[f32], sampling: &Sampling, past: &Past, position: u64) -> Result<u32, EngineError> {
    if scores.iter().any(|l| !l.is_finite()) {
        return Err(EngineError::model("the model's scores are not finite; its weights are damaged"));
    }
    let logits = &*past.weigh_down(scores, sampling);
    let none = || EngineError::model("the model has no vocabulary");
    let likeliest = likeliest(logits).ok_or_else(none)?;
    if sampling.temperature_milli == 0 {
        return Ok(likeliest);
    }
    let mut tokens: Vec<(u32, f32)> = (0_u32..).zip(logits.iter().copied()).collect();
    let keep = usize::try_from(sampling.top_k).unwrap_or(usize::MAX);
    if keep > 0 && keep < tokens.len() {
        rank(&mut tokens, keep);
        tokens.truncate(keep);
    }
    let most = logits.get(likeliest as usize).copied().unwrap_or(0.0);
    let temperature = f64::from(sampling.temperature_milli) / 1000.0;
    // `libm` rather than the system's: that one may differ between CPUs in its last bit.
    let weigh = |tokens: &[(u32, f32)]| -> Vec<f64> {
        tokens.iter().map(|(_, l)| libm::exp(f64::from(l - most) / temperature)).collect()
    };
    let mut weights = weigh(&tokens);
    if sampling.top_p_milli < 1000 {
        let enough = weights.iter().sum::<f64>() * f64::from(sampling.top_p_milli) / 1000.0;
        // Few tokens have nearly all of the probability: no more than those need an order.
        let (mut ranked, mut kept) = (0, None);
        while kept.is_none() && ranked < tokens.len() {
            ranked = ranked.saturating_mul(8).clamp(RANKED.min(tokens.len()), tokens.len());
            rank(&mut tokens, ranked);
            weights = weigh(tokens.get(..ranked).unwrap_or_default());
            kept = reaching(&weights, enough);
        }
        weights.truncate(kept.unwrap_or(weights.len()));
    }
    if sampling.min_p_milli > 0 {
        // The likeliest one's weight is 1, and it stays whatever is asked for.
        let least = f64::from(sampling.min_p_milli) / 1000.0;
        let kept = tokens.iter().zip(&weights).filter(|(_, weight)| **weight >= least);
        (tokens, weights) = kept.map(|(token, weight)| (*token, *weight)).unzip();
    }
    let mut mark = chance(sampling.seed, position) * weights.iter().sum::<f64>();
    for ((id, _), weight) in tokens.iter().zip(&weights) {
        mark -= weight;
        if mark < 0.0 {
            return Ok(*id);
        }
    }
    // Rounding may leave a trace beyond the last.
    tokens.get(weights.len().saturating_sub(1)).map(|(id, _)| *id).ok_or_else(none)
}

/// Tokens put in order at first where a share of the probability is wanted; eight times as many each time that is too few.
const RANKED: usize = 64;

/// The token of the highest score, the first of them.
fn likeliest(logits: &[f32]) -> Option<u32> {
    // Finite numbers as integers of the same order (0 above -0, as `total_cmp` has it): vectors compare those fast.
    let order = |l: &f32| {
        let bits = l.to_bits().cast_signed();
        bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
    };
    let most = logits.iter().map(order).max()?;
    logits.iter().position(|l| order(l) == most).and_then(|at| u32::try_from(at).ok())
}

/// Puts the `keep` likeliest first, in order.
pub(super) fn rank(tokens: &mut [(u32, f32)], keep: usize) {
    let by_score = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if keep < tokens.len() {
        tokens.select_nth_unstable_by(keep, by_score);
    }
    if let Some(kept) = tokens.get_mut(..keep) {
        kept.sort_unstable_by(by_score);
    }
}

/// How many of the first weights it takes to reach a sum; none if all do not.
fn reaching(weights: &[f64], enough: f64) -> Option<usize> {
    let mut sum = 0.0;
    let reached = |weight: &f64| {
        sum += weight;
        sum >= enough
    };
    weights.iter().position(reached).map(|at| at.saturating_add(1))
}

/// A number in `0..1` with 53 bits.
fn chance(seed: u64, position: u64) -> f64 {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&seed.to_be_bytes()).update(&position.to_be_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    (u64::from_be_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sampling(temperature_milli: u32, top_k: u32, top_p_milli: u32, seed: u64) -> Sampling {
        Sampling { temperature_milli, top_k, top_p_milli, seed, ..Sampling::default() }
    }

    fn pick(scores: &[f32], sampling: &Sampling, position: u64) -> Result<u32, EngineError> {
        choose(scores, sampling, &Past::default(), position)
    }

    #[test]
    fn penalties_take_from_what_was_said_and_nothing_else() {
        let scores = [1.0, 2.0, 1.9, -1.0];
        let mut past = Past::of(&[1]);
        past.give(2);
        past.give(2);
        let with = |change: &dyn Fn(&mut Sampling)| {
            let mut sampling = sampling(0, 0, 1000, 0);
            change(&mut sampling);
            past.weigh_down(&scores, &sampling).into_owned()
        };
        assert_eq!(with(&|_| {}), scores);
        assert_eq!(with(&|s| s.repetition_milli = 2000), [1.0, 1.0, 0.95, -1.0]);
        assert_eq!(with(&|s| s.frequency_milli = 500), [1.0, 2.0, 0.9, -1.0]);
        assert_eq!(with(&|s| s.presence_milli = 500), [1.0, 2.0, 1.4, -1.0]);
        past.give(3);
        let doubled = Sampling { repetition_milli: 2000, ..sampling(0, 0, 1000, 0) };
        assert_eq!(past.weigh_down(&scores, &doubled)[3], -2.0, "a score below zero goes down too");
        // A token that does not exist is no matter: a model's vocabulary may be smaller than what resumes name.
        past.give(u32::MAX);
        assert_eq!(choose(&scores, &doubled, &past, 0).unwrap(), 0);
        assert!(choose(&[], &doubled, &past, 0).is_err());
    }

    #[test]
    fn parameters_beyond_their_ranges_are_refused_by_name() {
        type Change = fn(&mut Sampling);
        let cases: [(&str, Change); 7] = [
            ("temperature", |s| s.temperature_milli = 5_001),
            ("top-p", |s| s.top_p_milli = 0),
            ("min-p", |s| s.min_p_milli = 1_001),
            ("repetition", |s| s.repetition_milli = 0),
            ("frequency", |s| s.frequency_milli = u32::MAX),
            ("presence", |s| s.presence_milli = 2_001),
            ("probabilities", |s| s.logprobs = Some(21)),
        ];
        for (name, change) in cases {
            let mut sampling = Sampling::default();
            assert!(check(&sampling).is_ok());
            change(&mut sampling);
            assert!(check(&sampling).unwrap_err().to_string().contains(name), "{name}");
        }
    }

    #[test]
    fn follows_the_distribution() {
        let logits = [0.0, 1.0, 2.0];
        let mut counts = [0_u32; 3];
        for position in 0..20_000 {
            counts[pick(&logits, &sampling(1000, 0, 1000, 7), position).unwrap() as usize] += 1;
        }
        for (count, want) in counts.iter().zip([0.0900, 0.2447, 0.6652]) {
            assert!((f64::from(*count) / 20_000.0 - want).abs() < 0.015, "{counts:?}");
        }
        assert!(pick(&[f32::NAN], &sampling(0, 0, 1000, 0), 0).is_err());
    }

    #[test]
    fn a_share_of_the_probability_is_found_however_many_tokens_it_takes() {
        // 3,000 tokens of nearly one score, the likeliest last: nine tenths are about 2,700 of them.
        let logits: Vec<f32> = (0..3_000).map(|i| i as f32 * 1e-5).collect();
        let chosen: Vec<u32> =
            (0..2_000).map(|position| pick(&logits, &sampling(1000, 0, 900, 3), position).unwrap()).collect();
        let least = *chosen.iter().min().unwrap();
        assert!((280..330).contains(&least), "{least}");
        assert_eq!(pick(&logits, &sampling(0, 0, 1000, 3), 0).unwrap(), 2_999);
        assert_eq!(pick(&[-1.0, -0.0, 0.0, 0.0, -2.0], &sampling(0, 0, 1000, 3), 0).unwrap(), 2);
    }

    proptest! {
        #[test]
        fn stays_within_its_cuts(logits in prop::collection::vec(-9.0_f32..9.0, 1..60), seed: u64, position: u64, k in 1_u32..8) {
            let likeliest = pick(&logits, &sampling(0, 0, 1000, seed), position).unwrap();
            prop_assert_eq!(pick(&logits, &sampling(1500, 1, 1000, seed), position).unwrap(), likeliest);
            prop_assert_eq!(pick(&logits, &sampling(1500, 0, 1, seed), position).unwrap(), likeliest);
            let chosen = pick(&logits, &sampling(1500, k, 1000, seed), position).unwrap();
            let near = Sampling { min_p_milli: 500, ..sampling(1500, 0, 1000, seed) };
            let share = (logits[pick(&logits, &near, position).unwrap() as usize] - logits[likeliest as usize]) / 1.5;
            prop_assert!(share.exp() > 0.499);
            let better = logits.iter().filter(|l| **l > logits[chosen as usize]).count();
            prop_assert!(better < k as usize);
            prop_assert_eq!(chosen, pick(&logits, &sampling(1500, k, 1000, seed), position).unwrap());
        }
    }
}
