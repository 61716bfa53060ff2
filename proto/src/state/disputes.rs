//! State of disputes over opened leaves, and of what an epoch's work earned.

use serde::{Deserialize, Serialize};

use crate::{ids::TxId, keys::NodeId, tx::OpenedLeaf};

/// `dispute/NAME@V/R/KEY/LEAF`: one dispute over a leaf that a validator opened, at the instance it has come to. A jury is drawn by the
/// seed of `draws`; it votes for `vote` heights behind that, and who lost may appeal for `appeal` heights behind those.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeState {
    /// The leaf, proved to stand under the root that its validator revealed.
    pub leaf: OpenedLeaf,
    /// Who disputes it.
    pub appellant: NodeId,
    /// By which transaction.
    pub tx: TxId,
    /// Its height.
    pub height: u64,
    /// The instance: 1 for the first committee, 2 for the larger one, 3 for everyone.
    pub instance: u8,
    /// Height whose seed draws the jury of this instance.
    pub draws: u64,
    /// Heights in which ballots are taken.
    pub vote: u64,
    /// Heights in which who lost may appeal.
    pub appeal: u64,
    /// The deposit of the first instance.
    pub first: u64,
    /// Who laid down what, each once: who disputes it, who opened it, then who else appealed, up to two.
    pub backers: Vec<Backer>,
    /// The ballots of this instance so far.
    pub votes: Tally,
    /// What this instance came to, or the one before it if nobody voted in this one; none before its ballots are counted.
    pub tally: Option<Tally>,
    /// What the instance before came to; none at the first.
    pub earlier: Option<Tally>,
    /// Height at which the dispute was settled.
    pub settled: Option<u64>,
}

impl DisputeState {
    /// The last height at which a ballot of this instance is taken.
    #[must_use]
    pub const fn vote_end(&self) -> u64 {
        self.draws.saturating_add(self.vote)
    }

    /// The last height at which an appeal is taken, at whose end the dispute is settled without one.
    #[must_use]
    pub const fn appeal_end(&self) -> u64 {
        self.vote_end().saturating_add(self.appeal)
    }

    /// What one side has laid down: the one that says the model does not say that, or the other.
    #[must_use]
    pub fn laid(&self, refutes: bool) -> u64 {
        self.backers.iter().filter(|b| b.refutes == refutes).fold(0, |sum, b| u64::saturating_add(sum, b.amount))
    }
}

/// Who laid something down in a dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backer {
    /// Who.
    pub who: NodeId,
    /// True for the side that says that the model does not say that.
    pub refutes: bool,
    /// How much of its stake.
    pub amount: u64,
}

/// What the ballots of an instance come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The weight of those who say that the model does not say that.
    pub refuting: u64,
    /// The weight of the others who voted.
    pub standing: u64,
    /// Who voted.
    pub cast: u32,
    /// Who sat; at the last instance, where everyone may vote, who did.
    pub jurors: u32,
}

impl Tally {
    /// True if the leaf is refuted: by more than half of the weight that voted.
    #[must_use]
    pub const fn refuted(&self) -> bool {
        self.refuting > self.standing
    }
}

/// `ballot/NAME@V/R/KEY/LEAF/INSTANCE/JUROR`: one juror's seat, and its vote. At the last instance the vote makes it. Gone from the state
/// once the dispute is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotState {
    /// Stake (1 where stake does not weigh) times reputation in millionths, at the draw; at the last instance, as it was cast.
    pub weight: u64,
    /// What the seat still binds of the juror's stake: nothing from its vote on, nor once the ballots are counted.
    pub bond: u64,
    /// What it said: true for "the model does not say that"; none yet, or never.
    pub refuted: Option<bool>,
}

/// `pot`: what is divided at the end of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PotState {
    /// What it holds, in the units of stake. Nobody's stake is in it.
    pub amount: u64,
}

/// `reward/END/KEY`: what a validator shared in the epoch that ends at that height, and what it may claim of its pot. Gone from the state
/// once that is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewardState {
    /// What it found, and what the round came to, both millionths: of each round that was settled in the epoch and had a score, in that
    /// order, [`REWARDED`](crate::limits::REWARDED) at most.
    pub shared: Vec<(u32, u32)>,
    /// The least stake that stood behind one of them.
    pub stake: u64,
    /// True if leaves of its were refuted, or not opened when they had to be: then the epoch earns it nothing.
    pub void: bool,
    /// How alike each finding and the score of its own round are, summed up, millionths.
    pub same: u64,
    /// The same of every finding with every score.
    pub all: u64,
    /// Its part of the pot is as this to what everybody claims: stake times reputation as of its last finding times agreement beyond
    /// chance, both millionths, divided by a million.
    pub claim: u64,
}

/// `epoch/END`: what everybody claims of the epoch that ends at that height. Gone from the state once all of them are paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochState {
    /// The sum of all claims.
    pub claims: u64,
    /// What is divided: what the pot held at the end of the epoch; none before.
    pub amount: Option<u64>,
    /// What of that nobody was paid yet.
    pub left: u64,
}
