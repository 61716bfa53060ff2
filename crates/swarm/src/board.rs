//! What the transfers of this node hold so far, for those who want to hear of each chunk: peers that fetch the same model, and
//! whoever opens it while it comes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};
use zero2ai_chunk::ChunkSet;
use zero2ai_proto::{ManifestId, limits::HAVE_BATCH};

/// Chunks that a listener may be behind before it is given the whole bit field again.
const BEHIND: usize = 1_024;
/// How long chunks are gathered before a peer is told of them: one message for all that came meanwhile.
const GATHER: Duration = Duration::from_millis(100);

type Open = BTreeMap<ManifestId, Entry>;

struct Entry {
    held: ChunkSet,
    gained: broadcast::Sender<u32>,
    transfers: u32,
}

/// The transfers that are open; clones share it.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Open>>);

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// All that is here now: the listener was too slow to be told of each.
    Held(ChunkSet),
    /// Chunks that came, at most [`HAVE_BATCH`].
    Gained(Vec<u32>),
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a transfer on the board until the result is dropped.
    pub(crate) fn post(&self, id: ManifestId, held: ChunkSet) -> Posting {
        let fresh = |held| Entry { held, gained: broadcast::channel(BEHIND).0, transfers: 0 };
        let mut open = self.lock();
        let entry = open.entry(id).or_insert_with(|| fresh(held.clone()));
        if entry.held.chunks() == held.chunks() {
            for chunk in (0..held.chunks()).filter(|c| held.contains(*c)) {
                entry.held.insert(chunk);
            }
        }
        entry.transfers += 1;
        Posting { board: self.clone(), id }
    }

    /// Listens to the transfer of `id`; `None` if none is open.
    #[must_use]
    pub fn listen(&self, id: &ManifestId) -> Option<Listener> {
        let open = self.lock();
        let entry = open.get(id)?;
        let listener = Listener { board: self.clone(), id: *id, gained: entry.gained.subscribe() };
        Some(listener)
    }

    /// Every open transfer: chunks that are here, and chunks that there are.
    #[must_use]
    pub fn open(&self) -> Vec<(ManifestId, u32, u32)> {
        self.lock().iter().map(|(id, entry)| (*id, entry.held.count(), entry.held.chunks())).collect()
    }

    /// What the transfer of `id` holds now; `None` if none is open.
    #[must_use]
    pub fn held(&self, id: &ManifestId) -> Option<ChunkSet> {
        self.lock().get(id).map(|entry| entry.held.clone())
    }
}

/// A transfer's place on the board.
pub(crate) struct Posting {
    board: Board,
    id: ManifestId,
}

impl Posting {
    /// `chunk` is stored.
    pub(crate) fn gained(&self, chunk: u32) {
        if let Some(entry) = self.board.lock().get_mut(&self.id)
            && entry.held.insert(chunk)
        {
            // Nobody listens: nobody is told.
            let _ = entry.gained.send(chunk);
        }
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        let mut open = self.board.lock();
        if let Some(entry) = open.get_mut(&self.id) {
            entry.transfers -= 1;
            if entry.transfers == 0 {
                open.remove(&self.id);
            }
        }
    }
}

/// Hears of the chunks of one transfer.
pub struct Listener {
    board: Board,
    id: ManifestId,
    gained: broadcast::Receiver<u32>,
}

impl Listener {
    /// What is held now. What comes between this and [`Listener::next`] is told there.
    #[must_use]
    pub fn held(&self) -> Option<ChunkSet> {
        self.board.held(&self.id)
    }

    /// The next chunks, as soon as there are any; `None` once the transfer ended. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<News> {
        match self.gained.recv().await {
            Ok(chunk) => Some(self.drain(vec![chunk])),
            Err(RecvError::Lagged(_)) => self.caught_up(),
            Err(RecvError::Closed) => None,
        }
    }

    /// The same with pauses in which chunks are gathered, so that a peer gets few messages. Not to be dropped halfway.
    pub async fn next_gathered(&mut self) -> Option<News> {
        match self.gained.recv().await {
            Ok(chunk) => {
                tokio::time::sleep(GATHER).await;
                Some(self.drain(vec![chunk]))
            }
            Err(RecvError::Lagged(_)) => self.caught_up(),
            Err(RecvError::Closed) => None,
        }
    }

    fn drain(&mut self, mut chunks: Vec<u32>) -> News {
        while chunks.len() < HAVE_BATCH {
            match self.gained.try_recv() {
                Ok(chunk) => chunks.push(chunk),
                Err(TryRecvError::Lagged(_)) => return self.caught_up().unwrap_or(News::Gained(chunks)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        News::Gained(chunks)
    }

    fn caught_up(&mut self) -> Option<News> {
        let held = self.held()?;
        // What is in the set need not be told again.
        self.gained = self.gained.resubscribe();
        Some(News::Held(held))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn listeners_hear_each_chunk_once_and_slow_ones_get_the_whole_set() {
        let (board, id) = (Board::default(), ManifestId([1; 32]));
        assert!(board.listen(&id).is_none());
        let posting = board.post(id, ChunkSet::empty(5_000));
        posting.gained(7);
        let mut quick = board.listen(&id).unwrap();
        let mut slow = board.listen(&id).unwrap();
        assert!(quick.held().unwrap().contains(7));
        posting.gained(9);
        posting.gained(9);
        posting.gained(8);
        assert_eq!(quick.next().await, Some(News::Gained(vec![9, 8])));
        for chunk in 100..2_000 {
            posting.gained(chunk);
        }
        let Some(News::Held(held)) = slow.next().await else { unreachable!("it lags") };
        assert_eq!(held.count(), 1_903);
        let second = board.post(id, ChunkSet::empty(5_000));
        drop(posting);
        second.gained(3_000);
        assert_eq!(slow.next().await, Some(News::Gained(vec![3_000])));
        drop(second);
        assert_eq!(slow.next().await, None);
        assert!(board.held(&id).is_none());
    }
}
