//! A juror's part in disputes: where this node sits, it asks who opened the leaf for the sample, runs the model on it, and votes, by itself. A
//! vote that was cast by hand stands.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::{self, JoinSet},
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

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{fetch::Watch, open::Opened, report::Local},
    models::Loaded,
    serve::errors::{invalid, unavailable},
};

/// How often the ledger is looked at: a small part of any window, since blocks come a second apart at most.
const EVERY: Duration = Duration::from_secs(3);
/// How long a seat is left alone after a try that came to nothing.
const PAUSE: Duration = Duration::from_secs(10);
/// Time for a sample to come.
const SHOWN: Duration = Duration::from_secs(60);
/// Time for the model to come, after which others have their turn.
const FETCH: Duration = Duration::from_secs(1_800);
/// Time for a model to be loaded and to answer one sample: what takes longer is not voted on, and holds up nobody else's dispute.
const RUN: Duration = Duration::from_secs(300);
/// Longer than any window that matters: of a try that never ends.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Seats that are seen to at once; the others wait.
const AT_ONCE: usize = 64;
/// Tries, [`PAUSE`] apart, after which what does not come or is not answered is not this machine's bad luck.
const TRIES: u32 = 3;

/// An instance of a dispute in which this node is to vote: the leaf in words, and the instance.
type Seat = (String, u8);

/// What was tried for a seat.
#[derive(Clone, Copy)]
struct Tried {
    next: Instant,
    /// Times that no sample came, or that the model found fault with the one that did.
    in_vain: u32,
}

/// What a try came to.
enum Came {
    Voted(bool),
    /// Who opened the leaf, or what he showed, is to blame, or this node's luck.
    InVain(String),
    /// This node is not able to vote now.
    Waits(String),
    /// The ledger takes no vote of this node here.
    Refused(String),
}

/// Votes wherever this node sits, until `stop`.
pub(crate) async fn keep_juries(core: Arc<Core>, stop: CancellationToken) {
    let (mut tried, mut running) = (BTreeMap::<Seat, Tried>::new(), JoinSet::new());
    // Who is being asked: for one sample at a time, since more than one is shown to nobody.
    let mut asked: HashMap<task::Id, NodeId> = HashMap::new();
    // One model is run at a time; whoever is slow to show his sample, or his model's chunks, holds up nobody else's dispute.
    let turn = Arc::new(Mutex::new(()));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        while let Some(ended) = running.try_join_next_with_id() {
            let (id, came) = ended.map_or_else(|error| (error.id(), None), |(id, came)| (id, Some(came)));
            asked.remove(&id);
            if let Some((seat, came)) = came {
                note(&mut tried, &seat, came);
            }
        }
        let seats = core.chain.read(|ledger| seats(ledger, &core.id));
        let seats: BTreeMap<Seat, _> = seats.into_iter().map(|(w, d)| ((w.to_string(), d.instance), (w, d))).collect();
        tried.retain(|seat, _| seats.contains_key(seat));
        for (seat, (which, dispute)) in seats {
            let now = Instant::now();
            let so_far = *tried.entry(seat.clone()).or_insert(Tried { next: now, in_vain: 0 });
            let opened_by = which.validator;
            if so_far.next > now || running.len() >= AT_ONCE || asked.values().any(|node| *node == opened_by) {
                continue;
            }
            // Not again before this try has ended, or long after.
            tried.insert(seat.clone(), Tried { next: now + FOREVER, ..so_far });
            let (core, turn) = (Arc::clone(&core), Arc::clone(&turn));
            let begun = running.spawn(async move {
                let came = core.vote(&which, &dispute, so_far.in_vain, &turn).await;
                (seat, came)
            });
            asked.insert(begun.id(), opened_by);
        }
    }
}

fn note(tried: &mut BTreeMap<Seat, Tried>, seat: &Seat, came: Came) {
    let leaf = &seat.0;
    let Some(tried) = tried.get_mut(seat) else { return };
    tried.next = Instant::now() + PAUSE;
    match came {
        Came::Voted(refuted) => tracing::info!(leaf, refuted, "voted over a disputed leaf"),
        Came::Waits(why) => tracing::info!(leaf, why, "a vote waits"),
        Came::InVain(why) => {
            tried.in_vain = tried.in_vain.saturating_add(1);
            tracing::info!(leaf, why, times = tried.in_vain, "a vote waits");
        }
        Came::Refused(why) => {
            tried.next += FOREVER;
            tracing::info!(leaf, why, "this node has no vote over a leaf");
        }
    }
}

/// Disputes over which this node may vote in the next block.
fn seats(ledger: &Ledger, me: &NodeId) -> Vec<(Disputed, DisputeState)> {
    // Whoever grades nothing does not go through all disputes there ever were.
    if ledger.member(me).is_none_or(|member| !member.rights.has(Rights::VALIDATOR)) {
        return Vec::new();
    }
    let open = ledger.disputes().into_iter().filter(|(_, dispute)| dispute.settled.is_none());
    open.filter(|(which, _)| ledger.may_vote(which, me)).collect()
}

/// True if `node` votes over an open dispute, or has: to whom a sample is shown.
pub(super) fn sits(ledger: &Ledger, which: &Disputed, node: &NodeId) -> bool {
    let Some(dispute) = ledger.dispute(which).filter(|dispute| dispute.settled.is_none()) else { return false };
    ledger.may_vote(which, node) || ledger.ballots(which, dispute.instance).iter().any(|(juror, _)| juror == node)
}

impl Core {
    /// Finds out what is to be voted, and votes so.
    async fn vote(&self, which: &Disputed, dispute: &DisputeState, in_vain: u32, turn: &Mutex<()>) -> Came {
        // A juror who cannot run the model does not vote, whatever he is shown.
        let _using = self.upkeep.using().await;
        let held = match tokio::time::timeout(FETCH, self.hold(which)).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => return Came::Waits(error.to_string()),
            Err(_) => return Came::Waits(format!("the model did not come within {FETCH:?}")),
        };
        let again = in_vain.saturating_add(1) >= TRIES;
        let refuted = match self.ask_sample(which, &dispute.leaf).await {
            Ok(data) => {
                let _turn = turn.lock().await;
                match tokio::time::timeout(RUN, self.ask_again(which, held, &data, &dispute.leaf)).await {
                    Ok(Ok(Answer::Refutes(refuted))) => refuted,
                    Ok(Ok(Answer::Unfit(why))) if !again => return Came::InVain(why),
                    Ok(Ok(Answer::Unfit(_))) => true,
                    Ok(Err(error)) => return Came::Waits(error.to_string()),
                    Err(_) => return Came::Waits(format!("the model did not answer within {RUN:?}")),
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
    async fn ask_sample(&self, which: &Disputed, leaf: &OpenedLeaf) -> Result<Dataset, String> {
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
        let bytes = tokio::time::timeout(SHOWN, asked).await.map_err(|_| format!("no sample within {SHOWN:?}"))?;
        let shown: ShownSample = decode(&bytes.map_err(|e| e.to_string())?, SHOWN_BYTES).map_err(|e| e.to_string())?;
        accept(shown, leaf).map_err(|e| e.to_string())
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
