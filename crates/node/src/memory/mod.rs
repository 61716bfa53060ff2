//! Memory of loaded models: how much there may be, what each takes, and who goes when another is to come.
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | which models go so that another fits, without I/O |
//! | [`measure`] | what a worker takes, and what one will likely take |
//!
//! Who holds memory is told in `crates/node/src/models/table.rs`; who makes room, in `crates/node/src/jobs/room.rs`.

pub(crate) mod measure;
pub(crate) mod plan;
