//! What goes wrong with a request: a status, a word for programs, a paragraph for people; and how each protocol says it.

use axum::{
    Extension,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;
use zero2ai_client::{CallError, ClientError};
use zero2ai_proto::rpc::ErrorCode;

/// Seconds after which a caller who met a full gateway may try again: most predictions take less.
const RETRY_S: u16 = 1;

/// Whose shape an error takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"error": "..."}`, as the Open Inference Protocol has it.
    Oip,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    /// OpenAI's `code`, where it has one.
    pub(crate) code: Option<&'static str>,
    /// The field of the request that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: None, param: None, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self { code: Some("invalid_api_key"), ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    pub(crate) fn no_model(message: impl Into<String>) -> Self {
        Self { code: Some("model_not_found"), ..Self::new(StatusCode::NOT_FOUND, message) }
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self { code: Some("rate_limit_exceeded"), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// The token's budget does not allow a call that needs at least `needs`. Trying again does not help.
    pub(crate) fn spent(id: &str, budget: u64, used: u64, needs: u64) -> Self {
        let message = format!(
            "this token has used {used} of {budget} units (a unit is a token of text, read or written, or a row of a \
             prediction), and this call needs at least {needs}: ask who runs this node for more, which is \
             'zero2ai token budget {id} UNITS'"
        );
        Self { code: Some("insufficient_quota"), ..Self::new(StatusCode::PAYMENT_REQUIRED, message) }
    }

    /// What tokens use cannot be written down, so that no budget can be kept.
    pub(crate) fn usage_lost() -> Self {
        let message = "the node cannot write down what this token uses, so that it takes no calls of tokens with a budget: \
                       is its disk full? Its log says more";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, message)
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the gateway failed: {error}; please report this"))
    }

    /// The same, of this field of the request.
    pub(crate) fn of(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// OpenAI's error object.
    pub(crate) fn openai(&self) -> serde_json::Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::PAYMENT_REQUIRED => "insufficient_quota",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }

    /// The whole answer in a protocol's shape.
    pub(crate) fn render(&self, face: Face) -> Response {
        let body = match face {
            Face::OpenAi => self.openai(),
            Face::Oip => json!({ "error": self.message }),
        };
        let status = match (face, self.status) {
            // So it is told there, and so its clients know it.
            (Face::OpenAi, StatusCode::PAYMENT_REQUIRED) => StatusCode::TOO_MANY_REQUESTS,
            (_, status) => status,
        };
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            // OpenAI's clients try a 429 again unless they are told not to.
            StatusCode::PAYMENT_REQUIRED => drop(headers.insert("x-should-retry", HeaderValue::from_static("false"))),
            StatusCode::TOO_MANY_REQUESTS => drop(headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_S))),
            _ => {}
        }
        response
    }
}

/// Carries the fault to the outermost layer, which knows the protocol and writes the body.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Extension(self)).into_response()
    }
}

/// What a node's refusal is over HTTP.
fn remote(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Invalid => StatusCode::BAD_REQUEST,
        ErrorCode::Denied => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Unavailable | ErrorCode::Clock => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Storage => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::Internal | ErrorCode::Model => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn status(error: &ClientError) -> StatusCode {
    match error {
        error if error.is_missing() => StatusCode::NOT_FOUND,
        ClientError::Call(CallError::Remote(e)) => remote(e.code),
        ClientError::Call(CallError::Timeout { .. }) | ClientError::TimeOver { .. } | ClientError::Overdue { .. } => {
            StatusCode::GATEWAY_TIMEOUT
        }
        ClientError::Call(CallError::Codec { what: "the request", .. }) | ClientError::Codec(_) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        ClientError::Exhausted { last, .. } => match status(last) {
            // One endpoint's word on itself, not on the model: it is there, and nobody gives it at the moment.
            StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR => StatusCode::SERVICE_UNAVAILABLE,
            other => other,
        },
        ClientError::Withdrawn { .. } => StatusCode::GONE,
        ClientError::Tensor(_) | ClientError::Tensors(_) | ClientError::Texts(_) | ClientError::NoEmbedder { .. } => {
            StatusCode::BAD_REQUEST
        }
        ClientError::NotAdmitted(_) => StatusCode::FORBIDDEN,
        ClientError::NoEndpoint { .. } | ClientError::NoNode { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ClientError::Call(_) | ClientError::Proof(_) | ClientError::Untrue { .. } => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match status(&error) {
            StatusCode::NOT_FOUND => Self::no_model(message),
            StatusCode::TOO_MANY_REQUESTS => Self::busy(message),
            status => Self::new(status, message),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::rpc::RpcError;

    use super::*;

    fn said(code: ErrorCode) -> ClientError {
        ClientError::Call(CallError::Remote(RpcError::new(code, "why")))
    }

    #[test]
    fn a_nodes_word_keeps_its_meaning() {
        assert_eq!(status(&said(ErrorCode::Invalid)), StatusCode::BAD_REQUEST);
        assert_eq!(status(&said(ErrorCode::NotFound)), StatusCode::NOT_FOUND);
        let last = |code| ClientError::Exhausted { name: "a/b".parse().unwrap(), tried: 2, last: Box::new(said(code)) };
        assert_eq!(status(&last(ErrorCode::Busy)), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(status(&last(ErrorCode::NotFound)), StatusCode::SERVICE_UNAVAILABLE);
        let missing = ClientError::NoEndpoint { name: "a/b".parse().unwrap(), version: 1 };
        assert_eq!(status(&missing), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn errors_have_openais_fields() {
        let error = Fault::invalid("no").of("n").openai();
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert_eq!(error["error"]["param"], "n");
        assert!(error["error"]["code"].is_null());
    }
}
