//! Audits: the proofs of everything the ledger says of one model, and their check by someone who holds only the genesis.
//!
//! What a verified audit says: these versions, grades and events are all there are (the history is counted, so nothing can
//! be left out), each figure follows from its counts, and each receipt shown was signed by both sides and anchored before
//! the audit's header. What it cannot say: that a validator signed those counts, for which there is only the word of the
//! block's signers (his signature is in the block, not in the export); that no provider kept a receipt back from it; and,
//! since it starts at the genesis alone, that signers of long ago did not sign another past later.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{
    AccountId, Digest, ManifestId, ModelName, NodeId, PoolId,
    block::Header,
    decode, encode,
    proof::StateProof,
    receipt::{AuditExport, ProviderReceipts, Receipt, ReceiptError, Status, request_hash},
    state::{AnchorState, Endorsement, Event, EventKind, Model, Score, Version, key},
};

use crate::{
    Ledger, LedgerError,
    draft::VALUE_BYTES,
    light::{LightError, TrustedChain, name::proven, show_buf},
    receipt_log::{LogError, verify_inclusion},
    rules::{check_counts, figures, score},
};

mod rounds;

pub use rounds::{EntryRow, RoundRow};

/// What an audit proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// The pool.
    pub pool: PoolId,
    /// The model asked about.
    pub name: ModelName,
    /// The header that everything is proved under.
    pub header: Header,
    /// How many signers certified it, of how many.
    pub signatures: (usize, usize),
    /// The model: its owner, newest version and channels.
    pub model: Model,
    /// All versions with their numbers, oldest first: who published what, when.
    pub versions: Vec<(u32, Version)>,
    /// All endorsements without a round: who graded which version, with which figures.
    pub endorsements: Vec<EndorsementRow>,
    /// All rounds, with what was revealed in each and what was proved wrong.
    pub rounds: Vec<RoundRow>,
    /// The scores of those versions that have any.
    pub scores: Vec<(u32, Score)>,
    /// The whole history, oldest first.
    pub events: Vec<Event>,
    /// The uses shown, by provider and place in his log.
    pub receipts: Vec<ReceiptRow>,
}

/// One endorsement of an [`AuditReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsementRow {
    /// The version.
    pub version: u32,
    /// Who graded it.
    pub validator: NodeId,
    /// What he found; figures and verdict were computed again.
    pub endorsement: Endorsement,
}

/// One use of an [`AuditReport`]: who, when, which version, how much, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Who asked.
    pub account: AccountId,
    /// Who answered.
    pub provider: NodeId,
    /// Place in the provider's log.
    pub index: u64,
    /// The receipt's id.
    pub id: Digest,
    /// The version that answered.
    pub version: u32,
    /// When the caller signed, milliseconds since 1970 UTC: told by him, not proven.
    pub asked_ms: u64,
    /// When the provider signed, milliseconds since 1970 UTC: told by him, not proven.
    pub answered_ms: u64,
    /// Rows predicted or tokens generated.
    pub units: u64,
    /// How it ended.
    pub status: Status,
    /// Salted commitment to the input.
    pub input: Digest,
    /// Salted commitment to the output.
    pub output: Digest,
}

/// Which part of an audit does not hold, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A shape of a newer program.
    #[error("the audit has version {0}, and this program knows 1: update it")]
    Version(u16),
    /// An audit of another pool.
    #[error("the audit is of pool {got}, and pool {expected} was asked for (or a byte of its genesis was altered)")]
    OtherPool {
        /// The pool that its genesis makes.
        got: PoolId,
        /// The pool asked for.
        expected: PoolId,
    },
    /// The path of signer sets.
    #[error("the path from the genesis: {0}")]
    Path(LightError),
    /// The header or its certificate.
    #[error("the header: {0}")]
    Header(LightError),
    /// An entry of the model, or its place among the entries.
    #[error("an entry: {0}")]
    Entry(LightError),
    /// An entry that the model's history calls for is not there.
    #[error("the entry {0} is missing from the audit, or proven absent though the history calls for it")]
    Missing(String),
    /// Entries that the model's history does not call for.
    #[error("the entry {0} does not belong to the audit of this model")]
    Extra(String),
    /// Proven entries contradict each other or their own figures.
    #[error("the entry {key} contradicts the others: {why}")]
    Contradiction {
        /// The entry.
        key: String,
        /// How.
        why: &'static str,
    },
    /// A provider appears twice, or its anchor is not proven.
    #[error("the anchor of provider {provider}: {why}")]
    Anchor {
        /// The provider.
        provider: NodeId,
        /// What failed.
        why: String,
    },
    /// A receipt is not where its provider's log has it.
    #[error("receipt {index} of provider {provider}: {source}")]
    Log {
        /// The provider.
        provider: NodeId,
        /// Its place in the log.
        index: u64,
        /// What failed.
        source: LogError,
    },
    /// A receipt's signatures, or their belonging together.
    #[error("receipt {index} of provider {provider}: {source}")]
    Receipt {
        /// The provider.
        provider: NodeId,
        /// Its place in the log.
        index: u64,
        /// What failed.
        source: ReceiptError,
    },
    /// A receipt of something else than was audited.
    #[error("receipt {index} of provider {provider} does not belong here: {why}")]
    Foreign {
        /// The provider.
        provider: NodeId,
        /// Its place in the log.
        index: u64,
        /// Why.
        why: &'static str,
    },
}

impl Ledger {
    /// The proofs of all entries of a model under the state after `height`, in the order of [`AuditExport::entries`]:
    /// model, events, then each version with its score (an absence before its first endorsement), its endorsements in the order of
    /// their events, and its rounds, each with its reveals in that order and what contradicts them. `height` is one below that of the header they will be shown with.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] if the model did not exist at that height; others as [`Ledger::prove`].
    pub fn audit_entries(&self, name: &ModelName, height: u64) -> Result<Vec<StateProof>, LedgerError> {
        let mut proofs = Vec::new();
        let mut show = |key: Vec<u8>| -> Result<Option<Vec<u8>>, LedgerError> {
            let proof = self.prove(&key, height)?;
            let value = proof.value.clone().map(zero2ai_proto::ByteBuf::into_vec);
            proofs.push(proof);
            Ok(value)
        };
        let model = show(key::model(name))?.ok_or_else(|| LedgerError::Missing(format!("the model {name}")))?;
        let model: Model = decode(&model, VALUE_BYTES)?;
        let mut events = Vec::new();
        for index in 0..model.events {
            if let Some(event) = show(key::event(name, index))? {
                events.push(decode(&event, VALUE_BYTES)?);
            }
        }
        for version in 1..=model.latest {
            show(key::version(name, version))?;
            show(key::score(name, version))?;
            for event in endorsed(&events, version) {
                show(key::endorsement(name, version, &event.account))?;
            }
            rounds::show_all((name, version), &events, &mut show)?;
        }
        Ok(proofs)
    }
}

/// The endorsements of a version that the history tells of, in its order.
fn endorsed(events: &[Event], version: u32) -> impl Iterator<Item = &Event> {
    events.iter().filter(move |e| e.kind == EventKind::Endorsed && e.version == version)
}

/// Checks an audit whole, offline: genesis → signer sets → header → entries → anchors → receipts. The caller names the
/// pool he means, by its id; a genesis file gives it as [`PoolId::of`].
///
/// # Errors
/// The first part that does not hold, by name: see [`AuditError`].
pub fn verify_audit(expected: &PoolId, export: &AuditExport) -> Result<AuditReport, AuditError> {
    if export.version != 1 {
        return Err(AuditError::Version(export.version));
    }
    let got = PoolId::of(&export.genesis);
    if got != *expected {
        return Err(AuditError::OtherPool { got, expected: *expected });
    }
    let chain = TrustedChain::with_steps(&export.genesis, &export.steps).map_err(AuditError::Path)?;
    let header = chain.verify_header(&export.header).map_err(AuditError::Header)?;
    let signers = chain.signers_at(header.height).as_slice().len();
    let mut report = read_entries(&export.name, header, &export.entries, got)?;
    report.signatures = (export.header.certificate.signatures.len(), signers);
    let mut seen = BTreeSet::new();
    for provider in &export.providers {
        if !seen.insert(provider.provider) {
            let why = "it appears twice".to_owned();
            return Err(AuditError::Anchor { provider: provider.provider, why });
        }
        let rows = read_receipts(&report, provider)?;
        report.receipts.extend(rows);
    }
    Ok(report)
}

/// Walks the entries in the order that the model's own history dictates.
struct Walk<'a> {
    root: Digest,
    proofs: std::slice::Iter<'a, StateProof>,
}

impl Walk<'_> {
    fn maybe<T: Serialize + DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<T>, AuditError> {
        let proof = self.proofs.next().ok_or_else(|| AuditError::Missing(crate::light::show(key)))?;
        proven(&self.root, proof, key).map_err(AuditError::Entry)
    }

    fn must<T: Serialize + DeserializeOwned>(&mut self, key: &[u8]) -> Result<T, AuditError> {
        self.maybe(key)?.ok_or_else(|| AuditError::Missing(crate::light::show(key)))
    }
}

fn read_entries(
    name: &ModelName,
    header: Header,
    proofs: &[StateProof],
    pool: PoolId,
) -> Result<AuditReport, AuditError> {
    let mut walk = Walk { root: header.app_hash, proofs: proofs.iter() };
    let model: Model = walk.must(&key::model(name))?;
    // Both counts below come from the proven model, and each turn takes one proof: they end with the proofs.
    let mut events = Vec::new();
    for index in 0..model.events {
        events.push(walk.must::<Event>(&key::event(name, index))?);
    }
    let transferred = events.iter().rev().find(|e| e.kind == EventKind::Transferred);
    if transferred.or(events.first()).is_some_and(|event| event.account != model.owner) {
        let why = "the history tells another owner";
        return Err(AuditError::Contradiction { key: crate::light::show(&key::model(name)), why });
    }
    let (mut versions, mut endorsements, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    let mut all_rounds = Vec::new();
    for number in 1..=model.latest {
        let version_key = key::version(name, number);
        let version: Version = walk.must(&version_key)?;
        check_publication(&version_key, number, &version, &events)?;
        let score_key = key::score(name, number);
        let told: Option<Score> = walk.maybe(&score_key)?;
        let first = endorsements.len();
        for event in endorsed(&events, number) {
            let (validator, key) = (event.account, key::endorsement(name, number, &event.account));
            let endorsement: Endorsement = walk.must(&key)?;
            check_endorsement(&key, name, number, &version, &endorsement, event)?;
            endorsements.push(EndorsementRow { version: number, validator, endorsement });
        }
        let graded = &endorsements[first..];
        let computed = (!graded.is_empty()).then(|| score(graded.iter().map(|row| &row.endorsement)));
        let (found, computed) = rounds::read(&mut walk, name, (number, &version), &events, computed)?;
        all_rounds.extend(found);
        if told != computed {
            let why = "the score is not what the endorsements come to";
            return Err(AuditError::Contradiction { key: crate::light::show(&score_key), why });
        }
        scores.extend(told.map(|score| (number, score)));
        versions.push((number, version));
    }
    if let Some(proof) = walk.proofs.next() {
        return Err(AuditError::Extra(show_buf(&proof.key)));
    }
    Ok(AuditReport {
        pool,
        name: name.clone(),
        header,
        signatures: (0, 0),
        model,
        versions,
        endorsements,
        rounds: all_rounds,
        scores,
        events,
        receipts: Vec::new(),
    })
}

fn check_publication(key: &[u8], number: u32, version: &Version, events: &[Event]) -> Result<(), AuditError> {
    let mut publications = events.iter().filter(|e| e.kind == EventKind::Published && e.version == number);
    let told = |e: &Event| e.account == version.publisher && e.height == version.height && e.time_ms == version.time_ms;
    if publications.next().is_some_and(told) && publications.next().is_none() {
        return Ok(());
    }
    let why = "the history tells its publication otherwise";
    Err(AuditError::Contradiction { key: crate::light::show(key), why })
}

fn check_endorsement(
    key: &[u8],
    name: &ModelName,
    number: u32,
    version: &Version,
    told: &Endorsement,
    event: &Event,
) -> Result<(), AuditError> {
    let fail = |why| Err(AuditError::Contradiction { key: crate::light::show(key), why });
    if told.counts.name != *name || told.counts.version != number {
        return fail("its counts are of another version");
    }
    if (told.tx, told.height) != (event.tx, event.height) {
        return fail("the history names another transaction or height");
    }
    if told.committed.is_some_and(|place| place.height >= told.height || place.height < version.height) {
        return fail("it was not committed to between the publication and the endorsement");
    }
    if check_counts(&told.counts, version).is_err() {
        return fail("its counts contradict each other or the number of the model's classes");
    }
    let computed = figures(&told.counts, version).map(|f| Endorsement {
        height: told.height,
        tx: told.tx,
        committed: told.committed,
        ..f
    });
    if computed.as_ref() != Some(told) {
        return fail("its figures do not follow from its counts");
    }
    Ok(())
}

fn read_receipts(report: &AuditReport, from: &ProviderReceipts) -> Result<Vec<ReceiptRow>, AuditError> {
    let provider = from.provider;
    let fail = |why: String| AuditError::Anchor { provider, why };
    let anchor: Option<AnchorState> =
        proven(&report.header.app_hash, &from.anchor, &key::anchor(&provider)).map_err(|e| fail(e.to_string()))?;
    if from.receipts.is_empty() {
        return Ok(Vec::new());
    }
    let anchor = anchor.ok_or_else(|| fail("it is proven that there is none, and receipts are shown".into()))?;
    let (mut rows, mut requests) = (Vec::<ReceiptRow>::with_capacity(from.receipts.len()), BTreeSet::new());
    for proved in &from.receipts {
        let index = proved.proof.index;
        let foreign = |why| AuditError::Foreign { provider, index, why };
        if rows.last().is_some_and(|last| last.index >= index) {
            return Err(foreign("receipts come in ascending order of their place, each once"));
        }
        if proved.proof.size != anchor.size {
            return Err(foreign("its proof is under another size of the log than is anchored"));
        }
        let leaf = encode(&proved.receipt).map_err(|e| AuditError::Receipt { provider, index, source: e.into() })?;
        let source = |source| AuditError::Log { provider, index, source };
        verify_inclusion(&anchor.root, &proved.proof, &leaf).map_err(source)?;
        rows.push(read_receipt(report, provider, index, &proved.receipt)?);
        let asked = request_hash(&proved.receipt.request);
        if !requests.insert(asked.map_err(|e| AuditError::Receipt { provider, index, source: e.into() })?) {
            return Err(foreign("its request was answered before: a request is used, and billed, once"));
        }
    }
    Ok(rows)
}

fn read_receipt(
    report: &AuditReport,
    provider: NodeId,
    index: u64,
    receipt: &Receipt,
) -> Result<ReceiptRow, AuditError> {
    let source = |source| AuditError::Receipt { provider, index, source };
    let foreign = |why| AuditError::Foreign { provider, index, why };
    let (account, request, response) = receipt.verify(&report.pool).map_err(source)?;
    if request.provider != provider {
        return Err(foreign("it was asked of another provider"));
    }
    if request.name != report.name {
        return Err(foreign("it is of another model"));
    }
    let sealed: Option<&ManifestId> =
        report.versions.iter().find(|(number, _)| *number == request.version).map(|(_, version)| &version.manifest);
    if sealed != Some(&request.manifest) {
        return Err(foreign("it names a version or manifest that was never published"));
    }
    Ok(ReceiptRow {
        account,
        provider,
        index,
        id: receipt.id().map_err(|e| source(e.into()))?,
        version: request.version,
        asked_ms: request.time_ms,
        answered_ms: response.time_ms,
        units: response.units,
        status: response.status,
        input: request.commitment,
        output: response.commitment,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{
        SecretKey, TxId,
        manifest::{Domain, Format, Task},
        tx::{ClassCounts, Endorse, Thresholds},
    };

    use super::*;

    /// Signers who let such an entry in would be found out by any auditor.
    #[test]
    fn counts_that_contradict_themselves_are_found_though_their_figures_follow() {
        let (name, validator): (ModelName, _) =
            ("lab/digits".parse().unwrap(), SecretKey::from_bytes(&[1; 32]).public());
        let version = Version {
            manifest: ManifestId([1; 32]),
            publisher: validator,
            format: Format::Onnx,
            task: Task::Classify { classes: 2 },
            domain: Domain::Pool,
            bytes: 1,
            chunks: 1,
            base: None,
            thresholds: Thresholds::default(),
            height: 1,
            time_ms: 1,
            withdrawn: false,
        };
        let tx = TxId([7; 32]);
        let event = Event { kind: EventKind::Endorsed, version: 1, account: validator, tx, height: 2, time_ms: 2 };
        let class = ClassCounts { tp: 49, fp: 1, fn_: 1 };
        let good = Endorse {
            name: name.clone(),
            version: 1,
            classes: vec![class, class],
            samples: 100,
            correct: 98,
            p50_us: 1,
            dataset_root: Digest([1; 32]),
            predictions_root: Digest([2; 32]),
        };
        let check = |counts: Endorse| {
            let told = Endorsement { height: 2, tx, ..figures(&counts, &version).unwrap() };
            check_endorsement(b"endorsement", &name, 1, &version, &told, &event)
        };
        assert_eq!(check(good.clone()), Ok(()));
        let why = "its counts contradict each other or the number of the model's classes";
        let found = Err(AuditError::Contradiction { key: "endorsement".into(), why });
        assert_eq!(check(Endorse { samples: 1_000, ..good.clone() }), found, "more samples than were counted");
        assert_eq!(check(Endorse { correct: 100, ..good.clone() }), found, "more right answers than true positives");
        let three = Endorse { classes: vec![class; 3], samples: 150, correct: 147, ..good };
        assert_eq!(check(three), found, "three classes of two");
    }
}
