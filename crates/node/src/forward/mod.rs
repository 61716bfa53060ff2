//! Peer RPC to nodes that no UDP packet reaches directly: its packets go through the swarm, over whatever connection there
//! is (relayed, or through a punched hole), and come out at the other node's RPC port.
//!
//! ```text
//! caller ── UDP ──► forward at this node ── tunnel (swarm) ──► outlet at the target ── UDP ──► its RPC port
//! ```
//! Nothing of peer RPC knows of it: TLS, pool proof, identity and flow control are between caller and target. This node
//! and a relay carry QUIC packets, and can drop and delay them. A caller is this node itself, or a member that asks for it
//! (method `Forward`), such as a program without a swarm.
//!
//! | module | owns |
//! |---|---|
//! | `mod` | forwards by caller and target, and their bounds |
//! | `outlet` | tunnels that others opened to this node |
//! | `pump` | datagrams between a socket and a tunnel |
//! | `bucket` | what goes through relays, rationed |

mod bucket;
mod outlet;
mod pump;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::{net::UdpSocket, time::timeout};
use tokio_util::sync::CancellationToken;
use zero2ai_net::{NetHandle, Tunnel};
use zero2ai_proto::{NodeId, record::Address, rpc::ErrorCode, rpc::RpcError};

use crate::{addresses::from_here, directory::Directory};
use bucket::Bucket;
use pump::{Origin, Pump};

pub(crate) use outlet::serve;

/// Forwards of all callers together. Each holds a UDP port. Beyond it a caller is told `Busy`.
const FORWARDS: usize = 128;
/// Forwards of one member. The node's own count among all alone.
const FORWARDS_EACH: usize = 8;
/// Time to find a connection to the target and open a tunnel on it.
const OPENING: Duration = Duration::from_secs(6);
/// Bytes a second that this node sends through relays, on average: a relay is a member's own line.
const RELAYED: u64 = 1024 * 1024;
/// Bytes that it may send at once after a pause.
const RELAYED_BURST: u64 = 512 * 1024;

type Opening = Shared<BoxFuture<'static, Result<u16, RpcError>>>;

struct Forward {
    opening: Opening,
    ended: CancellationToken,
}

impl Forward {
    fn is_dead(&self) -> bool {
        self.ended.is_cancelled() || matches!(self.opening.peek(), Some(Err(_)))
    }
}

/// See the module.
pub(crate) struct Forwards {
    own: NodeId,
    net: NetHandle,
    directory: Arc<Directory>,
    /// Where members find what they asked for: the address on which this node's RPC listens.
    listen: IpAddr,
    ration: Arc<Bucket>,
    /// By caller, target, and the address and use of it: a program beside this node has its identity, and a port of its own.
    open: Mutex<HashMap<(NodeId, NodeId, u64), Forward>>,
    count: AtomicU64,
    stop: CancellationToken,
}

impl Forwards {
    pub(crate) fn new(
        own: NodeId,
        net: NetHandle,
        directory: Arc<Directory>,
        listen: IpAddr,
        stop: CancellationToken,
    ) -> Self {
        let (ration, open) = (Arc::new(Bucket::new(RELAYED, RELAYED_BURST)), Mutex::default());
        Self { own, net, directory, listen, ration, open, count: AtomicU64::new(1), stop }
    }

    /// Where this node itself reaches `target`'s RPC; `None` if the swarm has no way there either.
    pub(crate) async fn own(&self, target: NodeId) -> Option<SocketAddr> {
        // From where this node's own packets to this machine come.
        let ip = from_here(self.listen);
        match self.way(self.own, ip, target, 0).await {
            Ok(port) => Some(SocketAddr::new(ip, port)),
            Err(error) => {
                tracing::debug!(target = %target.short(), %error, "no detour");
                None
            }
        }
    }

    /// A UDP port at which `caller`, at `from`, reaches `target`'s RPC. Each has its own: it belongs to the first port that
    /// sends to it.
    pub(crate) async fn open(&self, caller: NodeId, from: IpAddr, target: NodeId) -> Result<u16, RpcError> {
        self.way(caller, from, target, self.count.fetch_add(1, Ordering::Relaxed)).await
    }

    /// Ends the forwards of those who are no members any more. Tunnels from and to them end with their connections.
    pub(crate) fn expel(&self, admitted: impl Fn(&NodeId) -> bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for ((caller, target, _), forward) in open.iter() {
            if (*caller != self.own && !admitted(caller)) || !admitted(target) {
                tracing::info!(caller = %caller.short(), target = %target.short(), "a forward ended: no longer admitted to the pool");
                forward.ended.cancel();
            }
        }
        open.retain(|_, forward| !forward.is_dead());
    }

    async fn way(&self, caller: NodeId, from: IpAddr, target: NodeId, nth: u64) -> Result<u16, RpcError> {
        if target == self.own {
            return Err(RpcError::new(ErrorCode::Invalid, "that is this node itself: call it directly"));
        }
        self.slot(caller, from, target, nth)?.await
    }

    fn slot(&self, caller: NodeId, from: IpAddr, target: NodeId, nth: u64) -> Result<Opening, RpcError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, forward| !forward.is_dead());
        if let Some(forward) = open.get(&(caller, target, nth)) {
            return Ok(forward.opening.clone());
        }
        let each = open.keys().filter(|(by, _, _)| *by == caller).count();
        if open.len() >= FORWARDS || (caller != self.own && each >= FORWARDS_EACH) {
            let says = format!(
                "{each} forwards for this caller and {} in all are open; {FORWARDS_EACH} and {FORWARDS} may be. One closes \
                 after a minute without a packet",
                open.len()
            );
            return Err(RpcError::new(ErrorCode::Busy, says));
        }
        let ended = self.stop.child_token();
        let opening = self.begin(caller, from, target, ended.clone()).boxed().shared();
        open.insert((caller, target, nth), Forward { opening: opening.clone(), ended });
        // It comes to an end, and so frees its place or is used, whether or not anybody waits for it still.
        tokio::spawn(opening.clone().map(drop));
        Ok(opening)
    }

    fn begin(
        &self,
        caller: NodeId,
        from: IpAddr,
        target: NodeId,
        ended: CancellationToken,
    ) -> impl Future<Output = Result<u16, RpcError>> + Send + 'static {
        let at = if caller == self.own { from } else { self.listen };
        let (way, ration) =
            (Way { net: self.net.clone(), directory: Arc::clone(&self.directory), target }, Arc::clone(&self.ration));
        async move {
            let internal = |e: std::io::Error| RpcError::new(ErrorCode::Internal, format!("no UDP port for it: {e}"));
            let tunnel = way.tunnel().await?;
            let socket = UdpSocket::bind((at, 0)).await.map_err(internal)?;
            let port = socket.local_addr().map_err(internal)?.port();
            tracing::debug!(caller = %caller.short(), target = %target.short(), port, relayed = tunnel.is_relayed(), "a forward");
            let pump = Pump { socket, origin: Origin::FirstOf(from), ration };
            tokio::spawn(async move {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = pump.run(tunnel, || way.tunnel().map(Result::ok)) => ended.cancel(),
                }
            });
            Ok(port)
        }
    }
}

/// How tunnels to one node are opened.
struct Way {
    net: NetHandle,
    directory: Arc<Directory>,
    target: NodeId,
}

impl Way {
    async fn tunnel(&self) -> Result<Tunnel, RpcError> {
        let known = self.directory.addresses(&self.target).unwrap_or_default();
        let swarm = known.iter().filter(|a| matches!(a, Address::Swarm(_))).map(ToString::to_string).collect();
        let none = |why: String| {
            let says = format!("no way to node {} through the swarm: {why}", self.target.short());
            RpcError::new(ErrorCode::Unavailable, says)
        };
        match timeout(OPENING, self.net.tunnel(self.target, swarm)).await {
            Ok(Ok(tunnel)) => Ok(tunnel),
            Ok(Err(error)) => Err(none(error.to_string())),
            Err(_) => Err(none("nothing came in time".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{
        SecretKey,
        pool::{Keyring, PoolKey},
    };
    use zero2ai_rpc::Outlets;

    use super::*;

    /// What comes out at the target's RPC port of what is sent into a forward from here.
    async fn passes(port: u16, socket: &UdpSocket, rpc: &UdpSocket, says: &[u8]) -> bool {
        let mut buffer = [0; 64];
        // A port that is closed answers so, with the next call.
        let _ = socket.send_to(says, ("127.0.0.1", port)).await;
        while let Ok(Ok((length, _))) = timeout(Duration::from_millis(500), rpc.recv_from(&mut buffer)).await {
            if buffer[..length] == *says {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_forward_ends_with_the_membership_of_who_asked_for_it() {
        let keys = Keyring::from(PoolKey::generate().unwrap());
        let ((own, here), (target, there)) = (outlet::tests::swarm(&keys).await, outlet::tests::swarm(&keys).await);
        let bind = async || UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let rpc = bind().await;
        tokio::spawn(serve(there.tunnels, (rpc.local_addr().unwrap(), Outlets::default()), CancellationToken::new()));
        let directory = Arc::new(Directory::default());
        let addresses = there.handle.listen_addresses().into_iter().map(Address::Swarm).collect();
        directory.heard(target, addresses, (1, 1), 1);
        let ip = IpAddr::from([127, 0, 0, 1]);
        let forwards = Forwards::new(own, here.handle, directory, ip, CancellationToken::new());

        let [revoked, member] = [1, 2].map(|n: u8| SecretKey::from_bytes(&[n; 32]).public());
        let ports =
            [forwards.open(revoked, ip, target).await.unwrap(), forwards.open(member, ip, target).await.unwrap()];
        let sockets = [bind().await, bind().await];
        for (port, socket) in ports.into_iter().zip(&sockets) {
            assert!(passes(port, socket, &rpc, b"both are members").await);
        }
        forwards.expel(|node| *node != revoked);
        assert!(!passes(ports[0], &sockets[0], &rpc, b"from one who is none").await);
        assert!(passes(ports[1], &sockets[1], &rpc, b"the other still is").await);
        // Whom nobody may call any more is not called by anyone.
        forwards.expel(|node| *node != target);
        assert!(!passes(ports[1], &sockets[1], &rpc, b"to one who is none").await);
        assert!(forwards.open.lock().unwrap().is_empty(), "their places are free");
    }
}
