//! Scrubbing: what `store verify` does, by itself every so many days, and slowly enough that serving does not feel it.
//! When the last one ended, and what it found, is in a small file of the home.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    decode, encode,
    local::{ScrubReport, VerifyReport},
    rpc::RpcError,
};
use zero2ai_store::atomic_write;

use crate::{
    core::Core,
    serve::errors::{internal, store_error},
};

/// Bytes read a second: a hundredth of what one disk of a server gives, 3 days for 8 TiB.
pub(crate) const RATE: u64 = 32 * 1024 * 1024;
/// How often it is asked whether one is due.
const LOOK: Duration = Duration::from_secs(60);
/// How long after one that failed (a disk that refuses reads, say) the next is tried.
const AGAIN: Duration = Duration::from_secs(3600);
/// Bytes of the file.
const FILE_BYTES: usize = 1024;

/// True if a scrub is due `every` so many milliseconds, the last having ended at `last`. A clock that went back is no
/// reason to wait for years.
fn is_due(last: Option<u64>, now: u64, every: u64) -> bool {
    last.is_none_or(|last| now < last || now - last >= every)
}

impl Core {
    fn scrub_file(&self) -> PathBuf {
        self.home.join("scrub.cbor")
    }

    /// What the last scrub found. A file that cannot be read counts as none: the next scrub writes it again.
    pub(crate) fn last_scrub(&self) -> Option<ScrubReport> {
        let bytes = std::fs::read(self.scrub_file()).ok()?;
        decode(&bytes, FILE_BYTES)
            .inspect_err(|error| tracing::warn!(%error, "the word of the last scrub is damaged"))
            .ok()
    }

    /// One scrub. It keeps no collection away while it reads: what is deleted meanwhile is not read.
    pub(crate) async fn scrub(&self, rate: u64) -> Result<ScrubReport, RpcError> {
        let (unheard, _) = tokio::sync::mpsc::channel(1);
        let VerifyReport { checked, damaged, missing, healed, lost, .. } =
            self.check_store(&unheard, Some(rate)).await?;
        let report =
            ScrubReport { ended_ms: now_ms(), checked, damaged: damaged.saturating_add(missing), healed, lost };
        let (file, bytes) = (self.scrub_file(), encode(&report).map_err(internal)?);
        self.blocking(move || atomic_write(&file, &bytes).map_err(store_error)).await?;
        if report.lost > 0 {
            tracing::error!(
                lost = report.lost,
                "a scrub found damage that no peer could heal: see 'zero2ai store verify'"
            );
        } else {
            tracing::info!(checked, damaged = report.damaged, healed, "scrubbed");
        }
        Ok(report)
    }
}

/// Scrubs every so often, not before `settle` is over, until `stop`.
pub(crate) async fn keep_scrubbed(core: Arc<Core>, every: Duration, settle: Duration, stop: CancellationToken) {
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let mut wait = settle;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = LOOK;
        if !is_due(core.last_scrub().map(|s| s.ended_ms), now_ms(), every) {
            continue;
        }
        let scrubbed = tokio::select! {
            () = stop.cancelled() => return,
            scrubbed = core.scrub(RATE) => scrubbed,
        };
        if let Err(error) = scrubbed {
            tracing::warn!(%error, "a scrub was not finished; it is tried again in an hour");
            wait = AGAIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_is_due_when_the_last_is_old_or_unknown() {
        assert!(is_due(None, 5, 100));
        assert!(!is_due(Some(10), 109, 100) && is_due(Some(10), 110, 100));
        assert!(is_due(Some(1_000), 10, 100), "the clock went back");
    }
}
