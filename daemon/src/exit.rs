//! How the program ends: the table of exit codes, and the one error type that every command returns.

use std::fmt::{self, Write as _};

use zero2ai_client::ErrorKind;

/// Exit codes. The numbers are an interface for scripts: never reused for another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Internal = 1,
    Usage = 2,
    Config = 3,
    Unreachable = 4,
    NotFound = 5,
    Denied = 6,
    Invalid = 7,
    Storage = 8,
    InUse = 9,
    Invite = 10,
    Timeout = 11,
    Clock = 12,
    Unverified = 13,
    Unavailable = 14,
    Model = 15,
    Busy = 16,
    Unsupported = 17,
    Differs = 18,
    Outdated = 19,
    Interrupted = 130,
}

/// Every code with its name in `--json` errors and its meaning.
const TABLE: [(Exit, &str, &str); 20] = [
    (Exit::Internal, "internal", "something broke in this program"),
    (Exit::Usage, "usage", "the command line is wrong"),
    (Exit::Config, "config", "the home folder or config.toml cannot be used"),
    (Exit::Unreachable, "unreachable", "no node answers (is 'zero2ai up' running with this --home?)"),
    (Exit::NotFound, "not_found", "no such name, version or endpoint"),
    (Exit::Denied, "denied", "the pool or the ledger refuses: a right or the pool key is missing"),
    (Exit::Invalid, "invalid", "the input or request is not acceptable"),
    (Exit::Storage, "storage", "the disk is full or refuses writes"),
    (Exit::InUse, "in_use", "the port or the home folder is in use"),
    (Exit::Invite, "invite", "the invite is damaged, used up or expired"),
    (Exit::Timeout, "timeout", "no answer in time"),
    (Exit::Clock, "clock", "this machine's clock differs from the pool's by too much"),
    (Exit::Unverified, "unverified", "a proof, signature or certificate does not hold"),
    (Exit::Unavailable, "unavailable", "the chain is halted or too far behind for this"),
    (Exit::Model, "model", "the model cannot be read or run"),
    (Exit::Busy, "busy", "every endpoint is busy: try again later"),
    (Exit::Unsupported, "unsupported", "the node does not know how to do this: is it older than this program?"),
    (Exit::Differs, "differs", "run again here, the model gave another answer than its provider signed"),
    (Exit::Outdated, "outdated", "the pool follows rules that this program lacks: update it"),
    (Exit::Interrupted, "interrupted", "stopped by Ctrl-C or SIGTERM before it was done"),
];

impl Exit {
    /// The name that `--json` errors carry.
    pub(crate) fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("internal", |row| row.1)
    }

    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Clock => Self::Clock,
            ErrorKind::Storage => Self::Storage,
            ErrorKind::Model => Self::Model,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::Unverified => Self::Unverified,
            ErrorKind::Config => Self::Config,
            ErrorKind::InUse => Self::InUse,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

/// The table as `--help` shows it.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n    0  done\n");
    for (exit, name, meaning) in TABLE {
        let _ = writeln!(text, "  {:>3}  {name}: {meaning}", exit.code());
    }
    text
}

/// Why a command failed: how the process ends, and one paragraph for a person (what failed, why, what to do next).
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    /// A failure with this paragraph.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The same failure, with what was being done in front.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same failure, with what to do or know behind it.
    pub(crate) fn after(mut self, what: &str) -> Self {
        self.message = format!("{}\n{what}", self.message);
        self
    }

    /// Says so on standard error, as text or as `{"error": {"code", "message"}}`.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let error = serde_json::json!({ "error": { "code": self.exit.name(), "message": self.message } });
            eprintln!("{error}");
        } else {
            eprintln!("error: {}", self.message);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<zero2ai_proto::CodecError> for Failure {
    fn from(error: zero2ai_proto::CodecError) -> Self {
        Self::new(Exit::Internal, format!("Bytes could not be encoded or decoded ({error}); please report this."))
    }
}

impl From<getrandom::Error> for Failure {
    fn from(error: getrandom::Error) -> Self {
        Self::new(Exit::Internal, format!("The operating system gave no randomness ({error}); no key can be made."))
    }
}

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// An error of the file system, put into words: which file, why, and what to do.
pub(crate) fn file_error(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let (exit, next) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::ReadOnlyFilesystem | ErrorKind::QuotaExceeded => {
            (Exit::Storage, "Free some space or choose another folder, then run the command again.")
        }
        ErrorKind::NotFound => (Exit::NotFound, "Check the path."),
        ErrorKind::PermissionDenied => (Exit::Config, "Check who owns it and its permissions."),
        _ => (Exit::Storage, "Check the path and the disk."),
    };
    Failure::new(exit, format!("Cannot {what} {}: {error}. {next}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_told_once() {
        let mut codes: Vec<u8> = TABLE.iter().map(|row| row.0.code()).collect();
        codes.sort_unstable();
        let before = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), before);
        for (exit, name, _) in TABLE {
            assert_eq!(exit.name(), name);
            assert!(help().contains(name));
        }
    }

    #[test]
    fn a_kind_of_error_has_the_same_word_in_every_client() {
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::Unsupported,
            ErrorKind::Unverified,
            ErrorKind::InUse,
            ErrorKind::Config,
            ErrorKind::NotFound,
            ErrorKind::Internal,
        ] {
            assert_eq!(Exit::from(kind).name(), kind.word());
        }
    }
}
