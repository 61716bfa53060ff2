//! Keys that this node was given: asked of peers, kept wrapped to its own sealing key. Who may have one is the ledger's to
//! say, and `serve/chunks` asks it before a key leaves.

use std::{path::PathBuf, time::Duration};

use zero2ai_chunk::{ContentSecret, ManifestKey, unwrap_secret, wrap_secret};
use zero2ai_proto::{
    ManifestId, NodeId,
    calls::{Grant, GrantCall},
    decode, encode,
    manifest::{Domain, GrantInfo, Subject, WrappedKey},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_rpc::CallError;
use zero2ai_store::atomic_write;
use zeroize::Zeroizing;

use crate::{
    core::Core,
    serve::errors::{internal, store_error, unavailable},
};

/// How long a peer may take to wrap a key.
const GRANT: Duration = Duration::from_secs(5);
/// Bytes of an encoded wrapped key: three ids, an encapsulated key and a ciphertext.
const WRAPPED_BYTES: usize = 1_024;

impl Core {
    fn grant_info(&self, subject: Subject) -> GrantInfo {
        GrantInfo { pool: self.pool, subject, grantee: self.id, epoch: self.pool_keys.epoch() }
    }

    /// The same, in the epoch that is told.
    fn told_info(&self, subject: Subject, wrapped: &WrappedKey) -> GrantInfo {
        GrantInfo { epoch: wrapped.info.epoch, ..self.grant_info(subject) }
    }

    fn grant_path(&self, manifest: &ManifestId) -> PathBuf {
        self.home.join("grants").join(manifest.to_string())
    }

    /// Keeps a manifest key, wrapped to our own sealing key, in a file of its own: the database holds nothing that could
    /// not be rebuilt, and no file holds the key in the clear.
    pub(crate) fn keep_key(&self, manifest: ManifestId, key: &ManifestKey) -> Result<(), RpcError> {
        let (own, info) = (self.sealing.public().map_err(internal)?, self.grant_info(Subject::Manifest(manifest)));
        let wrapped = wrap_secret(key.as_bytes(), &own, info).map_err(internal)?;
        atomic_write(&self.grant_path(&manifest), &encode(&wrapped).map_err(internal)?).map_err(store_error)
    }

    /// The key of a manifest, if this node was granted it.
    pub(crate) fn manifest_key(&self, manifest: &ManifestId) -> Result<Option<ManifestKey>, RpcError> {
        let bytes = match std::fs::read(self.grant_path(manifest)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(RpcError::new(ErrorCode::Storage, format!("a granted key cannot be read: {e}"))),
        };
        let wrapped: WrappedKey = decode(&bytes, WRAPPED_BYTES).map_err(internal)?;
        // Wrapped by ourselves, in whatever epoch it was then.
        let info = self.told_info(Subject::Manifest(*manifest), &wrapped);
        let key = unwrap_secret(&wrapped, &self.sealing, &info).map_err(internal)?;
        Ok(Some(ManifestKey::from_bytes(*key)))
    }

    /// Asks peers for a manifest's key until one gives it.
    ///
    /// # Errors
    /// `Denied` if a peer says that the ledger does not let this node open it.
    pub(crate) async fn obtain_key(&self, manifest: ManifestId, peers: &[NodeId]) -> Result<(), RpcError> {
        if self.manifest_key(&manifest)?.is_some() {
            return Ok(());
        }
        let key = self.obtain(Subject::Manifest(manifest), peers).await?;
        self.keep_key(manifest, &ManifestKey::from_bytes(*key))
    }

    /// The secret that a domain's chunks are sealed under. The pool's is asked of other publishers, its maker first.
    pub(crate) async fn content_secret(&self, domain: Domain) -> Result<ContentSecret, RpcError> {
        match domain {
            Domain::Public => return Ok(ContentSecret::public()),
            Domain::Private => return Ok(self.contents.own()),
            Domain::Pool => {}
        }
        if let Some(secret) = self.contents.pool() {
            return Ok(secret);
        }
        let maker = self.chain.read(|l| l.genesis_state().admin);
        let mut peers = vec![maker];
        peers.extend(self.chain.read(|l| {
            let publishes = |n: &NodeId| l.member(n).is_some_and(|m| m.rights.has(Rights::PUBLISHER));
            self.others().into_iter().filter(|n| *n != maker && publishes(n)).collect::<Vec<_>>()
        }));
        let secret = self.obtain(Subject::PoolContent, &peers).await.map_err(|e| {
            let why = format!(
                "the pool's content secret could not be had, so nothing was published: {e}. Try again when the \
                               pool's maker or another publisher is up, or publish with --domain private"
            );
            RpcError::new(e.code, why)
        })?;
        self.contents.keep_pool(&secret)
    }

    /// Asks one peer after another. A refusal for good is told rather than anything else, and what a peer said rather than that
    /// another was not there.
    async fn obtain(&self, subject: Subject, peers: &[NodeId]) -> Result<Zeroizing<[u8; 32]>, RpcError> {
        let mut last = unavailable("no peer could be asked for the key");
        let mut said = false;
        for peer in peers {
            let why = match self.roads.call::<Grant>(peer, &GrantCall { subject }, GRANT).await {
                // Its pool key may be an epoch older or newer than ours: that changes nothing of what is wrapped.
                Ok(wrapped) => match unwrap_secret(&wrapped, &self.sealing, &self.told_info(subject, &wrapped)) {
                    Ok(secret) => return Ok(secret),
                    Err(error) => internal(format!("{} sent a key that does not open: {error}", peer.short())),
                },
                Err(CallError::Remote(error)) => {
                    said = true;
                    error
                }
                Err(_) if said => continue,
                Err(error) => unavailable(error),
            };
            if last.code != ErrorCode::Denied {
                last = why;
            }
        }
        Err(last)
    }
}
