//! What this node gives to the swarm and takes from it: upload slots, and limits of bytes a second each way.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use zero2ai_proto::limits::CHUNK_BYTES;

use crate::bucket::TokenBucket;

/// Longest wait of an upload for its turn: beyond it the peer is told to ask elsewhere.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Bytes a second in one Mbit/s.
const MBIT: u64 = 1_000_000 / 8;

/// Limits of all transfers together. 0 is no limit, everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficLimits {
    /// Chunks being read and sent to peers at once: bounds memory to this many MiB.
    pub upload_slots: u32,
    /// Mbit/s (10^6 bit) of ciphertext to peers.
    pub upload_mbit: u64,
    /// Mbit/s of ciphertext from peers.
    pub download_mbit: u64,
}

/// The limits at work; clones share them.
#[derive(Clone)]
pub struct Traffic(Arc<Shared>);

struct Shared {
    slots: u32,
    taken: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
    upload: Option<Mutex<TokenBucket>>,
    download: Option<Mutex<TokenBucket>>,
    start: Instant,
}

impl Default for Traffic {
    fn default() -> Self {
        Self::new(TrafficLimits::default())
    }
}

impl Traffic {
    /// Traffic under `limits`.
    #[must_use]
    pub fn new(limits: TrafficLimits) -> Self {
        let bucket = |mbit: u64| {
            let rate = mbit.saturating_mul(MBIT);
            // Two seconds' worth, since transfers look about once a second; and two chunks, or nothing would ever flow.
            (mbit > 0).then(|| Mutex::new(TokenBucket::new(rate, rate.saturating_mul(2).max(2 * CHUNK_BYTES as u64))))
        };
        Self(Arc::new(Shared {
            slots: if limits.upload_slots == 0 { u32::MAX } else { limits.upload_slots },
            taken: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            upload: bucket(limits.upload_mbit),
            download: bucket(limits.download_mbit),
            start: Instant::now(),
        }))
    }

    fn with<T>(&self, bucket: &Mutex<TokenBucket>, f: impl FnOnce(&mut TokenBucket, u64) -> T) -> T {
        let now_us = u64::try_from(self.0.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        f(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner), now_us)
    }

    /// A slot to send one chunk in; `None`, at once, if all are taken or the line is booked for long: the peer should ask
    /// elsewhere.
    #[must_use]
    pub fn upload_slot(&self) -> Option<UploadSlot> {
        if let Some(bucket) = &self.0.upload
            && self.with(bucket, TokenBucket::debt_us) > LONGEST_WAIT.as_micros() as u64
        {
            return None;
        }
        let more = |taken: u32| (taken < self.0.slots).then_some(taken.saturating_add(1));
        self.0.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(UploadSlot { traffic: self.clone() })
    }

    /// Bytes that may be asked of peers now; `None` is any number.
    pub(crate) fn may_download(&self) -> Option<u64> {
        let bucket = self.0.download.as_ref()?;
        Some(self.with(bucket, TokenBucket::spare))
    }

    /// Bytes given to peers, and bytes asked of them, since the start.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.0.sent.load(Ordering::Relaxed), self.0.received.load(Ordering::Relaxed))
    }

    /// `bytes` are being asked of a peer.
    pub(crate) fn downloading(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bucket) = &self.0.download {
            self.with(bucket, |b, now| b.take(now, bytes));
        }
    }
}

/// One chunk's place among those being sent; given back when dropped.
pub struct UploadSlot {
    traffic: Traffic,
}

impl UploadSlot {
    /// Waits until `bytes` may flow.
    pub async fn pace(&self, bytes: u64) {
        self.traffic.0.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bucket) = &self.traffic.0.upload {
            let wait_us = self.traffic.with(bucket, |b, now| b.take(now, bytes));
            sleep(Duration::from_micros(wait_us)).await;
        }
    }
}

impl Drop for UploadSlot {
    fn drop(&mut self) {
        self.traffic.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn slots_are_given_and_taken_back_and_none_is_unlimited() {
        let traffic = Traffic::new(TrafficLimits { upload_slots: 2, ..TrafficLimits::default() });
        let (first, second) = (traffic.upload_slot().unwrap(), traffic.upload_slot());
        assert!(second.is_some() && traffic.upload_slot().is_none());
        drop(first);
        assert!(traffic.upload_slot().is_some());
        let free = Traffic::default();
        let many: Vec<_> = (0..1_000).filter_map(|_| free.upload_slot()).collect();
        assert_eq!(many.len(), 1_000);
        assert_eq!(free.may_download(), None);
    }

    #[tokio::test]
    async fn uploads_wait_their_turn_and_a_booked_line_is_busy_at_once() {
        // 10 MB a second and a burst of 20 MB.
        let traffic = Traffic::new(TrafficLimits { upload_mbit: 80, ..TrafficLimits::default() });
        let begin = Instant::now();
        for _ in 0..21 {
            traffic.upload_slot().unwrap().pace(1_000_000).await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(95), "the burst is 2 s' worth: {:?}", begin.elapsed());
        let slot = traffic.upload_slot().unwrap();
        let mut pace = Box::pin(slot.pace(60_000_000));
        assert!(futures::poll!(&mut pace).is_pending());
        assert!(traffic.upload_slot().is_none(), "six seconds are booked");
    }

    #[test]
    fn what_is_asked_for_counts_against_the_download() {
        let traffic = Traffic::new(TrafficLimits { download_mbit: 80, ..TrafficLimits::default() });
        assert_eq!(traffic.may_download(), Some(20_000_000));
        traffic.downloading(300_000_000);
        assert_eq!(traffic.may_download(), Some(0));
    }
}
