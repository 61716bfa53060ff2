//! What the caller configures, and every tunable of this crate with its reason.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use zero2ai_proto::{NodeId, PoolId, SecretKey, pool::Keyring};

/// How to run the swarm of one pool.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// This node's identity.
    pub key: SecretKey,
    /// The pool.
    pub pool: PoolId,
    /// The pool's keys, proven on every connection: today's, and those before it. They may be renewed while the swarm runs.
    pub pool_keys: Keyring,
    /// UDP address to listen on; `[::]` stands for every address of either kind. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Nodes dialled until connected and never forgotten, each with a multiaddress such as `/ip4/10.0.0.7/udp/7000/quic-v1`.
    /// At most 64.
    pub bootstrap: Vec<(NodeId, String)>,
    /// Look for nodes of this pool on the local network. Its announcements are visible to everyone there: off by default.
    pub mdns: bool,
}

/// Time a new connection has for the pool proof and the admission check. Strangers are held this long: longer lets
/// fewer of them fill [`PENDING_INBOUND`]; shorter cuts off members over slow links.
pub(crate) const GATE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the QUIC handshake. Also how long one dial of a dead host takes to fail.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence after which QUIC calls a peer dead, milliseconds; it counts from the first packet that stays unanswered (RFC 9000,
/// section 10.1). A keep-alive that is lost is repeated by QUIC's own probes, some five within this time. Longer, and
/// lookups go on asking the dead, and who moved is found later; shorter, and a line that fails for seconds costs every connection over it.
pub(crate) const QUIC_IDLE_MS: u32 = 10_000;
/// Silence after which QUIC says that it is alive. A packet there and one back on each of forty connections: rarer saves little
/// more, and the bindings of a NAT, which live for 30 s at least where they keep to less than RFC 4787 (section 4.3) asks, want
/// several in their time. It must be shorter than [`QUIC_IDLE_MS`].
pub(crate) const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Connections with nothing to do stay open this long: in pools of up to hundreds of nodes an open one is worth more
/// than the few kilobytes it costs.
pub(crate) const IDLE_CONNECTION: Duration = Duration::from_secs(3600);
/// Inbound connections that have not passed the gate. Beyond it new ones are refused until some pass or time out.
pub(crate) const PENDING_INBOUND: u32 = 128;
/// Of these, from one IPv4 address or one IPv6 network (/64), so that no single machine keeps everybody else out. Nodes
/// behind one NAT share it, each for a fraction of a second. (The transport has no way to make a dialler show that its
/// address is its own first: by forging one, an attacker can use up its share, and only its.)
pub(crate) const PENDING_PER_IP: usize = 16;
/// The same on this machine, where tests and demos put a whole pool.
pub(crate) const PENDING_LOOPBACK: usize = 64;
/// Connections being dialled. One beyond it is denied, which Kademlia takes for a failure of that peer in all its queries: so it
/// has room for all questions of the announcements under way, and some of callers.
pub(crate) const PENDING_OUTBOUND: u32 = 256;
/// Established connections, both directions. Beyond it new ones are refused.
pub(crate) const ESTABLISHED: u32 = 512;
/// Established connections with one peer: two when both dial at once, and room for their replacements.
pub(crate) const PER_PEER: u32 = 4;
/// Streams a peer may have open at once on one connection.
pub(crate) const STREAMS: u32 = 128;
/// Bytes in flight on one stream: the largest message, a block in gossip, twice. Whoever passed TLS can make us hold it
/// before the gate has looked at him; libp2p's own 10 MB would be 1.3 GB of [`PENDING_INBOUND`] strangers.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes in flight on one connection.
pub(crate) const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Time for a connection through a relay: the circuit, Noise and yamux. Longer holds more of whoever never answers.
pub(crate) const CIRCUIT_SETUP: Duration = Duration::from_secs(8);
/// Streams on a relayed connection. Each may have 256 KiB on the way before the gate has looked at its sender.
pub(crate) const CIRCUIT_STREAMS: usize = 64;
/// Addresses that peers say they see us at and that are tested, since the start. Beyond it no more are.
pub(crate) const CANDIDATES: usize = 32;
/// Members that this node holds a reservation for, as a relay. Beyond it they are refused and ask another relay.
pub(crate) const RESERVATIONS: usize = 128;
/// Circuits through this node at once.
pub(crate) const CIRCUITS: usize = 256;
/// Of these, circuits that one member asked for.
pub(crate) const CIRCUITS_PER_PEER: usize = 32;
/// How long one circuit lives; then both ends connect again. It bounds what a forgotten one costs.
pub(crate) const CIRCUIT_LIFE: Duration = Duration::from_secs(3_600);
/// Bytes that one circuit carries in its life, both ways: gossip and calls for an hour, and bulk at what `crates/node` lets
/// through a relay (1 MiB/s) for a quarter of one.
pub(crate) const CIRCUIT_BYTES: u64 = 1 << 30;
/// A member may ask for one circuit in this time on average, after a burst of [`CIRCUIT_BURST`]. Redials of a member that is
/// away count, too.
pub(crate) const CIRCUIT_EVERY: Duration = Duration::from_secs(1);
/// Circuits asked for in one go.
pub(crate) const CIRCUIT_BURST: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// The same for reservations; each lives an hour and is renewed before its end.
pub(crate) const RESERVE_EVERY: Duration = Duration::from_secs(5);
/// Reservations asked for in one go.
pub(crate) const RESERVE_BURST: NonZeroU32 = NonZeroU32::new(16).unwrap();
/// After a hole was punched, a relayed connection is left this long for what is under way on it.
pub(crate) const RELAYED_AFTER_PUNCH: Duration = Duration::from_secs(3);
/// A connection made to dial somebody back, whom AutoNAT asked us to test, is closed after this long.
pub(crate) const DIAL_BACK: Duration = Duration::from_secs(5);
/// Time to open a tunnel on a connection that there is.
pub(crate) const TUNNEL_OPENING: Duration = Duration::from_secs(5);
/// Tunnels that peers opened and that wait for the node. When full, more are closed at once.
pub(crate) const TUNNELS: usize = 32;

/// Pause after the connections to a restarted peer were ended, before that is done again; doubled each time, seven times at most.
pub(crate) const MEETING_PAUSE: Duration = Duration::from_millis(500);
/// How long it is remembered that this was done.
pub(crate) const MEETINGS_KEPT: Duration = Duration::from_secs(120);
/// Period of the driver's housekeeping: events that did not fit their queue, what handles see, re-dials while peers are wanted,
/// announcements. Shorter wakes an idle node more often for nothing; longer, and a lost peer is dialled later.
pub(crate) const TICK: Duration = Duration::from_millis(200);
/// Ticks in a second, in which the rest is done once: who is admitted still, relays, who restarted.
pub(crate) const SECOND_TICKS: u64 = 5;
/// Ticks between two looks whether there are too many connections (five seconds).
pub(crate) const TRIM_TICKS: u64 = 25;
/// Ticks between two sweeps of expired records (one minute).
pub(crate) const EXPIRY_TICKS: u64 = 300;
/// With fewer peers than this the routing table is asked for more.
pub(crate) const FEW_PEERS: usize = 8;
/// Ticks between two such questions (ten seconds).
pub(crate) const BOOTSTRAP_TICKS: u64 = 50;
/// Time that leaving peers are given to hear of it when the node stops.
pub(crate) const GOODBYE: Duration = Duration::from_millis(200);

/// Commands waiting for the driver. When full, callers wait.
pub(crate) const COMMANDS: usize = 256;
/// Events waiting for the node. When full, gossip is dropped (consensus and mempool tolerate loss); peers coming and
/// going are kept and told later.
pub(crate) const EVENTS: usize = 256;
/// DHT questions under way for callers. Beyond it they are told to come back later.
pub(crate) const QUERIES: usize = 256;
/// Nodes a DHT record is stored on, and closest nodes a lookup visits: enough to survive most of them leaving between
/// two announcements; more slows every put.
pub(crate) const REPLICATION: usize = 8;
/// Peers in one bucket of the routing table, of which a pool of a thousand fills about six.
pub(crate) const BUCKET: NonZeroUsize = NonZeroUsize::new(20).unwrap();
/// Time for one DHT query.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one request within a query, so that one dead peer doesn't hold up the rest: several round trips around the
/// world, and an answer out of memory.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the whole routing table is looked through again: a query for each of its buckets, each to sixty peers at most,
/// which every five minutes (the library's own) would be more than all lookups of a quiet node. A node that has lost its peers does not wait for it.
pub(crate) const REFRESH: Duration = Duration::from_secs(1_800);
/// The first time, at the latest so long after the first peer came. A node that joins looks for its own neighbours at once, some
/// twenty peers, which is what others' questions need of it; through all buckets, it would dial most of a pool of a hundred, and do so
/// while everybody else joins.
pub(crate) const FIRST_REFRESH: Duration = Duration::from_secs(300);
/// It comes up to this share earlier, by chance, per cent, so that nodes started together do not dial together.
pub(crate) const FIRST_REFRESH_JITTER: u32 = 80;
/// The same for those after it.
pub(crate) const REFRESH_JITTER: u32 = 20;
/// Disjoint paths of a lookup, and questions under way on each. In the library they are one number. A path waits for the peers that
/// others asked as well, and the paths of an honest pool lead the same way: so with three (Kademlia's alpha, S/Kademlia's d) only some
/// three questions are under way together, most of which begin with a dial. More finds sooner what is far, and asks more peers.
pub(crate) const PATHS: NonZeroUsize = NonZeroUsize::new(5).unwrap();
/// After the first valid record others may still better it for this long.
pub(crate) const SETTLE: Duration = Duration::from_millis(30);
/// The same for providers, after two of the key's places named some: their peers know different ones.
pub(crate) const PROVIDERS_SETTLE: Duration = Duration::from_millis(100);
/// A question for a record that has no answer at its key's first place by then goes to the others too. Shorter, and every lookup costs
/// three times the messages; longer, and a place held by sybils holds up whoever asks there.
pub(crate) const HEDGE: Duration = Duration::from_millis(400);
/// Providers returned by one lookup.
pub(crate) const PROVIDERS_FOUND: usize = 64;
/// Own records and provider keys are announced again this often, and those of others handed on if nobody did.
pub(crate) const ANNOUNCE_EVERY: Duration = Duration::from_secs(600);
/// Each round comes up to this much earlier, by chance, so that nodes started together do not announce together.
pub(crate) const ANNOUNCE_JITTER: Duration = Duration::from_secs(120);
/// After a peer joined, own announcements are repeated, once, this much later: a pool that just formed fills its DHT.
pub(crate) const ANNOUNCE_AFTER_JOIN: Duration = Duration::from_millis(700);
/// Announcements under way at once, each with up to [`PATHS`] times as many questions as paths: see [`PENDING_OUTBOUND`].
pub(crate) const ANNOUNCING: usize = 8;
/// Life of a provider record without renewal: three announcements may fail.
pub(crate) const PROVIDER_TTL: Duration = Duration::from_secs(2_400);
/// Longest life of a record without renewal, whatever it says itself.
pub(crate) const RECORD_TTL: Duration = Duration::from_secs(86_400);

/// Bytes of a Kademlia message beyond its record: keys and the addresses of closer peers.
pub(crate) const KAD_OVERHEAD: usize = 16 * 1024;
/// Bytes of a gossip frame beyond its message: signature, topic, control entries.
pub(crate) const GOSSIP_OVERHEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_leave_callers_room_to_dial() {
        let dials = ANNOUNCING * PATHS.get() * PATHS.get();
        assert!(usize::try_from(PENDING_OUTBOUND).is_ok_and(|most| dials + most / 8 <= most), "{dials} dials");
    }
}
