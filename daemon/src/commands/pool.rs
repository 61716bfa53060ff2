//! `pool ...`: make a pool, invite to it, show it, and govern who signs and who may what.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_ledger::RULES_VERSION;
use zero2ai_node::home::Home;
use zero2ai_proto::{
    NodeId,
    calls::Empty,
    local::{
        ChangeRights, ChangeSigners, InviteCall, MakeInvite, PoolReply, PoolShow, RightsCall, RotateCall,
        RotatePoolKey, RotateReply, SignersCall, SignersReply,
    },
    state::{Rights, Signer, SignerSet},
    tx::{SetRules, TxBody},
};

use super::write_file;
use crate::{
    cli::PoolCommand,
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Table, facts, plural},
    session::{FINAL, QUICK, Session},
};

/// The command.
pub(crate) async fn pool(home: &Path, command: PoolCommand, out: Output) -> Outcome {
    match command {
        PoolCommand::Create => create(home, out),
        PoolCommand::Invite { rights, uses, ttl } => {
            let line = invite(&Session::open(home).await?, rights, uses, ttl).await?;
            out.result(&json!({ "invite": line }), || line.clone());
            Ok(())
        }
        PoolCommand::Show => {
            let reply = show(&Session::open(home).await?).await?;
            out.result(&show_json(&reply), || show_text(&reply));
            Ok(())
        }
        PoolCommand::Signers { signers, force } => {
            let count = signers.len() as u64;
            let reply = change_signers(&Session::open(home).await?, signers, force).await?;
            out.result(&json!({ "height": reply.height, "effective": reply.effective }), || {
                let who = plural(count, "signer");
                format!("Final in block {}; the set of {who} signs from block {} on.", reply.height, reply.effective)
            });
            Ok(())
        }
        PoolCommand::Rights { node, rights } => {
            change_rights(&Session::open(home).await?, node, rights).await?;
            let now = output::rights(rights);
            out.result(&json!({ "node": node.to_string(), "rights": rights.names() }), || {
                format!("The rights of {} are now: {now}.", node.short())
            });
            Ok(())
        }
        PoolCommand::Revoke { node, grace, keep_key } => {
            let session = Session::open(home).await?;
            change_rights(&session, node, Rights::default()).await?;
            let rotated = if keep_key { None } else { Some(rotate(&session, grace).await?) };
            let epoch = rotated.map(|r| r.epoch);
            out.result(&json!({ "node": node.to_string(), "rights": [], "epoch": epoch }), || {
                let revoked = format!("{} has no rights any more.", node.short());
                epoch.map_or_else(|| revoked.clone(), |epoch| format!("{revoked} {}", renewed(epoch, grace)))
            });
            Ok(())
        }
        PoolCommand::Rotate { grace } => {
            let reply = rotate(&Session::open(home).await?, grace).await?;
            out.result(&json!({ "epoch": reply.epoch, "height": reply.height }), || renewed(reply.epoch, grace));
            Ok(())
        }
        PoolCommand::Upgrade { rules, height, force } => {
            upgrade(&Session::open(home).await?, SetRules { version: rules, height: height.unwrap_or(0) }, force, out)
                .await
        }
        PoolCommand::Pot { amount } => super::validator::rewards::pot(home, amount, out).await,
        PoolCommand::Allot { node, amount } => super::validator::stake::allot(home, node, amount, out).await,
        PoolCommand::Grading(args) => super::validator::stake::grading(home, &args, out).await,
        PoolCommand::Genesis { out: file } => genesis(&Session::open(home).await?, &file, out),
    }
}

fn create(home: &Path, out: Output) -> Outcome {
    let pool = Home::create_pool(home)?;
    out.result(&json!({ "pool": pool.to_string(), "home": home.display().to_string() }), || {
        format!("Pool {pool} is made in {}.\nNext: zero2ai up --home {}", home.display(), home.display())
    });
    Ok(())
}

/// Asks for an invite.
pub(crate) async fn invite(session: &Session, rights: Rights, uses: u32, ttl: Duration) -> Outcome<String> {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    Ok(session.call::<MakeInvite>(&InviteCall { rights, uses, ttl_ms }, QUICK).await?.line)
}

/// Asks for the pool's facts.
pub(crate) async fn show(session: &Session) -> Outcome<PoolReply> {
    session.call::<PoolShow>(&Empty {}, QUICK).await
}

/// Replaces the signer set; returns once that is final.
pub(crate) async fn change_signers(session: &Session, signers: Vec<Signer>, force: bool) -> Outcome<SignersReply> {
    if SignerSet::new(signers.clone()).is_none() {
        return Err(Failure::new(
            Exit::Invalid,
            "This is no set of signers: every key may be named once only, and there may be 1 to 100 of them.",
        ));
    }
    session.call::<ChangeSigners>(&SignersCall { signers, force }, FINAL).await
}

/// Sets a member's rights; returns once that is final.
pub(crate) async fn change_rights(session: &Session, member: NodeId, rights: Rights) -> Outcome {
    session.call::<ChangeRights>(&RightsCall { member, rights }, FINAL).await.map(|_| ())
}

async fn rotate(session: &Session, grace: Duration) -> Outcome<RotateReply> {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    session.call::<RotatePoolKey>(&RotateCall { grace_ms }, FINAL).await
}

fn renewed(epoch: u32, grace: Duration) -> String {
    let until = if grace.is_zero() { "no more".to_owned() } else { format!("{} s more", grace.as_secs()) };
    format!(
        "The pool has a new key, epoch {epoch}: members fetch it by themselves. The old one opens everything for {until}; invites \
         made before end with it."
    )
}

async fn upgrade(session: &Session, change: SetRules, force: bool, out: Output) -> Outcome {
    let SetRules { version, height } = change;
    // Without a height it takes back what was to come: that names the rules in force, which this program knows.
    if height == 0 && version > RULES_VERSION {
        return Err(Failure::new(Exit::Usage, "Say from which block on: --height H, at least two after the next."));
    }
    if version > RULES_VERSION && !force {
        return Err(Failure::new(
            Exit::Invalid,
            format!(
                "This program knows no rules {version}, only those up to {RULES_VERSION}: a node that runs it would stop before \
                 block {height}, and so would the pool, until it is updated. Update first; --force names them all the same."
            ),
        ));
    }
    let done = session.client.submit(TxBody::SetRules(change)).await?.height.unwrap_or(0);
    out.result(&json!({ "height": done, "rules": version, "from": height }), || {
        if height == 0 {
            return format!("Final in block {done}: blocks go on by rules {version}.");
        }
        format!("Final in block {done}: blocks follow rules {version} from block {height} on.")
    });
    Ok(())
}

fn genesis(session: &Session, file: &Path, out: Output) -> Outcome {
    let genesis = session.genesis();
    write_file("write the genesis to", file, genesis)?;
    out.result(&json!({ "pool": session.pool.to_string(), "file": file.display().to_string() }), || {
        format!("The genesis of pool {} is in {} ({} bytes).", session.pool, file.display(), genesis.len())
    });
    Ok(())
}

fn show_json(reply: &PoolReply) -> Value {
    let set = |set: &SignerSet| -> Vec<Value> {
        set.as_slice().iter().map(|s| json!({ "node": s.key.to_string(), "power": s.power })).collect()
    };
    let members: Vec<Value> = reply
        .members
        .iter()
        .map(|(node, m)| json!({ "node": node.to_string(), "rights": m.rights.names(), "admitted": m.admitted }))
        .collect();
    json!({
        "pool": reply.pool.to_string(), "created_ms": reply.created_ms, "epoch": reply.epoch, "height": reply.height,
        "signers": { "current": set(&reply.signers.current), "next": set(&reply.signers.next) }, "members": members,
    })
}

fn show_text(reply: &PoolReply) -> String {
    let mut text = facts(&[
        ("pool", reply.pool.to_string()),
        ("made", format!("{} UTC", output::utc(reply.created_ms))),
        ("key epoch", reply.epoch.to_string()),
        ("height", reply.height.to_string()),
    ]);
    let mut table = Table::new(&["member", "rights", ">admitted", ">power", ">next"]);
    for (node, member) in &reply.members {
        let power = |set: &SignerSet| set.power_of(node).map_or_else(|| "-".into(), |p| p.to_string());
        let (now, next) = (power(&reply.signers.current), power(&reply.signers.next));
        table.row([node.to_string(), output::rights(member.rights), member.admitted.to_string(), now, next]);
    }
    text.push('\n');
    text + &table.render(0)
}
