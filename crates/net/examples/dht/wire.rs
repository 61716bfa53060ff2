//! A network in memory: hosts by address, connections that take round trips to set up, streams whose bytes arrive after the
//! one-way delay and are counted. A host that crashed says nothing more, and its peers find out as they would.

#![allow(clippy::disallowed_methods)] // a wire never refuses: what bounds it is the windows of the swarms at its ends

use std::{
    collections::{HashMap, VecDeque},
    future::Ready,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt, Stream,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
    future::BoxFuture,
};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent},
        transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};
use tokio::time::{Instant, Sleep, sleep};
use zero2ai_net::Wire;

/// Round trips before a connection carries streams: one for QUIC's handshake, two for the pool proof.
const HANDSHAKE: u32 = 3;
/// How long a dial of a host that does not answer takes: the product's own limit.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// What one host did, and whether it still does anything.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// Bytes written to streams. Packet headers, acknowledgements and TLS are QUIC's, and not in here.
    pub(crate) sent: AtomicU64,
    /// Streams opened: one for each request, one for each protocol of a connection else.
    pub(crate) streams: AtomicU64,
    /// Connections dialled.
    pub(crate) dialled: AtomicU64,
    /// It crashed: what it writes goes nowhere, nothing reaches it.
    pub(crate) dead: AtomicBool,
}

impl Host {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

struct Listening {
    peer: PeerId,
    host: Arc<Host>,
    calls: UnboundedSender<(PeerId, Multiaddr, Muxer)>,
}

/// All hosts.
pub(crate) struct Net {
    listening: Mutex<HashMap<Multiaddr, Listening>>,
    delay: Duration,
}

impl Net {
    /// A network in which everything takes `delay` one way.
    pub(crate) fn new(delay: Duration) -> Arc<Self> {
        Arc::new(Self { listening: Mutex::default(), delay })
    }

    /// What a swarm of this identity speaks over.
    pub(crate) fn wire(self: &Arc<Self>, peer: PeerId, host: Arc<Host>) -> Wire {
        Port { net: Arc::clone(self), peer, host, listener: None }.boxed()
    }

    fn connect(&self, from: Caller, to: &Multiaddr) -> io::Result<(PeerId, StreamMuxerBox)> {
        let (from, host, back) = from;
        let mut all = self.listening.lock().unwrap();
        let target = all.get(to).filter(|target| !target.host.is_dead()).ok_or(io::ErrorKind::TimedOut)?;
        let (here, there) = (mpsc::unbounded(), mpsc::unbounded());
        let mine = Muxer { inbound: here.1, outbound: there.0, host, delay: self.delay };
        let theirs = Muxer { inbound: there.1, outbound: here.0, host: Arc::clone(&target.host), delay: self.delay };
        let peer = target.peer;
        if target.calls.unbounded_send((from, back, theirs)).is_err() {
            all.remove(to);
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok((peer, StreamMuxerBox::new(mine)))
    }
}

type Call = (PeerId, Multiaddr, Muxer);

/// Who dials, and the address at which he listens and from which he dials: nobody here is behind a NAT.
type Caller = (PeerId, Arc<Host>, Multiaddr);

struct Listener {
    id: ListenerId,
    address: Multiaddr,
    calls: UnboundedReceiver<Call>,
    told: bool,
}

/// One host's transport.
struct Port {
    net: Arc<Net>,
    peer: PeerId,
    host: Arc<Host>,
    listener: Option<Listener>,
}

impl Transport for Port {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let (calls, queue) = mpsc::unbounded();
        let listening = Listening { peer: self.peer, host: Arc::clone(&self.host), calls };
        self.net.listening.lock().unwrap().insert(address.clone(), listening);
        self.listener = Some(Listener { id, address, calls: queue, told: false });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.take_if(|listener| listener.id == id).is_some()
    }

    fn dial(&mut self, mut to: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        if matches!(to.iter().last(), Some(Protocol::P2p(_))) {
            to.pop();
        }
        let (net, peer, host) = (Arc::clone(&self.net), self.peer, Arc::clone(&self.host));
        let back = self.listener.as_ref().map(|l| l.address.clone()).unwrap_or_else(Multiaddr::empty);
        host.dialled.fetch_add(1, Ordering::Relaxed);
        let dial = async move {
            sleep(net.delay * 2 * HANDSHAKE).await;
            match net.connect((peer, host, back), &to) {
                Ok(connected) => Ok(connected),
                Err(error) => {
                    sleep(DIAL_TIMEOUT).await;
                    Err(error)
                }
            }
        };
        Ok(dial.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Some(listener) = &mut self.listener else { return Poll::Pending };
        let listener_id = listener.id;
        if !listener.told {
            listener.told = true;
            return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr: listener.address.clone() });
        }
        match Pin::new(&mut listener.calls).poll_next(cx) {
            Poll::Ready(Some((peer, send_back_addr, muxer))) => Poll::Ready(TransportEvent::Incoming {
                listener_id,
                upgrade: std::future::ready(Ok((peer, StreamMuxerBox::new(muxer)))),
                local_addr: listener.address.clone(),
                send_back_addr,
            }),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            self.net.listening.lock().unwrap().remove(&listener.address);
        }
    }
}

/// One end of a connection. The other end notices that it was dropped.
struct Muxer {
    inbound: UnboundedReceiver<Pipe>,
    outbound: UnboundedSender<Pipe>,
    host: Arc<Host>,
    delay: Duration,
}

impl StreamMuxer for Muxer {
    type Substream = Pipe;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        match Pin::new(&mut self.inbound).poll_next(cx) {
            Poll::Ready(Some(mut pipe)) => {
                pipe.host = Arc::clone(&self.host);
                Poll::Ready(Ok(pipe))
            }
            Poll::Ready(None) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        self.host.streams.fetch_add(1, Ordering::Relaxed);
        let (here, there) = (mpsc::unbounded(), mpsc::unbounded());
        let pipe = |rx, tx| Pipe {
            rx,
            tx,
            arrived: VecDeque::new(),
            timer: None,
            host: Arc::clone(&self.host),
            delay: self.delay,
        };
        let (mine, theirs) = (pipe(here.1, there.0), pipe(there.1, here.0));
        let sent = self.outbound.unbounded_send(theirs).map(|()| mine);
        Poll::Ready(sent.map_err(|_| io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbound.close_channel();
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Poll::Pending
    }
}

/// One end of a stream.
struct Pipe {
    rx: UnboundedReceiver<(Instant, Vec<u8>)>,
    tx: UnboundedSender<(Instant, Vec<u8>)>,
    arrived: VecDeque<u8>,
    /// Bytes on their way, and when they arrive.
    timer: Option<(Pin<Box<Sleep>>, Vec<u8>)>,
    host: Arc<Host>,
    delay: Duration,
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.host.is_dead() {
                return Poll::Pending;
            }
            if !self.arrived.is_empty() {
                return Poll::Ready(io::Read::read(&mut self.arrived, buffer));
            }
            if let Some((sleep, _)) = &mut self.timer {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.arrived = self.timer.take().map(|(_, bytes)| bytes.into()).unwrap_or_default();
                continue;
            }
            match Pin::new(&mut self.rx).poll_next(cx) {
                Poll::Ready(Some((at, bytes))) if at > Instant::now() => {
                    self.timer = Some((Box::pin(tokio::time::sleep_until(at)), bytes));
                }
                Poll::Ready(Some((_, bytes))) => self.arrived = bytes.into(),
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.host.is_dead() {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.host.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let sent = self.tx.unbounded_send((Instant::now() + self.delay, bytes.to_vec()));
        Poll::Ready(sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tx.close_channel();
        Poll::Ready(Ok(()))
    }
}
