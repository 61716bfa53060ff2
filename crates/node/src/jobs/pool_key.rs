//! The pool key: an administrator's node makes another one and tells the ledger its id; every other member's node sees that and
//! asks for the key itself, as any client does. The key never stands on the ledger, wrapped or not: it goes from member to member
//! over connections that are encrypted to who they are.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_client::{Client, ClientConfig, ClientError};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId,
    local::{RotateCall, RotateReply},
    pool::Bootstrap,
    record::Address,
    rpc::RpcError,
    state::{PoolEpoch, Rights},
    tx::{RotateKey, TxBody},
};

use crate::{
    account::PATIENCE,
    core::Core,
    error::NodeError,
    home::{read_next_key, renew_key, write_next_key},
    serve::errors::{denied, internal, unavailable},
};

/// How long a node that needs a newer key waits between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a node that no other is connected to looks whether that is because of its key.
const ALONE: Duration = Duration::from_secs(15);
/// How long one member may take.
const TRY: Duration = Duration::from_secs(8);
/// Members heard of that are asked in one try.
const ASKED: usize = 8;

impl Core {
    /// Makes another pool key, and tells the ledger. The key is on disk before.
    pub(crate) async fn rotate_pool_key(&self, call: RotateCall) -> Result<RotateReply, RpcError> {
        if !self.is_admin() {
            return Err(denied("only an administrator's node can rotate the pool key"));
        }
        let newest = self.chain.read(|l| l.pool_epoch()).map_or(0, |e| e.epoch);
        if newest != self.pool_keys.epoch() {
            return Err(unavailable("this node does not have the newest pool key yet: try again in a moment"));
        }
        let next = self.pool_keys.current().next().map_err(internal)?;
        write_next_key(&self.home, &next).map_err(internal)?;
        let body = RotateKey { epoch: next.epoch, id: next.id(), grace_ms: call.grace_ms };
        let height = self.account.submit(TxBody::RotateKey(body), PATIENCE).await?;
        // Should this fail, the keeper does it.
        self.take_own_key().map_err(internal)?;
        Ok(RotateReply { epoch: next.epoch, height })
    }

    /// True if this node is an administrator's.
    pub(crate) fn is_admin(&self) -> bool {
        self.chain.read(|l| l.member(&self.id)).is_some_and(|m| m.rights.has(Rights::ADMIN))
    }

    /// What the ledger says of the newest key, if ours is older.
    pub(crate) fn newer_key(&self) -> Option<PoolEpoch> {
        self.chain.read(|l| l.pool_epoch()).filter(|newest| newest.epoch > self.pool_keys.epoch())
    }

    /// If the newest key is the one that this node made, takes it. True if nothing newer is left to be had.
    fn take_own_key(&self) -> Result<bool, NodeError> {
        let Some(newest) = self.newer_key() else { return Ok(true) };
        match read_next_key(&self.home)?.filter(|key| key.id() == newest.id) {
            Some(key) => {
                renew_key(&self.home, &self.pool_keys, key, newest.grace_until_ms)?;
                tracing::info!(epoch = newest.epoch, "the pool key is rotated");
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Asks one member after another for a newer key, until one has it. `known` are asked last.
    async fn ask_for_key(&self, known: &[Bootstrap]) -> Result<(), NodeError> {
        let heard = self.others().into_iter().filter_map(|n| Some((n, self.directory.addresses(&n)?)));
        let mut asked: Vec<(NodeId, Vec<Address>)> = heard.take(ASKED).collect();
        for Bootstrap { node, addresses } in known {
            if asked.iter().all(|(heard, _)| heard != node) {
                asked.push((*node, addresses.clone()));
            }
        }
        let mut last = NodeError::Rpc("no member is known that could be asked".to_owned());
        for member in asked {
            match tokio::time::timeout(TRY, self.ask_member_for_key(member)).await {
                Ok(Ok(true)) => return Ok(()),
                // It knows of none: so do the others, unless our ledger does.
                Ok(Ok(false)) if self.newer_key().is_none() => return Ok(()),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => last = NodeError::Rpc(error.to_string()),
                Err(_) => last = NodeError::Rpc(format!("nothing came within {} s", TRY.as_secs())),
            }
        }
        Err(last)
    }

    /// True if it had a newer one, which this node has now.
    async fn ask_member_for_key(&self, member: (NodeId, Vec<Address>)) -> Result<bool, ClientError> {
        let config = ClientConfig {
            key: self.key.clone(),
            pool: self.pool,
            pool_key: self.pool_keys.current(),
            bootstrap: vec![member],
            genesis: Some(self.chain.read(|l| l.genesis_bytes().to_vec())),
        };
        let client = Client::connect(config).await?;
        // To connect has renewed it, if the member showed that it has a newer one; if not, why not is to be known.
        if client.pool_key().epoch <= self.pool_keys.epoch() {
            client.renew_key().await?;
        }
        let key = client.pool_key();
        if key.epoch <= self.pool_keys.epoch() {
            return Ok(false);
        }
        // Our own ledger may not know of it yet. Then the key before is over: whoever is so far behind was away.
        let grace = self.newer_key().filter(|newest| newest.epoch == key.epoch);
        let until_ms = grace.map_or_else(now_ms, |newest| newest.grace_until_ms);
        let epoch = key.epoch;
        let kept = renew_key(&self.home, &self.pool_keys, key, until_ms);
        kept.map_err(|e| ClientError::Membership { path: self.home.clone(), why: e.to_string() })?;
        tracing::info!(epoch, "this node has the pool's newer key");
        Ok(true)
    }
}

/// Keeps this node's pool key the newest one until `stop`. `known` are nodes to ask when nobody was heard of.
pub(crate) async fn keep_pool_key(core: Arc<Core>, known: Vec<Bootstrap>, stop: CancellationToken) {
    let mut blocks = core.chain.watch();
    let work = async {
        loop {
            let wait = look(&core, &known).await;
            let told = async {
                // Until a block tells of a newer key; without a chain there is nothing to tell.
                while core.newer_key().is_none() {
                    if blocks.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            // Known of and not to be had: not again at once.
            let known_of = core.newer_key().is_some();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = told, if !known_of => {}
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Looks once; says when to look again if no block comes.
async fn look(core: &Core, known: &[Bootstrap]) -> Duration {
    let newest = match core.take_own_key() {
        Ok(done) => done,
        Err(error) => {
            tracing::error!(%error, "the pool's newer key cannot be kept");
            false
        }
    };
    let alone = core.net.peers().is_empty();
    if newest && !alone {
        return ALONE;
    }
    if !newest || !known.is_empty() {
        match core.ask_for_key(known).await {
            Ok(()) => {}
            Err(error) if newest => tracing::debug!(%error, "nobody could be asked for a newer pool key"),
            Err(error) => tracing::info!(%error, "the pool's newer key is not to be had yet"),
        }
    }
    if core.newer_key().is_some() { AGAIN } else { ALONE }
}
