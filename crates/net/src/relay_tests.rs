//! Circuits through a real relay, on loopback: who gets through, and who does not.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Swarm,
    core::ConnectedPoint,
    multiaddr::Protocol,
    swarm::{SwarmEvent, dial_opts::DialOpts},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    NodeId, PoolId, SecretKey,
    pool::{Keyring, PoolKey},
};

use crate::{
    Judge, NetConfig, RecordFacts, Running, Topic, Verdict,
    gossip::Topics,
    identity::peer_id,
    listen::listen,
    start,
    swarm::{Behaviours, build, parse, short},
};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Opinion {
    banned: Mutex<BTreeSet<NodeId>>,
}

impl Judge for Opinion {
    fn admitted(&self, node: &NodeId) -> bool {
        !self.banned.lock().unwrap().contains(node)
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

fn config(key: &SecretKey, keys: &Keyring) -> NetConfig {
    let (listen, pool) = (SocketAddr::from(([127, 0, 0, 1], 0)), PoolId([9; 32]));
    NetConfig { key: key.clone(), pool, pool_keys: keys.clone(), listen, bootstrap: vec![], mdns: false }
}

/// A swarm without a driver: it does what the test says.
struct Bare {
    id: NodeId,
    judge: Arc<Opinion>,
    swarm: Swarm<Behaviours>,
}

async fn bare(keys: &Keyring) -> Bare {
    let (key, judge) = (SecretKey::generate().unwrap(), Arc::new(Opinion::default()));
    let config = config(&key, keys);
    let as_judge: Arc<dyn Judge> = Arc::clone(&judge) as _;
    let mut swarm = build(&config, &as_judge, &Topics::new(&short(&config))).unwrap();
    listen(&mut swarm, config.listen).await.unwrap();
    Bare { id: key.public(), judge, swarm }
}

impl Bare {
    /// Dials, and gives the way of the connection that stands in the end.
    async fn dial(&mut self, node: NodeId, address: &Multiaddr) -> Result<ConnectedPoint, String> {
        let peer = peer_id(&node).unwrap();
        self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![address.clone()]).build()).map_err(|e| e.to_string())?;
        let outcome = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } if peer_id == peer => {
                        return Ok(endpoint);
                    }
                    SwarmEvent::OutgoingConnectionError { peer_id: Some(id), error, .. } if id == peer => {
                        return Err(crate::error::chain(&error));
                    }
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, outcome).await.unwrap()
    }

    /// Asks the relay to take connections for this node; false if it does not.
    async fn reserve(&mut self, circuit: &Multiaddr) -> bool {
        let wanted = self.swarm.listen_on(circuit.clone()).unwrap();
        let outcome = async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == wanted => return true,
                    SwarmEvent::ListenerClosed { listener_id, .. } if listener_id == wanted => return false,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, outcome).await.unwrap()
    }

    /// Goes on by itself, and tells nobody.
    fn run(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                self.swarm.select_next_some().await;
            }
        })
    }
}

/// A node that relays: somebody had to dial it back for that.
async fn relay(keys: &Keyring) -> (Running, NodeId, Arc<Opinion>) {
    let (key, judge, other) =
        (SecretKey::generate().unwrap(), Arc::new(Opinion::default()), Arc::new(Opinion::default()));
    let relay = start(config(&key, keys), Arc::clone(&judge) as _, CancellationToken::new()).await.unwrap();
    let address = relay.handle.listen_addresses().remove(0);
    let mut witness = config(&SecretKey::generate().unwrap(), keys);
    witness.bootstrap = vec![(key.public(), address)];
    let witness = start(witness, other, CancellationToken::new()).await.unwrap();
    let relaying = async {
        while !relay.handle.is_relay() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, relaying).await.unwrap();
    drop(witness);
    (relay, key.public(), judge)
}

#[tokio::test]
async fn a_circuit_leads_members_in_and_nobody_else() {
    let keys = Keyring::from(PoolKey::generate().unwrap());
    let (relay, relay_id, relay_judge) = relay(&keys).await;
    let at = parse(&relay.handle.listen_addresses()[0]).unwrap();
    let circuit = at.clone().with(Protocol::P2p(peer_id(&relay_id).unwrap())).with(Protocol::P2pCircuit);

    let [mut hidden, mut member, mut banned, mut other, mut stranger] = [
        bare(&keys).await,
        bare(&keys).await,
        bare(&keys).await,
        bare(&keys).await,
        bare(&Keyring::from(PoolKey::generate().unwrap())).await,
    ];
    relay_judge.banned.lock().unwrap().insert(other.id);
    hidden.judge.banned.lock().unwrap().insert(banned.id);
    assert!(hidden.reserve(&circuit).await, "a member gets a reservation");
    assert!(!stranger.reserve(&circuit).await && !other.reserve(&circuit).await, "and nobody else does");
    let (target, running) = (hidden.id, hidden.run());

    let way = member.dial(target, &circuit).await.unwrap();
    assert!(way.is_relayed(), "{way:?}");
    // Whom the target's ledger does not know stops at the target's own gate, whatever the relay thinks of him.
    let why = banned.dial(target, &circuit).await.unwrap_err();
    assert!(why.contains("not admitted"), "{why}");
    // And these two do not get as far as to the target.
    for outsider in [&mut stranger, &mut other] {
        outsider.dial(target, &circuit).await.unwrap_err();
    }
    // The relay is not the target: a circuit to somebody without a reservation leads nowhere.
    let nobody = SecretKey::generate().unwrap().public();
    member.dial(nobody, &circuit).await.unwrap_err();
    running.abort();
}
