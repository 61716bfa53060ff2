//! The seats of this node, and what was tried for each: which is seen to next, and what that has to wait for.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use zero2ai_proto::{ModelName, NodeId, state::DisputeState, tx::Disputed};

use super::RUN;

/// How long a seat is left alone after a try that came to nothing.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a version that took longer is left alone, so that it does not hold up others' disputes again and again.
const SLOW: Duration = Duration::from_secs(3_600);
/// Longer than any window that matters: of a try that never ends.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// An instance of a dispute in which this node is to vote: the leaf in words, and the instance.
pub(super) type Seat = (String, u8);

/// What was tried for a seat.
#[derive(Clone, Copy)]
struct Tried {
    next: Instant,
    /// Times that no sample came, or that the model found fault with the one that did.
    in_vain: u32,
}

/// What a try came to.
pub(super) enum Came {
    Voted(bool),
    /// Who opened the leaf, or what he showed, is to blame, or this node's luck.
    InVain(String),
    /// This node is not able to vote now.
    Waits(String),
    /// The model takes longer here than it may.
    Slow,
    /// The ledger takes no vote of this node here.
    Refused(String),
}

/// What tries have to wait for.
#[derive(Default)]
pub(super) struct Turns {
    /// One model is run at a time.
    pub(super) run: Mutex<()>,
    /// More than one sample at a time is shown to nobody.
    shown: std::sync::Mutex<BTreeMap<NodeId, Arc<Mutex<()>>>>,
}

impl Turns {
    /// The turn of who is to show something.
    pub(super) fn of(&self, validator: NodeId) -> Arc<Mutex<()>> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(shown.entry(validator).or_default())
    }
}

/// This node's seats.
#[derive(Default)]
pub(super) struct Seats {
    tried: BTreeMap<Seat, Tried>,
    /// Versions that are left alone for now.
    slow: BTreeMap<(ModelName, u32), Instant>,
}

impl Seats {
    /// Notes which seats there are; gives those whose turn it is, the ones first whose ballots are counted first.
    pub(super) fn due(&mut self, open: &BTreeMap<Seat, (Disputed, DisputeState)>, now: Instant) -> Vec<Seat> {
        self.tried.retain(|seat, _| open.contains_key(seat));
        self.slow.retain(|_, until| *until > now);
        let mut due = Vec::new();
        for (seat, (which, dispute)) in open {
            let next = self.of(seat, now).next;
            if next <= now && !self.slow.contains_key(&(which.name.clone(), which.version)) {
                due.push((dispute.vote_end(), next, seat.clone()));
            }
        }
        due.sort();
        due.into_iter().map(|(_, _, seat)| seat).collect()
    }

    /// Begins a try: gives how many were in vain. Not again before this one has ended, or long after.
    pub(super) fn begin(&mut self, seat: &Seat, now: Instant) -> u32 {
        let tried = self.of(seat, now);
        tried.next = now + FOREVER;
        tried.in_vain
    }

    fn of(&mut self, seat: &Seat, now: Instant) -> &mut Tried {
        self.tried.entry(seat.clone()).or_insert(Tried { next: now, in_vain: 0 })
    }

    /// Notes what a try came to.
    pub(super) fn end(&mut self, seat: &Seat, version: (ModelName, u32), came: Came, now: Instant) {
        let leaf = &seat.0;
        let Some(tried) = self.tried.get_mut(seat) else { return };
        tried.next = now + PAUSE;
        match came {
            Came::Voted(refuted) => tracing::info!(leaf, refuted, "voted over a disputed leaf"),
            Came::Waits(why) => tracing::info!(leaf, why, "a vote waits"),
            Came::InVain(why) => {
                tried.in_vain = tried.in_vain.saturating_add(1);
                tracing::info!(leaf, why, times = tried.in_vain, "a vote waits");
            }
            Came::Slow => {
                tracing::warn!(leaf, "a model does not answer one sample within {RUN:?}: its disputes are left alone");
                self.slow.insert(version, now + SLOW);
            }
            Came::Refused(why) => {
                tried.next += FOREVER;
                tracing::info!(leaf, why, "this node has no vote over a leaf");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::{Digest, SecretKey, TxId, state::Tally, tx::OpenedLeaf};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A dispute over a leaf of `model` whose ballots are counted at `end`.
    fn open(model: &str, leaf: u32, end: u64) -> (Seat, (Disputed, DisputeState)) {
        let validator = SecretKey::from_bytes(&[1; 32]).public();
        let which = Disputed { name: model.parse().unwrap(), version: 1, round: 1, validator, leaf };
        let opened = OpenedLeaf { index: leaf, label: 0, answer: 0, sample: Digest([0; 32]), siblings: Vec::new() };
        let dispute = DisputeState {
            leaf: opened,
            appellant: validator,
            tx: TxId([1; 32]),
            height: 1,
            instance: 1,
            draws: end - 10,
            vote: 10,
            appeal: 10,
            first: 0,
            backers: Vec::new(),
            votes: Tally::default(),
            tally: None,
            earlier: None,
            settled: None,
        };
        ((which.to_string(), 1), (which, dispute))
    }

    fn leaves(due: &[Seat]) -> Vec<&str> {
        due.iter().map(|(leaf, _)| leaf.rsplit('/').next().unwrap()).collect()
    }

    #[test]
    fn what_is_counted_first_is_seen_to_first_and_nothing_twice_at_once() {
        let open: BTreeMap<_, _> = [open("lab/a", 7, 90), open("lab/b", 8, 50), open("lab/b", 9, 70)].into();
        let (mut seats, now) = (Seats::default(), Instant::now());
        let due = seats.due(&open, now);
        assert_eq!(leaves(&due), ["8", "9", "7"]);
        assert_eq!(seats.begin(&due[0], now), 0);
        assert_eq!(leaves(&seats.due(&open, now + MINUTE)), ["9", "7"]);
        seats.end(&due[0], ("lab/b".parse().unwrap(), 1), Came::InVain("no sample".into()), now + MINUTE);
        assert_eq!(leaves(&seats.due(&open, now + MINUTE)), ["9", "7"], "after a pause");
        assert_eq!(leaves(&seats.due(&open, now + 2 * MINUTE)), ["8", "9", "7"]);
        assert_eq!(seats.begin(&due[0], now + 2 * MINUTE), 1);
    }

    #[test]
    fn a_slow_version_is_left_alone_and_others_are_not() {
        let open: BTreeMap<_, _> = [open("lab/a", 7, 50), open("lab/b", 8, 60), open("lab/a", 9, 70)].into();
        let (mut seats, now) = (Seats::default(), Instant::now());
        let due = seats.due(&open, now);
        seats.begin(&due[0], now);
        seats.end(&due[0], ("lab/a".parse().unwrap(), 1), Came::Slow, now);
        assert_eq!(leaves(&seats.due(&open, now + MINUTE)), ["8"]);
        assert_eq!(leaves(&seats.due(&open, now + SLOW)), ["7", "8", "9"]);
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_refused_is_not_tried_again() {
        let mut open: BTreeMap<_, _> = [open("lab/a", 7, 50), open("lab/b", 8, 60)].into();
        let (mut seats, now) = (Seats::default(), Instant::now());
        let due = seats.due(&open, now);
        seats.begin(&due[0], now);
        seats.end(&due[0], ("lab/a".parse().unwrap(), 1), Came::Refused("no seat".into()), now);
        assert_eq!(leaves(&seats.due(&open, now + 100 * MINUTE)), ["8"]);
        open.clear();
        assert!(seats.due(&open, now).is_empty() && seats.tried.is_empty());
    }

    #[test]
    fn one_turn_for_each_who_is_asked_and_none_is_kept() {
        let (turns, [one, two]) = (Turns::default(), [1, 2].map(|n: u8| SecretKey::from_bytes(&[n; 32]).public()));
        let (first, same, other) = (turns.of(one), turns.of(one), turns.of(two));
        let held = first.try_lock().unwrap();
        assert!(same.try_lock().is_err() && other.try_lock().is_ok());
        drop(held);
        drop((first, same, other));
        turns.of(two);
        assert!(turns.shown.lock().unwrap().len() <= 1);
    }
}
