//! The same call over gRPC: tonic with TLS 1.3, HTTP/2 windows opened as far as ours. Messages are the same bytes as ours, so that
//! no second encoding is measured.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context as Task, Poll},
};

use anyhow::Result;
use bytes::{Buf, BufMut, Bytes};
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, ServerStreamingService, UnaryService},
    transport::{Certificate, Channel, ClientTlsConfig, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use zero2ai_proto::{calls::PredictCall, decode, encode, limits::FRAME_BYTES};
use zero2ai_rpc::tuning::{STREAM_WINDOW, WINDOW};

use super::work::{At, PIECES, Provider, next_token};
use crate::files::MIB;

/// Paths of the three calls.
pub(crate) const PREDICT: &str = "/bench/Predict";
pub(crate) const BYTES: &str = "/bench/Bytes";
pub(crate) const TOKENS: &str = "/bench/Tokens";

/// Bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let n = from.remaining();
        Ok(Some(from.copy_to_bytes(n)))
    }
}

#[derive(Clone)]
struct Service(Arc<Provider>);

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let provider = Arc::clone(&self.0);
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw);
            Ok(match request.uri().path() {
                PREDICT => grpc.unary(Unary(provider), request).await,
                BYTES => grpc.server_streaming(Stream::Bytes, request).await,
                TOKENS => grpc.server_streaming(Stream::Tokens, request).await,
                _ => Status::unimplemented("no such call").into_http(),
            })
        })
    }
}

struct Unary(Arc<Provider>);

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = || -> Result<Bytes> {
            let call: PredictCall = decode(request.get_ref(), FRAME_BYTES)?;
            Ok(encode(&self.0.predict(&call)?)?.into())
        };
        std::future::ready(answer().map(Response::new).map_err(|e| Status::invalid_argument(e.to_string())))
    }
}

enum Stream {
    Bytes,
    Tokens,
}

impl ServerStreamingService<Bytes> for Stream {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let stream = match self {
            // Each message is memory of its own, as ours is.
            Self::Bytes => futures::stream::iter((0..PIECES).map(|_| Ok(Bytes::from(vec![7; MIB])))).boxed(),
            Self::Tokens => {
                let encoded = |token| encode(&token).map(Bytes::from).map_err(|e| Status::internal(e.to_string()));
                futures::stream::unfold(0, next_token).map(encoded).boxed()
            }
        };
        std::future::ready(Ok(Response::new(stream)))
    }
}

/// Serves on a free port; gives it and the certificate.
pub(crate) async fn serve(provider: Arc<Provider>) -> Result<(SocketAddr, String)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = made.cert.pem();
    let identity = Identity::from_pem(&certificate, made.signing_key.serialize_pem());
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_with_incoming(Service(provider), TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::spawn(async move {
        if let Err(e) = server.await {
            eprintln!("{e}");
        }
    });
    Ok((address, certificate))
}

/// An open connection.
#[derive(Clone)]
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(at: &At) -> Result<Self> {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&at.certificate)).domain_name("localhost");
        let endpoint = Channel::from_shared(format!("https://{}", at.grpc))?
            .tls_config(tls)?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW);
        Ok(Self(tonic::client::Grpc::new(endpoint.connect().await?)))
    }

    /// One call with one answer.
    pub(crate) async fn call(&mut self, body: Bytes) -> Result<Bytes> {
        self.0.ready().await?;
        Ok(self.0.unary(Request::new(body), PathAndQuery::from_static(PREDICT), Raw).await?.into_inner())
    }

    /// One call with a stream of answers.
    pub(crate) async fn stream(&mut self, path: &'static str) -> Result<tonic::Streaming<Bytes>> {
        self.0.ready().await?;
        let request = Request::new(Bytes::new());
        Ok(self.0.server_streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner())
    }
}
