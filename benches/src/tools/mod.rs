//! The tools measured: how each is set up, started and asked for the file.

mod aria2;
mod iroh;
mod ours;
mod quic;
mod torrent;

use std::{
    io::{BufRead, Write},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use ours::{publish, seal_into_store};

use crate::process::{Namespace, command};

/// Port of whoever serves.
pub(crate) const PORT: u16 = 7_411;

/// What moves the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// Zero2AI: sealed, each chunk verified and written durably.
    Ours,
    /// quinn with our transport settings, received and thrown away.
    QuicDiscard,
    /// quinn with our transport settings, written to a file.
    QuicFile,
    /// iroh-blobs into its file store.
    Iroh,
    /// aria2c from nginx, plain HTTP, nothing verified.
    Aria2,
    /// aria2c from nginx, plain HTTP, SHA-256 verified at the end.
    Aria2Sha,
    /// BitTorrent over TCP: libtorrent.
    Torrent,
}

/// What the processes of one bench share.
pub(crate) struct Lab {
    /// The file that is moved.
    pub(crate) file: PathBuf,
    /// Where seeds keep it, in the form that each tool wants.
    pub(crate) seeds: PathBuf,
}

/// One process that takes part: where it runs and what it may write to.
pub(crate) struct Place {
    pub(crate) namespace: Namespace,
    pub(crate) address: IpAddr,
    /// Tells it from the others; the seed is 0.
    pub(crate) number: u8,
    /// Its folder.
    pub(crate) home: PathBuf,
}

impl Place {
    pub(crate) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT + u16::from(self.number))
    }
}

/// Somebody a leecher may ask: number and address. The first is the seed.
pub(crate) type Others = Vec<(u8, SocketAddr)>;

impl Tool {
    pub(crate) const ALL: [Self; 7] =
        [Self::Ours, Self::QuicDiscard, Self::QuicFile, Self::Iroh, Self::Aria2, Self::Aria2Sha, Self::Torrent];
    /// Those that make a swarm.
    pub(crate) const SWARM: [Self; 3] = [Self::Ours, Self::Torrent, Self::Iroh];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "Zero2AI",
            Self::QuicDiscard => "raw quinn, thrown away",
            Self::QuicFile => "raw quinn, to a file",
            Self::Iroh => "iroh-blobs",
            Self::Aria2 => "aria2c",
            Self::Aria2Sha => "aria2c, SHA-256",
            Self::Torrent => "BitTorrent (libtorrent)",
        }
    }

    /// What it does on the way, for the table: sealed, encrypted on the wire, verified, durable by itself.
    pub(crate) fn does(self) -> &'static str {
        match self {
            Self::Ours => "sealed, encrypted, verified, durable",
            Self::QuicDiscard | Self::QuicFile => "encrypted",
            Self::Iroh => "encrypted, verified",
            Self::Aria2 => "nothing",
            Self::Aria2Sha | Self::Torrent => "verified",
        }
    }

    /// True if what it wrote is durable when it says that it is done; the others are synced by the bench, within the time.
    pub(crate) fn is_durable(self) -> bool {
        matches!(self, Self::Ours | Self::QuicDiscard)
    }

    /// Why it cannot run here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Aria2 | Self::Aria2Sha => aria2::missing(),
            Self::Torrent => torrent::missing(),
            _ => None,
        }
    }

    /// Makes what the seed needs, once for all rounds. `pieces`: as a swarm takes it.
    pub(crate) fn prepare(self, lab: &Lab, pieces: bool) -> Result<()> {
        match self {
            Self::Ours => ours::prepare(lab),
            Self::Iroh => iroh::prepare(lab, pieces),
            Self::Aria2 | Self::Aria2Sha => aria2::prepare(lab),
            Self::Torrent => torrent::prepare(lab),
            Self::QuicDiscard | Self::QuicFile => Ok(()),
        }
    }

    /// The process that has the file.
    pub(crate) fn seed(self, lab: &Lab, at: &Place) -> Result<Command> {
        match self {
            Self::Ours => ours::seed(lab, at),
            Self::QuicDiscard | Self::QuicFile => quic::seed(lab, at),
            Self::Iroh => iroh::seed(lab, at),
            Self::Aria2 | Self::Aria2Sha => aria2::seed(lab, at),
            Self::Torrent => torrent::seed(lab, at),
        }
    }

    /// A process that gets the file from `others`; with `stay`, it serves on until it is stopped.
    pub(crate) fn leech(self, lab: &Lab, at: &Place, others: Others, stay: bool) -> Result<Command> {
        match self {
            Self::Ours => ours::leech(lab, at, others, stay),
            Self::QuicDiscard => quic::leech(at, others, false),
            Self::QuicFile => quic::leech(at, others, true),
            Self::Iroh => iroh::leech(lab, at, others, stay),
            Self::Aria2 => aria2::leech(lab, at, &others, false),
            Self::Aria2Sha => aria2::leech(lab, at, &others, true),
            Self::Torrent => torrent::leech(lab, at, &others, stay),
        }
    }

    /// True if its leecher says `ready` and `done`; else its life is the measure.
    pub(crate) fn speaks(self) -> bool {
        !matches!(self, Self::Aria2 | Self::Aria2Sha)
    }

    /// The file that it wrote, if that can be compared byte by byte; the others have verified it themselves.
    pub(crate) fn output(self, lab: &Lab, home: &Path) -> Option<PathBuf> {
        match self {
            Self::Ours | Self::QuicDiscard | Self::Iroh => None,
            Self::QuicFile => Some(home.join(quic::OUTPUT)),
            Self::Aria2 | Self::Aria2Sha | Self::Torrent => lab.file.file_name().map(|name| home.join(name)),
        }
    }
}

/// What a process of this program can be.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    Ours(ours::Role),
    Quic(quic::Role),
    Iroh(iroh::Role),
    Publish(crate::publish::Role),
    Rpc(crate::rpc::Role),
}

impl Role {
    pub(crate) fn command(&self, namespace: &Namespace) -> Result<Command> {
        let mut command = command(namespace, std::env::current_exe()?);
        command.arg("role").arg(serde_json::to_string(self)?);
        Ok(command)
    }
}

/// Plays a role until it is over.
pub(crate) fn play(role: &str) -> Result<()> {
    let role: Role = serde_json::from_str(role).context("the role")?;
    // What a node runs on: as many workers as cores.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let played = runtime.block_on(async {
        match role {
            Role::Ours(role) => ours::play(role).await,
            Role::Quic(role) => quic::play(role).await,
            Role::Iroh(role) => iroh::play(role).await,
            Role::Rpc(role) => crate::rpc::play(role).await,
            Role::Publish(role) => {
                wait_for_go().await?;
                tokio::task::spawn_blocking(|| crate::publish::play(role)).await?
            }
        }
    });
    runtime.shutdown_background();
    played
}

/// Tells the bench something.
pub(crate) fn say(word: &str, about: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {}", serde_json::to_string(about)?)?;
    Ok(out.flush()?)
}

/// Says that it can begin, and waits until it may.
pub(crate) async fn wait_for_go() -> Result<()> {
    say("ready", &())?;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|n| n > 0)
    });
    if read.await?? { Ok(()) } else { bail!("the bench is gone") }
}

/// Waits until the bench wants it to end.
pub(crate) async fn until_stopped() -> Result<()> {
    let mut stop = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    stop.recv().await;
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    std::fs::write(path, serde_json::to_vec(value)?).with_context(|| format!("write {}", path.display()))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}
