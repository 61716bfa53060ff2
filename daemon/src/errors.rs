//! Errors of the crates below, as an exit code and a paragraph. The client's are told apart in the client, for every program
//! that uses it; the node's here.

use zero2ai_chain::ChainError;
use zero2ai_client::{CallError, ClientError, ErrorKind};
use zero2ai_node::{GatewayError, NodeError};

use crate::exit::{Exit, Failure};

/// An error's words as a sentence: its cause stands in them already.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let mut text = error.to_string().trim().to_owned();
    // A name or an address stays as it is spelled.
    let word = text.split(' ').next().unwrap_or_default().len();
    if text.bytes().take(word).all(|b| b.is_ascii_lowercase()) {
        text.get_mut(..1).unwrap_or_default().make_ascii_uppercase();
    }
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

fn node(error: &NodeError) -> Exit {
    match error {
        NodeError::Config { .. } | NodeError::Home { .. } | NodeError::OtherPool { .. } => Exit::Config,
        NodeError::HomeInUse { .. } | NodeError::Port { .. } => Exit::InUse,
        NodeError::Invite(_) => Exit::Invite,
        // What the ledger or the gate refuses, it refuses for the invite's sake.
        NodeError::Join { source, .. } => match Exit::from(ErrorKind::from(source.as_ref())) {
            Exit::Invalid | Exit::Denied => Exit::Invite,
            other => other,
        },
        NodeError::Storage(_) => Exit::Storage,
        NodeError::Http(error) if error.is_in_use() => Exit::InUse,
        NodeError::Http(
            GatewayError::NotLoopback(_) | GatewayError::Listen { .. } | GatewayError::Tls(_) | GatewayError::Usage(_),
        ) => Exit::Config,
        NodeError::Http(_) => Exit::Internal,
        NodeError::Chain(ChainError::Rules { .. }) => Exit::Outdated,
        NodeError::Net(_) | NodeError::Rpc(_) | NodeError::Chain(_) | NodeError::Internal(_) => Exit::Internal,
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(ErrorKind::from(&error).into(), sentence(&error))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.kind().into(), sentence(&error))
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::new(node(&error), sentence(&error))
    }
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::rpc::{ErrorCode, RpcError};

    use super::*;

    #[test]
    fn sentences_begin_large_and_end() {
        for (said, read) in [("no node answers", "No node answers."), ("lab/m is gone?", "lab/m is gone?"), ("", ".")] {
            assert_eq!(sentence(&said), read);
        }
    }

    #[test]
    fn what_a_node_says_keeps_its_code_through_every_layer() {
        let last = ClientError::from(CallError::Remote(RpcError::new(ErrorCode::Clock, "the clocks differ by 3600 s")));
        let Ok(name) = "lab/m".parse() else { return };
        let failure = Failure::from(ClientError::Exhausted { name, tried: 2, last: Box::new(last) });
        assert_eq!(failure.exit, Exit::Clock);
        assert!(failure.message.contains("3600 s") && failure.message.ends_with('.'));
    }
}
