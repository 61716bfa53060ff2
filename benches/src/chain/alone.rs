//! What one node does by itself: executing blocks, receipts, a light client's checks, and blocks in simulated time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use zero2ai_chain::simulation::steady::{Steady, steady};
use zero2ai_ledger::{
    Ledger, ReceiptLog, TrustedChain,
    light::{verify_log, verify_state},
};
use zero2ai_proto::{
    block::Block,
    encode,
    proof::SignedHeader,
    receipt::ProvenReceipt,
    state::key,
    tx::{Anchor, ClaimHandle, TxBody},
};
use zero2ai_store::{Log, LogConfig};

use super::{
    Figures,
    made::{Made, key as made_key, member, member_id, receipt},
};

/// Handles one account may claim: as the rules have it.
const HANDLES: u64 = 16;
/// Transactions of one block of claims: as many as fit.
const CLAIMS: usize = 1_200;
/// Receipts that one flush makes durable, when they come as fast as can be.
const FLUSH: u64 = 1_000;
/// Receipts between two anchors, likewise.
const ANCHOR: u64 = 10_000;
/// Receipts that are really different; a log of more repeats them.
const DISTINCT: u64 = 1_000;

#[allow(clippy::cast_precision_loss)] // counts of a bench
fn per_second(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Executes blocks of transactions that were never seen before: signatures, rules, state tree.
pub(crate) fn apply(transactions: u64) -> Result<Figures> {
    let members = u32::try_from(transactions.div_ceil(HANDLES))?;
    let keys: Vec<_> = (0..members).map(member).collect();
    let mut made = Made::new(4)?;
    made.admit(&keys)?;
    let begin = made.ledger.height();
    let mut txs = Vec::new();
    for nonce in 0..HANDLES {
        for (n, key) in keys.iter().enumerate() {
            let claim = TxBody::ClaimHandle(ClaimHandle { handle: format!("h{n}-{nonce}") });
            txs.push(made.sign(key, nonce, claim)?);
        }
    }
    let blocks = txs.chunks(CLAIMS).map(|txs| made.commit(txs)).collect::<Result<Vec<_>>>()?;
    let read = blocks.iter().map(|sealed| Ok(Block::read(&sealed.block)?)).collect::<Result<Vec<_>>>()?;

    let mut other = Made::new(4)?;
    other.admit(&keys)?;
    ensure!(other.ledger.height() == begin, "another beginning");
    let since = Instant::now();
    for block in &read {
        other.ledger.apply(block)?;
    }
    let rate = per_second(txs.len() as u64, since);
    ensure!(other.ledger.root() == made.ledger.root(), "another state");

    let since = Instant::now();
    let good = txs.iter().filter(|tx| tx.signature_is_valid(&made.pool())).count();
    ensure!(good == txs.len(), "a signature does not hold");
    Ok(vec![("transactions/s", rate), ("signatures alone, on one core, /s", per_second(good as u64, since))])
}

/// Receipts: signed, verified, appended to a log on disk, and anchored on a ledger.
pub(crate) fn receipts(count: u64, work: &Path) -> Result<Figures> {
    let (user, provider) = (member(1), member(0));
    let mut made = Made::new(1)?;
    made.admit(&[provider.clone(), user.clone()])?;
    let pool = made.pool();
    let since = Instant::now();
    let signed = (0..DISTINCT).map(|n| receipt(&pool, &user, &provider, n)).collect::<Result<Vec<_>>>()?;
    let signing = per_second(DISTINCT, since);
    let since = Instant::now();
    for receipt in &signed {
        receipt.verify(&pool)?;
    }
    let verifying = per_second(DISTINCT, since);
    let leaves = signed.iter().map(encode).collect::<Result<Vec<_>, _>>()?;

    let (mut log, _) = Log::open(&work.join("receipts"), LogConfig::default())?;
    let (mut tree, mut seq, mut on_chain) = (ReceiptLog::new(), 0, 0);
    let since = Instant::now();
    for (n, leaf) in (1..=count).zip(leaves.iter().cycle()) {
        log.append(leaf)?;
        tree.push(leaf);
        if n.is_multiple_of(FLUSH) || n == count {
            log.sync()?;
        }
        if n.is_multiple_of(ANCHOR) || n == count {
            on_chain += anchor(&mut made, &tree, &mut seq)?;
        }
    }
    let rate = per_second(count, since);
    let held = made.ledger.anchor(&provider.public()).context("no anchor")?;
    ensure!(held.size == count, "{} receipts are anchored", held.size);
    let bytes = leaves.iter().map(Vec::len).sum::<usize>() as u64 / DISTINCT;
    #[allow(clippy::cast_precision_loss)] // bytes of a bench
    Ok(vec![
        ("appended and anchored/s", rate),
        ("signed/s", signing),
        ("verified/s", verifying),
        ("bytes of one", bytes as f64),
        ("bytes of chain an anchor", on_chain as f64 / seq as f64),
    ])
}

/// Anchors the log as it is: the block with the anchor, and the empty one that proves it. Gives their bytes.
fn anchor(made: &mut Made, tree: &ReceiptLog, seq: &mut u64) -> Result<u64> {
    let provider = member(0);
    let last = made.ledger.anchor(&provider.public()).map_or(0, |a| a.size);
    let consistency = if last == 0 { Vec::new() } else { tree.consistency(last, tree.size())? };
    *seq += 1;
    let body = TxBody::Anchor(Anchor { seq: *seq, size: tree.size(), root: tree.root(), consistency });
    let tx = made.sign(&provider, *seq - 1, body)?;
    let (block, proof) = (made.commit(&[tx])?, made.commit(&[])?);
    Ok((encode(&block)?.len() + encode(&proof)?.len()) as u64)
}

/// A light client: headers it checks, and all that it needs for one receipt of a million under a genesis of a year ago, since
/// when the signers changed every month.
pub(crate) fn light(signers: u32, leaves: u64) -> Result<Figures> {
    const MONTHS: u32 = 12;
    let mut made = Made::new(signers)?;
    let keys: Vec<_> = (1..=signers + MONTHS).map(made_key).chain((0..1_000).map(member)).collect();
    made.admit(&keys)?;
    for month in 0..MONTHS {
        // One goes, one comes.
        made.change_signers((month + 2..=signers + month + 1).map(made_key).collect())?;
    }
    let proved = receipt(&made.pool(), &member(1), &member(0), 0)?;
    let leaf = encode(&proved)?;
    let mut tree = ReceiptLog::new();
    for n in 0..leaves {
        if n == leaves / 3 {
            tree.push(&leaf)
        } else {
            tree.push(&n.to_le_bytes())
        };
    }
    anchor(&mut made, &tree, &mut 0)?;
    let header: SignedHeader = made.headers.last().context("no header")?.clone();
    let entry = made.ledger.prove(&key::anchor(&member_id(0)), made.ledger.height() - 1)?;
    let proved = ProvenReceipt { receipt: proved, proof: tree.prove(leaves / 3, leaves)? };
    let genesis = made.ledger.genesis_bytes().to_vec();
    let parts = [
        genesis.len(),
        encode(&made.steps)?.len(),
        encode(&header)?.len(),
        encode(&entry)?.len(),
        encode(&proved)?.len(),
    ];

    let since = Instant::now();
    let chain = TrustedChain::with_steps(&genesis, &made.steps)?;
    let root = chain.verify_header(&header)?.app_hash;
    ensure!(verify_state(&root, &entry)?.is_some(), "no anchor");
    verify_log(&tree.root(), &proved.proof, &encode(&proved.receipt)?)?;
    proved.receipt.verify(&made.pool())?;
    let whole = since.elapsed().as_secs_f64() * 1e3;
    let (since, mut headers) = (Instant::now(), 0);
    while since.elapsed() < Duration::from_secs(1) {
        chain.verify_header(&header)?;
        headers += 1;
    }
    #[allow(clippy::cast_precision_loss)] // bytes of a bench
    Ok(vec![
        ("headers/s", per_second(headers, since)),
        ("bytes for a receipt after a year", parts.iter().sum::<usize>() as f64),
        ("of them steps of trust, bytes", parts[1] as f64),
        ("its check, ms", whole),
    ])
}

/// Blocks in simulated time, every message as long on its way.
pub(crate) fn simulated(signers: u8, dead: u8, one_way_ms: u64, blocks: usize) -> Result<Figures> {
    let took = steady(Steady { signers, dead, one_way_ms, blocks })?;
    #[allow(clippy::cast_precision_loss)] // milliseconds of a bench
    Ok(vec![("ms a block", took.all_ms as f64 / took.blocks.max(1) as f64), ("ms, the slowest", took.most_ms as f64)])
}

/// What a running ledger holds in memory and on disk, before and behind a number of anchors of the same provider.
pub(crate) fn growth(anchors: u64) -> Result<Figures> {
    let mut made = Made::new(4)?;
    made.admit(&[member(0)])?;
    let bytes = |ledger: &Ledger| ledger.scan(b"").map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let before = bytes(&made.ledger);
    let (mut tree, mut seq, mut blocks) = (ReceiptLog::new(), 0, 0);
    for _ in 0..anchors {
        for n in 0..1_000_000 / anchors {
            tree.push(&n.to_le_bytes());
        }
        blocks += anchor(&mut made, &tree, &mut seq)?;
    }
    #[allow(clippy::cast_precision_loss)] // bytes of a bench
    Ok(vec![("bytes of state", bytes(&made.ledger).saturating_sub(before) as f64), ("bytes of blocks", blocks as f64)])
}
