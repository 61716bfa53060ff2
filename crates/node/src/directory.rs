//! Where members can be reached, as they gossip it themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use zero2ai_proto::{NodeId, pool::Bootstrap, record::Address};

use crate::heads::{self, COUNTED};

/// Members remembered; beyond that the one heard of longest ago goes.
const MEMBERS: usize = 4_096;

/// What is known of one member.
#[derive(Clone, Debug)]
struct Seen {
    addresses: Vec<Address>,
    /// Of his chain, then, and the number of the message that said so.
    said: (u64, u64),
    at_ms: u64,
    /// The swarm's last connection with it ended since. It may only have been let go.
    left: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    members: Mutex<BTreeMap<NodeId, Seen>>,
}

impl Directory {
    /// Starts with the nodes that we joined by, as if heard of long ago.
    pub(crate) fn new(bootstrap: &[Bootstrap]) -> Self {
        let members = bootstrap
            .iter()
            .map(|b| (b.node, Seen { addresses: b.addresses.clone(), said: (0, 0), at_ms: 0, left: false }))
            .collect();
        Self { members: Mutex::new(members) }
    }

    /// Takes a member's own word, `said` at the height that he had then, in his message of that number; false for one that is not newer
    /// than his last, which somebody may have kept and says again: it changes nothing. Of a member whose ledger was lost nothing is taken
    /// until he has caught up, and of one whose clock went back, where numbers begin, nothing before his next height.
    pub(crate) fn heard(&self, node: NodeId, addresses: Vec<Address>, said: (u64, u64), now_ms: u64) -> bool {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if members.get(&node).is_some_and(|seen| seen.said >= said) {
            return false;
        }
        members.insert(node, Seen { addresses, said, at_ms: now_ms, left: false });
        while members.len() > MEMBERS {
            let Some(oldest) = members.iter().min_by_key(|(_, s)| s.at_ms).map(|(n, _)| *n) else { break };
            members.remove(&oldest);
        }
        true
    }

    /// The swarm is connected with a member, or not any more.
    pub(crate) fn connected(&self, node: &NodeId, is: bool) {
        if let Some(seen) = self.members.lock().unwrap_or_else(PoisonError::into_inner).get_mut(node) {
            seen.left = !is;
        }
    }

    /// Members heard of within [`COUNTED`].
    pub(crate) fn count(&self, now_ms: u64) -> usize {
        count(&self.members.lock().unwrap_or_else(PoisonError::into_inner), now_ms)
    }

    /// Where `node` can be reached, if anyone ever said.
    pub(crate) fn addresses(&self, node: &NodeId) -> Option<Vec<Address>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(node).map(|s| s.addresses.clone())
    }

    /// When `node` was last heard of, milliseconds since 1970 UTC; `None` if it never was since this node started.
    pub(crate) fn heard_at(&self, node: &NodeId) -> Option<u64> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.get(node).map(|s| s.at_ms).filter(|at| *at > 0)
    }

    /// Members heard of lately and where they are, newest first, at most `most`.
    pub(crate) fn heard_lately(&self, now_ms: u64, most: usize) -> Vec<Bootstrap> {
        let mut list = self.present(now_ms);
        list.truncate(most);
        let place = |node: NodeId| Some(Bootstrap { node, addresses: self.addresses(&node)? });
        list.into_iter().filter_map(place).collect()
    }

    /// Every member whose address is known, heard of or not: for a node that just started and has heard of nobody yet.
    pub(crate) fn known(&self) -> Vec<NodeId> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Members heard of lately (see [`heads::away`]), newest first, those behind whose connection ended since.
    pub(crate) fn present(&self, now_ms: u64) -> Vec<NodeId> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let away = ms(heads::away(count(&members, now_ms)));
        let mut list: Vec<(bool, u64, NodeId)> = members.iter().map(|(n, s)| (!s.left, s.at_ms, *n)).collect();
        list.retain(|(_, at, _)| now_ms.saturating_sub(*at) < away);
        list.sort_by(|a, b| b.cmp(a));
        list.into_iter().map(|(_, _, n)| n).collect()
    }
}

fn count(members: &BTreeMap<NodeId, Seen>, now_ms: u64) -> usize {
    members.values().filter(|seen| now_ms.saturating_sub(seen.at_ms) < ms(COUNTED)).count()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::PublicKey;

    use super::*;

    fn member(n: u8) -> NodeId {
        PublicKey([n; 32])
    }

    #[test]
    fn the_more_members_there_are_the_longer_one_may_be_silent() {
        let (directory, now) = (Directory::default(), 1_000_000_000);
        for n in 0..4 {
            directory.heard(member(n), Vec::new(), (1, 1), now);
        }
        assert_eq!(directory.present(now + 14_000).len(), 4);
        assert!(directory.present(now + 16_000).is_empty(), "four of them speak every two seconds");
        for n in 0..40 {
            directory.heard(member(n), Vec::new(), (1, 2), now);
        }
        assert_eq!(directory.present(now + 50_000).len(), 40, "forty speak every twenty");
        assert!(directory.present(now + 61_000).is_empty());
        assert_eq!((directory.count(now + 299_000), directory.count(now + 301_000)), (40, 0));
    }

    #[test]
    fn an_announcement_from_before_changes_nothing() {
        let (directory, now) = (Directory::default(), 1_000_000_000);
        let at = |port: u16| vec![Address::Rpc(format!("10.0.0.1:{port}"))];
        assert!(directory.heard(member(1), at(1), (8, 5), now));
        assert!(directory.heard(member(1), at(2), (8, 6), now + 1));
        for (said, why) in [((7, 9), "a lower height"), ((8, 5), "the same height"), ((8, 6), "the very same")] {
            assert!(!directory.heard(member(1), at(1), said, now + 400_000), "{why}");
        }
        assert_eq!(directory.addresses(&member(1)), Some(at(2)));
        assert_eq!(directory.heard_at(&member(1)), Some(now + 1), "nor is it a sign of life");
        assert_eq!(directory.count(now + 400_000), 0);
        assert!(directory.heard(member(1), at(3), (8, 7), now + 2));
        assert_eq!(directory.addresses(&member(1)), Some(at(3)));
        assert!(directory.heard(member(1), at(4), (9, 1), now + 3), "whose clock went back is heard again");
    }

    #[test]
    fn whose_connection_ended_comes_last_until_he_speaks_again() {
        let (directory, now) = (Directory::default(), 1_000_000_000);
        for n in 1..=3 {
            directory.heard(member(n), Vec::new(), (1, 1), now + u64::from(n));
        }
        directory.connected(&member(3), false);
        directory.connected(&member(9), false);
        assert_eq!(directory.present(now + 10), [member(2), member(1), member(3)]);
        directory.connected(&member(3), true);
        assert_eq!(directory.present(now + 10).first(), Some(&member(3)));
        directory.connected(&member(3), false);
        directory.heard(member(3), Vec::new(), (1, 2), now + 4);
        assert_eq!(directory.present(now + 10).first(), Some(&member(3)));
    }
}
