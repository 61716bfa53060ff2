//! What an alarm leads to. Under rules with rounds the owner's node opens a new one for the version, which validators at work
//! (`zero2ai validator run`) take part in by themselves, if the alarm rests on as many accounts as [`needed`]: else it is told, and the
//! owner may open one by hand. Under rules 1 there is nothing to open: the alarm is told, and validators grade the version again when
//! their own schedule says so.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_ledger::{Ledger, STAKED_RULES};
use zero2ai_proto::{
    ModelName, NodeId,
    local::Alarm,
    rpc::RpcError,
    tx::{OpenRound, TxBody},
};

use super::needed;
use crate::{account::PATIENCE, core::Core};

/// How often alarms are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How long an alarm rests after a step that was refused, looks.
const PAUSE: u32 = 30;
/// Heights between two rounds of a version that alarms open: at a block a second, ten minutes. A model that is truly bad would
/// otherwise keep its validators busy for ever.
const BETWEEN: u64 = 600;

/// What is to be done about an alarm now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing yet, or nothing ever.
    Wait,
    /// This round was opened after it, or for an alarm before it and is open still.
    Answered(u64),
    /// A round is to be opened.
    Open,
}

/// True while an alarm is about the current version of a model of `owner`, and neither a round nor a finding came after it.
pub(super) fn is_open(ledger: &Ledger, owner: &NodeId, name: &ModelName, alarm: &Alarm) -> bool {
    let current = ledger.model(name).is_some_and(|m| m.owner == *owner && m.latest == alarm.version);
    let graded = || ledger.endorsements(name, alarm.version).iter().any(|(_, found)| found.height > alarm.height);
    current && alarm.round.is_none() && !graded()
}

/// See [`Step`]. `before` is the height of the last round of this version that an alarm led to.
fn step(ledger: &Ledger, owner: &NodeId, name: &ModelName, alarm: &Alarm, before: Option<u64>) -> Step {
    let next = ledger.height().saturating_add(1);
    let current = ledger.model(name).is_some_and(|m| m.owner == *owner && m.latest == alarm.version);
    let withdrawn = ledger.version(name, alarm.version).is_none_or(|version| version.withdrawn);
    if !current || withdrawn || ledger.rules().at(next) < STAKED_RULES {
        return Step::Wait;
    }
    let newest = ledger.rounds(name, alarm.version);
    if let Some(round) = ledger.round(name, alarm.version, newest) {
        if round.opened > alarm.height {
            return Step::Answered(newest);
        }
        // A round that an earlier alarm led to and that is still open answers this one, too. What is graded in another round was perhaps
        // found before the alarm: one more follows it.
        if round.outcome.is_none() {
            return if before == Some(round.opened) { Step::Answered(newest) } else { Step::Wait };
        }
    }
    // A single account would otherwise have a model graded as often as it likes: the owner may still open a round by hand.
    if alarm.accounts < needed(ledger, owner) || before.is_some_and(|before| next < before.saturating_add(BETWEEN)) {
        return Step::Wait;
    }
    Step::Open
}

/// Opens rounds for what alarms are about, until `stop`.
pub(crate) async fn keep_revalidated(core: Arc<Core>, stop: CancellationToken) {
    let mut resting: BTreeMap<(ModelName, u32), u32> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        resting.retain(|_, looks| {
            *looks = looks.saturating_sub(1);
            *looks > 0
        });
        for (name, alarm, before) in core.newest_alarms() {
            let key = (name.clone(), alarm.version);
            if resting.contains_key(&key) {
                continue;
            }
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = core.answer(&name, &alarm, before) => done,
            };
            if let Err(error) = done {
                tracing::warn!(%name, version = alarm.version, %error, "an alarm's round is not open yet");
                resting.insert(key, PAUSE);
            }
        }
    }
}

impl Core {
    /// Of each version the newest alarm, if it has no round yet, and the height of the last round that one of them led to.
    fn newest_alarms(&self) -> Vec<(ModelName, Alarm, Option<u64>)> {
        let alarms = self.outcomes.alarms().clone();
        let mut newest: BTreeMap<(ModelName, u32), (Alarm, Option<u64>)> = BTreeMap::new();
        for (name, alarm) in alarms {
            let key = (name, alarm.version);
            let before = newest.remove(&key).and_then(|(_, before)| before);
            let round = alarm.round.and_then(|r| self.chain.read(|l| l.round(&key.0, key.1, r)));
            newest.insert(key, (alarm, before.max(round.map(|round| round.opened))));
        }
        let open = newest.into_iter().filter(|(_, (alarm, _))| alarm.round.is_none());
        open.map(|((name, _), (alarm, before))| (name, alarm, before)).collect()
    }

    async fn answer(&self, name: &ModelName, alarm: &Alarm, before: Option<u64>) -> Result<(), RpcError> {
        let version = alarm.version;
        let round = match self.chain.read(|l| step(l, &self.id, name, alarm, before)) {
            Step::Wait => return Ok(()),
            Step::Answered(round) => round,
            Step::Open => {
                let body = OpenRound { name: name.clone(), version };
                let height = self.account.submit(TxBody::OpenRound(body), PATIENCE).await?;
                let round = self.chain.read(|l| l.rounds(name, version));
                tracing::warn!(%name, version, round, height, "opened a round of grading, since outcomes say that the model became worse");
                round
            }
        };
        let name = name.clone();
        self.outcomes.change(move |state| state.answer(&name, version, round)).await
    }
}
