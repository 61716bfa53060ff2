//! One file of random bytes from one process to another. Tools take turns, round by round, so that whatever else the machine
//! does meets all of them. Time runs from the start of the first connection until every byte is durable: tools that leave
//! that to the kernel are synced by the bench, within their time.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    files::{self, Scratch},
    net::{Star, bits},
    process::Child,
    report,
    results::Results,
    tools::{Lab, Place, Tool},
};

/// How long the disk may calm down between two runs.
const PAUSE: Duration = Duration::from_millis(300);

/// Settings of `transfer`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Bytes to move
    #[arg(long, default_value = "1GiB", value_parser = files::size)]
    size: u64,
    /// Rounds; each runs every tool once
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these tools
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Tool>,
    /// Over a veth pair of this rate in network namespaces (needs root), `1gbit` for example; else over loopback
    #[arg(long)]
    link: Option<String>,
    /// Folder to receive into; a memory file system here takes the disk out of the measure [default: the work folder]
    #[arg(long)]
    to: Option<PathBuf>,
    /// Folder for the files that are sent
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The two ends of the way.
struct Way {
    star: Option<Star>,
}

impl Way {
    fn new(link: Option<&str>) -> Result<Self> {
        Ok(Self { star: link.map(|rate| Star::new(2, rate)).transpose()? })
    }

    fn place(&self, number: u8, home: PathBuf) -> Place {
        let n = usize::from(number);
        let address = self.star.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |s| s.address(n).into());
        Place { namespace: self.star.as_ref().map(|s| s.namespace(n)), address, number, home }
    }
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    let way = Way::new(options.link.as_deref())?;
    fs::create_dir_all(&options.work)?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("transfer"))?;
    let lab = Lab { file: work.join("file.bin"), seeds: work.join("seeds") };
    fs::create_dir_all(&lab.seeds)?;
    let to = Scratch::new(options.to.as_ref().map_or_else(|| work.join("received"), |to| to.join("z2bench-received")))?;
    files::random_file(&lab.file, options.size, 0)?;
    let tools = chosen(&options.only, &Tool::ALL);
    for tool in &tools {
        tool.prepare(&lab, false).with_context(|| tool.name())?;
    }
    let mut results = Results::new(
        "transfer",
        &[
            ("bytes", options.size.to_string()),
            ("way", options.link.clone().map_or_else(|| "loopback".into(), |rate| format!("veth of {rate}"))),
            ("received into", if options.to.is_some() { "memory".into() } else { "disk".into() }),
        ],
    );
    if let Some(rate) = &options.link {
        results.bounds.insert("seconds at line rate".into(), options.size as f64 * 8.0 / bits(rate)?);
    }
    for round in 1..=options.rounds {
        for tool in &tools {
            let figures = once(*tool, &lab, &way, to.path(), options.size).with_context(|| tool.name())?;
            files::retire(&to.join("leech"), &to.join(&format!("{round}-{tool:?}")))?;
            results.add(tool.name(), round, &figures);
        }
    }
    println!("\n{}", report::transfer(&results));
    results.save(options.json.as_deref())
}

/// Those of `all` that were asked for and can run; says why one cannot.
pub(crate) fn chosen(only: &[Tool], all: &[Tool]) -> Vec<Tool> {
    let wanted = all.iter().copied().filter(|tool| only.is_empty() || only.contains(tool));
    wanted
        .filter(|tool| match tool.missing() {
            Some(why) => {
                eprintln!("{} is left out: {why}", tool.name());
                false
            }
            None => true,
        })
        .collect()
}

fn once(tool: Tool, lab: &Lab, way: &Way, to: &Path, size: u64) -> Result<Vec<(&'static str, f64)>> {
    let home = to.join("leech");
    files::empty(&home)?;
    // What the last run left to the kernel must not be written on this one's time.
    rustix::fs::sync();
    thread::sleep(PAUSE);
    let (seed_at, leech_at) = (way.place(0, lab.seeds.clone()), way.place(1, home.clone()));
    let mut seed = Child::start("seed", tool.seed(lab, &seed_at)?, &lab.seeds)?;
    seed.ready()?;
    if tool.speaks() {
        seed.go().ok();
    }
    let command = tool.leech(lab, &leech_at, vec![(0, seed_at.socket())], false)?;
    let mut leech = Child::start("leech", command, &lab.seeds)?;
    let (begun, arrived, durable, leech_cpu) = if tool.speaks() {
        leech.ready()?;
        let begun = leech.go()?;
        let arrived = leech.expect("done")?.0;
        let durable = settle(tool, &home, arrived)?;
        (begun, arrived, durable, leech.wait()?)
    } else {
        let begun = Instant::now();
        let cpu = leech.wait()?;
        let arrived = Instant::now();
        (begun, arrived, settle(tool, &home, arrived)?, cpu)
    };
    let seed_cpu = seed.stop()?;
    if let Some(output) = tool.output(lab, &home) {
        files::same(&lab.file, &output)?;
    }
    let gib = size as f64 / f64::from(1u32 << 30);
    let seconds = durable.duration_since(begun).as_secs_f64();
    Ok(vec![
        ("seconds", seconds),
        ("seconds until received", arrived.duration_since(begun).as_secs_f64()),
        ("MB/s", size as f64 / 1e6 / seconds),
        ("seed CPU s/GiB", seed_cpu / gib),
        ("leech CPU s/GiB", leech_cpu / gib),
    ])
}

/// Makes durable what the tool left to the kernel; returns when that was done.
fn settle(tool: Tool, home: &Path, arrived: Instant) -> Result<Instant> {
    if tool.is_durable() {
        return Ok(arrived);
    }
    files::sync_all(home)?;
    Ok(Instant::now())
}
