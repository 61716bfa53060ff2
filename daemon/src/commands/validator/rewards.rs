//! What an epoch's work earned, and the pot that it is paid from.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;
use zero2ai_ledger::{Ledger, agreed};
use zero2ai_proto::{
    NodeId,
    tx::{SetPot, TxBody},
};

use super::stake::{replayed, submit};
use crate::{
    exit::Outcome,
    output::{Output, Table, ppm},
};

/// `pool pot`.
pub(crate) async fn pot(home: &Path, amount: Option<u64>, out: Output) -> Outcome {
    let Some(amount) = amount else {
        let ledger = replayed(home).await?;
        let (pot, height) = (ledger.pot(), ledger.height());
        out.result(&json!({ "pot": pot, "height": height }), || format!("The pot holds {pot}, after block {height}."));
        return Ok(());
    };
    let (_, height) = submit(home, TxBody::SetPot(SetPot { amount })).await?;
    out.result(&json!({ "pot": amount, "height": height }), || {
        format!("The pot holds {amount}, final in block {height}. 'zero2ai validator rewards' shows who earns it.")
    });
    Ok(())
}

/// What each validator was paid over all epochs.
pub(super) fn earned(ledger: &Ledger) -> BTreeMap<NodeId, u64> {
    let mut sums = BTreeMap::<NodeId, u64>::new();
    for (_, who, reward) in ledger.rewards() {
        let sum = sums.entry(who).or_default();
        *sum = sum.saturating_add(reward.paid.map_or(0, |paid| paid.amount));
    }
    sums
}

/// `validator rewards`.
pub(crate) async fn rewards(home: &Path, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let (all, pot) = (ledger.rewards(), ledger.pot());
    let json: Vec<_> = all
        .iter()
        .map(|(end, who, reward)| {
            #[allow(clippy::cast_precision_loss)] // a whole has six digits
            let agreement = agreed(reward) as f64 / 1e6;
            json!({
                "epoch_ends": end, "node": who.to_string(), "findings": reward.shared.len(), "agreement": agreement,
                "stake": reward.stake, "void": reward.void, "paid": reward.paid.map(|paid| paid.amount),
            })
        })
        .collect();
    out.result(&json!({ "height": ledger.height(), "pot": pot, "rewards": json }), || {
        if all.is_empty() {
            return format!("Nothing was shared in any epoch yet. The pot holds {pot}.");
        }
        let mut table = Table::new(&[">epoch ends", "node", ">findings", ">agreement", ">stake", "earned"]);
        for (end, who, reward) in &all {
            let agreement = u32::try_from(agreed(reward)).map_or_else(|_| "below 0".to_owned(), ppm);
            let earned = match (reward.paid, reward.void) {
                (None, false) => "open".to_owned(),
                (None, true) => "void".to_owned(),
                (Some(paid), void) => format!("{}{}", paid.amount, if void { ", void" } else { "" }),
            };
            table.row([
                end.to_string(),
                who.short(),
                reward.shared.len().to_string(),
                agreement,
                reward.stake.to_string(),
                earned,
            ]);
        }
        format!("{}The pot holds {pot}, after block {}.\n", table.render(0), ledger.height())
    });
    Ok(())
}
