//! Every bound and every delay of peer RPC, each with its unit, its reason, and what happens beyond it.

use std::time::Duration;

/// TLS and the pool proof together. A stranger holds one of [`UNPROVEN`] places for at most this long.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that have not proven the pool key yet, all together. More are refused unanswered.
pub const UNPROVEN: usize = 256;
/// Unproven connections from which on a dialler must show, by a QUIC Retry, that its address is its own.
pub const RETRY_FROM: usize = 32;
/// Proven connections of one server. More are closed with `BUSY`.
pub const CONNECTIONS: usize = 1_024;
/// Calls of one peer being served, over all its connections. More are answered `Busy` at once.
pub const CALLS_PER_PEER: usize = 64;
/// Calls being served, all together. More are answered `Busy` at once.
pub const CALLS: usize = 1_024;
/// Streams a proven peer may have open: twice [`CALLS_PER_PEER`], so that the surplus learns that it is too much instead
/// of waiting for a place without a word.
pub const STREAMS: u32 = 128;
/// How long a caller may take to send its request. A stream that is slower is dropped.
pub const REQUEST: Duration = Duration::from_secs(20);
/// Replies that wait for a slow reader, per call. When full, [`crate::ReplySink::item`] waits.
pub const REPLY_QUEUE: usize = 8;
/// How long a cancelled call may go on, to sign a partial receipt or undo what it began. Then it is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long a stopping server waits for calls in progress before it cancels them.
pub const DRAIN: Duration = Duration::from_secs(3);
/// How long a stopping server lets the last answers travel before it closes a connection, which discards what is not
/// sent yet.
pub const FLUSH: Duration = Duration::from_millis(200);
/// Connections kept by [`crate::Peers`]. The least recently used goes.
pub const CACHED_PEERS: usize = 256;
/// Addresses of one node dialled at once by [`crate::Peers`]; the rest are not tried.
pub const DIALS: usize = 4;

/// The dialling end pings when nothing else was sent for so long: keeps NATs open, and shows within [`PATIENCE`] that a
/// peer died. Costs two small packets.
pub const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A connection without a packet for so long is closed by QUIC. Long enough for a laptop's short sleep.
pub const IDLE: Duration = Duration::from_secs(15);
/// A call that waits for a peer whose machine has not sent a single packet for so long fails with
/// [`crate::CallError::Closed`], however long its own timeout is: four missed pings. Too small, and a starved but living
/// peer is given up; [`crate::Peer::with_patience`] changes it for calls that are dear to repeat.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes in flight on one stream: 16 MiB carries 1.3 Gbit/s over 100 ms.
pub const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes in flight on one proven connection, each way.
pub const WINDOW: u32 = 64 * 1024 * 1024;
/// Bytes in flight on a connection that has not proven the key: some handshake frames. What a stranger can make us hold.
pub const UNPROVEN_WINDOW: u32 = 4 * 1024;
/// Bytes of kernel buffer asked for, each way; the kernel may grant less.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
