//! The HTTP gateway of a real node: who is let in, what the Open Inference Protocol answers, and how each protocol says
//! what went wrong. The text routes are tested with the real clients in `testnet/clients`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use ureq::{Agent, http::Response};
use zero2ai_testnet::{Daemon, Network, daemon::run, fixture};

/// An HTTP answer: status, headers and whole body.
struct Answer {
    head: Response<()>,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// A node with a gateway. Node and folder go with it.
struct Gateway {
    node: Daemon,
    _dir: tempfile::TempDir,
    url: String,
    token: String,
    agent: Agent,
}

impl Gateway {
    /// On a node of its own, with the digits published as `acme/digits`.
    fn start() -> Self {
        let gateway = Self::up(&[]);
        publish_digits(&gateway.node);
        gateway
    }

    /// On a node that is started with these arguments too.
    fn up(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Port 0 is any free one; the node says which.
        let arguments = [&["--http", "127.0.0.1:0", "--json"], extra].concat();
        let node = Daemon::up(&dir.path().join("n"), &arguments).unwrap();
        let log = fs::read_to_string(dir.path().join("n.log")).unwrap();
        let said: Value = log.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
        let url = said["http"]["url"].as_str().unwrap().to_owned();
        let token = fs::read_to_string(said["http"]["token_file"].as_str().unwrap()).unwrap();
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { node, _dir: dir, url, token, agent }
    }

    /// A request with the token; `headers` replace what would be sent.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let bearer = format!("Bearer {}", self.token);
        let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        for (name, value) in [("authorization", bearer.as_str()), ("content-type", "application/json")] {
            if !given(name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body).unwrap()).unwrap();
        let body = response.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
        Answer { head: response.map(|_| ()), body }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }
}

fn publish_digits(node: &Daemon) {
    let digits = fixture("digits/digits.onnx");
    node.json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "0"]).unwrap();
}

/// One for all tests that run at the same time: nothing they do stands in each other's way. The last one stops it.
fn gateway() -> Arc<Gateway> {
    static ONE: Mutex<Weak<Gateway>> = Mutex::new(Weak::new());
    let mut one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gateway = one.upgrade().unwrap_or_else(|| Arc::new(Gateway::start()));
    *one = Arc::downgrade(&gateway);
    gateway
}

/// Features and class of the first `n` rows of a fixture.
fn rows(name: &str, n: usize) -> Vec<(Vec<f32>, usize)> {
    let text = fs::read_to_string(fixture(name)).unwrap();
    let row = |line: &str| {
        let mut cells: Vec<f32> = line.split(',').map(|c| c.parse().unwrap()).collect();
        let class = cells.pop().unwrap();
        (cells, format!("{class}").parse().unwrap())
    };
    text.lines().skip(1).take(n).map(row).collect()
}

fn golden() -> Vec<Vec<f64>> {
    let golden: Value = serde_json::from_slice(&fs::read(fixture("digits/golden.json")).unwrap()).unwrap();
    let first = golden["files"]["predict.csv"]["first_probabilities"].as_array().unwrap();
    first.iter().map(|row| row.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect()).collect()
}

#[track_caller]
fn equals_golden(got: &[f64]) {
    let want: Vec<f64> = golden().concat();
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} is not {want:?}");
}

/// OpenAI's shape.
#[track_caller]
fn openai_error(answer: &Answer, status: u16, kind: &str) -> String {
    let body = answer.json();
    assert_eq!((answer.status(), body["error"]["type"].as_str()), (status, Some(kind)), "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// The Open Inference Protocol's shape.
#[track_caller]
fn oip_error(answer: &Answer, status: u16) -> String {
    let body = answer.json();
    assert_eq!(answer.status(), status, "{body}");
    body["error"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

#[test]
fn nobody_gets_in_without_the_token() {
    let gateway = gateway();
    let file = gateway.node.home().join("http.token");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let wrong = format!("Bearer {}", "0".repeat(64));
    for auth in ["", wrong.as_str(), "Basic Zm9v"] {
        for path in ["/v1/models", "/v2/health/live", "/metrics", "/nowhere"] {
            let answer = gateway.ask("GET", path, &[("authorization", auth)], b"");
            assert_eq!((answer.status(), answer.header("www-authenticate")), (401, "Bearer"), "{path} with '{auth}'");
        }
    }
    openai_error(&gateway.ask("GET", "/v1/models", &[("authorization", "")], b""), 401, "authentication_error");
    oip_error(&gateway.ask("GET", "/v2/health/live", &[("authorization", "")], b""), 401);
}

#[test]
fn a_token_of_its_own_does_what_it_may_and_is_revoked_while_the_node_runs() {
    let gateway = gateway();
    let made = |words: &[&str]| {
        let said = gateway.node.json(&[&["token", "new"], words].concat()).unwrap();
        (format!("Bearer {}", said["token"].as_str().unwrap()), said["id"].as_str().unwrap().to_owned())
    };
    let get = |auth: &str, path: &str| gateway.ask("GET", path, &[("authorization", auth)], b"").status();
    let (metrics, _) = made(&["prometheus", "--scopes", "metrics"]);
    assert_eq!([get(&metrics, "/metrics"), get(&metrics, "/v1/models")], [200, 403]);
    let (slow, id) = made(&["trial", "--scopes", "models", "--per-minute", "2", "--ttl", "1h"]);
    let three = [(); 3].map(|()| get(&slow, "/v1/models"));
    assert_eq!(three, [200, 200, 429]);
    let (brief, _) = made(&["brief", "--ttl", "1s"]);
    let end = Instant::now() + Duration::from_secs(60);
    while get(&brief, "/v2/health/live") != 401 {
        assert!(Instant::now() < end, "it never expires");
        std::thread::sleep(Duration::from_millis(100));
    }
    let file = gateway.node.home().join("http.tokens");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = slow.trim_start_matches("Bearer ");
    assert!(!fs::read_to_string(&file).unwrap().contains(secret));
    let listed = gateway.node.json(&["token", "list"]).unwrap();
    assert!(listed.as_array().unwrap().iter().any(|token| token["id"] == id.as_str() && token["per_minute"] == 2));
    gateway.node.json(&["token", "revoke", &id]).unwrap();
    assert_eq!(get(&slow, "/v1/models"), 401);
    assert_eq!(gateway.node.run(&["token", "revoke", &id]).unwrap().code, 5);
    assert_eq!(gateway.get("/v1/models").status(), 200, "the first token is as it was");
}

#[test]
fn embeddings_are_given_by_embedders_alone() {
    let asked = gateway().post("/v1/embeddings", &json!({ "model": "acme/digits", "input": "text" }));
    assert!(openai_error(&asked, 400, "invalid_request_error").contains("does not embed"));
}

#[test]
fn a_page_in_the_users_browser_gets_nothing() {
    let gateway = gateway();
    let infer = "/v2/models/acme/digits/infer";
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let refused = gateway.ask("POST", infer, &[("origin", origin)], b"{}");
        oip_error(&refused, 403);
        assert_eq!(refused.header("connection"), "close", "its body may be on its way still");
        let preflight = gateway.ask("OPTIONS", "/v1/models", &[("origin", origin)], b"");
        assert_eq!((preflight.status(), preflight.header("access-control-allow-origin")), (403, ""), "{origin}");
    }
    oip_error(&gateway.ask("GET", "/v2", &[("host", "rebound.example")], b""), 403);
    // Kinds of body that a form can send.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        oip_error(&gateway.ask("POST", infer, &[("content-type", kind)], b"{}"), 415);
        let answer = gateway.ask("POST", "/v1/chat/completions", &[("content-type", kind)], b"{}");
        openai_error(&answer, 415, "invalid_request_error");
    }
}

#[test]
fn inference_equals_the_golden_figures_in_json_and_in_bytes() {
    let gateway = gateway();
    let features: Vec<Vec<f32>> = rows("digits/predict.csv", golden().len()).into_iter().map(|r| r.0).collect();
    let n = features.len();

    let metadata = gateway.get("/v2/models/acme%2Fdigits").json();
    assert_eq!((&metadata["name"], &metadata["versions"]), (&json!("acme/digits"), &json!(["1"])));
    let (input, output) = (&metadata["inputs"][0], &metadata["outputs"][0]);
    assert_eq!((&input["datatype"], &input["shape"]), (&json!("FP32"), &json!([-1, 64])));
    let (input, output) = (input["name"].as_str().unwrap(), output["name"].as_str().unwrap());
    assert_eq!(gateway.get("/v2/models/acme/digits/versions/1/ready").status(), 200);

    let body =
        json!({ "id": "42", "inputs": [{ "name": input, "datatype": "FP32", "shape": [n, 64], "data": features }] });
    for path in ["/v2/models/acme/digits/infer", "/v2/models/acme%2Fdigits/versions/1/infer"] {
        let answer = gateway.post(path, &body);
        let json = answer.json();
        assert_eq!((answer.status(), &json["id"], &json["model_version"]), (200, &json!("42"), &json!("1")), "{json}");
        assert_eq!(json["outputs"][0]["shape"], json!([n, 10]));
        let data = json["outputs"][0]["data"].as_array().unwrap();
        equals_golden(&data.iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>());
        assert_eq!((answer.header("zero2ai-receipt").len(), answer.header("zero2ai-node").is_empty()), (64, false));
    }

    let raw: Vec<u8> = features.concat().iter().flat_map(|v| v.to_le_bytes()).collect();
    let size = json!({ "binary_data_size": raw.len() });
    let head = json!({
        "inputs": [{ "name": input, "datatype": "FP32", "shape": [n, 64], "parameters": size }],
        "outputs": [{ "name": output, "parameters": { "binary_data": true } }],
    });
    let (head, mut body) = (head.to_string().len().to_string(), head.to_string().into_bytes());
    body.extend(raw);
    let headers = [("inference-header-content-length", head.as_str()), ("content-type", "application/octet-stream")];
    let answer = gateway.ask("POST", "/v2/models/acme/digits/infer", &headers, &body);
    let length: usize = answer.header("inference-header-content-length").parse().unwrap();
    let (json, raw) = answer.body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], raw.len());
    equals_golden(&raw.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect::<Vec<_>>());
}

#[test]
fn what_is_wrong_is_said_in_each_protocols_own_shape() {
    let gateway = gateway();
    let infer = "/v2/models/acme/digits/infer";
    let name = gateway.get("/v2/models/acme/digits").json()["inputs"][0]["name"].as_str().unwrap().to_owned();
    let body = |datatype: &str, shape: Value, data: Value| json!({ "inputs": [{ "name": name, "datatype": datatype, "shape": shape, "data": data }] });
    assert!(oip_error(&gateway.post(infer, &body("FP32", json!([1, 63]), json!(vec![0; 63]))), 400).contains("64"));
    oip_error(&gateway.post(infer, &body("FP32", json!([1, 64]), json!([1]))), 400);
    oip_error(&gateway.post(infer, &body("INT64", json!([1, 64]), json!(vec![0; 64]))), 400);
    assert!(oip_error(&gateway.post(infer, &body("BYTES", json!([1]), json!(["a"]))), 400).contains("BYTES"));
    oip_error(&gateway.post(infer, &json!({ "inputs": [] })), 400);
    oip_error(&gateway.ask("POST", infer, &[], b"{\"inputs\": [\xff"), 400);
    let bomb = [&b"{\"inputs\":"[..], &b"[".repeat(1 << 20)].concat();
    oip_error(&gateway.ask("POST", infer, &[], &bomb), 400);
    oip_error(&gateway.ask("POST", infer, &[], &vec![b' '; (4 << 20) + 1]), 413);
    oip_error(&gateway.ask("POST", infer, &[("content-encoding", "gzip")], b"{}"), 415);

    oip_error(&gateway.post("/v2/models/acme/nothing/infer", &body("FP32", json!([1]), json!([1]))), 404);
    oip_error(&gateway.post("/v2/models/acme/digits/versions/9/infer", &body("FP32", json!([1]), json!([1]))), 404);
    oip_error(&gateway.get("/v2/models/acme/nothing/ready"), 404);
    oip_error(&gateway.get(infer), 405);
    oip_error(&gateway.get("/v2/nowhere"), 404);

    let chat = |change: Value| {
        let mut body = json!({ "model": "acme/digits", "messages": [{ "role": "user", "content": "hi" }] });
        change.as_object().unwrap().iter().for_each(|(k, v)| body[k] = v.clone());
        gateway.post("/v1/chat/completions", &body)
    };
    for (change, word) in [
        (json!({}), "/v2/models/acme/digits/infer"),
        (json!({ "n": 1_000_000 }), "'n'"),
        (json!({ "tools": [{}] }), "'tools'"),
        (json!({ "max_tokens": 1_000_000_000 }), "max_tokens"),
    ] {
        assert!(openai_error(&chat(change), 400, "invalid_request_error").contains(word));
    }
    let unknown = chat(json!({ "model": "acme/nothing" }));
    openai_error(&unknown, 404, "invalid_request_error");
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
    openai_error(&gateway.get("/v1/chat/completions"), 405, "invalid_request_error");
    openai_error(&gateway.get("/v1/nowhere"), 404, "invalid_request_error");
}

#[test]
fn models_and_health_are_told() {
    let gateway = gateway();
    let list = gateway.get("/v1/models").json();
    let model = &list["data"][0];
    assert_eq!(
        (&model["id"], &model["object"], &model["owned_by"]),
        (&json!("acme/digits"), &json!("model"), &json!("acme"))
    );
    for path in ["/v1/models/acme/digits", "/v1/models/acme%2Fdigits@1"] {
        let one = gateway.get(path).json();
        assert!(one["created"].as_u64().unwrap() > 1_600_000_000, "{one}");
    }
    openai_error(&gateway.get("/v1/models/acme/nothing"), 404, "invalid_request_error");
    assert_eq!(gateway.get("/v2/health/live").status(), 200);
    assert_eq!(gateway.get("/v2/health/ready").json(), json!({ "ready": true }));
    assert_eq!(gateway.get("/v2").json()["extensions"], json!(["binary_tensor_data"]));
}

#[test]
fn metrics_count() {
    let gateway = gateway();
    let count = || -> u64 {
        let answer = gateway.get("/metrics");
        assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
        let text = String::from_utf8(answer.body).unwrap();
        let line = "zero2ai_http_requests_total{route=\"metrics\",code=\"200\"} ";
        text.lines().find_map(|l| l.strip_prefix(line)).map_or(0, |n| n.parse().unwrap())
    };
    let before = count();
    assert_eq!((count(), count()), (before + 1, before + 2));
}

/// Bytes that are no request, and one that never ends: the gateway answers others meanwhile and lets go.
#[test]
fn half_requests_hold_nothing_up() {
    let gateway = gateway();
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-").unwrap();
    let mut junk = TcpStream::connect(address).unwrap();
    junk.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    junk.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").unwrap();
    let mut said = Vec::new();
    junk.read_to_end(&mut said).unwrap();
    assert!(said.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&said));
    assert_eq!(gateway.get("/v2/health/live").status(), 200);
    // Cut after the time for a head, which the gateway's own source says is 15 s.
    slow.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(start.elapsed() < Duration::from_secs(35), "a request that never ends was kept");
}

/// The whole answer of a request that is written by hand.
fn by_hand(gateway: &Gateway, headers: &str, body: impl FnOnce(&mut TcpStream)) -> String {
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "POST /v2/models/acme/digits/infer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         {headers}\r\n\r\n",
        gateway.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    body(&mut stream);
    let mut said = Vec::new();
    // Cut in the middle is an answer too.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn bodies_without_end_cost_little() {
    let gateway = gateway();
    // A gigabyte that is only announced is refused before a byte of it came.
    let said = by_hand(&gateway, "Content-Length: 1073741824", |_| {});
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    // One that says no length is taken up to a bound and thrown away, then refused or cut.
    let mut sent = 0usize;
    let said = by_hand(&gateway, "Transfer-Encoding: chunked", |stream| {
        let piece = [&b"100000\r\n"[..], &vec![b' '; 1 << 20], b"\r\n"].concat();
        while sent < 1 << 30 && stream.write_all(&piece).is_ok() {
            sent += 1 << 20;
        }
    });
    assert!(sent < 256 << 20, "{sent} bytes were taken");
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 413"), "{said}");
    assert_eq!(gateway.get("/v2/health/live").status(), 200);
}

#[test]
fn a_caller_that_says_no_more_holds_nothing_up() {
    let gateway = gateway();
    let body =
        json!({ "inputs": [{ "name": "", "datatype": "FP32", "shape": [1, 64], "data": vec![0; 64] }] }).to_string();
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    let said = by_hand(&gateway, &headers, |stream| {
        stream.write_all(body.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 200"), "{said}");
    // Half a body and then no more: nothing runs, and the place is free at once.
    let said = by_hand(&gateway, &headers, |stream| {
        stream.write_all(&body.as_bytes()[..10]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    for bytes in [&b"{\"model\": \"acme/\xff\"}"[..], b"\xef\xbb\xbf{}", b"{\"model\": \"\\ud800\"}"] {
        openai_error(&gateway.ask("POST", "/v1/chat/completions", &[], bytes), 400, "invalid_request_error");
    }
}

#[test]
fn a_gateway_goes_to_the_peer_that_serves_and_takes_no_more_than_it_can() {
    let network = Network::start(1).unwrap();
    let provider = &network.nodes[0];
    publish_digits(provider);
    let invite = network.path().join("invite");
    fs::write(&invite, network.invite("member").unwrap()).unwrap();
    let gateway = Gateway::up(&["--join-file", invite.to_str().unwrap()]);
    let infer = "/v2/models/acme/digits/infer";
    let body = json!({ "inputs": [{ "name": "", "datatype": "FP32", "shape": [1, 64], "data": vec![0; 64] }] });
    // A fresh member's ledger and routing table fill in its first seconds.
    let patient = || {
        let start = Instant::now();
        loop {
            let answer = gateway.post(infer, &body);
            if answer.status() == 200 || start.elapsed() > Duration::from_secs(30) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let answer = patient();
    assert_eq!(answer.status(), 200, "{}", answer.json());
    assert_eq!(answer.header("zero2ai-node"), provider.key().unwrap());
    assert_eq!(gateway.get("/v1/models").json()["data"], json!([]), "the gateway's own node holds nothing");

    // Each holds a place until its body has come, or its time is over. One more a round: a place that the call below had
    // while the others came would stay free.
    let head = format!(
        "POST {infer} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n",
        gateway.token
    );
    let address = gateway.url.strip_prefix("http://").unwrap();
    let open = || -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut held: Vec<TcpStream> = (0..32).map(|_| open()).collect();
    let start = Instant::now();
    let refused = loop {
        let answer = gateway.post(infer, &body);
        if answer.status() == 429 || start.elapsed() > Duration::from_secs(10) {
            break answer;
        }
        held.push(open());
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((refused.status(), refused.header("retry-after")), (429, "1"), "{}", refused.json());
    assert_eq!(gateway.get("/v2/health/live").status(), 200, "health is not work");
    drop(held);
    assert_eq!(patient().status(), 200, "places come back when their callers leave");

    // The account behind the gateway is revoked: its provider says so, and nothing is tried for long.
    let account = gateway.node.key().unwrap();
    assert_eq!(provider.run(&["pool", "rights", &account, "none"]).unwrap().code, 0);
    let start = Instant::now();
    let refused = loop {
        let answer = gateway.post(infer, &body);
        if answer.status() != 200 || start.elapsed() > Duration::from_secs(60) {
            break answer;
        }
    };
    assert!(oip_error(&refused, 403).contains("admitted"), "{}", refused.json());
}

#[test]
fn without_tls_only_this_machine_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let up = |name: &str, address: &str| run(&dir.path().join(name), &["up", "--http", address]).unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8700"] {
        let ran = up("open", address);
        assert_eq!(ran.code, 3, "{address}: {ran:?}");
        assert!(ran.stderr.contains("TLS"), "{ran:?}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = up("taken", &taken.local_addr().unwrap().to_string());
    assert_eq!(ran.code, 9, "{ran:?}");
    assert!(!Path::new(&dir.path().join("taken/node.addr")).exists());
}
