//! Disputes over what a model really said: which leaves were opened, who disputes which, who sits, what they found.

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_ledger::Ledger;
use zero2ai_node::{home::Home, leaf_salt};
use zero2ai_proto::{
    ModelName, NodeId,
    state::{BallotState, DisputeState},
    tx::{Ballot, Dispute, Disputed, OpenLeaves, OpenedLeaf, TxBody},
};
use zero2ai_validator::{Dataset, salted};

use super::stake::{latest, replayed, submit};
use crate::{
    cli::{CheckArgs, Finding},
    commands::ledger::block_at,
    exit::{Exit, Failure, Outcome},
    output::{Output, Table},
};

/// The leaves that a validator opened in a round, as they stand in the block that took them.
async fn opened(home: &Path, ledger: &Ledger, of: (&ModelName, u32, u64), who: NodeId) -> Outcome<Vec<OpenedLeaf>> {
    let (name, version, round) = of;
    let Some(height) = ledger.entry(name, version, round, &who).and_then(|entry| entry.opened) else {
        return Ok(Vec::new());
    };
    let home = home.to_owned();
    let read = tokio::task::spawn_blocking(move || block_at(&home, height)).await;
    let block =
        read.map_err(|e| Failure::new(Exit::Internal, format!("The reading of a block ended unexpectedly: {e}.")))??;
    // What is in a block that was applied can be read.
    let bodies = block.txs.iter().filter(|signed| signed.signer() == who).filter_map(|s| s.read_unverified().ok());
    for tx in bodies {
        if let TxBody::OpenLeaves(OpenLeaves { name: of, version: v, round: r, leaves }) = tx.body
            && (&of, v, r) == (name, version, round)
        {
            return Ok(leaves);
        }
    }
    Ok(Vec::new())
}

/// `validator leaves`.
pub(super) async fn leaves(home: &Path, name: ModelName, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let version = latest(&ledger, &name)?;
    let round = ledger.rounds(&name, version);
    let mut all = Vec::new();
    for (validator, _) in ledger.entries(&name, version, round) {
        for leaf in opened(home, &ledger, (&name, version, round), validator).await? {
            let which = Disputed { name: name.clone(), version, round, validator, leaf: leaf.index };
            all.push((which, leaf));
        }
    }
    let json: Vec<_> = all
        .iter()
        .map(|(which, leaf)| {
            json!({
                "leaf": which.to_string(), "label": leaf.label, "answer": leaf.answer, "sample": leaf.sample.to_string(),
            })
        })
        .collect();
    out.result(&json!({ "name": name.to_string(), "version": version, "round": round, "leaves": json }), || {
        if all.is_empty() {
            return format!("No leaves were opened in the newest round of {name}@{version}.");
        }
        let mut table = Table::new(&["leaf", ">label", ">answer", "digest of the sample"]);
        for (which, leaf) in &all {
            table.row([which.to_string(), leaf.label.to_string(), leaf.answer.to_string(), leaf.sample.to_string()]);
        }
        table.render(0)
    });
    Ok(())
}

/// `validator dispute`.
pub(super) async fn dispute(home: &Path, which: Disputed, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let Disputed { name, version, round, validator, leaf } = &which;
    let mut found = opened(home, &ledger, (name, *version, *round), *validator).await?.into_iter();
    let Some(leaf) = found.find(|opened| opened.index == *leaf) else {
        let why = format!("{which} was not opened: 'zero2ai validator leaves {name}' tells what was.");
        return Err(Failure::new(Exit::NotFound, why));
    };
    let body = Dispute { name: name.clone(), version: *version, round: *round, validator: *validator, leaf };
    let (_, height) = submit(home, TxBody::Dispute(body)).await?;
    out.result(&json!({ "leaf": which.to_string(), "height": height }), || {
        format!("The leaf is disputed, final in block {height}. 'zero2ai validator disputes' shows the jury once it is drawn.")
    });
    Ok(())
}

/// `validator salt`.
pub(super) fn salt(home: &Path, which: &Disputed, out: Output) -> Outcome {
    // Each node keeps salts by round and place: of another's leaf it would tell its own, which fits nothing.
    let ours = Home::open(home)?.key.public() == which.validator;
    let found = if ours { leaf_salt(home, which) } else { Ok(None) };
    let found = found.map_err(|why| Failure::new(Exit::Storage, format!("{why}.")))?;
    let Some(salt) = found else {
        let why = format!("Nothing is kept of that round here: {which} is another node's, or can be disputed no more.");
        return Err(Failure::new(Exit::NotFound, why));
    };
    out.result(&json!({ "leaf": which.to_string(), "sample": which.leaf, "salt": salt.to_string() }), || {
        format!("{salt}\nHand it to the jury with sample {} of the run's data, counted from 0.", which.leaf)
    });
    Ok(())
}

/// `validator check`.
pub(super) async fn check(home: &Path, args: CheckArgs, out: Output) -> Outcome {
    let (which, salt) = (args.leaf, args.salt);
    let Some(state) = replayed(home).await?.dispute(&which) else {
        return Err(Failure::new(Exit::NotFound, format!("No dispute over {which} is on the ledger of this disk.")));
    };
    let data = args.columns.of(&args.data)?;
    let read = tokio::task::spawn_blocking(move || Dataset::read(&data)).await;
    let read = read.map_err(|e| Failure::new(Exit::Internal, format!("The reading ended unexpectedly: {e}.")))?;
    let data = read.map_err(|e| Failure::new(Exit::Invalid, format!("{e}.")))?;
    let fits = data.len() == 1 && data.sample_hash(0).is_some_and(|hash| salted(&salt, &hash) == state.leaf.sample);
    if !fits {
        let why = format!("{which} is about another sample, or has another salt: its digest is {}.", state.leaf.sample);
        return Err(Failure::new(Exit::Unverified, why));
    }
    if let Some(label) = data.labels().and_then(|labels| labels.first().copied())
        && label != state.leaf.label
    {
        let why = format!("{which} claims label {}, where the sample has {label}: vote 'refuted'.", state.leaf.label);
        return Err(Failure::new(Exit::Unverified, why));
    }
    let json = json!({ "leaf": which.to_string(), "label": state.leaf.label, "answer": state.leaf.answer });
    out.result(&json, || {
        format!(
            "The leaf is about this sample: label {}, answer {}. Run {}@{} on it, then vote with 'zero2ai validator ballot'.",
            state.leaf.label, state.leaf.answer, which.name, which.version
        )
    });
    Ok(())
}

/// `validator ballot`.
pub(super) async fn ballot(home: &Path, which: Disputed, finding: Finding, out: Output) -> Outcome {
    let refuted = finding == Finding::Refuted;
    let (_, height) = submit(home, TxBody::Ballot(Ballot { disputed: which.clone(), refuted })).await?;
    out.result(&json!({ "leaf": which.to_string(), "refuted": refuted, "height": height }), || {
        let word = if refuted { "the model does not say that" } else { "the model says that" };
        format!("This node's vote is '{word}', final in block {height}.")
    });
    Ok(())
}

/// `validator appeal`.
pub(super) async fn appeal(home: &Path, which: Disputed, out: Output) -> Outcome {
    let (_, height) = submit(home, TxBody::Appeal(which.clone())).await?;
    out.result(&json!({ "leaf": which.to_string(), "height": height }), || {
        format!("The dispute goes to the next instance, final in block {height}.")
    });
    Ok(())
}

/// Where a dispute stands at the next block.
fn stands(state: &DisputeState, next: u64) -> String {
    let said = |refuted: bool| if refuted { "refuted" } else { "stands" };
    match (state.settled, state.tally) {
        (Some(height), Some(tally)) => format!("{}, settled in block {height}", said(tally.refuted())),
        (Some(height), None) => format!("settled in block {height}"),
        (None, Some(tally)) => format!("{}, appeals to block {}", said(tally.refuted()), state.appeal_end()),
        (None, None) if next <= state.draws => format!("its jury is drawn after block {}", state.draws),
        (None, None) => format!("ballots to block {}", state.vote_end()),
    }
}

fn told(which: &Disputed, state: &DisputeState, jury: &[(NodeId, BallotState)]) -> Value {
    let jury: Vec<_> = jury
        .iter()
        .map(
            |(juror, b)| json!({ "node": juror.to_string(), "weight": b.weight, "bond": b.bond, "refuted": b.refuted }),
        )
        .collect();
    json!({
        "leaf": which.to_string(), "label": state.leaf.label, "answer": state.leaf.answer,
        "sample": state.leaf.sample.to_string(), "appellant": state.appellant.to_string(), "height": state.height,
        "instance": state.instance, "draws": state.draws, "vote_end": state.vote_end(), "appeal_end": state.appeal_end(),
        "deposit": state.laid(true), "opposed": state.laid(false), "refuted": state.tally.map(|tally| tally.refuted()),
        "cast": state.tally.map(|tally| tally.cast), "settled": state.settled, "jury": jury,
        "backers": state.backers.iter().map(|b| {
            json!({ "node": b.who.to_string(), "refutes": b.refutes, "laid_down": b.amount })
        }).collect::<Vec<_>>(),
    })
}

/// `validator disputes`.
pub(super) async fn disputes(home: &Path, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let with_jury = |(which, state): (Disputed, DisputeState)| {
        let jury = ledger.ballots(&which, state.instance);
        (which, state, jury)
    };
    let all: Vec<_> = ledger.disputes().into_iter().map(with_jury).collect();
    let json: Vec<_> = all.iter().map(|(which, state, jury)| told(which, state, jury)).collect();
    out.result(&json!({ "height": ledger.height(), "disputes": json }), || {
        if all.is_empty() {
            return "Nothing is disputed. 'zero2ai validator leaves NAME' tells what was opened.".to_owned();
        }
        let mut text = String::new();
        for (which, state, jury) in &all {
            let DisputeState { leaf, instance, appellant, .. } = state;
            text += &format!(
                "{which}\n  says {} of a sample whose label is {}, {}; disputed by {}\n  instance {instance}: {}\n",
                leaf.answer,
                leaf.label,
                leaf.sample,
                appellant.short(),
                stands(state, ledger.height().saturating_add(1)),
            );
            let mut table = Table::new(&["juror", ">weight", ">bond", "found"]);
            for (juror, ballot) in jury {
                let found = ballot.refuted.map_or("nothing yet", |refuted| if refuted { "refuted" } else { "stands" });
                table.row([juror.to_string(), ballot.weight.to_string(), ballot.bond.to_string(), found.to_owned()]);
            }
            text += &table.render(2);
        }
        text
    });
    Ok(())
}
