//! `token`: who may ask the HTTP gateway. Works on the home's file, whether the node runs or not.

use std::path::Path;

use serde_json::{Value, json};
use zero2ai_node::{
    Home,
    http::{TokenEntry, new_token, revoke_token, tokens},
    now_ms,
};

use crate::{
    cli::TokenCommand,
    exit::{Exit, Failure, Outcome},
    output::{Output, Table},
};

/// The command.
pub(crate) fn token(home: &Path, command: TokenCommand, out: Output) -> Outcome {
    // A home must be there already: a mistyped one is not made.
    Home::open(home)?;
    match command {
        TokenCommand::New { name, scopes, ttl, per_minute } => {
            let (token, entry) = new_token(home, &name, scopes, ttl, per_minute)?;
            let mut json = shown(&entry);
            json["token"] = json!(token.as_str());
            out.result(&json, || token.to_string());
        }
        TokenCommand::List => {
            let all = tokens(home)?;
            out.result(&all.iter().map(shown).collect(), || table(&all));
        }
        TokenCommand::Revoke { id } => {
            if !revoke_token(home, &id)? {
                let said = format!("There is no token {id}: 'zero2ai token list' shows those there are.");
                return Err(Failure::new(Exit::NotFound, said));
            }
            out.result(&json!({ "revoked": id }), || format!("Token {id} is revoked."));
        }
    }
    Ok(())
}

fn scopes(entry: &TokenEntry) -> Vec<&'static str> {
    entry.scopes.iter().map(|scope| scope.word()).collect()
}

fn shown(entry: &TokenEntry) -> Value {
    json!({
        "id": entry.id, "name": entry.name, "scopes": scopes(entry), "created_ms": entry.created_ms,
        "expires_ms": entry.expires_ms, "per_minute": entry.per_minute,
    })
}

fn table(all: &[TokenEntry]) -> String {
    let now = now_ms();
    let left = |end: u64| match end.checked_sub(now) {
        None | Some(0) => "expired".to_owned(),
        Some(ms) => format!("{} h", ms.div_ceil(3_600_000)),
    };
    let mut table = Table::new(&["id", "name", "scopes", "good for", "a minute"]);
    for entry in all {
        table.row([
            entry.id.clone(),
            entry.name.clone(),
            scopes(entry).join(","),
            entry.expires_ms.map_or_else(|| "ever".to_owned(), left),
            entry.per_minute.map_or_else(|| "any".to_owned(), |n| n.to_string()),
        ]);
    }
    table.render(0)
}
