//! Numbers that a seed fixes, the same at every node: hashes of seed and counter, without bias. Nothing here is secret.

use zero2ai_proto::{Digest, ids::tagged_hash};

/// A stream of numbers from a seed; `context` keeps streams for different ends apart.
pub(crate) struct Draws {
    context: &'static str,
    material: Vec<u8>,
    drawn: u64,
}

impl Draws {
    /// The stream of this seed and these further bytes, which should begin with what has a fixed length.
    pub(crate) fn new(context: &'static str, seed: &Digest, bytes: &[u8]) -> Self {
        Self { context, material: [seed.as_bytes().as_slice(), bytes].concat(), drawn: 0 }
    }

    fn next(&mut self) -> u128 {
        let bytes = [self.drawn.to_le_bytes().as_slice(), &self.material].concat();
        self.drawn = self.drawn.wrapping_add(1);
        let hash = tagged_hash(self.context, &bytes);
        hash.iter().take(16).fold(0, |n, byte| (n << 8) | u128::from(*byte))
    }

    /// A number below `n`, each equally likely: what would favour low ones is drawn again. 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: u128) -> u128 {
        let Some(excess) = (u128::MAX % n.max(1)).checked_add(1).map(|m| m % n.max(1)) else { return 0 };
        loop {
            let drawn = self.next();
            if drawn <= u128::MAX - excess {
                return drawn % n.max(1);
            }
        }
    }
}
