//! Model DNS: checks, publishes and looks up name records (proved by the ledger) and endpoint records (signed by
//! their node). It refuses to believe anything it did not check, wherever it came from, and knows nothing of chunks,
//! models or consensus.
//!
//! | module | owns |
//! |---|---|
//! | [`check`] | is this DHT value valid at this key, now? Pure |
//! | [`cache`] | answers kept, fresh, then stale while they are revalidated. Pure |
//! | [`resolver`] | cache → DHT, and the task that refreshes stale answers |

pub mod cache;
pub mod check;
pub mod resolver;

pub use check::{CheckError, Facts, HeaderTrust, check_value};
pub use resolver::{Names, NamesError};
