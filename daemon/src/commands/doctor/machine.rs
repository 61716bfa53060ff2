//! What stands on this machine: the home's files and their modes, the configuration, the running node.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use zero2ai_node::{Config, home::Home};
use zero2ai_proto::{calls::Empty, local::NodeStatus, local::NodeStatusReply};

use super::{Finding, Report, list};
use crate::{
    exit::{Exit, Failure},
    output::plural,
    session::{QUICK, Session},
};

/// Files that nobody but their owner may read.
const SECRETS: [&str; 4] = ["node.key", "sealing.key", "content.key", "pool.key"];

/// The folder, the key files, and whether all of it opens.
pub(super) fn check_files(report: &mut Report, home: &Path) {
    match secrets(home) {
        Ok(says) => report.ok("home", says),
        Err(failure) => report.add("home", Finding::Failed(failure)),
    }
}

fn secrets(home: &Path) -> Result<String, Failure> {
    if !home.is_dir() || !Home::exists(home) {
        // Its own words say how to make one.
        return Home::open(home).map(|_| String::new()).map_err(Failure::from);
    }
    for name in SECRETS {
        let path = home.join(name);
        let shown = path.display();
        let mode = fs::metadata(&path).map_err(|e| {
            Failure::new(Exit::Config, format!("{shown} cannot be read: {e}. Restore it from a copy of this home."))
        })?;
        let mode = mode.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let says = format!(
                "{shown} can be read by others (mode {mode:o}): chmod 600 {shown}, and ask whether its key got out."
            );
            return Err(Failure::new(Exit::Config, says));
        }
    }
    let opened = Home::open(home).map_err(Failure::from)?;
    let pool: String = opened.pool.to_string().chars().take(12).collect();
    Ok(format!(
        "{}, node {}, pool {pool}, {} sound",
        home.display(),
        opened.key.public().short(),
        plural(4, "key file")
    ))
}

/// `config.toml`, if it can be read.
pub(super) fn check_config(report: &mut Report, home: &Path) -> Option<Config> {
    let file = home.join("config.toml");
    match Config::read(&file) {
        Ok(config) => {
            report.ok("config", if file.exists() { "config.toml is in order" } else { "no config.toml: all defaults" });
            Some(config)
        }
        Err(error) => {
            report.add("config", Finding::Failed(error.into()));
            None
        }
    }
}

/// The running node and what it says of itself.
pub(super) async fn check_node(report: &mut Report, home: &Path) -> Option<(Session, NodeStatusReply)> {
    let asked = async {
        let session = Session::open(home).await?;
        let status = session.call::<NodeStatus>(&Empty {}, QUICK).await?;
        Ok::<_, Failure>((session, status))
    };
    match asked.await {
        Ok((session, status)) => {
            let own = env!("CARGO_PKG_VERSION");
            let version = if status.version == own {
                own.to_owned()
            } else {
                format!("{} (this command is {own}: restart the node)", status.version)
            };
            report.ok("node", format!("runs, version {version}, listens at {}", list(&status.addresses)));
            Some((session, status))
        }
        Err(failure) => {
            report.add("node", Finding::Failed(failure));
            None
        }
    }
}
