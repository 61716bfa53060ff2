//! What the peers of one transfer say they hold: one open question each, and how much each may say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::{AbortHandle, Abortable, BoxFuture};
use tokio::sync::mpsc;
use zero2ai_chunk::{ChunkSet, planner::Event};
use zero2ai_proto::{ManifestId, NodeId, calls::HaveNews, limits::HAVE_BATCH};

use crate::source::{NewsSink, Source, SourceError};

/// News that wait to be looked at, of all peers together. When full, the peers wait.
const QUEUE: usize = 256;
/// What a peer may say in one go, beyond twice the number of chunks: chunk numbers and messages.
const SLACK: u64 = 1_024;

/// One peer's open question.
struct Question {
    stop: AbortHandle,
    /// Chunk numbers and messages that it sent.
    said: u64,
}

pub(crate) struct Holders {
    id: ManifestId,
    chunks: usize,
    /// Peers that may be asked what they hold.
    candidates: BTreeSet<NodeId>,
    /// Those that hold everything: not asked again.
    complete: BTreeSet<NodeId>,
    asking: BTreeMap<NodeId, Question>,
    sender: mpsc::Sender<(NodeId, HaveNews)>,
}

/// What a peer said that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error(transparent)]
    Bits(#[from] zero2ai_chunk::BadChunkSet),
    #[error("it told of a chunk that the manifest does not have, or of too many at once")]
    Numbers,
    #[error("it says more about what it holds than there is to say")]
    Chatter,
}

/// How a peer's news ended; `None` if they were to.
pub(crate) type Ended = (NodeId, Option<Result<(), SourceError>>);
/// What to tell the planner.
pub(crate) type Events = Vec<Event<NodeId>>;

impl Holders {
    pub(crate) fn new(id: ManifestId, chunks: usize, peers: Vec<NodeId>) -> (Self, mpsc::Receiver<(NodeId, HaveNews)>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (complete, asking) = Default::default();
        (Self { id, chunks, candidates: peers.into_iter().collect(), complete, asking, sender }, receiver)
    }

    /// True if nobody is left who could be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Questions to every peer that has none open and may get more than it said last.
    pub(crate) fn ask(&mut self, source: &Arc<dyn Source>) -> Vec<BoxFuture<'static, Ended>> {
        let idle: Vec<NodeId> =
            self.candidates.difference(&self.complete).filter(|p| !self.asking.contains_key(p)).copied().collect();
        let ask = |peer: NodeId| {
            let (stop, registration) = AbortHandle::new_pair();
            self.asking.insert(peer, Question { stop, said: 0 });
            let (source, id, news) = (Arc::clone(source), self.id, NewsSink::new(peer, self.sender.clone()));
            let question = Abortable::new(async move { source.watch(peer, id, news).await }, registration);
            let question: BoxFuture<'static, _> = Box::pin(async move { (peer, question.await.ok()) });
            question
        };
        idle.into_iter().map(ask).collect()
    }

    /// A question ended by itself; it may be asked again.
    pub(crate) fn ended(&mut self, peer: NodeId) {
        self.asking.remove(&peer);
    }

    /// `peer` holds everything: it is not asked again.
    pub(crate) fn complete(&mut self, peer: NodeId) {
        self.complete.insert(peer);
    }

    /// What `peer` said does not hold: it is asked anew.
    pub(crate) fn doubt(&mut self, peer: NodeId) {
        self.complete.remove(&peer);
        self.stop(peer);
    }

    /// `peer` is not asked any more in this transfer.
    pub(crate) fn leave(&mut self, peer: NodeId) {
        self.candidates.remove(&peer);
        self.stop(peer);
    }

    fn stop(&mut self, peer: NodeId) {
        if let Some(question) = self.asking.get(&peer) {
            question.stop.abort();
        }
    }

    /// What `news` of `peer` mean; an error if they cannot be true.
    pub(crate) fn heard(&mut self, peer: NodeId, news: HaveNews) -> Result<Events, Nonsense> {
        let Some(question) = self.asking.get_mut(&peer) else { return Ok(Vec::new()) };
        let said = match &news {
            HaveNews::Held(_) => 1,
            HaveNews::Gained(chunks) => chunks.len() as u64 + 1,
        };
        question.said = question.said.saturating_add(said);
        if question.said > self.chunks as u64 * 2 + SLACK {
            return Err(Nonsense::Chatter);
        }
        match news {
            HaveNews::Held(bits) => {
                let held = ChunkSet::from_bytes(&bits.bits, self.chunks)?;
                Ok(vec![Event::Joined { peer, held }])
            }
            HaveNews::Gained(chunks) => {
                if chunks.len() > HAVE_BATCH || chunks.iter().any(|c| *c as usize >= self.chunks) {
                    return Err(Nonsense::Numbers);
                }
                Ok(chunks.into_iter().map(|chunk| Event::Has { peer, chunk }).collect())
            }
        }
    }
}
