//! Transactions: what accounts ask of the ledger. Carried as `Signed<Tx>`; the signer is the account.

use serde::{Deserialize, Serialize};

use crate::{
    ByteBuf,
    envelope::{Message, Signed},
    evidence::Evidence,
    ids::{Digest, ManifestId},
    keys::{AccountId, NodeId, SealingKey},
    manifest::{Domain, Format, Task},
    name::ModelName,
    pool::Ticket,
    state::{Rights, Signer},
};

mod disputes;

pub use disputes::{Ballot, Dispute, Disputed, SetPot};

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tx {
    /// The account's counter, from 0: each is used once, in order. A redemption carries 0.
    pub nonce: u64,
    /// What is asked.
    pub body: TxBody,
}

impl Message for Tx {
    const KIND: u16 = 2;
}

/// What a transaction asks. The order of the variants is the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxBody {
    /// Admits the signing identity by a ticket.
    Redeem(Redeem),
    /// An administrator sets an identity's rights (none: revoked).
    SetRights(SetRights),
    /// An administrator replaces the signer set, two heights later.
    SetSigners(SetSigners),
    /// Claims a free publisher handle.
    ClaimHandle(ClaimHandle),
    /// Publishes the next version of a model under an owned handle.
    Publish(Publish),
    /// Points a channel at a version.
    SetChannel(SetChannel),
    /// A validator's figures for a version.
    Endorse(Endorse),
    /// A provider anchors its receipt log.
    Anchor(Anchor),
    /// Withdraws a version: resolvers need a fresh answer from then on.
    Withdraw(Withdraw),
    /// A model's owner lets a member open its private versions.
    Grant(Grant),
    /// A model's owner takes a grant back: nobody gives that member a key any more.
    Revoke(Revoke),
    /// Proves that a signer contradicted itself; any member may submit it, once for each signer and height.
    Evidence(Evidence),
    /// An administrator makes a new pool key the one that connections prove.
    RotateKey(RotateKey),
    /// An administrator names the rules that blocks follow from a height on, or takes that back before it is reached.
    SetRules(SetRules),
    /// A model's owner offers it to another member, or takes an offer back.
    Offer(Offer),
    /// The member to whom a model was offered becomes its owner.
    Accept(Accept),
    /// A validator fixes its figures for a version before anybody can see them.
    Commit(Commit),
    /// A validator shows the figures that it committed to.
    Reveal(Reveal),
    /// An administrator sets what a member has to stake.
    Allot(Allot),
    /// A member stakes some of what it has.
    Stake(Stake),
    /// A member takes some of its stake back: it weighs nothing from then on, and stays liable for a while.
    Unstake(Unstake),
    /// A proposer adds its VRF output to the chain of seeds: the first transaction of its own block, and of no other place.
    Beacon(Beacon),
    /// An administrator sets how models are graded.
    SetGrading(Grading),
    /// Opens the next round of a version; a publication opens the first.
    OpenRound(OpenRound),
    /// A validator fixes its figures for a round before anybody can see them.
    CommitRound(CommitRound),
    /// A validator shows the figures that it committed to in a round.
    RevealRound(RevealRound),
    /// A validator opens the leaves of its predictions that a seed drew.
    OpenLeaves(OpenLeaves),
    /// Proves by opened leaves that the counts a validator revealed are not those of its predictions; any member may submit it.
    Contradict(Contradict),
    /// A member puts its stake behind a validator, instead of another before.
    Elect(Elect),
    /// A model's owner says who may grade it.
    Authorise(Authorise),
    /// An administrator sets what the pot holds that validators are paid from at the end of an epoch.
    SetPot(SetPot),
    /// A validator disputes a leaf that another opened: the model does not say that. It costs a deposit, and others run the leaf again.
    Dispute(Dispute),
    /// A juror says what it found when it ran a disputed leaf again.
    Ballot(Ballot),
    /// A validator takes a dispute to the next instance, on the side that lost, with a larger deposit.
    Appeal(Disputed),
}

/// See [`TxBody::Elect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elect {
    /// A member with the right `validator`; none takes a vote back.
    pub candidate: Option<NodeId>,
}

/// See [`TxBody::Authorise`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorise {
    /// A model that the signer owns.
    pub name: ModelName,
    /// Who may grade it in rounds whose committee is drawn from here on.
    pub graders: Graders,
}

/// Who may grade a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Graders {
    /// Every validator that may open it; a committee is drawn where there are more than seats.
    Everyone,
    /// Those with the most stake behind them when the committee is due.
    Elected,
    /// These, 1 to [`SEATS`](crate::limits::SEATS), ascending. The rounds say so.
    Named(Vec<NodeId>),
}

/// See [`TxBody::Allot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allot {
    /// An admitted identity.
    pub member: NodeId,
    /// What it has from now on that it never staked, in units that mean nothing outside of the pool. What it earned, and what it staked and
    /// took back, no allotment touches.
    pub amount: u64,
}

/// See [`TxBody::Stake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stake {
    /// How much, 1 or more.
    pub amount: u64,
}

/// See [`TxBody::Unstake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstake {
    /// How much, 1 or more.
    pub amount: u64,
}

/// See [`TxBody::Beacon`]. Its transaction carries the nonce 0 and uses none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// Proof of the proposer's VRF output over the seed before and this height: 80 bytes, see [`crate::vrf`]. The output follows from it.
    pub proof: ByteBuf,
}

/// See [`TxBody::SetGrading`]. Also `grading` in the state; a round keeps what was in force when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grading {
    /// Heights from the opening of a round to the draw of its committee.
    pub delay: u64,
    /// Heights in which commitments are taken.
    pub commit: u64,
    /// Heights in which they are revealed.
    pub reveal: u64,
    /// Heights in which leaves are drawn (the first), opened (for as many as reveals are taken) and disputed (to the last).
    pub dispute: u64,
    /// Seats of a committee; everyone sits if there are no more validators than that.
    pub seats: u16,
    /// What a commitment binds of its validator's stake, millionths, rounded up.
    pub bond_ppm: u32,
    /// How likely a validator is to be asked to open leaves, millionths.
    pub open_ppm: u32,
    /// Leaves that it is asked for, or all if there are no more.
    pub leaves: u16,
    /// Heights of a window of convictions: who is convicted within one pays at its end, by how many were.
    pub window: u64,
}

impl Default for Grading {
    /// Windows that are fair for as many signers as a pool may have.
    fn default() -> Self {
        Self {
            delay: 4,
            commit: 200,
            reveal: 40,
            // As long as a run takes, behind the openings: who disputes a leaf ran it.
            dispute: 241,
            seats: 21,
            bond_ppm: 10_000,
            open_ppm: 300_000,
            leaves: 24,
            window: 10_000,
        }
    }
}

/// See [`TxBody::OpenRound`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRound {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
}

/// See [`TxBody::CommitRound`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRound {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// The round, from 1.
    pub round: u64,
    /// As of [`Commit`], with this round.
    pub commitment: Digest,
}

/// See [`TxBody::RevealRound`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealRound {
    /// The figures; `predictions_root` is over the leaves that [`OpenedLeaf::bytes`] tells.
    pub endorse: Endorse,
    /// The round.
    pub round: u64,
    /// The commitment's salt: 32 random bytes.
    pub salt: ByteBuf,
}

/// One leaf of a validator's predictions, with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedLeaf {
    /// Its place, from 0.
    pub index: u32,
    /// The class that the sample has; 0 where the model is no classifier.
    pub label: u16,
    /// The class that the model said; of what is no classifier 0 if its answer was right, else 1.
    pub answer: u16,
    /// Salted digest of the sample: see README.md.
    pub sample: Digest,
    /// RFC 6962 inclusion proof under `predictions_root` (SHA-256), from the leaf up.
    pub siblings: Vec<Digest>,
}

impl OpenedLeaf {
    /// The leaf as it stands in the tree: answer and label (two bytes each, the low one first), digest.
    #[must_use]
    pub fn bytes(label: u16, answer: u16, sample: &Digest) -> Vec<u8> {
        [&answer.to_le_bytes()[..], &label.to_le_bytes(), sample.as_bytes()].concat()
    }
}

/// See [`TxBody::OpenLeaves`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLeaves {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// The round.
    pub round: u64,
    /// The leaves that were drawn, ascending.
    pub leaves: Vec<OpenedLeaf>,
}

/// See [`TxBody::Contradict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradict {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// The round.
    pub round: u64,
    /// Whose counts are contradicted.
    pub validator: NodeId,
    /// Leaves under its root that cannot be squared with its counts.
    pub leaves: Vec<OpenedLeaf>,
}

/// See [`TxBody::Offer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// A model that the signer owns.
    pub name: ModelName,
    /// A member who may publish; none takes an offer back.
    pub to: Option<AccountId>,
}

/// See [`TxBody::Accept`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// A model that was offered to the signer.
    pub name: ModelName,
}

/// See [`TxBody::Commit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// Hash of pool, model, version, round 0, validator, figures and salt: see README.md.
    pub commitment: Digest,
}

/// See [`TxBody::Reveal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The figures.
    pub endorse: Endorse,
    /// The commitment's salt: 32 random bytes.
    pub salt: ByteBuf,
}

/// See [`TxBody::Redeem`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeem {
    /// The administrator's ticket.
    pub ticket: Signed<Ticket>,
    /// Where manifest keys are wrapped to.
    pub sealing_key: SealingKey,
}

/// See [`TxBody::SetRights`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRights {
    /// An admitted identity.
    pub member: NodeId,
    /// Its rights from now on.
    pub rights: Rights,
}

/// See [`TxBody::SetSigners`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSigners {
    /// The whole new set; every member needs the right `signer`.
    pub signers: Vec<Signer>,
    /// Needed for two or three signers, since such a set stops when one dies.
    pub force: bool,
}

/// See [`TxBody::RotateKey`]. The key itself is never on the ledger: members ask each other for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKey {
    /// Its epoch: one above the newest.
    pub epoch: u32,
    /// Its id, [`crate::pool::PoolKey::id`].
    pub id: Digest,
    /// How long, from the block's time on, the key before it opens everything, milliseconds: at most
    /// [`KEY_GRACE_MS`](crate::limits::KEY_GRACE_MS).
    pub grace_ms: u64,
}

/// See [`TxBody::ClaimHandle`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimHandle {
    /// The handle.
    pub handle: String,
}

/// When an endorsement is positive or negative: its quality (macro F1) against two marks, millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Positive from here up.
    pub accept_ppm: u32,
    /// Negative from here down.
    pub reject_ppm: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { accept_ppm: 900_000, reject_ppm: 700_000 }
    }
}

/// See [`TxBody::Publish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The model; its publisher is a handle the signer owns.
    pub name: ModelName,
    /// The version: one above the newest.
    pub version: u32,
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// Format of its files.
    pub format: Format,
    /// What it does.
    pub task: Task,
    /// Whom its key is given to: see [`Domain`].
    pub domain: Domain,
    /// Bytes of its files.
    pub bytes: u64,
    /// Chunks as the manifest lists them, a repeated one each time.
    pub chunks: u32,
    /// The earlier version of this model that it was made from: the one its differences start from, else the one before.
    pub base: Option<u32>,
    /// When an endorsement counts for or against it.
    pub thresholds: Thresholds,
}

/// See [`TxBody::SetChannel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChannel {
    /// The model.
    pub name: ModelName,
    /// The channel.
    pub channel: String,
    /// A published version that was not withdrawn.
    pub version: u32,
}

/// Counts of one class: how often it was rightly said, wrongly said, and missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCounts {
    /// True positives.
    pub tp: u32,
    /// False positives.
    pub fp: u32,
    /// False negatives.
    pub fn_: u32,
}

/// See [`TxBody::Endorse`]. Integers only; everything else is computed from them by `apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorse {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// Per class, in class order; one, of right and wrong samples, where the model is no classifier.
    pub classes: Vec<ClassCounts>,
    /// Samples.
    pub samples: u32,
    /// Samples whose class was right.
    pub correct: u32,
    /// Median latency of one prediction, microseconds: told, not proven.
    pub p50_us: u32,
    /// Merkle root over the validator's samples (RFC 6962, SHA-256): two validators with one root used one dataset.
    pub dataset_root: Digest,
    /// Merkle root over the predictions, in sample order.
    pub predictions_root: Digest,
}

/// See [`TxBody::Anchor`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// One above the last anchor's.
    pub seq: u64,
    /// Leaves, more than at the last anchor.
    pub size: u64,
    /// RFC 6962 root over them (SHA-256).
    pub root: Digest,
    /// RFC 6962 consistency proof from the last anchored size; empty for the first anchor.
    pub consistency: Vec<Digest>,
}

/// See [`TxBody::Withdraw`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdraw {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
}

/// See [`TxBody::Grant`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The model, all its versions.
    pub name: ModelName,
    /// A member with the right to run models: `provider` or `validator`.
    pub member: NodeId,
}

/// See [`TxBody::Revoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// The model.
    pub name: ModelName,
    /// Who was granted it.
    pub member: NodeId,
}

/// See [`TxBody::SetRules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRules {
    /// Version of the rules: one above those in force. Those in force themselves take a change back that is still to come.
    pub version: u16,
    /// The first block that follows them: two heights after this transaction's block or later. 0 to take a change back.
    pub height: u64,
}
