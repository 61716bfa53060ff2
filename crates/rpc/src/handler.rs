//! What a server implements, and what it is given.

use std::{net::SocketAddr, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    NodeId, decode,
    limits::FRAME_BYTES,
    rpc::{ErrorCode, Load, Method, RpcError},
};

use crate::frame::item_frame;

/// Answers calls. Each runs in a task of its own; a panic fails that call alone, with `Internal`.
pub trait Handler: Send + Sync + 'static {
    /// True if `node` is one of the pool's, by the ledger. Asked for every connection and every call, so it must answer
    /// from memory. Others share a few connections and calls among them all (see
    /// [`crate::tuning::STRANGER_CONNECTIONS`]); what they may ask is for [`Handler::call`] to say. The node's own
    /// identity is not asked for.
    fn admitted(&self, node: &NodeId) -> bool;

    /// How busy this node is, told with the answer to a call of `method`; `None` if nobody chooses where to make such calls.
    /// Asked once a call of a member's, so it must answer from memory.
    fn load(&self, method: u16) -> Option<Load> {
        let _ = method;
        None
    }

    /// Answers one call: items go to `reply`, `Ok` ends them as a whole answer, `Err` is told to the caller. When
    /// `call.cancelled` fires, it should end soon: it is dropped after [`crate::tuning::CANCEL_GRACE`].
    fn call<'a>(&'a self, call: IncomingCall, reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>>;
}

/// A call to be answered.
#[derive(Debug)]
pub struct IncomingCall {
    /// Who calls: authenticated, and proven to hold a pool key; not necessarily admitted on the ledger.
    pub peer: NodeId,
    /// From where, as this node sees it.
    pub from: SocketAddr,
    /// What the caller proved is an earlier pool key past its grace: nothing may be answered but what it needs to get the newer
    /// one. Only of admitted identities; others are not let in with it.
    pub stale_key: bool,
    /// Which method: [`Method::ID`].
    pub method: u16,
    /// The encoded request, at most [`FRAME_BYTES`] long; of an identity that is not admitted, at most
    /// [`crate::tuning::STRANGER_FRAME`].
    pub body: Vec<u8>,
    /// How long the caller waits, from now, as far as [`crate::tuning::CALL`] allows; `None` is no limit, for the node's
    /// own identity alone.
    pub timeout: Option<Duration>,
    /// Fires when the caller goes away, its time is over, or the server stops and has waited long enough.
    pub cancelled: CancellationToken,
}

impl IncomingCall {
    /// The request of method `M`.
    ///
    /// # Errors
    /// `Invalid`, ready to be returned to the caller.
    pub fn request<M: Method>(&self) -> Result<M::Request, RpcError> {
        decode(&self.body, FRAME_BYTES)
            .map_err(|e| RpcError::new(ErrorCode::Invalid, format!("the request of {} cannot be read: {e}", M::NAME)))
    }
}

/// Where a call's answer goes, item by item.
#[derive(Debug)]
pub struct ReplySink {
    queue: mpsc::Sender<Vec<u8>>,
}

impl ReplySink {
    pub(crate) fn new(queue: mpsc::Sender<Vec<u8>>) -> Self {
        Self { queue }
    }

    /// Sends one item. Waits while the caller reads too slowly and [`crate::tuning::REPLY_QUEUE`] items are queued.
    ///
    /// # Errors
    /// The item is too large (`Internal`), or the caller went away (`Timeout`): return it, nobody will see it.
    pub async fn item<M: Method>(&mut self, item: &M::Reply) -> Result<(), RpcError> {
        let bad = |e| RpcError::new(ErrorCode::Internal, format!("an answer of {}: {e}", M::NAME));
        let frame = item_frame(item, FRAME_BYTES).map_err(bad)?;
        let gone = |_| RpcError::new(ErrorCode::Timeout, "the caller went away");
        self.queue.send(frame).await.map_err(gone)
    }
}
