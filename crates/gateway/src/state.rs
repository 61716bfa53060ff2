//! What requests share: the client, the names resolved lately, and the limit on work in hand.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zero2ai_client::{Client, Resolution};
use zero2ai_proto::{
    ModelRef,
    calls::Empty,
    local::{NodeStatus, NodeStatusReply},
};

use crate::{body, fault::Fault, guard::Token, metrics::Metrics, server::Upstream};

/// Predictions and texts in hand; beyond that the caller hears 429 at once. Each may hold a body of 4 MiB and what it is
/// read into, so this bounds memory at about a gigabyte.
const WORK: usize = 32;
/// How long a resolved name is used again without asking. Longer, and a withdrawn version is served for as long.
const FRESH: Duration = Duration::from_secs(2);
/// Names remembered. When full, all are forgotten: the worst is a lookup each.
const NAMES: usize = 256;
/// Patience for what the node answers from memory.
const QUICK: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    upstream: Upstream,
    pub(crate) token: Token,
    pub(crate) metrics: Metrics,
    work: Arc<Semaphore>,
    names: Mutex<HashMap<String, (Instant, Arc<Resolution>)>>,
}

impl Shared {
    pub(crate) fn new(client: Client, upstream: Upstream, token: Token) -> Self {
        let work = Arc::new(Semaphore::new(WORK));
        Self { client, upstream, token, metrics: Metrics::default(), work, names: Mutex::default() }
    }

    /// A place among the work in hand, given back when dropped, and the body that may now be read. Where there is no place,
    /// the body is let go by.
    pub(crate) async fn enter(&self, body: Body) -> Result<(OwnedSemaphorePermit, Body), Fault> {
        match Arc::clone(&self.work).try_acquire_owned() {
            Ok(place) => Ok((place, body)),
            Err(_) => {
                body::discard(body).await;
                Err(Fault::busy(format!("{WORK} requests are in hand, and no more are taken: try again in a moment")))
            }
        }
    }

    /// What the node behind the gateway says of itself.
    pub(crate) async fn status(&self) -> Result<NodeStatusReply, Fault> {
        let Upstream { node, addresses } = &self.upstream;
        let status = self.client.call::<NodeStatus>(*node, addresses, &Empty {}, QUICK).await;
        Ok(status.map_err(zero2ai_client::ClientError::from)?)
    }

    /// Looks a name up, or takes the answer of a moment ago.
    pub(crate) async fn resolve(&self, name: &ModelRef) -> Result<Arc<Resolution>, Fault> {
        let key = name.to_string();
        {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, found)) = names.get(&key)
                && at.elapsed() < FRESH
            {
                return Ok(Arc::clone(found));
            }
        }
        let found = Arc::new(self.client.resolve(name, false).await?);
        if !found.endpoints.is_empty() {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.len() >= NAMES {
                names.clear();
            }
            names.insert(key, (Instant::now(), Arc::clone(&found)));
        }
        Ok(found)
    }

    /// Forgets a name whose endpoints did not do, so that the next request asks afresh.
    pub(crate) fn forget(&self, name: &ModelRef) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.to_string());
    }
}
