//! AutoNAT v2 over connections of either direction, with a bound on what it tests. As libp2p has it, a node asks over
//! connections that it dialled, and answers over those that were dialled to it: the node to which everybody dials, the very
//! one that should become a relay, would never hear that it can be reached.
//!
//! What is learnt is the word of one member, who dials back from a fresh port. A member who lies can make this node try relays
//! in vain or do without; he reads and changes nothing by it.

use std::{
    collections::{HashSet, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler as _, ConnectionHandlerSelect, ConnectionId, FromSwarm, NetworkBehaviour,
        NewExternalAddrCandidate, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, derive_prelude::Either,
    },
};

use crate::{config::CANDIDATES, swarm::is_direct};

/// One of AutoNAT's two behaviours.
pub(crate) struct EitherWay<B> {
    inner: B,
    /// Addresses handed to it: it keeps them all, and peers choose them.
    candidates: HashSet<Multiaddr>,
    /// Of these, those to be told to every behaviour.
    told: VecDeque<Multiaddr>,
}

impl<B> EitherWay<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self { inner, candidates: HashSet::new(), told: VecDeque::new() }
    }

    /// A peer that this node dialled from its listening port sees it at this address. identify would put the listening port
    /// in the place of one that a NAT chose, and no hole could be punched there.
    pub(crate) fn observed(&mut self, address: &Multiaddr) {
        if !self.candidates.contains(address) && self.tested(address) {
            self.told.push_back(address.clone());
        }
    }

    /// An address that was this node's: it makes room for another. AutoNAT has no way to test it a second time before the next start.
    pub(crate) fn forget(&mut self, address: &Multiaddr) {
        self.candidates.remove(address);
    }

    /// True if an address that a peer says it sees us at may be tested.
    fn tested(&mut self, address: &Multiaddr) -> bool {
        is_direct(address)
            && (self.candidates.contains(address)
                || (self.candidates.len() < CANDIDATES && self.candidates.insert(address.clone())))
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for EitherWay<B> {
    /// What a dialled connection gets, and what an accepted one gets.
    type ConnectionHandler = ConnectionHandlerSelect<THandler<B>, THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let accepted = self.inner.handle_established_inbound_connection(id, peer, local, remote)?;
        let dialled =
            self.inner.handle_established_outbound_connection(id, peer, remote, Endpoint::Listener, PortUse::Reuse)?;
        Ok(dialled.select(accepted))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let dialled = self.inner.handle_established_outbound_connection(id, peer, address, role, port)?;
        let accepted = self.inner.handle_established_inbound_connection(id, peer, &Multiaddr::empty(), address)?;
        Ok(dialled.select(accepted))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) = &event
            && !self.tested(addr)
        {
            return;
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event.into_inner());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(address) = self.told.pop_front() {
            return Poll::Ready(ToSwarm::NewExternalAddrCandidate(address));
        }
        // Only dialled connections' handlers are ever told anything.
        self.inner.poll(cx).map(|action| action.map_in(Either::Left))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn peers_cannot_make_it_remember_without_end() {
        let mut filter = EitherWay::new(());
        let address = |n: usize| format!("/ip4/5.6.7.8/udp/{n}/quic-v1").parse::<Multiaddr>().unwrap();
        assert!(!filter.tested(&"/ip4/5.6.7.8/tcp/1".parse().unwrap()));
        assert_eq!((1..1_000).filter(|n| filter.tested(&address(*n))).count(), CANDIDATES);
        assert!(filter.tested(&address(1)), "what is known is passed on again");
        let mut filter = EitherWay::new(());
        (1..1_000).chain(1..1_000).for_each(|n| filter.observed(&address(n)));
        assert_eq!(filter.told.len(), CANDIDATES);
    }
}
