//! The task between a worker's socket and its jobs, which also owns the process and sees it die.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncRead, AsyncReadExt, Interest},
    net::UnixStream,
    process::{Child, ChildStderr},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::worker::FromWorker;

use super::jobs::{Jobs, Outgoing};
use crate::{
    error::{EngineError, chain},
    file::ModelFile,
    frame::{HEADER, MODEL_FILES, body_len, from_body},
};

/// Bytes of a dead worker's standard error that are told.
const LAST_WORDS: usize = 2_048;
/// How long a worker that closed its socket has to exit by itself, so that its own exit status can be told.
const EXIT_WITHIN: Duration = Duration::from_secs(2);
/// Bytes asked of one read; bounds what a claimed length makes us set aside at once.
const READ_BYTES: u64 = 64 * 1024;

/// Reads frames of a worker. Not safe to cancel between frames' bytes, so one future reads for the socket's whole life.
pub(super) struct Reader<'a>(SocketRead<'a>);

/// Reads from a borrowed socket, while another future writes to it.
struct SocketRead<'a>(&'a UnixStream);

impl AsyncRead for SocketRead<'_> {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return std::task::Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return std::task::Poll::Ready(Err(error)),
            }
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(socket: &'a UnixStream) -> Self {
        Self(SocketRead(socket))
    }

    /// The next frame; [`EngineError::Died`] when the socket ended.
    pub(super) async fn next(&mut self) -> Result<FromWorker, EngineError> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                EngineError::Died("it closed its socket".into())
            }
            _ => EngineError::Socket(error),
        };
        let mut header = [0; HEADER];
        self.0.read_exact(&mut header).await.map_err(gone)?;
        let protocol = |e: zero2ai_proto::CodecError| EngineError::Protocol(e.to_string());
        let len = body_len(header).map_err(protocol)? as u64;
        let mut body = Vec::new();
        while (body.len() as u64) < len {
            let part = READ_BYTES.min(len.saturating_sub(body.len() as u64));
            let got = (&mut self.0).take(part).read_to_end(&mut body).await.map_err(gone)?;
            if got == 0 {
                return Err(gone(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        from_body(&body).map_err(protocol)
    }
}

/// Runs until the worker is gone or `stop` is cancelled; then kills what is left, tells why, and ends every job.
pub(super) async fn run(
    socket: UnixStream,
    mut child: Child,
    jobs: Arc<Jobs>,
    stop: CancellationToken,
    ended: watch::Sender<Option<Arc<str>>>,
) {
    let words = Arc::new(Mutex::new(Vec::new()));
    let listener = child.stderr.take();
    let cause = tokio::select! {
        biased;
        () = stop.cancelled() => Some("it was stopped".to_owned()),
        error = read_all(&socket, &jobs) => cause_of(&error),
        error = write_all(&socket, &jobs) => cause_of(&error),
        error = jobs.overdue() => cause_of(&error),
        () = listen(listener, &words) => None,
    };
    let why = match cause {
        Some(cause) => {
            let _ = child.kill().await;
            cause
        }
        None => {
            let status = wait_or_kill(&mut child).await;
            let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
            with_words(status, &words)
        }
    };
    // The reason first: a caller whose channel closes looks it up.
    ended.send_replace(Some(why.into()));
    jobs.close();
}

/// What to tell, unless the process's own end tells more.
fn cause_of(error: &EngineError) -> Option<String> {
    match error {
        EngineError::Died(_) | EngineError::Socket(_) => None,
        other => {
            tracing::warn!(error = %chain(other), "a worker process is killed");
            Some(chain(other))
        }
    }
}

async fn read_all(socket: &UnixStream, jobs: &Jobs) -> EngineError {
    let mut reader = Reader::new(socket);
    loop {
        let delivered = reader.next().await.and_then(|frame| jobs.deliver(frame));
        if let Err(error) = delivered {
            return error;
        }
    }
}

async fn write_all(socket: &UnixStream, jobs: &Jobs) -> EngineError {
    loop {
        let Outgoing { bytes, files, .. } = jobs.outgoing().await;
        if let Err(error) = write_frame(socket, &bytes, &files).await {
            return EngineError::Socket(error);
        }
    }
}

/// Writes one frame; the files' descriptors go beside its first byte.
async fn write_frame(socket: &UnixStream, mut bytes: &[u8], files: &[ModelFile]) -> io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = files.iter().map(ModelFile::fd).collect();
    let mut first = !fds.is_empty();
    while !bytes.is_empty() {
        let sent = socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MODEL_FILES))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if first && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                // Without NOSIGNAL a dead worker would be our death too.
                Ok(sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
        first = false;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Keeps the last words of the worker; returns when it closed its standard error, that is, at its end.
async fn listen(stderr: Option<ChildStderr>, words: &Mutex<Vec<u8>>) {
    let Some(mut stderr) = stderr else { return std::future::pending().await };
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let surplus = words.len().saturating_sub(LAST_WORDS);
        words.drain(..surplus);
    }
}

async fn wait_or_kill(child: &mut Child) -> String {
    let status = match timeout(EXIT_WITHIN, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            let _ = child.kill().await;
            child.wait().await
        }
    };
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal {signal}"),
            (_, Some(code)) => format!("exit code {code}"),
            _ => "no status".to_owned(),
        },
        Err(error) => format!("unknown end: {error}"),
    }
}

fn with_words(status: String, words: &[u8]) -> String {
    let said = String::from_utf8_lossy(words);
    let said = said.trim();
    if said.is_empty() { status } else { format!("{status}; its last words: {said}") }
}

/// Why a process that never got ready ended.
pub(super) async fn obituary(child: &mut Child) -> String {
    let words = Mutex::new(Vec::new());
    let stderr = child.stderr.take();
    let _ = timeout(EXIT_WITHIN, listen(stderr, &words)).await;
    let status = wait_or_kill(child).await;
    with_words(status, &words.into_inner().unwrap_or_else(PoisonError::into_inner))
}
