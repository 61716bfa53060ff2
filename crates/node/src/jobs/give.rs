//! Gives the plaintext of a held version to this node's own user, chunk by chunk. The node itself writes none of it.

use tokio::sync::mpsc;
use zero2ai_proto::{
    ByteBuf,
    limits::MANIFEST_FILES,
    local::{OpenCall, OpenFiles, OpenItem, OpenedFile},
    manifest::Manifest,
    rpc::RpcError,
};
use zero2ai_rpc::ReplySink;
use zero2ai_store::Store;

use crate::{
    core::Core,
    jobs::load::{check_entry, piece},
    serve::errors::{denied, internal},
};

/// Opened chunks that wait to be sent; while they do, none is opened.
const AHEAD: usize = 4;

impl Core {
    /// See the module. What the ledger does not let this node open is refused, also if an older key is still here.
    pub(crate) async fn give_files(&self, call: OpenCall, reply: &mut ReplySink) -> Result<(), RpcError> {
        let OpenCall { name, version } = call;
        let entry = self.version(&name, version).await?;
        if !self.chain.read(|l| l.may_open(&name, version, &self.id)) {
            return Err(denied(format!(
                "the ledger does not let this node open {name}@{version}: it holds ciphertext. Its publisher can change \
                 that with 'zero2ai grant {name} {}'",
                self.id
            )));
        }
        let manifest = self.manifest(&entry.manifest)?;
        check_entry(&manifest, &name, version, &entry)?;
        let list = manifest.files.iter().take(MANIFEST_FILES);
        let list = list.map(|f| OpenedFile { path: f.path.clone(), size: f.size, hash: f.hash }).collect();
        reply.item::<OpenFiles>(&OpenItem::List(list)).await?;
        let (send, mut opened) = mpsc::channel(AHEAD);
        let store = self.store.clone();
        let opening = tokio::task::spawn_blocking(move || open_all(&store, &manifest, &send));
        while let Some(bytes) = opened.recv().await {
            reply.item::<OpenFiles>(&OpenItem::Bytes(ByteBuf::from(bytes))).await?;
        }
        opening.await.map_err(internal)?
    }
}

/// Opens every chunk in order, until the last or until nobody takes them any more.
fn open_all(store: &Store, manifest: &Manifest, send: &mpsc::Sender<Vec<u8>>) -> Result<(), RpcError> {
    for chunk in manifest.chunks() {
        if send.blocking_send(piece(store, manifest, chunk)?).is_err() {
            return Ok(()); // The caller went away.
        }
    }
    Ok(())
}
