//! Listening at relays, with a bound on what they say. A relay names the addresses of a reservation, as many as fit into its answer, and
//! this node would list each as its own: what it says of itself (identify) would pass the 4,096 bytes that others read, and they would
//! learn none of its addresses.

use std::{
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll, ready},
};

use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};

/// Addresses taken of one reservation. Two relays' take a third of what identify may say.
const ADDRESSES: usize = 6;

/// A transport whose listeners have a few addresses each.
pub(crate) struct FewAddresses<T> {
    inner: T,
    /// Those that each listener has.
    taken: HashMap<ListenerId, Vec<Multiaddr>>,
}

impl<T: Transport> FewAddresses<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, taken: HashMap::new() }
    }

    /// False for what is one address too many.
    fn takes(&mut self, event: &TransportEvent<T::ListenerUpgrade, T::Error>) -> bool {
        match event {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                let taken = self.taken.entry(*listener_id).or_default();
                // A reservation that is renewed names them again.
                let known = taken.contains(listen_addr);
                if !known && taken.len() < ADDRESSES {
                    taken.push(listen_addr.clone());
                    return true;
                }
                known
            }
            TransportEvent::AddressExpired { listener_id, listen_addr } => {
                let Some(taken) = self.taken.get_mut(listener_id) else { return false };
                let before = taken.len();
                taken.retain(|address| address != listen_addr);
                taken.len() < before
            }
            TransportEvent::ListenerClosed { listener_id, .. } => {
                self.taken.remove(listener_id);
                true
            }
            TransportEvent::Incoming { .. } | TransportEvent::ListenerError { .. } => true,
        }
    }
}

impl<T: Transport + Unpin> Transport for FewAddresses<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        loop {
            let event = ready!(Pin::new(&mut self.inner).poll(cx));
            if self.takes(&event) {
                return Poll::Ready(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::{FutureExt as _, future::poll_fn};

    use super::*;
    use crate::scripted::Scripted;

    #[test]
    fn of_a_reservation_that_names_many_addresses_a_few_are_taken() {
        let names = |_: &Multiaddr| (0..75).map(|n| format!("/ip4/5.6.7.{n}").parse().unwrap()).collect();
        let mut transport = FewAddresses::new(Scripted::new(names));
        let [one, two] = [ListenerId::next(), ListenerId::next()];
        let told = |listener: ListenerId, transport: &mut FewAddresses<Scripted>| {
            transport.listen_on(listener, Multiaddr::empty()).unwrap();
            let mut told = Vec::new();
            while let Some(event) = poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).now_or_never() {
                told.extend(event.into_new_address());
            }
            told
        };
        let first = told(one, &mut transport);
        assert_eq!(first.len(), ADDRESSES);
        assert_eq!(told(one, &mut transport), first, "renewed: the same");
        assert_eq!(told(two, &mut transport).len(), ADDRESSES, "and as many at another relay");
        let closed = TransportEvent::ListenerClosed { listener_id: one, reason: Ok(()) };
        assert!(transport.takes(&closed) && transport.taken.len() == 1, "what ended is not remembered");
    }
}
