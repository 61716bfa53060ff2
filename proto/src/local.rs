//! Methods that a node answers to its own identity key alone: the command line's way in.

mod accounts;
mod activity;
mod fetch;
mod grants;
mod models;
mod names;
mod open;
mod outcomes;
mod rerun;
mod store;

pub use accounts::*;
pub use activity::*;
pub use fetch::*;
pub use grants::*;
pub use models::*;
pub use names::*;
pub use open::*;
pub use outcomes::*;
pub use rerun::*;
pub use store::*;

use serde::{Deserialize, Serialize};

use crate::{
    ByteBuf,
    calls::{Empty, Piece},
    ids::{Digest, ManifestId, PoolId},
    keys::NodeId,
    manifest::{ConformanceSample, Domain},
    methods,
    name::{ModelName, ModelRef},
    prepare::Preparation,
    record::Address,
    state::{Endorsement, Member, Rights, Score, Signer, Signers},
    tx::Thresholds,
};

methods! {
    /// What this node is, knows and does.
    NodeStatus = 100: Empty => NodeStatusReply;
    /// Signs a ticket and returns an invite as one line.
    MakeInvite = 101: InviteCall => InviteLine;
    /// Replaces the signer set.
    ChangeSigners = 102: SignersCall => SignersReply;
    /// Cuts, seals, stores, replicates and publishes a model; progress, then the result.
    PublishPath = 103: PublishCall => PublishItem;
    /// Fetches a model, runs it on local samples and endorses it; progress, then the result.
    ValidatePath = 104: ValidateCall => ValidateItem;
    /// Gathers an audit of a model from the ledger and from every provider: the encoded
    /// [`crate::receipt::AuditExport`] in pieces, one an item.
    Audit = 105: AuditCall => Piece;
    /// Members, signers and the pool's facts.
    PoolShow = 106: Empty => PoolReply;
    /// Stops the node in order.
    Stop = 107: Empty => Empty;
    /// Fetches a version and, if asked, serves it.
    Fetch = 108: FetchCall => PublishItem;
    /// Sets an identity's rights.
    ChangeRights = 109: RightsCall => Empty;
    /// What this node knows of where a member can be reached.
    PeerKnown = 116: PeerCall => PeerReply;
    /// Makes a new pool key, and tells the ledger.
    RotatePoolKey = 131: RotateCall => RotateReply;
}

/// Answer to [`NodeStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatusReply {
    /// Its identity.
    pub node: NodeId,
    /// Its pool.
    pub pool: PoolId,
    /// The program's version.
    pub version: String,
    /// Its rights on the ledger.
    pub rights: Rights,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Final height.
    pub height: u64,
    /// Age of the newest block, milliseconds.
    pub head_age_ms: u64,
    /// True while transactions wait but no block comes.
    pub halted: bool,
    /// What the node waits for, in words, if it does.
    pub waiting: Option<String>,
    /// Transactions waiting.
    pub mempool: u32,
    /// Connected peers.
    pub peers: Vec<NodeId>,
    /// Models held.
    pub models: Vec<HeldModel>,
    /// Chunk files in the store.
    pub chunks: u64,
    /// Bytes of ciphertext in the store.
    pub store_bytes: u64,
    /// Receipts in this provider's log.
    pub receipts: u64,
    /// Receipts anchored on the ledger.
    pub anchored: u64,
    /// Signers that are proved to have contradicted themselves, and the height: the newest 64.
    pub contradicted: Vec<(NodeId, u64)>,
    /// How it is reached from outside its network.
    pub placed: Placed,
    /// Versions of this node's own that an alarm of its callers' outcomes is about and no round of grading has answered yet.
    pub alarms: Vec<(ModelName, u32)>,
}

/// Whether a node can be reached from outside its network, as far as its peers have told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Nobody has tested it yet; peers on the same network reach it.
    Unknown,
    /// A peer dialled it back at the address that peers see.
    Open,
    /// Peers see another address than its own, and none was dialled back with success.
    Behind,
}

/// How a node is reached, and how it reaches others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// What its peers found.
    pub reach: Reach,
    /// Swarm addresses at which a peer dialled it back with success, at most 32.
    pub external: Vec<String>,
    /// Relays that take connections for it, at most 2.
    pub relays: Vec<NodeId>,
    /// True if it relays for others.
    pub relaying: bool,
    /// Of the connected peers, those that it reaches through a relay alone.
    pub relayed: Vec<NodeId>,
}

/// A model this node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldModel {
    /// Name.
    pub name: ModelName,
    /// Version.
    pub version: u32,
    /// True if it is announced: in memory, or loaded by the first call.
    pub serving: bool,
    /// Calls answered.
    pub calls: u64,
}

/// Request of [`MakeInvite`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteCall {
    /// Rights given.
    pub rights: Rights,
    /// Identities it admits.
    pub uses: u32,
    /// How long it lasts, milliseconds.
    pub ttl_ms: u64,
}

/// Answer to [`MakeInvite`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteLine {
    /// The invite: a secret.
    pub line: String,
}

/// Request of [`ChangeSigners`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignersCall {
    /// The whole new set.
    pub signers: Vec<Signer>,
    /// Accept two or three.
    pub force: bool,
}

/// Answer to [`ChangeSigners`], once it is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignersReply {
    /// Height of the transaction.
    pub height: u64,
    /// First height that the new set signs.
    pub effective: u64,
}

/// Request of [`PublishPath`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishCall {
    /// Absolute path of a file or folder on the node's machine.
    pub path: String,
    /// The model.
    pub name: ModelName,
    /// Whom the key is given to.
    pub domain: Domain,
    /// Copies wanted beside the publisher's own.
    pub replicas: u32,
    /// When endorsements count for or against it.
    pub thresholds: Thresholds,
    /// Store, name and replicate it without running it, whatever it is.
    pub store_only: bool,
    /// Store changed tensors as deltas against this version, where that is shorter.
    pub base: Option<ModelRef>,
    /// Golden inputs and outputs: reproduced here before anything is stored, and by every node before it serves.
    pub conformance: Vec<ConformanceSample>,
    /// How pictures or sounds become its inputs.
    pub preparation: Option<Preparation>,
    /// The data it was made with, of which fingerprints are published beside its files, sealed as they are.
    pub training: Option<LocalData>,
}

/// Labelled data on the node's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalData {
    /// Absolute path of a table (CSV, JSONL, Parquet) or of a folder of pictures or sounds.
    pub path: String,
    /// The column of the class or the expected answer; none is the last one, or `expected` of prompts.
    pub label: Option<String>,
    /// The column that names each sample's group, between which answers are compared.
    pub group: Option<String>,
    /// The column that names the part of the data each sample belongs to.
    pub slice: Option<String>,
    /// The columns of features, in the model's order; none is all that are nothing else.
    pub features: Vec<String>,
    /// What the classes are called, in the order of the model's outputs; none where labels are their numbers.
    pub classes: Vec<String>,
}

/// Progress of a long operation, and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublishItem {
    /// What is being done.
    Step(Progress),
    /// The result.
    Done(PublishReport),
}

/// What is being done, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In words.
    pub what: String,
    /// Done so far, in the unit that `what` suggests.
    pub done: u64,
    /// All of it; 0 if unknown.
    pub total: u64,
}

/// Result of [`PublishPath`] and [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishReport {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// Bytes of plaintext.
    pub bytes: u64,
    /// Distinct chunks.
    pub chunks: u32,
    /// Chunks that were stored already.
    pub reused: u32,
    /// True if this node has the key: without it, it holds ciphertext only.
    pub opened: bool,
    /// Nodes that hold every chunk now, the publisher among them.
    pub holders: Vec<NodeId>,
    /// Height of the publication.
    pub height: u64,
    /// Files; 0 for a fetch.
    pub files: u32,
    /// Why this node does not serve what it published; none if it does, and for a fetch.
    pub not_served: Option<String>,
    /// Chunks that are deltas.
    pub deltas: u32,
    /// Bytes that deltas are shorter than what they stand for.
    pub saved: u64,
    /// Milliseconds that cutting, sealing and writing took; 0 for a fetch.
    pub seal_ms: u64,
}

/// Request of [`ValidatePath`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateCall {
    /// The model.
    pub name: ModelRef,
    /// The validator's own samples.
    pub samples: LocalData,
    /// Serve the model afterwards.
    pub serve: bool,
    /// Make a report too, from this seed.
    pub report: Option<Digest>,
    /// Test the model under load for the report.
    pub load: bool,
}

/// One item of the answer to [`ValidatePath`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValidateItem {
    /// What is being done.
    Step(Progress),
    /// The endorsement as it stands on the ledger, and the score after it, or why there is none.
    Done(Box<ValidateReport>),
    /// A piece of the report, JSON of `zero2ai_trust::report::Report`; all of them come before `Done`.
    Report(ByteBuf),
}

/// Result of [`ValidatePath`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidateReport {
    /// The validator.
    pub validator: NodeId,
    /// What it found; none if it was not put on the ledger.
    pub endorsement: Option<Endorsement>,
    /// The version's score now; none before anybody endorsed it.
    pub score: Option<Score>,
    /// Why it was not put on the ledger: the data fail their gate, or the report says worse than the counts would.
    pub withheld: Option<String>,
    /// The round in which it was committed to, and will be shown by the node when that is due.
    pub committed: Option<u64>,
}

/// Request of [`Audit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditCall {
    /// The model.
    pub name: ModelName,
}

/// Answer to [`PoolShow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReply {
    /// The pool.
    pub pool: PoolId,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Epoch of its key.
    pub epoch: u32,
    /// Final height.
    pub height: u64,
    /// Signer sets.
    pub signers: Signers,
    /// Everyone admitted.
    pub members: Vec<(NodeId, Member)>,
}

/// Request of [`RotatePoolKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateCall {
    /// How long the key before opens everything, milliseconds.
    pub grace_ms: u64,
}

/// Answer to [`RotatePoolKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateReply {
    /// The new key's epoch.
    pub epoch: u32,
    /// Height at which it is final.
    pub height: u64,
}

/// Request of [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchCall {
    /// The model.
    pub name: ModelRef,
    /// Also serve it.
    pub serve: bool,
}

/// Request of [`ChangeRights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsCall {
    /// The identity.
    pub member: NodeId,
    /// Its rights from now on.
    pub rights: Rights,
}

/// Request of [`PeerKnown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCall {
    /// The member.
    pub node: NodeId,
}

/// Answer to [`PeerKnown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReply {
    /// Where it said that it listens; none if it was never heard of.
    pub addresses: Vec<Address>,
    /// Milliseconds since it was last heard of; none if it never was since this node started.
    pub heard_ms_ago: Option<u64>,
    /// True if the swarm is connected to it.
    pub connected: bool,
    /// True if it is connected through a relay alone.
    pub relayed: bool,
}
