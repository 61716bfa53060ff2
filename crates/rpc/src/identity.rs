//! TLS identity: a self-signed Ed25519 certificate made from the node's key, and who stands behind such a certificate.
//!
//! Nothing else in a certificate is looked at: no name, no date, no issuer. That the peer holds the key is shown by the
//! TLS 1.3 handshake signature, which rustls' own `verify_tls13_signature` checks.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::{oid_registry::OID_SIG_ED25519, prelude::FromDer, prelude::X509Certificate};
use zero2ai_proto::{NodeId, PublicKey, SecretKey, Signature};

/// PKCS#8 version 1 of an Ed25519 key (RFC 8410 section 7), up to the 32 bytes of the seed.
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What stands between a certificate's signed part and its Ed25519 signature: the algorithm, and the head of a bit string.
const SIGNATURE_PREFIX: [u8; 10] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x41, 0];
/// Bytes of a certificate that is looked at; ours have about 300.
const CERTIFICATE_BYTES: usize = 2_048;

/// This node's certificate and its key.
pub(crate) struct TlsIdentity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl TlsIdentity {
    /// The identity of `key`; the same certificate every time.
    pub(crate) fn new(key: &SecretKey) -> Result<Self, rcgen::Error> {
        let pkcs8 = PrivatePkcs8KeyDer::from([PKCS8_PREFIX.as_slice(), key.to_bytes().as_slice()].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)?;
        let certificate = rcgen::CertificateParams::new(Vec::<String>::new())?.self_signed(&pair)?;
        Ok(Self { certificate: certificate.der().clone(), key: pkcs8 })
    }

    /// The certificate chain and key as rustls takes them.
    pub(crate) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone_key()))
    }
}

/// Why a certificate is nobody's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateRefused {
    #[error("the certificate is malformed or too long")]
    Malformed,
    #[error("the certificate does not carry an Ed25519 key")]
    NotEd25519,
    #[error("the certificate is not signed by its own key")]
    NotSelfSigned,
    #[error("the certificate is another node's: {0}")]
    OtherNode(NodeId),
}

impl From<CertificateRefused> for Error {
    fn from(e: CertificateRefused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(e))))
    }
}

/// The identity in a self-signed Ed25519 certificate.
pub(crate) fn node_of(certificate: &CertificateDer<'_>) -> Result<NodeId, CertificateRefused> {
    if certificate.len() > CERTIFICATE_BYTES {
        return Err(CertificateRefused::Malformed);
    }
    let (rest, x509) = X509Certificate::from_der(certificate).map_err(|_| CertificateRefused::Malformed)?;
    if !rest.is_empty() {
        return Err(CertificateRefused::Malformed);
    }
    let spki = x509.public_key();
    let key: [u8; 32] = (spki.algorithm.algorithm == OID_SIG_ED25519)
        .then(|| spki.subject_public_key.data.as_ref().try_into().ok())
        .flatten()
        .ok_or(CertificateRefused::NotEd25519)?;
    let signature: [u8; 64] =
        x509.signature_value.data.as_ref().try_into().map_err(|_| CertificateRefused::NotSelfSigned)?;
    // What follows the signed part is not signed itself: there is one spelling of it.
    let signed = x509.tbs_certificate.as_ref();
    if !certificate.ends_with(&[signed, &SIGNATURE_PREFIX, &signature].concat()) {
        return Err(CertificateRefused::NotSelfSigned);
    }
    let node = PublicKey(key);
    if !node.verify(signed, &Signature(signature)) {
        return Err(CertificateRefused::NotSelfSigned);
    }
    Ok(node)
}

/// Accepts any node, or only an expected one, and remembers whom it saw.
#[derive(Debug)]
pub(crate) struct NodeVerifier {
    provider: Arc<CryptoProvider>,
    expect: Option<NodeId>,
    seen: OnceLock<NodeId>,
}

impl NodeVerifier {
    pub(crate) fn new(provider: Arc<CryptoProvider>, expect: Option<NodeId>) -> Self {
        Self { provider, expect, seen: OnceLock::new() }
    }

    /// Who answered, once a certificate came. Of use at the dialling end, where one verifier serves one connection.
    pub(crate) fn seen(&self) -> Option<NodeId> {
        self.seen.get().copied()
    }

    fn check(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(CertificateRefused::Malformed.into());
        }
        let node = node_of(certificate)?;
        let _ = self.seen.set(node);
        match self.expect {
            Some(expected) if expected != node => Err(CertificateRefused::OtherNode(node).into()),
            _ => Ok(()),
        }
    }

    fn check_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
}

const TLS12: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered);

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
