//! Network namespaces with links of limited rate: `ip` and `tc` (token bucket filter), removed when dropped.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{net::Ipv4Addr, process::Command};

use crate::process::run;

/// Names of namespaces begin with this; those that a killed bench left behind are removed at the next start.
const PREFIX: &str = "z2bench-";
/// What a link may hold back before it drops: twice what most home routers do, so that no tool starves for bursts.
const LATENCY: &str = "50ms";

/// A bridge and `count` namespaces around it, each with an address and an uplink of limited rate.
pub(crate) struct Star {
    names: Vec<String>,
    rate: String,
}

impl Star {
    /// Needs the right to make namespaces. `rate` is in `tc`'s words, `100mbit` for example.
    pub(crate) fn new(count: usize, rate: &str) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces need the rights of root: run this bench with sudo");
        }
        if count > 200 {
            bail!("at most 200 namespaces");
        }
        sweep()?;
        let star = Self { names: (0..count).map(|n| format!("{PREFIX}{n}")).collect(), rate: rate.into() };
        star.build().context(
            "the network could not be made: this needs the rights of root, the commands ip and tc (package iproute2), and a \
             kernel with network namespaces, veth, bridge and tbf",
        )?;
        Ok(star)
    }

    fn build(&self) -> Result<()> {
        let hub = format!("{PREFIX}hub");
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add br0 type bridge"))?;
        ip(&format!("-n {hub} link set br0 up"))?;
        for (n, name) in self.names.iter().enumerate() {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("link add eth0 netns {name} type veth peer name port{n} netns {hub}"))?;
            ip(&format!("-n {hub} link set port{n} master br0 up"))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", self.address(n)))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            let rate = &self.rate;
            // A burst of four packets of the largest size that offloads make, or 2 ms.
            words("tc", &format!("-n {name} qdisc add dev eth0 root tbf rate {rate} burst 256kb latency {LATENCY}"))?;
        }
        Ok(())
    }

    /// The namespace of node `n`.
    pub(crate) fn namespace(&self, n: usize) -> String {
        self.names.get(n).cloned().unwrap_or_default()
    }

    /// The address of node `n`.
    pub(crate) fn address(&self, n: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(n + 1).unwrap_or(u8::MAX))
    }

    /// Bytes that node `n` has sent, headers included.
    pub(crate) fn sent(&self, n: usize) -> Result<u64> {
        let text = words("ip", &format!("-n {} -j -s link show dev eth0", self.namespace(n)))?;
        let value: Value = serde_json::from_str(&text)?;
        value.pointer("/0/stats64/tx/bytes").and_then(Value::as_u64).context("ip does not tell bytes sent")
    }
}

impl Drop for Star {
    fn drop(&mut self) {
        if let Err(e) = sweep() {
            eprintln!("a network namespace could not be removed: {e}");
        }
    }
}

/// Bits a second of a rate in `tc`'s words.
pub(crate) fn bits(rate: &str) -> Result<f64> {
    let text = rate.to_lowercase();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        _ => bail!("the rate {rate} is not understood: write 100mbit or 1gbit"),
    };
    Ok(number.parse::<f64>().with_context(|| format!("the rate {rate}"))? * factor)
}

fn sweep() -> Result<()> {
    for line in words("ip", "netns list")?.lines() {
        if let Some(name) = line.split_whitespace().next().filter(|n| n.starts_with(PREFIX)) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<()> {
    words("ip", arguments).map(drop)
}

fn words(program: &str, arguments: &str) -> Result<String> {
    run(Command::new(program).args(arguments.split_whitespace()))
}
