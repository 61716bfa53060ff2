//! `token`: who may ask the HTTP gateway, and what each has used. Works on the home's files, whether the node runs or not.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use zero2ai_clock::now_ms;
use zero2ai_node::{
    Home,
    http::{FIRST, NewToken, TokenEntry, Usage, new_token, revoke_token, set_budget, tokens, usage},
};

use crate::{
    cli::{Budget, TokenCommand},
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Table},
};

/// The command.
pub(crate) fn token(home: &Path, command: TokenCommand, out: Output) -> Outcome {
    // A home must be there already: a mistyped one is not made.
    Home::open(home)?;
    match command {
        TokenCommand::New { name, scopes, ttl, per_minute, budget } => {
            let wish = NewToken { name, scopes, lifetime: ttl, per_minute, budget };
            let (token, entry) = new_token(home, wish)?;
            let mut json = shown(&entry, &Usage::default());
            json["token"] = json!(token.as_str());
            out.result(&json, || token.to_string());
        }
        TokenCommand::Budget { id, units: Budget(units) } => {
            if !set_budget(home, &id, units)? {
                return Err(missing(&id));
            }
            out.result(&json!({ "id": id, "budget": units }), || match units {
                Some(units) => format!("Token {id} may use {units} units in all."),
                None => format!("Token {id} may use any number of units."),
            });
        }
        TokenCommand::List => {
            let (all, used) = (tokens(home)?, usage(home)?);
            let of = |id: &str| used.get(id).copied().unwrap_or_default();
            let mut list: Vec<Value> = all.iter().map(|entry| shown(entry, &of(&entry.id))).collect();
            let first = of(FIRST);
            list.push(json!({
                "id": FIRST, "name": null, "scopes": null, "created_ms": null, "expires_ms": null, "per_minute": null,
                "budget": null, "used": first.units, "calls": first.calls, "last_ms": (first.calls > 0).then_some(first.last_ms),
            }));
            out.result(&list.into(), || table(&all, &used));
        }
        TokenCommand::Revoke { id } => {
            if !revoke_token(home, &id)? {
                return Err(missing(&id));
            }
            out.result(&json!({ "revoked": id }), || format!("Token {id} is revoked."));
        }
    }
    Ok(())
}

fn missing(id: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("There is no token {id}: 'zero2ai token list' shows those there are."))
}

fn scopes(entry: &TokenEntry) -> Vec<&'static str> {
    entry.scopes.iter().map(|scope| scope.word()).collect()
}

fn shown(entry: &TokenEntry, used: &Usage) -> Value {
    json!({
        "id": entry.id, "name": entry.name, "scopes": scopes(entry), "created_ms": entry.created_ms,
        "expires_ms": entry.expires_ms, "per_minute": entry.per_minute, "budget": entry.budget, "used": used.units,
        "calls": used.calls, "last_ms": (used.calls > 0).then_some(used.last_ms),
    })
}

fn table(all: &[TokenEntry], used: &BTreeMap<String, Usage>) -> String {
    let now = now_ms();
    let left = |end: u64| match end.checked_sub(now) {
        None | Some(0) => "expired".to_owned(),
        Some(ms) => format!("{} h", ms.div_ceil(3_600_000)),
    };
    let figures = |id: &str| {
        let used = used.get(id).copied().unwrap_or_default();
        let last = if used.calls > 0 { output::utc(used.last_ms) } else { "never".to_owned() };
        (used.units.to_string(), last)
    };
    let any = |limit: Option<String>| limit.unwrap_or_else(|| "any".to_owned());
    let mut table =
        Table::new(&["id", "name", "scopes", "good for", "a minute", ">used", ">of units", "last use (UTC)"]);
    for entry in all {
        let (units, last) = figures(&entry.id);
        table.row([
            entry.id.clone(),
            entry.name.clone(),
            scopes(entry).join(","),
            entry.expires_ms.map_or_else(|| "ever".to_owned(), left),
            any(entry.per_minute.map(|n| n.to_string())),
            units,
            any(entry.budget.map(|n| n.to_string())),
            last,
        ]);
    }
    let (units, last) = figures(FIRST);
    let name = "(file http.token)".to_owned();
    table.row([FIRST.into(), name, "all".into(), "ever".into(), "any".into(), units, "any".into(), last]);
    table.render(0)
}
