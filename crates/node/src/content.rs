//! The content secrets of this node's models, in files of their own: the publisher's, which a revocation replaces, and the
//! pool's, which publishers share.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use zero2ai_chunk::ContentSecret;
use zero2ai_proto::rpc::RpcError;
use zero2ai_store::secret_file;
use zeroize::Zeroizing;

use crate::{
    error::NodeError,
    serve::errors::{internal, store_error},
};

const OWN: &str = "content.key";
const POOL: &str = "pool-content.key";

/// See the module.
pub(crate) struct Contents {
    home: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    own: ContentSecret,
    pool: Option<ContentSecret>,
}

impl Contents {
    /// Reads what there is. The pool's maker also makes the pool's secret: everybody else gets it from a publisher.
    pub(crate) fn open(home: &Path, own: ContentSecret, is_maker: bool) -> Result<Self, NodeError> {
        let file = home.join(POOL);
        let pool = if secret_file::exists(&file)? {
            let bytes = secret_file::read(&file, 32)?;
            let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| NodeError::Home {
                path: home.to_owned(),
                why: format!("{POOL} is not 32 bytes long: restore it from a copy, or remove it to get it from a peer"),
            })?;
            Some(ContentSecret::from_bytes(bytes))
        } else if is_maker {
            let secret = ContentSecret::generate().map_err(|e| NodeError::Internal(e.to_string()))?;
            secret_file::write(&file, secret.as_bytes())?;
            Some(secret)
        } else {
            None
        };
        Ok(Self { home: home.to_owned(), held: Mutex::new(Held { own, pool }) })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The publisher's own secret: its private models are sealed under it.
    pub(crate) fn own(&self) -> ContentSecret {
        self.lock().own.clone()
    }

    /// Replaces the publisher's own secret. What was sealed before stays as it is; it shares no chunks with what is sealed
    /// from here on.
    pub(crate) fn renew_own(&self) -> Result<(), RpcError> {
        let secret = ContentSecret::generate().map_err(internal)?;
        let mut held = self.lock();
        secret_file::write(&self.home.join(OWN), secret.as_bytes()).map_err(store_error)?;
        held.own = secret;
        Ok(())
    }

    /// The pool's secret, if it is here.
    pub(crate) fn pool(&self) -> Option<ContentSecret> {
        self.lock().pool.clone()
    }

    /// Keeps the pool's secret, as a peer gave it.
    pub(crate) fn keep_pool(&self, secret: &Zeroizing<[u8; 32]>) -> Result<ContentSecret, RpcError> {
        let mut held = self.lock();
        secret_file::write(&self.home.join(POOL), secret.as_slice()).map_err(store_error)?;
        Ok(held.pool.insert(ContentSecret::from_bytes(**secret)).clone())
    }
}
