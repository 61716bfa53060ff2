//! iroh-blobs: one blob from one node in a transfer; in a swarm, a hash sequence of blobs of 1 MiB, which its downloader
//! splits among shuffled providers, as its documentation offers for many nodes.

use std::{
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey, address_lookup::memory::MemoryLookup, endpoint::presets,
    protocol::Router,
};
use iroh_blobs::{
    BlobsProtocol, HashAndFormat,
    api::downloader::{DownloadOptions, Shuffled, SplitStrategy},
    hashseq::HashSeq,
    store::fs::FsStore,
};
use serde::{Deserialize, Serialize};

use super::{Lab, Others, Place, read_json, say, until_stopped, wait_for_go, write_json};
use crate::files::MIB;

/// How often a download that found no provider for some piece is begun again.
const ATTEMPTS: u32 = 50;

/// What a process of iroh is to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    /// Imports the file once and writes what names it.
    Import {
        home: PathBuf,
        file: PathBuf,
        pieces: bool,
        name: PathBuf,
    },
    Serve {
        home: PathBuf,
        listen: SocketAddr,
        number: u8,
    },
    Fetch {
        home: PathBuf,
        listen: SocketAddr,
        number: u8,
        what: HashAndFormat,
        others: Others,
        stay: bool,
    },
}

fn seed_home(lab: &Lab) -> PathBuf {
    lab.seeds.join("iroh")
}

fn name_file(lab: &Lab) -> PathBuf {
    lab.seeds.join("iroh.json")
}

pub(super) fn prepare(lab: &Lab, pieces: bool) -> Result<()> {
    let import = Role::Import { home: seed_home(lab), file: lab.file.clone(), pieces, name: name_file(lab) };
    crate::process::run(&mut super::Role::Iroh(import).command(&None)?).map(drop)
}

pub(super) fn seed(lab: &Lab, at: &Place) -> Result<Command> {
    let role = Role::Serve { home: seed_home(lab), listen: at.socket(), number: at.number };
    super::Role::Iroh(role).command(&at.namespace)
}

pub(super) fn leech(lab: &Lab, at: &Place, others: Others, stay: bool) -> Result<Command> {
    let what = read_json(&name_file(lab))?;
    let role = Role::Fetch { home: at.home.clone(), listen: at.socket(), number: at.number, what, others, stay };
    super::Role::Iroh(role).command(&at.namespace)
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number + 1; 32])
}

pub(super) async fn play(role: Role) -> Result<()> {
    match role {
        Role::Import { home, file, pieces, name } => import(&home, &file, pieces, &name).await,
        Role::Serve { home, listen, number } => {
            let (_store, _endpoint, router) = open(&home, listen, number, &Others::new()).await?;
            wait_for_go().await?;
            until_stopped().await?;
            Ok(router.shutdown().await?)
        }
        Role::Fetch { home, listen, number, what, others, stay } => {
            let (store, endpoint, router) = open(&home, listen, number, &others).await?;
            wait_for_go().await?;
            let begun = Instant::now();
            fetch(&store, &endpoint, what, &others, stay).await?;
            store.sync_db().await.map_err(|e| anyhow!("{e}"))?;
            say("done", &begun.elapsed().as_secs_f64())?;
            if stay {
                until_stopped().await?;
            }
            Ok(router.shutdown().await?)
        }
    }
}

async fn import(home: &Path, file: &Path, pieces: bool, name: &Path) -> Result<()> {
    let store = FsStore::load(home).await.map_err(|e| anyhow!("{e}"))?;
    let what = if pieces {
        let (mut file, mut hashes) = (File::open(file)?, Vec::new());
        loop {
            let mut piece = Vec::with_capacity(MIB);
            file.by_ref().take(MIB as u64).read_to_end(&mut piece)?;
            if piece.is_empty() {
                break;
            }
            hashes.push(store.blobs().add_bytes(piece).with_tag().await.map_err(|e| anyhow!("{e}"))?.hash);
        }
        let list: HashSeq = hashes.into_iter().collect();
        let list = store.blobs().add_bytes(list).with_tag().await.map_err(|e| anyhow!("{e}"))?;
        HashAndFormat::hash_seq(list.hash)
    } else {
        let tag = store.blobs().add_path(std::path::absolute(file)?).with_tag().await.map_err(|e| anyhow!("{e}"))?;
        HashAndFormat::raw(tag.hash)
    };
    store.shutdown().await?;
    write_json(name, &what)
}

async fn open(home: &Path, listen: SocketAddr, number: u8, others: &Others) -> Result<(FsStore, Endpoint, Router)> {
    let store = FsStore::load(home).await.map_err(|e| anyhow!("{e}"))?;
    let lookup = MemoryLookup::from_endpoint_info(others.iter().map(|(n, address)| at(*n, *address)));
    let endpoint = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .secret_key(key(number))
        .clear_ip_transports()
        .bind_addr(listen)?
        .address_lookup(lookup)
        .bind()
        .await
        .map_err(|e| anyhow!("{e}"))?;
    let router = Router::builder(endpoint.clone()).accept(iroh_blobs::ALPN, BlobsProtocol::new(&store, None)).spawn();
    Ok((store, endpoint, router))
}

fn at(number: u8, address: SocketAddr) -> EndpointAddr {
    EndpointAddr::new(key(number).public()).with_ip_addr(address)
}

async fn fetch(store: &FsStore, endpoint: &Endpoint, what: HashAndFormat, others: &Others, many: bool) -> Result<()> {
    if !many {
        let (number, address) = *others.first().context("nobody to ask")?;
        let connection = endpoint.connect(at(number, address), iroh_blobs::ALPN).await.map_err(|e| anyhow!("{e}"))?;
        return store.remote().fetch(connection, what).await.map(drop).map_err(|e| anyhow!("{e}"));
    }
    let downloader = store.downloader(endpoint);
    let nodes: Vec<EndpointId> = others.iter().map(|(n, _)| key(*n).public()).collect();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let options = DownloadOptions::new(what, Shuffled::new(nodes.clone()), SplitStrategy::Split);
        if let Err(e) = downloader.download_with_opts(options).await {
            last = Some(e);
        }
        if store.remote().local(what).await.map_err(|e| anyhow!("{e}"))?.is_complete() {
            return Ok(());
        }
    }
    Err(anyhow!("not complete after {ATTEMPTS} attempts: {last:?}"))
}
