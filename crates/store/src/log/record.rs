//! The bytes of one record: a 16-byte head, then the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | payload length, little-endian; the highest bit says that everything before this record had been synced |
//! | 4 | check of the length, so that a search for records can pass over what is none without hashing payloads |
//! | 8 | check of the head and the payload |
//!
//! Both checks are BLAKE3 keyed by the segment's first index and cover the record's offset: a record found elsewhere, or
//! left over from another segment, is none.

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 16;
/// Bytes in a payload that its length field can say.
pub(super) const MAX_BYTES: usize = 0x7fff_ffff;
const SYNCED_BIT: u32 = 0x8000_0000;

/// The key of a segment's checks.
pub(super) fn segment_key(first_index: u64) -> [u8; 32] {
    blake3::derive_key("zero2ai log record v1", &first_index.to_le_bytes())
}

/// A head whose own check holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of payload.
    pub(super) len: usize,
    /// Everything before this record had been synced when it was written.
    pub(super) after_sync: bool,
    check: [u8; 8],
}

/// Encodes the head of `payload` at `offset`. `payload` has at most [`MAX_BYTES`].
pub(super) fn encode_head(key: &[u8; 32], offset: u64, payload: &[u8], after_sync: bool) -> [u8; HEAD_BYTES] {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX) | if after_sync { SYNCED_BIT } else { 0 };
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4..8].copy_from_slice(&length_check(key, offset, len));
    head[8..].copy_from_slice(&payload_check(key, offset, len, payload));
    head
}

/// Decodes the head at `offset`; `None` if it is none, or announces more than `max` bytes.
pub(super) fn decode_head(key: &[u8; 32], offset: u64, head: &[u8; HEAD_BYTES], max: usize) -> Option<Head> {
    let [l0, l1, l2, l3, c0, c1, c2, c3, check @ ..] = *head;
    let field = u32::from_le_bytes([l0, l1, l2, l3]);
    let len = (field & !SYNCED_BIT) as usize;
    // The cheap test comes first: searches go over every byte of a damaged file.
    (len <= max && length_check(key, offset, field) == [c0, c1, c2, c3]).then_some(Head {
        len,
        after_sync: field & SYNCED_BIT != 0,
        check,
    })
}

/// True if `payload` is what the head at `offset` was written for.
pub(super) fn holds(key: &[u8; 32], offset: u64, head: Head, payload: &[u8]) -> bool {
    let field = u32::try_from(head.len).unwrap_or(u32::MAX) | if head.after_sync { SYNCED_BIT } else { 0 };
    payload.len() == head.len && payload_check(key, offset, field, payload) == head.check
}

fn length_check(key: &[u8; 32], offset: u64, field: u32) -> [u8; 4] {
    let mut covered = [0; 12];
    covered[..8].copy_from_slice(&offset.to_le_bytes());
    covered[8..].copy_from_slice(&field.to_le_bytes());
    let [a, b, c, d, ..] = *blake3::keyed_hash(key, &covered).as_bytes();
    [a, b, c, d]
}

fn payload_check(key: &[u8; 32], offset: u64, field: u32, payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&offset.to_le_bytes()).update(&field.to_le_bytes()).update(payload);
    let mut check = [0; 8];
    hasher.finalize_xof().fill(&mut check);
    check
}
