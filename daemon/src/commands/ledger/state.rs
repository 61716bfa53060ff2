//! `ledger state`: entries of the authenticated state, as replaying this disk's blocks makes them.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use zero2ai_proto::{
    decode,
    limits::SIGNED_BYTES,
    state::{
        AnchorState, BallotState, CommitState, ContradictionState, Conviction, DisputeState, Due, Endorsement,
        EntryState, EpochState, Equivocation, Event, FindingState, GradersState, GrantState, Halt, Handle, Member,
        Model, OfferState, PoolEpoch, PotState, RewardState, RoundCount, RoundState, Rules, Score, SeedState, Signers,
        StakeState, StakeTotal, TicketUse, Version, VoteState,
    },
    tx::Grading,
};

use super::{open, replay};
use crate::{
    exit::{Exit, Failure, Outcome},
    output::{Output, plural},
};

/// Bytes from here on are keys, ids and signatures: shown in hexadecimal digits.
const KEY_BYTES: usize = 16;

pub(super) fn state(home: &Path, key: &str, out: Output) -> Outcome {
    let ledger = replay(home, &open(home)?)?;
    let exact = ledger.get(key.as_bytes()).map(|value| (key.as_bytes(), value));
    let found: Vec<_> = exact.map_or_else(|| ledger.scan(key.as_bytes()).collect(), |entry| vec![entry]);
    if found.is_empty() {
        let why = format!(
            "The state after block {} has no entry {key}, and none that starts so. 'zero2ai ledger state \"\"' lists all.",
            ledger.height()
        );
        return Err(Failure::new(Exit::NotFound, why));
    }
    let entries: Map<String, Value> = found
        .iter()
        .map(|(key, value)| {
            let key = String::from_utf8_lossy(key).into_owned();
            let value = told(&key, value);
            (key, value)
        })
        .collect();
    let json = json!({ "height": ledger.height(), "root": ledger.root().to_string(), "entries": entries });
    out.result(&json, || {
        let count = plural(entries.len() as u64, "entry").replace("entrys", "entries");
        let mut lines = vec![format!("{count} of the state after block {}, root {}", ledger.height(), ledger.root())];
        lines.extend(entries.iter().map(|(key, value)| format!("{key}  {value}")));
        lines.join("\n")
    });
    Ok(())
}

/// An entry's value, by the type that its key says it has; its bytes where this program knows none.
fn told(key: &str, value: &[u8]) -> Value {
    match key.split('/').next().unwrap_or_default() {
        "signers" => read::<Signers>(value),
        "rules" => read::<Rules>(value),
        "pool" => read::<PoolEpoch>(value),
        "member" => read::<Member>(value),
        "ticket" => read::<TicketUse>(value),
        "handle" => read::<Handle>(value),
        "model" => read::<Model>(value),
        "version" => read::<Version>(value),
        "grant" => read::<GrantState>(value),
        "offer" => read::<OfferState>(value),
        "commit" => read::<CommitState>(value),
        "endorsement" => read::<Endorsement>(value),
        "score" => read::<Score>(value),
        "anchor" => read::<AnchorState>(value),
        "evidence" => read::<Equivocation>(value),
        "event" => read::<Event>(value),
        "stake" => read::<StakeState>(value),
        "stakes" => read::<StakeTotal>(value),
        "grading" => read::<Grading>(value),
        "seed" => read::<SeedState>(value),
        "halt" => read::<Halt>(value),
        "rounds" => read::<RoundCount>(value),
        "round" => read::<RoundState>(value),
        "entry" => read::<EntryState>(value),
        "finding" => read::<FindingState>(value),
        "contradiction" => read::<ContradictionState>(value),
        "convicted" => read::<Conviction>(value),
        "due" => read::<Due>(value),
        "vote" => read::<VoteState>(value),
        "graders" => read::<GradersState>(value),
        "dispute" => read::<DisputeState>(value),
        "ballot" => read::<BallotState>(value),
        "pot" => read::<PotState>(value),
        "reward" => read::<RewardState>(value),
        "epoch" => read::<EpochState>(value),
        _ => None,
    }
    .unwrap_or_else(|| hex::encode(value).into())
}

fn read<T: Serialize + DeserializeOwned>(value: &[u8]) -> Option<Value> {
    let value = decode::<T>(value, SIGNED_BYTES).ok()?;
    Some(with_hex(serde_json::to_value(value).ok()?))
}

/// Strings of bytes, which are lists of numbers in JSON, as hexadecimal digits.
fn with_hex(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let byte = |item: &Value| item.as_u64().and_then(|n| u8::try_from(n).ok());
            let bytes: Option<Vec<u8>> = items.iter().map(byte).collect();
            match bytes {
                Some(bytes) if bytes.len() >= KEY_BYTES => hex::encode(bytes).into(),
                _ => items.into_iter().map(with_hex).collect(),
            }
        }
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, with_hex(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{SecretKey, encode};

    use super::*;

    #[test]
    fn entries_are_told_by_their_keys_types_and_others_as_bytes() {
        let owner = SecretKey::from_bytes(&[1; 32]).public();
        let handle = Handle { owner, claimed: 3 };
        let value = encode(&handle).unwrap();
        assert_eq!(told("handle/acme", &value), json!({ "owner": owner.to_string(), "claimed": 3 }));
        assert_eq!(told("handle/acme", b"damaged"), json!(hex::encode(b"damaged")));
        assert_eq!(told("later/x", &value), json!(hex::encode(&value)));
        let model = Model { owner, latest: 2, channels: vec![("stable".into(), 1)], events: 4 };
        assert_eq!(told("model/acme/m", &encode(&model).unwrap())["channels"], json!([["stable", 1]]));
    }
}
