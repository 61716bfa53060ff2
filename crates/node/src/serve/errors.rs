//! How the parts' errors become answers: a code for programs, a paragraph for people.

use zero2ai_chain::SubmitError;
use zero2ai_engine::EngineError;
use zero2ai_proto::{
    rpc::{ErrorCode, RpcError},
    worker::Fault,
};
use zero2ai_store::StoreError;

/// Anything that should not happen: our fault, not the caller's.
pub(crate) fn internal(error: impl std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::Internal, error.to_string())
}

pub(crate) fn invalid(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::Invalid, why.to_string())
}

pub(crate) fn not_found(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::NotFound, why.to_string())
}

pub(crate) fn denied(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::Denied, why.to_string())
}

pub(crate) fn unavailable(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::Unavailable, why.to_string())
}

pub(crate) fn store_error(error: StoreError) -> RpcError {
    RpcError::new(ErrorCode::Storage, error.to_string())
}

/// Why a transaction was not taken, or is not final.
pub(crate) fn submit_error(error: SubmitError) -> RpcError {
    let code = match &error {
        SubmitError::Refused(_) => ErrorCode::Invalid,
        SubmitError::Busy | SubmitError::Full(_) => ErrorCode::Busy,
        SubmitError::NonceTaken(_) | SubmitError::Stopped | SubmitError::NotYet { .. } => ErrorCode::Unavailable,
    };
    RpcError::new(code, error.to_string())
}

pub(crate) fn engine_error(error: EngineError) -> RpcError {
    let code = match error.fault() {
        Fault::Input => ErrorCode::Invalid,
        Fault::Model | Fault::Worker => ErrorCode::Model,
        Fault::Busy => ErrorCode::Busy,
        Fault::Late => ErrorCode::Timeout,
    };
    RpcError::new(code, error.to_string())
}
