//! Changes of the rules: an administrator names the next version and the height from which blocks follow it, early enough that
//! every member can update. What the version means is in the programs; a program that lacks it stops before that height.

use zero2ai_proto::{
    state::{Rights, Rules, key},
    tx::SetRules,
};

use super::Call;
use crate::{draft::Draft, error::TxError};

/// Heights between the transaction and the first block of the new rules, at least: the block behind this one may be under way.
const LEAD: u64 = 2;

/// The rules as this block sees them. `genesis` is the version that the pool began with.
fn rules(draft: &Draft<'_>, genesis: u16) -> Result<Rules, TxError> {
    Ok(draft.read(key::RULES)?.unwrap_or(Rules { version: genesis, next: None }))
}

/// Begins the block of `height`: a change that was to come with it is made.
pub(super) fn begin(draft: &mut Draft<'_>, genesis: u16, height: u64) -> Result<(), TxError> {
    let now = rules(draft, genesis)?;
    if now.next.is_some_and(|(_, from)| height >= from) {
        draft.write(key::RULES.to_vec(), &Rules { version: now.at(height), next: None })?;
    }
    Ok(())
}

/// Names the next rules, instead of those that were named before if their height is still to come; or takes that back.
pub(super) fn set_rules(draft: &mut Draft<'_>, call: &Call<'_>, body: &SetRules) -> Result<(), TxError> {
    call.need(Rights::ADMIN)?;
    let invalid = |why: String| TxError::Invalid { what: "rules", why };
    let now = rules(draft, call.at.genesis_rules)?;
    let next = if body.version == now.version {
        if now.next.is_none() || body.height != 0 {
            return Err(invalid(format!("{} are in force already, and no other ones are to come", body.version)));
        }
        None
    } else {
        if Some(body.version) != now.version.checked_add(1) {
            return Err(invalid(format!(
                "{} do not follow {}: one version after the other",
                body.version, now.version
            )));
        }
        let first = call.at.height.saturating_add(LEAD);
        if body.height < first {
            return Err(invalid(format!(
                "height {} is too soon: {first} is the first that can follow them",
                body.height
            )));
        }
        Some((body.version, body.height))
    };
    draft.write(key::RULES.to_vec(), &Rules { version: now.version, next })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use zero2ai_proto::{
        ByteBuf, SealingKey, SecretKey, Signed,
        block::Block,
        encode,
        pool::{Genesis, Nonce},
        state::{Signer, SignerSet},
        tx::{Tx, TxBody},
    };

    use super::*;
    use crate::{BlockError, EMPTY_PAUSE_MS, Ledger};

    fn admin() -> SecretKey {
        SecretKey::from_bytes(&[1; 32])
    }

    /// A pool whose programs know rules up to `known`.
    fn ledger(known: u16) -> Ledger {
        let genesis = Genesis {
            version: 1,
            created_ms: 1_000,
            nonce: Nonce([1; 16]),
            admin: admin().public(),
            admin_sealing: SealingKey([1; 32]),
            signers: SignerSet::new(vec![Signer { key: admin().public(), power: 1 }]).unwrap(),
            rules_version: 1,
        };
        let mut ledger = Ledger::genesis(&encode(&genesis).unwrap()).unwrap();
        ledger.known_rules = known;
        ledger
    }

    fn build(ledger: &Ledger, txs: &[Signed<Tx>]) -> Block {
        let time = ledger.head_time_ms() + EMPTY_PAUSE_MS;
        let beacon = ledger.beacon(&admin()).unwrap();
        let txs: Vec<_> = beacon.into_iter().chain(txs.iter().cloned()).collect();
        ledger.build_block(admin().public(), time, &txs).unwrap().0
    }

    fn set_rules(ledger: &Ledger, version: u16, height: u64) -> Signed<Tx> {
        let nonce = ledger.member(&admin().public()).unwrap().nonce;
        let body = TxBody::SetRules(SetRules { version, height });
        Signed::sign(&Tx { nonce, body }, &ledger.pool(), &admin()).unwrap()
    }

    /// Those that know the new rules go on with them from the height on; an older program agrees on every block before it.
    #[test]
    fn rules_change_at_their_height_for_those_who_know_them() {
        let (mut new, mut old) = (ledger(2), ledger(1));
        let mut versions = Vec::new();
        for height in 1..=6 {
            let txs = if height == 1 { vec![set_rules(&new, 2, 4)] } else { vec![] };
            let block = build(&new, &txs);
            let version = block.read_header().unwrap().rules_version;
            versions.push(version);
            if version == 1 {
                assert_eq!(old.missing_rules(), None);
                old.apply(&block).unwrap();
            } else {
                let unknown = BlockError::Unknown { what: "rules", got: 2, known: 1 };
                assert_eq!(old.apply(&block), Err(unknown));
                let mut other = block.clone();
                let header = zero2ai_proto::block::Header { rules_version: 1, ..block.read_header().unwrap() };
                other.header = ByteBuf::from(encode(&header).unwrap());
                let refused = new.check_block(&other);
                assert!(matches!(refused, Err(BlockError::Field { field: "rules", .. })), "{refused:?}");
            }
            new.apply(&block).unwrap();
            assert!(version == 2 || old.root() == new.root());
        }
        assert_eq!(versions, [1, 1, 1, 2, 2, 2]);
        assert_eq!((new.rules(), new.missing_rules()), (Rules { version: 2, next: None }, None));
        assert_eq!((old.height(), old.missing_rules()), (3, Some(2)));
        let stopped = old.build_block(admin().public(), 1_000_000, &[]);
        assert!(matches!(stopped, Err(BlockError::Unknown { what: "rules", got: 2, known: 1 })));
        // The next change follows the new ones.
        let tx = set_rules(&new, 3, 100);
        let block = build(&new, &[tx]);
        new.apply(&block).unwrap();
        assert_eq!(new.rules(), Rules { version: 2, next: Some((3, 100)) });
    }
}
