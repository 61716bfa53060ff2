//! Requests that were taken, so that none is run or billed twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Mutex, PoisonError},
};

use zero2ai_proto::{
    AccountId, Signed,
    pool::Nonce,
    receipt::Request,
    rpc::{ErrorCode, RpcError},
};

use crate::serve::errors::invalid;

/// Requests remembered of one account until their deadlines, some forty bytes each; beyond that its new ones are `Busy` until
/// old ones run out: with deadlines of half a minute, seven thousand a second. Accounts are members, so their number is bounded
/// by the ledger; one account cannot use up another's share.
const REMEMBERED: usize = 200_000;

/// Requests already taken, until their deadlines: a replayed one is not run, or billed, twice.
#[derive(Default)]
pub(super) struct Spent(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    /// Deadline and nonce: both are signed, so a request that is sent again has the same.
    by_account: BTreeMap<AccountId, BTreeSet<(u64, Nonce)>>,
    /// The account that was swept last.
    swept: Option<AccountId>,
}

impl Taken {
    /// Forgets what ran out of one account, another one every time: accounts that do not come again are forgotten too.
    fn sweep(&mut self, now: u64) {
        let after = self.swept.map_or(Bound::Unbounded, Bound::Excluded);
        self.swept = self.by_account.range((after, Bound::Unbounded)).next().map(|(account, _)| *account);
        let Some(account) = self.swept else { return };
        if let Some(requests) = self.by_account.get_mut(&account) {
            forget(requests, now);
            if requests.is_empty() {
                self.by_account.remove(&account);
            }
        }
    }
}

/// Forgets requests whose deadline has come.
fn forget(requests: &mut BTreeSet<(u64, Nonce)>, now: u64) {
    while requests.first().is_some_and(|(deadline, _)| *deadline <= now) {
        requests.pop_first();
    }
}

impl Spent {
    /// Remembers the requests that the log shows to have been answered, as a node must that was just started: a request
    /// sent again is not run twice because its provider was restarted in between.
    pub(super) fn remember<'a>(&self, answered: impl Iterator<Item = &'a Signed<Request>>, now: u64) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for signed in answered {
            let Ok(request) = signed.read_unverified() else { continue };
            if request.deadline_ms > now {
                taken.by_account.entry(signed.signer()).or_default().insert((request.deadline_ms, request.nonce));
            }
        }
    }

    /// Takes a request, unless it was taken before.
    pub(super) fn take(&self, account: AccountId, request: &Request, now: u64) -> Result<(), RpcError> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.sweep(now);
        let requests = taken.by_account.entry(account).or_default();
        forget(requests, now);
        if requests.len() >= REMEMBERED {
            return Err(RpcError::new(
                ErrorCode::Busy,
                "too many requests of this account are remembered: wait a while, or give requests nearer deadlines",
            ));
        }
        if !requests.insert((request.deadline_ms, request.nonce)) {
            return Err(invalid("this request was used before: sign a new one"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use zero2ai_proto::{Digest, ManifestId, PoolId, PublicKey, SecretKey};

    use super::*;

    /// A request that differs from others by `n`.
    pub(in crate::serve) fn request(n: u64, time_ms: u64, deadline_ms: u64) -> Request {
        let mut nonce = [4; 16];
        nonce[..8].copy_from_slice(&n.to_be_bytes());
        Request {
            provider: PublicKey([1; 32]),
            name: "acme/digits".parse().unwrap(),
            version: 1,
            manifest: ManifestId([2; 32]),
            commitment: Digest([3; 32]),
            nonce: Nonce(nonce),
            time_ms,
            deadline_ms,
            price_cap: 0,
            parent: None,
        }
    }

    #[test]
    fn a_request_is_taken_once() {
        let (spent, account) = (Spent::default(), PublicKey([9; 32]));
        assert!(spent.take(account, &request(1, 1, 2), 1).is_ok());
        assert_eq!(spent.take(account, &request(1, 1, 2), 1).unwrap_err().code, ErrorCode::Invalid);
        let restarted = Spent::default();
        let key = SecretKey::from_bytes(&[7; 32]);
        let signed = Signed::sign(&request(1, 1, 2), &PoolId([0; 32]), &key).unwrap();
        restarted.remember([&signed].into_iter(), 1);
        assert_eq!(restarted.take(key.public(), &request(1, 1, 2), 1).unwrap_err().code, ErrorCode::Invalid);
        assert!(spent.take(PublicKey([8; 32]), &request(1, 1, 2), 1).is_ok(), "another account's requests are its own");
    }

    #[test]
    fn an_account_has_its_share_and_those_that_do_not_come_again_are_forgotten() {
        let (spent, greedy) = (Spent::default(), PublicKey([0; 32]));
        for n in 0..REMEMBERED as u64 {
            spent.take(greedy, &request(n, 1, 1_000 + n % 2), 0).unwrap();
        }
        assert_eq!(spent.take(greedy, &request(u64::MAX, 1, 1_000), 0).unwrap_err().code, ErrorCode::Busy);
        for account in 1..=50 {
            spent.take(PublicKey([account; 32]), &request(0, 1, 1_000), 0).unwrap();
        }
        // Half of the greedy one's ran out: there is room again, and the other half is known still.
        assert!(spent.take(greedy, &request(u64::MAX, 1, 2_000), 1_000).is_ok());
        assert_eq!(spent.take(greedy, &request(1, 1, 1_001), 1_000).unwrap_err().code, ErrorCode::Invalid);
        for n in 0..60 {
            spent.take(PublicKey([99; 32]), &request(n, 1, 9_000), 2_000).unwrap();
        }
        let taken = spent.0.lock().unwrap();
        assert_eq!(taken.by_account.keys().collect::<Vec<_>>(), [&PublicKey([99; 32])]);
    }
}
