//! The node's own store, for its own command line: lists, figures, verifying, collecting, pins.

use zero2ai_proto::{
    calls::Empty,
    local::{
        GcItem, RebuildItem, StoreDrop, StoreGc, StoreList, StorePin, StoreRebuild, StoreStats, StoreVerify, VerifyItem,
    },
    rpc::{ErrorCode, Method, RpcError},
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use super::local::with_progress;
use crate::{core::Core, jobs::Tell};

pub(super) async fn answer(core: &Core, call: &IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
    match call.method {
        StoreList::ID => {
            for held in core.held() {
                reply.item::<StoreList>(&core.stored_version(held).await?).await?;
            }
            Ok(())
        }
        StoreStats::ID => reply.item::<StoreStats>(&core.store_stats().await?).await,
        StoreVerify::ID => {
            let work = |tell: Tell| async move { core.verify_store(&tell).await };
            let report = with_progress::<StoreVerify, _, _>(&mut reply, VerifyItem::Step, work).await?;
            reply.item::<StoreVerify>(&VerifyItem::Done(report)).await
        }
        StoreGc::ID => {
            let dry_run = call.request::<StoreGc>()?.dry_run;
            let work = |tell: Tell| async move { core.collect(dry_run, &tell).await };
            let report = with_progress::<StoreGc, _, _>(&mut reply, GcItem::Step, work).await?;
            reply.item::<StoreGc>(&GcItem::Done(report)).await
        }
        StoreRebuild::ID => {
            let work = |tell: Tell| async move { core.rebuild_index(&tell).await };
            let report = with_progress::<StoreRebuild, _, _>(&mut reply, RebuildItem::Step, work).await?;
            reply.item::<StoreRebuild>(&RebuildItem::Done(report)).await
        }
        StorePin::ID => {
            core.pin(&call.request::<StorePin>()?)?;
            reply.item::<StorePin>(&Empty {}).await
        }
        StoreDrop::ID => {
            core.drop_version(&call.request::<StoreDrop>()?).await?;
            reply.item::<StoreDrop>(&Empty {}).await
        }
        other => Err(RpcError::new(ErrorCode::Unsupported, format!("method {other} is not known to this node"))),
    }
}
