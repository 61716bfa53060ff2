//! A pool of several nodes in one temporary folder.

use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::daemon::Daemon;

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
