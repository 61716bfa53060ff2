//! What a model is made of: model → file → part (tensor or header) → chunks; plain for those who were granted its key,
//! sealed for everyone else.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroize;

use crate::{
    ids::{Cid, Digest, ManifestId, PoolId},
    keys::NodeId,
    limits::{
        CHUNK_BYTES, CONFORMANCE_BYTES, CONFORMANCE_SAMPLES, FILE_PARTS, LABEL_BYTES, MANIFEST_CHUNKS, MANIFEST_FILES,
        SEAL_OVERHEAD, TENSORS,
    },
    name::ModelName,
    prepare::Preparation,
    tensor::Tensor,
};

/// Who can derive a chunk's key from its plaintext (identical plaintext has one ciphertext within a domain), and whom a
/// version's key is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Domain {
    /// Sealed under a constant: gives deduplication with everyone's models, not secrecy. Keys go to all providers and
    /// validators.
    Public,
    /// Sealed under the pool's content secret, which its publishers share: deduplication within the pool. Keys go to all
    /// its providers and validators.
    Pool,
    /// Sealed under the publisher's own content secret. Keys go to members whom the ledger grants the model.
    Private,
}

/// Format of a model's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// ONNX protobuf.
    Onnx,
    /// GGUF version 2 or 3.
    Gguf,
    /// safetensors.
    Safetensors,
    /// Anything else: stored and served as bytes, not run.
    Opaque,
}

/// What a model does, as far as the network must know to call and grade it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Tensors in, tensors out, nothing more is known.
    Tensors,
    /// The first output's last dimension holds one score per class.
    Classify {
        /// Number of classes.
        classes: u16,
    },
    /// Text in, text out, token by token.
    Generate {
        /// Longest context, tokens.
        context: u32,
    },
    /// Texts in, one row of numbers each out; see [`crate::texts`].
    Embed {
        /// Numbers of a row.
        width: u32,
        /// Longest text, tokens.
        context: u32,
    },
}

/// Golden input and output: a node that cannot reproduce them does not serve the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConformanceSample {
    /// What goes in.
    pub inputs: Vec<Tensor>,
    /// What must come out.
    pub outputs: Vec<Tensor>,
    /// Largest absolute difference allowed, in millionths.
    pub tolerance_ppm: u32,
}

impl ConformanceSample {
    /// Checks that `samples` are within their bounds and that each says something.
    ///
    /// # Errors
    /// Says which sample is wrong in what.
    pub fn check_all(samples: &[Self]) -> Result<(), ManifestError> {
        let fail = |why: String| Err(ManifestError(why));
        if samples.len() > CONFORMANCE_SAMPLES {
            return fail(format!("{} conformance samples; at most {CONFORMANCE_SAMPLES} are allowed", samples.len()));
        }
        let mut bytes = 0usize;
        for (index, sample) in samples.iter().enumerate() {
            let number = index.saturating_add(1);
            let count = 1..=TENSORS;
            if !count.contains(&sample.inputs.len()) || !count.contains(&sample.outputs.len()) {
                return fail(format!("conformance sample {number} needs 1 to {TENSORS} inputs and as many outputs"));
            }
            for tensor in sample.inputs.iter().chain(&sample.outputs) {
                tensor.check().map_err(|e| ManifestError(format!("conformance sample {number}: {e}")))?;
                bytes = bytes.saturating_add(tensor.data.len());
            }
        }
        if bytes > CONFORMANCE_BYTES {
            return fail(format!(
                "its conformance samples have {bytes} bytes; at most {CONFORMANCE_BYTES} are allowed"
            ));
        }
        Ok(())
    }
}

/// One chunk: its plaintext is a piece of the file, or what turns a piece of an older version into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Name of its ciphertext.
    pub cid: Cid,
    /// BLAKE3 of its plaintext, from which its key is derived.
    pub plain: Digest,
    /// Bytes of plaintext, 1 to [`CHUNK_BYTES`].
    pub len: u32,
    /// Absent: the plaintext is the piece. Present: the plaintext is zstd of the difference to another chunk. An absent field
    /// is left out of the encoding, so that a manifest without deltas has the bytes of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
}

impl ChunkRef {
    /// Bytes of the file that this chunk stands for.
    #[must_use]
    pub fn piece_len(&self) -> u32 {
        self.delta.as_ref().map_or(self.len, |d| d.base.len)
    }

    /// BLAKE3 of the bytes of the file that this chunk stands for.
    #[must_use]
    pub fn piece_hash(&self) -> &Digest {
        self.delta.as_ref().map_or(&self.plain, |d| &d.piece)
    }
}

/// How a chunk turns a base chunk into a piece of the file: the plaintext is zstd of `base XOR piece`, bytes grouped by their
/// place in an element. The base is plain by its type, so a chain of deltas has one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The chunk it is the difference to; as long as the piece.
    pub base: BaseChunk,
    /// BLAKE3 of the piece.
    pub piece: Digest,
    /// Bytes of an element, by which bytes are grouped: 1, 2, 4 or 8.
    pub width: u8,
}

/// A chunk that deltas start from, sealed in the same domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChunk {
    /// Name of its ciphertext.
    pub cid: Cid,
    /// BLAKE3 of its plaintext, from which its key is derived.
    pub plain: Digest,
    /// Bytes of plaintext, 1 to [`CHUNK_BYTES`].
    pub len: u32,
}

impl BaseChunk {
    /// The same chunk as one that stands for its own bytes.
    #[must_use]
    pub fn chunk(&self) -> ChunkRef {
        ChunkRef { cid: self.cid, plain: self.plain, len: self.len, delta: None }
    }
}

/// A header or a tensor: cut on its own, so that an unchanged one is the same chunks in the next version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The tensor's name, or `#header` or `#gap`.
    pub name: String,
    /// Its bytes, in order.
    pub chunks: Vec<ChunkRef>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative path: parts between `/`, none of them empty, `.` or `..`, no control characters or `\\`; for people, never
    /// opened as such.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the whole file.
    pub hash: Digest,
    /// Its bytes, in order.
    pub parts: Vec<Part>,
}

/// Everything about one version, for those who may open it. Holds the content secret: zeroized when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model.
    pub name: ModelName,
    /// Its version, from 1.
    pub version: u32,
    /// Format of its files.
    pub format: Format,
    /// What it does.
    pub task: Task,
    /// Sealing domain of its chunks.
    pub domain: Domain,
    /// Content secret of that domain.
    #[serde(with = "serde_bytes")]
    pub secret: [u8; 32],
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Golden inputs and outputs.
    pub conformance: Vec<ConformanceSample>,
    /// How pictures or sounds become its inputs. An absent field is left out of the encoding, so that a manifest without it has
    /// the bytes of the versions before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
}

impl Drop for Manifest {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({}@{}, {} files)", self.name, self.version, self.files.len())
    }
}

/// A manifest whose numbers are beyond their bounds or contradict each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the manifest is not usable: {0}")]
pub struct ManifestError(pub String);

impl Manifest {
    /// Every chunk in file order.
    pub fn chunks(&self) -> impl Iterator<Item = &ChunkRef> {
        self.files.iter().flat_map(|f| &f.parts).flat_map(|p| &p.chunks)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).fold(0, u64::saturating_add)
    }

    /// True if a chunk is a delta.
    #[must_use]
    pub fn has_deltas(&self) -> bool {
        self.chunks().any(|c| c.delta.is_some())
    }

    /// The version of its sealed shape.
    #[must_use]
    pub fn sealed_version(&self) -> u16 {
        if self.preparation.is_some() {
            SealedManifest::WITH_PREPARATION
        } else if self.has_deltas() {
            SealedManifest::WITH_DELTAS
        } else {
            1
        }
    }

    /// Checks every bound and that chunk lengths add up to file sizes.
    ///
    /// # Errors
    /// Says the first thing that is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        let fail = |why: String| Err(ManifestError(why));
        if self.files.is_empty() || self.files.len() > MANIFEST_FILES {
            return fail(format!("{} files; 1 to {MANIFEST_FILES} are allowed", self.files.len()));
        }
        // A base counts as a chunk of its own: opening the delta reads both.
        if self.chunks().map(|c| 1 + usize::from(c.delta.is_some())).sum::<usize>() > MANIFEST_CHUNKS {
            return fail(format!("more than {MANIFEST_CHUNKS} chunks"));
        }
        let mut paths = BTreeSet::new();
        for file in &self.files {
            if !path_is_usable(&file.path) || !paths.insert(file.path.as_str()) {
                return fail("a file's path is not a relative one, is too long, or is there twice".into());
            }
            if file.parts.len() > FILE_PARTS || file.parts.iter().any(|p| p.name.len() > LABEL_BYTES) {
                return fail("a part's name or the number of parts is out of bounds".into());
            }
            let chunks = || file.parts.iter().flat_map(|p| &p.chunks);
            if !chunks().all(chunk_is_usable) {
                return fail(format!("a chunk of {} is empty, too long, or a delta of impossible sizes", file.path));
            }
            if chunks().map(|c| u64::from(c.piece_len())).sum::<u64>() != file.size {
                return fail(format!("the chunks of {} do not add up to its size", file.path));
            }
        }
        ConformanceSample::check_all(&self.conformance)?;
        self.preparation.as_ref().map_or(Ok(()), Preparation::check)
    }
}

/// True if `path` can stand in a manifest; see [`FileEntry::path`].
#[must_use]
pub fn path_is_usable(path: &str) -> bool {
    path.len() <= LABEL_BYTES
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && !path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

fn chunk_is_usable(chunk: &ChunkRef) -> bool {
    let fits = |len: u32| (1..=CHUNK_BYTES).contains(&(len as usize));
    // A delta that is no shorter than the piece has no reason to be; refusing it bounds what decompression may be asked.
    fits(chunk.len)
        && chunk.delta.as_ref().is_none_or(|d| {
            fits(d.base.len) && chunk.len < d.base.len && matches!(d.width, 1 | 2 | 4 | 8) && d.base.cid != chunk.cid
        })
}

/// One entry of the list that seeders read: enough to hold and check ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedChunk {
    /// Name of the ciphertext.
    pub cid: Cid,
    /// Bytes of ciphertext.
    pub len: u32,
}

/// A manifest as it is stored and sent: an open list of ciphertexts, and a body under a key of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedManifest {
    /// Version of this shape: [`SealedManifest::WITH_PREPARATION`] if the body says how its input is prepared, else
    /// [`SealedManifest::WITH_DELTAS`] if a chunk of it is a delta, else 1.
    pub version: u16,
    /// Every distinct ciphertext of the model, in first-use order; the base of a delta right before it.
    pub chunks: Vec<SealedChunk>,
    /// AES-256-GCM of the encoded [`Manifest`] under a key made for this sealing alone (so the zero nonce is used once).
    pub body: ByteBuf,
}

impl SealedManifest {
    /// The version of a manifest in which a chunk is a delta.
    pub const WITH_DELTAS: u16 = 2;
    /// The version of a manifest that says how its input is prepared, with or without deltas.
    pub const WITH_PREPARATION: u16 = 3;

    /// Bytes of all ciphertexts.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        self.chunks.iter().map(|c| u64::from(c.len)).sum()
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// Says the first thing that is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        if !(1..=Self::WITH_PREPARATION).contains(&self.version) {
            return Err(ManifestError(format!("its version {} is not known to this program", self.version)));
        }
        if self.chunks.is_empty() || self.chunks.len() > MANIFEST_CHUNKS {
            return Err(ManifestError(format!("{} chunks; 1 to {MANIFEST_CHUNKS} are allowed", self.chunks.len())));
        }
        let range = SEAL_OVERHEAD + 1..=CHUNK_BYTES + SEAL_OVERHEAD;
        if self.chunks.iter().any(|c| !range.contains(&(c.len as usize))) {
            return Err(ManifestError("a chunk's length is out of bounds".into()));
        }
        Ok(())
    }
}

/// What a wrapped secret opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// One sealing of a manifest: for those who run the model.
    Manifest(ManifestId),
    /// The pool's content secret: for its publishers.
    PoolContent,
}

/// What a wrapped secret is bound to: HPKE's `info` is the encoding of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantInfo {
    /// The pool.
    pub pool: PoolId,
    /// What the secret opens.
    pub subject: Subject,
    /// Who may unwrap it.
    pub grantee: NodeId,
    /// The pool key's epoch at the time.
    pub epoch: u32,
}

/// A secret of 32 bytes wrapped to one node's sealing key: HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
/// AES-256-GCM (RFC 9180).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// What it is bound to.
    pub info: GrantInfo,
    /// HPKE's encapsulated key, 32 bytes.
    pub encapsulated: ByteBuf,
    /// The sealed secret, 48 bytes.
    pub ciphertext: ByteBuf,
}
