//! One call at the serving end, from its first byte to its last.

use std::{net::SocketAddr, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    NodeId,
    limits::FRAME_BYTES,
    rpc::{CallFrame, ErrorCode, Load, ReplyFrame, RpcError},
};

use crate::{
    connection::{BiStream, SendHalf},
    frame::{self, FrameError, FrameReader},
    handler::{Handler, IncomingCall, ReplySink},
    standing::CallBounds,
    tuning::{CANCEL_GRACE, LARGE, REPLY_QUEUE, REQUEST},
};

/// Who calls, and what that allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: NodeId,
    pub(crate) from: SocketAddr,
    pub(crate) stale_key: bool,
    /// It may hear how busy this node is, and understands it.
    pub(crate) wants_load: bool,
    pub(crate) bounds: CallBounds,
}

/// Serves the call on `stream`. `abort` cancels it.
pub(crate) async fn serve(caller: Caller, stream: BiStream, handler: Arc<dyn Handler>, abort: CancellationToken) {
    let Caller { peer, from, stale_key, wants_load, bounds } = caller;
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    let call: CallFrame = match timeout(REQUEST, recv.next(bounds.frame)).await {
        Ok(Ok(call)) => call,
        Ok(Err(FrameError::Codec(e))) => {
            let error = RpcError::new(ErrorCode::Invalid, format!("the call cannot be read: {e}"));
            return say_error(&mut *send, error).await;
        }
        Ok(Err(_)) => return send.reset(),
        Err(_) => {
            let error =
                RpcError::new(ErrorCode::Timeout, format!("the request took longer than {REQUEST:?} to arrive"));
            return say_error(&mut *send, error).await;
        }
    };
    let method = call.method;
    let asked = (call.timeout_ms > 0).then(|| Duration::from_millis(call.timeout_ms));
    let limit = asked.into_iter().chain(bounds.whole).min();
    let cancelled = abort.child_token();
    let (queue, items) = mpsc::channel(REPLY_QUEUE);
    let (body, given_up) = (call.body.into_vec(), cancelled.clone());
    let incoming = IncomingCall { peer, from, stale_key, method, body, timeout: limit, cancelled: given_up };
    let gone = send.abandoned();
    let load = Arc::clone(&handler);
    let load = move || load.load(method).filter(|_| wants_load);
    let items = Items { waiting: items, patience: bounds.write };
    let answer = answer(handler, incoming, ReplySink::new(queue), items, load, &mut *send);
    let give_up = async {
        tokio::select! {
            () = gone => {}
            () = elapsed(limit) => {}
            () = abort.cancelled() => {}
        }
        cancelled.cancel();
        sleep(CANCEL_GRACE).await;
    };
    let finished = {
        let (answer, give_up) = (pin!(answer), pin!(give_up));
        tokio::select! {
            biased;
            () = answer => true,
            () = give_up => false,
        }
    };
    if !finished {
        tracing::debug!(method, peer = %peer.short(), "a cancelled call did not end in time and was dropped");
        send.reset();
    }
}

/// A call's items on their way out.
struct Items {
    waiting: mpsc::Receiver<Vec<u8>>,
    /// For each to be taken.
    patience: Duration,
}

/// Runs the handler and writes what it gives, side by side, until both are done.
async fn answer(
    handler: Arc<dyn Handler>,
    call: IncomingCall,
    sink: ReplySink,
    Items { waiting, patience }: Items,
    load: impl Fn() -> Option<Load>,
    send: &mut dyn SendHalf,
) {
    let (method, peer, cancelled) = (call.method, call.peer, call.cancelled.clone());
    // The handler is polled inside one task that ends with it: nothing that it may have left broken is used again.
    let work = AssertUnwindSafe(async { handler.call(call, sink).await }).catch_unwind();
    let write = async {
        let written = write_items(waiting, send, patience).await;
        if written.is_err() {
            cancelled.cancel();
        }
        written
    };
    let (outcome, written) = tokio::join!(work, write);
    if written.is_err() {
        return send.reset();
    }
    let last = match outcome {
        Ok(Ok(())) => ReplyFrame::End,
        Ok(Err(error)) => ReplyFrame::Error(error),
        Err(_) => {
            tracing::error!(method, peer = %peer.short(), "a call's handler panicked: this is a bug");
            ReplyFrame::Error(RpcError::new(ErrorCode::Internal, "the call failed inside the node: see its log"))
        }
    };
    // Whoever is not there to read it needs no answer.
    if !matches!(timeout(patience, finish(send, load(), &last)).await, Ok(Ok(()))) {
        send.reset();
    }
}

/// Writes framed items until the handler has dropped its sink; each must be taken within `patience`. On an error the queue
/// closes, so that the handler notices.
async fn write_items(
    mut items: mpsc::Receiver<Vec<u8>>,
    send: &mut dyn SendHalf,
    patience: Duration,
) -> Result<(), FrameError> {
    while let Some(frame) = items.recv().await {
        if frame.len() > LARGE {
            send.give_way();
        }
        timeout(patience, send.send(frame.into())).await.map_err(|_| FrameError::Slow(patience))??;
    }
    Ok(())
}

async fn finish(send: &mut dyn SendHalf, load: Option<Load>, last: &ReplyFrame) -> Result<(), FrameError> {
    if let Some(load) = load {
        frame::write(send, &<ReplyFrame>::Load(load), FRAME_BYTES).await?;
    }
    frame::write(send, last, FRAME_BYTES).await?;
    Ok(send.shutdown().await?)
}

/// Refuses a call with an error, without reading it; gives up on a caller that does not take it.
pub(crate) async fn say_error(send: &mut dyn SendHalf, error: RpcError) {
    let _ = timeout(CANCEL_GRACE, finish(send, None, &ReplyFrame::Error(error))).await;
}

async fn elapsed(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::{
        io,
        pin::Pin,
        sync::Mutex,
        task::{Context, Poll},
    };

    use futures::future::BoxFuture;
    use tokio::{
        io::{AsyncRead, AsyncWrite, DuplexStream, duplex, split},
        sync::oneshot,
    };

    use zero2ai_proto::ByteBuf;

    use super::*;
    use crate::frame::frame;

    /// Half of a pipe; tells when it was reset.
    struct Pipe(tokio::io::WriteHalf<DuplexStream>, Option<oneshot::Sender<()>>);

    impl AsyncWrite for Pipe {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl SendHalf for Pipe {
        fn reset(&mut self) {
            let _ = self.1.take().map(|told| told.send(()));
        }
        fn give_way(&mut self) {}
        fn abandoned(&self) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    /// Sends `.0` items of 4 KiB, then waits until it is cancelled, and says so.
    struct Sends(usize, Mutex<Option<oneshot::Sender<()>>>);

    impl Handler for Sends {
        fn admitted(&self, _: &NodeId) -> bool {
            true
        }
        fn call<'a>(&'a self, call: IncomingCall, mut reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
            Box::pin(async move {
                for _ in 0..self.0 {
                    reply.item::<zero2ai_proto::calls::GetChunk>(&piece()).await?;
                }
                call.cancelled.cancelled().await;
                let _ = self.1.lock().unwrap().take().unwrap().send(());
                Ok(())
            })
        }
    }

    fn piece() -> zero2ai_proto::calls::Piece {
        zero2ai_proto::calls::Piece { data: ByteBuf::from(vec![0; 4096]) }
    }

    /// Serves a call whose caller sets no limit of its own and reads nothing, over a pipe of 1 KiB.
    async fn serve_silent(items: usize, bounds: CallBounds) -> (oneshot::Receiver<()>, oneshot::Receiver<()>) {
        serve_request(request(), items, bounds).await
    }

    fn request() -> Vec<u8> {
        frame(&CallFrame { method: 1, timeout_ms: 0, body: ByteBuf::from(vec![0; 64]) }, FRAME_BYTES).unwrap()
    }

    /// The same for a caller who sends these bytes and closes its half.
    async fn serve_request(
        request: Vec<u8>,
        items: usize,
        bounds: CallBounds,
    ) -> (oneshot::Receiver<()>, oneshot::Receiver<()>) {
        let (near, far) = duplex(1024);
        let ((told_reset, reset), (told_cancelled, cancelled)) = (oneshot::channel(), oneshot::channel());
        let recv: Box<dyn AsyncRead + Send + Unpin> = Box::new(io::Cursor::new(request));
        let stream = BiStream { send: Box::new(Pipe(split(near).1, Some(told_reset))), recv };
        let (peer, from) = (zero2ai_proto::PublicKey([1; 32]), SocketAddr::from(([127, 0, 0, 1], 1)));
        let caller = Caller { peer, from, stale_key: false, wants_load: false, bounds };
        let handler = Arc::new(Sends(items, Mutex::new(Some(told_cancelled))));
        let served = serve(caller, stream, handler, CancellationToken::new());
        timeout(Duration::from_secs(15), served).await.expect("the call ends");
        drop(far);
        (reset, cancelled)
    }

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_caller_that_sets_no_limit_is_cancelled_at_ours() {
        let bounds = CallBounds { frame: FRAME_BYTES, whole: Some(SHORT), write: LONG };
        let (_, mut cancelled) = serve_silent(0, bounds).await;
        cancelled.try_recv().expect("the handler was told");
    }

    #[tokio::test]
    async fn a_request_that_ends_half_way_reaches_no_handler() {
        let bounds = CallBounds { frame: FRAME_BYTES, whole: Some(LONG), write: LONG };
        let whole = request();
        for cut in [0, 1, 3, whole.len() / 2, whole.len() - 1] {
            let (mut reset, mut cancelled) = serve_request(whole[..cut].to_vec(), 1, bounds).await;
            reset.try_recv().expect("the stream was reset");
            cancelled.try_recv().expect_err("the handler was called");
        }
    }

    #[tokio::test]
    async fn a_frame_that_nobody_takes_breaks_the_stream_off() {
        let bounds = CallBounds { frame: FRAME_BYTES, whole: Some(LONG), write: SHORT };
        let (mut reset, mut cancelled) = serve_silent(1, bounds).await;
        reset.try_recv().expect("the stream was reset");
        cancelled.try_recv().expect("the handler was told");
    }
}
