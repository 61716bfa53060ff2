//! What requests share: the client, and the limit on work in hand.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::request::Parts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zero2ai_client::{Client, ClientError, Resolution};
use zero2ai_proto::{
    ModelRef,
    calls::Empty,
    local::{ModelsReply, ModelsShow, NodeStatus, NodeStatusReply},
};

use crate::{
    body,
    fault::Fault,
    guard::{Access, Caller},
    metrics::Metrics,
    server::Upstream,
    usage::{Bill, Meter, Need},
};

/// Predictions and texts in hand; beyond that the caller hears 429 at once. Each may hold a body of 4 MiB and what it is
/// read into, so this bounds memory at about a gigabyte.
const WORK: usize = 32;
/// Patience for what the node answers from memory.
const QUICK: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    upstream: Upstream,
    pub(crate) access: Access,
    pub(crate) metrics: Metrics,
    meter: Arc<Meter>,
    work: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(client: Client, upstream: Upstream, access: Access, meter: Arc<Meter>) -> Self {
        let work = Arc::new(Semaphore::new(WORK));
        Self { client, upstream, access, metrics: Metrics::default(), meter, work }
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

    /// Lets a call of who sent `request` begin if its token's budget allows it.
    pub(crate) async fn bill(&self, request: &Parts, need: Need) -> Result<Bill, Fault> {
        let caller = request.extensions.get::<Caller>().ok_or_else(|| Fault::internal("a request without a token"))?;
        self.meter.start(caller, need).await
    }

    /// What the node behind the gateway says of itself.
    pub(crate) async fn status(&self) -> Result<NodeStatusReply, Fault> {
        let Upstream { node, addresses } = &self.upstream;
        let status = self.client.call::<NodeStatus>(*node, addresses, &Empty {}, QUICK).await;
        Ok(status.map_err(zero2ai_client::ClientError::from)?)
    }

    /// What is in the memory of the node behind the gateway.
    pub(crate) async fn models(&self) -> Result<ModelsReply, ClientError> {
        let Upstream { node, addresses } = &self.upstream;
        Ok(self.client.call::<ModelsShow>(*node, addresses, &Empty {}, QUICK).await?)
    }

    /// Looks a name up, or takes the answer of a moment ago.
    pub(crate) async fn resolve(&self, name: &ModelRef) -> Result<Arc<Resolution>, Fault> {
        Ok(self.client.find(name).await?)
    }

    /// Forgets a name whose endpoints did not do, so that the next request asks afresh.
    pub(crate) fn forget(&self, name: &ModelRef) {
        self.client.forget(name);
    }
}
