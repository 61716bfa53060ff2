//! One call at the serving end, from its first byte to its last.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    ByteBuf, NodeId,
    limits::FRAME_BYTES,
    rpc::{CallFrame, ErrorCode, ReplyFrame, RpcError},
};

use crate::{
    connection::{BiStream, SendHalf},
    frame::{self, FrameError, FrameReader},
    handler::{Handler, IncomingCall, ReplySink},
    load::Place,
    tuning::{CANCEL_GRACE, REPLY_QUEUE, REQUEST},
};

/// Serves the call on `stream`. `abort` cancels it; its `place` is given back at the end.
pub(crate) async fn serve(
    peer: NodeId,
    stream: BiStream,
    handler: Arc<dyn Handler>,
    abort: CancellationToken,
    _place: Place,
) {
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    let call: CallFrame = match timeout(REQUEST, recv.next(FRAME_BYTES)).await {
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
    let limit = (call.timeout_ms > 0).then(|| Duration::from_millis(call.timeout_ms));
    let cancelled = abort.child_token();
    let (queue, items) = mpsc::channel(REPLY_QUEUE);
    let incoming =
        IncomingCall { peer, method, body: call.body.into_vec(), timeout: limit, cancelled: cancelled.clone() };
    let gone = send.abandoned();
    let answer = answer(handler, incoming, ReplySink::new(queue), items, &mut *send);
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

/// Runs the handler and writes what it gives, side by side, until both are done.
async fn answer(
    handler: Arc<dyn Handler>,
    call: IncomingCall,
    sink: ReplySink,
    items: mpsc::Receiver<ByteBuf>,
    send: &mut dyn SendHalf,
) {
    let (method, peer) = (call.method, call.peer);
    // The handler is polled inside one task that ends with it: nothing that it may have left broken is used again.
    let work = AssertUnwindSafe(async { handler.call(call, sink).await }).catch_unwind();
    let (outcome, written) = tokio::join!(work, write_items(items, send));
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
    let _ = finish(send, &last).await;
}

/// Writes items until the handler has dropped its sink. On an error the queue closes, so that the handler notices.
async fn write_items(mut items: mpsc::Receiver<ByteBuf>, send: &mut dyn SendHalf) -> Result<(), FrameError> {
    while let Some(item) = items.recv().await {
        frame::write(send, &ReplyFrame::Item(item), FRAME_BYTES).await?;
    }
    Ok(())
}

async fn finish(send: &mut dyn SendHalf, last: &ReplyFrame) -> Result<(), FrameError> {
    frame::write(send, last, FRAME_BYTES).await?;
    Ok(send.shutdown().await?)
}

/// Refuses a call with an error, without reading it; gives up on a caller that does not take it.
pub(crate) async fn say_error(send: &mut dyn SendHalf, error: RpcError) {
    let _ = timeout(CANCEL_GRACE, finish(send, &ReplyFrame::Error(error))).await;
}

async fn elapsed(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}
