//! A real node with a real model: predictions through the client library over peer RPC, and through the gateway over HTTP/1.1.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zero2ai_client::{Client, ClientError, ErrorKind, Membership};
use zero2ai_proto::{ModelRef, pool::Invite, tensor::Tensor};

use super::work::FEATURES;
use crate::process::{Child, run};

/// The model's name.
const NAME: &str = "acme/digits";
/// Bytes of an answer's head at most.
const HEAD: usize = 64 * 1024;

/// A running node, with its gateway.
pub(crate) struct Node {
    process: Child,
    program: PathBuf,
    home: PathBuf,
    /// Where the gateway listens.
    pub(crate) gateway: String,
    token: String,
}

impl Node {
    /// A node with these settings, and the gateway.
    pub(crate) fn start(program: &Path, work: &Path, settings: &str) -> Result<Self> {
        let program = fs::canonicalize(program)
            .with_context(|| format!("{}: build it with 'cargo build --release' in the root", program.display()))?;
        let home = work.join("n");
        fs::create_dir_all(&home)?;
        fs::write(home.join("config.toml"), settings)?;
        let mut command = Command::new(&program);
        command.arg("--home").arg(&home).args(["--json", "up", "--http", "127.0.0.1:0"]);
        let process = Child::start("node", command, work)?;
        let said: Value = serde_json::from_str(&format!("{{{}", process.expect("{")?.1))?;
        let text = |key: &str| said["http"][key].as_str().map(str::to_owned).context("no gateway");
        let gateway = text("url")?.trim_start_matches("http://").to_owned();
        let token = fs::read_to_string(text("token_file")?)?.trim().to_owned();
        Ok(Self { process, program, home, gateway, token })
    }

    /// The same, serving the digits classifier.
    pub(crate) fn with_digits(program: &Path, work: &Path) -> Result<Self> {
        let node = Self::start(program, work, "")?;
        let model = fs::canonicalize("../testnet/fixtures/digits/digits.onnx").context("the classifier")?;
        node.publish(&model, NAME)?;
        Ok(node)
    }

    /// Publishes a model, which the node serves from then on.
    pub(crate) fn publish(&self, model: &Path, name: &str) -> Result<()> {
        let file = model.display().to_string();
        self.command(&["publish", &file, "--name", name, "--replicas", "0", "--no-wait"]).map(drop)
    }

    fn command(&self, words: &[&str]) -> Result<Value> {
        let said = run(Command::new(&self.program).arg("--home").arg(&self.home).arg("--json").args(words))?;
        Ok(serde_json::from_str(&said)?)
    }

    /// An invite for so many accounts.
    pub(crate) fn invite(&self, uses: usize) -> Result<Invite> {
        let said = self.command(&["pool", "invite", "--uses", &uses.to_string()])?;
        Ok(said["invite"].as_str().context("no invite")?.parse()?)
    }

    /// MiB that the node holds, its workers with it.
    pub(crate) fn memory_mib(&self) -> Result<f64> {
        let own = self.process.id();
        let mut all = vec![own];
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            if parent == Some(own) {
                all.push(pid);
            }
        }
        // A worker may end meanwhile.
        let kib = all.iter().filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().to_owned();
            line.trim_end_matches("kB").trim().parse::<f64>().ok()
        });
        Ok(kib.sum::<f64>() / 1024.0)
    }

    /// A request of the gateway, whole.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.gateway,
            self.token,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    /// The gateway's prediction, in the binary form that costs it least.
    pub(crate) async fn infer(&self) -> Result<Vec<u8>> {
        let mut http = Http::connect(&self.gateway).await?;
        let described = http.ask(&self.http("GET", &format!("/v2/models/{NAME}"), "", b"")).await?;
        let described: Value = serde_json::from_slice(&described)?;
        let part = |of: &str| described[of][0]["name"].as_str().map(str::to_owned).context("no tensors");
        let data: Vec<u8> = [0.5f32; FEATURES].iter().flat_map(|v| v.to_le_bytes()).collect();
        let head = serde_json::json!({
            "inputs": [{ "name": part("inputs")?, "datatype": "FP32", "shape": [1, FEATURES],
                "parameters": { "binary_data_size": data.len() } }],
            "outputs": [{ "name": part("outputs")?, "parameters": { "binary_data": true } }],
        })
        .to_string();
        let headers =
            format!("Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n", head.len());
        let body = [head.as_bytes(), &data].concat();
        Ok(self.http("POST", &format!("/v2/models/{NAME}/infer"), &headers, &body))
    }
}

/// What a client sends to the model.
pub(crate) fn input() -> Vec<Tensor> {
    vec![Tensor::f32("", &[1, FEATURES as u64], &[0.5; FEATURES])]
}

/// The model's name as a client looks it up.
pub(crate) fn name() -> Result<ModelRef> {
    NAME.parse().context("the name")
}

/// A client with a fresh account. Few strangers are let in at a time: one that is not tries again.
pub(crate) async fn join(invite: &Invite) -> Result<Client> {
    let membership = Membership::new(invite)?;
    loop {
        match Client::join(membership.clone(), Some(invite)).await {
            Ok((client, _)) => return Ok(client),
            Err(error) if passes(&error) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn passes(error: &ClientError) -> bool {
    matches!(error.kind(), ErrorKind::Busy | ErrorKind::Unreachable)
}

/// A connection to the gateway that is kept.
pub(crate) struct Http(TcpStream);

impl Http {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Sends a request and gives the body of a good answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.0.write_all(request).await?;
        let mut read = Vec::with_capacity(4096);
        let end = loop {
            if let Some(at) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(read.len() < HEAD && self.0.read_buf(&mut read).await? > 0, "the gateway's answer has no head");
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        while read.len() < end + length {
            ensure!(self.0.read_buf(&mut read).await? > 0, "the gateway's answer broke off");
        }
        if !head.starts_with("http/1.1 200") {
            bail!("{}", String::from_utf8_lossy(&read));
        }
        Ok(read.split_off(end))
    }
}
