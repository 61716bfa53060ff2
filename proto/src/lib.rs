//! Every byte that crosses a wire or is signed: ids, keys, manifests, records, transactions, receipts, RPC frames.
//!
//! This crate knows nothing of tokio, disks, sockets or clocks: callers pass the time in.
//!
//! | module | owns |
//! |---|---|
//! | [`codec`] | the one codec: canonical CBOR, bounded, checked by re-encoding |
//! | [`ids`] | 32-byte identifiers and how each is derived |
//! | [`keys`] | Ed25519 keys and signatures, X25519 sealing keys |
//! | [`envelope`] | what is signed: `{kind, version, body}`, bound to a pool |
//! | [`limits`] | every bound a peer meets, with its reason |
//! | [`name`] | `publisher/model[@version|:channel]` |
//! | [`pool`] | genesis, pool key, tickets, invites, the pool proof |
//! | [`manifest`] | what a model is made of, plain and sealed |
//! | [`tensor`], [`texts`] | tensors on the wire, and texts as tensors |
//! | [`prepare`] | how a picture or a sound becomes tensors |
//! | [`tx`], [`block`], [`state`], [`proof`] | the ledger: transactions, headers, certificates, state entries, proofs |
//! | [`evidence`] | two statements of one signer that contradict each other |
//! | [`vrf`] | outputs of a key that nobody can choose, and their proofs |
//! | [`consensus`] | what signers gossip: votes, proposals, round certificates, heads |
//! | [`record`] | what the DHT carries: name records and endpoint records |
//! | [`receipt`] | signed requests, signed responses, receipts, audit exports |
//! | [`kept`] | a call as its caller keeps it, to be checked and run again |
//! | [`outcome`] | what a caller learns later of an answer, for the model's owner |
//! | [`rpc`], [`calls`], [`local`] | frames of peer RPC, its methods, and those only a node's own key may call |
//! | [`worker`] | frames between a node and its worker process |

pub mod block;
pub mod calls;
pub mod codec;
pub mod consensus;
pub mod envelope;
pub mod evidence;
pub mod ids;
pub mod kept;
pub mod keys;
pub mod limits;
pub mod local;
pub mod manifest;
pub mod name;
pub mod outcome;
pub mod pool;
pub mod prepare;
pub mod proof;
pub mod receipt;
pub mod record;
pub mod rpc;
pub mod sample;
pub mod state;
pub mod tensor;
pub mod texts;
pub mod tx;
pub mod vrf;
pub mod worker;

pub use codec::{CodecError, decode, encode, encode_onto};
pub use envelope::{Message, Signed, VerifyError};
pub use ids::{BlockId, Cid, Digest, ManifestId, PoolId, TxId};
pub use keys::{AccountId, NodeId, PublicKey, SealingKey, SecretKey, Signature};
pub use name::{ModelName, ModelRef};
pub use serde_bytes::{ByteBuf, Bytes};
