//! Copies of a new version on other nodes, as many as are wanted and can be had now.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ModelName, NodeId,
    calls::{Replicate, ReplicateCall},
    limits::COPIES,
    rpc::RpcError,
    state::Rights,
};

use crate::{
    core::Core,
    heads,
    jobs::{Tell, tell},
};

/// How long one other node may take to fetch a whole copy.
const REPLICA: Duration = Duration::from_secs(600);

const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Core {
    /// Asks providers that are up to hold a copy, as many at once as copies are wanted, until enough do. Members that the
    /// ledger knows as providers and that were not heard of yet are waited for ([`heads::introductions`]): a pool that just came up is still
    /// introducing itself, and who has just joined a large one hears of its members one by one.
    pub(super) async fn replicate(
        &self,
        name: &ModelName,
        version: u32,
        wanted: u32,
        progress: &Tell,
    ) -> Result<Vec<NodeId>, RpcError> {
        let patience = tokio::time::Instant::now() + heads::introductions(self.speaking());
        let total = u64::from(wanted);
        let (mut asked, mut running) = (BTreeSet::new(), FuturesUnordered::new());
        let (mut holders, mut last) = (Vec::new(), String::from("no other provider is up"));
        while holders.len() < wanted as usize {
            let (present, expected) = self.providers();
            for node in present {
                if running.len() + holders.len() < wanted as usize && asked.insert(node) {
                    let (name, copies) = (name.clone(), wanted.saturating_add(1).min(COPIES));
                    let call = ReplicateCall { name, version, serve: false, from: self.id, copies };
                    running.push(async move { (node, self.roads.call::<Replicate>(&node, &call, REPLICA).await) });
                }
            }
            tell(progress, "copies on other nodes", holders.len() as u64, total);
            match running.next().await {
                Some((node, Ok(_))) => holders.push(node),
                Some((node, Err(why))) => last = format!("{}: {why}", node.short()),
                None if asked.len() < expected && tokio::time::Instant::now() < patience => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                // A pool too small for the copies wanted is told, not failed.
                None => {
                    tell(progress, format!("fewer copies than wanted ({last})"), holders.len() as u64, total);
                    break;
                }
            }
        }
        Ok(holders)
    }

    /// How many members speak, and so how rarely each does.
    fn speaking(&self) -> usize {
        let heard = self.directory.count(now_ms()).max(self.net.peers().len());
        heads::speaking(heard, self.chain.read(|l| l.members().count()), self.began.elapsed())
    }

    /// Other members that may hold models: those heard of lately, and how many there are in all.
    fn providers(&self) -> (Vec<NodeId>, usize) {
        let others = self.others();
        self.chain.read(|l| {
            let all = l.members().filter(|(n, m)| *n != self.id && m.rights.has(Rights::PROVIDER)).count();
            let may = |n: &NodeId| l.member(n).is_some_and(|m| m.rights.has(Rights::PROVIDER));
            (others.into_iter().filter(may).collect(), all)
        })
    }
}
