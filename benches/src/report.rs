//! Tables from raw figures: for the terminal after a bench, and for `RESULTS.md` from what the benches left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    goals,
    onnx::THEIRS,
    results::{Results, table},
    text::{LLAMA, OURS, PLAIN},
    tools::Tool,
};

/// What the tables stand between in `RESULTS.md`, by the name of a file of raw figures.
const BEGIN: &str = "<!-- begin ";
/// In the place of such a name: the table of goals.
const GOALS: &str = "goals";
const END: &str = "<!-- end -->";

/// Settings of `report`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of the raw figures
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// The page whose tables are replaced; each stands between `<!-- begin NAME.json -->` and `<!-- end -->`
    #[arg(long, default_value = "RESULTS.md")]
    page: PathBuf,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    let page = fs::read_to_string(&options.page).with_context(|| format!("read {}", options.page.display()))?;
    fs::write(&options.page, fill(&page, &options.results)?)?;
    println!("{} is written anew", options.page.display());
    Ok(())
}

/// `page` with each table made anew; one whose raw figures are missing says so.
fn fill(page: &str, results: &Path) -> Result<String> {
    let (mut out, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").context("a table's beginning is not closed")?;
        let (_, after) = after.split_once(END).context("a table has no end")?;
        let path = results.join(name);
        let text = if name == GOALS {
            goals::table_of(results)?
        } else if path.exists() {
            show(&Results::read(&path)?)
        } else {
            "Not measured yet.\n".into()
        };
        out += &format!("{before}{BEGIN}{name} -->\n\n{text}\n{END}");
        rest = after;
    }
    Ok(out + rest)
}

fn show(results: &Results) -> String {
    let text = match results.bench.as_str() {
        "transfer" => transfer(results),
        "swarm" => swarm(results),
        "publish" => publish(results),
        "text" => text(results),
        "text-context" => context(results),
        "text-ceilings" => ceilings(results),
        "text-rpc" => wire(results),
        "perplexity" => perplexity(results),
        "rpc" => rpc(results),
        "rpc-soak" => soak(results),
        "onnx" => onnx(results),
        "embed" => embed(results),
        "chain" => chain(results),
        _ => versions(results),
    };
    let m = &results.machine;
    let settings: Vec<String> = results.settings.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    format!(
        "{text}\n{}. Commit {}; {}, {} cores, {} GiB, Linux {}; load before {:.2}.\n",
        settings.join(", "),
        results.commit,
        m.cpu,
        m.cores,
        m.memory_gib,
        m.kernel,
        m.load
    )
}

fn cell(results: &Results, tool: &str, figure: &str, digits: usize) -> String {
    results.spread(tool, figure).map_or_else(String::new, |s| s.show(digits))
}

/// Medians of `tool` and of `reference` as a ratio of rates.
fn ratio(results: &Results, tool: &str, reference: Tool) -> String {
    let median = |tool: &str| results.spread(tool, "MB/s").map(|s| s.median);
    match (median(tool), median(reference.name())) {
        (Some(own), Some(reference)) if reference > 0.0 => format!("{:.2}", own / reference),
        _ => String::new(),
    }
}

/// What the cores could move if both ends kept all of them busy all the time.
fn allowed(results: &Results, tool: &str) -> String {
    let median = |figure: &str| results.spread(tool, figure).map(|s| s.median);
    match (median("seed CPU s/GiB"), median("leech CPU s/GiB")) {
        (Some(seed), Some(leech)) if seed + leech > 0.0 => {
            format!("{:.0}", results.machine.cores as f64 * f64::from(1u32 << 30) / 1e6 / (seed + leech))
        }
        _ => String::new(),
    }
}

pub(crate) fn transfer(results: &Results) -> String {
    let head = [
        "tool",
        "on the way",
        "MB/s, durable",
        "s until received",
        "× quinn to a file",
        "× quinn thrown away",
        "seed CPU s/GiB",
        "leech CPU s/GiB",
        "MB/s the cores allow",
    ];
    let does = |name: &str| Tool::ALL.iter().find(|t| t.name() == name).map_or("", |t| t.does());
    let row = |tool: &&str| {
        vec![
            (*tool).to_owned(),
            does(tool).to_owned(),
            cell(results, tool, "MB/s", 0),
            cell(results, tool, "seconds until received", 2),
            ratio(results, tool, Tool::QuicFile),
            ratio(results, tool, Tool::QuicDiscard),
            cell(results, tool, "seed CPU s/GiB", 2),
            cell(results, tool, "leech CPU s/GiB", 2),
            allowed(results, tool),
        ]
    };
    let rows: Vec<_> = results.tools().iter().map(row).collect();
    table(&head, &rows) + &bounds(results)
}

pub(crate) fn swarm(results: &Results) -> String {
    let figures = [
        ("seconds until the last has it", 2),
        ("seconds until the first has it", 2),
        ("time / bound", 2),
        ("origin sent / model", 2),
        ("CPU s/GiB", 2),
    ];
    plain(results, "tool", &figures) + &bounds(results) + &results.failures()
}

pub(crate) fn rpc(results: &Results) -> String {
    let head = ["", "p50 ms", "p99 ms", "calls/s", "connections/s", "MB/s", "token delay p50 ms", "token delay p99 ms"];
    let figures = [
        ("p50 ms", 3),
        ("p99 ms", 3),
        ("calls/s", 0),
        ("connections/s", 0),
        ("MB/s", 0),
        ("token p50 ms", 3),
        ("token p99 ms", 3),
    ];
    let row = |tool: &&str| {
        let cells = figures.iter().map(|(figure, digits)| cell(results, tool, figure, *digits));
        std::iter::once((*tool).to_owned()).chain(cells).collect()
    };
    let tools = results.tools();
    table(&head, &tools.iter().filter(|t| **t != crate::rpc::SOAK).map(row).collect::<Vec<_>>())
}

/// The long run.
pub(crate) fn soak(results: &Results) -> String {
    let long = |figure: &str| results.spread(crate::rpc::SOAK, figure).map(|s| s.median);
    let (Some(calls), Some(errors), Some(first), Some(last)) =
        (long("calls"), long("errors"), long("MiB after a tenth"), long("MiB at the end"))
    else {
        return String::new();
    };
    format!(
        "The long run: {calls:.0} predictions, {errors:.0} errors; the node and its workers held {first:.0} MiB after a tenth of \
         it and {last:.0} MiB at its end.\n"
    )
}

/// One figure a line: its rows have little in common.
pub(crate) fn chain(results: &Results) -> String {
    let mut rows = Vec::new();
    for tool in results.tools() {
        for (nth, figure) in results.figures(tool).into_iter().enumerate() {
            let least = results.spread(tool, figure).map_or(0.0, |s| s.median);
            let digits = if least >= 100.0 { 0 } else { 2 };
            let name = if nth == 0 { tool.to_owned() } else { String::new() };
            rows.push(vec![name, figure.to_owned(), cell(results, tool, figure, digits)]);
        }
    }
    table(&["what", "figure", "measured"], &rows)
}

pub(crate) fn publish(results: &Results) -> String {
    let figures = [("MB/s", 0), ("seconds", 2), ("CPU s/GiB", 2), ("peak memory MiB", 0)];
    plain(results, "what", &figures)
}

pub(crate) fn versions(results: &Results) -> String {
    let names = [
        "first version, bytes",
        "bytes of changed tensors",
        "second version adds, bytes",
        "added / whole",
        "with --base adds, bytes",
        "with --base / whole",
    ];
    let head: Vec<&str> = ["second version"].into_iter().chain(names).collect();
    let one = |tool: &str, figure: &str| {
        let digits = if figure.contains('/') { 3 } else { 0 };
        results.spread(tool, figure).map_or_else(String::new, |s| format!("{:.digits$}", s.median))
    };
    let row = |tool: &&str| {
        [(*tool).to_owned()].into_iter().chain(names.iter().map(|figure| one(tool, figure))).collect::<Vec<_>>()
    };
    table(&head, &results.tools().iter().map(row).collect::<Vec<_>>())
}

/// Ours and llama.cpp's, file by file, and the ratio of their medians.
pub(crate) fn text(results: &Results) -> String {
    let figures = [
        ("prompt tokens/s", 0),
        ("1 sequences, tokens/s", 0),
        ("4 sequences, tokens/s", 0),
        ("8 sequences, tokens/s", 0),
        ("load s", 2),
        ("peak memory MiB", 0),
        ("first token after a known prefix ms", 1),
        ("known prefix / cold", 3),
    ];
    let head = [
        "what",
        "prompt of 512, tokens/s",
        "1 sequence, tokens/s",
        "4 sequences, tokens/s",
        "8 sequences, tokens/s",
        "load, s",
        "peak memory, MiB",
        "first token after a known prefix, ms",
        "known prefix / cold",
    ];
    compared(results, &head, &figures)
}

/// Ours and ONNX Runtime's, model by model.
pub(crate) fn onnx(results: &Results) -> String {
    let figures = [("ms", 3), ("load s", 3), ("off by, share of the largest", 6)];
    let head = ["what", "a prediction, ms", "load, s", "off by, share of the largest"];
    compared(results, &head, &figures) + &results.failures()
}

/// Ours and ONNX Runtime's.
pub(crate) fn embed(results: &Results) -> String {
    let figures = [
        ("1 at a time, texts/s", 0),
        ("8 at a time, texts/s", 0),
        ("32 at a time, texts/s", 0),
        ("load s", 2),
        ("cosine to theirs, least", 4),
    ];
    let head =
        ["what", "1 at a time, texts/s", "8 at a time, texts/s", "32 at a time, texts/s", "load, s", "cosine, least"];
    compared(results, &head, &figures)
}

/// A row a side, and what ours are of the other's behind each of its rows.
fn compared(results: &Results, head: &[&str], figures: &[(&str, usize)]) -> String {
    let mut rows = Vec::new();
    for tool in results.tools() {
        let cells = figures.iter().map(|(name, digits)| cell(results, tool, name, *digits));
        rows.push([tool.to_owned()].into_iter().chain(cells).collect());
        rows.extend(ratios(results, tool, figures));
    }
    table(head, &rows)
}

/// Behind the other's row: ours by its medians, with look-up and without.
fn ratios(results: &Results, tool: &str, figures: &[(&str, usize)]) -> Vec<Vec<String>> {
    let Some((LLAMA | THEIRS, rest)) = tool.split_once(", ") else { return Vec::new() };
    let median = |tool: &str, figure: &str| results.spread(tool, figure).map(|s| s.median).filter(|m| *m > 0.0);
    let row = |(side, words): (&str, &str)| {
        let side = format!("{side}, {rest}");
        let ratio = |figure: &str| Some(median(&side, figure)? / median(tool, figure)?);
        let cells = figures.iter().map(|(name, _)| ratio(name).map_or_else(String::new, |r| format!("{r:.2}")));
        [format!("{words}, {rest}")].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let sides = [(OURS, "ours / theirs"), (PLAIN, "ours without look-up / theirs")];
    // A side that was not measured has no row.
    sides
        .into_iter()
        .filter(|(side, _)| results.tools().contains(&format!("{side}, {rest}").as_str()))
        .map(row)
        .collect()
}

/// A long context, both sides.
pub(crate) fn context(results: &Results) -> String {
    let figures = [("prompt tokens/s", 0), ("first token ms", 0), ("after it, tokens/s", 0), ("peak memory MiB", 0)];
    let head = ["what", "prompt, tokens/s", "first token, ms", "text after it, tokens/s", "peak memory, MiB"];
    compared(results, &head, &figures)
}

/// What the machine could do, and what is reached of it.
pub(crate) fn ceilings(results: &Results) -> String {
    let figures = [
        ("dot products G/s", 0),
        ("prompt tokens/s", 0),
        ("prompt, share of dot products", 2),
        ("memory GB/s", 1),
        ("1 sequence without look-up, tokens/s", 0),
        ("1 sequence, share of memory", 2),
    ];
    plain(results, "file", &figures)
}

/// The first token through a node and in process.
pub(crate) fn wire(results: &Results) -> String {
    plain(results, "prompt of 512 tokens", &[("first token ms", 1), ("× in process", 3)])
}

/// Perplexities, and how far each is from that of the same weights in single precision by llama.cpp.
pub(crate) fn perplexity(results: &Results) -> String {
    let figures = [("perplexity", 4), ("more than the first, %", 3)];
    let row = |tool: &&str| {
        let cells = figures.iter().map(|(name, digits)| cell(results, tool, name, *digits));
        [(*tool).to_owned()].into_iter().chain(cells).collect()
    };
    let head = ["what", "perplexity", "more than llama.cpp's in single precision, %"];
    table(&head, &results.tools().iter().map(row).collect::<Vec<_>>())
}

fn plain(results: &Results, first: &str, figures: &[(&str, usize)]) -> String {
    let head: Vec<&str> = [first].into_iter().chain(figures.iter().map(|(name, _)| *name)).collect();
    let row = |tool: &&str| {
        let cells = figures.iter().map(|(name, digits)| cell(results, tool, name, *digits));
        [(*tool).to_owned()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    table(&head, &results.tools().iter().map(row).collect::<Vec<_>>())
}

fn bounds(results: &Results) -> String {
    let text: Vec<String> = results.bounds.iter().map(|(name, value)| format!("{name}: {value:.2}")).collect();
    if text.is_empty() { String::new() } else { format!("\nBound: {}.\n", text.join(", ")) }
}
