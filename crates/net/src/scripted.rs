//! A transport that carries nothing: its listeners have the addresses that a test wants.

use std::{
    collections::VecDeque,
    future::Pending,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
};

type Output = (PeerId, StreamMuxerBox);

/// See the module.
pub(crate) struct Scripted {
    /// The addresses of what listens there.
    names: fn(&Multiaddr) -> Vec<Multiaddr>,
    told: VecDeque<(ListenerId, Multiaddr)>,
}

impl Scripted {
    pub(crate) fn new(names: fn(&Multiaddr) -> Vec<Multiaddr>) -> Self {
        Self { names, told: VecDeque::new() }
    }
}

impl Transport for Scripted {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<Output>>;
    type Dial = Pending<io::Result<Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.told.extend((self.names)(&address).into_iter().map(|name| (id, name)));
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let Some((listener_id, listen_addr)) = self.told.pop_front() else { return Poll::Pending };
        Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr })
    }
}
