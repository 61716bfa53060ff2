//! Endpoints that failed lately: they go to the back of the line for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use zero2ai_proto::NodeId;

/// How long a failure is held against an endpoint. It is still used when nobody else is left.
const BENCH: Duration = Duration::from_secs(30);
/// Failures remembered. When full, all are forgotten: the worst is a wasted attempt each.
const REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Health {
    until: Mutex<HashMap<NodeId, Instant>>,
}

impl Health {
    /// `node` failed now.
    pub(crate) fn failed(&self, node: NodeId) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, end| *end > now);
        if until.len() >= REMEMBERED {
            until.clear();
        }
        until.insert(node, now + BENCH);
    }

    /// `node` answered.
    pub(crate) fn answered(&self, node: &NodeId) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// True if `node` failed lately.
    pub(crate) fn is_benched(&self, node: &NodeId) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(node).is_some_and(|end| *end > Instant::now())
    }
}
