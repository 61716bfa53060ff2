//! The handle that everyone but the driver holds: typed questions, and what the swarm tells in return.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use zero2ai_proto::{NodeId, limits::GOSSIP_BYTES};

use crate::{config::TUNNEL_OPENING, error::NetError, judge::Topic, nat::Reach, tunnel::Tunnel};

/// What the swarm tells the node, through a queue of 256. When it is full, gossip is dropped (and counted, see
/// [`NetHandle::dropped_gossip`]); peers that came or went are told as soon as there is room, a peer that went and came
/// back meanwhile not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// A message that the judge accepted. Own messages do not come back.
    Gossip {
        /// What it is about.
        topic: Topic,
        /// Who signed it: admitted, as the judge sees it.
        author: NodeId,
        /// The peer it came from.
        relayed_by: NodeId,
        /// Gossipsub's sequence number, signed with it: each later message of one author has a higher one, after a restart too unless
        /// his clock went back.
        number: u64,
        /// Its bytes, at most `GOSSIP_BYTES`.
        data: Vec<u8>,
    },
    /// A peer passed the gate and is connected.
    PeerUp(NodeId),
    /// The last connection to a peer ended. A peer that crashes is missed after ten to fifteen seconds, one that
    /// restarts at once.
    PeerDown(NodeId),
}

/// A record that a node holds for the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRecord {
    /// Where.
    pub key: [u8; 32],
    /// Its bytes.
    pub value: Vec<u8>,
    /// The peer that brought it, of whose share it takes; `None` for this node itself.
    pub from: Option<NodeId>,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, NetError>>;

/// What a handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    Put {
        key: [u8; 32],
        value: Vec<u8>,
        copies: usize,
        reply: Reply<usize>,
    },
    Get {
        key: [u8; 32],
        newest: bool,
        reply: Reply<Option<Vec<u8>>>,
    },
    Provide {
        key: [u8; 32],
        reply: Reply<()>,
    },
    Unprovide {
        key: [u8; 32],
        reply: Reply<()>,
    },
    Providers {
        key: [u8; 32],
        reply: Reply<Vec<NodeId>>,
    },
    Publish {
        topic: Topic,
        data: Vec<u8>,
        reply: Reply<()>,
    },
    Dial {
        node: NodeId,
        address: String,
        reply: Reply<()>,
    },
    Reach {
        node: NodeId,
        addresses: Vec<String>,
        reply: Reply<()>,
    },
    /// The reply is dropped if there is no connection, or the node takes no tunnel.
    Tunnel {
        node: NodeId,
        reply: oneshot::Sender<Tunnel>,
    },
    Held {
        reply: Reply<Vec<HeldRecord>>,
    },
    Restore {
        records: Vec<HeldRecord>,
        reply: Reply<usize>,
    },
}

/// How a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// From here to there: at its address, or through a punched hole.
    Direct,
    /// Through a relay.
    Relayed,
}

impl Path {
    pub(crate) const fn of(relayed: bool) -> Self {
        if relayed { Self::Relayed } else { Self::Direct }
    }
}

/// What the driver lets everyone see.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) paths: Vec<(NodeId, Path)>,
    pub(crate) addresses: Vec<String>,
    pub(crate) circuits: Vec<String>,
    pub(crate) external: Vec<String>,
    pub(crate) relays: Vec<NodeId>,
    pub(crate) reach: Reach,
    pub(crate) relaying: bool,
}

/// Counters shared by driver and handles.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) refused: AtomicU64,
    pub(crate) dropped_gossip: AtomicU64,
}

/// Speaks to the swarm's task. Cheap to clone. What it shows of peers and addresses is at most 200 ms old. Commands go through a queue of 256; when it is full, callers wait. Once the
/// task has ended every method that asks it fails with [`NetError::Stopped`].
#[derive(Clone, Debug)]
pub struct NetHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) counters: Arc<Counters>,
}

impl NetHandle {
    /// Publishes a record in the DHT and keeps it published (every ten minutes, and when peers join) until it expires or
    /// one with a higher sequence number is put. Answers with the number of *other* nodes that validated and hold it:
    /// as soon as `want_copies` do (bounded by the peers there are, at most 8) at one of the key's three places, or fewer
    /// if no more can be had; 0 alone. The other places are filled meanwhile.
    ///
    /// # Errors
    /// [`NetError::Record`] if it is invalid or not newer than what is held here; [`NetError::Busy`].
    pub async fn put_record(&self, key: [u8; 32], value: Vec<u8>, want_copies: usize) -> Result<usize, NetError> {
        self.ask(|reply| Command::Put { key, value, copies: want_copies, reply }).await
    }

    /// A valid record of a key, soon: the highest sequence number among the answers that arrive within 30 ms of the first.
    /// Every answer is judged here, whoever gave it. Asked is the key's first place, and the two others as well after 400
    /// ms without an answer. `None` after all were asked (at most ten seconds for each).
    ///
    /// # Errors
    /// [`NetError::Busy`], [`NetError::Stopped`].
    pub async fn get_record(&self, key: [u8; 32]) -> Result<Option<Vec<u8>>, NetError> {
        self.ask(|reply| Command::Get { key, newest: false, reply }).await
    }

    /// The newest valid record of a key that anyone asked has: all its places are asked to the end (at most ten seconds).
    /// Who gives out an older one quickly, or holds back the newer one at one place, is outdone by the others.
    ///
    /// # Errors
    /// [`NetError::Busy`], [`NetError::Stopped`].
    pub async fn get_newest_record(&self, key: [u8; 32]) -> Result<Option<Vec<u8>>, NetError> {
        self.ask(|reply| Command::Get { key, newest: true, reply }).await
    }

    /// Announces this node as a provider of a key, and again every ten minutes and when peers join. Returns when the
    /// closest nodes were told.
    ///
    /// # Errors
    /// [`NetError::Provide`], [`NetError::Busy`].
    pub async fn start_providing(&self, key: [u8; 32]) -> Result<(), NetError> {
        self.ask(|reply| Command::Provide { key, reply }).await
    }

    /// Stops announcing. Other nodes forget it when their entry expires, at most forty minutes later.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn stop_providing(&self, key: [u8; 32]) -> Result<(), NetError> {
        self.ask(|reply| Command::Unprovide { key, reply }).await
    }

    /// Nodes that say they provide a key and that the judge allows: at most 64, in no order, this one included. Those
    /// named within 100 ms after two of the key's three places had named some; what there is after all three were asked to
    /// the end (at most ten seconds).
    ///
    /// # Errors
    /// [`NetError::Busy`], [`NetError::Stopped`].
    pub async fn providers(&self, key: [u8; 32]) -> Result<Vec<NodeId>, NetError> {
        self.ask(|reply| Command::Providers { key, reply }).await
    }

    /// Sends a message to everyone on a topic, directly to the peers of this node. Alone in the pool it is no error.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] beyond `GOSSIP_BYTES`; [`NetError::Publish`] if no peer could take it.
    pub async fn publish(&self, topic: Topic, data: Vec<u8>) -> Result<(), NetError> {
        if data.len() > GOSSIP_BYTES {
            return Err(NetError::TooLarge { bytes: data.len(), limit: GOSSIP_BYTES });
        }
        self.ask(|reply| Command::Publish { topic, data, reply }).await
    }

    /// Connects to a node at a multiaddress and remembers the address. Returns when connected, at once if it is already.
    ///
    /// # Errors
    /// [`NetError::Address`]; [`NetError::Dial`] if it can't be reached or either gate refuses.
    pub async fn dial(&self, node: NodeId, address: &str) -> Result<(), NetError> {
        self.ask(|reply| Command::Dial { node, address: address.to_owned(), reply }).await
    }

    /// Every record this node holds for the DHT, to be kept over a restart: at most 24,576, and 128 MiB.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn held_records(&self) -> Result<Vec<HeldRecord>, NetError> {
        self.ask(|reply| Command::Held { reply }).await
    }

    /// Gives back what [`NetHandle::held_records`] gave before a restart. Each is judged anew; what has expired, is not
    /// valid or is older than what is held by now is passed over, and so is what its peer's share has no room for. Returns, after a tenth
    /// of the swarm's time was spent on it for as long as it takes, how many were taken.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn restore_records(&self, records: Vec<HeldRecord>) -> Result<usize, NetError> {
        self.ask(|reply| Command::Restore { records, reply }).await
    }

    /// Nodes connected now, at most 512.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        self.view.borrow().paths.iter().map(|(node, _)| *node).collect()
    }

    /// The same, each with the way it is connected.
    #[must_use]
    pub fn paths(&self) -> Vec<(NodeId, Path)> {
        self.view.borrow().paths.clone()
    }

    /// The way one node is connected; `None` if it is not.
    #[must_use]
    pub fn path(&self, node: &NodeId) -> Option<Path> {
        self.view.borrow().paths.iter().find(|(id, _)| id == node).map(|(_, path)| *path)
    }

    /// Whether this node can be reached from outside its network, as far as peers have told.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.view.borrow().reach
    }

    /// Relays that take connections for this node, at most 2.
    #[must_use]
    pub fn relays(&self) -> Vec<NodeId> {
        self.view.borrow().relays.clone()
    }

    /// True if this node relays for others: some peer reached it at an address that it was not told by this node.
    #[must_use]
    pub fn is_relay(&self) -> bool {
        self.view.borrow().relaying
    }

    /// Multiaddresses of circuits that lead to this node, without its own identity at the end.
    #[must_use]
    pub fn circuit_addresses(&self) -> Vec<String> {
        self.view.borrow().circuits.clone()
    }

    /// Multiaddresses at which a peer dialled this node back with success, at most 32.
    #[must_use]
    pub fn external_addresses(&self) -> Vec<String> {
        self.view.borrow().external.clone()
    }

    /// Opens a tunnel to a member: over the connection there is, a direct one before a relayed one; or over a new one, at
    /// `addresses` (the first 8) and wherever else it is known to be.
    ///
    /// # Errors
    /// [`NetError::Dial`]; [`NetError::Tunnel`] if it takes none within five seconds: it has too many, or is of an older
    /// version.
    pub async fn tunnel(&self, node: NodeId, addresses: Vec<String>) -> Result<Tunnel, NetError> {
        if self.path(&node).is_none() {
            self.ask(|reply| Command::Reach { node, addresses, reply }).await?;
        }
        let (reply, opened) = oneshot::channel();
        self.commands.send(Command::Tunnel { node, reply }).await.map_err(|_| NetError::Stopped)?;
        let refused = |reason| NetError::Tunnel { node, reason };
        match timeout(TUNNEL_OPENING, opened).await {
            Ok(Ok(tunnel)) => Ok(tunnel),
            Ok(Err(_)) => Err(refused("it is not connected, or takes none")),
            Err(_) => Err(refused("no answer came in time")),
        }
    }

    /// Multiaddresses this node listens on itself.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<String> {
        self.view.borrow().addresses.clone()
    }

    /// Inbound connections turned away at the gate or beyond the limits since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed)
    }

    /// Accepted gossip messages that the node was too slow to take, since the start.
    #[must_use]
    pub fn dropped_gossip(&self) -> u64 {
        self.counters.dropped_gossip.load(Ordering::Relaxed)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, NetError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NetError::Stopped)?;
        answer.await.map_err(|_| NetError::Stopped)?
    }
}
