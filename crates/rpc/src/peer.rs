//! Calling one peer over an established, proven connection.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, sleep_until},
};
use zero2ai_proto::{
    ByteBuf, Bytes, CodecError, NodeId, decode, encode,
    limits::FRAME_BYTES,
    rpc::{CallFrame, Load, Method, ReplyFrame},
};

use crate::{
    connection::Connection,
    error::CallError,
    frame::{FrameError, FrameReader, frame},
    tuning::PATIENCE,
};

/// An established, proven connection; clones share it. It closes when the last clone and its last [`Replies`] are gone.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
    patience: Duration,
}

struct Shared {
    connection: Box<dyn Connection>,
    /// Of its newest pool key, when the connection was made.
    epoch: u32,
    /// Set when a call gave the peer up as silent: nobody should begin another one.
    silent: AtomicBool,
    /// How busy it said it was, and when.
    load: Mutex<Option<(Load, Instant)>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {})", self.id().short(), self.remote_addr())
    }
}

impl Peer {
    pub(crate) fn new(connection: Box<dyn Connection>, epoch: u32) -> Self {
        let (silent, load) = (AtomicBool::new(false), Mutex::default());
        Self { shared: Arc::new(Shared { connection, epoch, silent, load }), patience: PATIENCE }
    }

    /// The same connection, whose calls bear a silent machine for `patience` (see [`PATIENCE`]).
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), patience }
    }

    /// The peer's identity.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.connection.peer_id()
    }

    /// Epoch of the newest pool key that it had when the connection was made.
    #[must_use]
    pub fn key_epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// The transport's current estimate of the round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.shared.connection.rtt()
    }

    /// How busy the peer said it was with its last answer, and when that came; `None` if it never did.
    #[must_use]
    pub fn load(&self) -> Option<(Load, Instant)> {
        *self.shared.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how busy the peer says it is.
    pub fn note_load(&self, load: Load) {
        *self.shared.load.lock().unwrap_or_else(PoisonError::into_inner) = Some((load, Instant::now()));
    }

    /// True once the connection is closed, or was given up because the peer's machine fell silent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.silent.load(Ordering::Relaxed) || self.shared.connection.close_reason().is_some()
    }

    /// Where the peer is.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.shared.connection.remote_addr()
    }

    /// Calls a method that answers with one item, and waits at most `timeout` for it ([`Duration::MAX`] is no limit). A
    /// peer that died is noticed earlier, after [`PATIENCE`] or what [`Peer::with_patience`] set. Dropping the future
    /// cancels the call at the peer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<M: Method>(&self, request: &M::Request, timeout: Duration) -> Result<M::Reply, CallError> {
        let mut replies = self.stream::<M>(request, timeout).await?;
        let ended = || CallError::Closed {
            method: M::NAME,
            peer: self.id().short(),
            why: "the answer has not exactly one item".into(),
        };
        let item = replies.next().await.ok_or_else(ended)??;
        match replies.next().await {
            None => Ok(item),
            Some(Err(e)) => Err(e),
            Some(Ok(_)) => Err(ended()),
        }
    }

    /// Calls a method that answers with any number of items. `timeout` is for the whole stream. Dropping the [`Replies`]
    /// cancels the call at the peer.
    ///
    /// # Errors
    /// The request cannot be encoded or sent; later failures come from [`Replies::next`].
    pub async fn stream<M: Method>(&self, request: &M::Request, timeout: Duration) -> Result<Replies<M>, CallError> {
        let watch =
            Watch { peer: self.clone(), method: M::NAME, timeout, deadline: Instant::now().checked_add(timeout) };
        let bad = |source| CallError::Codec { method: M::NAME, what: "the request", source };
        let timeout_ms = match watch.deadline {
            Some(_) => u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1),
            None => 0,
        };
        let body = ByteBuf::from(encode(request).map_err(bad)?);
        let bytes = frame(&CallFrame { method: M::ID, timeout_ms, body }, FRAME_BYTES).map_err(bad)?;
        let connection = &self.shared.connection;
        let send_all = async {
            let mut stream = connection.open_bi().await?;
            // A peer that refuses a call stops reading it: its answer is still to be read.
            let sent = stream.send.write_all(&bytes).await;
            if let (Err(e), Some(_)) = (sent, connection.close_reason()) {
                return Err(e);
            }
            let _ = stream.send.shutdown().await;
            Ok(stream.recv)
        };
        let recv = watch.guard(send_all).await?.map_err(|e| watch.closed(&e.to_string()))?;
        Ok(Replies { recv: Some(FrameReader::new(recv)), loaded: false, watch, method: PhantomData })
    }
}

/// What ends a wait early: the caller's time, or a silent machine.
struct Watch {
    peer: Peer,
    method: &'static str,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl Watch {
    async fn guard<T>(&self, work: impl Future<Output = T>) -> Result<T, CallError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.over() => Err(CallError::Timeout {
                method: self.method,
                peer: self.peer.id().short(),
                after: self.timeout,
            }),
            () = self.silence() => {
                self.peer.shared.silent.store(true, Ordering::Relaxed);
                Err(self.closed(&format!("not a packet came for {:?}", self.peer.patience)))
            }
        }
    }

    async fn over(&self) {
        match self.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// Completes when no packet came from the peer for as long as its patience lasts.
    async fn silence(&self) {
        let step = (self.peer.patience / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
        let mut seen = self.peer.shared.connection.packets_received();
        let mut since = Instant::now();
        while since.elapsed() < self.peer.patience {
            sleep(step).await;
            let now = self.peer.shared.connection.packets_received();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }

    fn closed(&self, why: &str) -> CallError {
        let why = self.peer.shared.connection.close_reason().map_or_else(|| why.to_owned(), |(_, reason)| reason);
        CallError::Closed { method: self.method, peer: self.peer.id().short(), why }
    }
}

/// The items of an answer, as they come. Dropping it cancels the call at the peer.
pub struct Replies<M: Method> {
    recv: Option<FrameReader>,
    /// It was told how busy the peer is.
    loaded: bool,
    watch: Watch,
    method: PhantomData<fn() -> M>,
}

impl<M: Method> fmt::Debug for Replies<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replies({} from {})", M::NAME, self.watch.peer.id().short())
    }
}

impl<M: Method> Replies<M> {
    /// The next item; `None` once the answer ended as a whole. After an error there is nothing more. Safe to drop and
    /// call again.
    pub async fn next(&mut self) -> Option<Result<M::Reply, CallError>> {
        let bad = |source: CodecError| CallError::Codec { method: M::NAME, what: "the answer", source };
        let result = loop {
            let recv = self.recv.as_mut()?;
            let read = self.watch.guard(recv.next_frame(FRAME_BYTES)).await;
            break match read {
                Ok(Ok(frame)) => match decode::<ReplyFrame<&Bytes>>(&frame, FRAME_BYTES) {
                    Ok(ReplyFrame::Item(bytes)) => decode(bytes, FRAME_BYTES).map_err(bad),
                    Ok(ReplyFrame::End) => {
                        self.recv = None;
                        return None;
                    }
                    Ok(ReplyFrame::Error(error)) => Err(CallError::Remote(error)),
                    Ok(ReplyFrame::Load(load)) if !self.loaded => {
                        self.loaded = true;
                        self.watch.peer.note_load(load);
                        continue;
                    }
                    Ok(ReplyFrame::Load(_)) => Err(self.watch.closed("it says twice how busy it is")),
                    Err(source) => Err(bad(source)),
                },
                Ok(Err(FrameError::Codec(source))) => Err(bad(source)),
                Ok(Err(error)) => Err(self.watch.closed(&error.to_string())),
                Err(error) => Err(error),
            };
        };
        if result.is_err() {
            // Tells the peer that nobody reads on.
            self.recv = None;
        }
        Some(result)
    }
}
