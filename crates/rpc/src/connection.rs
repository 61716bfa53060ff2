//! What proofs and calls stand on: an authenticated connection that opens and accepts bidirectional streams. quinn is one
//! binding ([`crate::quic`]); a relayed libp2p stream can be another without any change on the wire.

use std::{fmt, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zero2ai_proto::NodeId;

/// The writing half of a stream. `shutdown` ends it in order; dropping it half-way is an end that readers notice, since
/// every reply says when it is whole.
pub trait SendHalf: AsyncWrite + Send + Unpin {
    /// Writes all of `bytes`, which a transport that keeps them until they are acknowledged need not copy.
    fn send(&mut self, bytes: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { self.write_all(&bytes).await })
    }
    /// Breaks the stream off.
    fn reset(&mut self);
    /// From now on, other streams of the connection send first.
    fn give_way(&mut self);
    /// Completes when the other side no longer reads, or the connection is lost. Holds no borrow.
    fn abandoned(&self) -> BoxFuture<'static, ()>;
}

/// A bidirectional stream. Dropping `recv` tells the other side that nobody reads any more.
pub struct BiStream {
    /// The half to write.
    pub send: Box<dyn SendHalf>,
    /// The half to read.
    pub recv: Box<dyn AsyncRead + Send + Unpin>,
}

impl fmt::Debug for BiStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BiStream")
    }
}

/// A connection whose other end's identity is authenticated.
pub trait Connection: fmt::Debug + Send + Sync + 'static {
    /// The other end's identity.
    fn peer_id(&self) -> NodeId;
    /// Where the other end is.
    fn remote_addr(&self) -> SocketAddr;
    /// Opens a stream; waits while too many are open.
    fn open_bi(&self) -> BoxFuture<'_, io::Result<BiStream>>;
    /// The next stream that the other end opened and wrote to.
    fn accept_bi(&self) -> BoxFuture<'_, io::Result<BiStream>>;
    /// The other end has proven the pool key: from now on it may open a few streams (if it dialled).
    fn unlock(&self);
    /// The other end is one of us, too: from now on it may open many streams (if it dialled) and fill large windows.
    fn widen(&self);
    /// Current estimate of the round-trip time.
    fn rtt(&self) -> Duration;
    /// Packets received so far: while it grows, the other machine is alive.
    fn packets_received(&self) -> u64;
    /// Closes with one of [`zero2ai_proto::rpc::close`].
    fn close(&self, code: u32);
    /// Why it is closed: the other end's code if that end closed it, and words; `None` while it is open.
    fn close_reason(&self) -> Option<(Option<u32>, String)>;
}
