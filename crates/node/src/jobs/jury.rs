//! A juror's part in disputes: where this node sits, it asks who opened the leaf for the sample, runs the model on it, and votes, by itself. A
//! vote that was cast by hand stands.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    NodeId,
    calls::{ShowSample, ShowSampleCall},
    decode,
    limits::SHOWN_BYTES,
    prepare::Preparation,
    rpc::RpcError,
    sample::ShownSample,
    state::{DisputeState, Version},
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
    serve::errors::{invalid, unavailable},
};

/// How often the ledger is looked at: a small part of any window, since blocks come a second apart at most.
const EVERY: Duration = Duration::from_secs(2);
/// How long a seat is left alone after a try that came to nothing.
const PAUSE: Duration = Duration::from_secs(5);
/// Time for a sample to come.
const SHOWN: Duration = Duration::from_secs(60);
/// Tries in which a loaded model gives no answer to a sample, after which the sample is to blame.
const TRIES: u32 = 3;

/// An instance of a dispute in which this node is to vote.
type Seat = (Disputed, u8);

/// What was tried for a seat.
struct Tried {
    next: Instant,
    /// Times that the model gave no answer.
    unanswered: u32,
}

/// Votes wherever this node sits, until `stop`.
pub(crate) async fn keep_juries(core: Arc<Core>, stop: CancellationToken) {
    let mut tried: HashMap<Seat, Tried> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let seats = core.chain.read(|ledger| seats(ledger, &core.id));
        tried.retain(|(which, instance), _| seats.iter().any(|(w, d)| w == which && d.instance == *instance));
        for (which, dispute) in seats {
            let now = Instant::now();
            let tried = tried.entry((which.clone(), dispute.instance)).or_insert(Tried { next: now, unanswered: 0 });
            if tried.next > now {
                continue;
            }
            let voted = tokio::select! {
                () = stop.cancelled() => return,
                voted = core.vote(&which, &dispute, &mut tried.unanswered) => voted,
            };
            match voted {
                Ok(refuted) => tracing::info!(leaf = %which, refuted, "voted over a disputed leaf"),
                Err(error) => tracing::info!(leaf = %which, %error, "a vote waits"),
            }
            tried.next = Instant::now() + PAUSE;
        }
    }
}

/// Disputes over which this node could vote in the next block, and has not.
fn seats(ledger: &Ledger, me: &NodeId) -> Vec<(Disputed, DisputeState)> {
    let next = ledger.height().saturating_add(1);
    let takes = |d: &DisputeState| d.settled.is_none() && d.tally.is_none() && d.draws < next && next <= d.vote_end();
    let waits = |which: &Disputed, d: &DisputeState| {
        ledger.ballots(which, d.instance).iter().any(|(juror, ballot)| juror == me && ballot.refuted.is_none())
    };
    ledger.disputes().into_iter().filter(|(which, dispute)| takes(dispute) && waits(which, dispute)).collect()
}

impl Core {
    /// Finds out what is to be voted, and votes so.
    async fn vote(&self, which: &Disputed, dispute: &DisputeState, unanswered: &mut u32) -> Result<bool, RpcError> {
        // Who opened the leaf has half of the window to show its sample; a juror who cannot run the model meanwhile does not vote for that.
        let late = self.chain.read(Ledger::height) >= dispute.draws.saturating_add(dispute.vote / 2);
        let refuted = match self.ask_sample(which, &dispute.leaf).await {
            Ok(data) => match self.ask_again(which, &data, &dispute.leaf).await? {
                Ok(refuted) => refuted,
                Err(why) => {
                    *unanswered = unanswered.saturating_add(1);
                    if *unanswered < TRIES {
                        return Err(unavailable(why.to_string()));
                    }
                    true
                }
            },
            Err(why) if late => {
                tracing::info!(leaf = %which, %why, "no sample was shown: it is taken for refuted");
                true
            }
            Err(why) => return Err(unavailable(why)),
        };
        let body = TxBody::Ballot(Ballot { disputed: which.clone(), refuted });
        self.account.submit(body, PATIENCE).await.map(|_| refuted)
    }

    /// The sample of a leaf from who opened it, as data of one sample.
    async fn ask_sample(&self, which: &Disputed, leaf: &OpenedLeaf) -> Result<Dataset, String> {
        let call = ShowSampleCall { leaf: which.clone() };
        let asked = self.roads.ask(&which.validator, |peer| async {
            let mut pieces = peer.stream::<ShowSample>(&call, SHOWN).await?;
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
