//! What one call takes while it runs. Dropped, it gives back what the call held and did not take.

use std::sync::Arc;

use super::{Account, Meter};

/// How many times the estimate may have been too low: eight tokens a byte where a quarter was taken for one.
const ESTIMATE_WRONG: u64 = 32;
/// What it may have been too low by beside that: a chat template's own words.
const ESTIMATE_SHORT: u64 = 4_096;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bill {
    meter: Arc<Meter>,
    id: String,
    /// Taken when it began: of a text, an estimate of its prompt.
    at_once: u64,
    taken: u64,
    held: u64,
}

impl Bill {
    pub(super) fn new(meter: Arc<Meter>, id: String, at_once: u64, held: u64) -> Self {
        Self { meter, id, at_once, taken: at_once, held }
    }

    /// Units that it may still take.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    fn change(&self, change: impl FnOnce(&mut Account)) {
        let mut known = self.meter.lock();
        if let Some(account) = known.accounts.get_mut(&self.id) {
            change(account);
        }
        known.dirty = true;
    }

    /// Takes units of those that are held.
    pub(crate) fn take(&mut self, units: u64) {
        let held = self.held.min(units);
        self.held = self.held.saturating_sub(held);
        self.taken = self.taken.saturating_add(units);
        self.change(|account| {
            account.held = account.held.saturating_sub(held);
            account.used.units = account.used.units.saturating_add(units);
        });
    }

    /// The estimate that was taken at once turned out to be `units`. They are a provider's word: beyond what the estimate may
    /// have been wrong by, it is not believed.
    pub(crate) fn settle(&mut self, units: u64) {
        let units = units.min(self.at_once.saturating_mul(ESTIMATE_WRONG).saturating_add(ESTIMATE_SHORT));
        let estimate = std::mem::replace(&mut self.at_once, units);
        self.taken = self.taken.saturating_sub(estimate).saturating_add(units);
        self.change(|account| {
            account.used.units = account.used.units.saturating_sub(estimate).saturating_add(units);
        });
    }

    /// The call gave nothing: neither does it cost.
    pub(crate) fn cancel(self) {
        let taken = self.taken;
        self.change(|account| {
            account.used.units = account.used.units.saturating_sub(taken);
            account.used.calls = account.used.calls.saturating_sub(1);
        });
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        let held = self.held;
        self.change(|account| account.held = account.held.saturating_sub(held));
    }
}
