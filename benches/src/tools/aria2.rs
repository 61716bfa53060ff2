//! `aria2c`, from `nginx` with `sendfile`: plain HTTP, several connections at once.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{Lab, Others, Place};
use crate::process::{command, run};

/// Connections at once: four of them gave the most here, with 1 MiB as the least a connection takes.
const CONNECTIONS: u32 = 4;

pub(super) fn missing() -> Option<String> {
    let lacks = |program: &str| Command::new(program).arg("-v").output().is_err();
    (lacks("nginx") || lacks("aria2c")).then(|| "install aria2 and nginx-light".into())
}

fn sum_file(lab: &Lab) -> PathBuf {
    lab.seeds.join("sha256")
}

pub(super) fn prepare(lab: &Lab) -> Result<()> {
    let sum = run(Command::new("sha256sum").arg(&lab.file))?;
    fs::write(sum_file(lab), sum.split_whitespace().next().unwrap_or_default())?;
    Ok(())
}

/// nginx in one process says `ready` through a shell that waits for its port.
pub(super) fn seed(lab: &Lab, at: &Place) -> Result<Command> {
    let folder = lab.seeds.join("nginx");
    fs::create_dir_all(&folder)?;
    let (root, own, listen) = (lab.file.parent().context("no folder")?, folder.display(), at.socket());
    // Root's nginx serves as root: the file lies in a folder that others may not read.
    let config = format!(
        "daemon off; master_process off; user root; pid {own}/pid; error_log {own}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; sendfile_max_chunk 2m;\n\
         client_body_temp_path {own}/a; proxy_temp_path {own}/b; fastcgi_temp_path {own}/c; uwsgi_temp_path {own}/d; \
         scgi_temp_path {own}/e;\n\
         server {{ listen {listen}; root {}; }} }}\n",
        root.display()
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config)?;
    // `/dev/tcp` is bash's.
    let script = format!(
        "(until (: <>/dev/tcp/{}/{}) 2>/dev/null; do sleep 0.01; done; echo ready) & exec nginx -p {own} -c {}",
        listen.ip(),
        listen.port(),
        path.display()
    );
    let mut bash = command(&at.namespace, "bash");
    bash.args(["-c", &script]);
    Ok(bash)
}

pub(super) fn leech(lab: &Lab, at: &Place, others: &Others, verify: bool) -> Result<Command> {
    let name = lab.file.file_name().context("no name")?.to_string_lossy().into_owned();
    let from = others.first().context("nobody to ask")?.1;
    let mut aria2 = command(&at.namespace, "aria2c");
    aria2
        .args(["--no-conf", "--quiet", "--file-allocation=none", "--min-split-size=1M", "--disk-cache=64M"])
        .arg(format!("--split={CONNECTIONS}"))
        .arg(format!("--max-connection-per-server={CONNECTIONS}"))
        .arg(format!("--dir={}", at.home.display()));
    if verify {
        aria2.arg(format!("--checksum=sha-256={}", fs::read_to_string(sum_file(lab))?));
    }
    aria2.arg(format!("http://{from}/{name}"));
    Ok(aria2)
}
