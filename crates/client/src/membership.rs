//! A membership of one pool: the account's key, and all that is needed to connect again. Kept in one file of mode 0600, or
//! in memory alone. It holds the account's secret and the pool key in the clear.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zero2ai_proto::{
    ByteBuf, PoolId, SealingKey, SecretKey, decode, encode,
    keys::random_bytes,
    limits::SIGNED_BYTES,
    pool::{Bootstrap, Invite, PoolKey},
};

use crate::{
    client::{Client, ClientConfig},
    error::ClientError,
};

/// Bytes of a membership's file at most: a genesis, an invite's addresses and two keys.
const FILE_BYTES: usize = 2 * SIGNED_BYTES;

/// See the module.
#[derive(Clone, Debug)]
pub struct Membership {
    key: SecretKey,
    pool: PoolId,
    pool_key: PoolKey,
    bootstrap: Vec<Bootstrap>,
    /// `None` until the ticket is redeemed.
    genesis: Option<Vec<u8>>,
}

/// What the file holds. It is read by the program that wrote it alone, and is no part of the wire.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u16,
    seed: ByteBuf,
    pool: PoolId,
    pool_key: PoolKey,
    bootstrap: Vec<Bootstrap>,
    genesis: Option<ByteBuf>,
}

impl Membership {
    /// A fresh account that may join the invite's pool. Nothing is sent: [`Client::join`] redeems the ticket.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn new(invite: &Invite) -> Result<Self, ClientError> {
        let key = SecretKey::generate().map_err(|e| ClientError::Randomness(e.to_string()))?;
        let Invite { pool, key: pool_key, bootstrap, .. } = invite.clone();
        Ok(Self { key, pool, pool_key, bootstrap, genesis: None })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// True once a ticket was redeemed for it.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.genesis.is_some()
    }

    /// What a client of this membership is made of.
    #[must_use]
    pub fn config(&self) -> ClientConfig {
        ClientConfig {
            key: self.key.clone(),
            pool: self.pool,
            pool_key: self.pool_key.clone(),
            bootstrap: self.bootstrap.iter().map(|b| (b.node, b.addresses.clone())).collect(),
            genesis: self.genesis.clone(),
        }
    }

    /// Reads a membership; `None` if there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, ClientError> {
        let fail = |why: &dyn std::fmt::Display| ClientError::Membership {
            path: path.to_owned(),
            why: format!("it cannot be read: {why}"),
        };
        let file = match fs::File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| fail(&e))?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
        let stored: Stored = decode(&bytes, FILE_BYTES).map_err(|e| fail(&e))?;
        let seed = <[u8; 32]>::try_from(stored.seed.as_slice()).map_err(|_| fail(&"its key is no key"))?;
        if stored.version != 1 {
            return Err(fail(&format!("version {} is not known to this program", stored.version)));
        }
        Ok(Some(Self {
            key: SecretKey::from_bytes(&seed),
            pool: stored.pool,
            pool_key: stored.pool_key,
            bootstrap: stored.bootstrap,
            genesis: stored.genesis.map(ByteBuf::into_vec),
        }))
    }

    /// Writes it, mode 0600, durably and whole: first beside `path`, then in its place.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), ClientError> {
        let stored = Stored {
            version: 1,
            seed: ByteBuf::from(self.key.to_bytes().to_vec()),
            pool: self.pool,
            pool_key: self.pool_key.clone(),
            bootstrap: self.bootstrap.clone(),
            genesis: self.genesis.clone().map(ByteBuf::from),
        };
        write_secret(path, &encode(&stored)?)
            .map_err(|e| ClientError::Membership { path: path.to_owned(), why: format!("it cannot be written: {e}") })
    }
}

/// A neighbour first, then a rename, then the folder: no half of it is ever seen.
fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
        return written;
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    fs::File::open(folder)?.sync_all()
}

impl Client {
    /// Connects with a membership; one that is not admitted yet has `invite`'s ticket redeemed first. Gives the client and
    /// the membership as it is now: keep it, since every fresh one uses the ticket up by one.
    ///
    /// # Errors
    /// As [`Client::connect`] and [`Client::redeem`]; no invite where one is needed, or one of another pool.
    pub async fn join(mut membership: Membership, invite: Option<&Invite>) -> Result<(Self, Membership), ClientError> {
        let (pool, got) = (membership.pool, invite.map(|i| i.pool));
        if let Some(got) = got.filter(|got| *got != pool) {
            return Err(ClientError::OtherPool { what: "invite", got, expected: pool });
        }
        let client = Self::connect(membership.config()).await?;
        if !membership.is_admitted() {
            let invite = invite.ok_or(ClientError::NotAdmitted(client.id()))?;
            // Where a member's keys are wrapped to. This account opens no models: nobody holds the secret of its key.
            let sealing = SealingKey(random_bytes().map_err(|e| ClientError::Randomness(e.to_string()))?);
            membership.genesis = Some(client.redeem(invite, sealing).await?.genesis);
        }
        membership.pool_key = client.pool_key();
        Ok((client, membership))
    }

    /// Joins with an invite, or connects again, with the membership in the file `path`. The file is made before the ticket
    /// is redeemed, so that no crash in between uses up another one.
    ///
    /// # Errors
    /// As [`Client::join`]; the file cannot be read or written, or there is neither file nor invite.
    pub async fn open(path: &Path, invite: Option<&Invite>) -> Result<Self, ClientError> {
        let membership = match (Membership::load(path)?, invite) {
            (Some(membership), _) => membership,
            (None, Some(invite)) => {
                let fresh = Membership::new(invite)?;
                fresh.save(path)?;
                fresh
            }
            (None, None) => {
                let why = "there is no such file, and no invite to make one with".to_owned();
                return Err(ClientError::Membership { path: path.to_owned(), why });
            }
        };
        let (admitted, epoch) = (membership.is_admitted(), membership.pool_key.epoch);
        let (client, membership) = Self::join(membership, invite).await?;
        if !admitted || membership.pool_key.epoch != epoch {
            membership.save(path)?;
        }
        Ok(client)
    }
}
