//! Disputes that the ledger cannot decide by itself: did the model really say what an opened leaf holds? Others run it again and
//! vote. Owns the instances, the count of votes and what losing costs; stake is never at risk here.
//!
//! A small committee can fall to a minority by the luck of the draw: of eleven, six are of a cabal with 40 % of the seats in about one
//! draw of four. So anyone on the side that lost may appeal (not the parties alone: who disputes an accomplice's leaf to have it
//! upheld would be the only one who could), to a larger committee and at last to everyone, with twice the deposit each time (as in Kleros:
//! Lesaege, Ast, George, "Kleros", 2019). At the last instance a minority of the weight that votes cannot win (the
//! parties do not vote), and since it pays for trying, few disputes go there. Nothing is bound there, so that a dispute costs no block more than its ballots do. What that costs: every validator re-runs the opened leaves of a dispute that goes to the end.

/// Which instance decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instance {
    /// A fresh committee.
    First,
    /// A larger one.
    Second,
    /// Everybody who is not a party.
    Last,
}

impl Instance {
    /// Seats; `None` for everyone.
    #[must_use]
    pub const fn seats(self) -> Option<usize> {
        match self {
            Self::First => Some(11),
            Self::Second => Some(31),
            Self::Last => None,
        }
    }

    /// The one to appeal to; the last has none.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::First => Some(Self::Second),
            Self::Second => Some(Self::Last),
            Self::Last => None,
        }
    }

    /// What a party lays down, from the deposit of the first instance.
    #[must_use]
    pub const fn deposit(self, first: u64) -> u64 {
        first.saturating_mul(match self {
            Self::First => 1,
            Self::Second => 2,
            Self::Last => 4,
        })
    }
}

/// What a seat binds of its juror's stake: `bond`, but all seats together no more than `deposit`, which was laid down for this instance.
/// So nobody binds more of others' stakes by disputes than of his own.
#[must_use]
pub fn seat(bond: u64, deposit: u64, seats: usize) -> u64 {
    u64::try_from(seats).ok().and_then(|seats| deposit.checked_div(seats)).map_or(0, |part| bond.min(part))
}

/// One vote: its weight, and whether the leaf did not hold when the model was run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// Stake × reputation, see [`crate::Reputation::weight`].
    pub weight: u128,
    /// True for "the model does not say that".
    pub refuted: bool,
}

/// True if the leaf is refuted: by more than half of the weight that voted. A tie, or no vote, lets it stand. Silence does not
/// count; it costs who was drawn his bond.
#[must_use]
pub fn refuted(ballots: &[Ballot]) -> bool {
    let sum = |refuted: bool| {
        ballots.iter().filter(|b| b.refuted == refuted).fold(0u128, |sum, b| sum.saturating_add(b.weight))
    };
    sum(true) > sum(false)
}

/// Where deposits go: all of both sides' to one side, less what is burned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// To the side that was right: its own deposits and half of the other's.
    pub winner: u64,
    /// Burned. Never all of it goes to the winner, or who disputes with himself would play for free.
    pub burned: u64,
}

/// Settles the deposits of two sides. Winner and burned add up to both sides' deposits, cut to 64 bits together.
#[must_use]
pub fn settle(right: u64, wrong: u64) -> Settlement {
    let wrong = wrong.min(u64::MAX - right);
    let prize = wrong / 2;
    Settlement { winner: right + prize, burned: wrong - prize }
}
