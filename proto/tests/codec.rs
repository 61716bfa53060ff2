//! The codec is canonical, bounded, replaceable, and never panics on hostile bytes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use zero2ai_proto::{
    ByteBuf, Bytes, CodecError, Digest, PoolId, SecretKey, Signed,
    block::{Block, Certificate, Header, Vote},
    calls::{Generated, Piece, PredictCall, Resolved, TokenPiece},
    decode, encode,
    manifest::{Manifest, SealedManifest},
    pool::Invite,
    receipt::{AuditExport, Receipt},
    record::{DhtValue, NameRecord},
    rpc::{CallFrame, ReplyFrame},
    state::{Rights, Signers},
    tensor::Tensor,
    tx::{Anchor, ClaimHandle, Tx, TxBody},
    worker::{FromWorker, ToWorker},
};

const MAX: usize = 1 << 20;

#[test]
fn structs_are_integer_keyed_maps_and_enums_their_index() {
    let bytes = encode(&TokenPiece { id: 7, text: "a".into(), scores: vec![] }).unwrap();
    assert_eq!(bytes, [0xa3, 0x00, 0x07, 0x01, 0x61, b'a', 0x02, 0x80]);
    let bytes = encode(&Generated::Token(TokenPiece { id: 7, text: "a".into(), scores: vec![] })).unwrap();
    assert_eq!(bytes, [0x82, 0x00, 0xa3, 0x00, 0x07, 0x01, 0x61, b'a', 0x02, 0x80]);
}

#[test]
fn an_item_in_a_frame_is_encoded_the_same_in_one_go() {
    for len in [0, 1, 19, 20, 21, 22, 23, 24, 251, 252, 253, 254, 255, 256, 65_533, 65_534, 65_535, 65_536, 70_000] {
        let item = Piece { data: ByteBuf::from(vec![7; len]) };
        let mut at_once = vec![9];
        ReplyFrame::encode_item_onto(&item, &mut at_once).unwrap();
        let frame: ReplyFrame = ReplyFrame::Item(ByteBuf::from(encode(&item).unwrap()));
        assert_eq!(at_once[1..], encode(&frame).unwrap(), "{len} bytes");
        let borrowed: ReplyFrame<&Bytes> = decode(&at_once[1..], MAX).unwrap();
        assert!(matches!(borrowed, ReplyFrame::Item(bytes) if decode::<Piece>(bytes, MAX).unwrap() == item));
    }
}

#[test]
fn a_second_spelling_is_refused() {
    let value = TokenPiece { id: 7, text: "a".into(), scores: vec![] };
    for (why, bytes) in [
        ("long integer", vec![0xa3, 0x00, 0x18, 0x07, 0x01, 0x61, b'a', 0x02, 0x80]),
        ("keys out of order", vec![0xa3, 0x01, 0x61, b'a', 0x00, 0x07, 0x02, 0x80]),
        (
            "text keys",
            [&[0xa3, 0x62][..], b"id", &[0x07, 0x64], b"text", &[0x61, b'a', 0x66], b"scores", &[0x80]].concat(),
        ),
        ("an unknown field", vec![0xa4, 0x00, 0x07, 0x01, 0x61, b'a', 0x02, 0x80, 0x03, 0x00]),
        ("a field left out", vec![0xa2, 0x00, 0x07, 0x01, 0x61, b'a']),
        ("indefinite length", vec![0xbf, 0x00, 0x07, 0x01, 0x61, b'a', 0x02, 0x80, 0xff]),
    ] {
        assert!(decode::<TokenPiece>(&bytes, MAX).is_err(), "{why} was accepted");
    }
    let good = encode(&value).unwrap();
    assert_eq!(decode::<TokenPiece>(&good, MAX).unwrap(), value);
    let trailing = [good.as_slice(), &[0]].concat();
    assert!(matches!(decode::<TokenPiece>(&trailing, MAX), Err(CodecError::Malformed(_))));
    assert_eq!(decode::<TokenPiece>(&good, 3), Err(CodecError::TooLong { len: 8, max: 3 }));
}

#[test]
fn deep_nesting_in_ignored_content_is_an_error() {
    let mut bytes = vec![0xa1, 0x09];
    bytes.extend(std::iter::repeat_n(0x81, 100_000));
    assert!(decode::<TokenPiece>(&bytes, MAX).is_err());
}

#[test]
fn another_codec_reads_the_same_bytes() {
    let key = SecretKey::from_bytes(&[7; 32]);
    let tx = Tx {
        nonce: 3,
        body: TxBody::Anchor(Anchor { seq: 1, size: 2, root: Digest([9; 32]), consistency: vec![Digest([1; 32])] }),
    };
    let bytes = encode(&Signed::sign(&tx, &PoolId([1; 32]), &key).unwrap()).unwrap();
    let value: ciborium::Value = ciborium::from_reader(bytes.as_slice()).unwrap();
    let mut again = Vec::new();
    ciborium::into_writer(&value, &mut again).unwrap();
    assert_eq!(bytes, again);
}

#[test]
fn a_signature_binds_pool_kind_and_bytes() {
    let (pool, key) = (PoolId([1; 32]), SecretKey::from_bytes(&[7; 32]));
    let tx = Tx { nonce: 0, body: TxBody::ClaimHandle(ClaimHandle { handle: "acme".into() }) };
    let signed = Signed::sign(&tx, &pool, &key).unwrap();
    assert_eq!(signed.verify(&pool).unwrap(), tx);
    assert!(signed.verify(&PoolId([2; 32])).is_err(), "another pool");
    let bytes = encode(&signed).unwrap();
    for i in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[i] ^= 1;
        let accepted = decode::<Signed<Tx>>(&bad, MAX).is_ok_and(|s| s.verify(&pool).is_ok());
        assert!(!accepted, "a flipped bit in byte {i} was accepted");
    }
}

fn never_panics(bytes: &[u8]) {
    let _ = decode::<Signed<Tx>>(bytes, MAX).map(|s| s.read_unverified());
    let _ = decode::<Tx>(bytes, MAX);
    let _ = decode::<Block>(bytes, MAX);
    let _ = decode::<Header>(bytes, MAX);
    let _ = decode::<Vote>(bytes, MAX);
    let _ = decode::<Certificate>(bytes, MAX);
    let _ = decode::<Manifest>(bytes, MAX).map(|m| m.check());
    let _ = decode::<SealedManifest>(bytes, MAX).map(|m| m.check());
    let _ = decode::<NameRecord>(bytes, MAX);
    let _ = decode::<DhtValue>(bytes, MAX);
    let _ = decode::<Receipt>(bytes, MAX);
    let _ = decode::<AuditExport>(bytes, MAX);
    let _ = decode::<CallFrame>(bytes, MAX);
    let _ = decode::<ReplyFrame>(bytes, MAX);
    let _ = decode::<PredictCall>(bytes, MAX);
    let _ = decode::<Resolved>(bytes, MAX);
    let _ = decode::<ToWorker>(bytes, MAX);
    let _ = decode::<FromWorker>(bytes, MAX);
    let _ = decode::<Signers>(bytes, MAX);
    let _ = decode::<Tensor>(bytes, MAX).map(|t| t.check());
}

proptest! {
    #[test]
    fn hostile_bytes_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        never_panics(&bytes);
    }

    #[test]
    fn damaged_messages_are_errors(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let call = CallFrame { method: 13, timeout_ms: 5, body: ByteBuf::from(vec![3; 60]) };
        let tensor = Tensor::f32("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        for mut bytes in [encode(&call).unwrap(), encode(&tensor).unwrap()] {
            let i = at.index(bytes.len());
            bytes[i] = byte;
            never_panics(&bytes);
            never_panics(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself(nonce in any::<u64>(), handle in "[a-z]{1,20}", rights in any::<u16>()) {
        let tx = Tx { nonce, body: TxBody::ClaimHandle(ClaimHandle { handle }) };
        prop_assert_eq!(decode::<Tx>(&encode(&tx).unwrap(), MAX).unwrap(), tx);
        prop_assert_eq!(decode::<Rights>(&encode(&Rights(rights)).unwrap(), MAX).unwrap(), Rights(rights));
    }

    #[test]
    fn invites_refuse_damage(text in "z2a1-[A-Za-z0-9_-]{0,200}") {
        prop_assert!(text.parse::<Invite>().is_err());
    }

    #[test]
    fn names_round_trip_or_fail(text in "[ -~]{0,80}") {
        if let Ok(name) = text.parse::<zero2ai_proto::ModelRef>() {
            prop_assert_eq!(name.to_string().parse::<zero2ai_proto::ModelRef>().unwrap(), name);
        }
    }
}
