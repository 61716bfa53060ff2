//! The one generator of seeded draws: BLAKE3 as a counter-based generator. Owns what "the same seed" means, so that a
//! second validator, on another machine and another number of threads, draws the same.
//!
//! A stream is named by (seed, label, index). Each is independent of the others, so resample 700 of a bootstrap can be
//! drawn without the 699 before it. The output is BLAKE3's extendable output, read as little-endian 64-bit words; the
//! test below pins the first words.
#![allow(clippy::float_arithmetic)]

use blake3::OutputReader;

/// What all draws of a run come from. A job's seed comes from the ledger; a user's own run may take any.
pub type Seed = [u8; 32];

/// Context of the key derivation: another use of BLAKE3 on the same seed gives other bytes.
const CONTEXT: &str = "zero2ai 2026-11 trust seeded draws v1";
/// Bytes made at a time: eight blocks, so that wide instruction sets have something to do.
const BUFFER: usize = 512;

/// One stream of draws.
#[derive(Clone, Debug)]
pub struct Draws {
    output: OutputReader,
    buffer: [u8; BUFFER],
    at: usize,
}

impl Draws {
    /// Stream number `index` among those called `label`.
    #[must_use]
    pub fn new(seed: &Seed, label: &str, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(seed).update(&index.to_le_bytes()).update(label.as_bytes());
        Self { output: hasher.finalize_xof(), buffer: [0; BUFFER], at: BUFFER }
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        if self.at + 8 > BUFFER {
            self.output.fill(&mut self.buffer);
            self.at = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.buffer[self.at..self.at + 8]);
        self.at += 8;
        u64::from_le_bytes(bytes)
    }

    /// A whole number from 0 to `n - 1`, each equally likely (Lemire, arXiv 1805.10941); 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let reject = n.wrapping_neg().checked_rem(n).unwrap_or(0);
        loop {
            let product = u128::from(self.word()) * u128::from(n);
            // The low half says whether this word belongs to the uneven remainder.
            if product as u64 >= reject {
                return (product >> 64) as usize;
            }
        }
    }

    /// A double in [0, 1), a multiple of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A double in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// From the standard normal distribution (Box and Muller; the second value is not kept, so that every call takes the
    /// same two words).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.unit())).sqrt();
        radius * libm::cos(2.0 * std::f64::consts::PI * self.unit())
    }

    /// From the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// From the Poisson distribution of this mean, by inversion; means above 500 are taken as 500.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let (target, mean) = (self.unit(), mean.clamp(0.0, 500.0));
        let (mut k, mut p) = (0u32, libm::exp(-mean));
        let mut sum = p;
        // 1,000 terms hold all but 1e-60 of the mass of the largest mean.
        while sum <= target && k < 1_000 {
            k += 1;
            p *= mean / f64::from(k);
            sum += p;
        }
        k
    }

    /// +1 or −1.
    pub fn sign(&mut self) -> f64 {
        if self.word() & 1 == 0 { 1.0 } else { -1.0 }
    }

    /// Puts the values into a random order, each equally likely.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            let other = self.below(last + 1);
            values.swap(last, other);
        }
    }

    /// `k` different numbers below `n` in random order; all of them if `k >= n`.
    pub fn choose(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        let k = k.min(n);
        for i in 0..k {
            let other = i + self.below(n - i);
            all.swap(i, other);
        }
        all.truncate(k);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_are_pinned() {
        let mut draws = Draws::new(&[7; 32], "test", 3);
        let words: Vec<u64> = (0..3).map(|_| draws.word()).collect();
        assert_eq!(words, PINNED);
        assert_ne!(Draws::new(&[7; 32], "test", 4).word(), words[0]);
        assert_ne!(Draws::new(&[7; 32], "tesu", 3).word(), words[0]);
        assert_ne!(Draws::new(&[8; 32], "test", 3).word(), words[0]);
    }
    const PINNED: [u64; 3] = [7_482_844_885_219_287_513, 6_031_134_207_764_329_607, 3_177_195_008_085_382_190];

    #[test]
    fn draws_have_the_moments_they_should() {
        let mut draws = Draws::new(&[1; 32], "moments", 0);
        let n = 20_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || draws.unit()) - 0.5).abs() < 0.01);
        assert!(mean(&mut || draws.normal()).abs() < 0.03);
        assert!((mean(&mut || draws.normal().powi(2)) - 1.0).abs() < 0.04);
        assert!((mean(&mut || draws.exponential()) - 1.0).abs() < 0.03);
        assert!((mean(&mut || f64::from(draws.poisson(4.5))) - 4.5).abs() < 0.08);
        assert!((mean(&mut || f64::from(draws.poisson(120.0))) - 120.0).abs() < 0.5);
        let mut seen = [0u32; 6];
        for _ in 0..n {
            seen[draws.below(6)] += 1;
        }
        assert!(seen.iter().all(|s| s.abs_diff(3_333) < 250), "{seen:?}");
        assert_eq!(draws.below(0), 0);
        let mut chosen = draws.choose(10, 20);
        chosen.sort_unstable();
        assert_eq!(chosen, (0..10).collect::<Vec<_>>());
    }
}
