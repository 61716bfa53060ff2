//! The task that owns the swarm: commands in, events out, housekeeping in between. `events` holds its reactions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    gossipsub::PublishError,
    kad::{self, KBucketKey, Quorum, Record, RecordKey},
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{NodeId, record::dht_key::places};

use crate::{
    announce::{Announcer, chance, quorum},
    book::{ADDRESSES_EACH, Book, ENOUGH},
    config::{
        BOOTSTRAP_TICKS, COMMANDS, EVENTS, EXPIRY_TICKS, FEW_PEERS, GOODBYE, MEETING_PAUSE, MEETINGS_KEPT, NetConfig,
        REPLICATION, SECOND_TICKS, TICK, TRIM_TICKS, TUNNELS,
    },
    error::{NetError, chain},
    gossip::Topics,
    handle::{Command, Counters, NetEvent, NetHandle, Reply, View},
    identity::peer_id,
    judge::{Judge, Topic},
    listen::listen,
    nat::Nat,
    peer::Peer,
    providers::OWN_KEYS,
    queries::{Queries, Search},
    records::Shelf,
    refresh::Refresh,
    restore::Restoring,
    swarm::{Behaviours, build, build_over, parse, relay_of, short},
    transport::Secured,
    trim::{MANY, surplus},
    tunnel::Tunnel,
};

/// Bootstrap nodes of one configuration: more are refused at the start.
const BOOTSTRAP_NODES: usize = 64;
/// Dials begun in one tick.
const DIALS_PER_TICK: usize = 8;

/// A swarm that runs.
#[derive(Debug)]
pub struct Running {
    /// Speaks to it.
    pub handle: NetHandle,
    /// What it tells. Dropping the receiver drops all gossip; the swarm goes on.
    pub events: mpsc::Receiver<NetEvent>,
    /// Tunnels that members opened to this node, and who. 32 may wait; more are closed at once, and all are once the
    /// receiver is dropped.
    pub tunnels: mpsc::Receiver<(NodeId, Tunnel)>,
    /// Ends with `Ok` when it was told to stop, with an error if the listener failed. Whoever holds it must notice.
    pub task: JoinHandle<Result<(), NetError>>,
}

/// Starts the swarm of one pool and returns once it listens. It dials the bootstrap nodes, then whatever it learns,
/// and dials again, with back-off, whoever is lost. Stopping takes at most 200 ms.
///
/// # Errors
/// [`NetError::Listen`] if the port is taken, [`NetError::Address`] for an unusable bootstrap address,
/// [`NetError::Setup`].
pub async fn start(config: NetConfig, judge: Arc<dyn Judge>, stop: CancellationToken) -> Result<Running, NetError> {
    let topics = Topics::new(&short(&config));
    let swarm = build(&config, &judge, &topics)?;
    run(swarm, topics, config, judge, stop).await
}

/// [`start`] over another transport, which proves identities and whose addresses look like QUIC's. For simulations alone: no
/// pool proof is asked for here. Hidden, since it is the one place where a type of the networking library crosses this
/// crate's border; a Cargo feature would have to be switched on by whoever runs the tests.
///
/// # Errors
/// As [`start`].
#[doc(hidden)]
pub async fn start_over(
    wire: Secured,
    config: NetConfig,
    judge: Arc<dyn Judge>,
    stop: CancellationToken,
) -> Result<Running, NetError> {
    let topics = Topics::new(&short(&config));
    let swarm = build_over(wire, &config, &judge, &topics)?;
    run(swarm, topics, config, judge, stop).await
}

async fn run(
    mut swarm: Swarm<Behaviours>,
    topics: Topics,
    config: NetConfig,
    judge: Arc<dyn Judge>,
    stop: CancellationToken,
) -> Result<Running, NetError> {
    let now = Instant::now();
    let local = config.key.public();
    let mut book = Book::default();
    if config.bootstrap.len() > BOOTSTRAP_NODES {
        let reason = format!("{} bootstrap nodes; {BOOTSTRAP_NODES} are allowed", config.bootstrap.len());
        return Err(NetError::Setup { part: "bootstrap", reason });
    }
    for (node, address) in config.bootstrap.iter().filter(|(node, _)| *node != local) {
        let bad = |reason: &str| NetError::Setup { part: "bootstrap", reason: format!("node {node} {reason}") };
        book.bootstrap(peer_id(node).ok_or_else(|| bad("is no public key"))?, parse(address)?, now);
    }
    let listening = listen(&mut swarm, config.listen).await?;

    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (events, event_queue) = mpsc::channel(EVENTS);
    let (tunnels, tunnel_queue) = mpsc::channel(TUNNELS);
    let (view, seen) = watch::channel(View::default());
    let counters = Arc::new(Counters::default());
    let mut driver = Driver {
        swarm,
        listeners: listening.ids,
        local,
        judge,
        topics,
        book,
        nat: Nat::default(),
        guests: BTreeSet::new(),
        relaying: false,
        closing: HashMap::new(),
        tunnels,
        queries: Queries::default(),
        announcer: Announcer::new(now),
        refresh: Refresh::default(),
        restoring: Restoring::default(),
        peers: BTreeMap::new(),
        told: BTreeSet::new(),
        untold: false,
        changed: false,
        dials: HashMap::new(),
        events,
        view,
        counters: Arc::clone(&counters),
        met_again: HashMap::new(),
        ticks: 0,
    };
    for address in listening.addresses {
        tracing::info!(%address, node = %local.short(), "the swarm listens");
    }
    driver.listens_anew();
    driver.show();
    let task = tokio::spawn(driver.run(command_queue, stop));
    let handle = NetHandle { commands, view: seen, counters };
    Ok(Running { handle, events: event_queue, tunnels: tunnel_queue, task })
}

/// A caller that waits for a connection.
pub(crate) struct Dialing {
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) reply: Reply<()>,
}

/// The swarm and everything that is known around it.
pub(crate) struct Driver {
    pub(crate) swarm: Swarm<Behaviours>,
    /// The listeners whose end is the swarm's: one, or two of a node that listens on every address. Others are circuits.
    pub(crate) listeners: Vec<ListenerId>,
    pub(crate) local: NodeId,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) topics: Topics,
    pub(crate) book: Book,
    pub(crate) queries: Queries,
    pub(crate) announcer: Announcer,
    pub(crate) refresh: Refresh,
    pub(crate) restoring: Restoring,
    pub(crate) nat: Nat,
    /// Peers to which this node promised to relay: as many as it has places for reservations.
    pub(crate) guests: BTreeSet<PeerId>,
    /// Whether this node relays for others.
    pub(crate) relaying: bool,
    /// Connections that have served, and when each is closed: at most those there are.
    pub(crate) closing: HashMap<ConnectionId, Instant>,
    pub(crate) tunnels: mpsc::Sender<(NodeId, Tunnel)>,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    /// Peers whose coming was told and whose going was not.
    pub(crate) told: BTreeSet<NodeId>,
    /// Somebody came or went since all was told.
    pub(crate) untold: bool,
    /// What handles see is not what is so any more. They are shown it with the next tick.
    pub(crate) changed: bool,
    pub(crate) dials: HashMap<ConnectionId, Dialing>,
    pub(crate) events: mpsc::Sender<NetEvent>,
    pub(crate) view: watch::Sender<View>,
    pub(crate) counters: Arc<Counters>,
    /// When connections to a restarted peer were last ended, and how often of late.
    met_again: HashMap<PeerId, (Instant, u32)>,
    ticks: u64,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) -> Result<(), NetError> {
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.queries.next_due();
            tokio::select! {
                () = stop.cancelled() => break,
                event = self.swarm.select_next_some() => self.react(event)?,
                // Without handles left there is nobody to ask, but peers still need this node.
                Some(command) = commands.recv() => self.carry_out(command),
                () = time::sleep_until(due.unwrap_or_else(time::Instant::now)), if due.is_some() => self.attend(),
                _ = tick.tick() => self.housekeep(),
            }
        }
        self.say_goodbye().await;
        Ok(())
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Put { key, value, copies, reply } => self.put(key, value, copies, reply),
            Command::Get { key, newest, reply } => {
                if let Some(reply) = self.admit(reply) {
                    self.queries.get(key, newest, reply);
                }
            }
            Command::Provide { key, reply } => {
                let Some(reply) = self.admit(reply) else { return };
                let kad = &mut self.swarm.behaviour_mut().dht.kad;
                let begun = places(&key).map(|place| kad.start_providing(RecordKey::new(&place)));
                match begun.into_iter().collect::<Result<_, _>>() {
                    Ok(ids) => self.queries.provide(ids, reply),
                    Err(_) => drop(reply.send(Err(NetError::Provide { limit: OWN_KEYS }))),
                }
            }
            Command::Unprovide { key, reply } => {
                let kad = &mut self.swarm.behaviour_mut().dht.kad;
                for place in places(&key) {
                    kad.stop_providing(&RecordKey::new(&place));
                }
                drop(reply.send(Ok(())));
            }
            Command::Providers { key, reply } => {
                if let Some(reply) = self.admit(reply) {
                    self.queries.providers(key, reply);
                }
            }
            Command::Publish { topic, data, reply } => drop(reply.send(self.publish(topic, data))),
            Command::Dial { node, address, reply } => self.dial(node, address, reply),
            Command::Held { reply } => {
                drop(reply.send(Ok(self.swarm.behaviour_mut().dht.kad.store_mut().snapshot())));
            }
            Command::Restore { records, reply } => {
                self.restoring.add(records, self.swarm.behaviour_mut().dht.kad.store_mut(), reply);
            }
            Command::Reach { node, addresses, reply } => self.reach(node, &addresses, reply),
            Command::Tunnel { node, reply } => {
                if let Some(peer) = peer_id(&node) {
                    self.swarm.behaviour_mut().tunnels.open(peer, reply);
                }
            }
        }
    }

    /// The reply, if one more question may be asked.
    fn admit<T>(&self, reply: Reply<T>) -> Option<Reply<T>> {
        match self.queries.room() {
            Ok(()) => Some(reply),
            Err(busy) => {
                drop(reply.send(Err(busy)));
                None
            }
        }
    }

    fn put(&mut self, key: [u8; 32], value: Vec<u8>, copies: usize, reply: Reply<usize>) {
        let Some(reply) = self.admit(reply) else { return };
        let wanted = copies.min(self.peers.len()).min(REPLICATION);
        let goal = if wanted == 0 { Quorum::All } else { quorum(wanted) };
        let kad = &mut self.swarm.behaviour_mut().dht.kad;
        let mut queries = Vec::new();
        for place in places(&key) {
            let record = Record::new(RecordKey::new(&place), value.clone());
            // Kademlia takes it by the same way a moment later; this one says why not.
            if let Err(refusal) = kad.store_mut().take(record.clone()) {
                return drop(reply.send(Err(refusal.into())));
            }
            kad.store_mut().own(&place);
            queries.extend(kad.put_record(record, goal));
        }
        if wanted == 0 {
            return drop(reply.send(Ok(0)));
        }
        self.queries.put(queries, wanted, reply);
    }

    fn publish(&mut self, topic: Topic, data: Vec<u8>) -> Result<(), NetError> {
        let Some(hash) = self.topics.hash(topic) else { return Ok(()) };
        match self.swarm.behaviour_mut().gossip.publish(hash, data) {
            // Alone, or told already: nobody is left to tell.
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => Ok(()),
            Err(error) => Err(NetError::Publish(error.to_string())),
        }
    }

    fn dial(&mut self, node: NodeId, address: String, reply: Reply<()>) {
        let target = parse(&address).and_then(|multiaddr| {
            let reason = || "that identity is no public key".to_owned();
            let peer = peer_id(&node).ok_or_else(|| NetError::Address { text: address.clone(), reason: reason() })?;
            Ok((peer, multiaddr))
        });
        let (peer, multiaddr) = match target {
            Ok(target) => target,
            Err(error) => return drop(reply.send(Err(error))),
        };
        self.book.learn(peer, std::slice::from_ref(&multiaddr), Instant::now());
        if self.peers.contains_key(&peer) {
            self.book.connected(&peer, Instant::now());
            return drop(reply.send(Ok(())));
        }
        let opts = DialOpts::peer_id(peer).addresses(vec![multiaddr]);
        self.begin(opts.condition(PeerCondition::Disconnected).build(), Dialing { node, address, reply });
    }

    /// Connects to a node wherever it may be: at these addresses, and at those that the book and the DHT know.
    fn reach(&mut self, node: NodeId, addresses: &[String], reply: Reply<()>) {
        let address = addresses.first().cloned().unwrap_or_else(|| "no known address".to_owned());
        let Some(peer) = peer_id(&node) else {
            let reason = "that identity is no public key".to_owned();
            return drop(reply.send(Err(NetError::Dial { node, address, reason })));
        };
        if self.peers.contains_key(&peer) {
            return drop(reply.send(Ok(())));
        }
        let own = *self.swarm.local_peer_id();
        let told = addresses.iter().take(ADDRESSES_EACH).filter_map(|text| parse(text).ok());
        let told = told.filter(|address| relay_of(address) != Some(own));
        let mut all: Vec<Multiaddr> = told.chain(self.book.addresses(&peer)).collect();
        all.sort();
        all.dedup();
        let opts = DialOpts::peer_id(peer).addresses(all).extend_addresses_through_behaviour();
        self.begin(opts.condition(PeerCondition::Disconnected).build(), Dialing { node, address, reply });
    }

    fn begin(&mut self, opts: DialOpts, dialing: Dialing) {
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => drop(self.dials.insert(id, dialing)),
            Err(error) => {
                let Dialing { node, address, reply } = dialing;
                drop(reply.send(Err(NetError::Dial { node, address, reason: chain(&error) })));
            }
        }
    }

    /// Begins and ends the queries that are due.
    fn attend(&mut self) {
        let kad = &mut self.swarm.behaviour_mut().dht.kad;
        let due = self.queries.due(time::Instant::now(), kad.store_mut());
        for (ask, search, place) in due.begin {
            let id = match search {
                Search::Record => kad.get_record(RecordKey::new(&place)),
                Search::Providers => kad.get_providers(RecordKey::new(&place)),
            };
            self.queries.began(ask, id);
        }
        end(kad, due.end);
    }

    fn housekeep(&mut self) {
        let now = Instant::now();
        self.ticks = self.ticks.wrapping_add(1);
        self.tell();
        if self.changed {
            self.show();
        }
        let second = self.ticks.is_multiple_of(SECOND_TICKS);
        // Who has enough peers dials bootstrap nodes alone, minutes after they went.
        if second || self.peers.len() < ENOUGH {
            self.redial(now);
        }
        let kad = &mut self.swarm.behaviour_mut().dht.kad;
        self.restoring.turn(kad.store_mut());
        end(kad, self.queries.abandoned());
        if !self.peers.is_empty() {
            self.announcer.run(kad, now);
        }
        if self.ticks.is_multiple_of(EXPIRY_TICKS) {
            kad.store_mut().expire();
        }
        if self.ticks.is_multiple_of(BOOTSTRAP_TICKS) && (1..FEW_PEERS).contains(&self.peers.len()) {
            // Fails only with an empty routing table, which the next connection fills.
            let _ = kad.bootstrap();
        }
        if self.ticks.is_multiple_of(TRIM_TICKS) {
            self.trim(now);
        }
        if second {
            self.look_after(now);
        }
    }

    /// What is looked at once in a second.
    fn look_after(&mut self, now: Instant) {
        self.keep_reachable(now);
        self.expel();
        if self.refresh.is_due(now) {
            let query = self.swarm.behaviour_mut().dht.kad.bootstrap().ok();
            self.refresh.began(query, now, chance());
        }
        self.met_again.retain(|_, (last, _)| now.saturating_duration_since(*last) < MEETINGS_KEPT);
        let restarted: Vec<_> = self.peers.iter().filter(|(_, p)| p.restarted(now)).map(|(id, _)| *id).collect();
        for peer in restarted {
            self.meet_again(peer);
        }
    }

    /// Ends all connections with a peer whose process is a new one, so that every protocol meets it afresh. Takes one dial.
    /// Rarer each time: two processes with one identity, or identities that come late on a busy machine, must not keep all
    /// others busy.
    pub(crate) fn meet_again(&mut self, peer: PeerId) {
        let now = Instant::now();
        let (last, times) = self.met_again.get(&peer).copied().unwrap_or((now, 0));
        if times > 0 && now.saturating_duration_since(last) < MEETING_PAUSE.saturating_mul(1 << times.min(7)) {
            return;
        }
        self.met_again.insert(peer, (now, times.saturating_add(1)));
        tracing::debug!(%peer, "a peer restarted: reconnecting");
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn redial(&mut self, now: Instant) {
        let pending = self.swarm.network_info().connection_counters().num_pending_outgoing();
        let pending = usize::try_from(pending).unwrap_or(usize::MAX);
        for (peer, addresses) in self.book.due(now, DIALS_PER_TICK, pending) {
            let opts = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::DisconnectedAndNotDialing);
            if let Err(error) = self.swarm.dial(opts.build()) {
                tracing::trace!(%peer, %error, "not dialled");
                self.book.failed(&peer, now);
            }
        }
    }

    /// Disconnects whoever is no longer admitted.
    fn expel(&mut self) {
        let judge = &self.judge;
        let gone: Vec<_> = self.peers.iter().filter(|(_, p)| !judge.admitted(&p.node)).map(|(id, _)| *id).collect();
        for peer in gone {
            tracing::info!(%peer, "disconnected: no longer admitted to the pool");
            self.book.forget(&peer);
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Ends connections beyond what a large pool needs of each node.
    fn trim(&mut self, now: Instant) {
        let since = |peer: &Peer| peer.links.first().map(|link| link.since);
        let connected: Vec<_> = self.peers.iter().filter_map(|(id, peer)| Some((*id, since(peer)?))).collect();
        if connected.len() <= MANY {
            return;
        }
        let mut needed: BTreeSet<_> = self.swarm.behaviour().gossip.all_mesh_peers().copied().collect();
        let local = KBucketKey::from(*self.swarm.local_peer_id());
        let behaviours = self.swarm.behaviour_mut();
        let nearest = behaviours.dht.kad.get_closest_local_peers(&local).take(2 * REPLICATION);
        needed.extend(nearest.map(|key| *key.preimage()));
        // A relay's clients are in nobody's buckets, and its circuits are the only way to them.
        needed.extend(self.nat.reserved().copied());
        needed.extend(self.guests.iter().copied());
        needed.extend(self.swarm.behaviour().tunnels.used());
        for peer in surplus(connected.into_iter(), &needed, now) {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Closes connections in a way that peers notice at once, rather than after ten seconds of silence.
    async fn say_goodbye(&mut self) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
            // The last close frame leaves with the endpoint's next turn.
            time::sleep(GOODBYE / 4).await;
        };
        let _ = time::timeout(GOODBYE, closing).await;
    }
}

/// Ends queries whose results nobody waits for any more.
fn end(kad: &mut kad::Behaviour<Shelf>, queries: Vec<kad::QueryId>) {
    for id in queries {
        if let Some(mut query) = kad.query_mut(&id) {
            query.finish();
        }
    }
}
