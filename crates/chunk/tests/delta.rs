//! A second version against its first: what it shares, what it stores as differences, and what a damaged or hostile
//! manifest does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{collections::BTreeMap, convert::Infallible, io::Cursor};

use common::{gguf, noise, safetensors};
use proptest::prelude::*;
use zero2ai_chunk::{
    BaseVersion, ContentSecret, OpenFileError, Sealer, delta::DeltaPacker, detect_format, open_chunk, open_file,
    open_manifest, open_piece, seal_file, seal_file_against, seal_manifest,
};
use zero2ai_proto::{
    Cid, Digest, decode, encode,
    limits::{CHUNK_BYTES, MANIFEST_BYTES, SEAL_OVERHEAD},
    manifest::{ChunkRef, Delta, Domain, Format, Manifest, SealedManifest, Task},
};

type Stored = BTreeMap<Cid, Vec<u8>>;

fn sealer() -> Sealer {
    Sealer::new(Domain::Private, ContentSecret::from_bytes([5; 32]))
}

fn source(stored: &Stored) -> impl FnMut(&Cid) -> Result<Vec<u8>, &'static str> + '_ {
    |cid| stored.get(cid).cloned().ok_or("missing")
}

/// Publishes `bytes` into `stored`, against `base` if there is one.
fn publish(bytes: &[u8], path: &str, base: Option<&Manifest>, stored: &mut Stored) -> Manifest {
    let mut reader = Cursor::new(bytes);
    let format = detect_format(&mut reader).unwrap();
    let held = stored.clone();
    let mut against = base.map(|manifest| {
        let open = |chunk: &ChunkRef| {
            assert!(chunk.delta.is_none(), "bases are plain");
            let sealed = held.get(&chunk.cid).cloned().ok_or("missing")?;
            Ok(open_chunk(manifest.domain, &manifest.secret, chunk, sealed)?)
        };
        BaseVersion::new(manifest, &sealer(), open).unwrap()
    });
    let mut sink = |cid, sealed: &[u8]| {
        stored.insert(cid, sealed.to_vec());
        Ok::<_, Infallible>(())
    };
    let file =
        seal_file_against(&sealer(), &mut reader, path, format, against.as_mut(), &mut sink, &mut |_, _| {}).unwrap();
    let manifest = Manifest {
        name: "a/b".parse().unwrap(),
        version: 2,
        format,
        task: Task::Tensors,
        domain: Domain::Private,
        secret: [5; 32],
        files: vec![file],
        conformance: Vec::new(),
        preparation: None,
    };
    manifest.check().unwrap();
    manifest
}

fn opened(manifest: &Manifest, stored: &Stored) -> Vec<u8> {
    let mut out = Vec::new();
    open_file(manifest, &manifest.files[0], &mut source(stored), &mut out).unwrap();
    out
}

/// Half floats whose low bits moved a little, as training some more does.
fn trained(weights: &[u8], seed: u8) -> Vec<u8> {
    let moves = noise(weights.len(), seed);
    weights.iter().zip(moves).enumerate().map(|(i, (w, m))| if i % 2 == 0 { w ^ (m & 7) } else { *w }).collect()
}

fn deltas(manifest: &Manifest) -> Vec<&ChunkRef> {
    manifest.chunks().filter(|c| c.delta.is_some()).collect()
}

#[test]
fn a_trained_version_shares_what_stayed_and_stores_what_moved_as_differences() {
    let (kept, old) = (noise(1_500_000, 1), noise(2_500_000, 2));
    let new = trained(&old, 3);
    for make in [gguf, safetensors] {
        let mut stored = Stored::new();
        let (one, two) = (make(&[("moved", &old), ("kept", &kept)]), make(&[("moved", &new), ("kept", &kept)]));
        let first = publish(&one, "m", None, &mut stored);
        let before: usize = stored.values().map(Vec::len).sum();
        let second = publish(&two, "m", Some(&first), &mut stored);
        let added = stored.values().map(Vec::len).sum::<usize>() - before;
        // Three random bits of every sixteen: an entropy coder cannot go below 3/16, and two bytes grouped come close.
        assert!(added < old.len() / 4 && added > old.len() / 8, "{added} of {}", old.len());
        assert_eq!(deltas(&second).len(), 3);
        assert_eq!(deltas(&second)[0].delta.as_ref().unwrap().width, 2, "half floats");
        assert_eq!((opened(&first, &stored), opened(&second, &stored)), (one, two));

        // What a fetcher is told to bring opens every file.
        let (sealed, id, key) = seal_manifest(&second).unwrap();
        let open_half: SealedManifest = decode(&sealed, MANIFEST_BYTES).unwrap();
        assert_eq!(open_half.version, SealedManifest::WITH_DELTAS);
        assert!(open_half.chunks.iter().all(|c| stored[&c.cid].len() == c.len as usize));
        let brought = open_half.chunks.iter().map(|c| (c.cid, stored[&c.cid].clone())).collect();
        assert_eq!(opened(&open_manifest(&sealed, &id, &key).unwrap(), &brought), opened(&second, &stored));
    }
}

#[test]
fn chains_stay_one_link_long_and_what_came_back_is_the_old_chunk() {
    let old = noise(300_000, 2);
    let (moved, again) = (trained(&old, 3), trained(&trained(&old, 3), 4));
    let mut stored = Stored::new();
    let first = publish(&safetensors(&[("w", &old)]), "a", None, &mut stored);
    let second = publish(&safetensors(&[("w", &moved)]), "b", Some(&first), &mut stored);
    let count = stored.len();
    // Unchanged since a delta: the same delta, and nothing new is stored.
    let same = publish(&safetensors(&[("w", &moved)]), "b", Some(&second), &mut stored);
    assert_eq!((deltas(&same), stored.len()), (deltas(&second), count));
    // Moved again: against the same plain chunk.
    let third = publish(&safetensors(&[("w", &again)]), "b", Some(&second), &mut stored);
    let base = |m: &Manifest| deltas(m)[0].delta.as_ref().unwrap().base.cid;
    assert_eq!(base(&third), base(&second));
    assert_eq!(opened(&third, &stored), safetensors(&[("w", &again)]));
    // Back to the first: its own chunk.
    let count = stored.len();
    let back = publish(&safetensors(&[("w", &old)]), "b", Some(&third), &mut stored);
    assert!(deltas(&back).is_empty());
    assert_eq!((back.files[0].parts[1].clone(), stored.len()), (first.files[0].parts[1].clone(), count));
}

#[test]
fn what_is_not_worth_a_difference_is_sealed_as_it_is() {
    let old = noise(300_000, 2);
    let mut stored = Stored::new();
    let first = publish(&safetensors(&[("w", &old), ("gone", &old[..99])]), "m", None, &mut stored);
    let longer = noise(300_001, 2);
    for other in [&noise(300_000, 9), &longer, &noise(10, 1)] {
        let bytes = safetensors(&[("w", other), ("new", other)]);
        let second = publish(&bytes, "m", Some(&first), &mut stored);
        assert!(deltas(&second).iter().all(|c| c.piece_len() < 1_000), "the header at most");
        assert_eq!(opened(&second, &stored), bytes);
    }
    // Sealed with another secret, the base would not open for those who may open the new version.
    let other = Sealer::new(Domain::Private, ContentSecret::from_bytes([6; 32]));
    assert!(BaseVersion::new(&first, &other, |_| Err("unused".into())).is_none());
}

#[test]
fn a_manifest_without_differences_has_the_bytes_of_version_1() {
    let mut stored = Stored::new();
    let manifest = publish(&safetensors(&[("w", &noise(99, 1))]), "m", None, &mut stored);
    let (sealed, _, _) = seal_manifest(&manifest).unwrap();
    assert_eq!(decode::<SealedManifest>(&sealed, MANIFEST_BYTES).unwrap().version, 1);
    // A null where the field is left out would be a second spelling of the same manifest.
    let chunk = &manifest.files[0].parts[0].chunks[0];
    let mut bytes = encode(chunk).unwrap();
    assert_eq!(decode::<ChunkRef>(&bytes, 1_000).unwrap(), *chunk);
    assert_eq!(bytes[0], 0xa3);
    bytes[0] = 0xa4;
    bytes.extend([3, 0xf6]);
    assert!(decode::<ChunkRef>(&bytes, 1_000).is_err());
}

/// One delta in a manifest of its own, with its two chunks.
fn single() -> (Manifest, Stored, Vec<u8>) {
    let old = noise(4_000, 2);
    let mut stored = Stored::new();
    let first = publish(&safetensors(&[("w", &old)]), "m", None, &mut stored);
    let bytes = safetensors(&[("w", &trained(&old, 3))]);
    let second = publish(&bytes, "m", Some(&first), &mut stored);
    assert_eq!(deltas(&second).len(), 1);
    (second, stored, bytes)
}

fn delta_of(manifest: &mut Manifest) -> &mut ChunkRef {
    manifest.files[0].parts.iter_mut().flat_map(|p| &mut p.chunks).find(|c| c.delta.is_some()).unwrap()
}

#[test]
fn every_flipped_byte_is_detected() {
    let (mut manifest, stored, _) = single();
    let chunk = delta_of(&mut manifest).clone();
    for cid in [chunk.cid, chunk.delta.as_ref().unwrap().base.cid] {
        for at in 0..stored[&cid].len() {
            let mut damaged = stored.clone();
            damaged.get_mut(&cid).unwrap()[at] ^= 1;
            let result = open_piece(&manifest, &chunk, &mut source(&damaged));
            assert!(matches!(result, Err(OpenFileError::Chunk(_))), "byte {at}");
        }
        let mut absent = stored.clone();
        absent.remove(&cid);
        let error = open_piece(&manifest, &chunk, &mut source(&absent)).unwrap_err();
        assert!(matches!(error, OpenFileError::Source { cid: named, .. } if named == cid));
    }
}

/// Seals `packed` as a delta against the base of [`single`]: what a hostile publisher may do.
fn hostile(packed: &[u8], piece: Digest, width: u8) -> Result<Vec<u8>, OpenFileError> {
    let (mut manifest, mut stored, _) = single();
    let (difference, sealed) = sealer().seal_chunk(packed).unwrap();
    stored.insert(difference.cid, sealed);
    let base = delta_of(&mut manifest).delta.clone().unwrap().base;
    let chunk = ChunkRef { delta: Some(Delta { base, piece, width }), ..difference };
    open_piece(&manifest, &chunk, &mut source(&stored))
}

#[test]
fn bombs_wrong_bases_and_wrong_pieces_are_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    assert!(bomb.len() < 10_000);
    let right = Digest::of(&noise(4_000, 2));
    assert!(matches!(hostile(&bomb, right, 1), Err(OpenFileError::Delta(_))), "64 MiB out of 4 kB");
    // A frame whose header claims 2^62 bytes: nothing is reserved on its word.
    let claims = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &(1u64 << 62).to_le_bytes(), &[1, 0, 0]].concat();
    assert!(matches!(hostile(&claims, right, 1), Err(OpenFileError::Delta(_))));
    let short = zstd::bulk::compress(&[0; 3_999], 1).unwrap();
    assert!(matches!(hostile(&short, right, 1), Err(OpenFileError::Delta(_))));
    let none = zstd::bulk::compress(&[0; 4_000], 1).unwrap();
    assert_eq!(hostile(&none, right, 2).unwrap(), noise(4_000, 2));
    assert!(matches!(hostile(&none, Digest::of(b"other"), 2), Err(OpenFileError::Delta(_))));

    // Another base of the same length.
    let (mut manifest, mut stored, _) = single();
    let (other, sealed) = sealer().seal_chunk(&noise(4_000, 7)).unwrap();
    stored.insert(other.cid, sealed);
    let chunk = delta_of(&mut manifest);
    let delta = chunk.delta.as_mut().unwrap();
    (delta.base.cid, delta.base.plain) = (other.cid, other.plain);
    let chunk = chunk.clone();
    assert!(matches!(open_piece(&manifest, &chunk, &mut source(&stored)), Err(OpenFileError::Delta(_))));
}

#[test]
fn manifests_with_impossible_differences_are_refused() {
    type Spoil = fn(&mut ChunkRef);
    let spoils: [(&str, Spoil); 6] = [
        ("width 0", |c| c.delta.as_mut().unwrap().width = 0),
        ("width 3", |c| c.delta.as_mut().unwrap().width = 3),
        ("no shorter than its piece", |c| c.len = c.delta.as_ref().unwrap().base.len),
        ("a base that is too long", |c| c.delta.as_mut().unwrap().base.len = CHUNK_BYTES as u32 + 1),
        ("an empty base", |c| c.delta.as_mut().unwrap().base.len = 0),
        ("its own base", |c| c.delta.as_mut().unwrap().base.cid = c.cid),
    ];
    for (what, spoil) in spoils {
        let (mut manifest, _, _) = single();
        spoil(delta_of(&mut manifest));
        assert!(manifest.check().is_err() && seal_manifest(&manifest).is_err(), "{what}");
    }
    // A base whose length is another chunk's contradicts the list that seeders read.
    let (mut manifest, _, _) = single();
    let header = manifest.files[0].parts[0].chunks[0].cid;
    delta_of(&mut manifest).delta.as_mut().unwrap().base.cid = header;
    assert!(seal_manifest(&manifest).is_err());
}

#[test]
fn the_list_names_bases_or_the_manifest_is_a_contradiction() {
    let (manifest, _, _) = single();
    let (bytes, _, key) = seal_manifest(&manifest).unwrap();
    let sealed: SealedManifest = decode(&bytes, MANIFEST_BYTES).unwrap();
    let base = manifest.chunks().find_map(|c| c.delta.as_ref()).unwrap().base.clone();
    assert!(sealed.chunks.iter().any(|c| c.cid == base.cid && c.len as usize == base.len as usize + SEAL_OVERHEAD));
    let refused = |sealed: &SealedManifest| {
        let bytes = encode(sealed).unwrap();
        open_manifest(&bytes, &zero2ai_proto::ManifestId::of(&bytes), &key).is_err()
    };
    assert!(!refused(&sealed));
    let mut without = sealed.clone();
    without.chunks.retain(|c| c.cid != base.cid);
    assert!(refused(&without));
    assert!(refused(&SealedManifest { version: 1, ..sealed.clone() }));
    assert!(refused(&SealedManifest { version: 3, ..sealed }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_difference_gives_its_piece_back(
        base in prop::collection::vec(any::<u8>(), 1..2_000),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
    ) {
        let mut piece = base.clone();
        let len = piece.len();
        edits.iter().for_each(|(at, byte)| piece[at.index(len)] = *byte);
        if let Some((packed, width)) = DeltaPacker::default().pack(&base, &piece).unwrap() {
            prop_assert!(packed.len() < piece.len());
            let old = sealer().seal_chunk(&base).unwrap().0;
            let base_chunk = zero2ai_proto::manifest::BaseChunk { cid: old.cid, plain: old.plain, len: old.len };
            let delta = Delta { base: base_chunk, piece: Digest::of(&piece), width };
            prop_assert_eq!(zero2ai_chunk::delta::unpack(&delta, base.clone(), &packed).unwrap(), piece);
        }
    }

    #[test]
    fn two_versions_of_any_tensors_round_trip(
        lens in prop::collection::vec(0usize..5_000, 1..6),
        changed in any::<u8>(),
        gguf_file in any::<bool>(),
    ) {
        let names: Vec<String> = (0..lens.len()).map(|i| format!("t{i}")).collect();
        let one: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, len)| noise(*len, i as u8)).collect();
        let two: Vec<Vec<u8>> = one.iter().enumerate()
            .map(|(i, t)| if changed >> i & 1 == 1 { trained(t, 77) } else { t.clone() }).collect();
        let make = if gguf_file { gguf } else { safetensors };
        let file = |tensors: &[Vec<u8>]| {
            let list: Vec<_> = names.iter().map(String::as_str).zip(tensors.iter().map(Vec::as_slice)).collect();
            make(&list)
        };
        let mut stored = Stored::new();
        let first = publish(&file(&one), "m", None, &mut stored);
        let second = publish(&file(&two), "m", Some(&first), &mut stored);
        prop_assert_eq!(opened(&second, &stored), file(&two));
        prop_assert_eq!(opened(&first, &stored), file(&one));
    }

    #[test]
    fn hostile_differences_are_errors_and_never_panics(
        packed in prop::collection::vec(any::<u8>(), 1..400),
        frame in any::<bool>(),
        width in any::<u8>(),
    ) {
        let packed = if frame { [&[0x28, 0xb5, 0x2f, 0xfd][..], &packed].concat() } else { packed };
        prop_assert!(hostile(&packed, Digest::of(b"no such piece"), width).is_err());
    }

    #[test]
    fn a_flipped_byte_of_a_sealed_manifest_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (manifest, _, _) = single();
        let (mut bytes, _, key) = seal_manifest(&manifest).unwrap();
        let len = bytes.len();
        bytes[at.index(len)] ^= 1 << bit;
        // Even under the id of the damaged bytes, as a lying peer would name it.
        let id = zero2ai_proto::ManifestId::of(&bytes);
        prop_assert!(open_manifest(&bytes, &id, &key).is_err());
    }
}

#[test]
fn unknown_formats_are_never_compared() {
    let mut stored = Stored::new();
    let first = publish(b"plain text", "card.md", None, &mut stored);
    assert_eq!(first.format, Format::Opaque);
    let second = publish(b"plain texT", "card.md", Some(&first), &mut stored);
    assert!(deltas(&second).is_empty());
    let mut sink = |_, _: &[u8]| Ok::<_, Infallible>(());
    let file =
        seal_file(&sealer(), &mut Cursor::new(b"plain text"), "card.md", Format::Opaque, &mut sink, &mut |_, _| {});
    assert_eq!(file.unwrap(), first.files[0]);
}
