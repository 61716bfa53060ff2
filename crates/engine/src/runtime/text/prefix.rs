//! Which pages hold what sequences began with, so that a later one that begins alike need not compute it again.
//!
//! A page is found by a hash over its caller and all tokens up to its end. The caller is part of it because a page that is
//! found answers faster: without that, one caller could find out by timing what another's prompts say.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::cache::PAGE;

/// Separates this use of BLAKE3 from all others.
const CONTEXT: &str = "zero2ai 2026 engine: tokens that a page of keys and values follows from";

type Hash = [u8; 32];

/// A place in a sequence, between two pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    hash: Hash,
    pages: u32,
}

impl Prefix {
    /// The beginning of a caller's sequences.
    pub(super) fn start(caller: &[u8]) -> Self {
        Self { hash: blake3::derive_key(CONTEXT, caller), pages: 0 }
    }

    /// The place after another page of tokens.
    pub(super) fn then(&self, tokens: &[u32]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.hash);
        for token in tokens {
            hasher.update(&token.to_be_bytes());
        }
        Self { hash: hasher.finalize().into(), pages: self.pages.saturating_add(1) }
    }
}

/// When a page was last of use; of those of one time, the ones further on in a sequence count as older, since they are
/// worth nothing without those before them.
type Age = (u64, Reverse<u32>, Hash);

struct Entry<P> {
    page: Arc<P>,
    age: Age,
}

/// Pages by what they follow from. Its owner bounds it through [`Self::evict`].
pub(super) struct Prefixes<P> {
    entries: HashMap<Hash, Entry<P>>,
    by_age: BTreeSet<Age>,
    now: u64,
}

impl<P> Default for Prefixes<P> {
    fn default() -> Self {
        Self { entries: HashMap::new(), by_age: BTreeSet::new(), now: 0 }
    }
}

impl<P> Prefixes<P> {
    /// Pages kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The pages kept of a caller's sequence that begins with `tokens`, and the places after each of them.
    pub(super) fn find(&mut self, caller: &[u8], tokens: &[u32]) -> (Vec<Arc<P>>, Vec<Prefix>) {
        let (mut pages, mut places) = (Vec::new(), Vec::new());
        let mut place = Prefix::start(caller);
        for tokens in tokens.chunks_exact(PAGE) {
            place = place.then(tokens);
            let Some(entry) = self.entries.get(&place.hash) else { break };
            pages.push(Arc::clone(&entry.page));
            places.push(place);
        }
        self.touch(&places);
        (pages, places)
    }

    /// Keeps a full page that ends at `place`. Answers the page to go on with: the one kept before, if there was one.
    pub(super) fn keep(&mut self, place: Prefix, page: &Arc<P>) -> Arc<P> {
        if let Some(entry) = self.entries.get(&place.hash) {
            return Arc::clone(&entry.page);
        }
        let age = (self.now, Reverse(place.pages), place.hash);
        self.by_age.insert(age);
        self.entries.insert(place.hash, Entry { page: Arc::clone(page), age });
        Arc::clone(page)
    }

    /// Counts these as used now.
    pub(super) fn touch(&mut self, places: &[Prefix]) {
        self.now = self.now.saturating_add(1);
        for place in places {
            if let Some(entry) = self.entries.get_mut(&place.hash) {
                self.by_age.remove(&entry.age);
                entry.age = (self.now, Reverse(place.pages), place.hash);
                self.by_age.insert(entry.age);
            }
        }
    }

    /// Lets go of the page that was of no use for longest, among those that nobody else holds. `false`: there is none.
    pub(super) fn evict(&mut self) -> bool {
        let idle = |age: &&Age| self.entries.get(&age.2).is_some_and(|entry| Arc::strong_count(&entry.page) == 1);
        let Some(age) = self.by_age.iter().find(idle).copied() else { return false };
        self.by_age.remove(&age);
        self.entries.remove(&age.2).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pages: usize, seed: u32) -> Vec<u32> {
        (0..pages * PAGE).map(|i| i as u32 ^ seed).collect()
    }

    /// Keeps pages named by numbers from `name` on.
    fn keep(prefixes: &mut Prefixes<u32>, caller: &[u8], tokens: &[u32], name: u32) {
        let mut place = Prefix::start(caller);
        prefixes.touch(&[]);
        for (tokens, name) in tokens.chunks_exact(PAGE).zip(name..) {
            place = place.then(tokens);
            prefixes.keep(place, &Arc::new(name));
        }
    }

    fn found(prefixes: &mut Prefixes<u32>, caller: &[u8], tokens: &[u32]) -> Vec<u32> {
        prefixes.find(caller, tokens).0.iter().map(|page| **page).collect()
    }

    #[test]
    fn pages_are_found_as_far_as_everything_before_them_is_the_same() {
        let mut prefixes = Prefixes::default();
        keep(&mut prefixes, b"a", &tokens(4, 0), 10);
        assert_eq!(found(&mut prefixes, b"a", &tokens(4, 0)), [10, 11, 12, 13]);
        assert_eq!(found(&mut prefixes, b"a", &tokens(2, 0)), [10, 11]);
        assert_eq!(found(&mut prefixes, b"a", &tokens(4, 0)[..PAGE * 2 - 1]), [10]);
        let mut other = tokens(4, 0);
        other[PAGE + 3] ^= 1;
        assert_eq!(found(&mut prefixes, b"a", &other), [10], "the third page's own tokens are the same");
        assert_eq!(found(&mut prefixes, b"b", &tokens(4, 0)), [0_u32; 0], "another caller's");
        keep(&mut prefixes, b"b", &tokens(1, 0), 20);
        assert_eq!(found(&mut prefixes, b"b", &tokens(4, 0)), [20]);
        // Kept twice: the first stays.
        keep(&mut prefixes, b"a", &tokens(4, 0), 30);
        assert_eq!((found(&mut prefixes, b"a", &tokens(1, 0)), prefixes.len()), (vec![10], 5));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_ends_before_beginnings() {
        let mut prefixes = Prefixes::default();
        keep(&mut prefixes, b"", &tokens(3, 0), 10);
        keep(&mut prefixes, b"", &tokens(3, 1 << 20), 20);
        let held = prefixes.find(b"", &tokens(1, 0)).0;
        for (left_of_first, left_of_second) in [(2, 3), (1, 3), (1, 2), (1, 1), (1, 0)] {
            assert!(prefixes.evict());
            let kept = |seed| {
                let mut place = Prefix::start(b"");
                let is_kept = |tokens: &[u32]| {
                    place = place.then(tokens);
                    prefixes.entries.contains_key(&place.hash)
                };
                tokens(3, seed).chunks_exact(PAGE).map(is_kept).take_while(|k| *k).count()
            };
            assert_eq!((kept(0), kept(1 << 20)), (left_of_first, left_of_second));
        }
        assert!(!prefixes.evict(), "what is left is held");
        drop(held);
        assert!(prefixes.evict() && prefixes.len() == 0 && prefixes.by_age.is_empty());
    }
}
