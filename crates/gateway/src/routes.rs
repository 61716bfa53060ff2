//! Which path is answered by whom, and what every request passes first: the guard, then its handler, then the shape of its
//! protocol for what went wrong, and the counters.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{
    fault::{Face, Fault},
    guard, oip, openai,
    state::Shared,
    tokens::Scope,
};

/// Counted for a caller that left before its answer, as other servers do.
const LEFT: u16 = 499;

/// Kinds of request, for metrics and for the shape of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    Chat,
    Completions,
    Embeddings,
    Models,
    Server,
    Model,
    Infer,
    Metrics,
    Other,
}

impl Route {
    fn of(path: &str) -> Self {
        match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/embeddings" => Self::Embeddings,
            "/metrics" => Self::Metrics,
            _ if path.starts_with("/v1/models") => Self::Models,
            _ if path.starts_with("/v2/models/") && path.ends_with("/infer") => Self::Infer,
            _ if path.starts_with("/v2/models/") => Self::Model,
            _ if path == "/v2" || path.starts_with("/v2/") => Self::Server,
            _ => Self::Other,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Models => "models",
            Self::Server => "server",
            Self::Model => "model",
            Self::Infer => "infer",
            Self::Metrics => "metrics",
            Self::Other => "other",
        }
    }

    /// What a token must be for.
    fn scope(self) -> Scope {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings | Self::Infer => Scope::Infer,
            Self::Models | Self::Server | Self::Model | Self::Other => Scope::Models,
            Self::Metrics => Scope::Metrics,
        }
    }

    fn face(self) -> Face {
        match self {
            Self::Server | Self::Model | Self::Infer => Face::Oip,
            Self::Chat | Self::Completions | Self::Embeddings | Self::Models | Self::Metrics | Self::Other => {
                Face::OpenAi
            }
        }
    }
}

/// Everything the gateway answers.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*name}", get(openai::models::one))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(openai::embeddings::embeddings))
        .route("/v2", get(oip::server))
        .route("/v2/", get(oip::server))
        .route("/v2/health/live", get(oip::live))
        .route("/v2/health/ready", get(oip::ready))
        .route("/v2/models/{*rest}", get(oip::model).post(oip::infer))
        .route("/metrics", get(metrics))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&shared), around))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let mut text = shared.metrics.render();
    match shared.models().await {
        Ok(models) => text += &crate::metrics::models(&models),
        // The gateway's own counters are worth having without the node's.
        Err(error) => tracing::debug!(%error, "the node did not say what is in its memory"),
    }
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn nothing_here(request: Request) -> Fault {
    let path: String = request.uri().path().chars().take(200).collect();
    Fault::new(
        StatusCode::NOT_FOUND,
        format!("nothing is at {path}: OpenAI's routes begin with /v1, the Open Inference Protocol's with /v2"),
    )
}

async fn wrong_method(request: Request) -> Fault {
    let message = format!("{} does not take {} here", request.uri().path(), request.method());
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Counts a request even if its caller leaves and the work is dropped.
struct Watch {
    shared: Arc<Shared>,
    route: Route,
    start: Instant,
    code: u16,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.metrics.answered(self.route, self.code, self.start.elapsed());
    }
}

/// True of refusals that may come before the request's body was read.
const fn is_early(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 405 | 413 | 415)
}

async fn around(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let route = Route::of(request.uri().path());
    let has_body = !request.body().is_end_stream();
    let mut watch = Watch { shared, route, start: Instant::now(), code: LEFT };
    let mut response = match guard::check(&watch.shared.access, route.scope(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    };
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        response = fault.render(route.face());
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // hyper closes a connection whose request's body has not come in by then. A caller who is not told sends his next request into it.
    if has_body && is_early(response.status()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    watch.code = response.status().as_u16();
    response
}
