//! `store ...`: what this node's store holds, whether it is sound, what stays and what goes.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    calls::Empty,
    local::{
        DropCall, GcCall, GcItem, GcReport, PinCall, Progress as Step, RebuildItem, RebuildReport, StoreDrop, StoreGc,
        StoreList, StorePin, StoreRebuild, StoreStats, StoreStatsReply, StoreVerify, StoredVersion, VerifyItem,
        VerifyReport,
    },
    rpc::Method,
};

use crate::{
    cli::{StoreCommand, VersionName},
    exit::{Exit, Failure, Outcome},
    output::{Output, Table, bytes, facts, plural},
    progress::Progress,
    session::{QUICK, Session},
};

/// Patience for what walks through the whole store: disk speed, and network speed for healing. It only ends what hangs.
const LONG: Duration = Duration::from_secs(6 * 3600);
/// Patience for what reads every held version's manifest.
const LISTING: Duration = Duration::from_secs(120);

/// The command.
pub(crate) async fn store(home: &Path, command: StoreCommand, out: Output) -> Outcome {
    let session = match (Session::open(home).await, &command) {
        (Err(nobody), StoreCommand::Rebuild) if nobody.exit == Exit::Unreachable => {
            return rebuild_alone(home, out).await;
        }
        (session, _) => session?,
    };
    match command {
        StoreCommand::Rebuild => rebuild(&session, out).await,
        StoreCommand::Ls => ls(&session, out).await,
        StoreCommand::Stats => {
            let reply = session.call::<StoreStats>(&Empty {}, LISTING).await?;
            out.result(&stats_json(&reply), || stats_text(&reply));
            Ok(())
        }
        StoreCommand::Verify => verify(&session, out).await,
        StoreCommand::Gc { dry_run } => gc(&session, dry_run, out).await,
        StoreCommand::Pin { name } => pin(&session, name, true, out).await,
        StoreCommand::Unpin { name } => pin(&session, name, false, out).await,
        StoreCommand::Drop { name, stop_serving } => drop_version(&session, name, stop_serving, out).await,
    }
}

async fn ls(session: &Session, out: Output) -> Outcome {
    let mut items = session.stream::<StoreList>(&Empty {}, LISTING).await?;
    let mut versions = Vec::new();
    while let Some(item) = items.next().await {
        versions.push(item?);
    }
    let json: Vec<Value> = versions.iter().map(version_json).collect();
    out.result(&json!({ "versions": json }), || ls_text(&versions));
    Ok(())
}

fn version_json(v: &StoredVersion) -> Value {
    json!({
        "name": v.name.to_string(), "version": v.version, "manifest": v.manifest.to_string(), "present": v.present,
        "chunks": v.chunks, "sealed_bytes": v.sealed_bytes, "serving": v.serving, "pinned": v.pinned, "problem": v.problem,
    })
}

fn ls_text(versions: &[StoredVersion]) -> String {
    if versions.is_empty() {
        return "This node holds no model. zero2ai fetch NAME brings one.".into();
    }
    let mut table = Table::new(&["model", "manifest", ">chunks", ">sealed", "serving", "pinned"]);
    for v in versions {
        let yes = |is: bool| if is { "yes".to_owned() } else { "no".to_owned() };
        let manifest = v.manifest.to_string().chars().take(12).collect();
        let chunks = if v.problem.is_some() { "?".into() } else { format!("{}/{}", v.present, v.chunks) };
        let name = format!("{}@{}", v.name, v.version);
        table.row([name, manifest, chunks, bytes(v.sealed_bytes), yes(v.serving), yes(v.pinned)]);
    }
    let mut text = table.render(0);
    for v in versions.iter().filter(|v| v.problem.is_some() || v.present < v.chunks) {
        let why = v
            .problem
            .clone()
            .unwrap_or_else(|| plural(u64::from(v.chunks - v.present.min(v.chunks)), "chunk") + " missing");
        text += &format!("{}@{} is not whole ({why}): zero2ai store verify heals it from peers.\n", v.name, v.version);
    }
    text
}

fn stats_json(s: &StoreStatsReply) -> Value {
    json!({
        "chunks": s.chunks, "bytes": s.bytes, "quota": s.quota, "manifests": s.manifests, "versions": s.versions,
        "pinned": s.pinned, "unneeded_chunks": s.unneeded_chunks, "unneeded_bytes": s.unneeded_bytes,
        "unreadable": s.unreadable, "used": s.used, "reserve": s.reserve, "evictable": s.evictable,
        "scrub": s.scrub.map(|r| json!({
            "ended_ms": r.ended_ms, "checked": r.checked, "damaged": r.damaged, "healed": r.healed, "lost": r.lost,
        })),
    })
}

fn stats_text(s: &StoreStatsReply) -> String {
    let quota = s.quota.map_or_else(
        || "none (store.quota_gb in config.toml sets one)".into(),
        |quota| format!("{} of {} used, manifests included", bytes(s.used), bytes(quota)),
    );
    let copies = plural(s.evictable, "copy").replace("copys", "copies");
    let scrub = s.scrub.map_or_else(
        || "none yet (store.scrub_days in config.toml says how often)".into(),
        |r| {
            let ago = ago(now_ms().saturating_sub(r.ended_ms));
            format!("{ago}: {} checked, {} damaged, {} healed, {} lost", r.checked, r.damaged, r.healed, r.lost)
        },
    );
    let mut text = facts(&[
        ("stored", format!("{}, {} sealed", plural(s.chunks, "chunk"), bytes(s.bytes))),
        ("quota", quota),
        ("kept free", format!("{} of the disk, or a sixteenth of it", bytes(s.reserve))),
        ("may go", format!("{copies} of others' models, when the quota is full")),
        ("held", format!("{}, {} pinned", plural(s.versions, "version"), s.pinned)),
        ("manifests", s.manifests.to_string()),
        ("unneeded", format!("{}, {}", plural(s.unneeded_chunks, "chunk"), bytes(s.unneeded_bytes))),
        ("last scrub", scrub),
    ]);
    if s.unreadable > 0 {
        let n = plural(s.unreadable, "held version");
        text += &format!(
            "The manifests of {n} cannot be read, so what they need counts as unneeded: zero2ai store verify.\n"
        );
    } else if s.unneeded_chunks > 0 {
        text += "zero2ai store gc frees what no held version needs.\n";
    }
    text
}

/// How long ago, in the largest unit that fits.
fn ago(millis: u64) -> String {
    let minutes = millis / 60_000;
    let (n, unit) = match minutes {
        0..120 => (minutes, "minute"),
        120..2880 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    plural(n, unit) + " ago"
}

async fn rebuild(session: &Session, out: Output) -> Outcome {
    let mut progress = Progress::start(out, "reading the chunk folders");
    let mut items = session.stream::<StoreRebuild>(&Empty {}, LONG).await?;
    let mut done = None;
    while let Some(item) = items.next().await {
        match item? {
            RebuildItem::Step(step) => progress.step(&step),
            RebuildItem::Done(report) => done = Some(report),
        }
    }
    drop(progress);
    rebuilt(&done.ok_or_else(no_result::<StoreRebuild>)?, out)
}

/// Without a node: the command itself has the store.
async fn rebuild_alone(home: &Path, out: Output) -> Outcome {
    let home = home.to_owned();
    let work = move || {
        let mut progress = Progress::start(out, "reading the chunk folders");
        let what = "folders of chunks read";
        zero2ai_node::rebuild_store(&home, |done, total| progress.step(&Step { what: what.into(), done, total }))
    };
    let done = tokio::task::spawn_blocking(work).await;
    rebuilt(&done.map_err(|e| Failure::new(Exit::Internal, format!("The rebuild ended badly: {e}.")))??, out)
}

fn rebuilt(r: &RebuildReport, out: Output) -> Outcome {
    let json = json!({
        "chunks": r.chunks, "bytes": r.bytes, "added": r.added, "removed": r.removed, "corrected": r.corrected,
    });
    out.result(&json, || {
        let all = format!("{}, {}", plural(r.chunks, "chunk"), bytes(r.bytes));
        format!("The index has {all}: {} added, {} removed, {} corrected.", r.added, r.removed, r.corrected)
    });
    Ok(())
}

async fn verify(session: &Session, out: Output) -> Outcome {
    let mut progress = Progress::start(out, "hashing what is stored");
    let mut items = session.stream::<StoreVerify>(&Empty {}, LONG).await?;
    let mut done = None;
    while let Some(item) = items.next().await {
        match item? {
            VerifyItem::Step(step) => progress.step(&step),
            VerifyItem::Done(report) => done = Some(report),
        }
    }
    drop(progress);
    let report = done.ok_or_else(no_result::<StoreVerify>)?;
    out.result(&verify_json(&report), || verify_text(&report));
    if report.lost == 0 && report.broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Storage,
        format!(
            "{} that held models need stayed damaged or missing, since no peer gave them. Run it again when a node that holds \
             these models is up; if chunks are damaged again and again, check the disk.",
            plural(report.lost, "chunk or manifest").replace("manifests", "manifest")
        ),
    ))
}

fn verify_json(r: &VerifyReport) -> Value {
    let broken: Vec<Value> = r
        .broken
        .iter()
        .map(|b| json!({ "name": b.name.to_string(), "version": b.version, "missing": b.missing, "why": b.why }))
        .collect();
    json!({
        "checked": r.checked, "bytes": r.bytes, "damaged": r.damaged, "missing": r.missing, "healed": r.healed,
        "unneeded": r.unneeded, "lost": r.lost, "broken": broken,
    })
}

fn verify_text(r: &VerifyReport) -> String {
    let mut text = facts(&[
        ("checked", format!("{} chunks and manifests, {}", r.checked, bytes(r.bytes))),
        ("damaged", format!("{} (deleted), {} missing", r.damaged, r.missing)),
        ("healed", format!("{} from peers", r.healed)),
        ("unneeded", format!("{} damaged ones that no held version needs", r.unneeded)),
        ("lost", r.lost.to_string()),
    ]);
    for b in &r.broken {
        text += &format!("{}@{} is not whole: {}\n", b.name, b.version, b.why);
    }
    text
}

async fn gc(session: &Session, dry_run: bool, out: Output) -> Outcome {
    let mut progress = Progress::start(out, "looking for what no held version needs");
    let mut items = session.stream::<StoreGc>(&GcCall { dry_run }, LONG).await?;
    let mut done = None;
    while let Some(item) = items.next().await {
        match item? {
            GcItem::Step(step) => progress.step(&step),
            GcItem::Done(report) => done = Some(report),
        }
    }
    drop(progress);
    let report = done.ok_or_else(no_result::<StoreGc>)?;
    out.result(&gc_json(&report, dry_run), || gc_text(&report, dry_run));
    Ok(())
}

fn gc_json(r: &GcReport, dry_run: bool) -> Value {
    json!({
        "dry_run": dry_run, "chunks": r.chunks, "bytes": r.bytes, "manifests": r.manifests, "kept_chunks": r.kept_chunks,
        "kept_bytes": r.kept_bytes,
    })
}

fn gc_text(r: &GcReport, dry_run: bool) -> String {
    let verb = if dry_run { "Would delete" } else { "Deleted" };
    format!(
        "{verb} {} ({}) and {}; {} ({}) stay.",
        plural(r.chunks, "chunk"),
        bytes(r.bytes),
        plural(r.manifests, "manifest"),
        plural(r.kept_chunks, "chunk"),
        bytes(r.kept_bytes)
    )
}

async fn pin(session: &Session, VersionName { name, version }: VersionName, pinned: bool, out: Output) -> Outcome {
    let call = PinCall { name: name.clone(), version, pinned };
    session.call::<StorePin>(&call, QUICK).await?;
    out.result(&json!({ "name": name.to_string(), "version": version, "pinned": pinned }), || {
        let what = if pinned { "pinned: it is never dropped" } else { "no longer pinned" };
        format!("{name}@{version} is {what}.")
    });
    Ok(())
}

async fn drop_version(
    session: &Session,
    VersionName { name, version }: VersionName,
    stop_serving: bool,
    out: Output,
) -> Outcome {
    let call = DropCall { name: name.clone(), version, stop_serving };
    // It waits for a load that is under way.
    session.call::<StoreDrop>(&call, LISTING).await?;
    out.result(&json!({ "name": name.to_string(), "version": version, "dropped": true }), || {
        format!("{name}@{version} is forgotten here; zero2ai store gc frees what no other held version needs of it.")
    });
    Ok(())
}

fn no_result<M: Method>() -> Failure {
    let name = M::NAME;
    Failure::new(
        Exit::Internal,
        format!("The node ended its answer to {name} without a result. Look at its log, then try again."),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_whole_is_said() {
        let whole = StoredVersion {
            name: "lab/m".parse().unwrap(),
            version: 2,
            manifest: zero2ai_proto::ManifestId([1; 32]),
            present: 3,
            chunks: 3,
            sealed_bytes: 99,
            serving: true,
            pinned: false,
            problem: None,
        };
        assert!(!ls_text(std::slice::from_ref(&whole)).contains("not whole"));
        let cut = StoredVersion { present: 1, ..whole.clone() };
        assert!(ls_text(&[cut]).contains("lab/m@2 is not whole (2 chunks missing)"));
        let unreadable = StoredVersion { present: 0, chunks: 0, problem: Some("gone".into()), ..whole };
        assert!(ls_text(&[unreadable]).contains("(gone)"));
        assert!(ls_text(&[]).contains("fetch"));
    }
}
