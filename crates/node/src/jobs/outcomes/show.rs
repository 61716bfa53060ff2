//! What a node shows its user of the outcomes that came: what they come to, then each of them, a page at a time.

use std::{collections::BTreeMap, path::PathBuf};

use zero2ai_proto::{
    ModelName,
    limits::{OUTCOME_BYTES, OUTCOMES_PAGE, OUTCOMES_PAGE_BYTES},
    local::{Alarm, OutcomesCall, OutcomesEnd, OutcomesItem, OutcomesShow, ToldOutcome, VersionOutcomes},
    outcome::OutcomeReport,
    rpc::RpcError,
};
use zero2ai_rpc::ReplySink;
use zero2ai_trust::drift::Watch;

use super::{book::Kept, files, millionths, needed};
use crate::{core::Core, serve::errors::not_found};

impl Core {
    /// What the outcomes of a model come to: a line a version.
    async fn outcome_versions(&self, name: &ModelName) -> Result<Vec<VersionOutcomes>, RpcError> {
        if self.chain.read(|l| l.model(name)).is_none_or(|model| model.owner != self.id) {
            return Err(not_found(format!("this node owns no model {name}: outcomes are sealed to a model's owner")));
        }
        let needed = self.chain.read(|l| needed(l, &self.id));
        let state = self.outcomes.state.lock().await;
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for kept in state.book.of(name, 0) {
            let count = counts.entry(kept.version).or_default();
            *count = count.saturating_add(1);
        }
        let line = |(version, watch): (u32, &Watch)| {
            // A window is a count of rows: whole, and far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let window = watch.window() as u64;
            let of = state.alarms().iter().filter(|(n, a)| n == name && a.version == version);
            VersionOutcomes {
                version,
                outcomes: counts.get(&version).copied().unwrap_or_default(),
                rows: watch.answers(),
                wrong: watch.wrong(),
                late_ppm: millionths(watch.late()),
                window,
                warned: watch.warned(),
                alarms: of.map(|(_, alarm)| Alarm { needed, ..alarm.clone() }).collect(),
            }
        };
        Ok(state.book.watches(name).map(line).collect())
    }

    /// A page of the outcomes of a model: what they come to, each of them, and where the page ends.
    pub(crate) async fn show_outcomes(&self, call: OutcomesCall, reply: &mut ReplySink) -> Result<(), RpcError> {
        let OutcomesCall { name, inputs, from } = call;
        let versions = self.outcome_versions(&name).await?;
        for version in versions.into_iter().filter(|_| from == 0) {
            reply.item::<OutcomesShow>(&OutcomesItem::Version(version)).await?;
        }
        // One more than a page, to know whether there is another one.
        let mut all: Vec<Kept> = {
            let state = self.outcomes.state.lock().await;
            state.book.of(&name, from).take(OUTCOMES_PAGE.saturating_add(1)).cloned().collect()
        };
        let mut next = all.get(OUTCOMES_PAGE).map(|kept| kept.place);
        all.truncate(OUTCOMES_PAGE);
        let mut page = Page::new(self.outcomes.home.clone(), inputs);
        for kept in all {
            if page.bytes >= OUTCOMES_PAGE_BYTES {
                next = Some(kept.place);
                break;
            }
            let (told, read) = self
                .blocking(move || {
                    let told = page.read(kept);
                    Ok((told, page))
                })
                .await?;
            page = read;
            reply.item::<OutcomesShow>(&OutcomesItem::Outcome(Box::new(told))).await?;
        }
        reply.item::<OutcomesShow>(&OutcomesItem::End(page.end(next))).await
    }
}

/// A page of outcomes: what is known of each, to be read one after the other.
pub(super) struct Page {
    home: PathBuf,
    inputs: bool,
    bytes: u64,
    damaged: u32,
}

impl Page {
    pub(super) const fn new(home: PathBuf, inputs: bool) -> Self {
        Self { home, inputs, bytes: 0, damaged: 0 }
    }

    /// One of them, with its input if that was asked for and can be read.
    pub(super) fn read(&mut self, kept: Kept) -> ToldOutcome {
        let wanted = self.inputs && kept.has_input;
        let input = wanted.then(|| {
            self.bytes = self.bytes.saturating_add(kept.bytes);
            files::read::<OutcomeReport>(&files::report_file(&self.home, kept.place), OUTCOME_BYTES)
        });
        // A file that was put there by hand, say from a backup, may be another's.
        let own = |report: &OutcomeReport| report.receipt.id().is_ok_and(|id| id == kept.receipt);
        let input = input.and_then(|read| match read {
            Ok(report) if own(&report) => report.shown.input,
            Ok(report) => {
                tracing::warn!(receipt = %kept.receipt, found = ?report.receipt.id(), "another outcome lies in its place");
                self.damaged = self.damaged.saturating_add(1);
                None
            }
            Err(error) => {
                tracing::warn!(receipt = %kept.receipt, error, "an outcome's input is not read");
                self.damaged = self.damaged.saturating_add(1);
                None
            }
        });
        ToldOutcome {
            receipt: kept.receipt,
            account: kept.account,
            provider: kept.provider,
            version: kept.version,
            answered_ms: kept.answered_ms,
            told_ms: kept.told_ms,
            truths: kept.truths,
            rows: kept.rows,
            has_input: kept.has_input,
            input,
        }
    }

    pub(super) const fn end(&self, next: Option<u64>) -> OutcomesEnd {
        OutcomesEnd { next, damaged: self.damaged }
    }
}
