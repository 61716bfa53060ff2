//! The HTTP gateway as a part of this node: its token, and the client it stands on, which calls the node by peer RPC under
//! the node's own identity as any program of its user would.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_client::{Client, ClientConfig};
pub use zero2ai_gateway::tokens::{Scope, TokenEntry};
use zero2ai_gateway::{
    Gateway, Token, Upstream,
    tokens::{self, TOKENS},
};
use zero2ai_proto::{keys::random_bytes, record::Address};
use zero2ai_store::{StoreError, secret_file};
use zeroize::Zeroizing;

use crate::{clock::now_ms, error::NodeError, home::Home};

/// The file of the token in the home folder.
pub const TOKEN_FILE: &str = "http.token";
/// The file of the tokens that were made beside it: hashes only.
pub const TOKENS_FILE: &str = "http.tokens";
/// Bytes of the first token's file at most.
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
        let gateway = Gateway::bind(listen, token(&home.path)?, home.path.join(TOKENS_FILE)).await?;
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

/// The tokens that were made beside the first one.
///
/// # Errors
/// The file is damaged or cannot be read.
pub fn tokens(home: &Path) -> Result<Vec<TokenEntry>, NodeError> {
    tokens::read(&home.join(TOKENS_FILE)).map_err(|e| NodeError::Home { path: home.to_owned(), why: e.to_string() })
}

/// Makes a token of 256 random bits and keeps its hash. A gateway that runs knows it from the next request on. Two that are
/// made at the same moment by two programs may lose one.
///
/// # Errors
/// A name that is none or too many tokens, as [`NodeError::Home`]; the disk refuses.
pub fn new_token(
    home: &Path,
    name: &str,
    scopes: Vec<Scope>,
    lifetime: Option<Duration>,
    per_minute: Option<u32>,
) -> Result<(Zeroizing<String>, TokenEntry), NodeError> {
    let wrong = |why: String| NodeError::Home { path: home.to_owned(), why };
    let mut all = tokens(home)?;
    let now = now_ms();
    all.retain(|entry| entry.expires_ms.is_none_or(|end| end > now));
    if all.len() >= TOKENS {
        return Err(wrong(format!("it has {TOKENS} tokens, and no more are kept: revoke some")));
    }
    let random: [u8; 32] = random_bytes().map_err(|e| NodeError::Internal(e.to_string()))?;
    let token = Zeroizing::new(format!("z2t-{}", hex::encode(Zeroizing::new(random).as_slice())));
    let lifetime = lifetime.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let times = (now, lifetime.map(|span| now.saturating_add(span)));
    let entry = TokenEntry::new(&token, name, scopes, times, per_minute).map_err(|e| wrong(e.to_string()))?;
    all.push(entry.clone());
    save(home, &all)?;
    Ok((token, entry))
}

/// Revokes the token with this id, from the next request on. False if there is none.
///
/// # Errors
/// As [`tokens`]; the disk refuses.
pub fn revoke_token(home: &Path, id: &str) -> Result<bool, NodeError> {
    let mut all = tokens(home)?;
    let before = all.len();
    all.retain(|entry| entry.id != id);
    if all.len() == before {
        return Ok(false);
    }
    save(home, &all).map(|()| true)
}

fn save(home: &Path, all: &[TokenEntry]) -> Result<(), NodeError> {
    let bytes = tokens::write(all).map_err(|e| NodeError::Internal(e.to_string()))?;
    Ok(secret_file::write(&home.join(TOKENS_FILE), &bytes)?)
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
