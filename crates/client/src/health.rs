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
/// The same for having no place just now.
const FULL: Duration = Duration::from_secs(2);
/// The same for taking far longer than it says its calls take.
const SLOW: Duration = Duration::from_secs(10);
/// Failures remembered. When full, all are forgotten: the worst is a wasted attempt each.
const REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Until when, and whether it was reached: then a ping says nothing new.
    until: Mutex<HashMap<NodeId, (Instant, bool)>>,
}

impl Health {
    /// `node` failed now.
    pub(crate) fn failed(&self, node: NodeId) {
        self.bench(node, BENCH, false);
    }

    /// `node` has no place now.
    pub(crate) fn full(&self, node: NodeId) {
        self.bench(node, FULL, true);
    }

    /// `node` takes far longer than it says.
    pub(crate) fn slow(&self, node: NodeId) {
        self.bench(node, SLOW, true);
    }

    fn bench(&self, node: NodeId, span: Duration, reached: bool) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, (end, _)| *end > now);
        if until.len() >= REMEMBERED {
            until.clear();
        }
        until.insert(node, (now + span, reached));
    }

    /// `node` answered a ping: it is there, and may still have too much to do.
    pub(crate) fn reached(&self, node: &NodeId) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.get(node).is_some_and(|(_, reached)| !reached) {
            until.remove(node);
        }
    }

    /// `node` answered.
    pub(crate) fn answered(&self, node: &NodeId) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// True if `node` failed lately.
    pub(crate) fn is_benched(&self, node: &NodeId) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get(node).is_some_and(|(end, _)| *end > Instant::now())
    }
}
