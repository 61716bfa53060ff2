//! Everything a home holds of the past, checked without a node: [`zero2ai_chain::history`] with this home's folders.

use std::path::Path;

use zero2ai_chain::history::{self, Folders, Report};

use crate::{error::NodeError, home::Home};

/// The encoded genesis of a home, from `pool.cbor`.
///
/// # Errors
/// The home holds no pool, or the file does not hold.
pub fn genesis(home: &Path) -> Result<Vec<u8>, NodeError> {
    Home::genesis(home)
}

/// Reads and replays everything on the disk of `home`, from the genesis `trusted` on or, without it, from the home's own.
/// What does not hold is named; an error only says that nothing could be looked at.
///
/// # Errors
/// The node's keys cannot be read, or `trusted` was not given and the home's genesis cannot be read.
pub fn verify(home: &Path, trusted: Option<Vec<u8>>) -> Result<Report, NodeError> {
    let (own, provider) = (Home::genesis(home), Home::identity(home)?);
    let folders = Folders { chain: home.join("chain"), receipts: home.join("receipts"), provider };
    let place = home.join("pool.cbor").display().to_string();
    let Some(trusted) = trusted else { return Ok(history::verify(&folders, &own?)) };
    let mut report = history::verify(&folders, &trusted);
    match own {
        Ok(own) if own == trusted => {}
        Ok(_) => report.fault(place, "it holds another genesis than the one given"),
        Err(error) => report.fault(place, error),
    }
    Ok(report)
}
