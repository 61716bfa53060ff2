//! TLS for callers beyond this machine: a certificate and key that were given, or a certificate made here that its callers
//! are told to trust by its file or its fingerprint. Knows nothing of files.

use std::{fmt, io, sync::Arc};

use rcgen::{CertificateParams, DnType, KeyPair};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
    server::TlsStream,
};

/// Certificates in one chain at most.
const CHAIN: usize = 16;

/// Certificate and key do not do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate, or it cannot be read.
    #[error("the certificate is no PEM with 1 to {CHAIN} certificates: {0}")]
    Certificate(String),
    /// There is no key, or it cannot be read.
    #[error("the key is no PEM with a private key: {0}")]
    Key(String),
    /// They do not belong together, or are of a kind that is not taken.
    #[error("the certificate and the key do not do together: {0}")]
    Pair(String),
    /// A certificate cannot be made, for instance for a name that is none.
    #[error("no certificate can be made: {0}")]
    Make(String),
}

/// What a listener needs to speak TLS 1.3. Clones share it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.fingerprint)
    }
}

/// A certificate that was made here, and its key.
pub struct SelfSigned {
    /// PEM.
    pub certificate: String,
    /// PEM: a secret.
    pub key: zeroize::Zeroizing<String>,
}

impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelfSigned(..)")
    }
}

impl Tls {
    /// Of a chain of certificates, the own one first, and its key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).take(CHAIN + 1).collect();
        let chain = chain.map_err(|e| TlsError::Certificate(e.to_string()))?;
        let own = chain.first().filter(|_| chain.len() <= CHAIN);
        let own = own.ok_or_else(|| TlsError::Certificate(format!("it has {}", chain.len())))?;
        let fingerprint = Sha256::digest(own).iter().map(|byte| format!("{byte:02x}")).collect();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Key(e.to_string()))?;
        let pair = |e: tokio_rustls::rustls::Error| TlsError::Pair(e.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&tokio_rustls::rustls::version::TLS13])
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
    }

    /// SHA-256 of the certificate: 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

/// Makes a key and a certificate that it signs itself, for these names and IP addresses.
///
/// # Errors
/// [`TlsError::Make`].
pub fn self_signed(names: &[String]) -> Result<SelfSigned, TlsError> {
    let fail = |e: rcgen::Error| TlsError::Make(e.to_string());
    // ECDSA on P-256: every client takes it, browsers too.
    let key = KeyPair::generate().map_err(fail)?;
    let mut params = CertificateParams::new(names).map_err(fail)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "zero2ai");
    let certificate = params.self_signed(&key).map_err(fail)?;
    Ok(SelfSigned { certificate: certificate.pem(), key: key.serialize_pem().into() })
}

/// True if a certificate can bear this name or IP address.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && CertificateParams::new([name.to_owned()]).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_here_does_and_what_is_mixed_does_not() {
        let names = ["localhost".to_owned(), "192.0.2.7".to_owned()];
        let [a, b] = [(); 2].map(|()| self_signed(&names).unwrap());
        let tls = Tls::new(a.certificate.as_bytes(), a.key.as_bytes()).unwrap();
        assert_eq!(tls.fingerprint().len(), 64);
        let other = Tls::new(b.certificate.as_bytes(), b.key.as_bytes()).unwrap();
        assert_ne!(other.fingerprint(), tls.fingerprint());
        let kind = |certificate: &str, key: &str| Tls::new(certificate.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(kind(&a.certificate, &b.key), TlsError::Pair(_)));
        assert!(matches!(kind(&a.key, &a.key), TlsError::Certificate(_)));
        assert!(matches!(kind("", &a.key), TlsError::Certificate(_)));
        assert!(matches!(kind(&a.certificate, &a.certificate), TlsError::Key(_)));
        assert!(matches!(kind(&a.certificate.repeat(CHAIN + 1), &a.key), TlsError::Certificate(_)));
        assert!(matches!(self_signed(&["nämlich".to_owned()]), Err(TlsError::Make(_))));
        assert!(is_name("localhost") && is_name("192.0.2.7") && !is_name("nämlich") && !is_name(""));
        assert!(!format!("{a:?}").contains("PRIVATE"));
    }
}
