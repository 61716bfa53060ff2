//! More models than memory for them: calls load what they need, idle models go for it, pinned ones stay, and a model that
//! cannot be loaded leaves the others serving.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use zero2ai_testnet::{Daemon, Network, faults::model, fixture};

const NAMES: [&str; 4] = ["lab/a", "lab/b", "lab/c", "lab/d"];
/// "The model cannot be loaded or run".
const MODEL: i32 = 15;
/// "Not now, but later or elsewhere".
const BUSY: i32 = 16;

fn soon<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Publishes the digits classifier under a name, made different by its number so that nothing is shared.
fn publish(node: &Daemon, folder: &Path, n: u64, name: &str, bytes: usize) {
    let file = model::write(folder, n, bytes).unwrap();
    let published = node.json(&["publish", file.to_str().unwrap(), "--name", name, "--replicas", "0"]).unwrap();
    assert!(published["not_served"].is_null(), "{published}");
}

/// What is in memory, once that is within its budget: a model that grows in its first call is noticed at the keeper's next look.
fn models(node: &Daemon) -> Value {
    soon("models within their budget", || {
        let reply = node.json(&["models", "ls"]).unwrap();
        (reply["taken"].as_u64() <= reply["budget"].as_u64()).then_some(reply)
    })
}

fn row(reply: &Value, name: &str) -> Value {
    reply["models"].as_array().unwrap().iter().find(|m| m["name"] == name).unwrap().clone()
}

fn chunk_files(node: &Daemon) -> Vec<PathBuf> {
    let folders = fs::read_dir(node.home().join("store/chunks")).unwrap();
    folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap()).map(|f| f.unwrap().path()).collect()
}

fn state(node: &Daemon, name: &str) -> String {
    row(&models(node), name)["state"].as_str().unwrap().to_owned()
}

/// How many of the labelled rows a model gets right.
fn right(node: &Daemon, name: &str, rows: &str) -> u64 {
    let answer = node.json(&["predict", name, "--labelled", rows]).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    answer["correct"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn some_rows(folder: &Path) -> String {
    let path = folder.join("rows.csv");
    let all = fs::read_to_string(fixture("digits/predict.csv")).unwrap();
    fs::write(&path, all.lines().take(9).collect::<Vec<_>>().join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A node that serves all [`NAMES`], started again with memory for two of them and a half, and how many rows are right.
fn tight() -> (Network, String, u64) {
    let mut network = Network::start(1).unwrap();
    let rows = some_rows(network.path());
    for (n, name) in (0..).zip(NAMES) {
        publish(&network.nodes[0], network.path(), n, name, 1_000);
    }
    let node = &network.nodes[0];
    let all_right = right(node, NAMES[0], &rows);
    assert!(all_right >= 7);
    for name in NAMES {
        assert_eq!(right(node, name, &rows), all_right);
    }
    // What calls take beside the model is in it.
    let reply = soon("each worker measured after its call", || {
        let reply = models(node);
        let measured = NAMES.iter().all(|name| row(&reply, name)["bytes"].as_u64() > Some(0));
        measured.then_some(reply)
    });
    let most = NAMES.iter().map(|name| row(&reply, name)["bytes"].as_u64().unwrap()).max().unwrap();
    let budget = format!("{}MiB", (most * 5 / 2).div_ceil(1 << 20));
    network.nodes[0].terminate().unwrap();
    network.nodes[0].start(&["--model-memory", &budget]).unwrap();
    (network, rows, all_right)
}

#[test]
fn calls_rotate_over_more_models_than_memory_holds_and_none_fails() {
    let (mut network, rows, all_right) = tight();
    let node = &network.nodes[0];
    node.json(&["models", "pin", "lab/a@1"]).unwrap();
    let refused = node.run(&["models", "unload", "lab/a@1"]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("unpin"), "{refused:?}");
    // A worker takes less before its first calls than after them, so the first round may find room for all.
    let reply = soon("models evicted for others", || {
        for name in NAMES {
            assert_eq!(right(node, name, &rows), all_right, "{name}");
            assert_eq!(state(node, "lab/a"), "resident", "pinned");
        }
        let reply = models(node);
        let resident = NAMES.iter().filter(|name| row(&reply, name)["state"] == "resident").count();
        (reply["evictions"].as_u64() >= Some(3) && resident < NAMES.len()).then_some(reply)
    });
    // What is evicted is announced and held all the same.
    let status = node.json(&["status"]).unwrap();
    assert!(status["models"].as_array().unwrap().iter().all(|m| m["serving"] == true), "{status}");

    // Everybody at once, while others are evicted: nobody's call is cut off, nobody hears more than to wait.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers = NAMES.map(|name| {
            let rows = &rows;
            scope.spawn(move || (0..3).for_each(|_| assert_eq!(right(node, name, rows), all_right, "{name}")))
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(row(&models(node), "lab/a")["state"], "resident");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let text = node.run(&["models", "ls"]).unwrap();
    assert!(text.code == 0 && text.stdout.contains("resident"), "{text:?}");

    // By hand: out, and in again with the next call. Nothing comes back by itself.
    node.json(&["models", "pin", "lab/b@1"]).unwrap();
    node.json(&["models", "unpin", "lab/b@1"]).unwrap();
    node.json(&["models", "unload", "lab/b@1"]).unwrap();
    assert_eq!(state(node, "lab/b"), "evicted");
    let loads = models(node)["loads"].as_u64();
    assert_eq!(right(node, "lab/b", &rows), all_right);
    assert!(models(node)["loads"].as_u64() > loads);

    // A pin holds over a restart, and comes first: it was not the last one used.
    network.nodes[0].terminate().unwrap();
    let budget = format!("{}MiB", reply["budget"].as_u64().unwrap() >> 20);
    network.nodes[0].start(&["--model-memory", &budget]).unwrap();
    let node = &network.nodes[0];
    soon("the pinned model is loaded", || (state(node, "lab/a") == "resident").then_some(()));
    soon("none waits to be looked at", || NAMES.iter().all(|name| state(node, name) != "waiting").then_some(()));
    assert!(row(&models(node), "lab/a")["pinned"] == true);
    assert_eq!(right(node, "lab/d", &rows), all_right);
}

#[test]
fn what_cannot_be_loaded_says_why_and_leaves_the_others_serving() {
    let (mut network, rows, all_right) = tight();
    let budget = models(&network.nodes[0])["budget"].as_u64().unwrap();
    // A file that is larger than all memory for models is refused before anything of it is stored.
    let node = &network.nodes[0];
    let large = model::write(network.path(), 9, usize::try_from(budget).unwrap() + 1).unwrap();
    let ran = node.run(&["publish", large.to_str().unwrap(), "--name", "lab/large", "--replicas", "0"]).unwrap();
    assert!(ran.code == MODEL && ran.stderr.contains("--model-memory"), "{ran:?}");

    // Everything pinned: what is left hears so, and why.
    node.json(&["models", "pin", "lab/a@1"]).unwrap();
    node.json(&["models", "pin", "lab/b@1"]).unwrap();
    let ran = soon("no room beside what is pinned", || {
        // They take more once they were called.
        assert_eq!([right(node, "lab/a", &rows), right(node, "lab/b", &rows)], [all_right; 2]);
        let ran = node.run(&["models", "pin", "lab/c@1"]).unwrap();
        if ran.code == 0 {
            assert_eq!(right(node, "lab/c", &rows), all_right);
            node.json(&["models", "unpin", "lab/c@1"]).unwrap();
            node.json(&["models", "unload", "lab/c@1"]).unwrap();
            return None;
        }
        Some(ran)
    });
    assert!(ran.code == BUSY && ran.stderr.contains("are pinned"), "{ran:?}");
    assert!(row(&models(node), "lab/c")["pinned"] == false, "what is not in memory is not pinned there");
    node.json(&["models", "unpin", "lab/b@1"]).unwrap();
    assert_eq!(right(node, "lab/c", &rows), all_right);

    // A model whose chunks are damaged cannot be loaded: it says so, and the others serve.
    let before = chunk_files(node);
    publish(node, network.path(), 8, "lab/e", 1_000);
    let own = chunk_files(node).into_iter().filter(|chunk| !before.contains(chunk)).collect::<Vec<_>>();
    assert!(!own.is_empty());
    network.nodes[0].terminate().unwrap();
    for chunk in own {
        let mut bytes = fs::read(&chunk).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(chunk, bytes).unwrap();
    }
    network.nodes[0].start(&["--model-memory", &format!("{}MiB", budget >> 20)]).unwrap();
    let node = &network.nodes[0];
    let why = soon("a failed load with its reason", || {
        assert!(node.run(&["predict", "lab/e", &rows, "--timeout", "2s"]).unwrap().code != 0);
        row(&models(node), "lab/e")["why"].as_str().map(str::to_owned)
    });
    assert!(!why.is_empty());
    for name in NAMES {
        assert_eq!(right(node, name, &rows), all_right, "{name}");
    }
    let reply = models(node);
    assert!(reply["failures"].as_u64() > Some(0) && row(&reply, "lab/a")["state"] == "resident", "{reply}");
}
