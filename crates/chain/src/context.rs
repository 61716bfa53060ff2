//! The types the consensus core works with, over this project's keys and ids. Values are block ids: the bytes of blocks
//! stay with the host.

use std::fmt;

use arc_malachitebft_core_types as core;
use core::{NilOrVal, Round, SignedExtension, VoteType};
use zero2ai_proto::{
    BlockId, PublicKey, SecretKey, Signature,
    block::{self, VoteKind},
    state::SignerSet,
};

/// A height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);
    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }
    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A signer's address: its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) PublicKey);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl core::Address for Address {}

/// One signer of a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    address: Address,
    power: u64,
}

impl core::Validator<Zero> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }
    fn public_key(&self) -> &PublicKey {
        &self.address.0
    }
    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// The signers of a height, ascending by key, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators(Vec<Validator>);

impl From<&SignerSet> for Validators {
    fn from(set: &SignerSet) -> Self {
        Self(set.as_slice().iter().map(|s| Validator { address: Address(s.key), power: s.power }).collect())
    }
}

impl core::ValidatorSet<Zero> for Validators {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn total_voting_power(&self) -> u64 {
        self.0.iter().fold(0, |sum, v| sum.saturating_add(v.power))
    }
    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.0.iter().find(|v| v.address == *address)
    }
    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

/// What is decided on: a block, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) BlockId);

impl core::Value for Value {
    type Id = BlockId;
    fn id(&self) -> BlockId {
        self.0
    }
}

/// A proposal as the core sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: Value,
    pub(crate) pol_round: Round,
    pub(crate) proposer: Address,
}

impl core::Proposal<Zero> for Proposal {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &Value {
        &self.value
    }
    fn take_value(self) -> Value {
        self.value
    }
    fn pol_round(&self) -> Round {
        self.pol_round
    }
    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

impl Proposal {
    /// What is signed; `None` for a proposal without a round, which nobody makes.
    pub(crate) fn signed_part(&self) -> Option<block::Proposal> {
        Some(block::Proposal {
            height: self.height.0,
            round: self.round.as_u32()?,
            pol_round: self.pol_round.as_u32(),
            block: self.value.0,
        })
    }
}

/// A vote as the core sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) kind: VoteType,
    pub(crate) value: NilOrVal<BlockId>,
    pub(crate) voter: Address,
}

impl core::Vote<Zero> for Vote {
    fn height(&self) -> Height {
        self.height
    }
    fn round(&self) -> Round {
        self.round
    }
    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }
    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }
    fn vote_type(&self) -> VoteType {
        self.kind
    }
    fn validator_address(&self) -> &Address {
        &self.voter
    }
    // Vote extensions are switched off at every height: none is ever attached.
    fn extension(&self) -> Option<&SignedExtension<Zero>> {
        None
    }
    fn take_extension(&mut self) -> Option<SignedExtension<Zero>> {
        None
    }
    fn extend(self, _: SignedExtension<Zero>) -> Self {
        self
    }
}

impl Vote {
    /// What is signed; `None` for a vote without a round, which nobody casts.
    pub(crate) fn signed_part(&self) -> Option<block::Vote> {
        let kind = match self.kind {
            VoteType::Prevote => VoteKind::Prevote,
            VoteType::Precommit => VoteKind::Precommit,
        };
        let block = match self.value {
            NilOrVal::Nil => None,
            NilOrVal::Val(id) => Some(id),
        };
        Some(block::Vote { height: self.height.0, round: self.round.as_u32()?, kind, block })
    }
}

/// Parts of a proposal: unused, since a block travels whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part;

impl core::ProposalPart<Zero> for Part {
    fn is_first(&self) -> bool {
        true
    }
    fn is_last(&self) -> bool {
        true
    }
}

/// Ed25519 through this project's own strict verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ed25519;

impl core::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        bytes.try_into().map(Signature).map_err(|_| "a signature has 64 bytes")
    }
    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }
    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        bytes.try_into().map(PublicKey).map_err(|_| "a public key has 32 bytes")
    }
    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// Names the types above to the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zero;

/// Whose turn it is: signers take turns by height, and by round within a height, whatever their power, so that a dead
/// one costs one round and never two in a row.
pub(crate) fn turn(count: usize, height: u64, round: Round) -> usize {
    let count = count.max(1) as u64;
    let step = height % count + u64::from(round.as_u32().unwrap_or(0)) % count;
    usize::try_from(step % count).unwrap_or(0)
}

impl core::Context for Zero {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Validators;
    type Timeouts = core::LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, set: &'a Validators, height: Height, round: Round) -> &'a Validator {
        // In bounds: a set is never empty (`SignerSet` refuses it) and `turn` stays below its count.
        &set.0[turn(set.0.len(), height.0, round)]
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: Value,
        pol_round: Round,
        proposer: Address,
    ) -> Proposal {
        Proposal { height, round, value, pol_round, proposer }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<BlockId>, voter: Address) -> Vote {
        Vote { height, round, kind: VoteType::Prevote, value, voter }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<BlockId>, voter: Address) -> Vote {
        Vote { height, round, kind: VoteType::Precommit, value, voter }
    }
}
