//! The goals set for the benches, and whether the raw figures reach them.

use std::path::Path;

use anyhow::Result;

use crate::{
    chain,
    onnx::THEIRS,
    results::{Results, table},
    text::{LLAMA, OURS, PLAIN},
    tools::Tool,
};

/// The table of all goals, from the raw figures in `results`; those not measured yet say so.
pub(crate) fn table_of(results: &Path) -> Result<String> {
    let read = |name: &str| -> Result<Option<Results>> {
        let path = results.join(name);
        path.exists().then(|| Results::read(&path)).transpose()
    };
    let mut rows = Vec::new();
    for (way, file, goal) in [
        ("loopback, to disk", "transfer-disk.json", 0.75),
        ("loopback, to memory", "transfer-memory.json", 0.75),
        ("1 Gbit/s", "transfer-link.json", 0.9),
    ] {
        let found = read(file)?;
        let quinn = found.as_ref().and_then(|r| Some(rate(r, Tool::Ours.name())? / rate(r, Tool::QuicFile.name())?));
        rows.push(row(&format!("one to one, {way}: × raw quinn to a file"), quinn, goal, true));
        let others = found.as_ref().and_then(|r| Some((rate(r, Tool::Ours.name())?, fastest_other(r)?)));
        let (name, ratio) = others.map_or((String::new(), None), |(own, (name, other))| (name, Some(own / other)));
        rows.push(row(&format!("one to one, {way}: × the fastest other tool {name}"), ratio, 1.0, true));
    }
    let swarm = read("swarm.json")?;
    let of = |figure: &str| swarm.as_ref()?.spread(Tool::Ours.name(), figure).map(|s| s.median);
    rows.push(row("swarm: time / bound", of("time / bound"), 1.3, false));
    rows.push(row("swarm: bytes out of the origin / model", of("origin sent / model"), 1.15, false));
    let publish = read("publish-disk.json")?;
    let memory =
        publish.as_ref().and_then(|r| r.spread("publish of the large file", "peak memory MiB")).map(|s| s.most);
    rows.push(row("publish of the large file: MiB of memory at most", memory, 256.0, false));
    let text = read("text.json")?;
    for (what, figure, goal) in [
        ("prompt of 512 tokens", "prompt tokens/s", 1.5),
        ("one sequence", "1 sequences, tokens/s", 1.2),
        ("8 sequences", "8 sequences, tokens/s", 2.0),
    ] {
        let best = |tool: &str| text.as_ref().and_then(|r| best_file(r, tool, figure));
        let ratio = best(OURS).zip(best(LLAMA)).map(|(own, other)| own / other);
        rows.push(row(&format!("text, {what}, 2 threads: × llama.cpp, each on its best file"), ratio, goal, true));
    }
    for (what, figure, goal) in
        [("one sequence", "1 sequences, tokens/s", 1.2), ("8 sequences", "8 sequences, tokens/s", 2.0)]
    {
        let best = |tool: &str| text.as_ref().and_then(|r| best_file(r, tool, figure));
        let ratio = best(PLAIN).zip(best(LLAMA)).map(|(own, other)| own / other);
        rows.push(row(&format!("the same without look-up, {what}"), ratio, goal, true));
    }
    let shipped = |tool: &str, figure: &str| {
        Some(text.as_ref()?.spread(&format!("{tool}, Q4_1, threads: 2"), figure)?.median).filter(|m| *m > 0.0)
    };
    let memory =
        shipped(OURS, "peak memory MiB").zip(shipped(LLAMA, "peak memory MiB")).map(|(own, other)| own / other);
    rows.push(row("text, shipped file: peak memory / llama.cpp's", memory, 1.1, false));
    rows.push(row(
        "text: first token after a known prefix of 512 / cold",
        shipped(OURS, "known prefix / cold"),
        0.05,
        false,
    ));
    let big = read("text-big.json")?;
    for (what, figure, goal) in [
        ("prompt of 512 tokens", "prompt tokens/s", 1.5),
        ("one sequence", "1 sequences, tokens/s", 1.2),
        ("8 sequences", "8 sequences, tokens/s", 2.0),
        ("memory / llama.cpp's", "peak memory MiB", 1.1),
    ] {
        // Where look-up plays a part, without it: random weights repeat themselves as nothing else does.
        let side = if figure.ends_with("sequences, tokens/s") { PLAIN } else { OURS };
        let best = |tool: &str| big.as_ref().and_then(|r| best_file(r, tool, figure));
        let ratio = best(side).zip(best(LLAMA)).map(|(own, other)| own / other);
        rows.push(row(&format!("text, 1.1 billion weights, {what}"), ratio, goal, figure != "peak memory MiB"));
    }
    let wire = read("text-rpc.json")?;
    let wire = wire.as_ref().and_then(|r| r.spread(crate::text::THROUGH, "× in process")).map(|s| s.median);
    rows.push(row("text: first token of 512 through peer RPC / in process", wire, 1.05, false));
    let embed = read("embed.json")?;
    for many in [1, 8, 32] {
        let of = |tool: &str| {
            let figure = format!("{many} at a time, texts/s");
            embed.as_ref()?.spread(&format!("{tool}, threads: 2"), &figure).map(|s| s.median)
        };
        let ratio = of(OURS).zip(of(THEIRS)).map(|(own, other)| own / other);
        rows.push(row(&format!("MiniLM, {many} at a time: × ONNX Runtime's int8"), ratio, 1.0, true));
    }
    let onnx = read("onnx.json")?;
    let tiny = onnx.as_ref().and_then(|r| r.spread(&format!("{OURS}, digits, threads: 1"), "ms")).map(|s| s.median);
    rows.push(row("a tiny model in its worker, the whole call: ms", tiny, 0.1, false));
    let rpc = read("rpc.json")?;
    for (figure, goal) in [("p50 ms", 0.5), ("p99 ms", 2.0)] {
        let of = |tool: &str| rpc.as_ref()?.spread(tool, figure).map(|s| s.median);
        let beyond = of(crate::rpc::PEER).zip(of(crate::rpc::IN_PROCESS)).map(|(call, alone)| call - alone);
        rows.push(row(&format!("peer RPC: ms beyond the same call in process, {}", &figure[..3]), beyond, goal, false));
    }
    let soak = read("rpc-soak.json")?;
    let errors = soak.as_ref().and_then(|r| r.spread(crate::rpc::SOAK, "errors")).map(|s| s.most);
    rows.push(row("peer RPC: errors of many clients in minutes", errors, 0.0, false));
    rows.extend(of_chain(read("chain.json")?.as_ref()));
    Ok(table(&["goal", "wanted", "measured", ""], &rows))
}

/// What the ledger was to reach.
fn of_chain(found: Option<&Results>) -> Vec<Vec<String>> {
    let of = |tool: &str, figure: &str| Some(found?.spread(tool, figure)?.median);
    let mut rows = Vec::new();
    let applied = of(chain::APPLY, "transactions/s");
    rows.push(row("ledger: transactions executed a second by one node", applied, 10_000.0, true));
    let finality = of(&chain::processes(4), "final after, p50 ms");
    rows.push(row("ledger, 4 nodes on loopback: ms until final, p50", finality, 100.0, false));
    for signers in chain::SIMULATED {
        let each = of(&chain::simulated(signers), "ms a block");
        rows.push(row(&format!("ledger, {signers} signers simulated, 50 ms one way: ms a block"), each, 200.0, false));
    }
    rows.push(row("ledger, one of 4 nodes dead: s a block", of(chain::DEAD, "s a block"), 1.0, false));
    let anchored = of(chain::RECEIPTS, "appended and anchored/s");
    rows.push(row("receipts appended and anchored a second", anchored, 100_000.0, true));
    rows
}

/// The best median of one side over its files, on two threads.
fn best_file(results: &Results, tool: &str, figure: &str) -> Option<f64> {
    let of_side = |name: &&&str| name.starts_with(&format!("{tool}, ")) && name.ends_with("threads: 2");
    let tools = results.tools();
    let medians = tools.iter().filter(of_side).filter_map(|name| Some(results.spread(name, figure)?.median));
    medians.max_by(f64::total_cmp).filter(|best| *best > 0.0)
}

fn rate(results: &Results, tool: &str) -> Option<f64> {
    results.spread(tool, "MB/s").map(|s| s.median).filter(|rate| *rate > 0.0)
}

/// The fastest of the tools people use; raw quinn is none.
fn fastest_other(results: &Results) -> Option<(String, f64)> {
    let others = [Tool::Iroh, Tool::Aria2, Tool::Aria2Sha, Tool::Torrent];
    let rates = others.into_iter().filter_map(|t| Some((format!("({})", t.name()), rate(results, t.name())?)));
    rates.max_by(|a, b| a.1.total_cmp(&b.1))
}

fn row(goal: &str, measured: Option<f64>, wanted: f64, at_least: bool) -> Vec<String> {
    let sign = if at_least { "≥" } else { "≤" };
    let (shown, verdict) = match measured {
        None => ("not measured".to_owned(), ""),
        Some(m) if (m >= wanted) == at_least || m == wanted => (format!("{m:.2}"), "reached"),
        Some(m) => (format!("{m:.2}"), "**missed**"),
    };
    vec![goal.to_owned(), format!("{sign} {wanted}"), shown, verdict.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_from_its_own_side() {
        assert_eq!(row("x", Some(0.8), 0.75, true)[3], "reached");
        assert_eq!(row("x", Some(0.7), 0.75, true)[3], "**missed**");
        assert_eq!(row("x", Some(1.1), 1.15, false)[3], "reached");
        assert_eq!(row("x", Some(1.15), 1.15, false)[3], "reached");
        assert_eq!(row("x", Some(1.2), 1.15, false)[3], "**missed**");
        assert_eq!(row("x", None, 1.15, false)[2], "not measured");
    }
}
