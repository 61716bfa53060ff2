//! Members that this node was in touch with, and where: written down, so that a node whose bootstrap nodes are all gone or have moved
//! still finds its pool after a restart. Hints only: every connection proves itself, and the ledger says who is a member.

use std::path::Path;

use serde::{Deserialize, Serialize};
use zero2ai_proto::{CodecError, decode, encode, limits::ADDRESSES, pool::Bootstrap, record::Address};
use zero2ai_store::secret_file;

use crate::error::NodeError;

/// The file in the home folder.
const FILE: &str = "peers.cbor";
/// Members written down: those heard of last. A pool of which not one of so many is where it was needs a new invite.
pub(crate) const REMEMBERED: usize = 64;
/// Bytes of the file: so many members with all the addresses that one may have.
const BYTES: usize = REMEMBERED * 4 * 1024;

#[derive(Serialize, Deserialize)]
struct File {
    version: u16,
    members: Vec<Bootstrap>,
}

/// Those written down. A file that is damaged is as good as none: it holds hints.
pub(crate) fn read(home: &Path) -> Vec<Bootstrap> {
    let path = home.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "the peers of earlier are not read");
            }
            return Vec::new();
        }
    };
    parse(&bytes).unwrap_or_else(|error| {
        tracing::warn!(file = %path.display(), %error, "the peers of earlier are not read: the file is damaged");
        Vec::new()
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<Bootstrap>, CodecError> {
    let File { version, mut members } = decode(bytes, BYTES)?;
    if version != 1 {
        return Ok(Vec::new());
    }
    for member in &mut members {
        member.addresses.retain(Address::is_valid);
        member.addresses.truncate(ADDRESSES);
    }
    members.retain(|member| !member.addresses.is_empty());
    members.truncate(REMEMBERED);
    Ok(members)
}

/// Writes them down.
pub(crate) fn write(home: &Path, members: &[Bootstrap]) -> Result<(), NodeError> {
    let members = members.iter().take(REMEMBERED).cloned().collect();
    Ok(secret_file::atomic_write(&home.join(FILE), &encode(&File { version: 1, members })?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::SecretKey;

    use super::*;

    fn member(n: u8) -> Bootstrap {
        let node = SecretKey::from_bytes(&[n; 32]).public();
        Bootstrap { node, addresses: vec![Address::Rpc(format!("10.0.0.{n}:7411"))] }
    }

    #[test]
    fn what_is_written_is_read_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(home.path()).is_empty());
        let all: Vec<_> = (0..100).map(member).collect();
        write(home.path(), &all).unwrap();
        assert_eq!(read(home.path()), all[..REMEMBERED]);
    }

    #[test]
    fn a_damaged_file_and_useless_addresses_are_no_peers() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), b"\xff\x00").unwrap();
        assert!(read(home.path()).is_empty());
        let mut lost = member(1);
        lost.addresses = vec![Address::Rpc("nowhere".into())];
        write(home.path(), &[lost, member(2)]).unwrap();
        assert_eq!(read(home.path()), [member(2)]);
    }
}
