//! The HTTP gateway as a part of this node: its token, and the client it stands on, which calls the node by peer RPC under
//! the node's own identity as any program of its user would.
//!
//! | module | owns |
//! |---|---|
//! | [`tokens`] | tokens beside the first one: made, changed, revoked; what each has used |
//! | [`tls`] | the certificate and its key: given, or made and kept here |

mod tls;
mod tokens;

use std::{net::SocketAddr, path::Path};

use tokio_util::sync::CancellationToken;
use zero2ai_client::{Client, ClientConfig, Wishes};
pub use zero2ai_gateway::{
    FIRST,
    tokens::{Scope, TokenEntry},
    usage::Usage,
};
use zero2ai_gateway::{Gateway, Listen, Token, Upstream};
use zero2ai_proto::{keys::random_bytes, record::Address};
use zero2ai_store::{StoreError, secret_file};
use zeroize::Zeroizing;

pub use self::{
    tls::CERT_FILE,
    tokens::{NewToken, new_token, revoke_token, set_budget, tokens, usage},
};
use crate::{
    config::{CallSettings, TlsSettings},
    error::NodeError,
    home::Home,
};

/// The file of the token in the home folder.
pub const TOKEN_FILE: &str = "http.token";
/// The file of the tokens that were made beside it: hashes only.
pub const TOKENS_FILE: &str = "http.tokens";
/// The file of what tokens used.
pub const USAGE_FILE: &str = "http.usage";
/// Bytes of the first token's file at most.
const TOKEN_BYTES: usize = 512;

/// Where HTTP is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAt {
    /// The TCP address.
    pub address: SocketAddr,
    /// SHA-256 of its certificate, if it is given over TLS: 64 hexadecimal digits.
    pub fingerprint: Option<String>,
}

/// A gateway that has its port, and what it needs to answer.
pub(crate) struct Http {
    gateway: Gateway,
    client: ClientConfig,
    wishes: Wishes,
    upstream: Upstream,
}

impl Http {
    /// Takes the port; `rpc` is where this node's peer RPC can be reached.
    pub(crate) async fn bind(
        home: &Home,
        address: SocketAddr,
        tls: Option<&TlsSettings>,
        rpc: SocketAddr,
    ) -> Result<Self, NodeError> {
        let tls = tls.map(|settings| tls::open(&home.path, settings, address.ip())).transpose()?;
        let (tokens, usage) = (home.path.join(TOKENS_FILE), home.path.join(USAGE_FILE));
        let listen = Listen { address, tls, token: token(&home.path)?, tokens, usage };
        let gateway = Gateway::bind(listen).await?;
        let (node, addresses) = (home.key.public(), vec![Address::Rpc(rpc.to_string())]);
        let client = ClientConfig {
            key: home.key.clone(),
            pool: home.pool,
            pool_key: home.pool_keys.current(),
            bootstrap: vec![(node, addresses.clone())],
            genesis: Some(home.genesis.clone()),
        };
        let wishes = Wishes::default();
        Ok(Self { gateway, client, wishes, upstream: Upstream { node, addresses } })
    }

    /// The same, calling only where these settings lead.
    pub(crate) fn wishing(self, calls: &CallSettings) -> Result<Self, NodeError> {
        Ok(Self { wishes: calls.wishes().map_err(NodeError::Internal)?, ..self })
    }

    pub(crate) fn at(&self) -> HttpAt {
        let fingerprint = self.gateway.fingerprint().map(str::to_owned);
        HttpAt { address: self.gateway.local_addr(), fingerprint }
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) -> Result<(), NodeError> {
        let client = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            client = Client::connect(self.client) => client.map_err(zero2ai_gateway::GatewayError::from)?,
        };
        client.wish(self.wishes);
        Ok(self.gateway.serve(client, self.upstream, stop).await?)
    }
}

/// The token of this home, made at the first start that needs it.
fn token(home: &Path) -> Result<Token, NodeError> {
    let path = home.join(TOKEN_FILE);
    let text = match secret_file::read(&path, TOKEN_BYTES) {
        Ok(bytes) => Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()),
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let random: [u8; 32] = random_bytes().map_err(|e| NodeError::Internal(e.to_string()))?;
            let text = Zeroizing::new(hex::encode(Zeroizing::new(random).as_slice()));
            secret_file::write(&path, text.as_bytes())?;
            text
        }
        Err(other) => return Err(other.into()),
    };
    text.trim().parse().map_err(|e| NodeError::Home {
        path: home.to_owned(),
        why: format!("{TOKEN_FILE} holds no token ({e}): delete the file, and the next start makes a new one"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_is_made_once_and_kept_secret() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(TOKEN_FILE);
        token(home.path()).unwrap();
        let made = std::fs::read_to_string(&file).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        token(home.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), made, "a second start keeps it");

        std::fs::write(&file, "short").unwrap();
        assert!(matches!(token(home.path()), Err(NodeError::Home { .. })));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(token(home.path()), Err(NodeError::Storage(_))), "others can read it");
    }
}
