//! MinHash sketches (Broder 1997): a set of shingles as 128 small numbers from which the share that two sets have in common
//! is estimated. Integers only; salted, so that a sketch tells nothing to whoever lacks the salt but how alike two are.
#![deny(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

/// Numbers per sketch: the estimate's standard deviation is at most √(¼/128) = 0.044.
pub const SIZE: usize = 128;
/// Numbers per band of the index; 32 bands of 4 find a pair of similarity 0.8 with probability 1 − 10⁻⁷.
const BAND: usize = 4;
/// The Mersenne prime of the hash family, as datasketch has it.
const PRIME: u64 = (1 << 61) - 1;

/// What all fingerprints of one publication are keyed with. Secret: with it, guessed texts can be tested.
#[derive(Clone)]
pub struct Salt([u8; 32]);

impl Salt {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 bits of the keyed hash of `bytes`, `purpose` apart from others.
    #[must_use]
    pub fn hash(&self, purpose: u8, bytes: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[purpose]).update(bytes);
        let mut word = [0; 8];
        word.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(word)
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// The sketch of one set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sketch(Vec<u32>);

/// The permutations that a salt stands for.
#[derive(Clone, Debug)]
pub struct Sketcher {
    salt: Salt,
    terms: Vec<(u64, u64)>,
}

impl Sketcher {
    /// Draws the permutations x → (a·x + b) mod p from the salt.
    #[must_use]
    pub fn new(salt: &Salt) -> Self {
        let term = |i: usize| {
            let word = |purpose: u8| salt.hash(purpose, &(i as u64).to_le_bytes());
            (1 + word(b'a') % (PRIME - 1), word(b'b') % PRIME)
        };
        Self { salt: salt.clone(), terms: (0..SIZE).map(term).collect() }
    }

    /// The sketch of a set of shingles; order and repetitions do not matter. `None` of none.
    pub fn sketch<'a>(&self, shingles: impl IntoIterator<Item = &'a [u8]>) -> Option<Sketch> {
        let mut least = vec![u32::MAX; SIZE];
        let mut any = false;
        for shingle in shingles {
            any = true;
            let x = u128::from(self.salt.hash(b's', shingle) % PRIME);
            for (slot, (a, b)) in least.iter_mut().zip(&self.terms) {
                let image = (u128::from(*a) * x + u128::from(*b)) % u128::from(PRIME);
                *slot = (*slot).min((image & u128::from(u32::MAX)) as u32);
            }
        }
        any.then_some(Sketch(least))
    }
}

impl Sketch {
    /// Numbers that two sketches share, of [`SIZE`]: over 128 it estimates |A ∩ B| / |A ∪ B|. 0 where one is malformed.
    #[must_use]
    pub fn agreement(&self, other: &Self) -> usize {
        if self.0.len() != SIZE || other.0.len() != SIZE {
            return 0;
        }
        self.0.iter().zip(&other.0).filter(|(a, b)| a == b).count()
    }

    /// What the sketch is found by in an index: (band, its four numbers) for each band.
    pub fn bands(&self) -> impl Iterator<Item = (usize, [u32; BAND])> + '_ {
        self.0.chunks_exact(BAND).enumerate().map(|(i, c)| (i, [c[0], c[1], c[2], c[3]]))
    }
}
