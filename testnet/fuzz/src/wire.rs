//! Bytes that other nodes, accounts and programs send.

use data_encoding::BASE64URL_NOPAD;
use serde::{Serialize, de::DeserializeOwned};
use zero2ai_ledger::{
    light::{verify_consistency, verify_log, verify_state},
    verify_audit,
};
use zero2ai_proto::{
    Digest, ModelName, ModelRef, PoolId, Signed, VerifyError,
    block::{Block, Certificate, Header},
    calls as c,
    consensus::{ConsensusGossip, HeadGossip, TxGossip},
    decode, encode,
    envelope::Message,
    kept::KeptCall,
    limits::{FRAME_BYTES, RECORD_BYTES, SIGNED_BYTES},
    local as l,
    pool::{Genesis, Invite, PoolKey, Ticket},
    proof::{LogProof, SignedHeader, StateProof, TrustStep},
    receipt::{AuditExport, ProviderReceipts, Receipt, Request, Response},
    record::{DhtValue, EndpointRecord, NameRecord},
    rpc::{CallFrame, Challenge, Hello, Method, Proof, ReplyFrame},
    sample::ShownSample,
    state as s,
    tx::Tx,
    worker as w,
};

/// The pool that signatures are checked in.
const POOL: PoolId = PoolId([0xa0; 32]);

/// Decodes; one byte string stands for one value.
fn canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = decode::<T>(bytes, FRAME_BYTES).ok()?;
    assert_eq!(encode(&value).as_deref(), Ok(bytes), "a second spelling of a value");
    Some(value)
}

/// Decodes as one of many types, chosen by `number`.
macro_rules! one_of {
    ($number:expr, $bytes:expr; $($type:ty),+ $(,)?) => {{
        let readers: &[fn(&[u8])] = &[$(|bytes| { let _ = canonical::<$type>(bytes); }),+];
        readers[usize::from($number) % readers.len()]($bytes)
    }};
}

/// The codec, with every type of the ledger and the worker: the first byte says which.
pub fn codec(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    one_of!(*number, bytes; Tx, Block, Header, Certificate, c::SealedBlock, Genesis, PoolKey, Ticket, Request, Response, Receipt,
        NameRecord, EndpointRecord, SignedHeader, TrustStep, s::Model, s::Version, s::Endorsement, s::Score, s::Member,
        s::Signers, s::Event, s::AnchorState, s::Handle, s::GrantState, w::ToWorker, w::FromWorker, ShownSample);
}

fn signed<T: Message>(bytes: &[u8]) -> Option<T> {
    let signed = canonical::<Signed<T>>(bytes)?;
    let verified = signed.verify(&POOL);
    let read = signed.read_unverified();
    match &verified {
        Ok(_) => assert!(read.is_ok() && signed.signature_is_valid(&POOL)),
        Err(VerifyError::BadSignature) => assert!(!signed.signature_is_valid(&POOL)),
        Err(_) => {}
    }
    read.ok()
}

/// A signed transaction.
pub fn transaction(bytes: &[u8]) {
    if let Some(tx) = signed::<Tx>(bytes) {
        assert!(encode(&tx).is_ok_and(|body| body.len() <= SIGNED_BYTES));
    }
    let _ = canonical::<Tx>(bytes);
    if let Some(tx) = canonical::<Signed<Tx>>(bytes) {
        assert!(tx.tx_id().is_ok());
    }
}

/// Frames of peer RPC. The first byte says whose request or reply the rest is, or that it is a frame itself.
pub fn frame(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    match number {
        0 => requests(canonical::<CallFrame>(bytes)),
        1 => drop(canonical::<ReplyFrame>(bytes)),
        2 => one_of!(bytes.len() as u8, bytes; Challenge, Proof, Hello),
        3..=127 => replies(*number, bytes),
        _ => local(*number, bytes),
    }
}

fn requests(frame: Option<CallFrame>) {
    let Some(CallFrame { method, body, .. }) = frame else { return };
    macro_rules! requests_of {
        ($($method:ty),+) => {$(
            if method == <$method>::ID {
                let _ = canonical::<<$method as Method>::Request>(&body);
            }
        )+};
    }
    requests_of!(
        c::Redeem,
        c::Resolve,
        c::Blocks,
        c::Prove,
        c::SubmitTx,
        c::GetManifest,
        c::GetChunk,
        c::Grant,
        c::Predict
    );
    requests_of!(
        c::Generate,
        c::Replicate,
        c::Receipts,
        c::Describe,
        c::Prepare,
        c::Forward,
        l::PublishPath,
        l::ValidatePath,
        l::FetchLive
    );
    requests_of!(
        l::MakeInvite,
        l::ChangeSigners,
        l::ChangeRights,
        l::OpenFiles,
        l::Rerun,
        l::StorePin,
        l::GrantModel,
        l::RevokeModel
    );
}

fn replies(number: u8, bytes: &[u8]) {
    one_of!(number, bytes; c::Pong, c::Redeemed, c::Resolved, c::SealedBlock, c::Proved, TrustStep, c::Submitted, c::Piece,
        c::Bitfield, c::HaveNews, c::Predicted, c::Generated, c::Replicated, ProviderReceipts, w::ModelInfo, c::Prepared, c::Forwarded);
}

fn local(number: u8, bytes: &[u8]) {
    one_of!(number, bytes; l::NodeStatusReply, l::PublishItem, l::ValidateItem, l::FetchItem, l::OpenItem, l::PoolReply,
        l::VerifyItem, l::GcItem, l::StoredVersion, l::StoreStatsReply,
        l::RerunItem, KeptCall);
}

/// What topics carry.
pub fn gossip(bytes: &[u8]) {
    if let Ok(gossip) = ConsensusGossip::read(bytes) {
        let _ = gossip.message.height();
        assert_eq!(encode(&gossip).as_deref(), Ok(bytes));
    }
    if let Ok(gossip) = TxGossip::read(bytes) {
        let _ = gossip.tx.verify(&POOL);
    }
    let _ = HeadGossip::read(bytes);
}

/// A value of the DHT.
pub fn record(bytes: &[u8]) {
    let Ok(value) = decode::<DhtValue>(bytes, RECORD_BYTES) else { return };
    assert_eq!(encode(&value).as_deref(), Ok(bytes));
    match value {
        DhtValue::Name(record) => {
            let root = decode::<Header>(&record.header.header, RECORD_BYTES).map_or(Digest([0; 32]), |h| h.app_hash);
            for proof in [&record.model, &record.latest] {
                let _ = verify_state(&root, proof);
            }
        }
        DhtValue::Endpoint(signed) => {
            let _ = signed.verify(&POOL);
            for address in signed.read_unverified().map(|r| r.addresses).unwrap_or_default() {
                assert!(address.rpc_socket().is_none() || address.is_valid());
            }
        }
    }
}

/// Proofs of state entries and of logs. The first byte says of which.
pub fn proof(bytes: &[u8]) {
    let Some((number, bytes)) = bytes.split_first() else { return };
    let root = Digest([0xd1; 32]);
    if number % 2 == 0 {
        if let Some(proof) = canonical::<StateProof>(bytes) {
            assert!(verify_state(&root, &proof).is_err(), "a proof of a root that is no hash");
        }
    } else if let Some(proof) = canonical::<LogProof>(bytes) {
        assert!(verify_log(&root, &proof, b"leaf").is_err(), "a proof of a root that is no hash");
        let _ = verify_consistency((proof.index, &root), (proof.size, &root), &proof.siblings);
    }
}

/// An exported audit, with the genesis it brings: nothing in it is believed.
pub fn audit(bytes: &[u8]) {
    let Some(export) = canonical::<AuditExport>(bytes) else { return };
    let Ok((_, pool)) = Genesis::read(&export.genesis) else { return };
    let _ = verify_audit(&pool, &export);
}

/// An invite: as a line, and as the content of a line whose checksum holds.
pub fn invite(bytes: &[u8]) {
    let sum = blake3::hash(bytes);
    let line = format!("z2a1-{}", BASE64URL_NOPAD.encode(&[bytes, &sum.as_bytes()[..4]].concat()));
    if let Ok(invite) = line.parse::<Invite>() {
        assert_eq!(invite.to_line().as_deref(), Ok(line.as_str()));
        let _ = invite.ticket.verify(&invite.pool);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<Invite>();
    }
}

/// Names of models, as they are typed.
pub fn name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<ModelName>() {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(wanted) = text.parse::<ModelRef>() {
        assert_eq!(wanted.to_string().parse::<ModelRef>().as_ref(), Ok(&wanted));
    }
}
