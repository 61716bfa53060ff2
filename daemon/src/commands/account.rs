//! `account`: accounts of programs that have no node, and what each account had of this one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use zero2ai_client::Client;
use zero2ai_proto::{
    NodeId,
    calls::Empty,
    local::{AccountUse, AccountsUse},
    state::{Member, Rights},
};

use super::{pool, token, up};
use crate::{
    cli::AccountCommand,
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Table},
    session::{FINAL, QUICK, Session},
};

/// The command.
pub(crate) async fn account(home: impl FnOnce() -> Outcome<PathBuf>, command: AccountCommand, out: Output) -> Outcome {
    match command {
        AccountCommand::New { file, join, join_file } => new(&file, join.as_deref(), join_file.as_deref(), out).await,
        AccountCommand::List => list(&Session::open(&home()?).await?, out).await,
        AccountCommand::Token(command) => token::token(&home()?, command, out),
    }
}

async fn new(file: &Path, join: Option<&str>, join_file: Option<&Path>, out: Output) -> Outcome {
    let invite = up::invite(join, join_file)?;
    let opening = tokio::time::timeout(FINAL, Client::open(file, invite.as_ref())).await;
    let client = opening.map_err(|_| Failure::new(Exit::Unreachable, "No node of the invite answered in time."))??;
    let (account, shown) = (client.id(), file.display().to_string());
    out.result(&json!({ "account": account.to_string(), "pool": client.pool().to_string(), "file": shown }), || {
        format!("Account {account} is admitted; its key is in {shown}. Keep that file secret.")
    });
    Ok(())
}

/// An account, its rights if it is a member now, and what it had.
type Row = (NodeId, Option<Member>, Option<AccountUse>);

async fn list(session: &Session, out: Output) -> Outcome {
    let members = pool::show(session).await?.members;
    let mut used = BTreeMap::new();
    let mut items = session.stream::<AccountsUse>(&Empty {}, QUICK).await?;
    while let Some(item) = items.next().await.transpose()? {
        used.insert(item.account, item);
    }
    let mut rows: Vec<Row> =
        members.into_iter().map(|(account, member)| (account, Some(member), used.remove(&account))).collect();
    // Who is no member any more is still owed, or owes.
    rows.extend(used.into_values().map(|left| (left.account, None, Some(left))));
    out.result(&rows.iter().map(shown).collect(), || table(&rows));
    Ok(())
}

fn shown((account, member, used): &Row) -> Value {
    json!({
        "account": account.to_string(), "rights": member.as_ref().map(|m| m.rights.names()),
        "receipts": used.map_or(0, |u| u.receipts), "units": used.map_or(0, |u| u.units), "last_ms": used.map(|u| u.last_ms),
    })
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["account", "rights", ">receipts", ">units", "last (UTC)"]);
    for (account, member, used) in rows {
        table.row([
            account.to_string(),
            output::rights(member.as_ref().map_or(Rights(0), |m| m.rights)),
            used.map_or(0, |u| u.receipts).to_string(),
            used.map_or(0, |u| u.units).to_string(),
            used.map_or_else(|| "never".to_owned(), |u| output::utc(u.last_ms)),
        ]);
    }
    format!("Receipts are those of this node; units are rows predicted and tokens generated.\n{}", table.render(0))
}
