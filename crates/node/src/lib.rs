//! Builds, connects, supervises and stops every part of a node: the glue where one crate's trait meets another's
//! implementation. It knows nothing of flags and terminals.
//!
//! | module | owns |
//! |---|---|
//! | [`home`] | the home folder: keys, pool, where data lies |
//! | [`config`] | `config.toml` |
//! | [`history`] | everything a home holds of the past, checked without a node |
//! | [`node`] | start and stop, as ordered prose; the critical tasks |
//! | [`join`], `newcomer` | redeeming an invite; beginning with a snapshot of a long ledger |
//! | [`core`] | what the rooms share |
//! | [`serve`] | calls of peer RPC, by room |
//! | [`jobs`] | publishing, fetching, validating, auditing, keeping |
//! | [`http`] | the HTTP gateway as a part of the node: its token, its client |
//! | [`judge`], [`glue`] | the swarm's questions answered from the ledger; traits wired |
//! | [`models`], [`receipts`], [`directory`], `remembered`, [`account`] | what is served; the receipt log; where members are, and were before the start; the node's own transactions |
//! | [`addresses`], [`heads`] | where this node can be reached, at this moment; how often it says so, and its height |
//! | [`memory`] | which models go so that another fits |
//! | [`content`] | the secrets that chunks are sealed under |

pub mod config;
pub mod history;
pub mod home;
pub mod http;
pub mod node;

mod account;
mod addresses;
mod content;
mod core;
mod directory;
mod error;
mod forward;
mod glue;
mod heads;
mod jobs;
mod join;
mod judge;
mod memory;
mod models;
mod newcomer;
mod receipts;
mod remembered;
mod serve;
mod status;

pub use config::Config;
pub use error::NodeError;
pub use home::Home;
pub use jobs::{
    publish::inspect::{InspectedModel, Inspection, inspect},
    rounds::leaf_salt,
    store::rebuild::rebuild_store,
};
pub use node::Node;
pub use zero2ai_gateway::GatewayError;
