//! The configuration file, `config.toml` in the home folder. Unknown keys are refused, so that a typing error is not a
//! silent default.

mod calls;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::error::NodeError;
pub use calls::{CallSettings, OfferSettings};

/// Everything that can be set. Command-line flags override it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where peer RPC listens (UDP). Port 0 takes a free one and keeps it for the next start. `[::]` is every address of either kind.
    pub listen_rpc: SocketAddr,
    /// Where the swarm listens (UDP). Port 0 as above.
    pub listen_swarm: SocketAddr,
    /// Where the HTTP gateway listens (TCP): a loopback address, or any with `http_tls`. `None` is no gateway.
    pub listen_http: Option<SocketAddr>,
    /// Its TLS; `None` is HTTP in the clear.
    pub http_tls: Option<TlsSettings>,
    /// Look for peers of the pool on the local network.
    pub mdns: bool,
    /// Milliseconds between empty blocks while nothing happens.
    pub heartbeat_ms: u64,
    /// Milliseconds between anchors of this node's receipts, while there are new ones.
    pub anchor_ms: u64,
    /// By a node that has no ledger yet, one of at least this many blocks is begun with a snapshot of its state, which two thirds of the signers vouch for;
    /// 0 is never: every block is fetched and executed here.
    pub snapshot_blocks: u64,
    /// The processes that run models.
    pub worker: WorkerSettings,
    /// Disk.
    pub store: StoreSettings,
    /// Chunks to and from other nodes.
    pub swarm: SwarmSettings,
    /// What this node says of itself to those who look for endpoints.
    pub offer: OfferSettings,
    /// Which endpoints the calls of this home go to: those of its commands, and of its HTTP gateway.
    pub calls: CallSettings,
}

/// See [`Config::worker`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerSettings {
    /// Threads of one worker; 0 is one fewer than the machine has cores, at least one.
    pub threads: usize,
    /// Memory of one worker, MiB; beyond it the worker fails, not the node.
    pub memory_mb: u64,
    /// Memory of all loaded models together, MiB; 0 is three quarters of the machine's, or of what this process's control group
    /// may use. When a model is asked for that does not fit, idle ones go, the least recently used first; the next call
    /// loads them again.
    pub model_memory_mb: u64,
    /// Run models even where this machine offers no sandbox. A hostile model file may then harm the machine.
    pub allow_unsandboxed: bool,
}

/// See [`Config::store`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Most GiB of chunks and manifests; 0 is no limit. With `quota_mb`, their sum. When it is full and a version is to be fetched or published, copies
    /// held for others go, the least recently used first; never what is pinned, served or published here.
    pub quota_gb: u64,
    /// MiB of the same: for small disks.
    pub quota_mb: u64,
    /// MiB of the disk that models leave free, but at most a sixteenth of it: the chain stops where it cannot write.
    pub reserve_mb: u64,
    /// Days from one scrub (everything stored read, hashed, and healed from peers) to the next; 0 is never. It reads 32 MiB
    /// a second.
    pub scrub_days: u64,
    /// Seconds for which a node runs before a scrub may begin: starts and restarts have better things to do.
    pub scrub_settle_s: u64,
}

/// See [`Config::swarm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwarmSettings {
    /// Chunks sent to peers at once; who comes when all are taken is told to ask elsewhere. 0 is no limit.
    pub upload_slots: u32,
    /// Most Mbit/s (10^6 bit) of chunks to peers, all together; 0 is no limit.
    pub upload_mbit: u64,
    /// Most Mbit/s of chunks from peers, all together; 0 is no limit.
    pub download_mbit: u64,
    /// Copies of a held version that the pool should have, this node's among them: when nodes leave, those that are left ask
    /// others to hold it. 0 or 1 asks nobody, whatever else is said.
    /// Where a publisher said how many it wants (`publish --replicas`), that counts.
    pub replicas: u32,
    /// Seconds for which copies must be too few before anybody is asked: long enough for a node to be restarted.
    pub repair_after_s: u64,
}

/// See [`Config::http_tls`]. Without certificate and key, the node makes its own and keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// A file of PEM certificates, the own one first.
    pub certificate: Option<PathBuf>,
    /// The file of its private key, PEM.
    pub key: Option<PathBuf>,
    /// Names and IP addresses of a certificate that the node makes, beside those it knows by itself.
    pub names: Vec<String>,
}

impl Default for SwarmSettings {
    fn default() -> Self {
        Self { upload_slots: 64, upload_mbit: 0, download_mbit: 0, replicas: 3, repair_after_s: 180 }
    }
}

impl Default for Config {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen_rpc: any,
            listen_swarm: any,
            listen_http: None,
            http_tls: None,
            mdns: false,
            heartbeat_ms: 30_000,
            anchor_ms: 5_000,
            snapshot_blocks: 1_000,
            worker: WorkerSettings::default(),
            store: StoreSettings::default(),
            swarm: SwarmSettings::default(),
            offer: OfferSettings::default(),
            calls: CallSettings::default(),
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { threads: 0, memory_mb: 8 * 1024, model_memory_mb: 0, allow_unsandboxed: false }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { quota_gb: 0, quota_mb: 0, reserve_mb: 512, scrub_days: 30, scrub_settle_s: 600 }
    }
}

impl StoreSettings {
    /// Most bytes of chunks and manifests, if there is a limit.
    #[must_use]
    pub fn quota_bytes(&self) -> Option<u64> {
        let bytes = self.quota_gb.saturating_mul(1 << 30).saturating_add(self.quota_mb.saturating_mul(1 << 20));
        (bytes > 0).then_some(bytes)
    }

    /// Time from one scrub to the next, if there are any.
    #[must_use]
    pub fn scrub_every(&self) -> Option<Duration> {
        (self.scrub_days > 0).then(|| Duration::from_secs(self.scrub_days.saturating_mul(24 * 3600)))
    }
}

impl WorkerSettings {
    /// Bytes that all loaded models together may take: the setting, or a share of what there is.
    #[must_use]
    pub fn model_memory_bytes(&self) -> u64 {
        match self.model_memory_mb {
            0 => crate::memory::measure::default_budget(),
            mib => mib.saturating_mul(1 << 20),
        }
    }

    /// Threads to use: the setting, or one fewer than the machine has.
    #[must_use]
    pub fn effective_threads(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1))
    }
}

impl Config {
    /// Reads `config.toml`; a missing file is the default.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has an unknown key or a wrong type: the message names line and key. Or a region or a node
    /// is none.
    pub fn read(path: &Path) -> Result<Self, NodeError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(NodeError::Config { path: path.to_owned(), why: source.to_string() }),
        };
        let wrong = |why: String| NodeError::Config { path: path.to_owned(), why };
        let config: Self = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        config.offer.check().and_then(|()| config.calls.wishes().map(drop)).map_err(wrong)?;
        Ok(config)
    }
}
