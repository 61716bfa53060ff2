//! The certificate of HTTP over TLS and its key: files that were given, or a certificate that this node makes for itself and
//! keeps, so that whoever was told to trust it still does after a restart.

use std::{
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use zero2ai_gateway::{
    GatewayError,
    tls::{SelfSigned, Tls, TlsError, is_name, self_signed},
};
use zero2ai_store::secret_file;
use zeroize::Zeroizing;

use crate::{config::TlsSettings, error::NodeError};

/// A certificate that was made here.
pub const CERT_FILE: &str = "http.cert.pem";
/// Its key.
const KEY_FILE: &str = "http.key.pem";
/// Bytes of a file of certificates, or of a key, at most.
const PEM_BYTES: u64 = 256 * 1024;
/// Before the certificate that was made here, the names it was made for: with others it is made again.
const NAMES: &str = "# names: ";

/// A file's bytes; of a key they are a secret.
type Pem = Zeroizing<Vec<u8>>;

/// The certificate and key that the settings name; a gateway at `listen` is to be reached by it.
pub(super) fn open(home: &Path, settings: &TlsSettings, listen: IpAddr) -> Result<Tls, NodeError> {
    match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            let certificate = read(certificate).map_err(TlsError::Certificate).map_err(GatewayError::from)?;
            let key = read(key).map_err(TlsError::Key).map_err(GatewayError::from)?;
            Ok(Tls::new(&certificate, &key).map_err(GatewayError::from)?)
        }
        (None, None) => own(home, &names(settings, listen)),
        _ => {
            let path = home.join("config.toml");
            let why = "http_tls needs both 'certificate' and 'key', or neither: then the node makes its own".to_owned();
            Err(NodeError::Config { path, why })
        }
    }
}

fn read(path: &Path) -> Result<Pem, String> {
    let fail = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    let mut bytes = Zeroizing::new(Vec::new());
    let file = fs::File::open(path).map_err(fail)?;
    file.take(PEM_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > PEM_BYTES {
        return Err(format!("{} is longer than {PEM_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

/// What callers may call this machine: what was said, its own name, and where it listens.
fn names(settings: &TlsSettings, listen: IpAddr) -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let here = ["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    let listens = (!listen.is_unspecified()).then(|| listen.to_string());
    // A host name can be anything; only those that a certificate can bear are taken.
    let host = Some(host).filter(|name| is_name(name));
    let mut all: Vec<String> = here.into_iter().chain(listens).chain(host).chain(settings.names.clone()).collect();
    all.sort();
    all.dedup();
    all
}

/// The certificate that was made here for these names, or a fresh one.
fn own(home: &Path, names: &[String]) -> Result<Tls, NodeError> {
    let (certificate_file, key_file) = (home.join(CERT_FILE), home.join(KEY_FILE));
    let head = format!("{NAMES}{}\n", names.join(" "));
    let kept = read(&certificate_file).ok().filter(|kept| kept.starts_with(head.as_bytes()));
    if let (Some(certificate), Ok(key)) =
        (kept, secret_file::read(&key_file, usize::try_from(PEM_BYTES).unwrap_or(usize::MAX)))
        && let Ok(tls) = Tls::new(&certificate, &key)
    {
        return Ok(tls);
    }
    let SelfSigned { certificate, key } = self_signed(names).map_err(GatewayError::from)?;
    let certificate = format!("{head}{certificate}");
    secret_file::write(&key_file, key.as_bytes())?;
    secret_file::atomic_write(&certificate_file, certificate.as_bytes())?;
    Ok(Tls::new(certificate.as_bytes(), key.as_bytes()).map_err(GatewayError::from)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_until_it_needs_other_names() {
        let home = tempfile::tempdir().unwrap();
        let listen: IpAddr = "192.0.2.7".parse().unwrap();
        let fingerprint =
            |settings: &TlsSettings| open(home.path(), settings, listen).unwrap().fingerprint().to_owned();
        let plain = TlsSettings::default();
        let first = fingerprint(&plain);
        assert_eq!(fingerprint(&plain), first);
        let named = TlsSettings { names: vec!["gpu7.example".to_owned()], ..TlsSettings::default() };
        let second = fingerprint(&named);
        assert_ne!(second, first);
        assert_eq!(fingerprint(&named), second);

        // The same files, given.
        let [certificate, key] = [CERT_FILE, KEY_FILE].map(|name| Some(home.path().join(name)));
        let given = TlsSettings { certificate, key, names: Vec::new() };
        assert_eq!(fingerprint(&given), second);
        let half = TlsSettings { key: None, ..given };
        assert!(matches!(open(home.path(), &half, listen), Err(NodeError::Config { .. })));
        let missing = TlsSettings { key: Some(home.path().join("none")), ..half };
        assert!(matches!(open(home.path(), &missing, listen), Err(NodeError::Http(GatewayError::Tls(_)))));
        let wrong = TlsSettings { names: vec!["not a näme".to_owned()], ..TlsSettings::default() };
        assert!(matches!(
            open(home.path(), &wrong, listen),
            Err(NodeError::Http(GatewayError::Tls(TlsError::Make(_))))
        ));
    }
}
