//! A network of wires that can be pulled out: a namespace for each node, all around one switch. Removed when dropped.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result, ensure};

/// Names of namespaces begin with this; those that a killed loop left behind are removed at the next start.
const PREFIX: &str = "z2faults-";

/// Where a node is plugged in.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its network namespace.
    pub namespace: String,
    /// Its address there.
    pub address: Ipv4Addr,
}

/// See the module.
pub struct Wires(Vec<Place>);

impl Wires {
    /// A switch with `count` places, at most 200.
    ///
    /// # Errors
    /// No rights to make namespaces, or no command `ip`.
    pub fn new(count: u8) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root: run it again as root (sudo)");
        sweep()?;
        let place = |n: u8| Place { namespace: format!("{PREFIX}{n}"), address: Ipv4Addr::new(10, 78, 0, n + 1) };
        let wires = Self((0..count.min(200)).map(place).collect());
        wires
            .lay()
            .context("the namespaces could not be made: this needs the command ip and a kernel with veth and bridge")?;
        Ok(wires)
    }

    fn lay(&self) -> Result<()> {
        let hub = format!("{PREFIX}hub");
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add br0 type bridge"))?;
        ip(&format!("-n {hub} link set br0 up"))?;
        for (n, Place { namespace, address }) in self.0.iter().enumerate() {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("link add eth0 netns {namespace} type veth peer name port{n} netns {hub}"))?;
            ip(&format!("-n {hub} link set port{n} master br0 up"))?;
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
        }
        Ok(())
    }

    /// The place of node `n`; `None` beyond the last.
    #[must_use]
    pub fn place(&self, n: usize) -> Option<&Place> {
        self.0.get(n)
    }

    /// Pulls the wire of node `n` out of the switch, or plugs it in again.
    ///
    /// # Errors
    /// There is no such place.
    pub fn plug(&self, n: usize, plugged: bool) -> Result<()> {
        ip(&format!("-n {PREFIX}hub link set port{n} {}", if plugged { "up" } else { "down" }))
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        if let Err(error) = sweep() {
            eprintln!("a network namespace could not be removed: {error:#}");
        }
    }
}

fn sweep() -> Result<()> {
    for line in words("netns list")?.lines() {
        if let Some(name) = line.split_whitespace().next().filter(|name| name.starts_with(PREFIX)) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}

pub(crate) fn ip(arguments: &str) -> Result<()> {
    words(arguments).map(drop)
}

pub(crate) fn words(arguments: &str) -> Result<String> {
    let ran = Command::new("ip").args(arguments.split_whitespace()).output().context("running ip: is it installed?")?;
    ensure!(ran.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&ran.stderr).trim());
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
