//! Which loaded models go so that another one fits the budget. No clock, no process, no lock: numbers in, keys out.

use std::{cmp::Reverse, fmt};

/// One model in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resident<K> {
    pub(crate) key: K,
    /// Bytes it takes.
    pub(crate) bytes: u64,
    /// When it was used last, on any clock that only goes forward.
    pub(crate) last_use: u64,
    /// Never evicted.
    pub(crate) pinned: bool,
    /// Calls in hand: while there are any, it is not evicted.
    pub(crate) calls: u32,
}

/// What may be done to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evict {
    /// What is neither pinned nor in use goes, the least recently used first.
    Idle,
    /// Only what is free is taken.
    Nothing,
}

/// Why a model does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// All models together may not take what it needs alone.
    TooBig {
        /// Bytes it needs.
        need: u64,
        /// Bytes that all models together may take.
        budget: u64,
    },
    /// What others take cannot be had.
    Taken {
        /// Bytes it needs.
        need: u64,
        /// Bytes that all models together may take.
        budget: u64,
        /// Bytes of pinned models.
        pinned: u64,
        /// Bytes of models with calls in hand that are not pinned.
        busy: u64,
        /// Bytes of what is no loaded model: loads and trials under way.
        loading: u64,
        /// Bytes of models that could be evicted, were that allowed.
        idle: u64,
    },
}

impl std::error::Error for NoRoom {}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MORE: &str = "'zero2ai up --model-memory SIZE' or worker.model_memory_mb in config.toml";
        match *self {
            Self::TooBig { need, budget } => {
                let (need, budget) = (mib(need), mib(budget));
                write!(
                    f,
                    "it needs {need} of memory, and all models together may take {budget}: give them more with {MORE}"
                )
            }
            Self::Taken { need, budget, pinned, busy, loading, idle } => {
                let [need, budget, pinned, busy, loading, idle] = [need, budget, pinned, busy, loading, idle].map(mib);
                write!(
                    f,
                    "it needs {need} of memory, and of the {budget} for all models {pinned} are pinned, {busy} have calls in \
                     hand, {loading} are being loaded or tried, and {idle} are idle: try again in a moment, unpin a model \
                     ('zero2ai models unpin'), or give models more with {MORE}"
                )
            }
        }
    }
}

impl NoRoom {
    /// True if it may fit once calls and loads in hand have ended.
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::TooBig { .. } => false,
            Self::Taken { need, budget, pinned, .. } => pinned.saturating_add(*need) <= *budget,
        }
    }
}

impl NoRoom {
    /// The most that could be had.
    pub(crate) const fn available(&self) -> u64 {
        match self {
            Self::TooBig { .. } => 0,
            Self::Taken { budget, pinned, busy, loading, .. } => {
                budget.saturating_sub(*pinned).saturating_sub(*busy).saturating_sub(*loading)
            }
        }
    }
}

/// Bytes as people read them.
#[allow(clippy::cast_precision_loss)] // one decimal is shown
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The models to evict before `need` bytes more are taken, or why that cannot be. `loading` are bytes taken by what is not
/// among `residents`. The least recently used go first; of those, none goes that the others make unnecessary.
///
/// # Errors
/// See [`NoRoom`].
pub(crate) fn plan<K: Clone + Ord>(
    budget: u64,
    loading: u64,
    residents: &[Resident<K>],
    need: u64,
    evict: Evict,
) -> Result<Vec<K>, NoRoom> {
    if need > budget {
        return Err(NoRoom::TooBig { need, budget });
    }
    let sum = |which: &dyn Fn(&Resident<K>) -> bool| {
        residents.iter().filter(|r| which(r)).fold(0u64, |sum, r| sum.saturating_add(r.bytes))
    };
    let all = sum(&|_| true).saturating_add(loading);
    // What must be given back.
    let short = all.saturating_add(need).saturating_sub(budget);
    let mut idle: Vec<&Resident<K>> = residents.iter().filter(|r| !r.pinned && r.calls == 0).collect();
    let could_go = sum(&|r| !r.pinned && r.calls == 0);
    if short > 0 && (evict == Evict::Nothing || could_go < short) {
        let (pinned, busy) = (sum(&|r| r.pinned), sum(&|r| !r.pinned && r.calls > 0));
        return Err(NoRoom::Taken { need, budget, pinned, busy, loading, idle: could_go });
    }
    idle.sort_by(|a, b| (a.last_use, &a.key).cmp(&(b.last_use, &b.key)));
    let (mut chosen, mut given) = (Vec::new(), 0u64);
    for resident in idle {
        if given >= short {
            break;
        }
        given = given.saturating_add(resident.bytes);
        chosen.push(resident);
    }
    // A small old one need not go where a larger one had to go after it: the most recently used of these is spared first.
    chosen.sort_by_key(|r| Reverse(r.last_use));
    chosen.retain(|r| {
        let spared = given.saturating_sub(r.bytes) >= short;
        if spared {
            given = given.saturating_sub(r.bytes);
        }
        !spared
    });
    chosen.reverse();
    Ok(chosen.into_iter().map(|r| r.key.clone()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn resident(key: u32, bytes: u64, last_use: u64) -> Resident<u32> {
        Resident { key, bytes, last_use, pinned: false, calls: 0 }
    }

    fn residents() -> impl Strategy<Value = Vec<Resident<u32>>> {
        let one = (0..100u64, 0..50u64, any::<bool>(), prop_oneof![3 => Just(0u32), 1 => 1..5u32]);
        prop::collection::vec(one, 0..12).prop_map(|rows| {
            let all = rows.into_iter().zip(0..);
            all.map(|((bytes, last_use, pinned, calls), key)| Resident { key, bytes, last_use, pinned, calls })
                .collect()
        })
    }

    fn sum(residents: &[Resident<u32>], which: impl Fn(&Resident<u32>) -> bool) -> u64 {
        residents.iter().filter(|r| which(r)).map(|r| r.bytes).sum()
    }

    proptest! {
        #[test]
        fn a_plan_keeps_the_budget_and_what_may_not_go(
            all in residents(), budget in 0..600u64, loading in 0..60u64, need in 0..200u64,
        ) {
            let movable = |r: &Resident<u32>| !r.pinned && r.calls == 0;
            let fixed = sum(&all, |r| !movable(r)) + loading;
            match plan(budget, loading, &all, need, Evict::Idle) {
                Ok(gone) => {
                    let left = |without: &[u32]| sum(&all, |r| !without.contains(&r.key)) + loading + need;
                    let short = !gone.is_empty();
                    prop_assert!(!short || left(&gone) <= budget, "over the budget");
                    prop_assert!(short || sum(&all, |_| true) + loading + need <= budget);
                    for key in &gone {
                        let victim = all.iter().find(|r| r.key == *key).unwrap();
                        prop_assert!(movable(victim), "pinned or busy: {victim:?}");
                        let others: Vec<u32> = gone.iter().copied().filter(|k| k != key).collect();
                        prop_assert!(left(&others) > budget, "{victim:?} went for nothing");
                    }
                    // Whoever stays though it was used less recently than one that went would not have been enough in its
                    // stead, or its going was not needed: with it gone and all used after it back, it does not fit.
                    for kept in all.iter().filter(|r| movable(r) && !gone.contains(&r.key)) {
                        let older: Vec<u32> = all
                            .iter()
                            .filter(|r| movable(r) && (r.last_use, r.key) <= (kept.last_use, kept.key))
                            .map(|r| r.key)
                            .collect();
                        let newer_went = gone.iter().any(|k| !older.contains(k));
                        prop_assert!(!newer_went || left(&older) > budget, "{kept:?} should have gone first");
                    }
                    prop_assert_eq!(
                        plan(budget, loading, &all, need, Evict::Nothing).is_ok(), gone.is_empty(),
                    );
                }
                Err(NoRoom::TooBig { .. }) => prop_assert!(need > budget),
                Err(why @ NoRoom::Taken { pinned, busy, idle, .. }) => {
                    prop_assert!(fixed + need > budget);
                    prop_assert_eq!(pinned + busy + idle, sum(&all, |_| true));
                    prop_assert_eq!(why.may_pass(), pinned + need <= budget);
                    let most = why.available();
                    prop_assert!(most < need || need == 0);
                    prop_assert!(most == 0 || plan(budget, loading, &all, most, Evict::Idle).is_ok());
                }
            }
        }

        #[test]
        fn of_equal_ones_exactly_the_oldest_go(n in 1..10u32, room in 0..10u64, need in 1..10u64) {
            let all: Vec<_> = (0..n).map(|k| resident(k, 10, u64::from(n - k))).collect();
            let budget = u64::from(n) * 10 + room;
            let need = (need * 10).min(budget);
            let gone = plan(budget, 0, &all, need, Evict::Idle).unwrap();
            let count = need.saturating_sub(room).div_ceil(10) as usize;
            let oldest: Vec<u32> = (0..n).rev().take(count).collect();
            prop_assert_eq!(gone, oldest);
        }
    }

    #[test]
    fn a_small_old_one_is_spared_where_a_large_one_goes_anyway() {
        let all = [resident(1, 5, 1), resident(2, 80, 2), resident(3, 10, 3)];
        assert_eq!(plan(100, 0, &all, 80, Evict::Idle).unwrap(), [2]);
        assert_eq!(plan(100, 0, &all, 10, Evict::Idle).unwrap(), [1]);
        assert_eq!(plan(100, 0, &all, 5, Evict::Idle).unwrap(), [0; 0]);
    }

    #[test]
    fn the_errors_say_what_stands_in_the_way() {
        const MIB: u64 = 1 << 20;
        let too_big = plan::<u32>(5 * MIB, 0, &[], 6 * MIB, Evict::Idle).unwrap_err().to_string();
        assert!(too_big.contains("6.0 MiB") && too_big.contains("5.0 MiB") && too_big.contains("--model-memory"));
        let pinned = Resident { pinned: true, ..resident(1, 2 * MIB, 1) };
        let busy = Resident { calls: 1, ..resident(2, 3 * MIB, 1) };
        let taken = plan(5 * MIB, 0, &[pinned, busy], 2 * MIB, Evict::Idle).unwrap_err();
        let text = taken.to_string();
        assert!(text.contains("2.0 MiB are pinned") && text.contains("3.0 MiB have calls in hand"), "{text}");
        assert!(taken.may_pass());
    }
}
