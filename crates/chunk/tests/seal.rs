//! Chunks, manifests and grants: what opens, and that every change is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use zero2ai_chunk::{
    ContentSecret, GrantError, ManifestKey, ManifestSealError, OpenError, Sealer, SealingSecret, manifest::read_sealed,
    open_chunk, open_manifest, seal_manifest, unwrap_secret, wrap_secret,
};
use zero2ai_proto::{
    Digest, ManifestId, PoolId, SecretKey,
    limits::CHUNK_BYTES,
    manifest::{ChunkRef, Domain, FileEntry, Format, GrantInfo, Manifest, Part, Subject, Task},
};

fn manifest_of(sealer: &Sealer, chunks: Vec<ChunkRef>) -> Manifest {
    let size = chunks.iter().map(|c| u64::from(c.len)).sum();
    let parts = vec![Part { name: "#data".into(), chunks }];
    Manifest {
        name: "ada/digits".parse().unwrap(),
        version: 1,
        format: Format::Opaque,
        task: Task::Tensors,
        domain: sealer.domain(),
        secret: *sealer.secret(),
        files: vec![FileEntry { path: "model.bin".into(), size, hash: Digest([0; 32]), parts }],
        conformance: Vec::new(),
        preparation: None,
    }
}

#[test]
fn the_same_plaintext_is_one_ciphertext_within_a_domain_only() {
    let secret = ContentSecret::generate().unwrap();
    let seal =
        |domain, secret: &ContentSecret| Sealer::new(domain, secret.clone()).seal_chunk(b"weights").unwrap().0.cid;
    assert_eq!(seal(Domain::Private, &secret), seal(Domain::Private, &secret));
    assert_ne!(seal(Domain::Private, &secret), seal(Domain::Pool, &secret));
    assert_ne!(seal(Domain::Private, &secret), seal(Domain::Private, &ContentSecret::generate().unwrap()));
    assert_eq!(seal(Domain::Public, &secret), seal(Domain::Public, &ContentSecret::generate().unwrap()));
}

#[test]
fn a_sealed_chunk_is_pinned() {
    // A change of this value ends sharing with everything that was published before: a protocol change.
    let (chunk, _) = Sealer::new(Domain::Public, ContentSecret::public()).seal_chunk(b"zero2ai").unwrap();
    assert_eq!(chunk.cid.to_string(), "c522778fb6be720408d0797c43fb52c84dfd17693f86ab4dfaace3c9ec81ae3d");
}

#[test]
fn a_chunk_of_no_or_too_many_bytes_is_refused() {
    let sealer = Sealer::new(Domain::Public, ContentSecret::public());
    assert!(sealer.seal_chunk(&[]).is_err());
    assert!(sealer.seal_chunk(&vec![0; CHUNK_BYTES + 1]).is_err());
    assert!(sealer.seal_chunk(&vec![0; CHUNK_BYTES]).is_ok());
}

#[test]
fn opening_with_anything_else_than_what_was_sealed_fails() {
    let secret = ContentSecret::generate().unwrap();
    let (chunk, sealed) = Sealer::new(Domain::Private, secret.clone()).seal_chunk(b"some weights").unwrap();
    let open = |domain, secret: &[u8; 32], chunk: &ChunkRef| open_chunk(domain, secret, chunk, sealed.clone());
    assert_eq!(open(Domain::Private, secret.as_bytes(), &chunk).unwrap(), b"some weights");
    let wrong_key = OpenError::WrongKey { cid: chunk.cid };
    assert_eq!(open(Domain::Pool, secret.as_bytes(), &chunk).unwrap_err(), wrong_key);
    assert_eq!(open(Domain::Private, &[7; 32], &chunk).unwrap_err(), wrong_key);
    let other_hash = ChunkRef { plain: Digest::of(b"other"), ..chunk.clone() };
    assert_eq!(open(Domain::Private, secret.as_bytes(), &other_hash).unwrap_err(), wrong_key);
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        let error = open_chunk(Domain::Private, secret.as_bytes(), &chunk, flipped).unwrap_err();
        assert!(matches!(error, OpenError::NotThisChunk { .. }), "byte {at}");
    }
}

#[test]
fn every_flipped_byte_of_a_sealed_manifest_is_noticed() {
    let sealer = Sealer::new(Domain::Private, ContentSecret::generate().unwrap());
    let canary = b"THE CANARY IN THE MODEL";
    let (chunk, ciphertext) = sealer.seal_chunk(canary).unwrap();
    let manifest = manifest_of(&sealer, vec![chunk.clone(), chunk]);
    let (bytes, id, key) = seal_manifest(&manifest).unwrap();
    assert_eq!(open_manifest(&bytes, &id, &key).unwrap(), manifest);
    assert_eq!(read_sealed(&bytes, &id).unwrap().chunks.len(), 1, "each ciphertext is listed once");
    for secret in [&canary[..], &sealer.secret()[..], b"ada/digits"] {
        assert!(![&bytes, &ciphertext].iter().any(|b| b.windows(secret.len()).any(|w| w == secret)));
    }
    assert!(matches!(open_manifest(&bytes, &id, &ManifestKey::from_bytes([1; 32])), Err(ManifestSealError::WrongKey)));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(matches!(open_manifest(&flipped, &id, &key), Err(ManifestSealError::WrongId(_))));
        // Whoever serves other bytes under their own id gets no further.
        assert!(open_manifest(&flipped, &ManifestId::of(&flipped), &key).is_err(), "byte {at}");
    }
}

#[test]
fn sealing_twice_shares_no_bytes_of_the_body() {
    let sealer = Sealer::new(Domain::Private, ContentSecret::generate().unwrap());
    let manifest = manifest_of(&sealer, vec![sealer.seal_chunk(b"x").unwrap().0]);
    let (first, second) = (seal_manifest(&manifest).unwrap(), seal_manifest(&manifest).unwrap());
    assert_ne!(first.1, second.1);
    assert!(open_manifest(&first.0, &first.1, &second.2).is_err());
}

#[test]
fn a_list_that_contradicts_the_body_is_refused() {
    use zero2ai_proto::{decode, encode, limits::MANIFEST_BYTES, manifest::SealedManifest};
    let sealer = Sealer::new(Domain::Public, ContentSecret::public());
    let (one, two) = (sealer.seal_chunk(b"one").unwrap().0, sealer.seal_chunk(b"two").unwrap().0);
    let (bytes, _, key) = seal_manifest(&manifest_of(&sealer, vec![one, two])).unwrap();
    let mut sealed: SealedManifest = decode(&bytes, MANIFEST_BYTES).unwrap();
    sealed.chunks.swap(0, 1);
    let bytes = encode(&sealed).unwrap();
    let opened = open_manifest(&bytes, &ManifestId::of(&bytes), &key);
    assert!(matches!(opened, Err(ManifestSealError::Contradiction)));
}

#[test]
fn a_wrapped_key_opens_for_its_grantee_and_its_binding_only() {
    let (alice, eve) = (SealingSecret::generate().unwrap(), SealingSecret::generate().unwrap());
    let grantee = SecretKey::generate().unwrap().public();
    let info = GrantInfo { pool: PoolId([1; 32]), subject: Subject::Manifest(ManifestId([2; 32])), grantee, epoch: 3 };
    let key = [9; 32];
    let wrapped = wrap_secret(&key, &alice.public().unwrap(), info.clone()).unwrap();
    assert_eq!((wrapped.encapsulated.len(), wrapped.ciphertext.len()), (32, 48));
    assert_eq!(*unwrap_secret(&wrapped, &alice, &info).unwrap(), key);
    assert!(matches!(unwrap_secret(&wrapped, &eve, &info), Err(GrantError::DoesNotOpen)));
    let later = GrantInfo { epoch: 4, ..info.clone() };
    let other = GrantInfo { subject: Subject::PoolContent, ..info.clone() };
    assert!(matches!(unwrap_secret(&wrapped, &alice, &other), Err(GrantError::BoundElsewhere)));
    assert!(matches!(unwrap_secret(&wrapped, &alice, &later), Err(GrantError::BoundElsewhere)));
    // A lie about the binding does not open either.
    let mut lied = wrapped.clone();
    lied.info = later.clone();
    assert!(matches!(unwrap_secret(&lied, &alice, &later), Err(GrantError::DoesNotOpen)));
    for at in 0..48 {
        let mut flipped = wrapped.clone();
        flipped.ciphertext[at] ^= 1;
        assert!(matches!(unwrap_secret(&flipped, &alice, &info), Err(GrantError::DoesNotOpen)));
    }
    let restored = SealingSecret::from_bytes(*alice.to_bytes());
    assert_eq!(restored.public().unwrap(), alice.public().unwrap());
    assert_ne!(wrap_secret(&key, &alice.public().unwrap(), info.clone()).unwrap().encapsulated, wrapped.encapsulated);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_round_trip(plain in prop::collection::vec(any::<u8>(), 1..5000), secret in any::<[u8; 32]>()) {
        let sealer = Sealer::new(Domain::Private, ContentSecret::from_bytes(secret));
        let (chunk, sealed) = sealer.seal_chunk(&plain).unwrap();
        prop_assert_eq!(open_chunk(Domain::Private, sealer.secret(), &chunk, sealed).unwrap(), plain);
    }

    #[test]
    fn hostile_manifest_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read_sealed(&bytes, &ManifestId::of(&bytes)).is_err());
    }
}
