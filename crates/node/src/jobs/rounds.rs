//! A validator's part in rounds: it commits to what it found, and shows and opens it when the ledger says so, by itself. What it needs for
//! that is on disk before the commitment leaves, so that no restart costs it a bond.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zero2ai_ledger::{Ledger, STAKED_RULES, asked, round_commitment, round_job};
use zero2ai_proto::{
    ByteBuf, Digest, ModelName, decode, encode,
    keys::random_bytes,
    local::LocalData,
    rpc::RpcError,
    state::RoundState,
    tx::{CommitRound, Disputed, Endorse, OpenLeaves, OpenedLeaf, RevealRound, TxBody},
};
use zero2ai_store::secret_file;
use zero2ai_validator::{Findings, Leaves, own_salt};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{Tell, shown, tell},
    serve::errors::{internal, invalid, unavailable},
};

/// Folder of what is to be shown and opened, one file a round.
const FOLDER: &str = "rounds";
/// Bytes of one: a hundred thousand leaves and room to spare.
const FILE_BYTES: usize = 16 * 1024 * 1024;
/// How often the ledger is looked at: blocks come a second apart while there is something to say.
const EVERY: Duration = Duration::from_secs(1);
/// How long a round is left alone after a step that was refused.
const PAUSE: Duration = Duration::from_secs(5);
/// How long leaves wait to be opened for their samples to be kept.
const KEEPING: Duration = Duration::from_secs(10);

/// What a validator keeps of a round until it is settled.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: ModelName,
    version: u32,
    round: u64,
    endorse: Endorse,
    salt: ByteBuf,
    leaves: Leaves,
    /// What the leaves were salted with: shown of one leaf to a jury, if it comes to that.
    salts: ByteBuf,
    /// Where the data lie that the leaves are of.
    #[serde(default)]
    data: Option<LocalData>,
}

impl Kept {
    fn salts(&self) -> Result<&[u8; 32], RpcError> {
        self.salts.as_slice().try_into().map_err(|_| internal("kept salts of another length"))
    }
}

pub(super) fn file(home: &Path, name: &ModelName, version: u32, round: u64) -> PathBuf {
    home.join(FOLDER).join(format!("{}.cbor", Digest::of(&round_job(name, version, round))))
}

impl Core {
    /// The round of a version in which this node could commit to something now, and has not yet.
    pub(crate) fn open_round(&self, ledger: &Ledger, name: &ModelName, version: u32) -> Option<u64> {
        let round = self.round_of(ledger, name, version).ok()?;
        ledger.entry(name, version, round, &self.id).is_none().then_some(round)
    }

    /// The round of a version that this node could take part in; `None` where the pool's rules have no rounds.
    pub(crate) fn round_to_take(&self, name: &ModelName, version: u32) -> Result<Option<u64>, RpcError> {
        self.chain.read(|ledger| {
            if ledger.rules().at(ledger.height().saturating_add(1)) < STAKED_RULES {
                return Ok(None);
            }
            self.round_of(ledger, name, version).map(Some).map_err(invalid)
        })
    }

    /// The round of a version that takes commitments of this node in the next block, as far as can be told before its draw.
    fn round_of(&self, ledger: &Ledger, name: &ModelName, version: u32) -> Result<u64, String> {
        let (round, next) = (ledger.rounds(name, version), ledger.height().saturating_add(1));
        let state = ledger.round(name, version, round).filter(|state| state.outcome.is_none()).ok_or_else(|| {
            format!("no round of {name}@{version} is open: its owner opens one with 'zero2ai validator open {name}'")
        })?;
        let end = state.commit_end();
        if next > end {
            return Err(format!(
                "round {round} of {name}@{version} took commitments up to block {end}: wait for the next one"
            ));
        }
        if state.selection.is_some() && !state.seats(&self.id) {
            return Err(format!("this node has no seat in round {round} of {name}@{version}"));
        }
        Ok(round)
    }

    /// Commits to what was found, once the committee is drawn. What is to be done after that the node does by itself.
    pub(crate) async fn grade_in_round(
        &self,
        (found, data): (&Findings, LocalData),
        (name, version, round): (&ModelName, u32, u64),
        progress: &Tell,
    ) -> Result<(), RpcError> {
        let drawn = |state: &RoundState| state.selection.is_some().then_some(());
        self.wait_for(name, version, round, progress, "waiting for the draw of the committee", drawn).await?;
        self.round_to_take(name, version)?;
        let (salt, salts) = (random_bytes::<32>().map_err(internal)?, random_bytes::<32>().map_err(internal)?);
        let (rows, endorse) = (found.rows.clone(), found.endorse(name.clone(), version));
        let (name_, path) = (name.clone(), file(&self.home, name, version, round));
        // A commitment that may have left is never replaced: it could not be shown then, and that costs the bond.
        let kept = self
            .blocking(move || {
                if let Some(kept) = read_kept(&path)? {
                    return Ok(kept);
                }
                let leaves = Leaves::of(&rows, &salts);
                let endorse = Endorse { predictions_root: leaves.root(), ..endorse };
                let salt = ByteBuf::from(salt.to_vec());
                let salts = ByteBuf::from(salts.to_vec());
                let kept = Kept { name: name_, version, round, endorse, salt, leaves, salts, data: Some(data) };
                keep(&path, &kept)?;
                Ok(kept)
            })
            .await?;
        let salt: [u8; 32] = kept.salt.as_slice().try_into().map_err(|_| internal("a kept salt of another length"))?;
        let commitment = round_commitment(&self.pool, &self.id, round, &kept.endorse, &salt).map_err(internal)?;
        tell(progress, "committing to the figures", 0, 0);
        let body = CommitRound { name: name.clone(), version, round, commitment };
        self.account.submit(TxBody::CommitRound(body), PATIENCE).await.map(|_| ())
    }

    /// Waits until `done` says so of a round, and no longer than its reveals last.
    async fn wait_for(
        &self,
        name: &ModelName,
        version: u32,
        round: u64,
        progress: &Tell,
        what: &str,
        done: impl Fn(&RoundState) -> Option<()>,
    ) -> Result<(), RpcError> {
        loop {
            let (height, state) = self.chain.read(|l| (l.height(), l.round(name, version, round)));
            let state = state.ok_or_else(|| internal("a round that was open is not in the state"))?;
            if done(&state).is_some() {
                return Ok(());
            }
            if height > state.commit_end() {
                let end = state.commit_end();
                return Err(unavailable(format!(
                    "round {round} of {name}@{version} took commitments up to block {end}"
                )));
            }
            tell(progress, what, height, state.commit_end().saturating_add(1));
            tokio::time::sleep(EVERY).await;
        }
    }
}

fn keep(path: &Path, kept: &Kept) -> Result<(), RpcError> {
    let folder = path.parent().ok_or_else(|| internal("no folder for rounds"))?;
    std::fs::create_dir_all(folder).map_err(internal)?;
    secret_file::write(path, &encode(kept).map_err(internal)?).map_err(internal)
}

/// What is kept of a round, if anything is.
fn read_kept(path: &Path) -> Result<Option<Kept>, RpcError> {
    if !secret_file::exists(path).map_err(internal)? {
        return Ok(None);
    }
    let bytes = secret_file::read(path, FILE_BYTES).map_err(internal)?;
    decode(&bytes, FILE_BYTES).map(Some).map_err(internal)
}

/// The salt of one leaf that the node of this home opened, while it is kept: until its round is settled. With the sample it shows a
/// jury what the leaf is about, and nothing of any other.
///
/// # Errors
/// In words, if what is kept cannot be read.
pub fn leaf_salt(home: &Path, which: &Disputed) -> Result<Option<Digest>, String> {
    let path = file(home, &which.name, which.version, which.round);
    let Some(kept) = read_kept(&path).map_err(|e| e.to_string())? else { return Ok(None) };
    let salts = kept.salts().map_err(|e| e.to_string())?;
    Ok(Some(own_salt(salts, which.leaf.into())))
}

/// Which round each file is of: whole files are read only when something is due.
type Known = HashMap<PathBuf, (ModelName, u32, u64)>;

/// Shows and opens what this node committed to, until `stop`.
pub(crate) async fn keep_rounds(core: Arc<Core>, stop: CancellationToken) {
    let mut refused: HashMap<PathBuf, Instant> = HashMap::new();
    let mut known = Known::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let folder = core.home.join(FOLDER);
        let files = core.blocking(move || Ok(list(&folder))).await.unwrap_or_default();
        refused.retain(|_, at| at.elapsed() < PAUSE);
        known.retain(|path, _| files.contains(path));
        for path in files.into_iter().filter(|path| !refused.contains_key(path)).collect::<Vec<_>>() {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = step(&core, &mut known, path.clone()) => done,
            };
            if let Err(error) = done {
                tracing::info!(file = %path.display(), %error, "a round waits");
                refused.insert(path, Instant::now());
            }
        }
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "cbor")).collect()
}

/// Keeps the samples of leaves that are about to be opened beside their round for a jury, as far as they can be.
fn keep_shown(path: &Path, kept: &Kept, leaves: &[OpenedLeaf]) {
    let Kept { name, version, data: Some(data), .. } = kept else { return };
    match kept.salts().and_then(|salts| shown::keep(path, data, salts, leaves)) {
        Ok(whole) if whole == leaves.len() => {}
        Ok(part) => {
            tracing::warn!(%name, version, kept = part, of = leaves.len(), "not every sample can be shown to a jury")
        }
        Err(error) => tracing::warn!(%name, version, %error, "samples cannot be shown to a jury"),
    }
}

/// Does what is due for one kept round, if anything is.
async fn step(core: &Core, known: &mut Known, path: PathBuf) -> Result<(), RpcError> {
    let read = |path: PathBuf| core.blocking(move || read_kept(&path)?.ok_or_else(|| internal("a kept round is gone")));
    if !known.contains_key(&path) {
        let Kept { name, version, round, .. } = read(path.clone()).await?;
        known.insert(path.clone(), (name, version, round));
    }
    let Some((name, version, round)) = known.get(&path).cloned() else { return Ok(()) };
    let (height, state, entry) = core.chain.read(|ledger| {
        let entry = ledger.entry(&name, version, round, &core.id);
        (ledger.height(), ledger.round(&name, version, round), entry)
    });
    let Some(state) = state else { return Ok(()) };
    let missed = entry.is_none() && height >= state.commit_end();
    // A jury may ask for a sample until the round is settled, and with it all disputes over it.
    if missed || state.outcome.is_some() {
        return core
            .blocking(move || {
                shown::forget(&path)?;
                std::fs::remove_file(path).map_err(internal)
            })
            .await;
    }
    let (Some(entry), next) = (entry, height.saturating_add(1)) else { return Ok(()) };
    if entry.found.is_none() {
        if next > state.commit_end() && next <= state.reveal_end() {
            let Kept { endorse, salt, .. } = read(path).await?;
            let at = core.account.submit(TxBody::RevealRound(RevealRound { endorse, round, salt }), PATIENCE).await?;
            tracing::info!(%name, version, round, at, "showed what was committed to");
        }
        return Ok(());
    }
    let samples = entry.found.as_ref().map_or(0, |found| found.counts.samples);
    let places = asked(&state, &round_job(&name, version, round), &core.id, samples).filter(|_| entry.opened.is_none());
    if let Some(places) = places.filter(|_| entry.contradicted.is_none() && next <= state.open_end()) {
        let kept = read(path.clone()).await?;
        let missing = || internal("leaves that the ledger asks for are not kept");
        let leaves = kept.leaves.open(&places).ok_or_else(missing)?;
        let opened = leaves.clone();
        let keeping = core.blocking(move || {
            keep_shown(&path, &kept, &opened);
            Ok(())
        });
        // Not to open the leaves would cost more: data that take longer to read are kept behind it.
        if tokio::time::timeout(KEEPING, keeping).await.is_err() {
            tracing::warn!(%name, version, round, "the samples of opened leaves are still being read");
        }
        let body = OpenLeaves { name: name.clone(), version, round, leaves };
        let at = core.account.submit(TxBody::OpenLeaves(body), PATIENCE).await?;
        tracing::info!(%name, version, round, at, "opened the leaves that were drawn");
    }
    Ok(())
}
