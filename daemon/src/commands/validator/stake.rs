//! Stakes, records, convictions and rounds: transactions of this node's account, and what a replay of this disk says of everyone's.

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    ModelName, NodeId,
    state::{Offence, Selection, StakeState},
    tx::{Allot, Authorise, Elect, Graders, Grading, OpenRound, Stake, TxBody, Unstake},
};
use zero2ai_trust::{Reputation, election};

use crate::{
    cli::GradingArgs,
    commands::ledger::newest,
    exit::{Exit, Failure, Outcome},
    output::{Output, Table, facts, ppm},
    session::Session,
};

/// The ledger on this disk, replayed on a thread that may block.
pub(super) async fn replayed(home: &Path) -> Outcome<Ledger> {
    let home = home.to_owned();
    let worked = tokio::task::spawn_blocking(move || newest(&home)).await;
    worked.map_err(|e| Failure::new(Exit::Internal, format!("The reading of the ledger ended unexpectedly: {e}.")))?
}

pub(super) async fn submit(home: &Path, body: TxBody) -> Outcome<(Session, u64)> {
    let session = Session::open(home).await?;
    let height = session.client.submit(body).await?.height.unwrap_or(0);
    Ok((session, height))
}

/// `validator stake`.
pub(crate) async fn stake(home: &Path, amount: u64, out: Output) -> Outcome {
    let (_, height) = submit(home, TxBody::Stake(Stake { amount })).await?;
    out.result(&json!({ "staked": amount, "height": height }), || {
        format!("{amount} more are staked, final in block {height}. 'zero2ai reputation' shows all of it.")
    });
    Ok(())
}

/// `validator unstake`.
pub(crate) async fn unstake(home: &Path, amount: u64, out: Output) -> Outcome {
    let (_, height) = submit(home, TxBody::Unstake(Unstake { amount })).await?;
    out.result(&json!({ "unstaked": amount, "height": height }), || {
        format!("{amount} weigh nothing from block {height} on. 'zero2ai reputation' shows until which block they are liable.")
    });
    Ok(())
}

/// `pool allot`.
pub(crate) async fn allot(home: &Path, member: NodeId, amount: u64, out: Output) -> Outcome {
    let (_, height) = submit(home, TxBody::Allot(Allot { member, amount })).await?;
    out.result(&json!({ "member": member.to_string(), "free": amount, "height": height }), || {
        format!(
            "{} has {amount} to stake, and what it earned besides, final in block {height}.\nNext, on its node: zero2ai validator stake {amount}",
            member.short()
        )
    });
    Ok(())
}

/// `validator open`.
pub(crate) async fn open(home: &Path, name: ModelName, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let version = latest(&ledger, &name)?;
    let (_, height) = submit(home, TxBody::OpenRound(OpenRound { name: name.clone(), version })).await?;
    out.result(&json!({ "name": name.to_string(), "version": version, "height": height }), || {
        format!("A round of {name}@{version} is open, final in block {height}. 'zero2ai validator rounds {name}' follows it.")
    });
    Ok(())
}

pub(super) fn latest(ledger: &Ledger, name: &ModelName) -> Outcome<u32> {
    let none = || Failure::new(Exit::NotFound, format!("No model {name} is on the ledger of this disk."));
    ledger.model(name).map(|model| model.latest).ok_or_else(none)
}

/// `pool grading`.
pub(crate) async fn grading(home: &Path, args: &GradingArgs, out: Output) -> Outcome {
    let held = replayed(home).await?.grading();
    let wanted = Grading {
        delay: args.delay.unwrap_or(held.delay),
        commit: args.commit.unwrap_or(held.commit),
        reveal: args.reveal.unwrap_or(held.reveal),
        dispute: args.dispute.unwrap_or(held.dispute),
        seats: args.seats.unwrap_or(held.seats),
        bond_ppm: args.bond_ppm.unwrap_or(held.bond_ppm),
        open_ppm: args.open_ppm.unwrap_or(held.open_ppm),
        leaves: args.leaves.unwrap_or(held.leaves),
        window: args.window.unwrap_or(held.window),
    };
    let height = if wanted == held { None } else { Some(submit(home, TxBody::SetGrading(wanted)).await?.1) };
    let mut json = serde_json::to_value(wanted).unwrap_or_default();
    json["height"] = height.into();
    out.result(&json, || {
        let blocks = |n: u64| format!("{n} blocks");
        facts(&[
            ("a committee is drawn after", blocks(wanted.delay)),
            ("commitments", blocks(wanted.commit)),
            ("reveals", blocks(wanted.reveal)),
            ("openings and disputes", blocks(wanted.dispute)),
            ("seats", wanted.seats.to_string()),
            ("bond of a stake", ppm(wanted.bond_ppm)),
            ("asked to open", ppm(wanted.open_ppm)),
            ("leaves", wanted.leaves.to_string()),
            ("window of convictions", blocks(wanted.window)),
            ("changed", height.map_or_else(|| "no".to_owned(), |h| format!("in block {h}"))),
        ])
    });
    Ok(())
}

pub(super) fn weight(stake: &StakeState) -> u32 {
    Reputation { good: stake.good, bad: stake.bad }.weight_ppm()
}

fn stake_json(who: &NodeId, stake: &StakeState) -> Value {
    let leaving: Vec<_> =
        stake.leaving.iter().map(|(n, until)| json!({ "amount": n, "liable_until": until })).collect();
    json!({
        "node": who.to_string(), "reputation": f64::from(weight(stake)) / 1e6, "staked": stake.staked,
        "bonds": stake.bonds, "free": stake.free.saturating_add(stake.own), "allotted": stake.free,
        "leaving": leaving, "earned": stake.earned,
    })
}

/// `reputation`.
pub(crate) async fn reputation(home: &Path, node: Option<NodeId>, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let all = match node {
        Some(node) if ledger.member(&node).is_none() => {
            return Err(Failure::new(Exit::NotFound, format!("{node} is no member of this pool.")));
        }
        Some(node) => vec![(node, ledger.stake(&node))],
        None => ledger.stakes(),
    };
    let staked = ledger.stake_total().is_some();
    let json: Vec<_> = all.iter().map(|(who, stake)| stake_json(who, stake)).collect();
    out.result(&json!({ "height": ledger.height(), "staked": staked, "validators": json }), || {
        if all.is_empty() {
            return "Nobody has a record or a stake yet: a newcomer's reputation is 0.0500.".to_owned();
        }
        let mut table = Table::new(&["node", ">reputation", ">staked", ">bound", ">free", ">earned", "leaving"]);
        for (who, stake) in &all {
            let leaving: Vec<_> = stake.leaving.iter().map(|(n, until)| format!("{n} until block {until}")).collect();
            table.row([
                who.to_string(),
                ppm(weight(stake)),
                stake.staked.to_string(),
                stake.bonds.to_string(),
                stake.free.saturating_add(stake.own).to_string(),
                stake.earned.to_string(),
                leaving.join(", "),
            ]);
        }
        let note =
            if staked { "" } else { "Nothing was ever allotted here: every validator weighs its reputation alone.\n" };
        format!("{}{note}", table.render(0))
    });
    Ok(())
}

const fn offence(what: Offence) -> &'static str {
    match what {
        Offence::Equivocation => "two signatures at one step",
        Offence::Contradiction => "counts that leaves contradict",
    }
}

/// `validator slashes`.
pub(crate) async fn slashes(home: &Path, out: Output) -> Outcome {
    let found = replayed(home).await?.convictions();
    let json: Vec<_> = found
        .iter()
        .map(|(end, who, c)| {
            json!({
                "node": who.to_string(), "offence": offence(c.offence), "height": c.height, "tx": c.tx.to_string(),
                "liable": c.liable, "charged": c.charged, "due": end,
            })
        })
        .collect();
    out.result(&json!({ "slashes": json }), || {
        if found.is_empty() {
            return "Nobody was convicted of anything.".to_owned();
        }
        let mut table = Table::new(&["node", "of", ">block", ">liable", "charged", "proved by"]);
        for (end, who, c) in &found {
            let charged = c.charged.map_or_else(|| format!("at block {end}"), |charged| charged.to_string());
            let (of, liable) = (offence(c.offence).to_owned(), c.liable.to_string());
            table.row([who.short(), of, c.height.to_string(), liable, charged, c.tx.to_string()]);
        }
        table.render(0)
    });
    Ok(())
}

/// `validator vote`.
pub(crate) async fn vote(home: &Path, candidate: Option<NodeId>, out: Output) -> Outcome {
    let (_, height) = submit(home, TxBody::Elect(Elect { candidate })).await?;
    out.result(&json!({ "candidate": candidate.map(|c| c.to_string()), "height": height }), || match candidate {
        Some(candidate) => format!("This node's stake is behind {}, final in block {height}.", candidate.short()),
        None => format!("This node's stake is behind nobody, final in block {height}."),
    });
    Ok(())
}

/// `validator graders`.
pub(crate) async fn graders(home: &Path, name: ModelName, words: &[String], out: Output) -> Outcome {
    let graders = match words {
        [word] if word == "everyone" => Graders::Everyone,
        [word] if word == "elected" => Graders::Elected,
        keys => {
            let read: Result<Vec<NodeId>, _> = keys.iter().map(|key| key.parse()).collect();
            let why =
                "Say 'everyone', 'elected', or the node keys (64 hexadecimal digits each) of those who may grade it.";
            let mut named = read.map_err(|_| Failure::new(Exit::Usage, why))?;
            named.sort();
            Graders::Named(named)
        }
    };
    let (_, height) = submit(home, TxBody::Authorise(Authorise { name: name.clone(), graders })).await?;
    out.result(&json!({ "name": name.to_string(), "graders": words, "height": height }), || {
        format!("Rounds of {name} whose committee comes after block {height} are for: {}.", words.join(", "))
    });
    Ok(())
}

/// `elections`.
pub(crate) async fn elections(home: &Path, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let votes: Vec<(NodeId, u64)> =
        ledger.votes().into_iter().map(|(_, candidate, stake)| (candidate, stake)).collect();
    let standing = election::elect(&votes, votes.len());
    let seats = usize::from(ledger.grading().seats);
    let json: Vec<_> = standing
        .iter()
        .enumerate()
        .map(|(place, (who, stake))| {
            json!({ "node": who.to_string(), "stake": stake.to_string(), "elected": place < seats })
        })
        .collect();
    out.result(&json!({ "height": ledger.height(), "seats": seats, "standing": json }), || {
        if standing.is_empty() {
            return "No stake stands behind anybody: 'zero2ai validator vote NODE-KEY'.".to_owned();
        }
        let mut table = Table::new(&["node", ">stake behind it", "elected"]);
        for (place, (who, stake)) in standing.iter().enumerate() {
            let word = if place < seats { "yes" } else { "no" };
            table.row([who.to_string(), stake.to_string(), word.to_owned()]);
        }
        table.render(0)
    });
    Ok(())
}

/// How a committee came about, in a word.
pub(crate) const fn selection(how: Option<Selection>) -> &'static str {
    match how {
        None => "not drawn yet",
        Some(Selection::Everyone) => "everyone",
        Some(Selection::Random) => "random",
        Some(Selection::Appointed) => "appointed",
        Some(Selection::Elected) => "elected",
        Some(Selection::Named) => "named by the owner",
    }
}

/// `validator rounds`.
pub(crate) async fn rounds(home: &Path, name: ModelName, out: Output) -> Outcome {
    let ledger = replayed(home).await?;
    let version = latest(&ledger, &name)?;
    let all: Vec<_> = (1..=ledger.rounds(&name, version))
        .filter_map(|round| Some((round, ledger.round(&name, version, round)?, ledger.entries(&name, version, round))))
        .collect();
    let json: Vec<_> = all
        .iter()
        .map(|(round, state, entries)| {
            json!({
                "round": round, "opened": state.opened, "draws": state.draws, "commit_end": state.commit_end(),
                "reveal_end": state.reveal_end(), "end": state.end(), "selection": selection(state.selection),
                "committee": state.committee.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "committed": entries.len(), "revealed": entries.iter().filter(|(_, e)| e.found.is_some()).count(),
                "contradicted": entries.iter().filter(|(_, e)| e.contradicted.is_some()).map(|(who, _)| who.to_string())
                    .collect::<Vec<_>>(),
                "score": state.outcome.and_then(|o| o.score_ppm).map(|s| f64::from(s) / 1e6),
                "confidence": state.outcome.map(|o| f64::from(o.confidence_ppm) / 1e6),
            })
        })
        .collect();
    let json = json!({ "name": name.to_string(), "version": version, "height": ledger.height(), "rounds": json });
    out.result(&json, || {
        if all.is_empty() {
            return format!("{name}@{version} has no rounds: the pool's rules are older, or it is no classifier.");
        }
        let heads = [">round", "committee", "commit to", "reveal to", "ends", ">revealed", ">contradicted", "score"];
        let mut table = Table::new(&heads);
        for (round, state, entries) in &all {
            let (revealed, wrong) = entries.iter().fold((0u32, 0u32), |(revealed, wrong), (_, entry)| {
                (revealed + u32::from(entry.found.is_some()), wrong + u32::from(entry.contradicted.is_some()))
            });
            let score = match state.outcome {
                None => "open".to_owned(),
                Some(outcome) => outcome.score_ppm.map_or_else(|| "none".to_owned(), ppm),
            };
            table.row([
                round.to_string(),
                selection(state.selection).to_owned(),
                state.commit_end().to_string(),
                state.reveal_end().to_string(),
                state.end().to_string(),
                format!("{revealed} of {}", entries.len()),
                wrong.to_string(),
                score,
            ]);
        }
        format!("{name}@{version}, after block {}\n{}", ledger.height(), table.render(0))
    });
    Ok(())
}
