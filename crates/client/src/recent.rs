//! Names looked up a moment ago, so that a program that predicts in a loop does not ask for the same name each time, and
//! hardly ever waits: what is a second old is used once more while it is looked up anew beside (stale-while-revalidate, RFC 5861).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use zero2ai_proto::ModelRef;

use crate::{client::Client, error::ClientError, resolve::Resolution};

/// How long a resolved name is used again without asking. Longer, and a withdrawn version is used for as long.
const FRESH: Duration = Duration::from_secs(2);
/// From which age on it is looked up anew beside its use.
const STALE: Duration = Duration::from_secs(1);
/// Names remembered. When full, all are forgotten: the worst is a lookup each.
const NAMES: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    names: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    found: Arc<Resolution>,
    /// It is being looked up anew.
    renewing: bool,
}

impl Recent {
    /// Forgets every name.
    pub(crate) fn clear(&self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Client {
    /// Looks a name up, or takes the answer of a moment ago. One that nobody serves is asked for again each time.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn find(&self, name: &ModelRef) -> Result<Arc<Resolution>, ClientError> {
        let key = name.to_string();
        {
            let mut names = self.inner.recent.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = names.get_mut(&key)
                && known.at.elapsed() < FRESH
            {
                if known.at.elapsed() >= STALE && !known.renewing {
                    known.renewing = true;
                    let (client, name) = (self.clone(), name.clone());
                    // It has the patience of a lookup, and ends with it.
                    tokio::spawn(async move { client.look_up(&name).await.map(drop) });
                }
                return Ok(Arc::clone(&known.found));
            }
        }
        self.look_up(name).await
    }

    /// Resolves a name, and remembers what came. A failure is forgotten: the next one who asks hears of it himself.
    async fn look_up(&self, name: &ModelRef) -> Result<Arc<Resolution>, ClientError> {
        let found = Arc::new(self.resolve(name, false).await?);
        if !found.endpoints.is_empty() {
            let mut names = self.inner.recent.names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.len() >= NAMES {
                names.clear();
            }
            let (at, found) = (Instant::now(), Arc::clone(&found));
            names.insert(name.to_string(), Known { at, found, renewing: false });
        }
        Ok(found)
    }

    /// Forgets a name whose endpoints did not do, so that [`Client::find`] asks afresh.
    pub fn forget(&self, name: &ModelRef) {
        self.inner.recent.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.to_string());
    }
}
