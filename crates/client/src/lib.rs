//! The client library applications link: peer RPC with proofs checked; no libp2p, no database. It knows nothing of the
//! daemon's insides, and trusts no node: names are checked against the genesis, answers against their receipts.
//!
//! ```no_run
//! # async fn example(config: zero2ai_client::ClientConfig, inputs: Vec<zero2ai_proto::tensor::Tensor>)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! let client = zero2ai_client::Client::connect(config).await?;
//! let found = client.resolve(&"lab/digits:stable".parse()?, false).await?;
//! let answer = client.predict(&found, inputs, Duration::from_secs(5)).await?;
//! println!("{} answered in {:?}", answer.node, answer.took);
//! # Ok(()) }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `client` | [`Client`]: connecting, and calls of any method |
//! | `nodes` | who is asked for names and proofs: nodes it began with, providers it met |
//! | `account` | the client's own identity on the ledger: admission, transactions |
//! | `membership` | joining with an invite; the account's key and pool in a file |
//! | `pool_key` | the newest pool key, checked against the ledger |
//! | `trust` | the chain of signer sets from the genesis, kept and extended |
//! | `resolve` | names to endpoints: every proof checked, endpoints measured and ranked |
//! | `recent` | names looked up a moment ago |
//! | `choice` | which endpoint a call goes to, by what is known at that moment |
//! | `order` | signing a request, and checking a response against it |
//! | `predict`, `embed`, `generate` | predictions, embeddings and text, going on to the next endpoint when one is gone |
//! | `outcome` | what was true of a call, told to the model's owner |
//! | `describe` | what a model takes and gives |
//! | `prepare` | how pictures and sounds become what it takes |
//! | `receipts` | a provider's receipts, proved under its anchor |
//! | `audit` | all that ledger and providers know of a model, put together and checked here |
//! | `health` | endpoints that failed lately |
//! | `error`, `kind` | what can fail, and the word for it that programs are given |

mod account;
mod audit;
mod choice;
mod client;
mod describe;
mod embed;
mod error;
mod generate;
mod health;
mod kind;
mod membership;
mod nodes;
mod order;
mod outcome;
mod pool_key;
mod predict;
mod prepare;
mod receipts;
mod recent;
mod resolve;
mod trust;

pub use account::Admission;
pub use audit::Audit;
pub use client::{Client, ClientConfig};
pub use embed::Embedded;
pub use error::ClientError;
pub use generate::{TextEnd, TextEvent, TextStream};
pub use kind::ErrorKind;
pub use membership::Membership;
pub use outcome::OutcomeSent;
pub use predict::Prediction;
pub use resolve::{Resolution, ResolvedEndpoint};
pub use zero2ai_ledger::{AuditReport, TrustedChain};
pub use zero2ai_placement::Wishes;
pub use zero2ai_proto::{calls::Submitted, prepare::Preparation};
pub use zero2ai_rpc::{BindError, CallError, ConnectError, Replies};
