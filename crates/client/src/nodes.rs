//! Nodes to ask for names and proofs: those the client began with, and providers it met since. So a client outlives the node
//! that invited it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::sleep;
use zero2ai_proto::{NodeId, record::Address, rpc::Method};
use zero2ai_rpc::{CallError, Peer};

use crate::{client::Client, error::ClientError, health::Health};

/// Providers met that are remembered. When full, the one met longest ago is forgotten.
const MET: usize = 32;
/// How long a node is dialled alone; then the next one is dialled beside it (RFC 8305's idea), and the first to answer is asked.
const HEAD_START: Duration = Duration::from_millis(300);

/// A node, and where it is.
pub(crate) type Known = (NodeId, Vec<Address>);

/// See the module.
#[derive(Debug)]
pub(crate) struct Nodes {
    begin: Vec<Known>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Newest first; none of those to begin with.
    met: VecDeque<Known>,
    /// Who answered last.
    preferred: Option<NodeId>,
}

impl Nodes {
    pub(crate) fn new(begin: Vec<Known>) -> Self {
        Self { begin, state: Mutex::default() }
    }

    /// A provider that proved who it is and answered.
    pub(crate) fn met(&self, node: NodeId, addresses: &[Address]) {
        if self.begin.iter().any(|(known, _)| *known == node) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.met.retain(|(known, _)| *known != node);
        state.met.push_front((node, addresses.to_vec()));
        state.met.truncate(MET);
    }

    /// Where a node is, as far as this client met it; empty if it did not.
    pub(crate) fn addresses(&self, node: &NodeId) -> Vec<Address> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.begin.iter().chain(&state.met).find(|(known, _)| known == node);
        known.map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// A node that was asked and answered: the one to ask next time.
    fn prefer(&self, node: NodeId) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).preferred = Some(node);
    }

    /// Who answered last, unless it failed since.
    fn preferred(&self, health: &Health) -> Option<NodeId> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.preferred.filter(|node| !health.is_benched(node))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.begin.len() + self.state.lock().unwrap_or_else(PoisonError::into_inner).met.len()
    }

    /// All, in the order to ask: who answered last, then those to begin with, then those met; but who failed lately comes last.
    fn in_order(&self, health: &Health) -> Vec<Known> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Known> = self.begin.iter().chain(&state.met).cloned().collect();
        all.sort_by_key(|(node, _)| (health.is_benched(node), Some(*node) != state.preferred));
        all
    }
}

impl Client {
    /// The node to ask: the one that answered last, or the first of the others that does.
    pub(crate) async fn home(&self) -> Result<Peer, ClientError> {
        self.home_but(None).await
    }

    /// The same, of all nodes but one: whose dial waits for this.
    pub(crate) async fn home_but(&self, but: Option<NodeId>) -> Result<Peer, ClientError> {
        let Self { inner } = self;
        // Nearly always there is nothing to dial.
        let preferred = inner.nodes.preferred(&inner.health).filter(|node| Some(*node) != but);
        if let Some(peer) = preferred.and_then(|node| inner.peers.open(&node)) {
            return Ok(peer);
        }
        let mut known = inner.nodes.in_order(&inner.health);
        known.retain(|(node, _)| Some(*node) != but);
        let mut waiting = known.iter();
        let mut dials = FuturesUnordered::new();
        let mut last = None;
        loop {
            match waiting.next() {
                // A detour would be asked of the very nodes that are looked for here.
                Some((node, addresses)) => {
                    dials.push(async move { (*node, self.dial_directly(*node, addresses).await) })
                }
                None if dials.is_empty() => break,
                None => {}
            }
            let head_start = async {
                match waiting.len() {
                    0 => std::future::pending().await,
                    _ => sleep(HEAD_START).await,
                }
            };
            tokio::select! {
                biased;
                Some((node, dialled)) = dials.next() => match dialled {
                    Ok(peer) => {
                        inner.health.answered(&node);
                        inner.nodes.prefer(node);
                        return Ok(peer);
                    }
                    Err(error) => {
                        inner.health.failed(node);
                        last = Some(Box::new(error));
                    }
                },
                () = head_start => {}
            }
        }
        let pool = inner.pool;
        Err(last.map_or(ClientError::NoBootstrap(pool), |last| ClientError::NoNode { pool, tried: known.len(), last }))
    }

    /// Asks the node that answered last; if it turns out to be gone, the next one, once for each.
    pub(crate) async fn ask<M: Method>(
        &self,
        request: &M::Request,
        patience: Duration,
    ) -> Result<(M::Reply, NodeId), ClientError> {
        let mut tries = self.inner.nodes.len();
        loop {
            let peer = self.home().await?;
            match peer.call::<M>(request, patience).await {
                Err(CallError::Closed { .. }) if tries > 1 => self.gone(&peer, &mut tries),
                other => return Ok((other?, peer.id())),
            }
        }
    }

    /// A node to ask is gone: another one is asked, if one is left.
    pub(crate) fn gone(&self, peer: &Peer, tries: &mut usize) {
        self.inner.health.failed(peer.id());
        *tries -= 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use zero2ai_proto::SecretKey;

    use super::*;

    fn node(i: u8) -> NodeId {
        SecretKey::from_bytes(&[i; 32]).public()
    }

    fn order(nodes: &Nodes, health: &Health) -> Vec<NodeId> {
        nodes.in_order(health).into_iter().map(|(node, _)| node).collect()
    }

    #[test]
    fn who_answered_last_is_asked_first_and_who_failed_last() {
        let (nodes, health) = (Nodes::new(vec![(node(1), Vec::new()), (node(2), Vec::new())]), Health::default());
        nodes.met(node(3), &[]);
        nodes.met(node(4), &[]);
        nodes.met(node(1), &[]);
        assert_eq!(order(&nodes, &health), [node(1), node(2), node(4), node(3)]);
        nodes.prefer(node(3));
        assert_eq!(order(&nodes, &health), [node(3), node(1), node(2), node(4)]);
        health.failed(node(3));
        health.failed(node(1));
        assert_eq!(order(&nodes, &health), [node(2), node(4), node(3), node(1)]);
    }

    #[test]
    fn only_so_many_are_remembered_and_the_newest_are() {
        let nodes = Nodes::new(vec![(node(0), Vec::new())]);
        for i in 1..=100 {
            nodes.met(node(i), &[]);
        }
        nodes.met(node(80), &[]);
        assert_eq!(nodes.len(), 1 + MET);
        let kept = order(&nodes, &Health::default());
        assert_eq!((kept[1], kept[2], kept[MET]), (node(80), node(100), node(100 + 1 - MET as u8)));
    }
}
