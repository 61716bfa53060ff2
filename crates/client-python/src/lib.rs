//! The Python face of the client library: a compiled module, `zero2ai._core`, that the Python package beside it
//! (`python/zero2ai`) dresses up. It owns no knowledge of the network: each call becomes a [`task::Task`] on one runtime.
//!
//! | module | owns |
//! |---|---|
//! | [`runtime`] | the tokio runtime of the process |
//! | [`task`] | something under way: waited for without Python's lock, or told to a callback |
//! | [`core`] | the client's methods |
//! | [`text`] | a text that comes token by token |
//! | [`shape`] | Rust values as dictionaries and arrays |
//! | [`failure`] | errors as Python's, with codes |

mod audit;
mod core;
mod failure;
mod runtime;
mod shape;
mod task;
mod text;

/// The compiled half of the package `zero2ai`.
#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use crate::core::{Core, connect};
    #[pymodule_export]
    use crate::task::Task;
    #[pymodule_export]
    use crate::text::Text;
}
