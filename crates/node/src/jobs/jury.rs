//! A juror's part in disputes: where this node sits, it asks who opened the leaf for the sample, runs the model on it, and votes, by itself. A
//! vote that was cast by hand stands.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
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
    worker::ModelInfo,
};
use zero2ai_validator::{
    Dataset, JobError, Subject,
    domain::domain,
    shown::{accept, refutes},
};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{fetch::Watch, report::Local},
    models::Loaded,
    serve::errors::invalid,
};

/// How often the ledger is looked at: a small part of any window, since blocks come a second apart at most.
const EVERY: Duration = Duration::from_secs(2);
/// How long a seat is left alone after a try that came to nothing.
const PAUSE: Duration = Duration::from_secs(5);
/// Time for a sample to come.
const SHOWN: Duration = Duration::from_secs(60);
/// Longer than any window that matters: of a try that never ends.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// The instance at which nobody is drawn.
const LAST: u8 = 3;
/// Seats for which samples are asked for at once; the others wait.
const AT_ONCE: usize = 16;
/// Tries in which a loaded model gives no answer to a sample, after which the sample is to blame.
const TRIES: u32 = 3;

/// An instance of a dispute in which this node is to vote: the leaf in words, and the instance.
type Seat = (String, u8);

/// What was tried for a seat.
#[derive(Clone, Copy)]
struct Tried {
    next: Instant,
    /// Times that the model gave no answer.
    unanswered: u32,
}

/// What a try came to.
enum Came {
    Voted(bool),
    /// The model was asked, and gave no answer.
    Unanswered(String),
    Waits(String),
    /// The ledger takes no vote of this node here.
    Refused(String),
}

/// Votes wherever this node sits, until `stop`.
pub(crate) async fn keep_juries(core: Arc<Core>, stop: CancellationToken) {
    let (mut tried, mut running) = (BTreeMap::<Seat, Tried>::new(), JoinSet::new());
    // One model at a time; whoever is slow to show his sample holds up nobody else's dispute.
    let turn = Arc::new(Mutex::new(()));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        while let Some(ended) = running.try_join_next() {
            let Ok((seat, came)) = ended else { continue };
            note(&mut tried, seat, came);
        }
        let seats = core.chain.read(|ledger| seats(ledger, &core.id));
        let seats: BTreeMap<Seat, _> = seats.into_iter().map(|(w, d)| ((w.to_string(), d.instance), (w, d))).collect();
        tried.retain(|seat, _| seats.contains_key(seat));
        for (seat, (which, dispute)) in seats {
            let now = Instant::now();
            let so_far = *tried.entry(seat.clone()).or_insert(Tried { next: now, unanswered: 0 });
            if so_far.next > now || running.len() >= AT_ONCE {
                continue;
            }
            // Not again before this try has ended, or long after.
            tried.insert(seat.clone(), Tried { next: now + FOREVER, ..so_far });
            let (core, turn) = (Arc::clone(&core), Arc::clone(&turn));
            running.spawn(async move {
                let came = core.vote(&which, &dispute, so_far.unanswered, &turn).await;
                (seat, came)
            });
        }
    }
}

fn note(tried: &mut BTreeMap<Seat, Tried>, seat: Seat, came: Came) {
    let leaf = &seat.0;
    match &came {
        Came::Voted(refuted) => tracing::info!(leaf, refuted, "voted over a disputed leaf"),
        Came::Unanswered(why) | Came::Waits(why) => tracing::info!(leaf, why, "a vote waits"),
        Came::Refused(why) => return tracing::info!(leaf, why, "this node has no vote over a leaf"),
    }
    if let Some(tried) = tried.get_mut(&seat) {
        tried.next = Instant::now() + PAUSE;
        tried.unanswered = tried.unanswered.saturating_add(u32::from(matches!(came, Came::Unanswered(_))));
    }
}

/// Disputes over which this node could vote in the next block, and has not.
fn seats(ledger: &Ledger, me: &NodeId) -> Vec<(Disputed, DisputeState)> {
    let next = ledger.height().saturating_add(1);
    let takes = |d: &DisputeState| d.settled.is_none() && d.tally.is_none() && d.draws < next && next <= d.vote_end();
    let votes = |which: &Disputed, d: &DisputeState| {
        let ballots = ledger.ballots(which, d.instance);
        let own = ballots.iter().find(|(juror, _)| juror == me);
        own.map_or_else(|| everyone(ledger, d, me), |(_, ballot)| ballot.refuted.is_none())
    };
    ledger.disputes().into_iter().filter(|(which, dispute)| takes(dispute) && votes(which, dispute)).collect()
}

/// True if a dispute is at its last instance and `node` may vote there without having been drawn, as far as can be told without its stake: the
/// ledger has the last word.
fn everyone(ledger: &Ledger, dispute: &DisputeState, node: &NodeId) -> bool {
    dispute.instance >= LAST
        && dispute.backers.iter().all(|backer| backer.who != *node)
        && ledger.member(node).is_some_and(|member| member.rights.has(Rights::VALIDATOR))
}

/// True if `node` sits, or may, over an open dispute: to whom a sample is shown.
pub(super) fn sits(ledger: &Ledger, which: &Disputed, node: &NodeId) -> bool {
    let Some(dispute) = ledger.dispute(which).filter(|dispute| dispute.settled.is_none()) else { return false };
    ledger.ballots(which, dispute.instance).iter().any(|(juror, _)| juror == node) || everyone(ledger, &dispute, node)
}

impl Core {
    /// Finds out what is to be voted, and votes so.
    async fn vote(&self, which: &Disputed, dispute: &DisputeState, unanswered: u32, turn: &Mutex<()>) -> Came {
        let leaf = &dispute.leaf;
        let found = match self.ask_sample(which, leaf).await {
            Ok(data) => {
                let _turn = turn.lock().await;
                self.ask_again(which, &data, leaf).await
            }
            // Who opened the leaf has half of the window to show its sample.
            Err(why) if self.chain.read(Ledger::height) >= dispute.draws.saturating_add(dispute.vote / 2) => {
                tracing::info!(leaf = %which, why, "no sample was shown: it is taken for refuted");
                Ok(Ok(true))
            }
            Err(why) => return Came::Waits(why),
        };
        let refuted = match found {
            Ok(Ok(refuted)) => refuted,
            Ok(Err(why)) if unanswered.saturating_add(1) < TRIES => return Came::Unanswered(why.to_string()),
            Ok(Err(_)) => true,
            // A juror who cannot run the model does not vote for that.
            Err(error) => return Came::Waits(error.to_string()),
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

    /// Runs the version that a leaf is about on its sample. The error outside is this node's; the one inside may be the sample's.
    async fn ask_again(
        &self,
        which: &Disputed,
        data: &Dataset,
        leaf: &OpenedLeaf,
    ) -> Result<Result<bool, JobError>, RpcError> {
        let Disputed { name, version, .. } = which;
        let _using = self.upkeep.using().await;
        let entry = self.version(name, *version).await?;
        if let Some(place) = self.models.use_now(name, *version) {
            let serving = place.serving();
            let subject = subject(which, &serving.info, serving.preparation.as_ref(), &entry)?;
            return Ok(refutes(&Local(&serving.worker), &subject, data, leaf).await);
        }
        let unheard = mpsc::channel(1).0;
        let opened = match entry.withdrawn {
            true => Some(self.open_withdrawn(name, *version, &entry).await?),
            false => self.bring(name, *version, None, Watch::steps(&unheard), true).await?.opened,
        };
        let Loaded { worker, info, preparation, room } =
            self.load_for_once(name, *version, &entry, opened).await?;
        let subject = subject(which, &info, preparation.as_ref(), &entry)?;
        let found = refutes(&Local(&worker), &subject, data, leaf).await;
        worker.stop().await;
        drop(room);
        Ok(found)
    }
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
