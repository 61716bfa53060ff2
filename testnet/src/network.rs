//! A pool of several nodes in one temporary folder.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{daemon::Daemon, faults::wires::Wires};

/// A pool: node 0 made it, the others joined with its invite.
pub struct Network {
    /// The nodes.
    pub nodes: Vec<Daemon>,
    dir: TempDir,
}

impl Network {
    /// A pool of `n` nodes with the right `member`. Node 0 is its only signer.
    ///
    /// # Errors
    /// A node does not start or is not let in.
    pub fn start(n: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let first = Daemon::up(&dir.path().join("n0"), &[])?;
        let mut network = Self { nodes: vec![first], dir };
        for _ in 1..n {
            network.join("member")?;
        }
        Ok(network)
    }

    /// The same, each node at a place of its own of `wires`.
    ///
    /// # Errors
    /// As [`Network::start`]; there are too few places.
    pub fn start_on(wires: &Wires, n: usize) -> Result<Self> {
        let mut network = Self { nodes: Vec::new(), dir: tempfile::tempdir()? };
        for nth in 0..n {
            let place = wires.place(nth).context("a place for each node")?;
            network.add_at(Some(&place.namespace), place.address.into())?;
        }
        Ok(network)
    }

    /// The same, one node at each of these addresses of this machine.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub fn start_at(ips: &[IpAddr]) -> Result<Self> {
        let mut network = Self { nodes: Vec::new(), dir: tempfile::tempdir()? };
        for ip in ips {
            network.add_at(None, *ip)?;
        }
        Ok(network)
    }

    /// Adds a node that listens at `ip`: the first makes the pool, the others join it.
    fn add_at(&mut self, namespace: Option<&str>, ip: IpAddr) -> Result<()> {
        let home = self.path().join(format!("n{}", self.nodes.len()));
        std::fs::create_dir_all(&home)?;
        let any = SocketAddr::new(ip, 0);
        std::fs::write(home.join("config.toml"), format!("listen_rpc = \"{any}\"\nlisten_swarm = \"{any}\"\n"))?;
        let file = self.path().join("invite");
        let mut words = Vec::new();
        if !self.nodes.is_empty() {
            std::fs::write(&file, self.invite("member")?)?;
            words = vec!["--join-file", file.to_str().context("a temporary path is text")?];
        }
        self.nodes.push(Daemon::up_in(namespace, &home, &words)?);
        Ok(())
    }

    /// Adds a node with these rights.
    ///
    /// # Errors
    /// As [`Network::start`].
    pub fn join(&mut self, rights: &str) -> Result<&Daemon> {
        let invite = self.invite(rights)?;
        let file = self.dir.path().join("invite");
        std::fs::write(&file, invite)?;
        let home = self.dir.path().join(format!("n{}", self.nodes.len()));
        let file = file.to_str().context("a temporary path is text")?;
        self.nodes.push(Daemon::up(&home, &["--join-file", file])?);
        self.nodes.last().context("just added")
    }

    /// An invite of node 0 for one identity.
    ///
    /// # Errors
    /// Node 0 does not answer.
    pub fn invite(&self, rights: &str) -> Result<String> {
        let answer = self.nodes[0].json(&["pool", "invite", "--rights", rights, "--uses", "1"])?;
        Ok(answer["invite"].as_str().context("an invite line")?.to_owned())
    }

    /// The folder that holds the homes.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
