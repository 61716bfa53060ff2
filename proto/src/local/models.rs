//! Local methods about models in memory.

use serde::{Deserialize, Serialize};

use crate::{calls::Empty, local::PinCall, methods, name::ModelName};

methods! {
    /// Which held versions are in memory, and how much they take.
    ModelsShow = 134: Empty => ModelsReply;
    /// Pins a served version in memory, loading it first, or takes the pin away.
    ModelPin = 135: PinCall => Empty;
    /// Lets a served version go out of memory; the next call loads it again.
    ModelUnload = 136: ModelCall => Empty;
}

/// Answer to [`ModelsShow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelsReply {
    /// Bytes that all models together may take.
    pub budget: u64,
    /// Bytes that they take, and that loads and trials under way were given.
    pub taken: u64,
    /// Models loaded since the node started.
    pub loads: u64,
    /// Loads that failed since then.
    pub failures: u64,
    /// Models evicted since then.
    pub evictions: u64,
    /// Every held version.
    pub models: Vec<ResidentModel>,
}

/// A held version, in memory or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidentModel {
    /// Name.
    pub name: ModelName,
    /// Version.
    pub version: u32,
    /// Where it is.
    pub state: ModelState,
    /// Why its last load failed, if it did.
    pub why: Option<String>,
    /// Bytes of memory that it takes; 0 if it is not in memory.
    pub bytes: u64,
    /// Bytes that it took when it was loaded last, if it was since the node started.
    pub last_bytes: Option<u64>,
    /// When it was used or loaded last, milliseconds since 1970 UTC.
    pub last_use_ms: Option<u64>,
    /// It is never evicted.
    pub pinned: bool,
    /// Calls answered since the node started.
    pub calls: u64,
    /// Calls in hand.
    pub in_hand: u32,
}

/// Where a held version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelState {
    /// In memory.
    Resident,
    /// Not in memory: the next call loads it.
    Evicted,
    /// On its way into memory.
    Loading,
    /// Its load failed, and is tried again later.
    Failed,
    /// Not loaded yet since the node started.
    Waiting,
    /// Not to be served.
    Stored,
}

/// Request of [`ModelUnload`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
}
