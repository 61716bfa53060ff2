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
    /// What who disputes it has laid down so far, of its stake.
    pub deposit: u64,
    /// What who opened it has.
    pub opposed: u64,
    /// What this instance came to; none before its ballots are counted.
    pub tally: Option<Tally>,
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
}

/// What an instance came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// True if more than half of the weight that voted says that the model does not say that.
    pub refuted: bool,
    /// Who voted.
    pub cast: u32,
    /// Who sat.
    pub jurors: u32,
}

/// `ballot/NAME@V/R/KEY/LEAF/INSTANCE/JUROR`: one juror's seat, and its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotState {
    /// Stake (1 where stake does not weigh) times reputation in millionths, at the draw.
    pub weight: u64,
    /// What the seat binds of the juror's stake until the ballots are counted.
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

/// `reward/END/KEY`: what a validator shared in the epoch that ends at that height, and what it earned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewardState {
    /// What it found, and what the round came to, both millionths: of each round that was settled in the epoch and had a score, in that
    /// order, [`REWARDED`](crate::limits::REWARDED) at most.
    pub shared: Vec<(u32, u32)>,
    /// The least stake that stood behind one of them.
    pub stake: u64,
    /// True if leaves of its were refuted, or not opened when they had to be: then the epoch earns it nothing.
    pub void: bool,
    /// What it earned; none before the end of the epoch.
    pub paid: Option<Paid>,
}

/// What an epoch came to for a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// Stake times reputation in millionths, as the end of the epoch found them.
    pub weight: u64,
    /// What it got.
    pub amount: u64,
}
