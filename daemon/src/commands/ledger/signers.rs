//! `ledger signers`: who signs blocks, and who of them has been silent, from the certificates on this disk.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use zero2ai_proto::NodeId;

use super::{open, read, replay};
use crate::{
    exit::Outcome,
    output::{Output, Table},
};

/// What one signer did in the blocks that were looked at.
#[derive(Clone, Copy, Default)]
struct Signed {
    blocks: u64,
    proposed: u64,
    last: u64,
}

pub(super) fn signers(home: &Path, blocks: u64, out: Output) -> Outcome {
    let archive = open(home)?;
    let ledger = replay(home, &archive)?;
    let newest = archive.height();
    let first = newest.saturating_sub(blocks.saturating_sub(1)).max(archive.base().saturating_add(1));
    let mut seen: BTreeMap<NodeId, Signed> = BTreeMap::new();
    for height in first..=newest {
        let r = read(&archive, height)?;
        for (signer, _) in &r.sealed.certificate.signatures {
            let signed = seen.entry(*signer).or_default();
            signed.blocks = signed.blocks.saturating_add(1);
            signed.last = height;
        }
        let proposer = seen.entry(r.header.proposer).or_default();
        proposer.proposed = proposer.proposed.saturating_add(1);
    }
    let looked = newest.saturating_add(1).saturating_sub(first);
    let sets = ledger.signers_state();
    let rows: Vec<_> = sets
        .next
        .as_slice()
        .iter()
        .map(|signer| (*signer, seen.get(&signer.key).copied().unwrap_or_default()))
        .collect();
    let list: Vec<Value> = rows
        .iter()
        .map(|(signer, did)| {
            json!({
                "signer": signer.key.to_string(), "power": signer.power, "signed": did.blocks, "proposed": did.proposed,
                "last": Some(did.last).filter(|last| *last > 0),
            })
        })
        .collect();
    let json = json!({ "height": newest, "blocks": looked, "signers": list });
    out.result(&json, || {
        let mut table = Table::new(&["signer", ">power", ">signed", ">proposed", "last signed"]);
        for (signer, did) in &rows {
            let last = match did.last {
                0 => format!("in none of the last {looked}"),
                last if last == newest => format!("block {last}, the newest"),
                last => format!("block {last}, {} ago", newest.saturating_sub(last)),
            };
            table.row([
                signer.key.to_string(),
                signer.power.to_string(),
                format!("{} of {looked}", did.blocks),
                did.proposed.to_string(),
                last,
            ]);
        }
        table.render(0)
    });
    Ok(())
}
