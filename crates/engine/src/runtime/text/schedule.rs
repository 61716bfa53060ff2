//! Who runs, and how much of whose prompt is read in a step: decided without clock, memory or model.
//!
//! Places go to callers by the counters of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): each caller's
//! counts what was done for it, the lowest is next, and who comes anew starts level with the lowest of those there.

use std::collections::{HashMap, VecDeque};

use crate::error::EngineError;

/// Texts that run at a time: rows of one step that each give a token. More would each be slower without being more in sum.
const RUNNING: usize = 64;
/// Of them, one caller's: the rest stay free for others.
const RUNNING_EACH: usize = 48;
/// Texts that wait for a place. One more is refused: its caller can go to another node.
const WAITING: usize = 256;
/// Of them, one caller's.
const WAITING_EACH: usize = 192;
/// What a token given counts for beside a token read, as in the paper: it takes a pass over all weights.
const GIVEN: u64 = 2;
/// Callers whose counters are kept while they have nothing here.
const REMEMBERED: usize = 1_024;

/// Whose a text is; empty for nobody's.
pub(super) type Caller = Vec<u8>;

#[derive(Debug)]
struct Entry {
    job: u64,
    caller: Caller,
    /// Tokens known and not yet read.
    pending: usize,
    /// Pages of memory it may come to need.
    pages: usize,
}

/// Texts that run or wait.
#[derive(Debug)]
pub(super) struct Schedule {
    running: Vec<Entry>,
    waiting: VecDeque<Entry>,
    counters: HashMap<Caller, u64>,
    /// Pages that all may take together.
    pages: usize,
    /// Which caller's prompt is first in the next step.
    turn: usize,
}

impl Schedule {
    pub(super) fn new(pages: usize) -> Self {
        Self { running: Vec::new(), waiting: VecDeque::new(), counters: HashMap::new(), pages, turn: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Takes up a text of so many tokens to read.
    pub(super) fn enter(&mut self, job: u64, caller: Caller, pending: usize, pages: usize) -> Result<(), EngineError> {
        let own = self.waiting.iter().filter(|e| e.caller == caller).count();
        if self.waiting.len() >= WAITING || own >= WAITING_EACH {
            return Err(EngineError::Busy(self.waiting.len()));
        }
        let here = |c: &Caller| self.running.iter().chain(&self.waiting).any(|e| e.caller == *c);
        let lowest = self.counters.iter().filter(|(c, _)| here(c)).map(|(_, n)| *n).min();
        if !here(&caller) {
            if self.counters.len() >= REMEMBERED {
                // Who is below the lowest would be lifted to it anyway.
                let absent: Vec<Caller> = self.counters.keys().filter(|c| !here(c)).cloned().collect();
                for caller in absent {
                    self.counters.remove(&caller);
                }
            }
            let counter = self.counters.entry(caller.clone()).or_default();
            *counter = (*counter).max(lowest.unwrap_or(0));
        }
        self.waiting.push_back(Entry { job, caller, pending, pages });
        Ok(())
    }

    /// The text that is next to run, if there is a place for it.
    pub(super) fn next(&self) -> Option<u64> {
        if self.running.len() >= RUNNING {
            return None;
        }
        // A caller alone may use everything, by one text; by several only what leaves room for others.
        let may_run = |entry: &&Entry| {
            let own = || self.running.iter().filter(|e| e.caller == entry.caller);
            let pages = own().map(|e| e.pages).fold(entry.pages, usize::saturating_add);
            own().next().is_none() || own().count() < RUNNING_EACH && pages <= self.pages / 4 * 3
        };
        let counter = |entry: &&Entry| self.counters.get(&entry.caller).copied().unwrap_or(0);
        self.waiting.iter().filter(may_run).min_by_key(counter).map(|entry| entry.job)
    }

    /// Lets a text run, of which so many tokens need not be read.
    pub(super) fn admit(&mut self, job: u64, known: usize) {
        let Some(at) = self.waiting.iter().position(|e| e.job == job) else { return };
        let Some(mut entry) = self.waiting.remove(at) else { return };
        entry.pending = entry.pending.saturating_sub(known);
        self.charge(&entry.caller, entry.pending as u64);
        self.running.push(entry);
    }

    /// Whether some text gives a token in every step now.
    pub(super) fn giving(&self) -> bool {
        self.running.iter().any(|entry| entry.pending == 1)
    }

    /// What the next step reads of which text: of each that has one token to read that one, of the others' prompts
    /// `budget` tokens together, shared out evenly between callers.
    pub(super) fn plan(&mut self, budget: usize) -> Vec<(u64, usize)> {
        let mut callers: Vec<&Caller> = Vec::new();
        for entry in self.running.iter().filter(|e| e.pending > 1) {
            if !callers.contains(&&entry.caller) {
                callers.push(&entry.caller);
            }
        }
        let share = budget.checked_div(callers.len()).unwrap_or(0).max(1);
        if !callers.is_empty() {
            let first = self.turn % callers.len();
            callers.rotate_left(first);
        }
        self.turn = self.turn.wrapping_add(1);
        // First a share for each caller's first text; then what is left over, in order.
        let mut left = budget.max(1);
        let mut rows = vec![0_usize; self.running.len()];
        let shares = callers.iter().filter_map(|caller| {
            self.running.iter().position(|e| e.pending > 1 && e.caller == **caller).map(|index| (index, share))
        });
        let rest = (0..self.running.len()).map(|index| (index, usize::MAX));
        for (index, most) in shares.chain(rest) {
            let (Some(entry), Some(rows)) = (self.running.get(index), rows.get_mut(index)) else { continue };
            if entry.pending > 1 {
                let more = entry.pending.saturating_sub(*rows).min(most).min(left);
                *rows = rows.saturating_add(more);
                left = left.saturating_sub(more);
            } else {
                *rows = entry.pending;
            }
        }
        let plan = self.running.iter().zip(rows).filter(|(_, rows)| *rows > 0);
        plan.map(|(entry, rows)| (entry.job, rows)).collect()
    }

    /// Counts tokens as read; when none is pending the text gave one, which is to be read next.
    pub(super) fn read(&mut self, job: u64, rows: usize) {
        let Some(entry) = self.running.iter_mut().find(|e| e.job == job) else { return };
        entry.pending = entry.pending.saturating_sub(rows);
        if entry.pending == 0 {
            entry.pending = 1;
            let caller = entry.caller.clone();
            self.charge(&caller, GIVEN);
        }
    }

    /// Counts tokens that a text gave beside the one that [`Self::read`] counts.
    pub(super) fn gave(&mut self, job: u64, tokens: usize) {
        let Some(entry) = self.running.iter().find(|e| e.job == job) else { return };
        let caller = entry.caller.clone();
        self.charge(&caller, GIVEN.saturating_mul(tokens as u64));
    }

    /// Forgets a text.
    pub(super) fn leave(&mut self, job: u64) {
        self.running.retain(|e| e.job != job);
        self.waiting.retain(|e| e.job != job);
    }

    fn charge(&mut self, caller: &Caller, work: u64) {
        if let Some(counter) = self.counters.get_mut(caller) {
            *counter = counter.saturating_add(work);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn caller(name: u8) -> Caller {
        vec![name]
    }

    /// Admits all that may run.
    fn admit_all(schedule: &mut Schedule) -> Vec<u64> {
        std::iter::from_fn(|| {
            let job = schedule.next()?;
            schedule.admit(job, 0);
            Some(job)
        })
        .collect()
    }

    #[test]
    fn a_late_caller_gets_its_turn_before_a_crowd_that_was_there() {
        let mut schedule = Schedule::new(10_000);
        for job in 0..120 {
            schedule.enter(job, caller(1), 10, 1).unwrap();
        }
        assert_eq!(admit_all(&mut schedule).len(), RUNNING_EACH);
        schedule.enter(500, caller(2), 10, 1).unwrap();
        assert_eq!(admit_all(&mut schedule), [500], "places are kept free for others");
    }

    #[test]
    fn one_text_may_use_all_memory_but_not_many_of_one_caller() {
        let mut schedule = Schedule::new(100);
        schedule.enter(1, caller(1), 10, 100).unwrap();
        assert_eq!(admit_all(&mut schedule), [1]);
        schedule.leave(1);
        (2..12).for_each(|job| schedule.enter(job, caller(1), 10, 20).unwrap());
        assert_eq!(admit_all(&mut schedule), [2, 3, 4]);
        schedule.enter(20, caller(2), 10, 25).unwrap();
        assert_eq!(admit_all(&mut schedule), [20]);
    }

    #[test]
    fn the_queue_is_bounded_for_all_and_for_each() {
        let mut schedule = Schedule::new(100);
        let refused = (0..300).filter(|job| schedule.enter(*job, caller(1), 1, 1).is_err()).count();
        assert_eq!(refused, 300 - WAITING_EACH);
        let refused = (300..600).filter(|job| schedule.enter(*job, caller(2), 1, 1).is_err()).count();
        assert_eq!(refused, 300 - (WAITING - WAITING_EACH));
    }

    #[test]
    fn prompts_share_a_step_between_callers_and_never_hold_up_who_gives() {
        let mut schedule = Schedule::new(10_000);
        for (job, name, pending) in [(1, 1, 1), (2, 1, 500), (3, 1, 500), (4, 2, 500), (5, 3, 4)] {
            schedule.enter(job, caller(name), pending, 1).unwrap();
        }
        admit_all(&mut schedule);
        let plan: BTreeMap<u64, usize> = schedule.plan(90).into_iter().collect();
        assert_eq!(plan[&1], 1);
        assert_eq!(plan[&5], 4);
        // Thirty each; what the short one leaves goes to the first in order.
        let (first, second) = (plan[&2] + plan.get(&3).unwrap_or(&0), plan[&4]);
        assert!(first.min(second) == 30 && first + second == 86, "{first} and {second}");
    }

    #[test]
    fn callers_are_served_alike_however_many_texts_they_send() {
        let mut schedule = Schedule::new(10_000);
        (0..150).for_each(|job| schedule.enter(job, caller(1), 40, 1).unwrap());
        (200..270).for_each(|job| schedule.enter(job, caller(2), 40, 1).unwrap());
        let mut ended = [0_u32; 2];
        let mut given = BTreeMap::<u64, u32>::new();
        for _ in 0..400 {
            admit_all(&mut schedule);
            for (job, rows) in schedule.plan(64) {
                schedule.read(job, rows);
                let giving = schedule.running.iter().any(|e| e.job == job && e.pending == 1);
                let count = given.entry(job).or_default();
                *count += u32::from(giving);
                if *count == 20 {
                    schedule.leave(job);
                    ended[usize::from(job >= 200)] += 1;
                }
            }
            if ended[1] >= 50 {
                break;
            }
        }
        assert!(ended[1] >= 50 && ended[0].abs_diff(ended[1]) <= 20, "{ended:?}");
    }

    proptest! {
        #[test]
        fn every_text_is_read_to_its_end(texts in prop::collection::vec((0_u8..4, 1_usize..200, 1_usize..40), 1..80), budget in 1_usize..100) {
            let mut schedule = Schedule::new(64);
            let mut left: BTreeMap<u64, usize> = BTreeMap::new();
            for (job, (name, pending, pages)) in (0_u64..).zip(&texts) {
                schedule.enter(job, caller(*name), *pending, *pages).unwrap();
                left.insert(job, *pending);
            }
            let mut steps = 0;
            while !schedule.is_empty() {
                admit_all(&mut schedule);
                let giving = schedule.running.iter().filter(|e| e.pending == 1).count();
                let plan = schedule.plan(budget);
                prop_assert!(!plan.is_empty());
                prop_assert!(plan.iter().map(|(_, rows)| rows).sum::<usize>() <= giving + budget);
                for (job, rows) in plan {
                    schedule.read(job, rows);
                    let left = left.get_mut(&job).unwrap();
                    *left = left.checked_sub(rows).unwrap();
                    if *left == 0 {
                        schedule.leave(job);
                    }
                }
                steps += 1;
                prop_assert!(steps < 20_000);
            }
        }
    }
}
