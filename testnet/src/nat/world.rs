//! Namespaces, wires and NATs. Removed when dropped.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::faults::wires::{ip, words};

/// Names of namespaces begin with this; those that a killed run left behind are removed at the next start.
const PREFIX: &str = "z2nat-";
/// The relay's address.
pub const RELAY: &str = "203.0.113.1";

/// What a NAT does with the port of a packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keeps it, whoever the packet is for, and lets in what answers: holes can be punched.
    Cone,
    /// Draws another one for each destination: no peer can know which.
    Symmetric,
}

/// See the module.
#[derive(Debug)]
pub struct World(());

/// What this machine lacks to make one; `None` if nothing.
#[must_use]
pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    let runs = |program: &str, argument: &str| {
        let ran = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ran.is_ok_and(|status| status.success())
    };
    if !runs("ip", "-V") {
        return Some("the command ip is not installed (iproute2)");
    }
    if !runs("nft", "--version") {
        return Some("the command nft is not installed (nftables)");
    }
    None
}

impl World {
    /// The namespaces `relay`, `a` and `b`, the last two each behind a NAT.
    ///
    /// # Errors
    /// No rights to make namespaces, or something is missing: see [`missing`].
    pub fn new(nats: Kind) -> Result<Self> {
        if let Some(what) = missing() {
            anyhow::bail!("{what}");
        }
        sweep()?;
        let world = Self(());
        world
            .lay(nats)
            .context("the namespaces could not be made: this needs a kernel with veth, bridge and nftables")?;
        Ok(world)
    }

    /// The namespace of `relay`, `a` or `b`.
    #[must_use]
    pub fn namespace(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    fn lay(&self, nats: Kind) -> Result<()> {
        let [wan, relay] = ["wan", "relay"].map(Self::namespace);
        for namespace in [&wan, &relay] {
            add(namespace)?;
        }
        ip(&format!("-n {wan} link add br0 type bridge"))?;
        ip(&format!("-n {wan} link set br0 up"))?;
        plug(&wan, &relay, "relay", &format!("{RELAY}/24"))?;
        for (n, name) in ["a", "b"].into_iter().enumerate() {
            let net = 11 + n;
            let [gateway, node] = [Self::namespace(&format!("gw-{name}")), Self::namespace(name)];
            for namespace in [&gateway, &node] {
                add(namespace)?;
            }
            plug(&wan, &gateway, name, &format!("203.0.113.{net}/24"))?;
            ip(&format!("link add lan0 netns {gateway} type veth peer name eth0 netns {node}"))?;
            up(&gateway, "lan0", &format!("192.168.{net}.1/24"))?;
            up(&node, "eth0", &format!("192.168.{net}.2/24"))?;
            ip(&format!("-n {node} route add default via 192.168.{net}.1"))?;
            run(&gateway, &["sysctl", "-qw", "net.ipv4.ip_forward=1"], "")?;
            run(&gateway, &["nft", "-f", "-"], &rules(nats))?;
        }
        Ok(())
    }

    /// The address of node `a` or `b` in its own network.
    #[must_use]
    pub fn inside(name: &str) -> &'static str {
        if name == "a" { "192.168.11.2" } else { "192.168.12.2" }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = sweep() {
            eprintln!("a network namespace could not be removed: {error:#}");
        }
    }
}

/// Packets that leave get the gateway's address; only answers come in.
fn rules(nats: Kind) -> String {
    let how = match nats {
        Kind::Cone => "masquerade",
        Kind::Symmetric => "masquerade random,fully-random",
    };
    format!(
        "table ip nat {{\n chain out {{\n  type nat hook postrouting priority 100\n  oifname \"eth0\" {how}\n }}\n}}\n\
         table ip filter {{\n chain through {{\n  type filter hook forward priority 0; policy drop\n  iifname \"lan0\" accept\n  \
         ct state established,related accept\n }}\n chain here {{\n  type filter hook input priority 0; policy drop\n  \
         iifname \"lan0\" accept\n  ct state established,related accept\n }}\n}}\n"
    )
}

fn add(namespace: &str) -> Result<()> {
    ip(&format!("netns add {namespace}"))?;
    ip(&format!("-n {namespace} link set lo up"))
}

fn plug(switch: &str, namespace: &str, port: &str, address: &str) -> Result<()> {
    ip(&format!("link add eth0 netns {namespace} type veth peer name port-{port} netns {switch}"))?;
    ip(&format!("-n {switch} link set port-{port} master br0 up"))?;
    up(namespace, "eth0", address)
}

fn up(namespace: &str, link: &str, address: &str) -> Result<()> {
    ip(&format!("-n {namespace} addr add {address} dev {link}"))?;
    ip(&format!("-n {namespace} link set {link} up"))
}

/// Runs a command in a namespace, with these words on its standard input.
fn run(namespace: &str, command: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["netns", "exec", namespace])
        .args(command)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", command.join(" ")))?;
    child.stdin.take().context("its input is a pipe")?.write_all(input.as_bytes())?;
    let ran = child.wait_with_output()?;
    ensure!(ran.status.success(), "{}: {}", command.join(" "), String::from_utf8_lossy(&ran.stderr).trim());
    Ok(())
}

fn sweep() -> Result<()> {
    for line in words("netns list")?.lines() {
        if let Some(name) = line.split_whitespace().next().filter(|name| name.starts_with(PREFIX)) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}
