//! The outcomes that are kept, as a pure core: which are taken, which go when there are too many, and what the detectors make of
//! them. No disk and no clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zero2ai_proto::{
    Digest, ModelName, NodeId,
    keys::AccountId,
    limits::{OUTCOMES, OUTCOMES_BYTES, OUTCOMES_DAILY},
    outcome::Truth,
    rpc::{ErrorCode, RpcError},
};
use zero2ai_trust::drift::{Alarm, Watch};

use crate::serve::errors::invalid;

/// Milliseconds for which an account's outcomes count against its share.
const DAY_MS: u64 = 24 * 3_600_000;

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

/// See the module.
#[derive(Default)]
pub(super) struct Book {
    shares: Shares,
    kept: BTreeMap<u64, Kept>,
    by_receipt: BTreeMap<Digest, u64>,
    bytes: u64,
    next: u64,
    /// Calls of an account up to this time are not taken any more: their outcomes may have been here and are gone.
    floors: BTreeMap<AccountId, u64>,
    watches: BTreeMap<(ModelName, u32), Watch>,
}

impl Book {
    pub(super) fn new(shares: Shares, floors: BTreeMap<AccountId, u64>) -> Self {
        Self { shares, floors, ..Self::default() }
    }

    /// The place of the next one.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn floors(&self) -> &BTreeMap<AccountId, u64> {
        &self.floors
    }

    /// Whether an outcome is to be taken: `false` if the very same is here.
    ///
    /// # Errors
    /// Another one was told of that call, the call is too old to know, or the account had its share of the day.
    pub(super) fn is_fresh(
        &self,
        account: &AccountId,
        (receipt, said): (&Digest, &Digest),
        answered_ms: u64,
        now: u64,
    ) -> Result<bool, RpcError> {
        if let Some(kept) = self.by_receipt.get(receipt).and_then(|place| self.kept.get(place)) {
            return match kept.said == *said {
                true => Ok(false),
                false => Err(invalid("another outcome of this call was told before: the first one counts")),
            };
        }
        if self.floors.get(account).is_some_and(|floor| answered_ms <= *floor) {
            return Err(invalid("the call is older than what is kept of this account's outcomes"));
        }
        let since = now.saturating_sub(DAY_MS);
        let lately = self.kept.values().filter(|k| k.account == *account && k.told_ms > since).count();
        if lately >= self.shares.daily {
            let why =
                format!("{lately} outcomes of this account came within a day, which is its share: try again later");
            return Err(RpcError::new(ErrorCode::Busy, why));
        }
        Ok(true)
    }

    /// Takes one; says what the detectors say.
    pub(super) fn add(&mut self, kept: Kept) -> Option<Alarm> {
        let watch = self.watches.entry((kept.name.clone(), kept.version)).or_default();
        // All rows are heard; the first alarm among them is told.
        let alarm = kept.rows.iter().fold(None, |told, (_, right)| told.or(watch.take(!right)));
        self.bytes = self.bytes.saturating_add(kept.bytes);
        self.next = self.next.max(kept.place.saturating_add(1));
        self.by_receipt.insert(kept.receipt, kept.place);
        self.kept.insert(kept.place, kept);
        alarm
    }

    /// Lets one go if there are too many: the oldest call of the account that takes the most room, so that nobody can push out
    /// others who have less. From then on no call of that account that is as old is taken.
    pub(super) fn drop_one(&mut self) -> Option<u64> {
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
        let of = self.kept.values().filter(|k| k.account == most);
        let place = of.min_by_key(|k| (k.answered_ms, k.place))?.place;
        let gone = self.kept.remove(&place)?;
        self.by_receipt.remove(&gone.receipt);
        self.bytes = self.bytes.saturating_sub(gone.bytes);
        let floor = self.floors.entry(most).or_default();
        *floor = (*floor).max(gone.answered_ms);
        Some(place)
    }

    /// Those of a model, in the order in which they came.
    pub(super) fn of<'a>(&'a self, name: &'a ModelName) -> impl Iterator<Item = &'a Kept> {
        self.kept.values().filter(move |kept| kept.name == *name)
    }

    /// What the detectors know of each version of a model.
    pub(super) fn watches<'a>(&'a self, name: &'a ModelName) -> impl Iterator<Item = (u32, &'a Watch)> {
        self.watches.iter().filter(move |((of, _), _)| of == name).map(|((_, version), watch)| (*version, watch))
    }

    pub(super) fn watch(&self, name: &ModelName, version: u32) -> Option<&Watch> {
        self.watches.get(&(name.clone(), version))
    }
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
        }
    }

    fn book(outcomes: usize, bytes: u64, daily: usize) -> Book {
        Book::new(Shares { outcomes, bytes, daily }, BTreeMap::new())
    }

    #[test]
    fn one_outcome_of_a_call_counts_and_an_account_has_its_share_of_a_day() {
        let mut book = book(10, 10_000, 2);
        let account = PublicKey([1; 32]);
        let fresh = |book: &Book, n: u8, said: u8, now| {
            book.is_fresh(&account, (&Digest([n; 32]), &Digest([said; 32])), 5_000, now)
        };
        assert!(fresh(&book, 0, 1, 3_000).unwrap());
        book.add(kept(0, 1, true));
        assert!(!fresh(&book, 0, 1, 3_000).unwrap(), "the same again");
        assert_eq!(fresh(&book, 0, 2, 3_000).unwrap_err().code, ErrorCode::Invalid, "another word on the same call");
        book.add(kept(1, 1, true));
        assert_eq!(fresh(&book, 2, 1, 3_000).unwrap_err().code, ErrorCode::Busy);
        assert!(fresh(&book, 2, 1, 3_000 + DAY_MS).unwrap(), "the next day");
        let other = PublicKey([2; 32]);
        assert!(book.is_fresh(&other, (&Digest([9; 32]), &Digest([1; 32])), 5_000, 3_000).unwrap());
    }

    #[test]
    fn who_has_the_most_loses_his_oldest_and_it_cannot_be_told_again() {
        for (outcomes, bytes) in [(4, 10_000), (100, 400)] {
            let mut book = book(outcomes, bytes, 100);
            book.add(kept(0, 2, true));
            for place in 1..5 {
                book.add(kept(place, 1, true));
            }
            assert_eq!(book.drop_one(), Some(1), "not that of the account with one");
            assert_eq!(book.drop_one(), None);
            let again = |account, n: u8| {
                book.is_fresh(&PublicKey([account; 32]), (&Digest([n; 32]), &Digest([1; 32])), 1_000 + u64::from(n), 0)
            };
            assert_eq!(again(1, 1).unwrap_err().code, ErrorCode::Invalid);
            assert!(again(1, 9).unwrap() && again(2, 1).unwrap());
        }
    }

    #[test]
    fn the_same_outcomes_make_the_same_alarm_after_a_restart() {
        let told = |places: std::ops::Range<u64>, book: &mut Book| {
            places.filter(|place| book.add(kept(*place, 1, *place < 60)).is_some()).collect::<Vec<_>>()
        };
        let whole = told(0..80, &mut book(1_000, 1 << 20, 1_000));
        assert!(!whole.is_empty() && whole[0] < 70, "{whole:?}");
        let mut again = book(1_000, 1 << 20, 1_000);
        assert_eq!([told(0..61, &mut again), told(61..80, &mut again)].concat(), whole);
        assert_eq!(again.next(), 80);
    }
}
