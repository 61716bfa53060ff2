//! The one error of this crate. Each message says what failed and what to do next.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use zero2ai_proto::Cid;

/// Why an operation on the disk did not succeed. Nothing half-written is visible after any of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused or failed a file operation.
    #[error("could not {what} {}: {source}. {}", path.display(), Advice(source))]
    Io {
        /// The operation, as in "write" or "open".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Another process holds this home.
    #[error(
        "the home {} is in use by a running node. Stop that node first, ask it through its own commands, or choose \
         another home with --home or ZERO2AI_HOME",
        home.display()
    )]
    InUse {
        /// The home.
        home: PathBuf,
    },
    /// A stored chunk no longer has the hash it is named by.
    #[error(
        "chunk {cid} is damaged on disk: its bytes no longer have the hash they are named by. Delete it and fetch it \
         again from a peer; if this happens more than once, check the disk"
    )]
    Corrupt {
        /// The chunk.
        cid: Cid,
    },
    /// A stored file is damaged.
    #[error("{} is damaged: {why}. Remove it and fetch it again; if this happens more than once, check the disk", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes that do not have the hash they were offered under: nothing was stored.
    #[error("the bytes offered as chunk {cid} hash to {actual}: they were refused. Fetch the chunk from another peer")]
    WrongHash {
        /// The name they were offered under.
        cid: Cid,
        /// What they hash to.
        actual: Cid,
    },
    /// More bytes than this kind of object may have.
    #[error("{what} of {len} bytes is out of bounds (1 to {max} bytes): it was refused")]
    TooLarge {
        /// The kind of object.
        what: &'static str,
        /// Bytes offered.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Storing this would exceed the configured quota.
    #[error(
        "storing {needed} more bytes would exceed the quota: {used} of {quota} bytes are used. Raise the quota in the \
         configuration, or remove models that are no longer needed"
    )]
    Quota {
        /// Bytes asked for.
        needed: u64,
        /// Bytes used by chunks and manifests.
        used: u64,
        /// Bytes allowed.
        quota: u64,
    },
    /// Storing this would take the free space that the node keeps for its chain.
    #[error(
        "the disk of {} is nearly full: storing {needed} more bytes would leave less than {reserve} of its {free} free \
         bytes, which the node keeps for its chain. Free some space, remove models that are no longer needed, or move \
         the home to a larger disk, then try again", dir.display()
    )]
    Space {
        /// The folder.
        dir: PathBuf,
        /// Bytes asked for.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// The key-value index failed.
    #[error(
        "the index could not {what}: {source}. {}: a damaged index is set aside and rebuilt from the stored files",
        if is_full(source.as_ref()) { "Free some space on its disk, then restart the node" } else { "Restart the node" }
    )]
    Index {
        /// The operation.
        what: &'static str,
        /// The database's answer.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record that was once durable is no longer readable.
    #[error(
        "record {record} of the log {} is damaged at byte {offset} of {segment}, and records after it had been acknowledged. \
         Nothing was changed. Restore this folder from a copy, or move it aside and let the node fetch its history \
         from peers", dir.display()
    )]
    LogDamaged {
        /// The log's directory.
        dir: PathBuf,
        /// Name of the segment file.
        segment: String,
        /// Index of the record.
        record: u64,
        /// Byte in that segment file where the record starts.
        offset: u64,
    },
    /// An earlier write or fsync of this log failed, so what is on disk is unknown: it accepts no more records.
    #[error(
        "the log {} stopped accepting records after a failed write or sync. Restart the node once the disk is in order: \
         the log is then read back and continues after the last complete record", dir.display()
    )]
    LogStopped {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A key file that others could read.
    #[error(
        "the key file {} can be read by group or others (mode {mode:04o}), so it was not used. If nobody else has read \
         it, run: chmod 600 {}", path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl StoreError {
    /// Wraps an I/O error with what was being done to which path.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    /// Wraps an error of the database.
    pub(crate) fn index(what: &'static str) -> impl FnOnce(sled::Error) -> Self {
        move |source| Self::Index { what, source: Box::new(source) }
    }
}

/// True if the database failed for want of space.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(sled::Error::Io(e)) if e.kind() == io::ErrorKind::StorageFull)
}

/// What a person can do about an I/O error.
struct Advice<'a>(&'a io::Error);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "The disk is full: free some space or move the home to a larger disk, then try again; nothing half-written \
                 was kept"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "The file system is mounted read-only: remount it for writing, or choose another home"
            }
            io::ErrorKind::PermissionDenied => "Give the user that runs the node read and write access to it",
            io::ErrorKind::NotFound => "Check that the path exists",
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                "Something else stands at this path: move it away"
            }
            // EMFILE and ENFILE have no ErrorKind of their own.
            _ if matches!(self.0.raw_os_error(), Some(23 | 24)) => {
                "Too many files are open: raise the limit (ulimit -n), then try again"
            }
            _ => "The disk may be failing: look at the system's log before trying again",
        })
    }
}
