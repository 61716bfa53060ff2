//! `inspect`: what a file or folder is, before it is published. Needs no node; the model is opened in a worker of its own.

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_client::CallError;
use zero2ai_node::{Config, InspectedModel, Inspection, inspect as look};
use zero2ai_proto::{
    manifest::{Format, Task},
    tensor::TensorSpec,
};
use zero2ai_validator::domain::{Guess, guess};

use super::publish::read_samples;
use crate::{
    cli::InspectArgs,
    exit::{Exit, Failure, Outcome},
    output::{Output, Table, bytes, facts, plural},
};

/// Files named in the text; `--json` names all.
const SHOWN: usize = 12;

/// The command.
pub(crate) async fn inspect(home: &Path, args: InspectArgs, out: Output) -> Outcome {
    let config = Config::read(&home.join("config.toml"))?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Internal, format!("This program does not find itself: {e}.")))?;
    let samples = args.samples.as_deref().map_or(Ok(Vec::new()), read_samples)?;
    let found = look(args.path.clone(), samples, &config, program).await.map_err(CallError::Remote)?;
    let json = found_json(&found);
    out.result(&json, || found_text(&args.path, &found));
    Ok(())
}

fn format_word(format: Format) -> &'static str {
    match format {
        Format::Onnx => "onnx",
        Format::Gguf => "gguf",
        Format::Safetensors => "safetensors",
        Format::Opaque => "unknown",
    }
}

fn task_text(task: Task) -> String {
    match task {
        Task::Tensors => "tensors to tensors".into(),
        Task::Classify { classes } => format!("one score for each of {classes} classes"),
        Task::Generate { context } => format!("text, up to {context} tokens"),
        Task::Embed { width, context } => format!("rows of {width} numbers for texts of up to {context} tokens"),
    }
}

/// Files that say what one may do with the model, and what it is for.
fn papers(found: &Inspection) -> Vec<&str> {
    let is_paper = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        ["license", "licence", "readme", "copying", "notice"].iter().any(|word| name.starts_with(word))
    };
    found.files.iter().map(|(path, _, _)| path.as_str()).filter(is_paper).collect()
}

fn specs_json(specs: &[TensorSpec]) -> Value {
    let one = |s: &TensorSpec| json!({ "name": s.name, "datatype": format!("{:?}", s.dtype), "shape": s.shape });
    specs.iter().map(one).collect()
}

fn found_json(found: &Inspection) -> Value {
    let files = found.files.iter();
    let mut json = json!({
        "format": format_word(found.format),
        "bytes": found.files.iter().map(|f| f.1).sum::<u64>(),
        "files": files.map(|(path, size, format)| json!({ "path": path, "bytes": size, "format": format_word(*format) }))
            .collect::<Vec<_>>(),
        "papers": papers(found),
    });
    match &found.model {
        Err(why) => json["not_run"] = why.clone().into(),
        Ok(InspectedModel { info, memory_bytes, load_ms }) => {
            let domains = guess(info).into_iter();
            let domains: Vec<_> =
                domains.map(|g| json!({ "domain": g.domain, "points": g.points, "reasons": g.reasons })).collect();
            json["model"] = json!({
                "architecture": info.architecture, "runtime": info.runtime, "parameters": info.parameters,
                "task": task_text(info.task), "inputs": specs_json(&info.inputs), "outputs": specs_json(&info.outputs),
                "memory_bytes": memory_bytes, "load_ms": load_ms, "domains": domains,
            });
        }
    }
    json
}

fn found_text(path: &Path, found: &Inspection) -> String {
    let size: u64 = found.files.iter().map(|f| f.1).sum();
    let mut rows = vec![
        ("path", path.display().to_string()),
        ("format", format_word(found.format).to_owned()),
        ("size", format!("{} in {}", bytes(size), plural(found.files.len() as u64, "file"))),
    ];
    let papers = papers(found);
    rows.push(("papers", if papers.is_empty() { "none found".into() } else { papers.join(", ") }));
    let model = match &found.model {
        Ok(model) => model,
        Err(why) => {
            rows.push(("not run", why.clone()));
            return facts(&rows) + &files_text(found);
        }
    };
    let info = &model.info;
    rows.push(("architecture", info.architecture.clone()));
    rows.push(("runtime", info.runtime.clone()));
    rows.push(("parameters", info.parameters.to_string()));
    rows.push(("does", task_text(info.task)));
    let memory = model.memory_bytes.map_or_else(|| "not told by this system".to_owned(), bytes);
    rows.push(("memory", format!("{memory} until it was ready, after {} ms", model.load_ms)));
    let mut text = facts(&rows);
    let mut table = Table::new(&["", "name", "type", "shape"]);
    for (way, specs) in [("in", &info.inputs), ("out", &info.outputs)] {
        for spec in specs {
            table.row([way.to_owned(), spec.name.clone(), format!("{:?}", spec.dtype), spec.shape_text()]);
        }
    }
    text += &format!("\n{}\nIt is likely for:\n", table.render(0));
    for Guess { domain, points, reasons } in guess(info) {
        text += &format!("  {domain} ({points}): {}\n", reasons.join("; "));
    }
    text + &files_text(found)
        + "\nNext: zero2ai publish PATH --name PUBLISHER/MODEL --samples FILE (see publish --help)"
}

fn files_text(found: &Inspection) -> String {
    if found.files.len() < 2 {
        return String::new();
    }
    let mut table = Table::new(&["file", ">size", "format"]);
    for (path, size, format) in found.files.iter().take(SHOWN) {
        table.row([path.clone(), bytes(*size), format_word(*format).to_owned()]);
    }
    let more = found.files.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("and {more} more: --json names all\n") } else { String::new() };
    format!("\n{}{more}", table.render(0))
}
