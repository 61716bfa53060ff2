//! One fixed value of every signed or carried type, with its encoding. Each is decoded again, so that a vector is never
//! one that this program refuses.

mod derived;
mod ledger;
mod models;
mod outcomes;
mod rpc;
mod shown;

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{
    ByteBuf, Digest, ManifestId, ModelName, PoolId, SealingKey, SecretKey, Signed, calls as c, decode, encode,
    envelope::Message, local as l, pool::Nonce, rpc::Method,
};

/// The vectors by name. Names that start with `derived/` are not CBOR.
#[derive(Default)]
pub(crate) struct Vectors(BTreeMap<String, Vec<u8>>);

impl Vectors {
    /// Pins the encoding of `value`.
    pub(crate) fn add<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, name: &str, value: &T) {
        let bytes = encode(value).unwrap();
        assert_eq!(&decode::<T>(&bytes, bytes.len()).unwrap(), value, "{name} does not decode to itself");
        self.raw(name, bytes);
    }

    /// Pins bytes that are not an encoding.
    pub(crate) fn raw(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        assert!(self.0.insert(name.to_owned(), bytes.into()).is_none(), "{name} twice");
    }
}

/// Every vector.
pub(crate) fn all() -> BTreeMap<String, Vec<u8>> {
    let mut v = Vectors::default();
    ledger::add(&mut v);
    models::add(&mut v);
    rpc::add(&mut v);
    outcomes::add(&mut v);
    shown::add(&mut v);
    derived::add(&mut v);
    v.0
}

/// Numbers and names of all methods.
pub(crate) fn methods() -> Vec<(u16, &'static str)> {
    macro_rules! list {
        ($($method:ty),* $(,)?) => { vec![$((<$method>::ID, <$method>::NAME)),*] };
    }
    list![
        c::Ping,
        c::Redeem,
        c::Resolve,
        c::Head,
        c::Blocks,
        c::Prove,
        c::TrustSteps,
        c::SubmitTx,
        c::GetManifest,
        c::Have,
        c::GetChunk,
        c::Grant,
        c::Predict,
        c::Generate,
        c::Replicate,
        c::Receipts,
        c::Describe,
        c::WatchHave,
        c::AuditProofs,
        c::GetSnapshot,
        c::Prepare,
        c::Forward,
        c::TellOutcome,
        c::ShowSample,
        l::NodeStatus,
        l::MakeInvite,
        l::ChangeSigners,
        l::PublishPath,
        l::ValidatePath,
        l::Audit,
        l::PoolShow,
        l::Stop,
        l::Fetch,
        l::ChangeRights,
        l::StoreList,
        l::StoreStats,
        l::StoreVerify,
        l::StoreGc,
        l::StorePin,
        l::StoreDrop,
        l::PeerKnown,
        l::GrantModel,
        l::RevokeModel,
        l::ModelGrants,
        l::FetchLive,
        l::StoreRebuild,
        l::OpenFiles,
        l::Rerun,
        l::AccountsUse,
        l::ModelsShow,
        l::ModelPin,
        l::ModelUnload,
        l::ActivityShow,
        l::OutcomeSend,
        l::OutcomesShow,
    ]
}

/// The secret key whose seed is 32 times `n`.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

/// The pool that samples are signed for.
pub(crate) fn pool() -> PoolId {
    PoolId([0xa0; 32])
}

pub(crate) fn name() -> ModelName {
    "acme/digits".parse().unwrap()
}

pub(crate) fn manifest() -> ManifestId {
    ManifestId([0xa1; 32])
}

pub(crate) fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

pub(crate) fn nonce() -> Nonce {
    Nonce([0xa2; 16])
}

pub(crate) fn sealing() -> SealingKey {
    SealingKey([0xa3; 32])
}

pub(crate) fn bytes(n: u8, len: usize) -> ByteBuf {
    ByteBuf::from(vec![n; len])
}

pub(crate) fn sign<T: Message>(body: &T, signer: u8) -> Signed<T> {
    Signed::sign(body, &pool(), &key(signer)).unwrap()
}
