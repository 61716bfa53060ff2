//! The home folder: one node's identity, its pool, and where its data lies. Secrets are files of their own, mode 0600,
//! never in the database.
//!
//! ```text
//! node.key      Ed25519 seed: the node's identity, of this pool alone
//! sealing.key   X25519 secret: manifest keys are wrapped to its public half
//! content.key   the publisher's content secret: chunks of its models are sealed under it
//! pool-content.key  the pool's content secret, on nodes that publish under it
//! pool.key      the pool key and its epoch
//! pool.cbor     genesis and the addresses we joined by
//! config.toml   settings, optional
//! peers.cbor    members heard of lately, and where: dialled at the next start
//! heights.cbor  how new the newest record was that was seen of each name
//! node.addr     while running: where peer RPC listens
//! ports         the ports of the last start, so that a restarted node is found where it was
//! http.token    the bearer token of the HTTP gateway, once there was one
//! http.tokens   others that were made beside it: their hashes
//! http.usage    what each of them has used
//! http.cert.pem http.key.pem  a certificate that was made here for HTTP over TLS
//! models.cbor   which versions are held, and which of them are to be served
//! grants/       manifest keys, wrapped to sealing.key
//! receipts/     the provider's receipt log
//! outcomes/     what callers said of this node's models, and what this node says of others' and has not told yet
//! store/ chain/ chunks and their index; blocks and the write-ahead log
//! ```

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zero2ai_chunk::{ContentSecret, SealingSecret};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ByteBuf, CodecError, PoolId, SecretKey, decode, encode,
    keys::random_bytes,
    limits::{OLD_POOL_KEYS, SIGNED_BYTES},
    pool::{Bootstrap, Genesis, Keyring, Nonce, OldKey, PoolKey},
    state::{Signer, SignerSet},
};
use zero2ai_store::secret_file;
use zeroize::Zeroizing;

use crate::error::NodeError;

/// Rules that a pool made by this program starts with.
pub const RULES: u16 = 1;

/// The newest pool key.
const KEY_FILE: &str = "pool.key";
/// Those before it.
const OLD_KEYS_FILE: &str = "pool.key.old";
/// One that this node made, until the ledger knows it.
const NEXT_KEY_FILE: &str = "pool.key.next";
/// Bytes of a file with one key at most.
const KEY_BYTES: usize = 256;
/// Bytes of the file with older ones at most.
const OLD_KEYS_BYTES: usize = 256 * OLD_POOL_KEYS;

/// An opened home folder with a pool in it.
pub struct Home {
    /// The folder.
    pub path: PathBuf,
    /// The node's identity.
    pub key: SecretKey,
    /// The node's sealing secret.
    pub sealing: SealingSecret,
    /// The publisher's content secret.
    pub content: ContentSecret,
    /// The pool's keys: the newest one known here, and those before it.
    pub pool_keys: Keyring,
    /// The encoded genesis.
    pub genesis: Vec<u8>,
    /// The pool.
    pub pool: PoolId,
    /// Nodes to knock at.
    pub bootstrap: Vec<Bootstrap>,
}

/// The keys that a node has before it has a pool.
pub(crate) struct Identity {
    pub key: SecretKey,
    pub sealing: SealingSecret,
    pub content: ContentSecret,
}

#[derive(Serialize, Deserialize)]
struct PoolFile {
    genesis: ByteBuf,
    bootstrap: Vec<Bootstrap>,
}

/// Where a running node of this home listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningAt {
    /// Peer RPC.
    pub rpc: SocketAddr,
    /// Its process.
    pub pid: u32,
}

impl Home {
    /// True if the folder holds a pool.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        path.join("pool.cbor").exists()
    }

    /// Opens a home that holds a pool.
    ///
    /// # Errors
    /// A file is missing, damaged, or readable by others.
    pub fn open(path: &Path) -> Result<Self, NodeError> {
        let fail = |why: String| NodeError::Home { path: path.to_owned(), why };
        if !Self::exists(path) {
            return Err(fail(
                "it holds no pool; make one with `zero2ai up` or join one with `zero2ai up --join INVITE`".into(),
            ));
        }
        let file = std::fs::read(path.join("pool.cbor")).map_err(|e| fail(format!("pool.cbor: {e}")))?;
        let file: PoolFile = decode(&file, 2 * SIGNED_BYTES).map_err(|e| fail(format!("pool.cbor is damaged: {e}")))?;
        let pool_keys = read_keys(path)?;
        let (_, pool) = Genesis::read(&file.genesis).map_err(|e| fail(format!("the genesis is damaged: {e}")))?;
        let Identity { key, sealing, content } = Identity::open(path)?;
        let genesis = file.genesis.into_vec();
        Ok(Self { path: path.to_owned(), key, sealing, content, pool_keys, genesis, pool, bootstrap: file.bootstrap })
    }

    /// The encoded genesis of a home, without a look at its keys.
    ///
    /// # Errors
    /// `pool.cbor` is missing or damaged.
    pub(crate) fn genesis(path: &Path) -> Result<Vec<u8>, NodeError> {
        let fail = |why: String| NodeError::Home { path: path.to_owned(), why };
        let file = std::fs::read(path.join("pool.cbor")).map_err(|e| fail(format!("pool.cbor: {e}")))?;
        let file: PoolFile = decode(&file, 2 * SIGNED_BYTES).map_err(|e| fail(format!("pool.cbor is damaged: {e}")))?;
        Genesis::read(&file.genesis).map_err(|e| fail(format!("the genesis is damaged: {e}")))?;
        Ok(file.genesis.into_vec())
    }

    /// Whose home it is.
    ///
    /// # Errors
    /// A key file is missing or damaged.
    pub(crate) fn identity(path: &Path) -> Result<zero2ai_proto::NodeId, NodeError> {
        Identity::open(path).map(|identity| identity.key.public())
    }

    /// Makes a pool whose first signer and administrator is this home's node.
    ///
    /// # Errors
    /// The folder holds a pool already, or cannot be written.
    pub fn create_pool(path: &Path) -> Result<PoolId, NodeError> {
        if Self::exists(path) {
            return Err(NodeError::Home { path: path.to_owned(), why: "it holds a pool already".into() });
        }
        let identity = Identity::open_or_create(path)?;
        let node = identity.key.public();
        let internal = |e: &dyn std::fmt::Display| NodeError::Internal(e.to_string());
        let signers = SignerSet::new(vec![Signer { key: node, power: 1 }])
            .ok_or_else(|| NodeError::Internal("a set of one signer is not valid".into()))?;
        let genesis = Genesis {
            version: 1,
            created_ms: now_ms(),
            nonce: Nonce::generate().map_err(|e| internal(&e))?,
            admin: node,
            admin_sealing: identity.sealing.public().map_err(|e| internal(&e))?,
            signers,
            rules_version: RULES,
        };
        let genesis = encode(&genesis)?;
        let key = PoolKey::generate().map_err(|e| internal(&e))?;
        write_pool(path, &genesis, &key, &[])?;
        Ok(PoolId::of(&genesis))
    }

    /// Says where the node listens, for the command line; removed when it stops.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_running(path: &Path, at: RunningAt) -> Result<(), NodeError> {
        let text = toml::to_string(&at).map_err(|e| NodeError::Internal(e.to_string()))?;
        Ok(secret_file::atomic_write(&path.join("node.addr"), text.as_bytes())?)
    }

    /// Where a running node of this home listens, if one does.
    #[must_use]
    pub fn running(path: &Path) -> Option<RunningAt> {
        toml::from_str(&std::fs::read_to_string(path.join("node.addr")).ok()?).ok()
    }

    pub(crate) fn remove_running(path: &Path) {
        // A stale file only makes the next command say that nobody answers there.
        let _ = std::fs::remove_file(path.join("node.addr"));
    }
}

/// Writes the pool's files: the key first, so that a home with `pool.cbor` is whole.
pub(crate) fn write_pool(path: &Path, genesis: &[u8], key: &PoolKey, bootstrap: &[Bootstrap]) -> Result<(), NodeError> {
    write_key(&path.join(KEY_FILE), key)?;
    write_bootstrap(path, genesis, bootstrap)
}

/// Writes what is no secret: the pool's genesis, and where to knock.
pub(crate) fn write_bootstrap(path: &Path, genesis: &[u8], bootstrap: &[Bootstrap]) -> Result<(), NodeError> {
    let file = PoolFile { genesis: ByteBuf::from(genesis), bootstrap: bootstrap.to_vec() };
    Ok(secret_file::atomic_write(&path.join("pool.cbor"), &encode(&file)?)?)
}

fn write_key(path: &Path, key: &PoolKey) -> Result<(), NodeError> {
    Ok(secret_file::write(path, &Zeroizing::new(encode(key)?))?)
}

/// One key out of a file; `None` if there is none.
fn read_key(path: &Path) -> Result<Option<PoolKey>, NodeError> {
    if !secret_file::exists(path)? {
        return Ok(None);
    }
    let bytes = Zeroizing::new(secret_file::read(path, KEY_BYTES)?);
    let fail = |e: CodecError| NodeError::Home { path: path.to_owned(), why: format!("it is damaged: {e}") };
    decode(&bytes, KEY_BYTES).map(Some).map_err(fail)
}

fn read_keys(path: &Path) -> Result<Keyring, NodeError> {
    let missing = || NodeError::Home { path: path.to_owned(), why: format!("{KEY_FILE} is missing") };
    let current = read_key(&path.join(KEY_FILE))?.ok_or_else(missing)?;
    let old = path.join(OLD_KEYS_FILE);
    let older: Vec<OldKey> = if secret_file::exists(&old)? {
        let bytes = Zeroizing::new(secret_file::read(&old, OLD_KEYS_BYTES)?);
        let fail = |e: CodecError| NodeError::Home { path: old, why: format!("it is damaged: {e}; delete it") };
        decode(&bytes, OLD_KEYS_BYTES).map_err(fail)?
    } else {
        Vec::new()
    };
    Ok(Keyring::new(current, older))
}

/// Takes a newer pool key into the home and into `keys`; the one before it is good until `until_ms`. A crash in between leaves
/// the older one.
pub(crate) fn renew_key(path: &Path, keys: &Keyring, key: PoolKey, until_ms: u64) -> Result<(), NodeError> {
    let after = Keyring::new(keys.current(), keys.older());
    after.renew(key.clone(), until_ms);
    secret_file::write(&path.join(OLD_KEYS_FILE), &Zeroizing::new(encode(&after.older())?))?;
    write_key(&path.join(KEY_FILE), &key)?;
    keys.renew(key, until_ms);
    // One that stays is older than the newest: nobody looks at it.
    let _ = std::fs::remove_file(path.join(NEXT_KEY_FILE));
    Ok(())
}

/// Keeps a key that the ledger is about to be told of, so that no crash loses the one that it then knows.
pub(crate) fn write_next_key(path: &Path, key: &PoolKey) -> Result<(), NodeError> {
    write_key(&path.join(NEXT_KEY_FILE), key)
}

/// See [`write_next_key`].
pub(crate) fn read_next_key(path: &Path) -> Result<Option<PoolKey>, NodeError> {
    read_key(&path.join(NEXT_KEY_FILE))
}

impl Identity {
    /// Reads the keys, or makes them in a folder that has none.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self, NodeError> {
        let io = |e: std::io::Error| NodeError::Home { path: path.to_owned(), why: format!("it cannot be made: {e}") };
        if !path.exists() {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        }
        for name in ["node.key", "sealing.key", "content.key"] {
            let file = path.join(name);
            // Never over a key that is there and cannot be seen.
            if !secret_file::exists(&file)? {
                let bytes: [u8; 32] = random_bytes().map_err(|e| NodeError::Internal(e.to_string()))?;
                secret_file::write(&file, Zeroizing::new(bytes).as_slice())?;
            }
        }
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, NodeError> {
        let read = |name: &str| -> Result<Zeroizing<[u8; 32]>, NodeError> {
            let bytes = secret_file::read(&path.join(name), 32)?;
            let array = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| NodeError::Home {
                path: path.to_owned(),
                why: format!("{name} is not 32 bytes long: restore it from a copy"),
            })?;
            Ok(Zeroizing::new(array))
        };
        Ok(Self {
            key: SecretKey::from_bytes(&*read("node.key")?),
            sealing: SealingSecret::from_bytes(*read("sealing.key")?),
            content: ContentSecret::from_bytes(*read("content.key")?),
        })
    }
}

/// The ports of the last start, taken when the configuration leaves them open.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub rpc: u16,
    pub swarm: u16,
}

impl Ports {
    pub(crate) fn read(path: &Path) -> Self {
        std::fs::read_to_string(path.join("ports")).ok().and_then(|t| toml::from_str(&t).ok()).unwrap_or_default()
    }

    pub(crate) fn write(self, path: &Path) -> Result<(), NodeError> {
        let text = toml::to_string(&self).map_err(|e| NodeError::Internal(e.to_string()))?;
        Ok(secret_file::atomic_write(&path.join("ports"), text.as_bytes())?)
    }
}
