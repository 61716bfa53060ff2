//! What each token has used, and whether its budget allows more. A unit is one token of text, read or written, or one row of
//! a prediction, as on receipts.
//!
//! No budget is overspent, not even by a crash: before a call of a token with a budget begins, the file holds all that the
//! calls in hand may take, and a start after a crash counts that as used. So a crash may cost such a token what its calls had
//! not taken yet, and a hundredth of its budget (at most [`ROOM`] units) more. Of tokens without a budget a crash forgets the
//! last [`EVERY`]. A stop in order forgets nothing. One thing is not known before: how many tokens a prompt has. It is
//! estimated from its bytes, and what the estimate was too low by may go over the budget.
//!
//! | module | owns |
//! |---|---|
//! | [`bill`] | what one call takes, while it runs |
//! | [`file`] | the file |

mod bill;
mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use zero2ai_clock::now_ms;

pub(crate) use self::bill::Bill;
pub use self::file::{Usage, UsageError, read};
use crate::{
    fault::Fault,
    guard::{Caller, FIRST},
    tokens,
};

/// How often figures go to disk that no budget waits for.
const EVERY: Duration = Duration::from_secs(2);
/// Units that are counted ahead at most while a token is in use, so that not each of its calls waits for the disk.
const ROOM: u64 = 1_000;
/// Tokens whose usage is kept, those that were revoked among them. Beyond it those are forgotten that were used longest ago,
/// but never one that is good.
const KEPT: usize = 1_024;

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Units that are certain before it begins.
    pub(crate) at_once: u64,
    /// Units that must be left for more; fewer, and it does not begin.
    pub(crate) least: u64,
    /// Units of which it will not take more.
    pub(crate) most: u64,
}

impl Need {
    /// Of a call whose cost is known.
    pub(crate) fn exact(units: u64) -> Self {
        Self { at_once: units, least: 0, most: 0 }
    }
}

/// One token's figures.
#[derive(Debug, Default)]
struct Account {
    /// `counted` is what is certainly on disk, or more.
    used: Usage,
    /// What calls in hand may still take.
    held: u64,
    /// It has a budget.
    limited: bool,
    /// Units to count ahead.
    room: u64,
}

impl Account {
    /// What the disk must hold before the calls in hand may go on.
    fn bound(&self) -> u64 {
        self.used.units.saturating_add(self.held)
    }

    /// True if the disk holds that, or need not.
    fn is_covered(&self) -> bool {
        !self.limited || self.bound() <= self.used.counted
    }
}

#[derive(Debug, Default)]
struct Known {
    accounts: BTreeMap<String, Account>,
    /// Something is not on disk.
    dirty: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Meter {
    path: PathBuf,
    /// The file of tokens, to know which of them were revoked.
    tokens: PathBuf,
    known: Arc<Mutex<Known>>,
    /// Held by who writes, on the thread that does: the file's order is that of its figures even if a caller leaves.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Meter {
    /// Reads what was used until now.
    pub(crate) fn open(path: PathBuf, tokens: PathBuf) -> Result<Self, UsageError> {
        let accounts = read(&path)?.into_iter().map(|(id, mut used)| {
            used.units = used.units.max(used.counted);
            used.counted = used.units;
            (id, Account { used, ..Account::default() })
        });
        let known = Known { accounts: accounts.collect(), dirty: false };
        Ok(Self { path, tokens, known: Arc::new(Mutex::new(known)), turn: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call begin, or says that the budget does not. Returns once nothing of it can be forgotten.
    pub(crate) async fn start(self: &Arc<Self>, caller: &Caller, need: Need) -> Result<Bill, Fault> {
        let (bill, covered) = self.enter(caller, need)?;
        if covered {
            return Ok(bill);
        }
        match self.write().await {
            Ok(()) => Ok(bill),
            Err(error) => {
                bill.cancel();
                tracing::error!(%error, path = %self.path.display(), "usage cannot be written");
                Err(Fault::usage_lost())
            }
        }
    }

    /// Takes the units; true if the disk knows of them.
    fn enter(self: &Arc<Self>, caller: &Caller, need: Need) -> Result<(Bill, bool), Fault> {
        let mut known = self.lock();
        let account = known.accounts.entry(caller.id.clone()).or_default();
        let least = need.at_once.saturating_add(need.least);
        let mut most = need.most;
        if let Some(budget) = caller.budget {
            let left = budget.saturating_sub(account.used.units);
            if least > left {
                return Err(Fault::spent(&caller.id, budget, account.used.units, least));
            }
            let free = left.saturating_sub(account.held);
            if least > free {
                return Err(Fault::busy(
                    "other calls of this token hold what is left of its budget: try again when they are done",
                ));
            }
            most = most.min(free.saturating_sub(need.at_once));
        }
        account.limited = caller.budget.is_some();
        account.room = caller.budget.map_or(0, |budget| (budget / 100).min(ROOM));
        account.held = account.held.saturating_add(most);
        account.used.units = account.used.units.saturating_add(need.at_once);
        account.used.calls = account.used.calls.saturating_add(1);
        account.used.last_ms = now_ms();
        let covered = account.is_covered();
        known.dirty = true;
        Ok((Bill::new(Arc::clone(self), caller.id.clone(), need.at_once, most), covered))
    }

    /// Writes all figures if some are not on disk.
    pub(crate) async fn write(&self) -> io::Result<()> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.forget_old().await;
        let Some(snapshot) = self.snapshot() else { return Ok(()) };
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        let written = tokio::task::spawn_blocking(move || {
            // Held until what was written is known: whoever writes next must not put less on the disk than is believed to be.
            let _turn = turn;
            let written = file::write(&path, &snapshot);
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match &written {
                Ok(()) => {
                    for (id, usage) in snapshot {
                        if let Some(account) = known.accounts.get_mut(&id) {
                            account.used.counted = account.used.counted.max(usage.counted);
                        }
                    }
                }
                Err(_) => known.dirty = true,
            }
            drop(known);
            written
        });
        written.await.map_err(io::Error::other).and_then(|written| written)
    }

    /// Where there are too many, forgets tokens that were revoked, those that were used longest ago first.
    async fn forget_old(&self) {
        if self.lock().accounts.len() <= KEPT {
            return;
        }
        let path = self.tokens.clone();
        let Ok(Ok(tokens)) = tokio::task::spawn_blocking(move || tokens::read(&path)).await else { return };
        let live: BTreeSet<&str> = tokens.iter().map(|token| token.id.as_str()).chain([FIRST]).collect();
        let mut known = self.lock();
        let gone = known.accounts.iter().filter(|(id, account)| account.held == 0 && !live.contains(id.as_str()));
        let mut gone: Vec<_> = gone.map(|(id, account)| (account.used.last_ms, id.clone())).collect();
        gone.sort();
        let many = known.accounts.len().saturating_sub(KEPT);
        for (_, id) in gone.into_iter().take(many) {
            known.accounts.remove(&id);
        }
    }

    /// What the file is to hold; nothing if it does.
    fn snapshot(&self) -> Option<BTreeMap<String, Usage>> {
        let mut known = self.lock();
        // Who wrote last may have left before it knew how that ended: what is not covered is written again.
        if !std::mem::take(&mut known.dirty) && known.accounts.values().all(Account::is_covered) {
            return None;
        }
        let figures = known.accounts.iter_mut().map(|(id, account)| {
            let ahead = if account.held > 0 { account.room } else { 0 };
            // Without a budget nothing waits for the disk, and a crash counts nothing that was not taken.
            let counted = if account.limited { account.bound().saturating_add(ahead) } else { account.used.units };
            // Until it is written, the lower one of both is all that is certain.
            account.used.counted = account.used.counted.min(counted);
            (id.clone(), Usage { counted, ..account.used })
        });
        Some(figures.collect())
    }

    /// Writes now and then until `stop`; the last time is its caller's, behind the last call.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.write().await {
                tracing::error!(%error, path = %self.path.display(), "usage cannot be written");
            }
        }
    }
}

#[cfg(test)]
mod tests;
