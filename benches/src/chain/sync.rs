//! A node that comes late and fetches blocks from one that has them: each is checked whole and made durable before the next.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zero2ai_chain::{BlockSource, Chain, ChainConfig, ChainNet, ChainTopic};
use zero2ai_proto::{NodeId, calls::SealedBlock, consensus::HeadGossip, encode};

use super::{
    Figures, LONG,
    made::{Made, key, member},
};

/// Nobody else is there.
struct Nobody;

impl ChainNet for Nobody {
    fn broadcast(&self, _: ChainTopic, _: Vec<u8>) {}
}

/// A peer that answers at once.
struct Past(Vec<SealedBlock>);

impl BlockSource for Past {
    fn blocks(&self, _: Option<NodeId>, from: u64, max: u32) -> BoxFuture<'_, Result<Vec<SealedBlock>, String>> {
        let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let some = self.0.iter().skip(skip).take(max as usize).cloned().collect();
        Box::pin(async move { Ok(some) })
    }
}

/// Blocks of one small transaction each, certified by so many signers.
pub(crate) async fn sync(signers: u32, blocks: u64, work: &Path) -> Result<Figures> {
    let (mut made, mut past) = (Made::new(signers)?, Vec::new());
    for _ in 0..blocks {
        let tx = made.idle()?;
        past.push(made.commit(&[tx])?);
    }
    let genesis = made.ledger.genesis_bytes().to_vec();
    let config = ChainConfig::new(work.join(format!("sync-{signers}")), member(0), genesis);
    let (opened, stop) = (Chain::open(config).await?, CancellationToken::new());
    let running = opened.run(Arc::new(Nobody), Arc::new(Past(past)), stop.clone());
    let head = encode(&HeadGossip { repeat: 0, height: blocks, block: made.ledger.head_id() })?;
    let mut status = running.handle.watch();
    let since = Instant::now();
    running.handle.deliver(ChainTopic::Head, key(1).public(), head);
    timeout(LONG, status.wait_for(|s| s.height >= blocks)).await.context("the blocks do not come")??;
    let took = since.elapsed().as_secs_f64();
    stop.cancel();
    running.task.await??;
    #[allow(clippy::cast_precision_loss)] // counts of a bench
    Ok(vec![("blocks/s", blocks as f64 / took)])
}
