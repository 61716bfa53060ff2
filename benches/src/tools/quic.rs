//! Raw quinn: one stream, nothing hashed, with the transport settings, the cryptography and the socket buffers of
//! `crates/rpc/src/quic.rs`. The reference for what QUIC costs here.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use quinn::{TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::spawn_blocking,
};
use zero2ai_rpc::tuning::{IDLE, SOCKET_BUFFER, STREAM_WINDOW, WINDOW};

use super::{Lab, Others, Place, say, until_stopped, wait_for_go};
use crate::files::MIB;

/// Name of the received file.
pub(super) const OUTPUT: &str = "received";
/// Pieces of 1 MiB between disk and network.
const QUEUE: usize = 8;

/// What a process of raw QUIC is to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    Seed { file: PathBuf, listen: SocketAddr },
    Leech { from: SocketAddr, listen: SocketAddr, to: Option<PathBuf> },
}

pub(super) fn seed(lab: &Lab, at: &Place) -> Result<Command> {
    super::Role::Quic(Role::Seed { file: lab.file.clone(), listen: at.socket() }).command(&at.namespace)
}

pub(super) fn leech(at: &Place, others: Others, keep: bool) -> Result<Command> {
    let from = others.first().context("nobody to ask")?.1;
    let to = keep.then(|| at.home.join(OUTPUT));
    super::Role::Quic(Role::Leech { from, listen: at.socket(), to }).command(&at.namespace)
}

pub(super) async fn play(role: Role) -> Result<()> {
    match role {
        Role::Seed { file, listen } => {
            let endpoint = open(listen)?;
            tokio::spawn(async move {
                if let Err(e) = serve(endpoint, file).await {
                    eprintln!("{e:#}");
                }
            });
            wait_for_go().await?;
            until_stopped().await
        }
        Role::Leech { from, listen, to } => {
            let endpoint = open(listen)?;
            wait_for_go().await?;
            let begun = Instant::now();
            receive(&endpoint, from, to).await?;
            say("done", &begun.elapsed().as_secs_f64())?;
            endpoint.close(VarInt::from_u32(0), b"");
            Ok(())
        }
    }
}

fn open(listen: SocketAddr) -> Result<quinn::Endpoint> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["bench".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![b"bench".to_vec()];
    let quic = quinn::crypto::rustls::QuicServerConfig::try_from(tls)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(quic));
    server.transport_config(transport()?);
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"bench".to_vec()];
    let mut client = quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls)?));
    client.transport_config(transport()?);
    let socket = UdpSocket::bind(listen).with_context(|| format!("listen at {listen}"))?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER);
    let runtime = quinn::default_runtime().context("no runtime")?;
    let mut endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(server), socket, runtime)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// As `crates/rpc/src/quic.rs` sets it for a proven member.
fn transport() -> Result<Arc<TransportConfig>> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(VarInt::from_u32(u32::try_from(IDLE.as_millis())?).into()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(None)
        .send_fairness(false);
    Ok(Arc::new(transport))
}

async fn serve(endpoint: quinn::Endpoint, path: PathBuf) -> Result<()> {
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await?;
        while let Ok((mut send, _)) = connection.accept_bi().await {
            let (queue, mut pieces) = channel(QUEUE);
            let path = path.clone();
            let reading = spawn_blocking(move || read(path, &queue));
            while let Some(piece) = pieces.recv().await {
                send.write_chunk(piece).await?;
            }
            send.finish()?;
            reading.await??;
        }
    }
    Ok(())
}

fn read(path: PathBuf, queue: &Sender<bytes::Bytes>) -> Result<()> {
    let mut file = File::open(path)?;
    loop {
        let mut piece = Vec::with_capacity(MIB);
        Read::by_ref(&mut file).take(MIB as u64).read_to_end(&mut piece)?;
        if piece.is_empty() || queue.blocking_send(piece.into()).is_err() {
            return Ok(());
        }
    }
}

async fn receive(endpoint: &quinn::Endpoint, from: SocketAddr, to: Option<PathBuf>) -> Result<()> {
    let connection = endpoint.connect(from, "bench")?.await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(b"?").await?;
    let (queue, pieces) = channel(64 * QUEUE);
    let writing = to.map(|to| spawn_blocking(move || write(to, pieces)));
    let mut bytes = 0;
    while let Some(piece) = recv.read_chunk(MIB, true).await? {
        bytes += piece.bytes.len();
        if writing.is_some() {
            queue.send(piece.bytes).await?;
        }
    }
    drop(queue);
    if let Some(writing) = writing {
        writing.await??;
    }
    anyhow::ensure!(bytes > 0, "nothing came");
    Ok(())
}

fn write(to: PathBuf, mut pieces: Receiver<bytes::Bytes>) -> Result<()> {
    // As large writes as a plain program would make.
    let mut file = std::io::BufWriter::with_capacity(MIB, File::create(to)?);
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
    }
    Ok(file.flush()?)
}

/// Accepts any certificate, but checks signatures, as ours does.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
