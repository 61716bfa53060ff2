//! The demo's nodes together: their folder, their start, and their end.

use std::path::{Path, PathBuf};

use super::daemon::Daemon;
use crate::{
    commands::write_file,
    exit::{Exit, Failure, Outcome, file_error},
    session::Session,
};

/// Index of the node that joins late and only uses the pool: the fifth.
pub(crate) const USER: usize = 4;
/// Indices of the three that validate and serve.
pub(crate) const VALIDATORS: std::ops::Range<usize> = 1..4;
/// Signers that the pool grows to: the first four nodes.
pub(crate) const SIGNERS: usize = 4;

/// See the module. Dropped, its nodes are killed unless they were released, and a temporary folder is removed unless it
/// is to be looked into.
pub(crate) struct Cluster {
    pub(crate) root: PathBuf,
    pub(crate) nodes: Vec<Daemon>,
    remove: bool,
}

impl Cluster {
    /// Makes the folder and a home for each node; nothing runs yet.
    pub(crate) fn new(nodes: usize, homes: Option<&Path>, keep: bool) -> Outcome<Self> {
        let root = match homes {
            Some(given) => std::path::absolute(given).map_err(|e| file_error("use the folder", given, &e))?,
            None => std::env::temp_dir().join(format!("zero2ai-demo-{}", std::process::id())),
        };
        let named = |i: usize| {
            let name = if i == USER { "the user's node".into() } else { format!("node {}", i + 1) };
            let folder = if i == USER { "user".into() } else { format!("node-{}", i + 1) };
            Daemon::new(name, root.join(folder), keep)
        };
        let daemons = (0..nodes.max(USER + 1)).map(named).collect::<Outcome<Vec<Daemon>>>()?;
        Ok(Self { root, nodes: daemons, remove: homes.is_none() })
    }

    /// The line to one node.
    pub(crate) fn session(&self, index: usize) -> Outcome<&Session> {
        self.node(index)?.session()
    }

    /// One node.
    pub(crate) fn node(&self, index: usize) -> Outcome<&Daemon> {
        self.nodes.get(index).ok_or_else(|| missing(index))
    }

    /// One node, to start or end it.
    pub(crate) fn node_mut(&mut self, index: usize) -> Outcome<&mut Daemon> {
        self.nodes.get_mut(index).ok_or_else(|| missing(index))
    }

    /// Starts these nodes side by side and waits until all answer.
    pub(crate) async fn start(&mut self, indices: &[usize], invite: Option<&Path>) -> Outcome {
        for index in indices {
            self.node_mut(*index)?.spawn(invite)?;
        }
        let chosen = self.nodes.iter_mut().enumerate().filter(|(i, _)| indices.contains(i));
        futures::future::try_join_all(chosen.map(|(_, node)| node.ready())).await?;
        Ok(())
    }

    /// A failure if any node ended by itself.
    pub(crate) fn alive(&mut self) -> Outcome {
        self.nodes.iter_mut().try_for_each(Daemon::alive)
    }

    /// Writes a file beside the homes and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Outcome<PathBuf> {
        let path = self.root.join(name);
        write_file("write", &path, bytes)?;
        Ok(path)
    }

    /// The demo went well: nodes that were started to be kept run on.
    pub(crate) fn release(&mut self, keep: bool) {
        if keep {
            self.nodes.iter_mut().for_each(Daemon::release);
            self.remove = false;
        }
    }

    /// Something failed: the folder stays, for its logs.
    pub(crate) fn leave(&mut self) {
        self.remove = false;
    }
}

fn missing(index: usize) -> Failure {
    Failure::new(Exit::Internal, format!("the demo has no node {}", index + 1))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        if self.remove {
            let _ = std::fs::remove_dir_all(&self.root); // nobody's data: it can only be left over in the temporary folder
        }
    }
}
