//! Step 1: one node makes the pool, the others join by its invite, the signers grow from one to four; strangers are
//! refused.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, time::Duration};

use zero2ai_client::{Client, ClientConfig, ClientError, ConnectError};
use zero2ai_node::home::Home;
use zero2ai_proto::{
    SecretKey,
    pool::PoolKey,
    record::Address,
    rpc::ErrorCode,
    state::{Rights, Signer},
};

use super::{
    Demo,
    cluster::{SIGNERS, USER},
    report,
    wait::until,
};
use crate::{
    commands::{pool, status::node_status},
    exit::{Exit, Failure, Outcome, file_error},
    output::plural,
};

/// How long the demo's invites can be redeemed.
const INVITE_TTL: Duration = Duration::from_secs(3600);
/// A stranger hears no within this.
const REFUSAL: Duration = Duration::from_secs(10);
/// The new set signs within this: two blocks.
const GROWTH: Duration = Duration::from_secs(30);

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("1. A pool: one node makes it, the others join, strangers do not");
    let progress = demo.progress("starting node 1");
    demo.cluster.start(&[0], None).await?;
    drop(progress);
    demo.say(&format!("   node 1 made pool {} and signs its blocks alone", demo.pool()?));

    let joiners: Vec<usize> = (1..demo.cluster.nodes.len()).filter(|i| *i != USER).collect();
    let progress = demo.progress("starting the others with the invite");
    let invite = invite_file(demo, Rights::MEMBER, joiners.len()).await?;
    demo.cluster.start(&joiners, Some(&invite)).await?;
    drop(progress);
    let _ = std::fs::remove_file(&invite); // a secret that has done its work
    let members = pool::show(demo.session(0)?).await?.members;
    demo.say(&format!(
        "   {} joined with its invite; the ledger admits {} members",
        plural(joiners.len() as u64, "node"),
        members.len()
    ));

    wrong_key(demo).await?;
    no_ticket(demo).await?;
    grow(demo).await
}

/// Asks node 1 for an invite and puts it into a file that only this user can read.
pub(crate) async fn invite_file(demo: &Demo, rights: Rights, uses: usize) -> Outcome<PathBuf> {
    let uses = u32::try_from(uses).unwrap_or(u32::MAX);
    let line = pool::invite(demo.session(0)?, rights, uses, INVITE_TTL).await?;
    let path = demo.cluster.root.join("invite.txt");
    let _ = std::fs::remove_file(&path);
    std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|e| file_error("write the invite to", &path, &e))?;
    Ok(path)
}

/// A client of this pool with a fresh identity and this pool key, aimed at node 1.
fn stranger(demo: &Demo, pool_key: Option<PoolKey>) -> Outcome<ClientConfig> {
    let node = demo.cluster.node(0)?;
    let home = Home::open(&node.home)?;
    let at = Home::running(&node.home)
        .ok_or_else(|| Failure::new(Exit::Internal, "node 1 does not say where it listens"))?;
    Ok(ClientConfig {
        key: SecretKey::generate()?,
        pool: home.pool,
        pool_key: pool_key.unwrap_or_else(|| home.pool_keys.current()),
        bootstrap: vec![(home.key.public(), vec![Address::Rpc(at.rpc.to_string())])],
        genesis: Some(home.genesis),
    })
}

async fn grow(demo: &mut Demo) -> Outcome {
    let progress = demo.progress("growing the signers");
    let from = pool::show(demo.session(0)?).await?.signers.current.as_slice().len();
    let mut signers = Vec::new();
    for index in 0..SIGNERS {
        signers.push(Signer { key: demo.session(index)?.node, power: 1 });
    }
    let reply = pool::change_signers(demo.session(0)?, signers, false).await?;
    let to = until("four signers sign", GROWTH, async || {
        demo.cluster.alive()?;
        let show = pool::show(demo.session(0)?).await?;
        let now = show.signers.current.as_slice().len();
        Ok((now == SIGNERS && show.height >= reply.height).then_some(now))
    })
    .await?;
    // Every member must know the same chain before work is handed out.
    for index in 0..SIGNERS {
        let what = format!("node {} holds block {}", index + 1, reply.height);
        until(&what, GROWTH, async || {
            Ok((node_status(demo.session(index)?).await?.height >= reply.height).then_some(()))
        })
        .await?;
    }
    drop(progress);
    demo.say(&format!("   signers grew from {from} to {to} by a transaction in block {}", reply.height));
    demo.report.signers = Some(report::Signers { from, to });
    Ok(())
}

/// A stranger with another key than the pool's: the connection itself must be refused, and say why.
async fn wrong_key(demo: &mut Demo) -> Outcome {
    let config = stranger(demo, Some(PoolKey::generate()?))?;
    match tokio::time::timeout(REFUSAL, Client::connect(config)).await {
        Ok(Err(ClientError::NoNode { last: why, .. })) if matches!(*why, ConnectError::WrongPoolKey { .. }) => {
            demo.say(&format!("   a stranger with a wrong key is refused: {why}"));
            demo.report.stranger_refused = true;
            Ok(())
        }
        Ok(Err(other)) => Err(Failure::from(other).during("a stranger with a wrong key heard something else")),
        Ok(Ok(_)) => Err(Failure::new(Exit::Unverified, "a stranger with a wrong pool key was let in")),
        Err(_) => Err(Failure::new(Exit::Timeout, "a stranger with a wrong pool key got no answer")),
    }
}

/// One with the key but no ticket: it connects, and may do nothing.
async fn no_ticket(demo: &mut Demo) -> Outcome {
    let config = stranger(demo, None)?;
    let attempt = async {
        let client = Client::connect(config).await?;
        client.resolve(&demo.model_ref(), true).await.map(drop)?;
        client.head().await.map(drop)
    };
    match tokio::time::timeout(REFUSAL, attempt).await {
        Ok(Err(why)) if why.code() == Some(ErrorCode::Denied) => {
            demo.say(&format!("   one with the key and no ticket is refused: {why}"));
            demo.report.unadmitted_refused = true;
            Ok(())
        }
        Ok(Err(other)) => Err(Failure::from(other).during("an identity without a ticket heard something else")),
        Ok(Ok(())) => Err(Failure::new(Exit::Unverified, "an identity without a ticket was answered")),
        Err(_) => Err(Failure::new(Exit::Timeout, "an identity without a ticket got no answer")),
    }
}
