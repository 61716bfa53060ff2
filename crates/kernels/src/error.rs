//! The one error of this crate.

use std::io;

/// Why a computation could not be done. Nothing was written that a caller may use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Sizes that do not fit each other, or that the layout cannot hold.
    #[error(
        "{what}: {got} was given where {want} is needed; check the sizes of the matrix and of the buffers around it"
    )]
    Shape {
        /// Which size.
        what: &'static str,
        /// What was given.
        got: usize,
        /// What would do, in words.
        want: String,
    },
    /// No memory for a buffer.
    #[error("there is no memory for {bytes} bytes of {what}; free some, raise the limit, or use a smaller model")]
    Memory {
        /// What the buffer was for.
        what: &'static str,
        /// Its size; saturated where it cannot be counted.
        bytes: usize,
    },
    /// A thread of the pool could not be started.
    #[error("a computing thread could not be started; ask for fewer threads")]
    Thread(#[source] io::Error),
    /// A job panicked. The pool goes on with the next.
    #[error("a computation broke: {0}; its results are incomplete and must not be used")]
    Job(String),
}

impl KernelError {
    /// A size that is not the one needed.
    pub(crate) fn shape(what: &'static str, got: usize, want: impl ToString) -> Self {
        Self::Shape { what, got, want: want.to_string() }
    }
}

/// An error unless both are the same.
pub(crate) fn same(what: &'static str, got: usize, want: usize) -> Result<(), KernelError> {
    if got == want { Ok(()) } else { Err(KernelError::shape(what, got, want)) }
}
