//! `ledger ...`: blocks, transactions, state and evidence as they lie on this home's disk, and a check of all of it.

mod signers;
mod state;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use zero2ai_chain::{Archive, ChainError};
use zero2ai_ledger::Ledger;
use zero2ai_node::history;
use zero2ai_proto::{
    TxId,
    block::{Block, Header},
    calls::SealedBlock,
    encode,
    limits::SIGNED_BYTES,
    tx::{Tx, TxBody},
};

use super::{read_file, write_file};
use crate::{
    cli::LedgerCommand,
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Table, facts, plural},
};

/// The command. Reading and replaying are work for a thread that may block.
pub(crate) async fn ledger(home: &Path, command: LedgerCommand, out: Output) -> Outcome {
    let home = home.to_owned();
    let work = move || match command {
        LedgerCommand::Head => head(&home, out),
        LedgerCommand::Block { height } => block(&home, height, out),
        LedgerCommand::Tx { id } => tx(&home, id, out),
        LedgerCommand::State { key } => state::state(&home, &key, out),
        LedgerCommand::Signers { blocks } => signers::signers(&home, blocks, out),
        LedgerCommand::Evidence => evidence(&home, out),
        LedgerCommand::Verify { from } => verify(&home, from, out),
        LedgerCommand::Export { out: file, first, last } => export(&home, &file, first, last, out),
    };
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|e| Failure::new(Exit::Internal, format!("The reading of the ledger ended unexpectedly: {e}.")))?
}

fn failed(error: &ChainError) -> Failure {
    let exit = if matches!(error, ChainError::StoredBlock { .. }) { Exit::Unverified } else { Exit::Storage };
    Failure::new(exit, format!("The ledger cannot be read: {error}."))
}

/// The ledger after the newest block on this disk.
pub(crate) fn newest(home: &Path) -> Outcome<Ledger> {
    replay(home, &open(home)?)
}

fn open(home: &Path) -> Outcome<Archive> {
    // A home without a pool has no ledger, and should be told so.
    history::genesis(home).map_err(|e| Failure::new(Exit::Config, e.to_string()))?;
    Archive::open(&home.join("chain")).map_err(|e| failed(&e))
}

fn replay(home: &Path, archive: &Archive) -> Outcome<Ledger> {
    let genesis = history::genesis(home).map_err(|e| Failure::new(Exit::Config, e.to_string()))?;
    archive.begin(&genesis).and_then(|begun| archive.replay(begun, |_, _, _, _| {})).map_err(|e| failed(&e))
}

/// One stored block, read.
struct Read {
    sealed: SealedBlock,
    block: Block,
    header: Header,
}

fn read(archive: &Archive, height: u64) -> Outcome<Read> {
    let sealed = archive.block(height).map_err(|e| failed(&e))?.ok_or_else(|| {
        let why = match archive.height() {
            _ if (1..=archive.base()).contains(&height) => format!(
                "this ledger began with a snapshot of the state after block {}: ask a node that has the blocks before",
                archive.base()
            ),
            0 => "no block is on this disk yet".to_owned(),
            newest => format!("the newest block on this disk is {newest}"),
        };
        Failure::new(Exit::NotFound, format!("There is no block {height}: {why}."))
    })?;
    let block = Block::read(&sealed.block)?;
    let header = block.read_header()?;
    Ok(Read { sealed, block, header })
}

/// A block of this disk.
pub(crate) fn block_at(home: &Path, height: u64) -> Outcome<Block> {
    Ok(read(&open(home)?, height)?.block)
}

fn head(home: &Path, out: Output) -> Outcome {
    let archive = open(home)?;
    show(&read(&archive, archive.height())?, out)
}

fn block(home: &Path, height: u64, out: Output) -> Outcome {
    show(&read(&open(home)?, height)?, out)
}

fn show(r: &Read, out: Output) -> Outcome {
    let mut txs = Vec::new();
    for signed in &r.block.txs {
        txs.push((signed.tx_id()?, signed.signer(), signed.read_unverified().ok()));
    }
    let (h, certificate) = (&r.header, &r.sealed.certificate);
    let json = json!({
        "height": h.height, "block": certificate.block.to_string(), "time_ms": h.time_ms, "parent": h.parent.to_string(),
        "app_hash": h.app_hash.to_string(), "txs_root": h.txs_root.to_string(), "proposer": h.proposer.to_string(),
        "signers_hash": h.signers_hash.to_string(), "next_signers_hash": h.next_signers_hash.to_string(),
        "round": certificate.round, "bytes": r.sealed.block.len(),
        "signed_by": certificate.signatures.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>(),
        "txs": txs.iter().map(|(id, by, tx)| json!({
            "tx": id.to_string(), "account": by.to_string(), "nonce": tx.as_ref().map(|t| t.nonce),
            "kind": tx.as_ref().map(|t| kind(&t.body)),
        })).collect::<Vec<_>>(),
    });
    out.result(&json, || {
        let mut text = facts(&[
            ("height", h.height.to_string()),
            ("block", certificate.block.to_string()),
            ("time", format!("{} UTC", output::utc(h.time_ms))),
            ("state before it", h.app_hash.to_string()),
            ("proposed by", format!("{} in round {}", h.proposer.short(), certificate.round)),
            ("signed by", certificate.signatures.iter().map(|(k, _)| k.short()).collect::<Vec<_>>().join(", ")),
        ]);
        if !txs.is_empty() {
            let mut table = Table::new(&["transaction", "account", ">nonce", "what"]);
            for (id, by, tx) in &txs {
                let (nonce, what) = tx.as_ref().map_or((String::new(), "?"), |t| (t.nonce.to_string(), kind(&t.body)));
                table.row([id.to_string(), by.short(), nonce, what.to_owned()]);
            }
            let _ = write!(text, "\n{}", table.render(0));
        }
        text
    });
    Ok(())
}

/// What a transaction does, in a word.
fn kind(body: &TxBody) -> &'static str {
    match body {
        TxBody::Redeem(_) => "redeem",
        TxBody::SetRights(_) => "set rights",
        TxBody::SetSigners(_) => "set signers",
        TxBody::ClaimHandle(_) => "claim handle",
        TxBody::Publish(_) => "publish",
        TxBody::SetChannel(_) => "set channel",
        TxBody::Endorse(_) => "endorse",
        TxBody::Anchor(_) => "anchor",
        TxBody::Withdraw(_) => "withdraw",
        TxBody::Grant(_) => "grant",
        TxBody::Revoke(_) => "revoke",
        TxBody::Evidence(_) => "evidence",
        TxBody::RotateKey(_) => "rotate key",
        TxBody::SetRules(_) => "set rules",
        TxBody::Offer(_) => "offer",
        TxBody::Accept(_) => "accept",
        TxBody::Commit(_) => "commit",
        TxBody::Reveal(_) => "reveal",
        TxBody::Allot(_) => "allot",
        TxBody::Stake(_) => "stake",
        TxBody::Unstake(_) => "unstake",
        TxBody::Beacon(_) => "beacon",
        TxBody::SetGrading(_) => "set grading",
        TxBody::OpenRound(_) => "open round",
        TxBody::CommitRound(_) => "commit in a round",
        TxBody::RevealRound(_) => "reveal in a round",
        TxBody::OpenLeaves(_) => "open leaves",
        TxBody::Contradict(_) => "contradict",
        TxBody::Elect(_) => "elect",
        TxBody::Authorise(_) => "authorise",
        TxBody::SetPot(_) => "set pot",
        TxBody::Dispute(_) => "dispute",
        TxBody::Ballot(_) => "ballot",
        TxBody::Appeal(_) => "appeal",
    }
}

fn tx(home: &Path, wanted: TxId, out: Output) -> Outcome {
    let archive = open(home)?;
    // Newest first: what is asked for is mostly new.
    for height in (archive.base().saturating_add(1)..=archive.height()).rev() {
        let r = read(&archive, height)?;
        for (index, signed) in r.block.txs.iter().enumerate() {
            if signed.tx_id()? != wanted {
                continue;
            }
            let Tx { nonce, body } = signed
                .read_unverified()
                .map_err(|e| Failure::new(Exit::Unverified, format!("Transaction {wanted} cannot be read: {e}.")))?;
            let json = json!({
                "tx": wanted.to_string(), "height": height, "index": index, "block": r.sealed.certificate.block.to_string(),
                "time_ms": r.header.time_ms, "account": signed.signer().to_string(), "nonce": nonce, "kind": kind(&body),
                "body": format!("{body:?}"),
            });
            out.result(&json, || {
                let place = format!("{height}, transaction {index} of {}", r.block.txs.len());
                facts(&[
                    ("transaction", wanted.to_string()),
                    ("block", place),
                    ("time", format!("{} UTC", output::utc(r.header.time_ms))),
                    ("account", signed.signer().to_string()),
                    ("nonce", nonce.to_string()),
                    ("what", kind(&body).to_owned()),
                    ("content", format!("{body:?}")),
                ])
            });
            return Ok(());
        }
    }
    let blocks = plural(archive.height().saturating_sub(archive.base()), "block");
    let why = format!("No transaction {wanted} is in the {blocks} on this disk.");
    Err(Failure::new(Exit::NotFound, why))
}

fn evidence(home: &Path, out: Output) -> Outcome {
    let found = replay(home, &open(home)?)?.equivocations();
    let block = |id: Option<zero2ai_proto::BlockId>| id.map(|id| id.to_string());
    let rows: Vec<Value> = found
        .iter()
        .map(|(signer, height, e)| {
            json!({
                "signer": signer.to_string(), "height": height, "round": e.round, "step": e.step.name(), "power": e.power,
                "blocks": [block(e.blocks.0), block(e.blocks.1)], "reporter": e.reporter.to_string(),
                "tx": e.tx.to_string(), "recorded": e.recorded, "time_ms": e.time_ms,
            })
        })
        .collect();
    out.result(&json!({ "evidence": rows }), || {
        if found.is_empty() {
            return "No signer is proved to have contradicted itself.".to_owned();
        }
        let mut table = Table::new(&["signer", ">height", ">round", "step", ">power", "reported by", ">recorded"]);
        for (signer, height, e) in &found {
            table.row([
                signer.to_string(),
                height.to_string(),
                e.round.to_string(),
                e.step.name().to_owned(),
                e.power.to_string(),
                e.reporter.short(),
                e.recorded.to_string(),
            ]);
        }
        table.render(0)
    });
    Ok(())
}

fn verify(home: &Path, from: Option<PathBuf>, out: Output) -> Outcome {
    let genesis = from.map(|file| read_file("read the genesis in", &file, SIGNED_BYTES as u64)).transpose()?;
    let report = history::verify(home, genesis).map_err(|e| Failure::new(Exit::Unverified, e.to_string()))?;
    let faults: Vec<Value> = report.faults.iter().map(|f| json!({ "place": f.place, "why": f.why })).collect();
    let json = json!({
        "pool": report.pool.map(|p| p.to_string()), "base": report.base, "height": report.height, "block": report.head.map(|b| b.to_string()),
        "state_root": report.root.map(|r| r.to_string()), "txs": report.txs, "signatures": report.signatures,
        "receipts": report.receipts, "anchored": report.anchored, "faults": faults,
    });
    out.result(&json, || {
        let begins = match report.base {
            0 => "at the genesis".to_owned(),
            height => format!("with a snapshot of the state after block {height}, which its signers vouch for"),
        };
        facts(&[
            ("pool", report.pool.map(|p| p.to_string()).unwrap_or_default()),
            ("begins", begins),
            ("holds up to block", report.height.to_string()),
            ("transactions", report.txs.to_string()),
            ("signatures", format!("{}, each verified", report.signatures)),
            ("state root", report.root.map(|r| r.to_string()).unwrap_or_default()),
            ("receipts", format!("{}, {} of them anchored", report.receipts, report.anchored)),
        ])
    });
    if report.faults.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = report.faults.iter().map(|f| format!("{}: {}", f.place, f.why)).collect();
    Err(Failure::new(
        Exit::Unverified,
        format!(
            "The ledger on this disk does not hold. {}. Set the damaged folder (of a chain: all of it) aside and start the node: it \
             fetches the ledger from its peers; receipts must come from a copy.",
            named.join(". ")
        ),
    ))
}

fn export(home: &Path, file: &Path, first: u64, last: Option<u64>, out: Output) -> Outcome {
    let archive = open(home)?;
    let genesis = history::genesis(home).map_err(|e| Failure::new(Exit::Config, e.to_string()))?;
    let (first, last) = (first.max(archive.base().saturating_add(1)), last.unwrap_or(u64::MAX).min(archive.height()));
    let mut text = format!("{}\n", json!({ "genesis": hex::encode(&genesis) }));
    let mut blocks = 0u64;
    for height in first..=last {
        let r = read(&archive, height)?;
        let line = json!({
            "height": height, "id": r.sealed.certificate.block.to_string(), "time_ms": r.header.time_ms,
            "app_hash": r.header.app_hash.to_string(), "txs": r.block.txs.len(),
            "block": hex::encode(&r.sealed.block), "certificate": hex::encode(encode(&r.sealed.certificate)?),
        });
        let _ = writeln!(text, "{line}");
        blocks += 1;
    }
    write_file("write the ledger to", file, text.as_bytes())?;
    out.result(&json!({ "blocks": blocks, "first": first, "last": last, "file": file.display().to_string() }), || {
        format!("{} with their certificates are in {}.", plural(blocks, "block"), file.display())
    });
    Ok(())
}
