//! A model hub on loopback: the list of a repository, its files with ranges and a redirect to other storage, and faults.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde_json::json;

/// A file as the hub lists and gives it.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// Size as listed.
    pub(crate) listed: u64,
    /// Hash as listed.
    pub(crate) hash: String,
    /// In large file storage.
    pub(crate) large: bool,
}

impl Item {
    /// In git: listed with the hash of its blob.
    pub(crate) fn plain(path: &str, bytes: &[u8]) -> Self {
        let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        let hash = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob).as_ref());
        Self { path: path.into(), bytes: bytes.into(), listed: bytes.len() as u64, hash, large: false }
    }

    /// In large file storage, elsewhere.
    pub(crate) fn large(path: &str, bytes: &[u8]) -> Self {
        let hash = hex(digest(&SHA256, bytes).as_ref());
        Self { path: path.into(), bytes: bytes.into(), listed: bytes.len() as u64, hash, large: true }
    }
}

/// What goes wrong with one request for a file.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes.
    CutAt(usize),
    /// The range that was asked for is ignored.
    Whole,
    /// Another answer.
    Status(u16),
}

struct State {
    items: Vec<Item>,
    commit: String,
    /// Instead of the list.
    list: Option<String>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    /// Where each request for a file's bytes wanted to start.
    ranges: Vec<(String, Option<u64>)>,
}

/// The server. It ends with the process.
pub(crate) struct Hub {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    pub(crate) fn start(items: Vec<Item>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let commit = "0123456789abcdef0123456789abcdef01234567".to_owned();
        let state = State { items, commit, list: None, faults: BTreeMap::new(), ranges: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { url, state }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn commit(&self) -> String {
        self.state.lock().unwrap().commit.clone()
    }

    pub(crate) fn set_commit(&self, commit: &str) {
        self.state.lock().unwrap().commit = commit.into();
    }

    pub(crate) fn set_list(&self, text: &str) {
        self.state.lock().unwrap().list = Some(text.into());
    }

    /// The next requests for this file's bytes go wrong so, one after the other.
    pub(crate) fn fault(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(path.into(), faults.iter().copied().collect());
    }

    /// Where the requests for a file's bytes wanted to start; none is the whole.
    pub(crate) fn ranges(&self, path: &str) -> Vec<Option<u64>> {
        let state = self.state.lock().unwrap();
        state.ranges.iter().filter(|(p, _)| p == path).map(|(_, from)| *from).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// What the paths of these tests need of percent-encoding.
fn decoded(path: &str) -> String {
    path.replace("%20", " ").replace("%2E", ".")
}

/// Answers requests on one connection until it ends.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => lines.push(line.trim().to_owned()),
            }
        }
        let target = lines[0].split(' ').nth(1).unwrap_or_default().to_owned();
        let range = lines.iter().find_map(|l| {
            let (name, value) = l.split_once(':')?;
            let range = name.eq_ignore_ascii_case("range").then(|| value.trim().strip_prefix("bytes="))??;
            range.strip_suffix('-')?.parse().ok()
        });
        if !answer(&mut writer, &target, range, state) {
            return;
        }
    }
}

/// One answer. False if the connection is to end.
fn answer(to: &mut TcpStream, target: &str, range: Option<u64>, state: &Mutex<State>) -> bool {
    let mut state = state.lock().unwrap();
    let path = target.split('?').next().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let (repo, revision) = rest.split_once("/revision/").unwrap_or((rest, ""));
        if repo.ends_with("gated") {
            return simple(to, 401, "{}");
        }
        if repo.ends_with("none") || revision == "gone" || !target.ends_with("?blobs=true") {
            return simple(to, 404, "{}");
        }
        let sibling = |i: &Item| match i.large {
            true => json!({ "rfilename": i.path, "size": i.listed, "blobId": "ab".repeat(20),
                "lfs": { "sha256": i.hash, "size": i.listed, "pointerSize": 134 } }),
            false => json!({ "rfilename": i.path, "size": i.listed, "blobId": i.hash }),
        };
        let siblings: Vec<_> = state.items.iter().map(sibling).collect();
        let list = json!({ "id": repo, "sha": state.commit, "siblings": siblings }).to_string();
        return simple(to, 200, state.list.as_ref().unwrap_or(&list));
    }
    let named = path.split_once("/resolve/").and_then(|(_, rest)| rest.split_once('/'));
    let stored = path.strip_prefix("/storage/");
    let Some(name) = stored.or(named.map(|(_, name)| name)).map(decoded) else { return simple(to, 404, "") };
    let Some(item) = state.items.iter().find(|i| i.path == name).cloned() else { return simple(to, 404, "") };
    if item.large && stored.is_none() {
        let head = format!("HTTP/1.1 302 Found\r\nlocation: /storage/{}\r\ncontent-length: 0\r\n\r\n", item.path);
        return to.write_all(head.as_bytes()).is_ok();
    }
    state.ranges.push((name.clone(), range));
    let fault = state.faults.get_mut(&name).and_then(VecDeque::pop_front);
    drop(state);
    let total = item.bytes.len();
    let from = match (fault, range) {
        (Some(Fault::Whole), _) | (_, None) => 0,
        (_, Some(from)) => usize::try_from(from).unwrap().min(total),
    };
    let mut body = &item.bytes[from..];
    let length = body.len();
    let head = match fault {
        Some(Fault::Status(status)) => return simple(to, status, ""),
        _ if range.is_some() && from > 0 => {
            format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{total}", total - 1)
        }
        _ => "200 OK".into(),
    };
    if let Some(Fault::CutAt(bytes)) = fault {
        body = &body[..bytes.min(length)];
    }
    let sent = write!(to, "HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n").and_then(|()| to.write_all(body));
    sent.is_ok() && body.len() == length
}

fn simple(to: &mut TcpStream, status: u16, body: &str) -> bool {
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    to.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).is_ok()
}
