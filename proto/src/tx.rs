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
