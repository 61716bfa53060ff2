//! One run: nodes join, records are published, nodes come and go, and everyone looks things up meanwhile.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId,
    identity::{Keypair, ed25519},
    kad::KBucketKey,
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use zero2ai_net::{NetConfig, NetEvent, NetHandle, Topic, start_over};
use zero2ai_proto::{
    NodeId, PoolId, SecretKey,
    ids::tagged_hash,
    pool::{Keyring, PoolKey},
};

use crate::{
    hostile::{self, Manner, Plot},
    report::{Lookup, Report, Tally},
    truth::{Answer, Truth},
    wire::{Host, Net},
};

/// The first nodes: everybody's bootstrap addresses, as in an invite. They stay.
const BOOTSTRAP: usize = 4;
/// How long the peers of a node that crashed do not notice: QUIC's idle timeout.
const MISSED: Duration = Duration::from_secs(10);
/// Providers of each key.
const PROVIDERS: usize = 3;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Per cent of the nodes that leave within an hour, replaced by as many new ones.
    pub(crate) churn: u32,
    pub(crate) window: Duration,
    /// Per cent of the nodes that are hostile: half of them lie, half are silent.
    pub(crate) hostile: usize,
    /// More hostile identities, next to one key.
    pub(crate) sybils: usize,
    pub(crate) seed: u64,
    pub(crate) rtt: Duration,
    pub(crate) joins_per_second: u32,
    pub(crate) records: usize,
    pub(crate) lookups_per_second: u32,
    /// Time between the last join and the first publication.
    pub(crate) calm: Duration,
    pub(crate) progress: bool,
}

/// Random numbers of a seed: a hash of it and a counter.
struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    fn bytes(&mut self) -> [u8; 32] {
        self.thrown += 1;
        tagged_hash("zero2ai simulation dice v1", &[self.seed.to_be_bytes(), self.thrown.to_be_bytes()].concat())
    }

    fn below(&mut self, n: usize) -> usize {
        let number = u64::from_be_bytes(*self.bytes().first_chunk().expect("32 bytes"));
        usize::try_from(number % u64::try_from(n.max(1)).expect("fits")).expect("fits")
    }
}

#[derive(Clone)]
struct Member {
    id: NodeId,
    address: Multiaddr,
    handle: NetHandle,
    host: Arc<Host>,
    stop: CancellationToken,
    since: Instant,
}

struct World {
    plan: Plan,
    net: Arc<Net>,
    truth: Arc<Truth>,
    pool: PoolId,
    keys: Keyring,
    dice: Dice,
    hosts: u32,
    live: Vec<Member>,
    /// Hosts of honest nodes that were here at any time.
    every: Vec<Arc<Host>>,
    heard: Arc<AtomicU64>,
    stop: CancellationToken,
}

fn peer_of(key: &SecretKey) -> (Keypair, PeerId) {
    let mut seed = *key.to_bytes();
    let secret = ed25519::SecretKey::try_from_bytes(&mut seed).expect("32 bytes");
    let keys = Keypair::from(ed25519::Keypair::from(secret));
    let peer = keys.public().to_peer_id();
    (keys, peer)
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut dice = Dice { seed: plan.seed, thrown: 0 };
        let pool = PoolId::of(&dice.bytes());
        let keys = PoolKey::generate().expect("randomness").into();
        let (net, truth) = (Net::new(plan.rtt / 2), Truth::new(dice.bytes()));
        let (stop, heard) = (CancellationToken::new(), Arc::default());
        Self { plan, net, truth, pool, keys, dice, hosts: 0, live: Vec::new(), every: Vec::new(), heard, stop }
    }

    fn say(&self, what: &str) {
        if self.plan.progress {
            eprintln!("{what}");
        }
    }

    fn address(&mut self) -> SocketAddr {
        self.hosts += 1;
        SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + self.hosts), 7000))
    }

    async fn join(&mut self) {
        let key = SecretKey::from_bytes(&self.dice.bytes());
        let (listen, id) = (self.address(), key.public());
        self.truth.admit(id);
        let host = Arc::new(Host::default());
        let bootstrap = self.live.iter().take(BOOTSTRAP).map(|m| (m.id, m.address.to_string())).collect();
        let (pool, pool_keys) = (self.pool, self.keys.clone());
        let config = NetConfig { key: key.clone(), pool, pool_keys, listen, bootstrap, mdns: false };
        let wire = self.net.wire(peer_of(&key).1, Arc::clone(&host));
        let stop = self.stop.child_token();
        let mut running =
            start_over(wire, config, Arc::clone(&self.truth) as Arc<_>, stop.clone()).await.expect("a node starts");
        let (handle, address) =
            (running.handle.clone(), running.handle.listen_addresses()[0].parse().expect("its own"));
        let heard = Arc::clone(&self.heard);
        tokio::spawn(async move {
            while let Some(event) = running.events.recv().await {
                if matches!(event, NetEvent::Gossip { .. }) {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        self.every.push(Arc::clone(&host));
        self.live.push(Member { id, address, handle, host, stop, since: Instant::now() });
    }

    /// One node leaves: every second one says goodbye, the others crash.
    fn leave(&mut self, politely: bool) {
        if self.live.len() <= BOOTSTRAP {
            return;
        }
        let who = BOOTSTRAP + self.dice.below(self.live.len() - BOOTSTRAP);
        let member = self.live.remove(who);
        if politely {
            member.stop.cancel();
        } else {
            member.host.dead.store(true, Ordering::Relaxed);
            tokio::spawn(async move {
                sleep(MISSED).await;
                member.stop.cancel();
            });
        }
    }

    /// A member that has been here long enough to have found its way.
    fn anyone(&mut self) -> Member {
        loop {
            let at = self.dice.below(self.live.len());
            let settled = self.live[at].since.elapsed() >= self.plan.calm.min(Duration::from_secs(20));
            if settled || at < BOOTSTRAP {
                return self.live[at].clone();
            }
        }
    }

    /// Hostile members: a share of all, and those whose identities are ground next to `target`.
    fn turn_hostile(&mut self, target: &[u8; 32]) -> Option<Arc<Plot>> {
        let share = self.plan.nodes * self.plan.hostile / 100;
        let mut keys: Vec<SecretKey> = (0..share).map(|_| SecretKey::from_bytes(&self.dice.bytes())).collect();
        keys.extend(self.ground(target));
        if keys.is_empty() {
            return None;
        }
        let members: Vec<_> = keys
            .iter()
            .map(|key| {
                self.truth.admit(key.public());
                let SocketAddr::V4(at) = self.address() else {
                    unreachable!("addresses here are of the fourth version")
                };
                let (keys, peer) = peer_of(key);
                let address = format!("/ip4/{}/udp/{}/quic-v1", at.ip(), at.port()).parse().expect("an address");
                (keys, peer, address)
            })
            .collect();
        let friends = members.iter().map(|(_, peer, address): &(_, _, Multiaddr)| (*peer, address.clone())).collect();
        let plot = Arc::new(Plot { truth: Arc::clone(&self.truth), friends, lies: AtomicU64::new(0) });
        let pool: String = self.pool.to_string().chars().take(16).collect();
        for (n, (keys, peer, address)) in members.into_iter().enumerate() {
            let wire = self.net.wire(peer, Arc::default());
            let manner = if n % 2 == 0 { Manner::Lies } else { Manner::Silent };
            let victims = (0..24).map(|_| {
                let victim = &self.live[self.dice.below(self.live.len())];
                (peer_id(&victim.id), victim.address.clone())
            });
            let victims = victims.collect();
            let (pool, plot, stop) = (pool.clone(), Arc::clone(&plot), self.stop.child_token());
            tokio::spawn(hostile::run((keys, address, wire), pool, manner, plot, victims, stop));
        }
        Some(plot)
    }

    /// Identities closer to `target` than any honest one.
    fn ground(&mut self, target: &[u8; 32]) -> Vec<SecretKey> {
        let target = KBucketKey::new(target.to_vec());
        let distance = |peer: PeerId| KBucketKey::from(peer).distance(&target);
        let Some(nearest) = self.live.iter().map(|m| distance(peer_id(&m.id))).min() else { return Vec::new() };
        let mut found = Vec::new();
        while found.len() < self.plan.sybils {
            let key = SecretKey::from_bytes(&self.dice.bytes());
            if distance(peer_of(&key).1) < nearest {
                found.push(key);
            }
        }
        found
    }
}

fn peer_id(node: &NodeId) -> PeerId {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).expect("a member's key");
    libp2p::identity::PublicKey::from(key).to_peer_id()
}

/// A key and who provides it.
type Published = ([u8; 32], Vec<NodeId>);

/// Runs the plan.
pub(crate) async fn run(plan: Plan) -> Report {
    let mut world = World::new(plan.clone());
    let lag = Arc::new(Mutex::new(Vec::new()));
    let watch = tokio::spawn(overruns(Arc::clone(&lag)));
    let before = resident_kib();
    for n in 0..plan.nodes - plan.nodes * plan.hostile / 100 {
        world.join().await;
        if n > 0 && n % 50 == 0 {
            let [_, streams, dials] = traffic(&world);
            world.say(&format!("{n} nodes joined; {streams} requests and {dials} dials so far"));
        }
        sleep(Duration::from_secs(1) / plan.joins_per_second).await;
    }
    let target = world.dice.bytes();
    world.say("all joined");
    let plot = world.turn_hostile(&target);
    sleep(plan.calm).await;
    let [_, streams, dials] = traffic(&world);
    world.say(&format!("it is quiet; {streams} requests and {dials} dials so far"));
    let keys = publish(&mut world, target).await;
    sleep(Duration::from_secs(2)).await;
    lag.lock().unwrap().clear();
    let mut report = observe(&mut world, &keys).await;
    watch.abort();
    let mut lag: Vec<_> = lag.lock().unwrap().drain(..).collect();
    report.lag_p99_ms = crate::report::percentile(&mut lag, 99);
    report.memory_kib_per_node = resident_kib().saturating_sub(before) / plan.nodes as u64;
    report.lies = plot.map_or(0, |plot| plot.lies.load(Ordering::Relaxed));
    world.stop.cancel();
    report
}

/// Publishes every record and announces its providers, sixteen at a time. The first key is the one that sybils stand next to.
async fn publish(world: &mut World, target: [u8; 32]) -> Vec<Published> {
    let (mut keys, mut todo) = (Vec::new(), Vec::new());
    for n in 0..world.plan.records {
        let key = if n == 0 { target } else { world.dice.bytes() };
        let (publisher, value) = (world.anyone(), world.truth.next(key));
        let mut providers: Vec<Member> = Vec::new();
        while providers.len() < PROVIDERS.min(BOOTSTRAP) {
            let provider = world.anyone();
            if providers.iter().all(|p| p.id != provider.id) {
                providers.push(provider);
            }
        }
        keys.push((key, providers.iter().map(|p| p.id).collect()));
        todo.push(async move {
            for provider in providers {
                provider.handle.start_providing(key).await.expect("a provider is announced");
            }
            publisher.handle.put_record(key, value, 8).await.expect("a record is published") as u64
        });
    }
    let begin = Instant::now();
    let mut copies: Vec<u64> = futures::stream::iter(todo).buffer_unordered(16).collect().await;
    let (took, half) = (begin.elapsed().as_secs(), crate::report::percentile(&mut copies, 50));
    world.say(&format!("{} records published in {took} s, with {half} copies in the median", copies.len()));
    keys
}

/// The window in which everything is counted.
async fn observe(world: &mut World, keys: &[Published]) -> Report {
    let plan = world.plan.clone();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let (begin, counted) = (Instant::now(), traffic(world));
    let heard_before = world.heard.load(Ordering::Relaxed);
    let (mut lookups, mut churned, mut expected) = (0_u32, 0_u64, 0_u64);
    let per_second = plan.nodes as f64 * f64::from(plan.churn) / 100.0 / 3600.0;
    let mut running = tokio::task::JoinSet::new();
    let (mut renewed, mut gossiped, mut told) = (begin, begin, begin);
    while begin.elapsed() < plan.window {
        lookups += 1;
        sleep_until(begin + Duration::from_secs(1) * lookups / plan.lookups_per_second).await;
        ask(world, keys, lookups as usize, &tally, &mut running);
        while (churned as f64) < begin.elapsed().as_secs_f64() * per_second {
            churned += 1;
            world.leave(churned % 2 == 0);
            world.join().await;
        }
        if renewed.elapsed() > Duration::from_secs(5) {
            renewed = Instant::now();
            renew(world, keys, &mut running);
        }
        if gossiped.elapsed() > Duration::from_secs(10) {
            gossiped = Instant::now();
            expected += world.live.len() as u64 - 1;
            let text = world.dice.bytes().to_vec();
            let _ = world.anyone().handle.publish(Topic::Head, text).await;
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            world.say(&format!("{:.0} s, {}", begin.elapsed().as_secs_f64(), tally.lock().unwrap().line()));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let after = traffic(world);
    while running.join_next().await.is_some() {}
    sleep(Duration::from_secs(2)).await;
    let heard = world.heard.load(Ordering::Relaxed) - heard_before;
    let connections = world.live.iter().map(|m| m.handle.peers().len() as u64).collect();
    let used = [after[0] - counted[0], after[1] - counted[1], after[2] - counted[2]];
    let tally = std::mem::take(&mut *tally.lock().unwrap());
    Report::new(&plan, seconds, tally, used, connections, (heard, expected), churned)
}

/// One lookup more: of every ten four for a record, one for its newest version, three for providers, two at the key that
/// sybils stand next to.
fn ask(
    world: &mut World,
    keys: &[Published],
    number: usize,
    tally: &Arc<Mutex<Tally>>,
    running: &mut tokio::task::JoinSet<()>,
) {
    let (kind, sybils) = match number % 10 {
        0..=3 => (Lookup::Record, false),
        4 => (Lookup::Newest, false),
        5..=7 => (Lookup::Providers, false),
        8 => (Lookup::Record, true),
        _ => (Lookup::Providers, true),
    };
    let at = if sybils || keys.len() == 1 { 0 } else { 1 + world.dice.below(keys.len() - 1) };
    let (key, providers) = keys[at].clone();
    let (member, truth, tally) = (world.anyone(), Arc::clone(&world.truth), Arc::clone(tally));
    let live = world.live.iter().map(|m| m.id).filter(|id| providers.contains(id)).collect::<Vec<_>>();
    running.spawn(async move {
        let (begin, streams) = (Instant::now(), member.host.streams.load(Ordering::Relaxed));
        let answer = match kind {
            Lookup::Record => member.handle.get_record(key).await.ok().flatten().map(|v| truth.judge_answer(&key, &v)),
            Lookup::Newest => {
                member.handle.get_newest_record(key).await.ok().flatten().map(|v| truth.judge_answer(&key, &v))
            }
            Lookup::Providers => {
                let found = member.handle.providers(key).await.unwrap_or_default();
                found.iter().any(|id| live.contains(id)).then_some(Answer::Newest)
            }
        };
        // It left meanwhile: nobody asks any more.
        if member.stop.is_cancelled()
            || member.host.dead.load(Ordering::Relaxed)
            || (kind == Lookup::Providers && live.is_empty())
        {
            return;
        }
        let streams = member.host.streams.load(Ordering::Relaxed) - streams;
        tally.lock().unwrap().add(kind, sybils, answer, begin.elapsed(), streams);
    });
}

/// A record gets its next version, from whomever: what proves itself may be published by anyone.
fn renew(world: &mut World, keys: &[Published], running: &mut tokio::task::JoinSet<()>) {
    let key = keys[world.dice.below(keys.len())].0;
    let (member, value) = (world.anyone(), world.truth.next(key));
    running.spawn(async move {
        let _ = member.handle.put_record(key, value, 8).await;
    });
}

fn traffic(world: &World) -> [u64; 3] {
    let sum = |of: fn(&Host) -> &AtomicU64| world.every.iter().map(|host| of(host).load(Ordering::Relaxed)).sum();
    [sum(|h| &h.sent), sum(|h| &h.streams), sum(|h| &h.dialled)]
}

/// How late a timer fires: a machine that is too slow for the run shows here.
async fn overruns(lag: Arc<Mutex<Vec<u64>>>) {
    loop {
        let begin = Instant::now();
        sleep(Duration::from_millis(100)).await;
        let late = begin.elapsed().saturating_sub(Duration::from_millis(100));
        lag.lock().unwrap().push(u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
