//! What a call costs. Against a process that answers the same signed prediction over peer RPC and over gRPC: time beyond the same
//! call in process, calls, connections and bytes a second, delay added to a streamed token. Against a real node: the client
//! library over peer RPC beside the gateway over HTTP/1.1, and many clients for minutes.

mod grpc;
pub(crate) mod node;
mod work;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use zero2ai_proto::{
    ByteBuf, Cid, SecretKey,
    calls::{
        ChunkCall, Generate, GenerateCall, GenerateInput, Generated, GetChunk, Predict, Predicted, Prompt, Sampling,
        TokenPiece,
    },
    decode, encode,
    limits::FRAME_BYTES,
    pool::PoolKey,
};
use zero2ai_rpc::{Endpoint, EndpointConfig, Peer};

pub(crate) use work::{Role, play};

use crate::{
    files::{MIB, Scratch},
    process::Child,
    report,
    results::Results,
    tools,
};
use node::{Http, Node};
use work::{At, PIECES, Provider};

/// Names of the rows.
pub(crate) const IN_PROCESS: &str = "in process";
pub(crate) const PEER: &str = "peer RPC";
pub(crate) const GRPC: &str = "gRPC (tonic, TLS 1.3)";
pub(crate) const NODE: &str = "a node, peer RPC";
pub(crate) const GATEWAY: &str = "a node, gateway, HTTP/1.1";
pub(crate) const SOAK: &str = "clients side by side";

/// Calls before the first that counts.
const WARM: usize = 200;
/// Calls in flight where throughput is measured; below what one member may have.
const AT_ONCE: usize = 32;
/// Between two predictions of one client of the long run.
const PAUSE: Duration = Duration::from_secs(1);
/// Patience with anything: beyond it, the bench fails.
const LONG: Duration = Duration::from_secs(60);

/// Settings of `rpc`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds; each measures every row once. With 0 only the long run is made
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Calls one after the other, whose times are ranked
    #[arg(long, default_value_t = 3_000)]
    calls: usize,
    /// Seconds for each figure of throughput
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Clients of the long run, an account each; 0 leaves it out
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Minutes of the long run
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The node's program
    #[arg(long, default_value = "../target/release/zero2ai")]
    program: PathBuf,
    /// Folder for the node's home
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("rpc"))?;
    let settings = [
        ("calls ranked", options.calls.to_string()),
        ("in flight", AT_ONCE.to_string()),
        ("clients of the long run", options.clients.to_string()),
        ("its minutes", options.minutes.to_string()),
    ];
    let mut results = Results::new(if options.rounds == 0 { "rpc-soak" } else { "rpc" }, &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options, work.path(), &mut results))?;
    println!("\n{}\n{}", report::rpc(&results), report::soak(&results));
    results.save(options.json.as_deref())
}

async fn measure(options: &Options, work: &Path, results: &mut Results) -> Result<()> {
    if options.rounds > 0 {
        let bench = Bench::start(options, work)?;
        for round in 1..=options.rounds {
            results.add(IN_PROCESS, round, &bench.in_process()?);
            results.add(PEER, round, &bench.peer().await?);
            results.add(GRPC, round, &bench.grpc().await?);
        }
    }
    let node = Arc::new(Node::with_digits(&options.program, work)?);
    for round in 1..=options.rounds {
        results.add(NODE, round, &node_peer(&node, options).await?);
        results.add(GATEWAY, round, &node_gateway(&node, options).await?);
    }
    if options.clients > 0 {
        results.add(SOAK, 1, &soak(&node, options).await?);
    }
    Ok(())
}

type Figures = Vec<(&'static str, f64)>;

/// Times of calls, one after the other.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    /// Median and 99th percentile, milliseconds.
    fn ranks(mut self) -> Figures {
        self.0.sort();
        let at = |part: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let index = (self.0.len() as f64 * part) as usize;
            self.0.get(index.min(self.0.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e3)
        };
        vec![("p50 ms", at(0.5)), ("p99 ms", at(0.99))]
    }
}

/// Runs `one` again and again, [`AT_ONCE`] at a time, for `seconds`; gives how many a second ended well.
async fn per_second<F: Future<Output = Result<()>>>(seconds: f64, at_once: usize, one: impl Fn() -> F) -> Result<f64> {
    let (begun, mut done) = (Instant::now(), 0u32);
    let mut flying: FuturesUnordered<F> = (0..at_once).map(|_| one()).collect();
    while let Some(ended) = flying.next().await {
        ended?;
        done += 1;
        if begun.elapsed().as_secs_f64() < seconds {
            flying.push(one());
        }
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

/// The synthetic half: one process that answers, and its callers here.
struct Bench<'a> {
    _server: Child,
    at: At,
    provider: Provider,
    account: SecretKey,
    pool_key: PoolKey,
    options: &'a Options,
}

impl<'a> Bench<'a> {
    fn start(options: &'a Options, work: &Path) -> Result<Self> {
        let (seed, account, pool_key) = ([5; 32], SecretKey::generate()?, PoolKey::generate()?);
        let role = tools::Role::Rpc(Role { seed, pool_key: hex::encode(encode(&pool_key)?) });
        let mut server = Child::start("rpc", role.command(&None)?, work)?;
        let at: At = serde_json::from_str(&server.expect("at")?.1)?;
        server.ready()?;
        server.go()?;
        let provider = Provider::new(SecretKey::from_bytes(&seed));
        Ok(Self { _server: server, at, provider, account, pool_key, options })
    }

    fn call(&self) -> Result<zero2ai_proto::calls::PredictCall> {
        work::call(&self.account, self.provider.key.public())
    }

    fn in_process(&self) -> Result<Figures> {
        let mut times = Times::default();
        for i in 0..self.options.calls + WARM {
            let call = self.call()?;
            let begun = Instant::now();
            self.provider.predict(&call)?;
            if i >= WARM {
                times.add(begun);
            }
        }
        Ok(times.ranks())
    }

    /// A socket of its own, as every client has one.
    fn socket(&self) -> Result<Endpoint> {
        let (bind, key) = (([127, 0, 0, 1], 0).into(), self.account.clone());
        Ok(Endpoint::bind(EndpointConfig { bind, key, pool: work::POOL, pool_keys: self.pool_key.clone().into() })?)
    }

    async fn dial(&self, socket: &Endpoint) -> Result<Peer> {
        Ok(socket.connect(self.at.rpc, Some(self.provider.key.public())).await?)
    }

    async fn peer(&self) -> Result<Figures> {
        let socket = self.socket()?;
        let peer = self.dial(&socket).await?;
        let mut times = Times::default();
        for i in 0..self.options.calls + WARM {
            let call = self.call()?;
            let begun = Instant::now();
            peer.call::<Predict>(&call, LONG).await?;
            if i >= WARM {
                times.add(begun);
            }
        }
        let mut figures = times.ranks();
        let (call, peer) = (&self.call()?, &peer);
        let one = || async move { Ok(peer.call::<Predict>(call, LONG).await.map(drop)?) };
        figures.push(("calls/s", per_second(self.options.seconds, AT_ONCE, one).await?));
        let socket = &socket;
        let one = || async move { self.dial(socket).await.map(drop) };
        figures.push(("connections/s", per_second(self.options.seconds, 4, one).await?));
        let (begun, mut bytes) = (Instant::now(), 0);
        let mut pieces = peer.stream::<GetChunk>(&ChunkCall { cid: Cid([0; 32]) }, LONG).await?;
        while let Some(piece) = pieces.next().await {
            bytes += piece?.data.len();
        }
        figures.push(rate(bytes, begun)?);
        let request = call.request.clone();
        let sampling = Sampling { max_tokens: 1, ..Sampling::default() };
        let input = GenerateInput { prompt: Prompt::Text("x".into()), sampling, resume: vec![] };
        let text = GenerateCall { request, salt: ByteBuf::from(vec![0; 32]), input };
        let (mut tokens, mut delays) = (peer.stream::<Generate>(&text, LONG).await?, Times::default());
        while let Some(token) = tokens.next().await {
            if let Generated::Token(token) = token? {
                delays.0.push(delay(&token)?);
            }
        }
        figures.extend(as_delays(delays));
        Ok(figures)
    }

    async fn grpc(&self) -> Result<Figures> {
        let mut client = grpc::Client::connect(&self.at).await?;
        let mut times = Times::default();
        for i in 0..self.options.calls + WARM {
            let call = self.call()?;
            let begun = Instant::now();
            let answer = client.call(encode(&call)?.into()).await?;
            decode::<Predicted>(&answer, FRAME_BYTES)?;
            if i >= WARM {
                times.add(begun);
            }
        }
        let mut figures = times.ranks();
        let (call, shared) = (&self.call()?, &client);
        let one = || async move {
            let answer = shared.clone().call(encode(call)?.into()).await?;
            Ok(drop(decode::<Predicted>(&answer, FRAME_BYTES)?))
        };
        figures.push(("calls/s", per_second(self.options.seconds, AT_ONCE, one).await?));
        let one = || async move { grpc::Client::connect(&self.at).await.map(drop) };
        figures.push(("connections/s", per_second(self.options.seconds, 4, one).await?));
        let (begun, mut bytes) = (Instant::now(), 0);
        let mut pieces = client.stream(grpc::BYTES).await?;
        while let Some(piece) = pieces.next().await {
            bytes += piece?.len();
        }
        figures.push(rate(bytes, begun)?);
        let (mut tokens, mut delays) = (client.stream(grpc::TOKENS).await?, Times::default());
        while let Some(token) = tokens.next().await {
            let token: TokenPiece = decode(&token?, FRAME_BYTES)?;
            delays.0.push(delay(&token)?);
        }
        figures.extend(as_delays(delays));
        Ok(figures)
    }
}

fn rate(bytes: usize, begun: Instant) -> Result<(&'static str, f64)> {
    ensure!(bytes == PIECES * MIB, "{bytes} bytes came");
    #[allow(clippy::cast_precision_loss)]
    Ok(("MB/s", bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()))
}

/// Since a token was given.
fn delay(token: &TokenPiece) -> Result<Duration> {
    let given: u64 = token.text.parse().context("a token without its time")?;
    Ok(Duration::from_nanos(work::now_ns().saturating_sub(given)))
}

fn as_delays(delays: Times) -> Figures {
    let names = ["token p50 ms", "token p99 ms"];
    names.into_iter().zip(delays.ranks()).map(|(name, (_, value))| (name, value)).collect()
}

async fn node_peer(node: &Node, options: &Options) -> Result<Figures> {
    let client = node::join(&node.invite(1)?).await?;
    let name = node::name()?;
    let mut times = Times::default();
    for i in 0..options.calls / 4 + WARM {
        let begun = Instant::now();
        client.predict(&*client.find(&name).await?, node::input(), LONG).await?;
        if i >= WARM {
            times.add(begun);
        }
    }
    let mut figures = times.ranks();
    let (client, name) = (&client, &name);
    let one = || async move { Ok(client.predict(&*client.find(name).await?, node::input(), LONG).await.map(drop)?) };
    figures.push(("calls/s", per_second(options.seconds, AT_ONCE / 2, one).await?));
    Ok(figures)
}

async fn node_gateway(node: &Node, options: &Options) -> Result<Figures> {
    let request = node.infer().await?;
    let mut http = Http::connect(&node.gateway).await?;
    let mut times = Times::default();
    for i in 0..options.calls / 4 + WARM {
        let begun = Instant::now();
        http.ask(&request).await?;
        if i >= WARM {
            times.add(begun);
        }
    }
    let mut figures = times.ranks();
    let mut open = Vec::new();
    for _ in 0..AT_ONCE / 2 {
        open.push(Http::connect(&node.gateway).await?);
    }
    // A connection a caller: HTTP/1.1 has one request in flight on each.
    let open = &std::sync::Mutex::new(open);
    let request = &request;
    let one = || async move {
        let taken = open.lock().ok().and_then(|mut open| open.pop());
        let mut http = taken.context("no connection is left")?;
        http.ask(request).await?;
        if let Ok(mut open) = open.lock() {
            open.push(http);
        }
        Ok(())
    };
    figures.push(("calls/s", per_second(options.seconds, AT_ONCE / 2, one).await?));
    let live = &node.http("GET", "/v2/health/live", "", b"");
    let one = || async move { Http::connect(&node.gateway).await?.ask(live).await.map(drop) };
    figures.push(("connections/s", per_second(options.seconds, 4, one).await?));
    Ok(figures)
}

/// Many clients, an account each, each predicting about once a second until the time is over.
async fn soak(node: &Arc<Node>, options: &Options) -> Result<Figures> {
    let invite = Arc::new(node.invite(options.clients)?);
    let joining = (0..options.clients).map(|_| node::join(&invite));
    let clients: Vec<_> = futures::stream::iter(joining).buffer_unordered(4).collect().await;
    let clients = clients.into_iter().collect::<Result<Vec<_>>>()?;
    let (calls, errors, over) =
        (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let name = node::name()?;
    let mut tasks = tokio::task::JoinSet::new();
    for client in clients {
        let (calls, errors, over, name) = (Arc::clone(&calls), Arc::clone(&errors), Arc::clone(&over), name.clone());
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let one = async { client.predict(&*client.find(&name).await?, node::input(), LONG).await };
                if let Err(error) = one.await {
                    errors.fetch_add(1, Ordering::Relaxed);
                    eprintln!("{error}");
                }
                calls.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    // The first tenth lets every connection, cache and worker settle.
    let whole = Duration::from_secs_f64(options.minutes * 60.0);
    tokio::time::sleep(whole / 10).await;
    let first = node.memory_mib()?;
    tokio::time::sleep(whole * 9 / 10).await;
    let last = node.memory_mib()?;
    over.store(true, Ordering::Relaxed);
    while tasks.join_next().await.transpose()?.is_some() {}
    #[allow(clippy::cast_precision_loss)]
    let [calls, errors] = [calls, errors].map(|n| n.load(Ordering::Relaxed) as f64);
    Ok(vec![("calls", calls), ("errors", errors), ("MiB after a tenth", first), ("MiB at the end", last)])
}
