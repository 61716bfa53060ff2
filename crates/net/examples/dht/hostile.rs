//! Members that mean harm: they hold the pool key and speak the pool's protocols, and lie or say nothing.

use std::{
    borrow::Cow,
    collections::VecDeque,
    convert::Infallible,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    vec,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{DeniedUpgrade, ReadyUpgrade},
    },
    identify,
    identity::Keypair,
    kad::{
        self, BucketInserts, Mode, ProviderRecord, Record, RecordKey,
        store::{RecordStore, Result as StoreResult},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound},
    },
};
use tokio_util::sync::CancellationToken;
use zero2ai_net::Wire;

use crate::truth::Truth;

/// How a hostile member behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Acknowledges puts and forgets them, answers with forgeries, with other keys' records and with old ones, names its
    /// friends and invented identities as closer peers and as providers.
    Lies,
    /// Accepts every request and never answers.
    Silent,
}

/// What the hostile share.
pub(crate) struct Plot {
    pub(crate) truth: Arc<Truth>,
    /// Every hostile member with its address.
    pub(crate) friends: Vec<(PeerId, Multiaddr)>,
    /// Lies told: answers with a record, or with providers.
    pub(crate) lies: AtomicU64,
}

struct Liar {
    plot: Arc<Plot>,
    turn: AtomicU64,
}

impl RecordStore for Liar {
    type RecordsIter<'a> = vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let place = <[u8; 32]>::try_from(key.as_ref()).ok()?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let value = match turn % 4 {
            0 => self.plot.truth.forgery(&place, turn),
            1 => self.plot.truth.of_another_key(&place),
            2 => self.plot.truth.oldest(&place),
            _ => None,
        };
        let value = value?;
        self.plot.lies.fetch_add(1, Ordering::Relaxed);
        Some(Cow::Owned(Record::new(key.clone(), value)))
    }

    fn put(&mut self, _: Record) -> StoreResult<()> {
        Ok(())
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        Vec::new().into_iter()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> StoreResult<()> {
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.plot.lies.fetch_add(1, Ordering::Relaxed);
        let named = self.plot.friends.iter().take(3);
        named.map(|(peer, at)| ProviderRecord::new(key.clone(), *peer, vec![at.clone()])).collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        Vec::new().into_iter()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

#[derive(NetworkBehaviour)]
struct Lying {
    kad: kad::Behaviour<Liar>,
    identify: identify::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Silent {
    mute: Mute,
    identify: identify::Behaviour,
}

/// A hostile member, until `stop`.
pub(crate) async fn run(
    (keys, listen, wire): (Keypair, Multiaddr, Wire),
    pool: String,
    manner: Manner,
    plot: Arc<Plot>,
    victims: Vec<(PeerId, Multiaddr)>,
    stop: CancellationToken,
) {
    let own = identify::Config::new(format!("/zero2ai/{pool}/1"), keys.public()).with_agent_version("hostile".into());
    let identify = identify::Behaviour::new(own);
    let protocol = StreamProtocol::try_from_owned(format!("/zero2ai/{pool}/kad/1")).expect("a protocol's name");
    match manner {
        Manner::Lies => {
            let kad = liar(&keys, protocol, plot);
            drive(swarm(keys, wire, Lying { kad, identify }), listen, victims, stop).await;
        }
        Manner::Silent => {
            drive(swarm(keys, wire, Silent { mute: Mute { protocol }, identify }), listen, victims, stop).await
        }
    }
}

fn liar(keys: &Keypair, protocol: StreamProtocol, plot: Arc<Plot>) -> kad::Behaviour<Liar> {
    let mut config = kad::Config::new(protocol);
    config
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_periodic_bootstrap_interval(None)
        .set_record_filtering(kad::StoreInserts::Unfiltered)
        .set_parallelism(NonZeroUsize::MIN)
        .set_max_packet_size(64 * 1024);
    let store = Liar { plot: Arc::clone(&plot), turn: AtomicU64::new(0) };
    let mut kad = kad::Behaviour::with_config(keys.public().to_peer_id(), store, config);
    kad.set_mode(Some(Mode::Server));
    for (peer, at) in &plot.friends {
        kad.add_address(peer, at.clone());
    }
    for n in 0..200_u16 {
        let nobody = format!("/ip4/198.51.100.1/udp/{}/quic-v1", n + 1).parse().expect("an address");
        kad.add_address(&PeerId::from(Keypair::generate_ed25519().public()), nobody);
    }
    kad
}

fn swarm<B: NetworkBehaviour>(keys: Keypair, wire: Wire, behaviour: B) -> Swarm<B> {
    SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_other_transport(|_| wire)
        .expect("a transport")
        .with_behaviour(|_| behaviour)
        .expect("a behaviour")
        .with_swarm_config(|c| c.with_idle_connection_timeout(std::time::Duration::from_secs(3600)))
        .build()
}

/// Makes itself known to its victims, one after the other, and goes on.
async fn drive<B: NetworkBehaviour>(
    mut swarm: Swarm<B>,
    listen: Multiaddr,
    victims: Vec<(PeerId, Multiaddr)>,
    stop: CancellationToken,
) {
    swarm.listen_on(listen).expect("a free address");
    let mut victims: VecDeque<_> = victims.into();
    let mut next = tokio::time::interval(std::time::Duration::from_millis(250));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = swarm.select_next_some() => {}
            _ = next.tick(), if !victims.is_empty() => {
                if let Some((peer, at)) = victims.pop_front() {
                    let opts = libp2p::swarm::dial_opts::DialOpts::peer_id(peer).addresses(vec![at]).build();
                    let _ = swarm.dial(opts);
                }
            }
        }
    }
}

/// Takes part in Kademlia by name, and lets every request wait.
struct Mute {
    protocol: StreamProtocol,
}

impl NetworkBehaviour for Mute {
    type ConnectionHandler = MuteHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(MuteHandler { protocol: self.protocol.clone(), held: VecDeque::new() })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(MuteHandler { protocol: self.protocol.clone(), held: VecDeque::new() })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

struct MuteHandler {
    protocol: StreamProtocol,
    held: VecDeque<Stream>,
}

impl ConnectionHandler for MuteHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Infallible;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Infallible>> {
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) = event {
            self.held.push_back(protocol);
            while self.held.len() > 32 {
                self.held.pop_front();
            }
        }
    }
}
