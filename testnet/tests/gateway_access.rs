//! Who may ask the HTTP gateway from where, and how much: budgets that hold over a crash, TLS beyond loopback, and callers
//! that do not read what they asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};
use zero2ai_testnet::{Daemon, daemon::run, fixture};

/// Patience for what takes the gateway's own time, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
const INFER: &str = "/v2/models/acme/digits/infer";

/// What `up --json` said last on this home.
fn said(home: &Path) -> Value {
    let log = fs::read_to_string(home.with_extension("log")).unwrap();
    let line = log.lines().rev().find(|line| line.contains("\"token_file\"")).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["http"].clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{value}"))
}

fn first_token(home: &Path) -> String {
    fs::read_to_string(home.join("http.token")).unwrap()
}

fn publish_digits(node: &Daemon) {
    let digits = fixture("digits/digits.onnx");
    node.json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "0"]).unwrap();
}

fn rows(n: usize) -> String {
    let tensor = json!({ "name": "", "datatype": "FP32", "shape": [n, 64], "data": vec![0; n * 64] });
    json!({ "inputs": [tensor] }).to_string()
}

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).build().into()
}

/// Status and body of a prediction of so many rows.
fn infer(url: &str, token: &str, n: usize) -> (u16, Value) {
    let asked = agent().post(format!("{url}{INFER}")).header("authorization", format!("Bearer {token}"));
    let mut answer = asked.header("content-type", "application/json").send(rows(n)).unwrap();
    let body = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&body).unwrap())
}

/// Asks until the answer is `want`: a node that was started again loads its models before it serves them. Meanwhile it may
/// say that, but must not say `never`.
#[track_caller]
fn infer_until(url: &str, token: &str, n: usize, (want, never): (u16, u16)) {
    let start = Instant::now();
    loop {
        let (status, body) = infer(url, token, n);
        assert_ne!(status, never, "{body}");
        if status == want {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{status}: {body}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What `token list` says of this token.
fn listed(node: &Daemon, id: &str) -> Value {
    let all = node.json(&["token", "list"]).unwrap();
    all.as_array().unwrap().iter().find(|token| token["id"] == id).cloned().unwrap()
}

#[test]
fn a_budget_holds_over_calls_restarts_and_a_crash() {
    const UP: [&str; 3] = ["--http", "127.0.0.1:0", "--json"];
    let dir = tempfile::tempdir().unwrap();
    let mut node = Daemon::up(&dir.path().join("n"), &UP).unwrap();
    publish_digits(&node);
    let made = node.json(&["token", "new", "trial", "--scopes", "infer", "--budget", "10"]).unwrap();
    let (token, id) = (text(&made, "token").to_owned(), text(&made, "id").to_owned());
    let url = |node: &Daemon| text(&said(node.home()), "url").to_owned();
    assert_eq!(listed(&node, &id)["used"], 0);
    assert_eq!(infer(&url(&node), &token, 6).0, 200);

    // More than is left: refused whole, in the protocol's shape, and nothing of it is counted.
    let (status, body) = infer(&url(&node), &token, 5);
    let why = text(&body, "error");
    assert_eq!(status, 402, "{why}");
    assert!(why.contains("6 of 10 units") && why.contains(&format!("token budget {id}")), "{why}");
    // What fails costs nothing.
    let wrong = agent().post(format!("{}/v2/models/acme/nothing/infer", url(&node)));
    let wrong = wrong.header("authorization", format!("Bearer {token}")).header("content-type", "application/json");
    assert_eq!(wrong.send(rows(4)).unwrap().status().as_u16(), 404);

    // Killed at once: what was used is known all the same.
    node.kill();
    assert_eq!(listed(&node, &id)["used"], 6);
    node.start(&UP).unwrap();
    infer_until(&url(&node), &token, 5, (402, 200));
    infer_until(&url(&node), &token, 4, (200, 402));
    assert_eq!(infer(&url(&node), &token, 1).0, 402);
    // The first token has no budget, and is counted too.
    assert_eq!(infer(&url(&node), &first_token(node.home()), 20).0, 200);
    assert_eq!(node.terminate().unwrap(), 0);
    let now = listed(&node, &id);
    assert_eq!((&now["used"], &now["budget"], &now["calls"]), (&json!(10), &json!(10), &json!(2)), "{now}");
    assert!(now["last_ms"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(listed(&node, "first")["used"], 20);

    // Raised while the node is down, as while it runs.
    node.json(&["token", "budget", &id, "12"]).unwrap();
    node.start(&UP).unwrap();
    infer_until(&url(&node), &token, 2, (200, 402));
    node.json(&["token", "budget", &id, "none"]).unwrap();
    assert_eq!(infer(&url(&node), &token, 3).0, 200);
    assert_eq!(node.run(&["token", "budget", "00000000", "5"]).unwrap().code, 5);
    assert_eq!(node.run(&["token", "new", "x", "--budget", "-1"]).unwrap().code, 2);

    // By the node's receipts its own account had all of it.
    let accounts = node.json(&["account", "list"]).unwrap();
    let own = &accounts.as_array().unwrap()[0];
    assert_eq!((&own["units"], &own["receipts"]), (&json!(6 + 4 + 20 + 2 + 3), &json!(5)), "{accounts}");
    // An account of its own, without a node; made again it is the same.
    let invite = node.run(&["pool", "invite"]).unwrap().stdout;
    fs::write(dir.path().join("invite"), invite).unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let new = || node.json(&["account", "new", &at("me.account"), "--join-file", &at("invite")]).unwrap();
    let me = new();
    assert_eq!(new(), me);
    let accounts = node.json(&["account", "list"]).unwrap();
    let mine = accounts.as_array().unwrap().iter().find(|row| row["account"] == me["account"]).unwrap();
    assert_eq!((&mine["receipts"], &mine["last_ms"]), (&json!(0), &json!(null)), "{accounts}");
    assert_eq!(node.json(&["account", "token", "list"]).unwrap(), node.json(&["token", "list"]).unwrap());

    drop(node);
    let home = dir.path().join("n");
    fs::write(home.join("http.usage"), b"no figures").unwrap();
    let ran = run(&home, &["up", "--http", "127.0.0.1:0"]).unwrap();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("http.usage"), "{ran:?}");
}

#[test]
fn beyond_loopback_there_is_tls_and_its_certificate_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("n");
    let up = ["--json", "--http", "0.0.0.0:0", "--http-tls", "self-signed"];
    let mut node = Daemon::up(&home, &up).unwrap();
    let (http, token) = (said(&home), first_token(&home));
    let port = text(&http, "url").strip_prefix("https://0.0.0.0:").unwrap().to_owned();
    let fingerprint = text(&http, "certificate_sha256").to_owned();
    assert_eq!(fingerprint.len(), 64);
    let trusting = |file: &Path| -> Agent {
        let root = Certificate::from_pem(&fs::read(file).unwrap()).unwrap();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
        Agent::config_builder().http_status_as_error(false).tls_config(tls).build().into()
    };
    let certificate = Path::new(text(&http, "certificate_file")).to_owned();
    let get = |agent: &Agent, origin: &str, token: &str| {
        let asked = agent.get(format!("https://localhost:{port}/v2/health/live"));
        let asked = asked.header("authorization", format!("Bearer {token}"));
        let asked = if origin.is_empty() { asked } else { asked.header("origin", origin) };
        asked.call().map(|answer| answer.status().as_u16())
    };
    let known = trusting(&certificate);
    assert_eq!(get(&known, "", &token).unwrap(), 200);
    assert_eq!(get(&known, "", &"0".repeat(64)).unwrap(), 401);
    assert_eq!(get(&known, "https://evil.example", &token).unwrap(), 403);
    // Who trusts another certificate, or only the world's, sends nothing.
    let other = dir.path().join("m");
    let stranger = Daemon::up(&other, &["--json", "--http", "127.0.0.1:0", "--http-tls", "self-signed"]).unwrap();
    assert!(get(&trusting(&other.join("http.cert.pem")), "", &token).is_err());
    assert!(get(&agent(), "", &token).is_err());
    drop(stranger);
    // In the clear nothing is answered there.
    let clear = agent().get(format!("http://localhost:{port}/v2/health/live")).call();
    assert!(clear.is_err(), "{clear:?}");
    assert_eq!(get(&known, "", &token).unwrap(), 200, "and the node goes on");

    // Kept over a restart; and the same files do when they are given.
    node.terminate().unwrap();
    node.start(&up).unwrap();
    assert_eq!(text(&said(&home), "certificate_sha256"), fingerprint);
    node.terminate().unwrap();
    let key = home.join("http.key.pem");
    let (file, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    node.start(&["--json", "--http", "0.0.0.0:0", "--http-tls-cert", file, "--http-tls-key", key]).unwrap();
    assert_eq!(text(&said(&home), "certificate_sha256"), fingerprint);
    drop(node);
    for (words, code) in [
        (&["--http-tls-cert", file][..], 2),
        (&["--http-tls-cert", key, "--http-tls-key", key][..], 3),
        (&["--http-tls-cert", file, "--http-tls-key", "nowhere.pem"][..], 3),
    ] {
        let ran = run(&home, &[&["up", "--http", "127.0.0.1:0"], words].concat()).unwrap();
        assert_eq!(ran.code, code, "{ran:?}");
    }
}

/// Kilobytes of memory that a process has in use.
fn resident(home: &Path) -> u64 {
    let status = run(home, &["status", "--json"]).unwrap();
    assert_eq!(status.code, 0, "{status:?}");
    let at = fs::read_to_string(home.join("node.addr")).unwrap();
    let digits = |word: &str| word.chars().filter(char::is_ascii_digit).collect::<String>();
    let pid = at.lines().find(|line| line.starts_with("pid")).map(digits).unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    digits(line).parse().unwrap()
}

#[test]
fn numbers_that_are_none_are_refused_in_each_protocols_shape() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::up(&dir.path().join("n"), &["--http", "127.0.0.1:0", "--json"]).unwrap();
    publish_digits(&node);
    let (url, token) = (text(&said(node.home()), "url").to_owned(), first_token(node.home()));
    let ask = |path: &str, headers: &[(&str, &str)], body: &[u8]| -> (u16, Value) {
        let mut asked = agent().post(format!("{url}{path}")).header("authorization", format!("Bearer {token}"));
        asked = asked.header("content-type", "application/json");
        for (name, value) in headers {
            asked = asked.header(*name, *value);
        }
        let mut answer = asked.send(body).unwrap();
        let body = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&body).unwrap())
    };
    let zeros = json!(vec![0; 64]).to_string();
    let tensor = |shape: &str, data: &str| {
        format!("{{\"inputs\":[{{\"name\":\"\",\"datatype\":\"FP32\",\"shape\":{shape},\"data\":{data}}}]}}")
    };
    for (shape, data) in [
        ("[-1,64]", zeros.as_str()),
        ("[1,-64]", &zeros),
        ("[1000000000,64]", &zeros),
        ("[18446744073709551615,64]", &zeros),
        ("[4294967296,4294967296]", &zeros),
        ("[1e99,64]", &zeros),
        ("[1,1]", "[NaN]"),
        ("[1,1]", "[Infinity]"),
        ("[1,1]", "[1e999]"),
        ("[1,1]", "[null]"),
        ("[1,1]", "[\"1\"]"),
    ] {
        let (status, body) = ask(INFER, &[], tensor(shape, data).as_bytes());
        assert!(status == 400 && body["error"].is_string(), "{shape}: {status} {body}");
    }
    let raw = |size: &str, bytes: usize| {
        let size = format!("\"parameters\":{{\"binary_data_size\":{size}}}");
        let head = format!("{{\"inputs\":[{{\"name\":\"\",\"datatype\":\"FP32\",\"shape\":[1,64],{size}}}]}}");
        (head.len().to_string(), [head.into_bytes(), f32::NAN.to_le_bytes().repeat(bytes / 4)].concat())
    };
    let length = "inference-header-content-length";
    for size in ["-256", "1e3", "18446744073709551615", "255", "260", "null", "\"256\""] {
        let (head, body) = raw(size, 256);
        let (status, body) = ask(INFER, &[(length, &head)], &body);
        assert!(status == 400 && body["error"].is_string(), "{size}: {status} {body}");
    }
    for head in ["-1", "99999999999999999999", "x"] {
        assert_eq!(ask(INFER, &[(length, head)], tensor("[1,64]", &zeros).as_bytes()).0, 400, "{head}");
    }
    // Whole bytes that are no numbers are the model's own business; what it makes of them may not fit into JSON.
    let (head, body) = raw("256", 256);
    let (status, body) = ask(INFER, &[(length, &head)], &body);
    assert!(status == 200 || (status == 400 && text(&body, "error").contains("NaN")), "{status} {body}");

    let chat = |field: &str, value: &str| {
        let body = format!(
            "{{\"model\":\"acme/digits\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],{field}:{value}}}"
        );
        ask("/v1/chat/completions", &[], body.as_bytes())
    };
    for (field, value) in [
        ("\"n\"", "-1"),
        ("\"n\"", "1000000"),
        ("\"max_tokens\"", "-5"),
        ("\"max_tokens\"", "1000000000"),
        ("\"max_tokens\"", "1e400"),
        ("\"top_logprobs\"", "-1"),
        ("\"seed\"", "1.5"),
        ("\"unheard_of\"", "1"),
    ] {
        let (status, body) = chat(field, value);
        let kind = &body["error"]["type"];
        assert!(status == 400 && kind == "invalid_request_error", "{field} {value}: {status} {body}");
    }
    assert_eq!(infer(&url, &token, 1).0, 200, "and the node goes on");
}

#[test]
fn callers_that_do_not_read_or_do_not_end_are_cut_and_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::up(&dir.path().join("n"), &["--http", "127.0.0.1:0", "--json"]).unwrap();
    publish_digits(&node);
    let (url, token) = (text(&said(node.home()), "url").to_owned(), first_token(node.home()));
    assert_eq!(infer(&url, &token, 1).0, 200);
    let before = resident(node.home());

    // One request behind the other, each with an answer of a megabyte or more, of which nothing is read.
    let body = rows(8_000);
    let request = format!(
        "POST {INFER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let address = url.strip_prefix("http://").unwrap();
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let (mut stream, request) = (TcpStream::connect(address).unwrap(), request.clone());
            std::thread::spawn(move || {
                stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                let start = Instant::now();
                let mut rest = &b""[..];
                // Until the gateway cuts it: a write into nothing fails with a reset.
                while start.elapsed() < PATIENCE {
                    rest = if rest.is_empty() { request.as_bytes() } else { rest };
                    match stream.write(rest) {
                        Ok(n) => rest = &rest[n..],
                        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        Err(_) => return true,
                    }
                }
                false
            })
        })
        .collect();
    // And one who never sends the rest of its request.
    let half = format!(
        "POST {INFER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{\"inputs\":"
    );
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(half.as_bytes()).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut most = 0;
    while stuck.iter().any(|thread| !thread.is_finished()) {
        // Others are answered meanwhile.
        let live = agent().get(format!("{url}/v2/health/live")).header("authorization", format!("Bearer {token}"));
        assert_eq!(live.call().unwrap().status().as_u16(), 200);
        most = most.max(resident(node.home()));
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(stuck.into_iter().all(|thread| thread.join().unwrap()), "a caller that does not read was kept");
    let mut told = [0; 12];
    slow.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 408");
    let grown = most.saturating_sub(before) / 1024;
    assert!(grown < 384, "{grown} MiB more in use");
    infer_until(&url, &token, 1, (200, 0));
}
