//! Predictions over one HTTP connection to a node's gateway, each timed: a client that has connected already. It runs in the
//! node's namespace, as a child of the lab.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// Sends `count` predictions of `model` to the gateway at `address` (`ip:port`), and gives each one's time, milliseconds.
///
/// # Errors
/// No connection, or an answer that is none.
pub fn run(address: &str, token: &str, model: &str, count: usize) -> Result<Vec<f64>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut http = (stream.try_clone()?, BufReader::new(stream));
    let about: Value = serde_json::from_slice(&ask(&mut http, "GET", &format!("/v2/models/{model}"), token, "")?)?;
    let name = about["inputs"][0]["name"].as_str().context("the model has an input")?;
    let row = json!({ "inputs": [{ "name": name, "datatype": "FP32", "shape": [1, 64], "data": vec![0.0; 64] }] });
    let infer = format!("/v2/models/{model}/infer");
    (0..count)
        .map(|_| {
            let began = Instant::now();
            ask(&mut http, "POST", &infer, token, &row.to_string())?;
            Ok(began.elapsed().as_secs_f64() * 1e3)
        })
        .collect()
}

type Http = (TcpStream, BufReader<TcpStream>);

fn ask((out, back): &mut Http, method: &str, path: &str, token: &str, body: &str) -> Result<Vec<u8>> {
    write!(
        out,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let (mut line, mut length) = (String::new(), None);
    back.read_line(&mut line)?;
    let status = line.trim().to_owned();
    loop {
        line.clear();
        ensure!(back.read_line(&mut line)? > 0, "the gateway closed the connection");
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length:") {
            length = Some(bytes.trim().parse::<usize>()?);
        }
    }
    let mut answer = vec![0; length.context("an answer says its length")?.min(1 << 20)];
    back.read_exact(&mut answer)?;
    if !status.contains(" 200 ") {
        bail!("{status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(answer)
}
