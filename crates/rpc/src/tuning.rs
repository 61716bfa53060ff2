//! Every bound and every delay of peer RPC, each with its unit, its reason, and what happens beyond it.

use std::time::Duration;

/// TLS and the pool proof together. Somebody without the key holds one of [`UNPROVEN`] places for at most this long.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that have not proven the pool key yet, all together. More are refused unanswered.
pub const UNPROVEN: usize = 256;
/// Of these, from one IPv4 address or one IPv6 network (/64): no single machine can keep everybody else out. Nodes
/// behind one NAT share it, each for a fraction of a second.
pub const UNPROVEN_PER_IP: usize = 16;
/// The same on this machine, where tests and demos put a whole pool.
pub const UNPROVEN_LOOPBACK: usize = 64;
/// Unproven connections from which on a dialler must show, by a QUIC Retry, that its address is its own.
pub const RETRY_FROM: usize = 32;
/// The same for those from one IP address: nobody can use up another's share by forging its address.
pub const RETRY_FROM_PER_IP: usize = 4;
/// Proven connections of members. More are closed with `BUSY`.
pub const CONNECTIONS: usize = 1_024;
/// Of these, connections of one member. Its node needs one; each command at work on its machine makes one more, and one that
/// was killed stays until it idles out.
pub const CONNECTIONS_PER_PEER: usize = 64;
/// Connections of the node's own identity: each run of the command line is one, and scripts run many.
pub const OWN_CONNECTIONS: usize = 256;
/// Calls of one peer being served, over all its connections. More are answered `Busy` at once.
pub const CALLS_PER_PEER: usize = 64;
/// Calls being served, all together. More are answered `Busy` at once.
pub const CALLS: usize = 1_024;
/// Connections of identities that hold the pool key and are not admitted, all together: they come to redeem a ticket.
/// Whoever has the key can make as many identities as it likes. More are closed with `BUSY`.
pub const STRANGER_CONNECTIONS: usize = 32;
/// Their calls being served, all together. More are answered `Busy` at once.
pub const STRANGER_CALLS: usize = 8;
/// Of both, those of one such identity.
pub const STRANGER_SHARE: usize = 4;
/// Bytes in a request of theirs: a ticket fits twice. Larger is answered `Invalid`.
pub const STRANGER_FRAME: usize = 64 * 1024;
/// Bytes in flight on their connections.
pub const STRANGER_WINDOW: u32 = 256 * 1024;
/// Streams on their connections.
pub const STRANGER_STREAMS: u32 = 8;
/// How often a connection is asked whether its identity is admitted; if not, it is closed. Longer than any admission
/// takes.
pub const STRANGER_LIFE: Duration = Duration::from_secs(120);
/// Longest time for one call, whatever the caller allows: then it is cancelled, as at the caller's own limit. The node's
/// own identity is not bounded.
pub const CALL: Duration = Duration::from_secs(600);
/// How long a caller may take to take one frame of an answer: 4 MiB at 1.1 Mbit/s. A slower stream is broken off.
pub const WRITE: Duration = Duration::from_secs(30);
/// Streams a member may have open: twice [`CALLS_PER_PEER`], so that the surplus learns that it is too much instead
/// of waiting for a place without a word.
pub const STREAMS: u32 = 128;
/// How long a caller may take to send its request. A stream that is slower is dropped.
pub const REQUEST: Duration = Duration::from_secs(20);
/// Replies that wait for a slow reader, per call. When full, [`crate::ReplySink::item`] waits.
pub const REPLY_QUEUE: usize = 8;
/// Bytes of an item from which on its answer lets all smaller ones go first: a chunk of a model must not delay a token.
pub const LARGE: usize = 64 * 1024;
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
/// How long the addresses of a node are dialled alone before [`crate::Detour`] is asked for another: about six round trips
/// over half the globe.
pub const HEAD_START: Duration = Duration::from_secs(1);
/// The same for a node that was reached by a detour of late, or says itself that it is behind a NAT: callers on its own network
/// still come directly.
pub const SHORT_START: Duration = Duration::from_millis(150);
/// How long it is remembered that a node was reached by a detour.
pub const DETOURED: Duration = Duration::from_secs(300);
/// Time for a detour: asking for it, and the handshake through it.
pub const DETOUR: Duration = Duration::from_secs(10);

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
/// Bytes in flight on one member's connection, each way.
pub const WINDOW: u32 = 64 * 1024 * 1024;
/// Bytes in flight on a connection that has not proven the key: some handshake frames. What a stranger can make us hold.
pub const UNPROVEN_WINDOW: u32 = 4 * 1024;
/// Bytes of kernel buffer asked for, each way; the kernel may grant less.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
