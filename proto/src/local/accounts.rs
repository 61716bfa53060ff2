//! Local methods about the accounts that a node answered.

use serde::{Deserialize, Serialize};

use crate::{calls::Empty, keys::NodeId, methods};

methods! {
    /// What each account had of this node, by the receipts of its log, one item each.
    AccountsUse = 130: Empty => AccountUse;
}

/// One item of the answer to [`AccountsUse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUse {
    /// The account.
    pub account: NodeId,
    /// Receipts that it and the node signed.
    pub receipts: u64,
    /// Their units: rows predicted and tokens generated.
    pub units: u64,
    /// When the newest was signed, milliseconds since 1970 UTC.
    pub last_ms: u64,
}
