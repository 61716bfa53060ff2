//! `models ...`: what can be typed.

use clap::Subcommand;

use super::VersionName;

/// `models ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Which models are in memory, what each takes of the budget, and why one is not
    #[command(after_help = "Examples:\n  zero2ai models ls\n  zero2ai models ls --json\n\n\
        resident: in memory. evicted: the next call loads it. failed: its load failed, and is tried again later. stored: held, not \
        served. How much all may take: 'zero2ai up --model-memory SIZE'.")]
    Ls,
    /// Keep a served version in memory, loading it now: it is never evicted, also after a restart
    #[command(after_help = "Example:\n  zero2ai models pin lab/chat@3\n\n'zero2ai store pin' is about the disk.")]
    Pin {
        /// publisher/model@version
        name: VersionName,
    },
    /// Let a pinned version be evicted again when another needs its memory
    #[command(after_help = "Example:\n  zero2ai models unpin lab/chat@3")]
    Unpin {
        /// publisher/model@version
        name: VersionName,
    },
    /// Give a version's memory back now; it stays announced, and the next call loads it again
    #[command(
        after_help = "Example:\n  zero2ai models unload lab/chat@3\n\nCalls in hand are never cut off: it is refused while there are any."
    )]
    Unload {
        /// publisher/model@version
        name: VersionName,
    },
}

/// Reads bytes: `512MiB`, `4GiB`, `1.5GiB`; at least one MiB, in whole MiB.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded just before
pub(crate) fn memory_mib(text: &str) -> Result<u64, String> {
    let fail = || "write a number and a unit: 512MiB, 4GiB, 1.5GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "MiB" | "M" | "m" => 1.0,
        "GiB" | "G" | "g" => 1024.0,
        "TiB" | "T" | "t" => 1024.0 * 1024.0,
        _ => return Err(fail()),
    };
    let mib = number.parse::<f64>().map_err(|_| fail())? * unit;
    if !(1.0..=1e12).contains(&mib) {
        return Err("between one MiB and a great many TiB, please".into());
    }
    Ok(mib as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(memory_mib("512MiB").unwrap(), 512);
        assert_eq!(memory_mib("1.5 GiB").unwrap(), 1536);
        assert_eq!(memory_mib("2T").unwrap(), 2 << 20);
        for bad in ["", "5", "0MiB", "-1GiB", "1e9GiB", "GiB", "1..2GiB", "9999999999999999999TiB", "5 kB"] {
            assert!(memory_mib(bad).is_err(), "{bad}");
        }
    }
}
