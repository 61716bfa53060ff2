//! `up`: runs a node in this process until it is told to stop.

use std::{io::Read as _, net::SocketAddr, path::Path};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use zero2ai_node::{
    Config, Node,
    config::TlsSettings,
    http::{CERT_FILE, HttpAt, TOKEN_FILE},
    node::Start,
};
use zero2ai_proto::pool::Invite;

use super::read_file;
use crate::{
    cli::{HttpTlsArgs, UpArgs},
    exit::{Exit, Failure, Outcome},
    output::{Output, facts},
    signals::Signals,
};

/// Bytes of an invite's file: an invite is under 48 kB of text.
const INVITE_BYTES: u64 = 64 * 1024;

/// The invite, if one was given: itself, or a file.
pub(crate) fn invite(join: Option<&str>, join_file: Option<&Path>) -> Outcome<Option<Invite>> {
    let line = match (join, join_file) {
        (Some(line), _) => line.to_owned(),
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
    let invite = invite(args.join.as_deref(), args.join_file.as_deref())?;
    let mut config = Config::read(&home.join("config.toml"))?;
    config.listen_rpc = args.listen.unwrap_or(config.listen_rpc);
    // A node that others reach at an address is reached there on both roads; the swarm's port is its own.
    let beside = args.listen.map(|rpc| SocketAddr::new(rpc.ip(), config.listen_swarm.port()));
    config.listen_swarm = args.swarm_listen.or(beside).unwrap_or(config.listen_swarm);
    config.offer.region = args.region.clone().or(config.offer.region);
    config.listen_http = args.http.or(config.listen_http);
    if args.full_history {
        config.snapshot_blocks = 0;
    }
    config.worker.model_memory_mb = args.model_memory.unwrap_or(config.worker.model_memory_mb);
    config.http_tls = tls(&args.tls).or(config.http_tls);
    let own_certificate = config.http_tls.as_ref().is_some_and(|tls| tls.certificate.is_none());
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
    greet(&node, home, own_certificate, out);
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

/// What the flags say of TLS; a relative path is the shell's.
fn tls(args: &HttpTlsArgs) -> Option<TlsSettings> {
    let given = args.http_tls.is_some() || args.http_tls_cert.is_some();
    given.then(|| TlsSettings {
        certificate: args.http_tls_cert.clone(),
        key: args.http_tls_key.clone(),
        names: args.http_tls_name.clone(),
    })
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
fn greet(node: &Node, home: &Path, own_certificate: bool, out: Output) {
    let (id, pool, rpc) = (node.id(), node.pool(), node.rpc_addr());
    let http = node.http().map(|HttpAt { address, fingerprint }| {
        let scheme = if fingerprint.is_some() { "https" } else { "http" };
        let own = own_certificate.then(|| home.join(CERT_FILE).display().to_string());
        (format!("{scheme}://{address}"), home.join(TOKEN_FILE).display().to_string(), fingerprint.clone(), own)
    });
    let mut json = json!({ "node": id.to_string(), "pool": pool.to_string(), "rpc": rpc.to_string(), "home": home.display().to_string() });
    if let Some((url, token, fingerprint, own)) = &http {
        json["http"] =
            json!({ "url": url, "token_file": token, "certificate_sha256": fingerprint, "certificate_file": own });
    }
    out.result(&json, || {
        let mut lines = vec![
            ("node", id.to_string()),
            ("pool", pool.to_string()),
            ("peer RPC", format!("{rpc} (UDP)")),
            ("home", home.display().to_string()),
        ];
        if let Some((url, token, fingerprint, own)) = http {
            lines.push(("HTTP", format!("{url}/v1 (OpenAI), {url}/v2 (Open Inference Protocol)")));
            lines.push(("token", token));
            lines.extend(fingerprint.map(|print| ("TLS SHA-256", print)));
            lines.extend(own.map(|file| ("certificate", format!("{file} (give it to callers to trust)"))));
        }
        let text = facts(&lines);
        format!(
            "{text}\nNext: zero2ai pool invite --home {} prints the line with which another machine joins.",
            home.display()
        )
    });
}
