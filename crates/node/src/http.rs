//! The HTTP gateway as a part of this node: its token, and the client it stands on, which calls the node by peer RPC under
//! the node's own identity as any program of its user would.

use std::{net::SocketAddr, path::Path};

use tokio_util::sync::CancellationToken;
use zero2ai_client::{Client, ClientConfig};
use zero2ai_gateway::{Gateway, Token, Upstream};
use zero2ai_proto::{keys::random_bytes, record::Address};
use zero2ai_store::{StoreError, secret_file};
use zeroize::Zeroizing;

use crate::{error::NodeError, home::Home};

/// The file of the token in the home folder.
pub const TOKEN_FILE: &str = "http.token";
/// Bytes of that file at most.
const TOKEN_BYTES: usize = 512;

/// A gateway that has its port, and what it needs to answer.
pub(crate) struct Http {
    gateway: Gateway,
    client: ClientConfig,
    upstream: Upstream,
}

impl Http {
    /// Takes the port; `rpc` is where this node's peer RPC can be reached.
    pub(crate) async fn bind(home: &Home, listen: SocketAddr, rpc: SocketAddr) -> Result<Self, NodeError> {
        let gateway = Gateway::bind(listen, token(&home.path)?).await?;
        let (node, addresses) = (home.key.public(), vec![Address::Rpc(rpc.to_string())]);
        let client = ClientConfig {
            key: home.key.clone(),
            pool: home.pool,
            pool_key: home.pool_key.clone(),
            bootstrap: vec![(node, addresses.clone())],
            genesis: Some(home.genesis.clone()),
        };
        Ok(Self { gateway, client, upstream: Upstream { node, addresses } })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.gateway.local_addr()
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) -> Result<(), NodeError> {
        let client = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            client = Client::connect(self.client) => client.map_err(zero2ai_gateway::GatewayError::from)?,
        };
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
