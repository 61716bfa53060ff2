//! Looks names up: cache → DHT. A stale answer is given out at once, and so is the first valid one of the network; both are
//! then bettered in the background, by one task that asks every place of the name's key to the end.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zero2ai_net::{NetError, NetHandle, Refusal};
use zero2ai_proto::{
    CodecError, PoolId, Signed,
    calls::Source,
    decode, encode,
    limits::RECORD_BYTES,
    name::ModelName,
    record::{DhtValue, EndpointRecord, NameRecord, dht_key},
};

use crate::{
    cache::{Age, Cache, Older},
    check::{CheckedName, HeaderTrust, check_endpoint, check_name},
};

/// Endpoints asked for at most: more would not make an answer better, only slower.
const ENDPOINTS: usize = 32;
/// Copies of a record wanted in the DHT; a smaller pool keeps as many as it has nodes.
const COPIES: usize = 8;
/// Names waiting to be refreshed; when full, a stale answer is simply refreshed at its next use.
const REFRESH_QUEUE: usize = 64;

/// Why a name could not be looked up or published.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// No valid record was found.
    #[error(
        "no record for '{0}' was found in the network: is the name spelled right, and was it published in this pool?"
    )]
    NotFound(ModelName),
    /// Whoever was asked has an older record than one that was given out before.
    #[error(
        "the network gave only old records for '{name}': {older}. Try again when a node that serves it is reachable"
    )]
    Older {
        /// The model.
        name: ModelName,
        /// How old.
        older: Older,
    },
    /// The swarm failed.
    #[error("the DHT could not be asked for '{name}': {source}")]
    Net {
        /// The model.
        name: ModelName,
        /// Why.
        source: NetError,
    },
    /// A record could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A name looked up: the checked record, its endpoints, and where the record came from.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The name record as it can be handed on.
    pub record: NameRecord,
    /// Endpoints of any version of the model.
    pub endpoints: Vec<Signed<EndpointRecord>>,
    /// Where the record came from.
    pub source: Source,
}

/// The resolver. Clones share one cache.
#[derive(Clone)]
pub struct Names {
    inner: Arc<Inner>,
    refresh: mpsc::Sender<ModelName>,
}

struct Inner {
    pool: PoolId,
    net: NetHandle,
    trust: Arc<dyn HeaderTrust>,
    now_ms: fn() -> u64,
    cache: Mutex<Cache>,
}

/// How long the network is asked for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Until the first valid one.
    First,
    /// Until everyone who should have it was asked.
    Newest,
}

impl Names {
    /// A resolver that saw `seen` before (see [`Names::seen_since`]), and the task that refreshes stale answers until `stop`;
    /// the caller owns the task.
    pub fn new(
        pool: PoolId,
        net: NetHandle,
        trust: Arc<dyn HeaderTrust>,
        now_ms: fn() -> u64,
        seen: Vec<(ModelName, u64)>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (refresh, mut queue) = mpsc::channel::<ModelName>(REFRESH_QUEUE);
        let mut cache = Cache::default();
        cache.restore(seen);
        let inner = Arc::new(Inner { pool, net, trust, now_ms, cache: Mutex::new(cache) });
        let worker = Arc::clone(&inner);
        let task = async move {
            loop {
                let name = tokio::select! {
                    () = stop.cancelled() => return,
                    name = queue.recv() => match name { Some(name) => name, None => return },
                };
                if let Err(error) = worker.ask(&name, Depth::Newest).await {
                    tracing::debug!(%name, %error, "a stale name could not be refreshed");
                }
            }
        };
        (Self { inner, refresh }, task)
    }

    /// Looks `name` up: what the cache has, else the first valid record of the network, which may be bettered in the
    /// background. `fresh` asks the network whatever the cache says, and takes the newest record that anyone has.
    ///
    /// # Errors
    /// See [`NamesError`].
    pub async fn lookup(&self, name: &ModelName, fresh: bool) -> Result<Answer, NamesError> {
        let cached = if fresh { None } else { self.inner.with_cache(|c| c.get(name, (self.inner.now_ms)())) };
        if let Some((entry, age)) = cached {
            if age == Age::Stale {
                // A full queue means that many refreshes are due already; the next use will ask again.
                let _ = self.refresh.try_send(name.clone());
            }
            return Ok(Answer { record: entry.record, endpoints: entry.endpoints, source: Source::Cache });
        }
        if fresh {
            return self.inner.ask(name, Depth::Newest).await;
        }
        match self.inner.ask(name, Depth::First).await {
            // Who answered first was behind, or wants us to be: everyone is asked before that is the answer.
            Err(NamesError::Older { .. }) => self.inner.ask(name, Depth::Newest).await,
            Ok(answer) => {
                let _ = self.refresh.try_send(name.clone());
                Ok(answer)
            }
            other => other,
        }
    }

    /// The height of the newest header that a record of `name` ever came with; 0 if none is remembered.
    #[must_use]
    pub fn height(&self, name: &ModelName) -> u64 {
        self.inner.with_cache(|c| c.height(name))
    }

    /// All such heights, to be written down, and a mark to give next time; `None` if they are what they were at `mark` (0: at
    /// the very beginning). At most [`HEIGHTS`](crate::cache::HEIGHTS) names.
    #[must_use]
    pub fn seen_since(&self, mark: u64) -> Option<(u64, Vec<(ModelName, u64)>)> {
        self.inner.with_cache(|c| c.seen_since(mark))
    }

    /// Puts a name record into the DHT. Returns the copies made.
    ///
    /// # Errors
    /// See [`NamesError`].
    pub async fn publish_name(&self, name: &ModelName, record: NameRecord) -> Result<usize, NamesError> {
        let value = encode(&DhtValue::Name(Box::new(record)))?;
        match self.put(name, dht_key::name(&self.inner.pool, name), value).await {
            // Someone published this height or a newer one: any of them proves the same, so nothing is missing.
            Err(NamesError::Net {
                source: NetError::Record(Refusal::Older { .. } | Refusal::Conflict { .. }), ..
            }) => Ok(0),
            other => other,
        }
    }

    /// Announces that the signing node serves a model.
    ///
    /// # Errors
    /// See [`NamesError`].
    pub async fn announce(&self, name: &ModelName, signed: Signed<EndpointRecord>) -> Result<(), NamesError> {
        let fail = |source| NamesError::Net { name: name.clone(), source };
        let key = dht_key::endpoint(&self.inner.pool, name, &signed.signer());
        self.put(name, key, encode(&DhtValue::Endpoint(signed))?).await?;
        self.inner.net.start_providing(dht_key::providers(&self.inner.pool, name)).await.map_err(fail)
    }

    /// Stops being a provider of `name`; its endpoint record runs out by itself.
    ///
    /// # Errors
    /// See [`NamesError`].
    pub async fn withdraw(&self, name: &ModelName) -> Result<(), NamesError> {
        let key = dht_key::providers(&self.inner.pool, name);
        self.inner.net.stop_providing(key).await.map_err(|source| NamesError::Net { name: name.clone(), source })
    }

    async fn put(&self, name: &ModelName, key: [u8; 32], value: Vec<u8>) -> Result<usize, NamesError> {
        self.inner
            .net
            .put_record(key, value, COPIES)
            .await
            .map_err(|source| NamesError::Net { name: name.clone(), source })
    }
}

impl Inner {
    fn with_cache<T>(&self, f: impl FnOnce(&mut Cache) -> T) -> T {
        f(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the DHT for the record and the endpoints at once, checks both, and keeps the answer.
    async fn ask(&self, name: &ModelName, depth: Depth) -> Result<Answer, NamesError> {
        let (record, endpoints) = tokio::join!(self.ask_record(name, depth), self.ask_endpoints(name));
        let (record, checked) = record?;
        let height = checked.header.height;
        let put = self.with_cache(|c| c.put(name.clone(), record, height, endpoints, (self.now_ms)()));
        let entry = put.map_err(|older| NamesError::Older { name: name.clone(), older })?;
        Ok(Answer { record: entry.record, endpoints: entry.endpoints, source: Source::Dht })
    }

    async fn ask_record(&self, name: &ModelName, depth: Depth) -> Result<(NameRecord, CheckedName), NamesError> {
        let key = dht_key::name(&self.pool, name);
        let found = match depth {
            Depth::First => self.net.get_record(key).await,
            Depth::Newest => self.net.get_newest_record(key).await,
        };
        let value = found
            .map_err(|source| NamesError::Net { name: name.clone(), source })?
            .ok_or_else(|| NamesError::NotFound(name.clone()))?;
        let DhtValue::Name(record) = decode(&value, RECORD_BYTES)? else {
            return Err(NamesError::NotFound(name.clone()));
        };
        match check_name(&record, self.trust.as_ref(), (self.now_ms)()) {
            Ok(checked) if checked.name == *name => Ok((*record, checked)),
            Ok(_) => Err(NamesError::NotFound(name.clone())),
            Err(error) => {
                tracing::warn!(%name, %error, "the DHT gave a record that does not check");
                Err(NamesError::NotFound(name.clone()))
            }
        }
    }

    /// Endpoints that check; a provider whose record is missing or wrong is passed over.
    async fn ask_endpoints(&self, name: &ModelName) -> Vec<Signed<EndpointRecord>> {
        let providers = match self.net.providers(dht_key::providers(&self.pool, name)).await {
            Ok(providers) => providers,
            Err(error) => {
                tracing::debug!(%name, %error, "no providers could be asked for");
                return Vec::new();
            }
        };
        let asked = providers.into_iter().take(ENDPOINTS).map(|node| async move {
            let value = self.net.get_record(dht_key::endpoint(&self.pool, name, &node)).await.ok()??;
            let DhtValue::Endpoint(signed) = decode(&value, RECORD_BYTES).ok()? else { return None };
            let (signer, record) = check_endpoint(&signed, &self.pool, (self.now_ms)()).ok()?;
            (signer == node && record.name == *name).then_some(signed)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}
