//! Every bound a peer meets, in one place. Each says its unit, its reason, and what happens beyond it.

/// Bytes in one signed envelope. A transaction, ticket, record or request fits with room to spare; larger is refused
/// unread.
pub const SIGNED_BYTES: usize = 32 * 1024;
/// Bytes in one RPC frame: a sealed 1 MiB chunk, or a batch of small tensors, with its framing. Larger closes the stream.
pub const FRAME_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in the frames before a peer has proven the pool key: a nonce or a MAC. Larger closes the connection.
pub const HANDSHAKE_BYTES: usize = 256;
/// Bytes in one gossip message: a block or a transaction with its votes. Larger is refused by gossipsub.
pub const GOSSIP_BYTES: usize = 512 * 1024;
/// Bytes of transactions in one block, so that a proposal fits one gossip message.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Transactions in one block.
pub const BLOCK_TXS: usize = 2_000;
/// Bytes in one DHT record: a name record with two proofs, a header and a certificate of 100 signatures.
pub const RECORD_BYTES: usize = 48 * 1024;
/// Bytes of plaintext in one chunk. Small enough that a wrong hash wastes little; large enough to keep lists short.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// Bytes a sealed chunk adds to its plaintext: the AES-GCM tag.
pub const SEAL_OVERHEAD: usize = 16;
/// Bytes in one encoded sealed manifest: about 150,000 chunks (146 GiB). It must fit [`FRAME_BYTES`] only when it is
/// small; larger ones travel in pieces of [`CHUNK_BYTES`].
pub const MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of an encoded snapshot of a ledger's state. A pool whose state is larger is joined block by block.
pub const SNAPSHOT_BYTES: usize = 256 * 1024 * 1024;
/// Chunks named by one manifest.
pub const MANIFEST_CHUNKS: usize = 150_000;
/// Files in one model.
pub const MANIFEST_FILES: usize = 1_024;
/// Parts (tensors and headers) in one file.
pub const FILE_PARTS: usize = 65_536;
/// Bytes in a path, tensor name or label.
pub const LABEL_BYTES: usize = 256;
/// Signers of one pool: certificates are lists of signatures.
pub const SIGNERS: usize = 100;
/// Greatest power of one signer: with [`SIGNERS`] of them the total stays far below the 2^60 that the consensus core's
/// arithmetic allows.
pub const SIGNER_POWER: u64 = 1 << 40;
/// Pool keys of earlier epochs that a node keeps, to know members who were away for that many rotations.
pub const OLD_POOL_KEYS: usize = 8;
/// Longest time that the pool key before the newest one opens everything, milliseconds: a week.
pub const KEY_GRACE_MS: u64 = 7 * 24 * 3_600_000;
/// Addresses in one endpoint record or invite.
pub const ADDRESSES: usize = 16;
/// Bytes in one address.
pub const ADDRESS_BYTES: usize = 128;
/// Bytes in the name of a region.
pub const REGION_BYTES: usize = 32;
/// Classes in one endorsement.
pub const CLASSES: usize = 256;
/// Channels of one model.
pub const CHANNELS: usize = 16;
/// Tensors in one prediction, each way.
pub const TENSORS: usize = 64;
/// Dimensions of one tensor.
pub const DIMENSIONS: usize = 8;
/// Bytes of a prompt, all messages together.
pub const PROMPT_BYTES: usize = 256 * 1024;
/// Texts embedded by one prediction: their rows fit one frame at any usual width.
pub const EMBED_TEXTS: usize = 256;
/// Bytes of all texts that one prediction embeds: seconds of work on a small model, so that no call holds up the others for long.
pub const EMBED_BYTES: usize = 256 * 1024;
/// Conformance samples of one version: each is run whenever a node loads it.
pub const CONFORMANCE_SAMPLES: usize = 64;
/// Bytes of all tensors of a version's conformance samples: they travel to the publisher's node in one frame.
pub const CONFORMANCE_BYTES: usize = 3 * 1024 * 1024;
/// Pixels of a side of the pictures that a model takes: what it becomes must fit a call.
pub const PICTURE_SIDE: u32 = 2_048;
/// Samples a second of the sounds that a model takes: the highest rate in common use.
pub const SOUND_RATE: u32 = 192_000;
/// New tokens in one generation.
pub const NEW_TOKENS: u32 = 4_096;
/// Likeliest tokens told beside one that was given.
pub const TOP_SCORES: u8 = 20;
/// Bytes of a token told beside one that was given.
pub const SCORE_BYTES: usize = 64;
/// Tokens between two signed checkpoints of a stream.
pub const CHECKPOINT_TOKENS: u64 = 64;
/// Heights for which evidence against a signer is taken: more than a day at a block a second. Older evidence is refused, so
/// that nobody needs to know for ever who signed what.
pub const EVIDENCE_HEIGHTS: u64 = 100_000;
/// Milliseconds a block's time may be ahead of the voter's clock.
pub const CLOCK_SKEW_MS: u64 = 10_000;
/// Milliseconds the deadline of a request may lie ahead of now.
pub const REQUEST_HORIZON_MS: u64 = 10 * 60 * 1000;
/// Receipts in one reply.
pub const RECEIPTS: usize = 512;
/// Blocks in one reply.
pub const BLOCKS: usize = 64;
/// Digests in one proof: the depth of a 256-level tree.
pub const PROOF_DIGESTS: usize = 256;
/// Chunk numbers in one item of news of what a peer holds: some thousand are a second of a very fast line.
pub const HAVE_BATCH: usize = 1_024;
/// Cells of a picture of a transfer: about a terminal's width.
pub const PICTURE_CELLS: usize = 64;
/// Broken versions named in one report of the store: more would not be read by anyone; the counts are whole.
pub const BROKEN_VERSIONS: usize = 64;
/// Copies of a version that its publisher may ask the pool to hold, its own included: more would cost every provider more than
/// the next failure can.
pub const COPIES: u32 = 64;
/// All that members have to stake together is at most this, so that weights (stake times millionths) fit 64 bits.
pub const STAKE_TOTAL: u64 = (1 << 44) - 1;
/// Parts of one stake that may be leaving at a time.
pub const LEAVING: usize = 8;
/// Heights of a round's windows together: a stake that its validator takes back within them is still liable for what it says in them.
pub const ROUND_HEIGHTS: u64 = 100_000;
/// Heights for which what leaves a stake stays liable, beyond the window of convictions it leaves in: a round that it was committed to may
/// last so long, and evidence is taken so long after that.
pub const LIABLE_HEIGHTS: u64 = ROUND_HEIGHTS + EVIDENCE_HEIGHTS;
/// Disputes that one account may have open at a time: each gives a jury work.
pub const DISPUTES: u16 = 8;
/// Seats of a committee at most.
pub const SEATS: u16 = 64;
/// Leaves in one opening or contradiction at most: with their proofs they fit [`SIGNED_BYTES`].
pub const OPENED_LEAVES: u16 = 24;
/// Bytes of a sample that is shown to a jury, encoded with its salt: a picture, or some minutes of sound.
pub const SHOWN_BYTES: usize = 8 * 1024 * 1024;
/// Expected answers of one prompt, in data and as shown to a jury.
pub const ANSWERS: usize = 64;
/// Findings that one validator's agreement in an epoch is computed over at most; further ones earn nothing. Each is
/// compared with all before it.
pub const REWARDED: usize = 256;
/// The longest of a round's windows, and of a window of convictions, in heights.
pub const WINDOW_HEIGHTS: u64 = 100_000;
/// Rows of one call that an outcome speaks of: more are sent as several calls.
pub const OUTCOME_ROWS: usize = 1_024;
/// Bytes of an encoded outcome with its receipt, and with input and output if they go along: it must fit a frame with room to spare.
/// A larger one is sent without its input.
pub const OUTCOME_BYTES: usize = 2 * 1024 * 1024;
/// Outcomes that a model's owner keeps over all its models. Beyond that the account with the most loses its oldest.
pub const OUTCOMES: usize = 10_000;
/// Bytes of them.
pub const OUTCOMES_BYTES: u64 = 512 * 1024 * 1024;
/// Outcomes that one account may send to one owner in a day, those that were let go since counted; more are `Busy`.
pub const OUTCOMES_DAILY: usize = 2_000;
/// Outcomes of one page as a node shows them to its owner.
pub const OUTCOMES_PAGE: usize = 1_000;
/// Bytes of inputs after which a page ends: it must come within a call's patience.
pub const OUTCOMES_PAGE_BYTES: u64 = 32 * 1024 * 1024;
/// Age of a call of which an outcome is still taken, milliseconds: thirty days.
pub const OUTCOME_AGE_MS: u64 = 30 * 24 * 3_600_000;
