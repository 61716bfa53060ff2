//! Names looked up a moment ago, so that a program that predicts in a loop does not ask for the same name each time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use zero2ai_proto::ModelRef;

use crate::{client::Client, error::ClientError, resolve::Resolution};

/// How long a resolved name is used again without asking. Longer, and a withdrawn version is used for as long.
const FRESH: Duration = Duration::from_secs(2);
/// Names remembered. When full, all are forgotten: the worst is a lookup each.
const NAMES: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    names: Mutex<HashMap<String, (Instant, Arc<Resolution>)>>,
}

impl Client {
    /// Looks a name up, or takes the answer of a moment ago. One that nobody serves is asked for again each time.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub async fn find(&self, name: &ModelRef) -> Result<Arc<Resolution>, ClientError> {
        let key = name.to_string();
        {
            let names = self.inner.recent.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, found)) = names.get(&key)
                && at.elapsed() < FRESH
            {
                return Ok(Arc::clone(found));
            }
        }
        let found = Arc::new(self.resolve(name, false).await?);
        if !found.endpoints.is_empty() {
            let mut names = self.inner.recent.names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.len() >= NAMES {
                names.clear();
            }
            names.insert(key, (Instant::now(), Arc::clone(&found)));
        }
        Ok(found)
    }

    /// Forgets a name whose endpoints did not do, so that [`Client::find`] asks afresh.
    pub fn forget(&self, name: &ModelRef) {
        self.inner.recent.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.to_string());
    }
}
