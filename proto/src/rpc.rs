//! Frames of peer RPC: every frame is a big-endian `u32` length and that many bytes of canonical CBOR.
//!
//! On the connection's first stream the dialler proves the pool key, then the listener, then both say [`Hello`].
//! After that each call is one bidirectional stream: one [`CallFrame`] out, [`ReplyFrame`]s back until one is last.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::{
    codec::{CodecError, encode_onto, encode_string_onto},
    ids::PoolId,
};

/// ALPN of peer RPC.
pub const ALPN: &[u8] = b"zero2ai/1";
/// The protocol version this program speaks.
pub const PROTOCOL: u16 = 1;

/// Application codes with which a connection is closed. They are all that a side which did not prove the key learns.
pub mod close {
    /// No longer needed.
    pub const DONE: u32 = 0;
    /// The proof of the pool key did not verify.
    pub const WRONG_KEY: u32 = 1;
    /// The handshake was malformed, too slow, or speaks no common version.
    pub const HANDSHAKE: u32 = 2;
    /// Too many connections; try later.
    pub const BUSY: u32 = 3;
    /// The node is stopping.
    pub const STOPPING: u32 = 4;
}

/// First frame of each side: randomness for the proof, and the epoch of the key it will use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 32 random bytes.
    pub nonce: ByteBuf,
    /// Epoch of the pool key.
    pub epoch: u32,
}

/// Second frame of each side: [`crate::pool::PoolKey::proof`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// 32 bytes.
    pub mac: ByteBuf,
}

/// Third frame of each side, once both proofs were checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The pool served.
    pub pool: PoolId,
    /// Lowest protocol version spoken.
    pub min_version: u16,
    /// Highest protocol version spoken.
    pub max_version: u16,
    /// Bits for optional features: [`FEATURE_LOAD`]. Others mean nothing yet, and are no error.
    pub features: u64,
}

/// Bit of [`Hello::features`]: the side that says so understands [`ReplyFrame::Load`].
pub const FEATURE_LOAD: u64 = 1;

/// What a node has to do at the moment, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Calls being served or waiting.
    pub queue: u32,
    /// What that queue means: expected wait before a new prediction starts, microseconds.
    pub queue_us: u64,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFrame {
    /// Which method: [`Method::ID`].
    pub method: u16,
    /// How long the caller will wait, milliseconds; 0 is no limit of its own. A node ends every call of another identity
    /// after ten minutes.
    pub timeout_ms: u64,
    /// The encoded request.
    pub body: ByteBuf,
}

/// An answer or part of one; a reader may borrow the item, as `ReplyFrame<&Bytes>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplyFrame<B = ByteBuf> {
    /// One encoded item; more follow.
    Item(B),
    /// The stream of items is over, and it was whole.
    End,
    /// The call failed.
    Error(RpcError),
    /// How busy the node is, at most once and right before `End` or `Error`; only to callers whose `Hello` had [`FEATURE_LOAD`].
    Load(Load),
}

impl ReplyFrame {
    /// Appends to `bytes` what stands for `ReplyFrame::Item` of `item`'s encoding, of which no copy is made.
    ///
    /// # Errors
    /// As [`crate::encode`].
    pub fn encode_item_onto<T: Serialize>(item: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_onto(&Self::Item(ByteBuf::new()), bytes)?;
        // The empty byte string at its end gives way to the item's.
        bytes.pop();
        encode_string_onto(item, bytes)
    }
}

/// Why a call failed, for programs (`code`) and for people (`message`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// The kind of failure.
    pub code: ErrorCode,
    /// One paragraph: what failed, why, what to do.
    pub message: String,
}

impl RpcError {
    /// An error with this code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Kinds of failure. The order is the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The request is malformed or out of bounds; sending it again will not help.
    Invalid,
    /// The caller lacks the right.
    Denied,
    /// No such name, model, chunk or block here.
    NotFound,
    /// Too much work at the moment; try another endpoint, or later.
    Busy,
    /// The deadline passed.
    Timeout,
    /// The method is not known to this node.
    Unsupported,
    /// The chain is halted or too far behind for this answer.
    Unavailable,
    /// Something broke on this side.
    Internal,
    /// The clocks of the two sides differ by too much.
    Clock,
    /// The disk is full or refuses writes.
    Storage,
    /// The model cannot be run, or failed while running.
    Model,
}

/// A method of peer RPC: what goes in, what comes back, and its number.
pub trait Method {
    /// Its number on the wire; never reused.
    const ID: u16;
    /// Its name, for logs and errors.
    const NAME: &'static str;
    /// Body of the call.
    type Request: Serialize + DeserializeOwned + Send;
    /// Body of each item of the reply; methods with one answer send one item.
    type Reply: Serialize + DeserializeOwned + Send;
}

/// Declares methods: number, name, request and reply types.
#[macro_export]
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $id:literal: $request:ty => $reply:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl $crate::rpc::Method for $name {
                const ID: u16 = $id;
                const NAME: &'static str = stringify!($name);
                type Request = $request;
                type Reply = $reply;
            }
        )*
    };
}
