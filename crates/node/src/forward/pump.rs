//! Datagrams between a UDP socket and a tunnel, until nothing has come for a minute. A tunnel that breaks (its relay died, or
//! a hole was punched and the relayed connection closed) is opened again when there is something to send: to the QUIC
//! inside it was some lost packets.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::UdpSocket,
    sync::{Mutex, mpsc},
    time::sleep,
};
use zero2ai_net::{DATAGRAM_BYTES, Tunnel, TunnelReceiver, TunnelSender};

use super::bucket::Bucket;

/// Without a datagram either way for so long, it ends. Peer RPC sends something every half second while it is in use.
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams that wait for the tunnel, 300 kB. When full, new ones are dropped, and QUIC slows down.
const QUEUE: usize = 256;
/// Datagrams sent as one write.
const BATCH: usize = 32;
/// Pause before a broken tunnel is opened again.
const REOPEN: Duration = Duration::from_millis(250);
/// Times in a row that this may fail.
const REOPENINGS: u32 = 20;

/// Who may send into the socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// The first port of this IP address that sends anything.
    FirstOf(IpAddr),
    /// This one.
    Only(SocketAddr),
}

/// See the module.
pub(super) struct Pump {
    pub(super) socket: UdpSocket,
    pub(super) origin: Origin,
    pub(super) ration: Arc<Bucket>,
}

/// What changes while it runs.
struct State {
    origin: Origin,
    last: Instant,
}

/// Why one tunnel's time was over.
enum End {
    Idle,
    Broken(io::Error),
}

impl Pump {
    /// Runs until idle, or until no tunnel can be had any more.
    pub(super) async fn run<F: Future<Output = Option<Tunnel>>>(self, first: Tunnel, reopen: impl Fn() -> F) {
        let state = std::sync::Mutex::new(State { origin: self.origin, last: Instant::now() });
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Mutex::new(waiting);
        let up = self.take_in(&state, &queue);
        let through = async {
            let mut tunnel = Some(first);
            let mut failures = 0;
            loop {
                if let Some(tunnel) = tunnel.take() {
                    failures = 0;
                    let relayed = tunnel.is_relayed();
                    match self.session(tunnel, relayed, &state, &waiting).await {
                        End::Idle => return,
                        End::Broken(error) => tracing::debug!(%error, "a tunnel broke"),
                    }
                }
                sleep(REOPEN).await;
                failures += 1;
                if failures > REOPENINGS || idle(&state) {
                    return;
                }
                tunnel = reopen().await;
            }
        };
        tokio::select! {
            () = through => {}
            error = up => tracing::debug!(%error, "a forward's socket failed"),
        }
    }

    /// Runs until idle, or until this tunnel ends.
    pub(super) async fn run_once(self, tunnel: Tunnel) {
        let state = std::sync::Mutex::new(State { origin: self.origin, last: Instant::now() });
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (waiting, relayed) = (Mutex::new(waiting), tunnel.is_relayed());
        tokio::select! {
            _ = self.session(tunnel, relayed, &state, &waiting) => {}
            error = self.take_in(&state, &queue) => tracing::debug!(%error, "an outlet's socket failed"),
        }
    }

    /// From the socket into the queue. Ends with the socket alone.
    async fn take_in(&self, state: &std::sync::Mutex<State>, queue: &mpsc::Sender<Vec<u8>>) -> io::Error {
        // One byte more than a datagram may have, to see which are too long.
        let mut buffer = [0; DATAGRAM_BYTES + 1];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) if (1..=DATAGRAM_BYTES).contains(&length) && admit(state, from) => {
                    // Full: dropped, as on any line.
                    let _ = queue.try_send(buffer[..length].to_vec());
                }
                Ok(_) => {}
                // The other side's port is closed for a moment: a packet like this one's answer told so.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return error,
            }
        }
    }

    async fn session(
        &self,
        tunnel: Tunnel,
        relayed: bool,
        state: &std::sync::Mutex<State>,
        waiting: &Mutex<mpsc::Receiver<Vec<u8>>>,
    ) -> End {
        let (sender, receiver) = tunnel.split();
        let quiet = async {
            while !idle(state) {
                sleep(IDLE / 8).await;
            }
        };
        tokio::select! {
            error = self.send(sender, relayed, waiting) => End::Broken(error),
            error = self.give_out(receiver, state) => End::Broken(error),
            () = quiet => End::Idle,
        }
    }

    /// From the queue into the tunnel.
    async fn send(
        &self,
        mut sender: TunnelSender,
        relayed: bool,
        waiting: &Mutex<mpsc::Receiver<Vec<u8>>>,
    ) -> io::Error {
        let mut waiting = waiting.lock().await;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            if waiting.recv_many(&mut batch, BATCH).await == 0 {
                return io::ErrorKind::BrokenPipe.into();
            }
            if relayed {
                sleep(self.ration.take(batch.iter().map(Vec::len).sum(), Instant::now())).await;
            }
            if let Err(error) = sender.send(&batch).await {
                return error;
            }
        }
    }

    /// From the tunnel to whoever sends into the socket; before he did, into nothing.
    async fn give_out(&self, mut receiver: TunnelReceiver, state: &std::sync::Mutex<State>) -> io::Error {
        let mut buffer = [0; DATAGRAM_BYTES];
        loop {
            match receiver.receive(&mut buffer).await {
                Ok(datagram) => {
                    if let Some(to) = touch(state) {
                        // What the socket cannot take is lost, as on any line.
                        let _ = self.socket.send_to(datagram, to).await;
                    }
                }
                Err(error) => return error,
            }
        }
    }
}

/// True if what came from there is to be passed on.
fn admit(state: &std::sync::Mutex<State>, from: SocketAddr) -> bool {
    let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let ours = match state.origin {
        Origin::Only(only) => from == only,
        Origin::FirstOf(ip) => from.ip().to_canonical() == ip.to_canonical(),
    };
    if ours {
        (state.origin, state.last) = (Origin::Only(from), Instant::now());
    }
    ours
}

/// Something came through the tunnel: where it goes.
fn touch(state: &std::sync::Mutex<State>) -> Option<SocketAddr> {
    let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    state.last = Instant::now();
    match state.origin {
        Origin::Only(only) => Some(only),
        Origin::FirstOf(_) => None,
    }
}

fn idle(state: &std::sync::Mutex<State>) -> bool {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).last.elapsed() >= IDLE
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_port_of_the_asking_address_has_it_and_nobody_else() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let fresh = |ip: &str| {
            std::sync::Mutex::new(State { origin: Origin::FirstOf(ip.parse().unwrap()), last: Instant::now() })
        };
        let state = fresh("10.0.0.1");
        assert!(!admit(&state, at("10.0.0.2:5")), "another address");
        assert_eq!(touch(&state), None, "nobody to give to yet");
        assert!(admit(&state, at("10.0.0.1:5")) && admit(&state, at("10.0.0.1:5")));
        assert!(!admit(&state, at("10.0.0.1:6")), "another port of it");
        assert_eq!(touch(&state), Some(at("10.0.0.1:5")));
        assert!(admit(&fresh("::ffff:10.0.0.1"), at("10.0.0.1:5")), "the same address, written for IPv6");
    }
}
