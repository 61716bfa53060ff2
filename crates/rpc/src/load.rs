//! How much is held at once: of one holder, and by all together.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts places of one kind. Entries exist only for holders with a place, so there are at most as many as places.
#[derive(Debug)]
pub(crate) struct Load<K: Copy + Eq + Hash> {
    all: usize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    by_holder: HashMap<K, usize>,
    all: usize,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Copy + Eq + Hash> {
    load: Arc<Load<K>>,
    holder: K,
}

impl<K: Copy + Eq + Hash> Load<K> {
    /// Room for `all` places.
    pub(crate) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all, held: Mutex::new(Held { by_holder: HashMap::new(), all: 0 }) })
    }

    /// A place for `holder`, unless it holds its `share` or there is none left.
    pub(crate) fn enter(self: &Arc<Self>, holder: K, share: usize) -> Option<Place<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by_holder.get(&holder).copied().unwrap_or(0);
        if held.all >= self.all || own >= share {
            return None;
        }
        held.by_holder.insert(holder, own + 1);
        held.all += 1;
        Some(Place { load: Arc::clone(self), holder })
    }

    /// Places held by all together, and by `holder`.
    pub(crate) fn held(&self, holder: &K) -> (usize, usize) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (held.all, held.by_holder.get(holder).copied().unwrap_or(0))
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.load.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(1);
        match held.by_holder.get_mut(&self.holder) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                held.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_holder_and_all_together_are_bounded_and_places_come_back() {
        let load = Load::new(12);
        let mut places: Vec<_> = (0..4).map(|_| load.enter(0, 4).unwrap()).collect();
        assert!(load.enter(0, 4).is_none(), "a holder has its share");
        for n in 1..3 {
            places.extend((0..4).map(|_| load.enter(n, 4).unwrap()));
        }
        assert!(load.enter(3, 4).is_none(), "all together have theirs");
        assert_eq!(load.held(&0), (12, 4));
        places.pop();
        assert!(load.enter(3, 4).is_some());
        drop(places);
        let held = load.held.lock().unwrap();
        assert!(held.by_holder.is_empty() && held.all == 0, "no entry outlives its places");
    }
}
