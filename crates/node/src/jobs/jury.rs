//! A juror's part in disputes: where this node sits, it asks who opened the leaf for the sample, runs the model on it, and votes, by itself. A
//! vote that was cast by hand stands.

mod seats;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use zero2ai_engine::Worker;
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    NodeId,
    calls::{ShowSample, ShowSampleCall},
    decode,
    limits::SHOWN_BYTES,
    prepare::Preparation,
    rpc::{ErrorCode, RpcError},
    sample::ShownSample,
    state::{DisputeState, Rights, Version},
    tx::{Ballot, Disputed, OpenedLeaf, TxBody},
    worker::{Fault, ModelInfo},
};
use zero2ai_validator::{
    Dataset, Subject,
    domain::domain,
    shown::{accept, refutes},
};

use self::seats::{Came, Seat, Seats, Turns};
use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{fetch::Watch, open::Opened, report::Local},
    models::Loaded,
    serve::errors::{invalid, unavailable},
};

/// How often the ledger is looked at: blocks come a second apart while there is something to say, and windows have many.
const EVERY: Duration = Duration::from_secs(3);
/// Time for a sample to come, with the wait for others of the same validator: short enough for several tries in half of a window.
const SHOWN: Duration = Duration::from_secs(20);
/// Time for the model to come.
const FETCH: Duration = Duration::from_secs(1_800);
/// Time for a model to be loaded and to answer one sample: what takes longer is not voted on.
const RUN: Duration = Duration::from_secs(300);
/// Seats that are seen to at once; the others wait.
const AT_ONCE: usize = 64;

/// Votes wherever this node sits, until `stop`.
pub(crate) async fn keep_juries(core: Arc<Core>, stop: CancellationToken) {
    let (mut seats, turns) = (Seats::default(), Arc::new(Turns::default()));
    let mut running = JoinSet::new();
    let mut under_way: Vec<(AbortHandle, u64)> = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let now = Instant::now();
        while let Some(ended) = running.try_join_next() {
            if let Ok((seat, version, came)) = ended {
                seats.end(&seat, version, came, now);
            }
        }
        let (height, open) = core.chain.read(|ledger| (ledger.height(), open_seats(ledger, &core.id)));
        // What is counted is not worth a model's time.
        under_way.iter().filter(|(_, end)| *end <= height).for_each(|(task, _)| task.abort());
        under_way.retain(|(task, end)| *end > height && !task.is_finished());
        for seat in seats.due(&open, now).into_iter().take(AT_ONCE.saturating_sub(running.len())) {
            let Some((which, dispute)) = open.get(&seat).cloned() else { continue };
            let (in_vain, end) = (seats.begin(&seat, now), dispute.vote_end());
            let (core, turns) = (Arc::clone(&core), Arc::clone(&turns));
            let begun = running.spawn(async move {
                let came = core.vote(&which, &dispute, in_vain, &turns).await;
                (seat, (which.name, which.version), came)
            });
            under_way.push((begun, end));
        }
    }
}

/// Disputes over which this node may vote in the next block.
fn open_seats(ledger: &Ledger, me: &NodeId) -> BTreeMap<Seat, (Disputed, DisputeState)> {
    // Whoever grades nothing need not look.
    if ledger.member(me).is_none_or(|member| !member.rights.has(Rights::VALIDATOR)) {
        return BTreeMap::new();
    }
    let own = ledger.voted_on().into_iter().filter(|which| ledger.may_vote(which, me));
    own.filter_map(|which| {
        let dispute = ledger.dispute(&which)?;
        Some(((which.to_string(), dispute.instance), (which, dispute)))
    })
    .collect()
}

/// True if `node` votes over an open dispute, or has: to whom a sample is shown.
pub(super) fn sits(ledger: &Ledger, which: &Disputed, node: &NodeId) -> bool {
    let Some(dispute) = ledger.dispute(which).filter(|dispute| dispute.settled.is_none()) else { return false };
    ledger.may_vote(which, node) || ledger.ballots(which, dispute.instance).iter().any(|(juror, _)| juror == node)
}

impl Core {
    /// Finds out what is to be voted, and votes so.
    async fn vote(&self, which: &Disputed, dispute: &DisputeState, in_vain: u32, turns: &Turns) -> Came {
        // A juror who cannot run the model does not vote, whatever he is shown.
        let _using = self.upkeep.using().await;
        let held = match tokio::time::timeout(FETCH, self.hold(which)).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => return Came::Waits(error.to_string()),
            Err(_) => return Came::Waits(format!("the model did not come within {FETCH:?}")),
        };
        // What does not come, or is not answered, a second time is not this machine's bad luck.
        let again = in_vain > 0;
        let refuted = match self.ask_sample(which, &dispute.leaf, turns).await {
            Ok(data) => {
                let _turn = turns.run.lock().await;
                match tokio::time::timeout(RUN, self.ask_again(which, held, &data, &dispute.leaf)).await {
                    Ok(Ok(Answer::Refutes(refuted))) => refuted,
                    Ok(Ok(Answer::Unfit(why))) if !again => return Came::InVain(why),
                    Ok(Ok(Answer::Unfit(_))) => true,
                    Ok(Err(error)) => return Came::Waits(error.to_string()),
                    Err(_) => return Came::Slow,
                }
            }
            // Who opened the leaf has half of the window to show its sample.
            Err(why) if again && self.chain.read(Ledger::height) >= half(dispute) => {
                tracing::info!(leaf = %which, why, "no sample was shown: it is taken for refuted");
                true
            }
            Err(why) => return Came::InVain(why),
        };
        let body = TxBody::Ballot(Ballot { disputed: which.clone(), refuted });
        match self.account.submit(body, PATIENCE).await {
            Ok(_) => Came::Voted(refuted),
            Err(error) if error.code == ErrorCode::Invalid => Came::Refused(error.to_string()),
            Err(error) => Came::Waits(error.to_string()),
        }
    }

    /// The sample of a leaf from who opened it, as data of one sample.
    async fn ask_sample(&self, which: &Disputed, leaf: &OpenedLeaf, turns: &Turns) -> Result<Dataset, String> {
        let Disputed { name, version, round, validator, .. } = which;
        let entry = self.chain.read(|ledger| ledger.entry(name, *version, *round, validator));
        let counts =
            entry.and_then(|entry| entry.found).ok_or("its validator's counts are not on the ledger here")?.counts;
        let asked = async {
            let turn = turns.of(*validator);
            let _turn = turn.lock().await;
            self.ask_shown(which).await
        };
        let bytes = tokio::time::timeout(SHOWN, asked).await.map_err(|_| format!("no sample within {SHOWN:?}"))??;
        let shown: ShownSample = decode(&bytes, SHOWN_BYTES).map_err(|e| e.to_string())?;
        accept(shown, leaf, counts.classes.len()).map_err(|e| e.to_string())
    }

    async fn ask_shown(&self, which: &Disputed) -> Result<Vec<u8>, String> {
        let call = &ShowSampleCall { leaf: which.clone() };
        let asked = self.roads.ask(&which.validator, |peer| async move {
            let mut pieces = peer.stream::<ShowSample>(call, SHOWN).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.next().await {
                bytes.extend_from_slice(&piece?.data);
                if bytes.len() > SHOWN_BYTES {
                    break;
                }
            }
            Ok(bytes)
        });
        asked.await.map_err(|e| e.to_string())
    }

    /// Has the version that a leaf is about here.
    async fn hold(&self, which: &Disputed) -> Result<Held, RpcError> {
        let Disputed { name, version, .. } = which;
        let entry = self.version(name, *version).await?;
        let unheard = mpsc::channel(1).0;
        let opened = match entry.withdrawn {
            _ if self.models.get(name, *version).is_some() => None,
            true => Some(self.open_withdrawn(name, *version, &entry).await?),
            false => self.bring(name, *version, None, Watch::steps(&unheard), true).await?.opened,
        };
        Ok(Held { entry, opened })
    }

    /// Runs it on the leaf's sample.
    async fn ask_again(
        &self,
        which: &Disputed,
        held: Held,
        data: &Dataset,
        leaf: &OpenedLeaf,
    ) -> Result<Answer, RpcError> {
        let (Disputed { name, version, .. }, Held { entry, opened }) = (which, held);
        if let Some(place) = self.models.use_now(name, *version) {
            let serving = place.serving();
            let subject = subject(which, &serving.info, serving.preparation.as_ref(), &entry)?;
            return ask(&serving.worker, &subject, data, leaf).await;
        }
        let Loaded { worker, info, preparation, room } = self.load_for_once(name, *version, &entry, opened).await?;
        let found = match subject(which, &info, preparation.as_ref(), &entry) {
            Ok(subject) => ask(&worker, &subject, data, leaf).await,
            Err(error) => Err(error),
        };
        worker.stop().await;
        drop(room);
        found
    }
}

/// A version that is here to be run.
struct Held {
    entry: Version,
    opened: Option<Opened>,
}

/// What the model made of a sample.
enum Answer {
    Refutes(bool),
    /// It takes no such sample, it says.
    Unfit(String),
}

/// The error is this machine's: who has too little memory convicts nobody.
async fn ask(worker: &Worker, subject: &Subject, data: &Dataset, leaf: &OpenedLeaf) -> Result<Answer, RpcError> {
    let local = Local::within(worker, RUN);
    match refutes(&local, subject, data, leaf).await {
        Ok(refuted) => Ok(Answer::Refutes(refuted)),
        Err(error) if matches!(local.fault(), Some(Fault::Input | Fault::Model)) => {
            Ok(Answer::Unfit(error.to_string()))
        }
        Err(error) => Err(unavailable(error.to_string())),
    }
}

const fn half(dispute: &DisputeState) -> u64 {
    dispute.draws.saturating_add(dispute.vote / 2)
}

fn subject(
    which: &Disputed,
    info: &ModelInfo,
    preparation: Option<&Preparation>,
    entry: &Version,
) -> Result<Subject, RpcError> {
    let name = format!("{}@{}", which.name, which.version);
    let domain = domain(info, preparation).map_err(|why| invalid(format!("{name} is not graded: {why}")))?;
    Ok(Subject { name, domain, task: entry.task, preparation: preparation.cloned() })
}
