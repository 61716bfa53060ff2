//! `hardware`: what this machine offers to run models on. Needs no node.

use serde_json::json;

use crate::{
    exit::Outcome,
    output::{Output, bytes, facts},
};

/// The command.
pub(crate) fn hardware(out: Output) -> Outcome {
    let found = zero2ai_engine::hardware();
    let gpus: Vec<String> = found.gpus.iter().map(|gpu| gpu.name.clone()).collect();
    let json = json!({
        "arch": found.arch, "cpu_features": found.cpu_features, "cores": found.cores, "memory_bytes": found.memory_bytes,
        "available_bytes": found.available_bytes, "limit_bytes": found.limit_bytes, "gpus": gpus,
    });
    let limit = match found.limit_bytes {
        0 => String::new(),
        limit => format!("; this control group may use {}", bytes(limit)),
    };
    out.result(&json, || {
        let none = |list: String| if list.is_empty() { "none found".into() } else { list };
        facts(&[
            ("processor", format!("{}, {} cores", found.arch, found.cores)),
            ("extensions", none(found.cpu_features.join(" "))),
            ("memory", format!("{}, {} of it free{limit}", bytes(found.memory_bytes), bytes(found.available_bytes))),
            ("GPUs", none(gpus.join(", "))),
        ])
    });
    Ok(())
}
