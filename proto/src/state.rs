//! The ledger's state: keys and values as they stand in the authenticated tree. Keys are text-like byte strings; values
//! are encoded structs, versioned by the rules in force.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{CodecError, encode},
    evidence::Step,
    ids::{BlockId, Digest, ManifestId, TxId, tagged_hash},
    keys::{AccountId, NodeId, PublicKey, SealingKey},
    limits::{SIGNER_POWER, SIGNERS},
    manifest::{Domain, Format, Task},
    name::ModelName,
    pool::Nonce,
    tx::{Endorse, Thresholds},
};

mod disputes;
mod grading;

pub use disputes::{Backer, BallotState, DisputeState, EpochState, PotState, RewardState, Tally};
pub use grading::{
    ContradictionState, Conviction, Due, EntryState, FindingState, GradersState, Halt, Offence, Outcome, RoundCount,
    RoundState, SeedState, Selection, StakeState, StakeTotal, Standing, VoteState,
};

/// What an identity may do: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub u16);

impl Rights {
    /// May change rights, signers and tickets.
    pub const ADMIN: Self = Self(1);
    /// May be made a block signer.
    pub const SIGNER: Self = Self(1 << 1);
    /// May endorse models.
    pub const VALIDATOR: Self = Self(1 << 2);
    /// May claim handles and publish.
    pub const PUBLISHER: Self = Self(1 << 3);
    /// May hold and serve models and anchor receipts.
    pub const PROVIDER: Self = Self(1 << 4);
    /// May read every receipt's body.
    pub const AUDITOR: Self = Self(1 << 5);
    /// May resolve and predict.
    pub const USER: Self = Self(1 << 6);
    /// Everything but administration.
    pub const MEMBER: Self = Self(0b111_1110 & !(1 << 5));

    /// Names of the single rights, lowest bit first.
    pub const NAMES: [&'static str; 7] = ["admin", "signer", "validator", "publisher", "provider", "auditor", "user"];

    /// True if all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Names of the rights in it.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().enumerate().filter(|(i, _)| self.0 >> i & 1 == 1).map(|(_, n)| *n).collect()
    }

    /// Reads a list like `provider,user`; `member` is everything but administration and auditing.
    #[must_use]
    pub fn parse(list: &str) -> Option<Self> {
        list.split(',').map(str::trim).try_fold(Self(0), |set, word| {
            let one =
                if word == "member" { Self::MEMBER } else { Self(1 << Self::NAMES.iter().position(|n| *n == word)?) };
            Some(set.with(one))
        })
    }
}

/// One block signer and its voting power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// Its node key.
    pub key: NodeId,
    /// Its voting power, 1 to [`SIGNER_POWER`].
    pub power: u64,
}

/// The signers of a height, in ascending order of key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerSet(Vec<Signer>);

impl SignerSet {
    /// A set in order, or `None` if it is empty, too large, has a key twice, or a power out of bounds.
    #[must_use]
    pub fn new(mut signers: Vec<Signer>) -> Option<Self> {
        signers.sort_by_key(|s| s.key);
        let set = Self(signers);
        set.is_valid().then_some(set)
    }

    /// True if the set is in order and within bounds; decoded sets must be asked.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (1..=SIGNERS).contains(&self.0.len())
            && self.0.is_sorted_by(|a, b| a.key < b.key)
            && self.0.iter().all(|s| (1..=SIGNER_POWER).contains(&s.power))
    }

    /// The signers.
    #[must_use]
    pub fn as_slice(&self) -> &[Signer] {
        &self.0
    }

    /// All power together.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.0.iter().map(|s| s.power).fold(0, u64::saturating_add)
    }

    /// The power of one key, if it is in the set.
    #[must_use]
    pub fn power_of(&self, key: &PublicKey) -> Option<u64> {
        self.0.iter().find(|s| s.key == *key).map(|s| s.power)
    }

    /// The hash that headers carry.
    ///
    /// # Errors
    /// Never with sets made here.
    pub fn hash(&self) -> Result<Digest, CodecError> {
        Ok(Digest(tagged_hash("zero2ai signer set v1", &encode(self)?)))
    }
}

/// `rules`: which rules blocks follow. Without the entry, those of the genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Version of the rules of this height.
    pub version: u16,
    /// A change to come: the version, and the first height that follows it.
    pub next: Option<(u16, u64)>,
}

impl Rules {
    /// Version of the rules that the block of `height` follows, as far as this height knows.
    #[must_use]
    pub fn at(&self, height: u64) -> u16 {
        self.next.filter(|(_, from)| height >= *from).map_or(self.version, |(version, _)| version)
    }
}

/// `member/KEY`: an admitted identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it may do; none once it is revoked.
    pub rights: Rights,
    /// Where manifest keys are wrapped to.
    pub sealing_key: SealingKey,
    /// Height of its admission.
    pub admitted: u64,
    /// Next transaction's nonce.
    pub nonce: u64,
}

/// `pool/epoch`: the newest pool key. Absent until the first rotation: then it is the one that the pool was made with, epoch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolEpoch {
    /// Its epoch.
    pub epoch: u32,
    /// Its id, [`crate::pool::PoolKey::id`].
    pub id: Digest,
    /// Height of its rotation.
    pub height: u64,
    /// Until then the key before it opens everything, milliseconds since 1970 UTC.
    pub grace_until_ms: u64,
}

/// `signers`: the sets of this height and those that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signers {
    /// Signs the block being made.
    pub current: SignerSet,
    /// Signs the block after it.
    pub next: SignerSet,
}

/// `ticket/NONCE`: redemptions so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketUse {
    /// How many identities it has admitted.
    pub used: u32,
}

/// `handle/NAME`: who may publish under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The owner.
    pub owner: AccountId,
    /// Height of the claim.
    pub claimed: u64,
}

/// `offer/NAME`: to whom a model's owner offered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferState {
    /// Who may take it; none once it was taken or taken back.
    pub to: Option<AccountId>,
    /// Height of the last change.
    pub height: u64,
}

/// `model/NAME`: a model and where its channels point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The account that may publish versions.
    pub owner: AccountId,
    /// The newest version.
    pub latest: u32,
    /// Channels and their versions, ascending by name.
    pub channels: Vec<(String, u32)>,
    /// How many events its history has: `event/NAME/0` to one below.
    pub events: u64,
}

/// `version/NAME@V`: one version, immutable but for `withdrawn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// Who published it.
    pub publisher: AccountId,
    /// Format of its files.
    pub format: Format,
    /// What it does.
    pub task: Task,
    /// Whom its key is given to.
    pub domain: Domain,
    /// Bytes of its files.
    pub bytes: u64,
    /// Chunks as the manifest lists them, a repeated one each time.
    pub chunks: u32,
    /// The earlier version of this model that it was made from: the one its differences start from, else the one before.
    pub base: Option<u32>,
    /// When an endorsement counts for or against it; frozen here.
    pub thresholds: Thresholds,
    /// Height of its publication.
    pub height: u64,
    /// That block's time, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// True once its owner withdrew it.
    pub withdrawn: bool,
}

/// `grant/NAME/KEY`: whether a member may open a model's private versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantState {
    /// True from a grant on, false from a revocation on.
    pub granted: bool,
    /// Height of the last change.
    pub height: u64,
    /// The transaction that made it.
    pub tx: TxId,
}

/// What an endorsement says, recomputed by every node from its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Good enough by the publisher's thresholds.
    Positive,
    /// Not good enough.
    Negative,
    /// Between the thresholds.
    Abstain,
}

/// `commit/NAME@V/KEY`: what one validator committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitState {
    /// The commitment.
    pub commitment: Digest,
    /// Its place.
    pub place: Committed,
}

/// When something was committed to. Places of one version are all different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Committed {
    /// Height.
    pub height: u64,
    /// Above that of every earlier commitment of that version.
    pub index: u32,
}

/// `endorsement/NAME@V/KEY`: what one validator found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorsement {
    /// The counts as the validator signed them.
    pub counts: Endorse,
    /// Macro-averaged precision, millionths.
    pub precision_ppm: u32,
    /// Macro-averaged recall, millionths.
    pub recall_ppm: u32,
    /// Macro-averaged F1, millionths.
    pub f1_ppm: u32,
    /// The figure the verdict rests on, millionths.
    pub quality_ppm: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Height of the endorsement.
    pub height: u64,
    /// The transaction that carried it.
    pub tx: TxId,
    /// When its figures were fixed, if that was before they could be seen.
    pub committed: Option<Committed>,
}

/// `score/NAME@V`: what the endorsements come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// The largest quality that at least half of the weight supports, millionths; `None` below three datasets.
    pub score_ppm: Option<u32>,
    /// Endorsements by verdict: positive, negative, abstaining.
    pub verdicts: [u32; 3],
    /// Distinct dataset roots.
    pub datasets: u32,
    /// Samples over distinct datasets.
    pub samples: u64,
    /// Height of the last change.
    pub height: u64,
}

/// `anchor/KEY`: the last anchored state of one provider's receipt log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorState {
    /// Anchors so far.
    pub seq: u64,
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root over them (SHA-256).
    pub root: Digest,
    /// Height of the anchor.
    pub height: u64,
}

/// `evidence/KEY/HEIGHT`: a signer contradicted itself at a height, proved once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// The round.
    pub round: u32,
    /// What it said twice.
    pub step: Step,
    /// The two blocks it said it for, the lower id first; none is a vote against every block.
    pub blocks: (Option<BlockId>, Option<BlockId>),
    /// Its voting power at that height.
    pub power: u64,
    /// Who submitted the evidence.
    pub reporter: AccountId,
    /// The transaction that carried it.
    pub tx: TxId,
    /// Height at which it was recorded.
    pub recorded: u64,
    /// That block's time, milliseconds since 1970 UTC.
    pub time_ms: u64,
}

/// `event/NAME/I`: one entry of a model's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Which version it concerns.
    pub version: u32,
    /// Who did it.
    pub account: AccountId,
    /// By which transaction.
    pub tx: TxId,
    /// At which height.
    pub height: u64,
    /// That block's time, milliseconds since 1970 UTC.
    pub time_ms: u64,
}

/// Kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A version was published.
    Published,
    /// A validator endorsed a version.
    Endorsed,
    /// A channel was pointed at a version.
    Channel,
    /// A version was withdrawn.
    Withdrawn,
    /// It has another owner, the account of this entry.
    Transferred,
    /// A round was opened for a version: its first, or the one after the last.
    Opened,
    /// A validator revealed its figures in a version's newest round.
    Revealed,
    /// The counts of a validator, the account of this entry, were proved wrong.
    Contradicted,
    /// A jury found that the model does not say what a validator, the account of this entry, opened.
    Refuted,
}

impl EventKind {
    /// Its name in listings and audits.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Endorsed => "endorsed",
            Self::Channel => "channel",
            Self::Withdrawn => "withdrawn",
            Self::Transferred => "transferred",
            Self::Opened => "round opened",
            Self::Revealed => "revealed",
            Self::Contradicted => "contradicted",
            Self::Refuted => "refuted",
        }
    }
}

/// Names of state entries: the bytes under which values stand in the tree (hashed by the tree itself).
pub mod key {
    use super::{ModelName, NodeId, Nonce};
    use crate::tx::Disputed;

    /// The signer sets.
    pub const SIGNERS: &[u8] = b"signers";
    /// The rules, once they were changed or are to be.
    pub const RULES: &[u8] = b"rules";

    /// The newest pool key.
    pub const POOL_EPOCH: &[u8] = b"pool/epoch";

    /// An identity.
    #[must_use]
    pub fn member(key: &NodeId) -> Vec<u8> {
        format!("member/{key}").into_bytes()
    }
    /// A ticket.
    #[must_use]
    pub fn ticket(nonce: &Nonce) -> Vec<u8> {
        format!("ticket/{nonce}").into_bytes()
    }
    /// A publisher's handle.
    #[must_use]
    pub fn handle(handle: &str) -> Vec<u8> {
        format!("handle/{handle}").into_bytes()
    }
    /// A model.
    #[must_use]
    pub fn model(name: &ModelName) -> Vec<u8> {
        format!("model/{name}").into_bytes()
    }
    /// A version.
    #[must_use]
    pub fn version(name: &ModelName, version: u32) -> Vec<u8> {
        format!("version/{name}@{version}").into_bytes()
    }
    /// A member's grant of a model.
    #[must_use]
    pub fn grant(name: &ModelName, member: &NodeId) -> Vec<u8> {
        format!("grant/{name}/{member}").into_bytes()
    }
    /// Every grant of a model starts so.
    #[must_use]
    pub fn grants(name: &ModelName) -> Vec<u8> {
        format!("grant/{name}/").into_bytes()
    }
    /// To whom a model was offered.
    #[must_use]
    pub fn offer(name: &ModelName) -> Vec<u8> {
        format!("offer/{name}").into_bytes()
    }
    /// What one validator committed to for a version.
    #[must_use]
    pub fn commit(name: &ModelName, version: u32, validator: &NodeId) -> Vec<u8> {
        format!("commit/{name}@{version}/{validator}").into_bytes()
    }
    /// Every commitment for a version starts so.
    #[must_use]
    pub fn commits(name: &ModelName, version: u32) -> Vec<u8> {
        format!("commit/{name}@{version}/").into_bytes()
    }
    /// One validator's endorsement of a version.
    #[must_use]
    pub fn endorsement(name: &ModelName, version: u32, validator: &NodeId) -> Vec<u8> {
        format!("endorsement/{name}@{version}/{validator}").into_bytes()
    }
    /// Every endorsement of a version starts so.
    #[must_use]
    pub fn endorsements(name: &ModelName, version: u32) -> Vec<u8> {
        format!("endorsement/{name}@{version}/").into_bytes()
    }
    /// A version's score.
    #[must_use]
    pub fn score(name: &ModelName, version: u32) -> Vec<u8> {
        format!("score/{name}@{version}").into_bytes()
    }
    /// A provider's receipt log.
    #[must_use]
    pub fn anchor(provider: &NodeId) -> Vec<u8> {
        format!("anchor/{provider}").into_bytes()
    }
    /// What is proved against a signer at a height.
    #[must_use]
    pub fn evidence(signer: &NodeId, height: u64) -> Vec<u8> {
        format!("evidence/{signer}/{height}").into_bytes()
    }
    /// The sums of all stakes.
    pub const STAKES: &[u8] = b"stakes";
    /// The newest seed.
    pub const SEED: &[u8] = b"seed";
    /// The last pause of the chain.
    pub const HALT: &[u8] = b"halt";
    /// How models are graded, once that was set.
    pub const GRADING: &[u8] = b"grading";

    /// What a member has, and its record.
    #[must_use]
    pub fn stake(member: &NodeId) -> Vec<u8> {
        format!("stake/{member}").into_bytes()
    }
    /// Behind whom a member put its stake.
    #[must_use]
    pub fn vote(member: &NodeId) -> Vec<u8> {
        format!("vote/{member}").into_bytes()
    }
    /// Who may grade a model.
    #[must_use]
    pub fn graders(name: &ModelName) -> Vec<u8> {
        format!("graders/{name}").into_bytes()
    }
    /// How many rounds a version has.
    #[must_use]
    pub fn rounds(name: &ModelName, version: u32) -> Vec<u8> {
        format!("rounds/{name}@{version}").into_bytes()
    }
    /// One round.
    #[must_use]
    pub fn round(name: &ModelName, version: u32, round: u64) -> Vec<u8> {
        format!("round/{name}@{version}/{round}").into_bytes()
    }
    /// What one validator did in a round.
    #[must_use]
    pub fn entry(name: &ModelName, version: u32, round: u64, validator: &NodeId) -> Vec<u8> {
        format!("entry/{name}@{version}/{round}/{validator}").into_bytes()
    }
    /// Every entry of a round starts so.
    #[must_use]
    pub fn entries(name: &ModelName, version: u32, round: u64) -> Vec<u8> {
        format!("entry/{name}@{version}/{round}/").into_bytes()
    }
    /// What one validator found of a version over all rounds.
    #[must_use]
    pub fn finding(name: &ModelName, version: u32, validator: &NodeId) -> Vec<u8> {
        format!("finding/{name}@{version}/{validator}").into_bytes()
    }
    /// The proof that a validator's counts of a round are wrong.
    #[must_use]
    pub fn contradiction(name: &ModelName, version: u32, round: u64, validator: &NodeId) -> Vec<u8> {
        format!("contradiction/{name}@{version}/{round}/{validator}").into_bytes()
    }
    /// A conviction of the window that ends at `end`.
    #[must_use]
    pub fn convicted(end: u64, member: &NodeId) -> Vec<u8> {
        format!("convicted/{end}/{member}").into_bytes()
    }
    /// Every conviction of that window starts so.
    #[must_use]
    pub fn convictions(end: u64) -> Vec<u8> {
        format!("convicted/{end}/").into_bytes()
    }
    /// What is due for a round at the end of a height: the rest of the key is NAME@V/R.
    #[must_use]
    pub fn due(height: u64, name: &ModelName, version: u32, round: u64) -> Vec<u8> {
        format!("due/{height}/{name}@{version}/{round}").into_bytes()
    }
    /// Everything that is due at a height starts so.
    #[must_use]
    pub fn dues(height: u64) -> Vec<u8> {
        format!("due/{height}/").into_bytes()
    }
    /// The same for a dispute: the rest of the key is NAME@V/R/KEY/LEAF.
    #[must_use]
    pub fn due_of(height: u64, disputed: &Disputed) -> Vec<u8> {
        format!("due/{height}/{disputed}").into_bytes()
    }
    /// A dispute.
    #[must_use]
    pub fn dispute(disputed: &Disputed) -> Vec<u8> {
        format!("dispute/{disputed}").into_bytes()
    }
    /// A juror's seat at an instance of a dispute.
    #[must_use]
    pub fn ballot(disputed: &Disputed, instance: u8, juror: &NodeId) -> Vec<u8> {
        format!("ballot/{disputed}/{instance}/{juror}").into_bytes()
    }
    /// Every seat at that instance starts so.
    #[must_use]
    pub fn ballots(disputed: &Disputed, instance: u8) -> Vec<u8> {
        format!("ballot/{disputed}/{instance}/").into_bytes()
    }
    /// What the next epoch's end divides.
    pub const POT: &[u8] = b"pot";
    /// What a validator may claim of the epoch that ends at `end`.
    #[must_use]
    pub fn reward(end: u64, validator: &NodeId) -> Vec<u8> {
        format!("reward/{end}/{validator}").into_bytes()
    }
    /// Everyone's of that epoch start so.
    #[must_use]
    pub fn rewards(end: u64) -> Vec<u8> {
        format!("reward/{end}/").into_bytes()
    }
    /// What is claimed of the epoch that ends at `end`.
    #[must_use]
    pub fn epoch(end: u64) -> Vec<u8> {
        format!("epoch/{end}").into_bytes()
    }
    /// Every epoch of which something is to be paid starts so.
    pub const EPOCHS: &[u8] = b"epoch/";
    /// Every seat of a dispute starts so, whatever instance.
    #[must_use]
    pub fn seats(disputed: &Disputed) -> Vec<u8> {
        format!("ballot/{disputed}/").into_bytes()
    }
    /// One entry of a model's history.
    #[must_use]
    pub fn event(name: &ModelName, index: u64) -> Vec<u8> {
        format!("event/{name}/{index}").into_bytes()
    }
}
