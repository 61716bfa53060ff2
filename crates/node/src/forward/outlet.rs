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
use zero2ai_rpc::Outlets;

use super::{
    RELAYED, RELAYED_BURST,
    bucket::Bucket,
    pump::{Origin, Pump},
};

/// Tunnels to this node at once, all members together. Beyond it new ones are closed at once.
const OUTLETS: usize = 128;
/// Of these, of one member: it may forward for several others.
const OUTLETS_EACH: usize = 32;

/// Takes tunnels until `stop`, to the RPC port at `rpc`, which is told of each through `outlets`.
pub(crate) async fn serve(
    mut tunnels: mpsc::Receiver<(NodeId, Tunnel)>,
    (rpc, outlets): (SocketAddr, Outlets),
    stop: CancellationToken,
) {
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
                running.spawn(outlet(peer, tunnel, (rpc, outlets.clone()), Arc::clone(&ration)));
            }
        }
    }
}

async fn outlet(peer: NodeId, tunnel: Tunnel, (rpc, outlets): (SocketAddr, Outlets), ration: Arc<Bucket>) -> NodeId {
    let any: IpAddr = if rpc.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let bound = UdpSocket::bind((any, 0)).await.and_then(|socket| Ok((socket.local_addr()?.port(), socket)));
    match bound {
        Ok((port, socket)) => {
            let _outlet = outlets.open(port, peer);
            let pump = Pump { socket, origin: Origin::Only(rpc), ration };
            // Only who asked opens it again.
            pump.run_once(tunnel).await;
        }
        Err(error) => tracing::warn!(%error, "no UDP port for a tunnel"),
    }
    peer
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::time::timeout;
    use zero2ai_net::{DATAGRAM_BYTES, Judge, NetConfig, RecordFacts, Running, Topic, Verdict, start};
    use zero2ai_proto::{
        PoolId, SecretKey,
        pool::{Keyring, PoolKey},
    };

    use super::*;

    struct Anyone;

    impl Judge for Anyone {
        fn admitted(&self, _: &NodeId) -> bool {
            true
        }
        fn record(&self, _: &[u8; 32], _: &[u8]) -> Result<RecordFacts, String> {
            Err("none".into())
        }
        fn provider(&self, _: &[u8; 32], _: &NodeId) -> bool {
            false
        }
        fn gossip(&self, _: Topic, _: &NodeId, _: &[u8]) -> Verdict {
            Verdict::Reject
        }
    }

    pub(crate) async fn swarm(keys: &Keyring) -> (NodeId, Running) {
        let (key, listen) = (SecretKey::generate().unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let (id, pool_keys) = (key.public(), keys.clone());
        let config = NetConfig { key, pool: PoolId([3; 32]), pool_keys, listen, bootstrap: vec![], mdns: false };
        (id, start(config, Arc::new(Anyone), CancellationToken::new()).await.unwrap())
    }

    #[tokio::test]
    async fn a_tunnel_ends_at_the_rpc_port_and_nowhere_else() {
        let keys = Keyring::from(PoolKey::generate().unwrap());
        let ((_, caller), (target, there)) = (swarm(&keys).await, swarm(&keys).await);
        let bind = async || UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let (rpc, elsewhere) = (bind().await, bind().await);
        tokio::spawn(serve(there.tunnels, (rpc.local_addr().unwrap(), Outlets::default()), CancellationToken::new()));

        let tunnel = caller.handle.tunnel(target, there.handle.listen_addresses()).await.unwrap();
        let (mut send, mut receive) = tunnel.split();
        // The only things a member can say are bytes: none of them is an address.
        let said = elsewhere.local_addr().unwrap().to_string();
        send.send([said.as_bytes(), b"second"]).await.unwrap();
        let (patience, mut buffer) = (Duration::from_secs(10), [0; DATAGRAM_BYTES]);
        let (length, outlet) = timeout(patience, rpc.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..length], said.as_bytes());
        assert!(outlet.ip().is_loopback());
        // What is not from the RPC port does not go back, even if it finds the outlet's own.
        elsewhere.send_to(b"from elsewhere", outlet).await.unwrap();
        rpc.send_to(b"from the RPC port", outlet).await.unwrap();
        let back = timeout(patience, receive.receive(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(back, b"from the RPC port");
        let nothing = timeout(Duration::from_millis(300), elsewhere.recv_from(&mut buffer)).await;
        assert!(nothing.is_err(), "nothing came anywhere else");
    }

    #[tokio::test]
    async fn one_member_has_so_many_tunnels_and_no_more() {
        let keys = Keyring::from(PoolKey::generate().unwrap());
        let ((_, caller), (target, there)) = (swarm(&keys).await, swarm(&keys).await);
        let rpc = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        tokio::spawn(serve(there.tunnels, (rpc.local_addr().unwrap(), Outlets::default()), CancellationToken::new()));
        let mut open = Vec::new();
        for n in 0..OUTLETS_EACH + 8 {
            let tunnel = caller.handle.tunnel(target, there.handle.listen_addresses()).await.unwrap();
            let (mut send, receive) = tunnel.split();
            // One that was closed at once may show it only now.
            let _ = send.send([n.to_string()]).await;
            open.push((send, receive));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut came = 0;
        let mut buffer = [0; DATAGRAM_BYTES];
        while let Ok(Ok(_)) = timeout(Duration::from_millis(500), rpc.recv_from(&mut buffer)).await {
            came += 1;
        }
        assert_eq!(came, OUTLETS_EACH);
    }
}
