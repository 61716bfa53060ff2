//! The other end of forwards: tunnels that members opened to this node, each to its own RPC port and nowhere else.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use zero2ai_net::Tunnel;
use zero2ai_proto::NodeId;

use super::{
    RELAYED, RELAYED_BURST,
    bucket::Bucket,
    pump::{Origin, Pump},
};

/// Tunnels to this node at once, all members together. Beyond it new ones are closed at once.
const OUTLETS: usize = 128;
/// Of these, of one member: it may forward for several others.
const OUTLETS_EACH: usize = 32;

/// Takes tunnels until `stop`.
pub(crate) async fn serve(mut tunnels: mpsc::Receiver<(NodeId, Tunnel)>, rpc: SocketAddr, stop: CancellationToken) {
    let ration = Arc::new(Bucket::new(RELAYED, RELAYED_BURST));
    let mut running: JoinSet<NodeId> = JoinSet::new();
    let mut each: HashMap<NodeId, usize> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = running.join_next() => {
                let Ok(peer) = ended else { continue };
                if let Some(count) = each.get_mut(&peer) {
                    *count -= 1;
                    if *count == 0 {
                        each.remove(&peer);
                    }
                }
            }
            tunnel = tunnels.recv() => {
                // The swarm's end is told by its own task.
                let Some((peer, tunnel)) = tunnel else { return stop.cancelled().await };
                let count = each.get(&peer).copied().unwrap_or_default();
                if running.len() >= OUTLETS || count >= OUTLETS_EACH {
                    tracing::debug!(peer = %peer.short(), "a tunnel was closed: too many are open");
                    continue;
                }
                each.insert(peer, count + 1);
                running.spawn(outlet(peer, tunnel, rpc, Arc::clone(&ration)));
            }
        }
    }
}

async fn outlet(peer: NodeId, tunnel: Tunnel, rpc: SocketAddr, ration: Arc<Bucket>) -> NodeId {
    let any: IpAddr = if rpc.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    match UdpSocket::bind((any, 0)).await {
        Ok(socket) => {
            let pump = Pump { socket, origin: Origin::Only(rpc), ration };
            // Only who asked opens it again.
            pump.run_once(tunnel).await;
        }
        Err(error) => tracing::warn!(%error, "no UDP port for a tunnel"),
    }
    peer
}
