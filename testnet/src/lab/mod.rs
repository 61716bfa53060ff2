//! What the network costs and how soon it reacts, measured with real daemons. The program `lab` runs it; each part gives one
//! JSON object, kept in `testnet/results/` and told in `testnet/RESULTS.md`.
//!
//! | module | owns |
//! |---|---|
//! | [`many`] | many idle daemons: joining, resolving, memory, processor, bytes |
//! | [`nearest`] | callers and providers in regions that are far apart: who is asked, and how soon another is |
//! | [`back`] | a node that was suspended, and one whose address changed |
//! | [`caller`] | one caller that predicts again and again, in a namespace of its own |
//! | [`lines`] | a wide network of namespaces, on the emulator `testnet/delay.py` |
//! | [`process`] | what the kernel counts of a process |
//! | [`figures`] | medians, percentiles, and the machine they were measured on |

pub mod back;
pub mod caller;
pub mod figures;
pub mod lines;
pub mod many;
pub mod nearest;
pub mod process;
