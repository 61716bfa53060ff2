//! `up`: runs a node in this process until it is told to stop.

use std::{io::Read as _, net::SocketAddr, path::Path};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use zero2ai_node::{Config, Node, http::TOKEN_FILE, node::Start};
use zero2ai_proto::pool::Invite;

use super::read_file;
use crate::{
    cli::UpArgs,
    exit::{Exit, Failure, Outcome},
    output::{Output, facts},
    signals::Signals,
};

/// Bytes of an invite's file: an invite is under 48 kB of text.
const INVITE_BYTES: u64 = 64 * 1024;

/// The invite, if one was given.
fn invite(args: &UpArgs) -> Outcome<Option<Invite>> {
    let line = match (&args.join, &args.join_file) {
        (Some(line), _) => line.clone(),
        (None, Some(file)) => {
            String::from_utf8_lossy(&read_file("read the invite in", file, INVITE_BYTES)?).into_owned()
        }
        (None, None) => return Ok(None),
    };
    line.parse().map(Some).map_err(|e| {
        Failure::new(
            Exit::Invite,
            format!("The invite cannot be used: {e}. Ask the pool's administrator for another (zero2ai pool invite)."),
        )
    })
}

/// The command.
pub(crate) async fn up(home: &Path, args: &UpArgs, out: Output) -> Outcome {
    let invite = invite(args)?;
    let mut config = Config::read(&home.join("config.toml"))?;
    config.listen_rpc = args.listen.unwrap_or(config.listen_rpc);
    // A node that others reach at an address is reached there on both roads; the swarm's port is its own.
    let beside = args.listen.map(|rpc| SocketAddr::new(rpc.ip(), config.listen_swarm.port()));
    config.listen_swarm = args.swarm_listen.or(beside).unwrap_or(config.listen_swarm);
    config.listen_http = args.http.or(config.listen_http);
    if args.full_history {
        config.snapshot_blocks = 0;
    }
    let worker = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Internal, format!("This program cannot find its own file: {e}.")))?;

    let mut signals = Signals::catch()?;
    let stop = CancellationToken::new();
    if args.until_stdin_closes {
        stop_with_stdin(stop.clone());
    }
    let start =
        Node::start(Start { home: home.to_owned(), config, join: invite, worker_program: worker, stop: stop.clone() });
    let node = tokio::select! {
        node = start => node?,
        which = signals.next() => {
            return Err(Failure::new(Exit::Interrupted, format!("Stopped by {which} while the node was starting.")));
        }
    };
    greet(&node, home, out);
    let mut ended = std::pin::pin!(node.wait());
    tokio::select! {
        done = &mut ended => return Ok(done?),
        which = signals.next() => {
            tracing::info!("{which}: stopping in order; once more ends the process at once");
            stop.cancel();
        }
    }
    tokio::select! {
        done = &mut ended => Ok(done?),
        which = signals.next() => Err(Failure::new(Exit::Interrupted, format!("Ended at once by a second {which}."))),
    }
}

/// Cancels when standard input ends. The thread blocks in a read, so it is nobody's task: it goes with the process.
fn stop_with_stdin(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut nothing = [0u8; 64];
        while std::io::stdin().read(&mut nothing).is_ok_and(|n| n > 0) {}
        stop.cancel();
    });
}

/// Says who this node is, and how to go on.
fn greet(node: &Node, home: &Path, out: Output) {
    let (id, pool, rpc) = (node.id(), node.pool(), node.rpc_addr());
    let http = node.http_addr().map(|at| (format!("http://{at}"), home.join(TOKEN_FILE).display().to_string()));
    let mut json = json!({ "node": id.to_string(), "pool": pool.to_string(), "rpc": rpc.to_string(), "home": home.display().to_string() });
    if let Some((url, token)) = &http {
        json["http"] = json!({ "url": url, "token_file": token });
    }
    out.result(&json, || {
        let mut lines = vec![
            ("node", id.to_string()),
            ("pool", pool.to_string()),
            ("peer RPC", format!("{rpc} (UDP)")),
            ("home", home.display().to_string()),
        ];
        if let Some((url, token)) = http {
            lines.push(("HTTP", format!("{url}/v1 (OpenAI), {url}/v2 (Open Inference Protocol)")));
            lines.push(("token", token));
        }
        let text = facts(&lines);
        format!(
            "{text}\nNext: zero2ai pool invite --home {} prints the line with which another machine joins.",
            home.display()
        )
    });
}
