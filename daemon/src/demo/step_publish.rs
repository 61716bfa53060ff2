//! Step 2: a model is cut, sealed, stored, replicated and published; what lies on disk is ciphertext.

use std::path::Path;

use zero2ai_proto::{manifest::Domain, tx::Thresholds};

use super::{Demo, fixtures, report};
use crate::{
    commands::publish::publish_file,
    exit::{Exit, Failure, Outcome, file_error},
    output::plural,
};

/// Copies asked for beside the publisher's own.
const REPLICAS: u32 = 2;

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("2. Node 1 publishes a model: a scikit-learn classifier of handwritten digits, in ONNX");
    let file = demo.cluster.file("digits.onnx", fixtures::MODEL)?;
    let session = demo.session(0)?;
    let mut progress = demo.progress("publishing");
    let done =
        publish_file(session, &file, &demo.model, Domain::Pool, REPLICAS, Thresholds::default(), &mut progress).await?;
    drop(progress);
    let others = done.holders.iter().filter(|node| **node != session.node).count();
    if others < REPLICAS as usize {
        let why = format!("{} hold the model, {REPLICAS} were asked for.", plural(others as u64, "other node"));
        return Err(Failure::new(Exit::Internal, why));
    }
    demo.say(&format!(
        "   {}@{}: {} bytes in {}, on {} nodes beside the publisher's, in block {}",
        done.name,
        done.version,
        done.bytes,
        plural(u64::from(done.chunks), "sealed chunk"),
        others,
        done.height
    ));

    let canary = fixtures::canary(fixtures::MODEL)
        .ok_or_else(|| Failure::new(Exit::Internal, "the embedded model has no telling bytes"))?;
    let mut searched = 0;
    for node in &demo.cluster.nodes {
        search(&node.home, canary, &mut searched)?;
    }
    demo.say(&format!("   no file of any home ({searched} searched) holds a piece of it in the clear"));
    demo.report.publish =
        Some(report::Publish { bytes: done.bytes, chunks: done.chunks, replicas: others, files_searched: searched });
    Ok(())
}

/// Fails if a file under `folder` holds `canary`. Files that vanish meanwhile (temporary ones) are passed over.
pub(crate) fn search(folder: &Path, canary: &[u8], searched: &mut u64) -> Outcome {
    let entries = std::fs::read_dir(folder).map_err(|e| file_error("list", folder, &e))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            search(&path, canary, searched)?;
        } else if kind.is_file() {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            *searched += 1;
            if contains(&bytes, canary) {
                let why = format!("{} holds a piece of the model in the clear.", path.display());
                return Err(Failure::new(Exit::Unverified, why));
            }
        }
    }
    Ok(())
}

/// True if `needle` (not empty) stands in `bytes`.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return false };
    bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| *b == first)
        .any(|(i, _)| bytes.get(i..).is_some_and(|b| b.starts_with(needle)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_canary_in_the_clear_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let canary = fixtures::canary(fixtures::MODEL).unwrap();
        std::fs::write(deep.join("other"), vec![canary[0]; 5000]).unwrap();
        let mut searched = 0;
        search(folder.path(), canary, &mut searched).unwrap();
        assert_eq!(searched, 1);
        std::fs::write(deep.join("leak"), [b"xx", canary, b"yy"].concat()).unwrap();
        assert_eq!(search(folder.path(), canary, &mut searched).unwrap_err().exit, Exit::Unverified);
    }
}
