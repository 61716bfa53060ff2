//! Start and stop of a node, as ordered prose. Critical tasks have names: when one ends unasked, the node stops and says
//! which and why.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use zero2ai_chain::{Chain, ChainConfig, ChainHandle, ChainTopic};
use zero2ai_clock::now_ms;
use zero2ai_engine::WorkerConfig;
use zero2ai_names::Names;
use zero2ai_net::{NetConfig, NetError, NetEvent, Topic};
use zero2ai_proto::{
    NodeId, PoolId,
    consensus::HeadGossip,
    decode,
    limits::SIGNED_BYTES,
    pool::Invite,
    record::{Address, NodeAnnouncement},
};
use zero2ai_rpc::{Endpoint, EndpointConfig, Peers};
use zero2ai_store::{Log, LogConfig, Store, StoreConfig, StoreError};
use zero2ai_swarm::{Board, Traffic, TrafficLimits};

use crate::{
    account::Account,
    addresses::{Addresses, from_here},
    config::{Config, SwarmSettings},
    content::Contents,
    core::Core,
    directory::Directory,
    error::NodeError,
    forward::{self, Forwards},
    glue::{Announcing, GossipNet, Roads, RpcBlocks},
    home::{Home, Ports, RunningAt},
    http::{Http, HttpAt},
    jobs::{
        demand::{Wishes, keep_demanded},
        evidence::report,
        fetch::Turns,
        heights::{self, keep_heights},
        jury::keep_juries,
        keep::{keep_anchored, keep_serving},
        outcomes::{Outcomes, keep_revalidated, keep_sent},
        peers::keep_peers,
        pool_key::keep_pool_key,
        records::keep_records,
        repair::keep_copies,
        rounds::keep_rounds,
        store::{Upkeep, scrub::keep_scrubbed},
    },
    join::join,
    judge::{ChainTrust, LedgerJudge},
    models::Models,
    newcomer,
    receipts::Receipts,
    remembered,
    serve::Service,
};

/// Bytes of sled's cache: the index is small, and the default of 1 GiB is not.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// How long the parts may take to stop before they are abandoned.
const STOPPING: Duration = Duration::from_secs(10);

/// How a node is started.
pub struct Start {
    /// Its home folder.
    pub home: PathBuf,
    /// Its settings.
    pub config: Config,
    /// The pool to join, for a home that has none.
    pub join: Option<Invite>,
    /// The program that runs models: this binary.
    pub worker_program: PathBuf,
    /// Cancelled to stop the node.
    pub stop: CancellationToken,
}

/// A running node.
pub struct Node {
    core: Arc<Core>,
    home: PathBuf,
    rpc: SocketAddr,
    http: Option<HttpAt>,
    tasks: Tasks,
    stop: CancellationToken,
}

/// The critical tasks, in the order in which they are stopped.
#[derive(Default)]
struct Tasks {
    list: Vec<Critical>,
}

/// A task whose end ends the node.
struct Critical {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<(), NodeError>>,
}

impl Tasks {
    fn add(
        &mut self,
        name: &'static str,
        stop: CancellationToken,
        task: impl Future<Output = Result<(), NodeError>> + Send + 'static,
    ) {
        self.list.push(Critical { name, stop, task: tokio::spawn(task) });
    }

    /// Waits for the first task that ends by itself.
    async fn first_end(&mut self) -> NodeError {
        let waits = self.list.iter_mut().map(|c| {
            let wait: BoxFuture<'_, _> = Box::pin(async move { (c.name, (&mut c.task).await) });
            wait
        });
        let ((name, result), _, _) = futures::future::select_all(waits).await;
        match result {
            Ok(Err(error)) => error,
            Ok(Ok(())) => NodeError::Internal(format!("the task '{name}' ended by itself")),
            Err(panic) => NodeError::Internal(format!("the task '{name}' failed: {panic}")),
        }
    }

    /// Stops the tasks one after the other.
    async fn stop(self) {
        for Critical { name, stop, mut task } in self.list {
            stop.cancel();
            if task.is_finished() {
                continue;
            }
            if tokio::time::timeout(STOPPING, &mut task).await.is_err() {
                tracing::warn!(task = name, "did not stop in time and is abandoned");
                task.abort();
            }
        }
    }
}

impl Node {
    /// Starts a node: joins or makes a pool if the home has none, replays the ledger, then opens the network.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(start: Start) -> Result<Self, NodeError> {
        let Start { home: path, config, join: invite, worker_program, stop } = start;
        match &invite {
            Some(invite) => join(&path, invite).await?,
            None if !Home::exists(&path) => drop(Home::create_pool(&path)?),
            None => {}
        }
        let home = Home::open(&path)?;
        let id = home.key.public();
        let quota_bytes = config.store.quota_bytes();
        let reserve_bytes = config.store.reserve_mb.saturating_mul(1 << 20);
        let store = StoreConfig { cache_bytes: CACHE_BYTES, quota_bytes, reserve_bytes };
        let store = Store::open(&path.join("store"), store).map_err(|e| match e {
            StoreError::InUse { .. } => NodeError::HomeInUse { path: path.clone() },
            other => other.into(),
        })?;

        // The ledger first: who is admitted must be known before the first connection.
        newcomer::begin(&path, &home, config.snapshot_blocks).await?;
        let mut chain = ChainConfig::new(path.join("chain"), home.key.clone(), home.genesis.clone());
        chain.pace.heartbeat = Duration::from_millis(config.heartbeat_ms.max(1));
        let chain = Chain::open(chain).await?;
        let handle = chain.handle.clone();

        let ports = Ports::read(&path);
        let endpoint = bind_rpc(&home, config.listen_rpc, ports.rpc)?;
        let http = match config.listen_http {
            Some(listen) => {
                let rpc = reachable(endpoint.local_addr());
                Some(Http::bind(&home, listen, config.http_tls.as_ref(), rpc).await?.wishing(&config.calls)?)
            }
            None => None,
        };
        let remembered = remembered::read(&path);
        // What the invite says of a node goes before what was heard: it may be newer.
        let mut known = remembered.clone();
        known.retain(|old| home.bootstrap.iter().all(|b| b.node != old.node));
        known.extend(home.bootstrap.iter().cloned());
        let directory = Arc::new(Directory::new(&known));
        let trust = Arc::new(ChainTrust::new(handle.clone()));
        let bootstrap = home.bootstrap.iter().map(|b| b.node).collect();
        let judge = LedgerJudge { pool: home.pool, chain: handle.clone(), trust: Arc::clone(&trust), bootstrap };

        // Stopped in this order: first no new requests and calls, then the keepers, receipts, the chain, and the swarm last.
        let tokens: [CancellationToken; 7] = std::array::from_fn(|_| CancellationToken::new());
        let [stop_http, stop_calls, stop_keepers, stop_receipts, stop_chain, stop_names, stop_net] = tokens;
        let swarm = start_swarm(&home, &config, ports.swarm, Arc::new(judge), stop_net.clone()).await?;
        let (stop_forwards, tunnels) = (stop_net.child_token(), swarm.tunnels);
        let forwards = Forwards::new(
            id,
            swarm.handle.clone(),
            Arc::clone(&directory),
            endpoint.local_addr().ip(),
            stop_forwards.clone(),
        );
        let (peers, forwards) = (Arc::new(Peers::new(endpoint.clone())), Arc::new(forwards));
        let roads = Roads { peers, directory: Arc::clone(&directory), forwards };
        let (handle_of_net, seen) = (swarm.handle.clone(), heights::read(&path));
        let (names, names_task) = Names::new(home.pool, handle_of_net, trust, now_ms, seen, stop_names.clone());
        let addresses = Addresses::new(endpoint.local_addr(), swarm.handle.clone());
        remember_ports(&path, endpoint.local_addr(), &addresses.now())?;

        let announcing =
            Announcing { addresses: addresses.clone(), directory: Arc::clone(&directory), told: Arc::default() };
        let (gossip, gossip_task) =
            GossipNet::new(swarm.handle.clone(), handle.clone(), announcing.clone(), stop_net.clone());
        let running = chain.run(Arc::new(gossip), Arc::new(RpcBlocks(roads.clone())), stop_chain.clone());
        let (chain_task, evidence) = (running.task, running.evidence);
        let (log, _) = Log::open(&path.join("receipts"), LogConfig::default())?;
        let (receipts, receipts_task) = Receipts::open(log, stop_receipts.clone())?;
        if let Some(anchor) = handle.read(|l| l.anchor(&id))
            && receipts.root_at(anchor.size) != Some(anchor.root)
        {
            let why = "its receipt log is not the one that was anchored on the ledger: restore the folder `receipts`, or \
                       join with a fresh home";
            return Err(NodeError::Home { path, why: why.to_owned() });
        }
        let maker = handle.read(|l| l.genesis_state().admin);
        let contents = Contents::open(&path, home.content, maker == id)?;
        let core = Arc::new(Core {
            home: path.clone(),
            id,
            pool: home.pool,
            pool_keys: home.pool_keys,
            account: Account::new(home.key.clone(), home.pool, handle.clone()),
            key: home.key,
            sealing: home.sealing,
            contents,
            addresses,
            models: Models::open(path.join("models.cbor"), config.worker.model_memory_bytes())?,
            wishes: Wishes::default(),
            upkeep: Upkeep::default(),
            store,
            board: Board::default(),
            traffic: traffic(&config),
            turns: Turns::default(),
            chain: handle.clone(),
            net: swarm.handle,
            names,
            roads,
            directory: Arc::clone(&directory),
            receipts,
            outcomes: Outcomes::open(&path),
            offer: config.offer.clone(),
            worker: worker_config(&config, worker_program),
            stop: stop.clone(),
            began: tokio::time::Instant::now(),
        });

        let mut tasks = Tasks::default();
        let http_at = http.as_ref().map(Http::at);
        if let Some(http) = http {
            tasks.add("HTTP", stop_http.clone(), http.serve(stop_http));
        }
        let (service, serving, calls) =
            (Arc::new(Service::new(Arc::clone(&core))), endpoint.clone(), stop_calls.clone());
        tasks.add("peer RPC", stop_calls, async move {
            serving.serve(service, calls).await.map_err(|e| NodeError::Rpc(e.to_string()))
        });
        let (keeper, token) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("serving", stop_keepers.clone(), async move {
            keep_serving(keeper, token).await;
            Ok(())
        });
        let (loader, token) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("loading", stop_keepers.clone(), async move {
            keep_demanded(loader, token).await;
            Ok(())
        });
        if let Some(every) = config.store.scrub_every() {
            let (keeper, token) = (Arc::clone(&core), stop_keepers.clone());
            let settle = Duration::from_secs(config.store.scrub_settle_s);
            tasks.add("scrubbing", stop_keepers.clone(), async move {
                keep_scrubbed(keeper, every, settle, token).await;
                Ok(())
            });
        }
        let (keeper, token) = (Arc::clone(&core), stop_keepers.clone());
        let every = Duration::from_millis(config.anchor_ms.max(50));
        let (repairer, repair_stop, swarm_settings) = (Arc::clone(&core), stop_keepers.clone(), config.swarm);
        tasks.add("repair", stop_keepers.clone(), async move {
            keep_copies(repairer, swarm_settings, repair_stop).await;
            Ok(())
        });
        let (toucher, touch_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("peers", stop_keepers.clone(), async move {
            keep_peers(toucher, remembered, touch_stop).await;
            Ok(())
        });
        let (reporter, report_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("evidence", stop_keepers.clone(), async move {
            report(reporter, evidence, report_stop).await;
            Ok(())
        });
        let (grader, grader_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("rounds", stop_keepers.clone(), async move {
            keep_rounds(grader, grader_stop).await;
            Ok(())
        });
        let (juror, juror_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("juries", stop_keepers.clone(), async move {
            keep_juries(juror, juror_stop).await;
            Ok(())
        });
        let (sender, sender_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("outcomes", stop_keepers.clone(), async move {
            keep_sent(sender, sender_stop).await;
            Ok(())
        });
        let (owner, owner_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("re-validation", stop_keepers.clone(), async move {
            keep_revalidated(owner, owner_stop).await;
            Ok(())
        });
        let (holder, holder_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("pool key", stop_keepers.clone(), async move {
            keep_pool_key(holder, known, holder_stop).await;
            Ok(())
        });
        let (holder, holder_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("records", stop_keepers.clone(), async move {
            keep_records(holder, holder_stop).await;
            Ok(())
        });
        let (writer, writer_stop) = (Arc::clone(&core), stop_keepers.clone());
        tasks.add("heights", stop_keepers.clone(), async move {
            keep_heights(writer, writer_stop).await;
            Ok(())
        });
        tasks.add("anchoring", stop_keepers, async move {
            keep_anchored(keeper, every, token).await;
            Ok(())
        });
        tasks.add("receipts", stop_receipts, receipts_task);
        tasks.add("names", stop_names, async move {
            names_task.await;
            Ok(())
        });
        tasks.add("events", stop_net.clone(), route(swarm.events, handle, announcing, stop_net.clone()));
        let outlet = (reachable(endpoint.local_addr()), endpoint.outlets());
        tasks.add("tunnels", stop_net.clone(), async move {
            forward::serve(tunnels, outlet, stop_forwards).await;
            Ok(())
        });
        tasks.add("chain", stop_chain, flatten(chain_task));
        tasks.add("gossip", stop_net.clone(), async move {
            gossip_task.await;
            Ok(())
        });
        tasks.add("swarm", stop_net, flatten(swarm.task));

        let rpc = endpoint.local_addr();
        Home::write_running(&path, RunningAt { rpc: reachable(rpc), pid: std::process::id() })?;
        Ok(Self { core, home: path, rpc, http: http_at, tasks, stop })
    }

    /// This node's identity.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.core.id
    }

    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> PoolId {
        self.core.pool
    }

    /// Where peer RPC listens.
    #[must_use]
    pub fn rpc_addr(&self) -> SocketAddr {
        self.rpc
    }

    /// Where the HTTP gateway listens, if there is one.
    #[must_use]
    pub fn http(&self) -> Option<&HttpAt> {
        self.http.as_ref()
    }

    /// Everywhere it can be reached now.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.core.addresses.now()
    }

    /// Runs until `stop` is cancelled or a critical task ends, then stops everything in order.
    ///
    /// # Errors
    /// Why the critical task ended.
    pub async fn wait(mut self) -> Result<(), NodeError> {
        let result = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            error = self.tasks.first_end() => Err(error),
        };
        // New calls are refused and those in hand finished; then keepers, receipts, names, chain, swarm.
        self.tasks.stop().await;
        // Workers die with their handles.
        self.core.models.table.clear();
        self.core.roads.peers.endpoint().close();
        Home::remove_running(&self.home);
        result
    }
}

/// A task of another crate with that crate's error.
async fn flatten<E: Into<NodeError>>(task: JoinHandle<Result<(), E>>) -> Result<(), NodeError> {
    task.await.map_err(|e| NodeError::Internal(e.to_string()))?.map_err(Into::into)
}

fn bind_rpc(home: &Home, wanted: SocketAddr, last_port: u16) -> Result<Endpoint, NodeError> {
    let bind = |address: SocketAddr| {
        let (key, pool, pool_keys) = (home.key.clone(), home.pool, home.pool_keys.clone());
        Endpoint::bind(EndpointConfig { bind: address, key, pool, pool_keys })
    };
    // An open port: the last one if it is still free, so that peers find us where we were.
    if wanted.port() == 0
        && last_port != 0
        && let Ok(endpoint) = bind(SocketAddr::new(wanted.ip(), last_port))
    {
        return Ok(endpoint);
    }
    bind(wanted).map_err(|e| NodeError::Port { address: wanted, why: e.to_string() })
}

async fn start_swarm(
    home: &Home,
    config: &Config,
    last_port: u16,
    judge: Arc<LedgerJudge>,
    stop: CancellationToken,
) -> Result<zero2ai_net::Running, NodeError> {
    let of = |b: &zero2ai_proto::pool::Bootstrap| {
        let swarm = b.addresses.iter().filter(|a| matches!(a, Address::Swarm(_))).map(ToString::to_string);
        swarm.map(|a| (b.node, a)).collect::<Vec<_>>()
    };
    let net = |listen: SocketAddr| NetConfig {
        key: home.key.clone(),
        pool: home.pool,
        pool_keys: home.pool_keys.clone(),
        listen,
        bootstrap: home.bootstrap.iter().flat_map(of).collect(),
        mdns: config.mdns,
    };
    let wanted = config.listen_swarm;
    if wanted.port() == 0 && last_port != 0 {
        let again = net(SocketAddr::new(wanted.ip(), last_port));
        if let Ok(running) = zero2ai_net::start(again, Arc::clone(&judge) as Arc<_>, stop.child_token()).await {
            return Ok(running);
        }
    }
    zero2ai_net::start(net(wanted), judge, stop).await.map_err(|error| match error {
        NetError::Listen { address, source } => {
            // libp2p does not always say why; what it then is, is the port.
            let why = Some(source.to_string()).filter(|w| !w.is_empty());
            NodeError::Port { address, why: why.unwrap_or_else(|| "another program has it".to_owned()) }
        }
        other => other.into(),
    })
}

/// Where the command line on this machine reaches a node.
fn reachable(rpc: SocketAddr) -> SocketAddr {
    SocketAddr::new(from_here(rpc.ip()), rpc.port())
}

fn remember_ports(path: &std::path::Path, rpc: SocketAddr, addresses: &[Address]) -> Result<(), NodeError> {
    let udp = |text: &str| {
        let mut parts = text.split('/').skip_while(|p| *p != "udp").skip(1);
        parts.next().and_then(|p| p.parse().ok())
    };
    let swarm = addresses.iter().find_map(|a| match a {
        Address::Swarm(text) => udp(text),
        Address::Rpc(_) => None,
    });
    Ports { rpc: rpc.port(), swarm: swarm.unwrap_or_default() }.write(path)
}

fn traffic(config: &Config) -> Traffic {
    let SwarmSettings { upload_slots, upload_mbit, download_mbit, .. } = config.swarm;
    Traffic::new(TrafficLimits { upload_slots, upload_mbit, download_mbit })
}

/// How workers are started.
pub(crate) fn worker_config(config: &Config, program: PathBuf) -> WorkerConfig {
    WorkerConfig {
        program,
        args: vec!["worker".to_owned()],
        threads: config.worker.effective_threads(),
        memory_bytes: config.worker.memory_mb.saturating_mul(1 << 20),
        allow_unsandboxed: config.worker.allow_unsandboxed,
    }
}

/// Hands gossip to the chain, and members' addresses to the directory.
async fn route(
    mut events: mpsc::Receiver<NetEvent>,
    chain: ChainHandle,
    Announcing { directory, told, .. }: Announcing,
    stop: CancellationToken,
) -> Result<(), NodeError> {
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            event = events.recv() => match event { Some(event) => event, None => return Ok(()) },
        };
        match event {
            NetEvent::Gossip { topic: Topic::Consensus, author, data, .. } => {
                chain.deliver(ChainTopic::Consensus, author, data);
            }
            NetEvent::Gossip { topic: Topic::Tx, author, data, .. } => chain.deliver(ChainTopic::Tx, author, data),
            NetEvent::Gossip { topic: Topic::Head, author, number, data, .. } => {
                // Checked by the judge before it was passed on; a malformed one never gets here.
                if let Ok(a) = decode::<NodeAnnouncement>(&data, SIGNED_BYTES) {
                    if let Ok(head) = HeadGossip::read(&a.head)
                        && directory.heard(author, a.addresses, (head.height, number), now_ms())
                    {
                        told.lock().unwrap_or_else(PoisonError::into_inner).heard(author, head.height);
                    }
                    chain.deliver(ChainTopic::Head, author, a.head.into_vec());
                }
            }
            NetEvent::PeerUp(node) => {
                tracing::debug!(peer = %node.short(), "connected");
                directory.connected(&node, true);
            }
            NetEvent::PeerDown(node) => {
                tracing::debug!(peer = %node.short(), "gone");
                directory.connected(&node, false);
            }
        }
    }
}
