//! One seeder, many leechers, each in a network namespace whose uplink is limited. The seeder cannot do better than send the
//! model once: model / uplink is the bound on time, and once the model the bound on what leaves the origin.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
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
    tools::{Lab, Others, Place, Tool},
    transfer::chosen,
};

/// How long after the last `done` the origin's counter is read: what was on its way then has left it.
const SETTLE: Duration = Duration::from_millis(200);

/// A tool that needs more than so many times the bound runs in one round only: another could not change what it shows.
const SLOW: f64 = 6.0;

/// Settings of `swarm`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Bytes of the model
    #[arg(long, default_value = "256MiB", value_parser = files::size)]
    size: u64,
    /// Rounds; each runs every tool once, but one that is very slow only in the first
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Leechers
    #[arg(long, default_value_t = 8)]
    leechers: u8,
    /// Rate of each uplink, in tc's words
    #[arg(long, default_value = "100mbit")]
    uplink: String,
    /// Only these tools: ours, torrent, iroh
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Tool>,
    /// Folder for all files
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    let star = Star::new(usize::from(options.leechers) + 1, &options.uplink)?;
    fs::create_dir_all(&options.work)?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("swarm"))?;
    let lab = Lab { file: work.join("file.bin"), seeds: work.join("seeds") };
    fs::create_dir_all(&lab.seeds)?;
    files::random_file(&lab.file, options.size, 0)?;
    let tools = chosen(&options.only, &Tool::SWARM);
    for tool in &tools {
        tool.prepare(&lab, true).with_context(|| tool.name())?;
    }
    let mut results = Results::new(
        "swarm",
        &[
            ("bytes", options.size.to_string()),
            ("leechers", options.leechers.to_string()),
            ("uplink", options.uplink.clone()),
        ],
    );
    let bound = options.size as f64 * 8.0 / bits(&options.uplink)?;
    results.bounds.insert("seconds to send the model once".into(), bound);
    let mut slow = Vec::new();
    for round in 1..=options.rounds {
        for tool in tools.iter().filter(|t| !slow.contains(*t)).copied().collect::<Vec<_>>() {
            let begun = Instant::now();
            match once(tool, &lab, &star, &work, options, bound).with_context(|| tool.name()) {
                Ok(figures) => results.add(tool.name(), round, &figures),
                Err(e) if tool == Tool::Ours => return Err(e),
                Err(e) => results.add_failure(tool.name(), round, &e),
            }
            if begun.elapsed().as_secs_f64() > bound * SLOW {
                slow.push(tool);
            }
        }
    }
    println!("\n{}", report::swarm(&results));
    results.save(options.json.as_deref())
}

fn once(
    tool: Tool,
    lab: &Lab,
    star: &Star,
    work: &Scratch,
    options: &Options,
    bound: f64,
) -> Result<Vec<(&'static str, f64)>> {
    let place = |number: u8| -> Result<Place> {
        let (n, home) = (usize::from(number), work.join(&format!("node-{number}")));
        files::empty(&home)?;
        Ok(Place { namespace: Some(star.namespace(n)), address: IpAddr::V4(star.address(n)), number, home })
    };
    let places = (0..=options.leechers).map(place).collect::<Result<Vec<_>>>()?;
    rustix::fs::sync();
    let everybody: Others = places.iter().map(|p| (p.number, p.socket())).collect();
    let mut children = Vec::new();
    for (n, at) in places.iter().enumerate() {
        let others = everybody.iter().copied().filter(|(number, _)| *number != at.number).collect();
        let command = if n == 0 { tool.seed(lab, at)? } else { tool.leech(lab, at, others, true)? };
        let mut child = Child::start(&format!("node-{n}"), command, &lab.seeds)?;
        child.ready()?;
        children.push(child);
    }
    let before = star.sent(0)?;
    let begun = Instant::now();
    for child in &mut children {
        child.go()?;
    }
    // Each line carries the time it came, so waiting for one after the other measures all.
    let mut seconds = Vec::new();
    for child in children.iter().skip(1) {
        seconds.push(child.expect("done")?.0.duration_since(begun).as_secs_f64());
    }
    thread::sleep(SETTLE);
    let sent = star.sent(0)?.saturating_sub(before);
    let cpu: f64 = children.iter().map(Child::cpu).sum();
    for at in places.iter().skip(1) {
        if let Some(output) = tool.output(lab, &at.home) {
            files::same(&lab.file, &output)?;
        }
    }
    children.iter().try_for_each(Child::hint)?;
    drop(children);
    for at in &places {
        files::empty(&at.home)?;
    }
    seconds.sort_by(f64::total_cmp);
    let last = seconds.last().copied().context("no leechers")?;
    let gib = options.size as f64 * f64::from(options.leechers) / f64::from(1u32 << 30);
    Ok(vec![
        ("seconds until the last has it", last),
        ("seconds until the first has it", seconds.first().copied().unwrap_or(last)),
        ("time / bound", last / bound),
        ("origin sent / model", sent as f64 / options.size as f64),
        ("CPU s/GiB", cpu / gib),
    ])
}
