//! The DHT's records that this node holds, kept over a restart in a small file of the home: a pool whose nodes restart one
//! after the other loses none, and none of them takes an older record than it had. Only a copy of what the network has: if
//! it cannot be written or read, the node goes on, and the records come again from whoever publishes them.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_net::HeldRecord;
use zero2ai_proto::{ByteBuf, NodeId, decode, encode};
use zero2ai_store::atomic_write;

use crate::core::Core;

/// How often the file is written: what came since is lost in a crash, and is announced again within ten minutes.
const EVERY: Duration = Duration::from_secs(600);
/// Bytes of the file: all that a swarm holds, and what surrounds it.
const FILE_BYTES: usize = 160 * 1024 * 1024;

/// The file's form: of each record its key, its value, and the peer that brought it.
type Entries = Vec<(ByteBuf, ByteBuf, Option<NodeId>)>;

fn to_bytes(records: Vec<HeldRecord>) -> Result<Vec<u8>, String> {
    let entry = |held: HeldRecord| (ByteBuf::from(held.key), ByteBuf::from(held.value), held.from);
    encode(&records.into_iter().map(entry).collect::<Entries>()).map_err(|e| e.to_string())
}

fn from_bytes(bytes: &[u8]) -> Result<Vec<HeldRecord>, String> {
    let entries = decode::<Entries>(bytes, FILE_BYTES).map_err(|e| e.to_string())?;
    let record = |(key, value, from): (ByteBuf, ByteBuf, Option<NodeId>)| {
        Some(HeldRecord { key: <[u8; 32]>::try_from(key.as_ref()).ok()?, value: value.into_vec(), from })
    };
    entries.into_iter().map(record).collect::<Option<_>>().ok_or_else(|| "a key is not 32 bytes".to_owned())
}

/// What the file has; nothing if there is none, or if it cannot be read.
fn read(file: &Path) -> Vec<HeldRecord> {
    let too_large = std::fs::metadata(file).is_ok_and(|m| m.len() > FILE_BYTES as u64);
    let Some(bytes) = (!too_large).then(|| std::fs::read(file).ok()).flatten() else { return Vec::new() };
    from_bytes(&bytes).unwrap_or_else(|reason| {
        tracing::warn!(file = %file.display(), %reason, "the records of the DHT cannot be read: they will come again");
        Vec::new()
    })
}

/// Gives the swarm what it held before, then writes down what it holds, every so often and at the end.
pub(crate) async fn keep_records(core: Arc<Core>, stop: CancellationToken) {
    let file = core.home.join("records.cbor");
    let from = file.clone();
    let records = tokio::task::spawn_blocking(move || read(&from)).await.unwrap_or_default();
    let had = records.len();
    let restored = tokio::select! {
        // The file still has them all: what was taken of them until now is not written over it.
        () = stop.cancelled() => return,
        restored = core.net.restore_records(records) => restored,
    };
    if let Ok(taken) = restored
        && had > 0
    {
        tracing::info!(taken, had, "records of the DHT are held again");
    }
    loop {
        let last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        let Ok(records) = core.net.held_records().await else { return };
        let to = file.clone();
        let write = move || to_bytes(records).and_then(|b| atomic_write(&to, &b).map_err(|e| e.to_string()));
        if let Ok(Err(reason)) = tokio::task::spawn_blocking(write).await {
            tracing::warn!(%reason, "the records of the DHT were not written down");
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::SecretKey;

    use super::*;

    #[test]
    fn records_come_back_and_damage_is_nothing_to_die_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.cbor");
        assert!(read(&file).is_empty(), "there is none yet");
        let peer = SecretKey::from_bytes(&[3; 32]).public();
        let records = vec![
            HeldRecord { key: [1; 32], value: vec![1, 2, 3], from: Some(peer) },
            HeldRecord { key: [2; 32], value: Vec::new(), from: None },
        ];
        let bytes = to_bytes(records.clone()).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(read(&file), records);
        for cut in 0..bytes.len() {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            assert!(read(&file).is_empty(), "cut at {cut}");
        }
        std::fs::write(&file, encode(&vec![(ByteBuf::from([7_u8; 31]), ByteBuf::from([7_u8]), Some(peer))]).unwrap())
            .unwrap();
        assert!(read(&file).is_empty());
    }
}
