//! Names to endpoints. The node that is asked can withhold, but not lie: the name, the version and every endpoint carry
//! proofs or signatures that are checked here, and round trips are measured here.

use std::{collections::BTreeMap, future::Future, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{Instant, timeout, timeout_at};
use zero2ai_clock::now_ms;
use zero2ai_ledger::{LightError, light::name::proven, verify_name_record};
use zero2ai_placement::{Candidate, Offer, Wishes, rank};
use zero2ai_proto::{
    ManifestId, ModelName, ModelRef, NodeId, PoolId, Signed,
    calls::{Empty, Ping, Resolve, ResolveCall, Resolved, Source},
    limits::ADDRESSES,
    name::Selector,
    record::{Address, EndpointRecord, is_region},
    state::{Model, Version, key},
};

use crate::{choice::note, client::Client, error::ClientError};

/// Patience for a lookup that goes through the DHT.
const LOOKUP: Duration = Duration::from_secs(15);
/// Patience for one endpoint's ping, dialling included: one that needs longer is as good as gone.
const PROBE: Duration = Duration::from_secs(1);
/// Endpoints measured at a time.
const PROBES: usize = 8;
/// How long the others are waited for once one endpoint answered: one that takes so much longer is not the nearest.
const GRACE: Duration = Duration::from_millis(300);
/// Endpoints taken from one answer; the rest are not looked at.
const ENDPOINTS: usize = 64;
/// How often a version that is not proven yet is asked for again: the node knows it a block before it can prove it.
const PROVING: u32 = 6;
/// How long between: about a block.
const BLOCK: Duration = Duration::from_millis(500);

/// A name, looked up and proved.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The model.
    pub name: ModelName,
    /// The version meant.
    pub version: u32,
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// The version's entry on the ledger.
    pub entry: Version,
    /// Who serves it, nearest first; those that did not answer a ping come last.
    pub endpoints: Vec<ResolvedEndpoint>,
    /// Endpoints beside these that serve it, and that this client does not wish: see [`Client::wish`].
    pub left_out: usize,
    /// Where the node had the name from.
    pub source: Source,
    /// How long the lookup took, without measuring endpoints.
    pub took: Duration,
    /// How old the newest header is that the name record stands under, by this machine's clock.
    pub record_age: Duration,
    /// Height of the header that proves the version.
    pub height: u64,
}

/// A node that signed that it serves the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedEndpoint {
    /// The node.
    pub node: NodeId,
    /// Where it says it is.
    pub addresses: Vec<Address>,
    /// Measured round trip of a ping; `None` if none came back in time, or it was not measured.
    pub rtt: Option<Duration>,
    /// Expected wait before a new prediction starts, microseconds, as it says itself.
    pub queue_us: u64,
    /// Its record is not to be used after this, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// Where it stands, as it says itself.
    pub region: Option<String>,
    /// What it asks for a prediction, in the pool's smallest unit.
    pub price: u64,
}

impl ResolvedEndpoint {
    /// What a caller's wishes add to its cost; `None` if they leave it out.
    pub(crate) fn extra_us(&self, wishes: &Wishes) -> Option<u64> {
        wishes.extra_us(Offer { node: &self.node, region: self.region.as_deref(), price: self.price })
    }
}

impl Client {
    /// Looks `name` up, checks every part of the answer, and measures and ranks the endpoints. With `fresh`, the node asks
    /// the network even if its cache has an answer. A name that nobody serves gives no endpoints, which is no error, and nor does
    /// one whose endpoints all are what this client does not wish ([`Client::wish`]).
    ///
    /// # Errors
    /// No such name (`NotFound`, or proven by [`LightError::Missing`]), a proof that does not hold, a withdrawn version.
    pub async fn resolve(&self, name: &ModelRef, fresh: bool) -> Result<Resolution, ClientError> {
        let start = Instant::now();
        let request = ResolveCall { name: name.clone(), fresh };
        let mut tries = 0;
        let (found, node, proved) = loop {
            let (found, node) = self.ask::<Resolve>(&request, LOOKUP).await?;
            match self.check(name, &found, &node).await {
                Err(ClientError::Proof(LightError::Missing(_))) if tries < PROVING => {
                    tries += 1;
                    tokio::time::sleep(BLOCK).await;
                }
                other => break (found, node, other?),
            }
        };
        let (version, entry, time_ms, height) = proved;
        if entry.withdrawn {
            return Err(ClientError::Withdrawn { name: name.name.clone(), version });
        }
        let took = start.elapsed();
        let manifest = entry.manifest;
        let mut endpoints = endpoints(&found.endpoints, &self.pool(), (&name.name, version, manifest), now_ms());
        if endpoints.is_empty() && !found.endpoints.is_empty() {
            tracing::warn!(node = %node.short(), "no endpoint record of the answer holds");
        }
        let (wishes, all) = (self.wishes(), endpoints.len());
        endpoints.retain(|endpoint| endpoint.extra_us(&wishes).is_some());
        let left_out = all - endpoints.len();
        self.measure(&mut endpoints).await;
        self.put_first(&name.name, version, &mut endpoints);
        Ok(Resolution {
            name: name.name.clone(),
            version,
            manifest,
            entry,
            endpoints,
            left_out,
            source: found.source,
            took,
            record_age: Duration::from_millis(now_ms().saturating_sub(time_ms)),
            height,
        })
    }

    /// Checks the name record and the version's proof; gives the version's number and entry, the record's time, and the
    /// height of the version's proof.
    async fn check(
        &self,
        name: &ModelRef,
        found: &Resolved,
        node: &NodeId,
    ) -> Result<(u32, Version, u64, u64), ClientError> {
        let (model, _, _, record) = self.checked(|chain| verify_name_record(chain, &found.record, &name.name)).await?;
        let header = self.verify_header(&found.version_header).await?;
        if header.height < record.height {
            // An older state than the record's would hide a withdrawal; a node that is a block behind will catch up.
            return Err(LightError::Missing(format!("the version {name} as of height {}", record.height)).into());
        }
        let mut version = pick(&model, &name.selector);
        if version.is_none_or(|v| found.version.key.as_slice() != key::version(&name.name, v)) {
            // The record may be older than the ledger: the model's entry as it is now decides.
            let now: Option<Model> = self.entry(&key::model(&name.name)).await?;
            version = now.and_then(|model| pick(&model, &name.selector));
        }
        let missing = || LightError::Missing(format!("the version {name}"));
        let version = version.ok_or_else(missing)?;
        let wanted = key::version(&name.name, version);
        if found.version.key.as_slice() != wanted {
            return Err(ClientError::untrue(node, format!("it proves another version than {name} means, {version}")));
        }
        let entry: Version = proven(&header.app_hash, &found.version, &wanted)?.ok_or_else(missing)?;
        Ok((version, entry, record.time_ms, header.height))
    }

    /// Pings up to [`PROBES`] endpoints side by side, then puts all in order.
    async fn measure(&self, endpoints: &mut [ResolvedEndpoint]) {
        // Those not known to be gone are worth a ping first.
        endpoints.sort_by_key(|e| self.inner.health.is_benched(&e.node));
        let probe = |(i, e): (usize, &ResolvedEndpoint)| {
            let (client, node, addresses) = (self.clone(), e.node, e.addresses.clone());
            async move { (i, client.ping(node, &addresses).await) }
        };
        let mut probes: FuturesUnordered<_> = endpoints.iter().enumerate().take(PROBES).map(probe).collect();
        let mut gone: Vec<bool> = (0..endpoints.len()).map(|i| i < PROBES).collect();
        let mut until = None;
        // The probes have an end of their own.
        while let Ok(Some((i, answer))) = match until {
            None => Ok(probes.next().await),
            Some(at) => timeout_at(at, probes.next()).await,
        } {
            if let Some((rtt, queue_us)) = answer {
                (endpoints[i].rtt, endpoints[i].queue_us, gone[i]) = (Some(rtt), queue_us, false);
                until.get_or_insert_with(|| Instant::now() + GRACE);
            }
        }
        self.bench_later(probes);
        let wishes = self.wishes();
        let candidate = |e: &ResolvedEndpoint| {
            let extra_us = e.extra_us(&wishes).unwrap_or_default();
            Candidate { node: e.node, rtt: e.rtt, queue_us: e.queue_us, extra_us }
        };
        let mut order = rank(&endpoints.iter().map(candidate).collect::<Vec<_>>());
        order.sort_by_key(|&i| gone[i]);
        let sorted: Vec<_> = order.into_iter().map(|i| endpoints[i].clone()).collect();
        endpoints.clone_from_slice(&sorted);
    }

    /// Lets probes that nobody waits for come to their own end, a second after they began, so that endpoints that are gone are
    /// known for it.
    fn bench_later<F: Future + Send + 'static>(&self, probes: FuturesUnordered<F>)
    where
        F::Output: Send,
    {
        if !probes.is_empty() {
            tokio::spawn(probes.for_each(|_| async {}));
        }
    }

    /// Round trip and queue of one node; `None` if it does not answer in time.
    async fn ping(&self, node: NodeId, addresses: &[Address]) -> Option<(Duration, u64)> {
        let probe = async {
            let peer = self.peer(node, addresses, true).await.ok()?;
            let start = Instant::now();
            let pong = peer.call::<Ping>(&Empty {}, PROBE).await.ok()?;
            note(&peer, &pong);
            Some((start.elapsed(), pong.queue_us))
        };
        let answer = timeout(PROBE, probe).await.ok().flatten();
        match answer {
            Some(_) => {
                self.inner.health.reached(&node);
                self.inner.nodes.met(node, addresses);
            }
            None => self.inner.health.failed(node),
        }
        answer
    }
}

/// The version a selector means, by the model's entry.
fn pick(model: &Model, selector: &Selector) -> Option<u32> {
    match selector {
        Selector::Latest => Some(model.latest),
        Selector::Version(version) => Some(*version),
        Selector::Channel(channel) => model.channels.iter().find(|(name, _)| name == channel).map(|(_, v)| *v),
    }
}

/// The endpoints whose records hold: signed, in time, of this version and manifest. One a node, its newest record.
fn endpoints(
    records: &[Signed<EndpointRecord>],
    pool: &PoolId,
    (name, version, manifest): (&ModelName, u32, ManifestId),
    now_ms: u64,
) -> Vec<ResolvedEndpoint> {
    let mut newest: BTreeMap<NodeId, EndpointRecord> = BTreeMap::new();
    for signed in records.iter().take(ENDPOINTS) {
        let Ok(record) = signed.verify(pool) else { continue };
        let meant = record.name == *name && record.version == version && record.manifest == manifest;
        let usable =
            (1..=ADDRESSES).contains(&record.addresses.len()) && record.addresses.iter().all(Address::is_valid);
        let usable = usable && record.region.as_deref().is_none_or(is_region);
        let newer = newest.get(&signed.signer()).is_none_or(|known| known.seq < record.seq);
        if meant && usable && newer && record.expires_ms > now_ms {
            newest.insert(signed.signer(), record);
        }
    }
    let endpoint = |(node, r): (NodeId, EndpointRecord)| ResolvedEndpoint {
        node,
        addresses: r.addresses,
        rtt: None,
        queue_us: 0,
        expires_ms: r.expires_ms,
        region: r.region,
        price: r.price.unwrap_or_default(),
    };
    newest.into_iter().map(endpoint).collect()
}
