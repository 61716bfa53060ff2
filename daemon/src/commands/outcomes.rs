//! `outcome`: what was true of a kept call, for the model's owner. `outcomes`: what came to this node of its own models; the set to
//! train on is in `augment`.

mod augment;

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_proto::{
    ModelName,
    kept::KeptCall,
    local::{
        Alarm, OutcomeSend, OutcomeSendCall, OutcomesCall, OutcomesEnd, OutcomesItem, OutcomesShow, ToldOutcome,
        VersionOutcomes,
    },
    outcome::{Shown, Truth},
};

use super::{audit::rerun, write_private};
use crate::{
    cli::{OutcomeArgs, OutcomesArgs},
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Table, ppm},
    session::{FINAL, Session},
};

/// Alarms shown as text; `--json` gives all.
const SHOWN_ALARMS: usize = 8;

/// `outcome`.
pub(crate) async fn send(home: &Path, args: &OutcomeArgs, out: Output) -> Outcome {
    let call = rerun::last_call(&args.call)?; // before any connection: a mistake in the file is told at once
    let session = Session::open(home).await?;
    let (_, request, _) = call.check(&session.pool).map_err(|e| {
        let why = format!("The kept call in {} does not hold: {e}.", args.call.display());
        Failure::new(Exit::Unverified, why)
    })?;
    let sent = session.call::<OutcomeSend>(&told(call, args)?, FINAL).await?;
    let json = json!({
        "name": request.name.to_string(), "version": request.version, "owner": sent.owner.to_string(),
        "sent": sent.fresh.is_some(), "fresh": sent.fresh, "why": sent.why, "waiting": sent.waiting,
    });
    out.result(&json, || {
        let (name, owner) = (&request.name, sent.owner.short());
        match (sent.fresh, &sent.why) {
            (Some(true), _) => format!("The owner of {name}, {owner}, has it."),
            (Some(false), _) => format!("The owner of {name}, {owner}, had it already: it counts once."),
            (None, why) => format!(
                "The owner of {name}, {owner}, is away ({}): it waits here and is sent when he is back.",
                why.as_deref().unwrap_or("no answer")
            ),
        }
    });
    Ok(())
}

/// What goes to the node: no more of the call than the outcome needs.
fn told(call: KeptCall, args: &OutcomeArgs) -> Outcome<OutcomeSendCall> {
    let truths = match args.label.is_empty() {
        true => vec![Truth::Right(args.right)],
        false => args.label.iter().copied().map(Truth::Class).collect(),
    };
    let receipt = call.receipt.clone();
    let shown = Shown::of(call, &truths, args.with_input)
        .map_err(|e| Failure::new(Exit::Unverified, format!("The kept call does not hold: {e}.")))?;
    Ok(OutcomeSendCall { receipt, truths, shown })
}

/// What a node has of a model. Inputs are not in it: each goes where it is needed as it comes.
#[derive(Default)]
struct Gathered {
    versions: Vec<VersionOutcomes>,
    outcomes: Vec<ToldOutcome>,
    damaged: u32,
}

/// Reads all pages; `take` is given the input of each.
async fn gather(
    session: &Session,
    name: &ModelName,
    mut take: Option<&mut (dyn FnMut(&mut ToldOutcome) + Send)>,
) -> Outcome<Gathered> {
    let mut gathered = Gathered::default();
    let mut call = OutcomesCall { name: name.clone(), inputs: take.is_some(), from: 0 };
    loop {
        let mut items = session.stream::<OutcomesShow>(&call, FINAL).await?;
        let mut end = None;
        while let Some(item) = items.next().await.transpose()? {
            match item {
                OutcomesItem::Version(version) => gathered.versions.push(version),
                OutcomesItem::Outcome(mut outcome) => {
                    if let Some(take) = take.as_mut() {
                        take(&mut outcome);
                    }
                    gathered.outcomes.push(*outcome);
                }
                OutcomesItem::End(said) => end = Some(said),
            }
        }
        let broken = || Failure::new(Exit::Internal, "The node's answer broke off: try again.");
        let OutcomesEnd { next, damaged } = end.ok_or_else(broken)?;
        gathered.damaged = gathered.damaged.saturating_add(damaged);
        match next {
            // A page that does not go on would be asked for without end.
            Some(next) if next > call.from => call.from = next,
            Some(_) => return Err(broken()),
            None => return Ok(gathered),
        }
    }
}

/// `outcomes`.
pub(crate) async fn show(home: &Path, args: &OutcomesArgs, out: Output) -> Outcome {
    let session = Session::open(home).await?;
    let (gathered, set) = match &args.augment {
        Some(folder) => {
            let mut set = augment::Begun::new(folder)?;
            let gathered =
                gather(&session, &args.name, Some(&mut |outcome: &mut ToldOutcome| set.take(outcome))).await?;
            let set = set.write(folder, args, gathered.damaged)?;
            (gathered, Some(set))
        }
        None => (gather(&session, &args.name, None).await?, None),
    };
    if let Some(path) = &args.out {
        write_private("write the outcomes to", path, csv(&gathered.outcomes).as_bytes())?;
    }
    let json = json!({
        "name": args.name.to_string(),
        "versions": gathered.versions.iter().map(version_json).collect::<Vec<_>>(),
        "outcomes": gathered.outcomes.iter().map(outcome_json).collect::<Vec<_>>(),
        "augmented": set,
    });
    out.result(&json, || {
        let mut text = text(&gathered);
        if let Some(path) = &args.out {
            text += &format!("\nEach row is a line of {}.", path.display());
        }
        if let (Some(folder), Some(set)) = (&args.augment, &set) {
            text += &set.text(folder);
        }
        text
    });
    Ok(())
}

fn version_json(v: &VersionOutcomes) -> Value {
    let alarm = |a: &Alarm| {
        json!({
            "time_ms": a.time_ms, "height": a.height, "detector": a.detector, "rows": a.rows,
            "before": f64::from(a.before_ppm) / 1e6, "after": f64::from(a.after_ppm) / 1e6, "round": a.round,
            "accounts": a.accounts, "needed": a.needed,
        })
    };
    json!({
        "version": v.version, "outcomes": v.outcomes, "rows": v.rows, "wrong": v.wrong, "late": f64::from(v.late_ppm) / 1e6,
        "window": v.window, "warned": v.warned, "alarms": v.alarms.iter().map(alarm).collect::<Vec<_>>(),
    })
}

fn truth_word(truth: Truth) -> String {
    match truth {
        Truth::Class(class) => class.to_string(),
        Truth::Right(true) => "right".to_owned(),
        Truth::Right(false) => "wrong".to_owned(),
    }
}

fn outcome_json(o: &ToldOutcome) -> Value {
    let rows = o.truths.iter().zip(&o.rows);
    let rows = rows.map(|(truth, (said, right))| json!({ "said": said, "true": truth_word(*truth), "right": right }));
    json!({
        "receipt": o.receipt.to_string(), "account": o.account.to_string(), "provider": o.provider.to_string(),
        "version": o.version, "answered_ms": o.answered_ms, "told_ms": o.told_ms, "with_input": o.has_input,
        "rows": rows.collect::<Vec<_>>(),
    })
}

/// One line a row. Nothing in it needs quotes: keys, digests, numbers and four words.
fn csv(outcomes: &[ToldOutcome]) -> String {
    let mut text = String::from("told,answered,version,account,provider,receipt,row,said,true,right\n");
    for o in outcomes {
        let (told, answered) = (output::utc(o.told_ms), output::utc(o.answered_ms));
        for (row, (truth, (said, right))) in o.truths.iter().zip(&o.rows).enumerate() {
            let said = said.map_or_else(String::new, |class| class.to_string());
            let (version, account, provider, receipt) = (o.version, o.account, o.provider, o.receipt);
            let (row, truth) = (row + 1, truth_word(*truth));
            text +=
                &format!("{told},{answered},{version},{account},{provider},{receipt},{row},{said},{truth},{right}\n");
        }
    }
    text
}

fn text(gathered: &Gathered) -> String {
    if gathered.versions.is_empty() {
        return "No outcomes have come yet. A caller sends one with 'zero2ai outcome'.".to_owned();
    }
    let head = [">version", ">outcomes", ">rows", ">wrong", ">of late", "state"];
    let mut table = Table::new(&head);
    for v in &gathered.versions {
        let state = match (v.alarms.last(), v.warned) {
            (Some(_), _) => "alarm",
            (None, true) => "warning",
            (None, false) => "steady",
        };
        let late = format!("{} of {}", ppm(v.late_ppm), v.window);
        let counts = [u64::from(v.version), u64::from(v.outcomes), v.rows, v.wrong].map(|n| n.to_string());
        table.row(counts.into_iter().chain([late, state.to_owned()]));
    }
    let mut text = table.render(0);
    let alarms = gathered.versions.iter().flat_map(|v| v.alarms.iter());
    for alarm in alarms.rev().take(SHOWN_ALARMS) {
        let answer = match alarm.round {
            Some(round) => format!("round {round} of grading followed"),
            None if alarm.accounts < alarm.needed => format!(
                "no round of grading follows, since {} of the {} accounts that it takes say so: see 'zero2ai validator open'",
                alarm.accounts, alarm.needed,
            ),
            None => "no round of grading has followed".to_owned(),
        };
        text += &format!(
            "\n{} UTC  version {} became worse ({}): {} wrong before, {} after, at row {}; {answer}",
            output::utc(alarm.time_ms),
            alarm.version,
            alarm.detector,
            ppm(alarm.before_ppm),
            ppm(alarm.after_ppm),
            alarm.rows,
        );
    }
    text
}
