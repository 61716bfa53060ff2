//! The local HTTP face of a node: programs that speak OpenAI's API or the Open Inference Protocol reach every model of the
//! network by changing one base URL. It stands on [`zero2ai_client::Client`] alone: names are resolved and proved, and calls
//! go to the nearest peer over QUIC. It knows nothing of consensus, gossip, or the node it runs in.
//!
//! Never open: every request needs a bearer token and no foreign `Origin`, and beyond loopback there is TLS.
//!
//! | module | owns |
//! |---|---|
//! | [`server`] | [`Gateway`]: the listener, connections and their limits, stopping |
//! | [`routes`] | which path is answered by whom; what every request passes first |
//! | [`guard`] | who may ask: host, origin, token |
//! | [`tokens`] | tokens beside the first: scopes, expiry, rates, budgets; their file |
//! | [`usage`] | what each token has used, durably, and whether its budget allows more |
//! | [`tls`] | certificate and key, or one made here |
//! | [`state`] | what requests share: the client, the limit on work in hand |
//! | [`openai`] | `/v1`: models, chat completions, completions, streamed or whole |
//! | [`oip`] | `/v2`: health, metadata, inference, with binary tensors |
//! | [`body`] | reading a request's body within its bounds |
//! | [`fault`] | what goes wrong, and how each protocol says it |
//! | [`metrics`] | `/metrics` for Prometheus |

mod body;
mod error;
mod fault;
mod guard;
mod metrics;
mod oip;
mod openai;
mod routes;
mod server;
mod state;
pub mod tls;
pub mod tokens;
pub mod usage;

pub use error::GatewayError;
pub use guard::{FIRST, Token, TokenError};
pub use server::{Gateway, Listen, Upstream};
