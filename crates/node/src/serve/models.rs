//! Models in memory, for this node's own command line and its gateway.

use zero2ai_proto::{
    calls::Empty,
    local::{ModelPin, ModelUnload, ModelsShow},
    rpc::{ErrorCode, Method, RpcError},
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use crate::core::Core;

pub(super) async fn answer(core: &Core, call: &IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
    match call.method {
        ModelsShow::ID => reply.item::<ModelsShow>(&core.residents()).await,
        ModelPin::ID => {
            core.pin_in_memory(&call.request::<ModelPin>()?).await?;
            reply.item::<ModelPin>(&Empty {}).await
        }
        ModelUnload::ID => {
            core.let_go(&call.request::<ModelUnload>()?).await?;
            reply.item::<ModelUnload>(&Empty {}).await
        }
        other => Err(RpcError::new(ErrorCode::Unsupported, format!("method {other} is not known to this node"))),
    }
}
