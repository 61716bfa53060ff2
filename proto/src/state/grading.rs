//! State of grading by stake: what members have at stake, the chain of seeds, rounds, and what was proved wrong.

use serde::{Deserialize, Serialize};

use super::{Committed, Endorsement};
use crate::{
    ids::{Digest, TxId},
    keys::{AccountId, NodeId},
    tx::{Graders, OpenedLeaf},
};

/// `stake/KEY`: what a member has, and its record as a validator. Its parts are all that there is of it: nothing is made or lost
/// but by an administrator, a burned bond or a conviction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakeState {
    /// What was allotted to it and never staked: the next allotment replaces it.
    pub free: u64,
    /// Its stake, bonds included: what its findings weigh.
    pub staked: u64,
    /// What commitments, deposits and seats bind: of the stake first, then of what is leaving it.
    pub bonds: u64,
    /// What was taken out of the stake, and the height until which it is liable. Then it is its own, as far as nothing binds it.
    pub leaving: Vec<(u64, u64)>,
    /// What was good of its record, millionths of an event.
    pub good: u64,
    /// What was bad.
    pub bad: u64,
    /// What it has besides its stake and no allotment touches: what it earned, and what came out of its stake again.
    pub own: u64,
    /// All that it earned so far: its parts of pots, and of what others lost in disputes with it.
    pub earned: u64,
    /// Disputes that it opened and that are not settled.
    pub disputes: u16,
}

/// `stakes`: all of it together, once anything was allotted. Without the entry every validator weighs one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakeTotal {
    /// What all members have: the sum over all `stake/KEY`.
    pub held: u64,
    /// What was burned since the beginning.
    pub burned: u64,
}

/// `seed`: the newest seed. Without the entry it is the pool's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedState {
    /// The seed.
    pub seed: Digest,
    /// The height whose proposer added to it last.
    pub height: u64,
    /// True if that block held more than what its proposer added.
    pub busy: bool,
}

/// `halt`: the last time that the chain stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Height of the block that came after the pause.
    pub height: u64,
    /// How long after its parent, milliseconds.
    pub pause_ms: u64,
}

/// `rounds/NAME@V`: how many rounds were opened for a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundCount {
    /// The newest.
    pub newest: u64,
}

/// How the committee of a round came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// There were no more validators than seats: everyone sits.
    Everyone,
    /// Drawn by a seed that four signers or more add to.
    Random,
    /// Drawn by a seed of fewer signers: not to be called random.
    Appointed,
    /// Those with the most stake behind them, as the model's owner asked.
    Elected,
    /// Those whom the model's owner named.
    Named,
}

/// `round/NAME@V/R`: one round of a version. Its heights follow from `draws` and the windows: commitments are taken for `commit`
/// heights behind it, reveals for `reveal` behind those, and openings and disputes for `dispute` behind those.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundState {
    /// Height of its opening.
    pub opened: u64,
    /// Height whose seed draws the committee, once that block is done.
    pub draws: u64,
    /// Heights in which commitments are taken.
    pub commit: u64,
    /// Heights in which they are revealed.
    pub reveal: u64,
    /// Heights in which leaves are drawn, opened and disputed.
    pub dispute: u64,
    /// Seats.
    pub seats: u16,
    /// What a commitment binds, millionths of a stake.
    pub bond_ppm: u32,
    /// How likely leaves are to be asked for, millionths.
    pub open_ppm: u32,
    /// How many leaves.
    pub leaves: u16,
    /// True if stake weighs in it; else everyone weighs one.
    pub staked: bool,
    /// How its committee came about; none before the draw.
    pub selection: Option<Selection>,
    /// Who sits, ascending; empty before the draw.
    pub committee: Vec<NodeId>,
    /// The seed that draws the leaves to open, from behind the last reveal.
    pub open_seed: Option<Digest>,
    /// What it came to.
    pub outcome: Option<Outcome>,
    /// Disputes over its leaves that are not settled: until they are, neither is the round.
    pub disputes: u32,
    /// True if the chain stood still between the draw and [`RoundState::end`], as far as that is over: nobody's silence is charged then.
    pub halted: bool,
}

impl RoundState {
    /// The last height at which a commitment is taken.
    #[must_use]
    pub const fn commit_end(&self) -> u64 {
        self.draws.saturating_add(self.commit)
    }

    /// The last height at which one is revealed.
    #[must_use]
    pub const fn reveal_end(&self) -> u64 {
        self.commit_end().saturating_add(self.reveal)
    }

    /// The last height at which leaves are opened: as many as for a reveal behind the one whose seed draws them.
    #[must_use]
    pub const fn open_end(&self) -> u64 {
        self.reveal_end().saturating_add(1).saturating_add(self.reveal)
    }

    /// The last height at which a leaf is disputed. At its end the round is settled, unless disputes over it are open: then a block
    /// behind the end of the last of them.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.reveal_end().saturating_add(self.dispute)
    }

    /// True if this validator may take part, as far as seats are concerned.
    #[must_use]
    pub fn seats(&self, validator: &NodeId) -> bool {
        self.committee.contains(validator)
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The median, by stake times reputation, over what those who were upheld found of the version so far, millionths; none below
    /// three datasets.
    pub score_ppm: Option<u32>,
    /// Distinct datasets.
    pub datasets: u32,
    /// Samples over distinct datasets, of all rounds as far as they have not faded.
    pub samples: u64,
    /// How far the score can be relied on, millionths.
    pub confidence_ppm: u32,
    /// Those upheld by verdict: positive, negative, abstaining.
    pub verdicts: [u32; 3],
    /// Height of the settlement.
    pub height: u64,
}

/// `entry/NAME@V/R/KEY`: what one validator did in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryState {
    /// What it committed to.
    pub commitment: Digest,
    /// When.
    pub place: Committed,
    /// What that binds of its stake.
    pub bond: u64,
    /// What it revealed.
    pub found: Option<Endorsement>,
    /// Height at which it opened the leaves that were drawn.
    pub opened: Option<u64>,
    /// Height at which its counts were proved wrong.
    pub contradicted: Option<u64>,
    /// How it stood when the round was settled, before anything changed by that.
    pub standing: Option<Standing>,
    /// Height at which a jury had found that the model does not say what it opened.
    pub refuted: Option<u64>,
}

/// A validator as a settlement found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its stake; 1 where stake does not weigh.
    pub stake: u64,
    /// The good part of its record, millionths of an event.
    pub good: u64,
    /// The bad part.
    pub bad: u64,
    /// What it had found of this version before.
    pub history: FindingState,
}

/// `finding/NAME@V/KEY`: what one validator found of a version over all rounds; older ones fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingState {
    /// Qualities times samples, millionths of a sample.
    pub weighted: u64,
    /// Samples, millionths.
    pub samples: u64,
    /// The epoch as of which both are told.
    pub epoch: u64,
}

/// `contradiction/NAME@V/R/KEY`: leaves that prove a validator's counts of a round wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContradictionState {
    /// The leaves, each under the root that the validator revealed.
    pub leaves: Vec<OpenedLeaf>,
    /// Who submitted them.
    pub reporter: AccountId,
    /// The transaction that carried them.
    pub tx: TxId,
    /// Its height.
    pub height: u64,
}

/// What a stake can be convicted of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offence {
    /// Two signatures at one step of consensus.
    Equivocation,
    /// Leaves that contradict revealed counts.
    Contradiction,
}

/// `convicted/END/KEY`: one conviction of the window that ends at that height, once for each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conviction {
    /// Of what.
    pub offence: Offence,
    /// All that was liable then: the stake and what was leaving it.
    pub liable: u64,
    /// Height of the conviction.
    pub height: u64,
    /// The transaction that proved it.
    pub tx: TxId,
    /// What was taken at the end of the window; none before.
    pub charged: Option<u64>,
}

/// `vote/KEY`: behind whom a member put its stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteState {
    /// The validator; none once the vote was taken back.
    pub candidate: Option<NodeId>,
    /// Height of the last change.
    pub height: u64,
}

/// `graders/NAME`: who may grade a model, as its owner said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GradersState {
    /// Who.
    pub graders: Graders,
    /// Height of the last change.
    pub height: u64,
}

/// What is to be done at the end of a block. Gone from the state once it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Due {
    /// A round's committee is drawn.
    Draw,
    /// Reveals are over: the seed that draws leaves is fixed.
    Open,
    /// The round is settled.
    Settle,
    /// A dispute's jury is drawn.
    Jury,
    /// Its ballots are counted.
    Count,
    /// Nobody appealed: the dispute is settled.
    Close,
    /// It is over: its ballots leave the state, some of them in each block.
    Sweep,
}
