//! What an epoch's work earned, and the pot that it is paid from.

use std::path::Path;

use serde_json::json;
use zero2ai_ledger::agreed;
use zero2ai_proto::tx::{SetPot, TxBody};

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

/// `validator rewards`.
pub(crate) async fn rewards(home: &Path, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let (all, pot) = (ledger.rewards(), ledger.pot());
    let part = |end: u64, claim: u64| {
        let claims = ledger.epoch(end).map_or(0, |epoch| epoch.claims);
        #[allow(clippy::cast_precision_loss)] // a part of one, to be read
        let part = if claims == 0 { 0.0 } else { claim as f64 / claims as f64 };
        part
    };
    let json: Vec<_> = all
        .iter()
        .map(|(end, who, reward)| {
            #[allow(clippy::cast_precision_loss)] // a whole has six digits
            let agreement = agreed(reward) as f64 / 1e6;
            json!({
                "epoch_ends": end, "node": who.to_string(), "findings": reward.shared.len(), "agreement": agreement,
                "stake": reward.stake, "void": reward.void, "claim": reward.claim, "part": part(*end, reward.claim),
            })
        })
        .collect();
    out.result(&json!({ "height": ledger.height(), "pot": pot, "rewards": json }), || {
        let earned = "'zero2ai reputation' tells what everybody earned so far.";
        if all.is_empty() {
            return format!("Nothing was shared in this epoch yet. The pot holds {pot}. {earned}");
        }
        let mut table = Table::new(&[">epoch ends", "node", ">findings", ">agreement", ">stake", ">part of the pot"]);
        for (end, who, reward) in &all {
            let agreement = u32::try_from(agreed(reward)).map_or_else(|_| "below 0".to_owned(), ppm);
            let part = if reward.void { "void".to_owned() } else { format!("{:.4}", part(*end, reward.claim)) };
            table.row([
                end.to_string(),
                who.short(),
                reward.shared.len().to_string(),
                agreement,
                reward.stake.to_string(),
                part,
            ]);
        }
        format!("{}The pot holds {pot}, after block {}. {earned}\n", table.render(0), ledger.height())
    });
    Ok(())
}
