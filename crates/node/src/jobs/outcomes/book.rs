//! The outcomes that are kept, as a pure core: which are taken, which go when there are too many, and what the detectors make of
//! them. No disk and no clock: what is to happen is said first, and done to the book once it is on disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zero2ai_proto::{
    Digest, ModelName, NodeId,
    keys::AccountId,
    limits::{OUTCOME_AGE_MS, OUTCOMES, OUTCOMES_BYTES, OUTCOMES_DAILY},
    local::Alarm,
    outcome::Truth,
    rpc::{ErrorCode, RpcError},
};
use zero2ai_trust::drift::{self, Told, Watch};

use crate::serve::errors::invalid;

const HOUR_MS: u64 = 3_600_000;
/// Milliseconds for which an account's outcomes count against its share.
const DAY_MS: u64 = 24 * HOUR_MS;

/// One outcome without its content, as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Its place in the order of arrival.
    pub(super) place: u64,
    pub(super) receipt: Digest,
    /// Hash of what was said, so that the same word is told from another one.
    pub(super) said: Digest,
    pub(super) account: AccountId,
    pub(super) name: ModelName,
    pub(super) version: u32,
    pub(super) provider: NodeId,
    pub(super) answered_ms: u64,
    pub(super) told_ms: u64,
    pub(super) truths: Vec<Truth>,
    pub(super) rows: Vec<(Option<u16>, bool)>,
    pub(super) has_input: bool,
    /// Of the report beside it.
    pub(super) bytes: u64,
    /// The alarm that the detectors gave when they heard of it: it stands in the same file, so that neither is there without the other.
    pub(super) alarm: Option<Alarm>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) outcomes: usize,
    pub(super) bytes: u64,
    pub(super) daily: usize,
}

impl Default for Shares {
    fn default() -> Self {
        Self { outcomes: OUTCOMES, bytes: OUTCOMES_BYTES, daily: OUTCOMES_DAILY }
    }
}

/// What is known of an account's outcomes that are kept no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Past {
    /// Its calls up to this time are not taken any more: their outcomes may have been here.
    floor_ms: u64,
    /// How many of those that came in an hour (since 1970) are gone: they count against its share of a day as the others do.
    hours: BTreeMap<u64, u32>,
}

impl Past {
    /// Those that came after `since`, up to an hour more.
    fn lately(&self, since: u64) -> usize {
        self.hours.range(since / HOUR_MS..).map(|(_, gone)| *gone as usize).sum()
    }

    fn is_over(&self, now: u64) -> bool {
        self.lately(now.saturating_sub(DAY_MS)) == 0 && now.saturating_sub(self.floor_ms) > OUTCOME_AGE_MS
    }
}

/// By account.
pub(super) type Pasts = BTreeMap<AccountId, Past>;

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    shares: Shares,
    kept: BTreeMap<u64, Kept>,
    by_receipt: BTreeMap<Digest, u64>,
    bytes: u64,
    next: u64,
    pasts: Pasts,
    watches: BTreeMap<(ModelName, u32), Watch>,
}

impl Book {
    /// An empty one whose places begin at `next`.
    pub(super) fn new(shares: Shares, pasts: Pasts, next: u64) -> Self {
        Self { shares, pasts, next, ..Self::default() }
    }

    /// The place of the next one.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether an outcome is to be taken: `false` if the very same is here.
    ///
    /// # Errors
    /// Another one was told of that call, the call is too old to know, or the account had its share of the day.
    pub(super) fn is_fresh(&self, arrived: &Kept) -> Result<bool, RpcError> {
        let Kept { account, told_ms: now, .. } = arrived;
        if let Some(kept) = self.by_receipt.get(&arrived.receipt).and_then(|place| self.kept.get(place)) {
            return match kept.said == arrived.said {
                true if arrived.has_input && !kept.has_input => {
                    Err(invalid("this outcome was told before without its input, which is not taken later"))
                }
                true => Ok(false),
                false => Err(invalid("another outcome of this call was told before: the first one counts")),
            };
        }
        let past = self.pasts.get(account);
        if past.is_some_and(|past| arrived.answered_ms <= past.floor_ms) {
            return Err(invalid("the call is older than what is kept of this account's outcomes"));
        }
        let since = now.saturating_sub(DAY_MS);
        let here = self.kept.values().filter(|k| k.account == *account && k.told_ms > since).count();
        let lately = here.saturating_add(past.map_or(0, |past| past.lately(since)));
        if lately >= self.shares.daily {
            let why =
                format!("{lately} outcomes of this account came within a day, which is its share: try again later");
            return Err(RpcError::new(ErrorCode::Busy, why));
        }
        Ok(true)
    }

    /// The detectors of its version as they are once they heard of an outcome, and what they say to it.
    pub(super) fn heard(&self, kept: &Kept) -> (Watch, Option<drift::Alarm>) {
        let mut watch = self.watches.get(&(kept.name.clone(), kept.version)).cloned().unwrap_or_default();
        let alarm = hear(&mut watch, kept);
        (watch, alarm)
    }

    /// Takes one that is on disk, and the detectors that heard of it.
    pub(super) fn put(&mut self, kept: Kept, watch: Watch) {
        self.watches.insert((kept.name.clone(), kept.version), watch);
        self.bytes = self.bytes.saturating_add(kept.bytes);
        self.next = self.next.max(kept.place.saturating_add(1));
        self.by_receipt.insert(kept.receipt, kept.place);
        self.kept.insert(kept.place, kept);
    }

    /// Takes one that was here before.
    pub(super) fn put_again(&mut self, kept: Kept) {
        let mut watch = self.watches.remove(&(kept.name.clone(), kept.version)).unwrap_or_default();
        hear(&mut watch, &kept);
        self.put(kept, watch);
    }

    /// The one to be let go if there are too many: the oldest call of the account that takes the most room, so that nobody can push
    /// out others who have less. With it, what is known of accounts' pasts once it is gone: no call of that account that is as old is
    /// taken from then on.
    pub(super) fn surplus(&self, now: u64) -> Option<(u64, Pasts)> {
        let (many, large) = (self.kept.len() > self.shares.outcomes, self.bytes > self.shares.bytes);
        if !many && !large {
            return None;
        }
        let mut taken: BTreeMap<AccountId, u64> = BTreeMap::new();
        for kept in self.kept.values() {
            let room = taken.entry(kept.account).or_default();
            *room = room.saturating_add(if large { kept.bytes } else { 1 });
        }
        let (most, _) = taken.into_iter().max_by_key(|(_, room)| *room)?;
        let gone = self.kept.values().filter(|k| k.account == most).min_by_key(|k| (k.answered_ms, k.place))?;
        let mut pasts = self.pasts.clone();
        let past = pasts.entry(most).or_default();
        past.floor_ms = past.floor_ms.max(gone.answered_ms);
        let hour = past.hours.entry(gone.told_ms / HOUR_MS).or_default();
        *hour = hour.saturating_add(1);
        past.hours = past.hours.split_off(&(now.saturating_sub(DAY_MS) / HOUR_MS));
        pasts.retain(|_, past| !past.is_over(now));
        Some((gone.place, pasts))
    }

    /// Lets one go that is on disk no more.
    pub(super) fn let_go(&mut self, place: u64, pasts: Pasts) {
        if let Some(gone) = self.kept.remove(&place) {
            self.by_receipt.remove(&gone.receipt);
            self.bytes = self.bytes.saturating_sub(gone.bytes);
        }
        self.pasts = pasts;
    }

    /// Those of a model from a place on, in the order in which they came.
    pub(super) fn of<'a>(&'a self, name: &'a ModelName, from: u64) -> impl Iterator<Item = &'a Kept> {
        self.kept.range(from..).map(|(_, kept)| kept).filter(move |kept| kept.name == *name)
    }

    /// What the detectors know of each version of a model.
    pub(super) fn watches<'a>(&'a self, name: &'a ModelName) -> impl Iterator<Item = (u32, &'a Watch)> {
        self.watches.iter().filter(move |((of, _), _)| of == name).map(|((_, version), watch)| (*version, watch))
    }
}

/// All rows are heard; of what the detectors say to them the word of the most accounts is told, of equals the last.
fn hear(watch: &mut Watch, kept: &Kept) -> Option<drift::Alarm> {
    let (teller, time_ms) = (kept.account.0, kept.told_ms);
    kept.rows.iter().fold(None, |told: Option<drift::Alarm>, (_, right)| {
        let said = watch.take(Told { teller, time_ms, wrong: !right });
        if said.map(|alarm| alarm.accounts) >= told.map(|alarm| alarm.accounts) { said } else { told }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::PublicKey;

    use super::*;

    fn kept(place: u64, account: u8, right: bool) -> Kept {
        Kept {
            place,
            receipt: Digest([u8::try_from(place).unwrap(); 32]),
            said: Digest([1; 32]),
            account: PublicKey([account; 32]),
            name: "lab/m".parse().unwrap(),
            version: 1,
            provider: PublicKey([7; 32]),
            answered_ms: 1_000 + place,
            told_ms: 2_000 + place,
            truths: vec![Truth::Right(right)],
            rows: vec![(None, right)],
            has_input: false,
            bytes: 100,
            alarm: None,
        }
    }

    fn book(outcomes: usize, bytes: u64, daily: usize) -> Book {
        Book::new(Shares { outcomes, bytes, daily }, Pasts::new(), 0)
    }

    fn add(book: &mut Book, kept: Kept) -> Option<u32> {
        let (watch, alarm) = book.heard(&kept);
        book.put(kept, watch);
        alarm.map(|alarm| alarm.accounts)
    }

    fn drop_one(book: &mut Book) -> Option<u64> {
        let (place, pasts) = book.surplus(3_000)?;
        book.let_go(place, pasts);
        Some(place)
    }

    #[test]
    fn one_outcome_of_a_call_counts_and_an_account_has_its_share_of_a_day() {
        let mut book = book(10, 10_000, 2);
        let fresh = |book: &Book, n: u64, said: u8, told_ms| {
            book.is_fresh(&Kept { said: Digest([said; 32]), answered_ms: 5_000, told_ms, ..kept(n, 1, true) })
        };
        assert!(fresh(&book, 0, 1, 3_000).unwrap());
        add(&mut book, kept(0, 1, true));
        assert!(!fresh(&book, 0, 1, 3_000).unwrap(), "the same again");
        assert_eq!(fresh(&book, 0, 2, 3_000).unwrap_err().code, ErrorCode::Invalid, "another word on the same call");
        let later = Kept { has_input: true, ..kept(0, 1, true) };
        assert_eq!(book.is_fresh(&later).unwrap_err().code, ErrorCode::Invalid, "not acknowledged and dropped");
        add(&mut book, kept(1, 1, true));
        assert_eq!(fresh(&book, 2, 1, 3_000).unwrap_err().code, ErrorCode::Busy);
        assert!(fresh(&book, 2, 1, 3_000 + DAY_MS).unwrap(), "the next day");
        assert!(book.is_fresh(&kept(9, 2, true)).unwrap());
    }

    #[test]
    fn who_has_the_most_loses_his_oldest_and_it_cannot_be_told_again() {
        for (outcomes, bytes) in [(4, 10_000), (100, 400)] {
            let mut book = book(outcomes, bytes, 100);
            add(&mut book, kept(0, 2, true));
            for place in 1..5 {
                add(&mut book, kept(place, 1, true));
            }
            assert_eq!(drop_one(&mut book), Some(1), "not that of the account with one");
            assert_eq!(drop_one(&mut book), None);
            let again = |account, place| book.is_fresh(&kept(place, account, true));
            assert_eq!(again(1, 1).unwrap_err().code, ErrorCode::Invalid);
            assert!(again(1, 9).unwrap() && again(2, 1).unwrap());
        }
    }

    #[test]
    fn what_was_pushed_out_counts_against_the_share_of_a_day() {
        let mut book = book(3, 10_000, 8);
        let mut taken = 0;
        for place in 0..40 {
            let one = kept(place, 1, true);
            if book.is_fresh(&one).is_ok() {
                add(&mut book, one);
                taken += 1;
                while drop_one(&mut book).is_some() {}
            }
        }
        assert_eq!(taken, 8, "and not as many as one likes, three at a time");
        let (_, pasts) = {
            add(&mut book, kept(50, 1, true));
            book.surplus(3_000).unwrap()
        };
        let mut again = Book::new(Shares { outcomes: 3, bytes: 10_000, daily: 8 }, pasts, 51);
        again.put_again(kept(51, 2, true));
        let late = |book: &Book, told_ms| book.is_fresh(&Kept { told_ms, answered_ms: told_ms, ..kept(60, 1, true) });
        let busy = Book { shares: Shares { daily: 6, ..again.shares }, pasts: again.pasts.clone(), ..Book::default() };
        assert_eq!(late(&busy, 5_000).unwrap_err().code, ErrorCode::Busy, "after a restart, too");
        assert!(late(&busy, 5_000 + DAY_MS + HOUR_MS).unwrap());
    }

    #[test]
    fn the_past_of_an_account_is_forgotten_once_it_says_nothing() {
        let mut book = book(1, 10_000, 8);
        add(&mut book, kept(0, 1, true));
        add(&mut book, kept(1, 1, true));
        let (place, pasts) = book.surplus(3_000).unwrap();
        assert_eq!((place, pasts.len()), (0, 1));
        let (_, pasts) = book.surplus(3_000 + OUTCOME_AGE_MS + DAY_MS).unwrap();
        assert!(pasts.is_empty(), "calls as old are refused for their age");
    }

    #[test]
    fn the_same_outcomes_make_the_same_alarm_after_a_restart() {
        let told = |places: std::ops::Range<u64>, book: &mut Book| {
            places.filter(|place| add(book, kept(*place, 1, *place < 60)).is_some()).collect::<Vec<_>>()
        };
        let whole = told(0..80, &mut book(1_000, 1 << 20, 1_000));
        assert!(!whole.is_empty() && whole[0] < 70, "{whole:?}");
        let mut again = book(1_000, 1 << 20, 1_000);
        (0..61).for_each(|place| again.put_again(kept(place, 1, place < 60)));
        let rest: Vec<u64> = whole.into_iter().filter(|place| *place > 60).collect();
        assert_eq!(told(61..80, &mut again), rest);
        assert_eq!(again.next(), 80);
    }
}
