//! Reading a request's body: its kind, its size and the time it takes are bounded before anything is parsed.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use crate::fault::Fault;

/// Bytes of one body, as of one frame of peer RPC: what is larger could not be sent on. Beyond it: 413.
pub(crate) const BODY_BYTES: usize = zero2ai_proto::limits::FRAME_BYTES;
/// Bytes of a body too large that are still read, and dropped, so that its caller reads the refusal. Beyond it the
/// connection is cut.
const DRAINED_BYTES: u64 = 64 << 20;
/// How long a body may take to come, whole. Loopback needs milliseconds; a caller that trickles holds a place meanwhile.
const BODY_TIME: Duration = Duration::from_secs(20);

/// Kinds of body. A page's script can send the kinds a form has without asking; those are never taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// `application/json`.
    Json,
    /// Also `application/octet-stream`, or nothing said, as Triton's client does.
    Tensors,
}

/// Checks the headers, then reads the body.
pub(crate) async fn read(headers: &HeaderMap, body: Body, accept: Accept) -> Result<Bytes, Fault> {
    let kind = check_kind(headers, accept);
    let read = take(body).await?;
    kind.map(|()| read)
}

/// Lets a body that is not wanted come and go. An answer given while the caller still sends is lost to many of them: the
/// connection is reset before they read.
pub(crate) async fn discard(body: Body) {
    let _ = take(body).await;
}

async fn take(body: Body) -> Result<Bytes, Fault> {
    let too_large = || {
        let message = format!("the body is larger than {BODY_BYTES} bytes: send less at once");
        Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, message))
    };
    if body.size_hint().lower() > DRAINED_BYTES {
        return too_large();
    }
    let (mut kept, mut seen) = (BytesMut::new(), 0u64);
    let reading = async {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            // Who breaks off does not read the answer.
            let piece = piece.map_err(|_| Fault::invalid("the body broke off"))?;
            seen = seen.saturating_add(piece.len() as u64);
            match seen {
                _ if seen <= BODY_BYTES as u64 => kept.extend_from_slice(&piece),
                _ if seen <= DRAINED_BYTES => kept = BytesMut::new(),
                _ => break,
            }
        }
        Ok(())
    };
    let done = tokio::time::timeout(BODY_TIME, reading).await;
    if seen > BODY_BYTES as u64 {
        return too_large();
    }
    match done {
        Err(_) => Err(Fault::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIME:?}"))),
        Ok(read) => read.map(|()| kept.freeze()),
    }
}

fn check_kind(headers: &HeaderMap, accept: Accept) -> Result<(), Fault> {
    let unsupported = |message: String| Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    if headers.get(CONTENT_ENCODING).is_some_and(|e| e != "identity") {
        return unsupported("compressed bodies are not taken: send it without Content-Encoding".into());
    }
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = headers.get(CONTENT_TYPE).map(|value| value.to_str().map(essence).unwrap_or_default());
    match kind.as_deref() {
        Some("application/json") => Ok(()),
        None | Some("application/octet-stream") if accept == Accept::Tensors => Ok(()),
        _ => unsupported("the body must be JSON: send it with 'Content-Type: application/json'".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_a_form_can_send_are_refused() {
        let taken = |kind: Option<&'static str>, accept| {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            }
            check_kind(&headers, accept).is_ok()
        };
        for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", ""] {
            assert!(!taken(Some(form), Accept::Json) && !taken(Some(form), Accept::Tensors), "{form}");
        }
        assert!(taken(Some("application/JSON; charset=utf-8"), Accept::Json));
        assert!(!taken(None, Accept::Json) && taken(None, Accept::Tensors));
        assert!(!taken(Some("application/octet-stream"), Accept::Json));
        assert!(taken(Some("application/octet-stream"), Accept::Tensors));
    }
}
