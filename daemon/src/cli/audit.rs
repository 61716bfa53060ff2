//! `audit ...`: what can be typed, and which part of an audit is to be shown.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use zero2ai_proto::{ModelName, NodeId};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// publisher/model
    #[arg(required = true)]
    pub(crate) name: Option<ModelName>,
    /// Also write the audit with its proofs to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
}

/// `audit ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check an exported audit offline, with nothing but the pool's genesis
    #[command(after_help = "Example:\n  zero2ai audit verify audit.cbor --genesis genesis.cbor")]
    Verify {
        /// The exported audit
        file: PathBuf,
        /// The pool's genesis, from a source you trust
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        #[command(flatten)]
        shown: Shown,
    },
    /// Run a kept call again on this machine, and compare with what its provider signed, bit for bit
    #[command(name = "re-run")]
    #[command(after_help = "Examples:\n  zero2ai predict lab/digits --input rows.csv --save-call call.cbor\n  \
        zero2ai audit re-run call.cbor\n\n\
        The file is checked first: signatures, and that they are over this input and this output. Then the node of --home runs \
        the same version on it, fetched if it is not held, and says whether every bit is the same; if not, the first that \
        differs, and exit code 18. Text on this project's own kernels gives the same bits on every processor; other models may \
        differ in their last bits between processors, which proves nothing against their provider.")]
    ReRun {
        /// What predict or run kept with --save-call
        file: PathBuf,
    },
}

/// Which part of an audit is shown, and how. All of it is checked, whatever is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Shown {
    /// Only what this account did, and the uses that it answered (64 hexadecimal digits)
    #[arg(long, value_name = "KEY")]
    pub(crate) account: Option<NodeId>,
    /// Only what happened at this moment or later: 2026-08-01 or 2026-08-01T09:30:00, UTC
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) from: Option<u64>,
    /// Only what happened before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) to: Option<u64>,
    /// Comma-separated values instead of tables: a line for each publication, endorsement, change and use, with figures
    #[arg(long)]
    pub(crate) csv: bool,
}

/// Reads a moment in UTC as milliseconds since 1970 (days from the civil calendar, after Howard Hinnant).
fn moment(text: &str) -> Result<u64, String> {
    let fail = || "write a day or a moment since 1970, in UTC: 2026-08-01 or 2026-08-01T09:30:00".to_owned();
    let (day, time) = text.trim_end_matches('Z').split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let numbers = |text: &str, sign: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text.split(sign).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(day, '-').ok_or_else(fail)?;
    let [hour, minute, second] = numbers(time, ':').ok_or_else(fail)?;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let possible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !possible {
        return Err(fail());
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let in_era = year % 400;
    let days = year / 400 * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + (153 * month + 2) / 5 + day - 1;
    Ok(((days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::utc;

    #[test]
    fn moments_are_read_as_they_are_shown() {
        assert_eq!(moment("1970-01-01"), Ok(0));
        assert_eq!(moment("2026-08-21T09:30:00Z"), moment("2026-08-21 09:30:00"));
        for days in (0..30_000u64).step_by(13) {
            let ms = days * 86_400_000 + days % 86_400 * 1_000;
            assert_eq!(moment(&utc(ms)), Ok(ms), "{}", utc(ms));
        }
        for bad in ["", "2026", "2026-13-01", "2026-02-29", "2100-02-29", "1969-12-31", "2026-08-01T24:00:00", "x-y-z"]
        {
            assert!(moment(bad).is_err(), "{bad}");
        }
        assert!(moment("2000-02-29").is_ok() && moment("2024-02-29T23:59:59").is_ok());
    }
}
