//! Choosing a token. Chance is a function of the seed and the position alone, so that another node can take over or check.

use zero2ai_proto::calls::Sampling;

use crate::error::EngineError;

/// Separates this use of BLAKE3 from all others.
const CONTEXT: &str = "zero2ai 2026 engine: chance of a token's position";
/// Highest temperature, thousandths: beyond it a distribution is noise.
const MAX_TEMPERATURE: u32 = 5_000;

/// Holds sampling parameters to their ranges.
pub(super) fn check(sampling: &Sampling) -> Result<(), EngineError> {
    if sampling.temperature_milli > MAX_TEMPERATURE || !(1..=1000).contains(&sampling.top_p_milli) {
        return Err(EngineError::input(format!(
            "the temperature must be 0 to {MAX_TEMPERATURE} thousandths and top-p 1 to 1000 thousandths; {} and {} were sent",
            sampling.temperature_milli, sampling.top_p_milli
        )));
    }
    Ok(())
}

/// The token at `position` of the answer. Equal scores go to the lower id.
pub(super) fn choose(logits: &[f32], sampling: &Sampling, position: u64) -> Result<u32, EngineError> {
    if logits.iter().any(|l| !l.is_finite()) {
        return Err(EngineError::model("the model's scores are not finite; its weights are damaged"));
    }
    let mut ranked: Vec<(u32, f32)> = (0_u32..).zip(logits.iter().copied()).collect();
    let by_score = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let none = || EngineError::model("the model has no vocabulary");
    if sampling.temperature_milli == 0 {
        return ranked.into_iter().min_by(by_score).map(|(id, _)| id).ok_or_else(none);
    }
    let keep = usize::try_from(sampling.top_k).unwrap_or(usize::MAX);
    if keep > 0 && keep < ranked.len() {
        ranked.select_nth_unstable_by(keep, by_score);
        ranked.truncate(keep);
    }
    ranked.sort_unstable_by(by_score);
    let most = ranked.first().ok_or_else(none)?.1;
    let temperature = f64::from(sampling.temperature_milli) / 1000.0;
    // `libm` rather than the system's: that one may differ between CPUs in its last bit.
    let weight = |l: &f32| libm::exp(f64::from(l - most) / temperature);
    let mut weights: Vec<f64> = ranked.iter().map(|(_, l)| weight(l)).collect();
    let total: f64 = weights.iter().sum();
    if sampling.top_p_milli < 1000 {
        let enough = total * f64::from(sampling.top_p_milli) / 1000.0;
        let mut sum = 0.0;
        let kept = weights
            .iter()
            .take_while(|w| {
                let more = sum < enough;
                sum += **w;
                more
            })
            .count();
        weights.truncate(kept.max(1));
    }
    let mut mark = chance(sampling.seed, position) * weights.iter().sum::<f64>();
    for ((id, _), weight) in ranked.iter().zip(&weights) {
        mark -= weight;
        if mark < 0.0 {
            return Ok(*id);
        }
    }
    // Rounding may leave a trace beyond the last.
    ranked.get(weights.len().saturating_sub(1)).map(|(id, _)| *id).ok_or_else(none)
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

    #[test]
    fn follows_the_distribution() {
        let logits = [0.0, 1.0, 2.0];
        let mut counts = [0_u32; 3];
        for position in 0..20_000 {
            counts[choose(&logits, &sampling(1000, 0, 1000, 7), position).unwrap() as usize] += 1;
        }
        for (count, want) in counts.iter().zip([0.0900, 0.2447, 0.6652]) {
            assert!((f64::from(*count) / 20_000.0 - want).abs() < 0.015, "{counts:?}");
        }
        assert!(choose(&[f32::NAN], &sampling(0, 0, 1000, 0), 0).is_err());
    }

    proptest! {
        #[test]
        fn stays_within_its_cuts(logits in prop::collection::vec(-9.0_f32..9.0, 1..60), seed: u64, position: u64, k in 1_u32..8) {
            let likeliest = choose(&logits, &sampling(0, 0, 1000, seed), position).unwrap();
            prop_assert_eq!(choose(&logits, &sampling(1500, 1, 1000, seed), position).unwrap(), likeliest);
            prop_assert_eq!(choose(&logits, &sampling(1500, 0, 1, seed), position).unwrap(), likeliest);
            let chosen = choose(&logits, &sampling(1500, k, 1000, seed), position).unwrap();
            let better = logits.iter().filter(|l| **l > logits[chosen as usize]).count();
            prop_assert!(better < k as usize);
            prop_assert_eq!(chosen, choose(&logits, &sampling(1500, k, 1000, seed), position).unwrap());
        }
    }
}
