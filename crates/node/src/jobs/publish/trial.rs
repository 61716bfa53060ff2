//! A first run in a worker, so that what cannot run is refused before anything is stored. The files that are run go into
//! sealed memory for it: once the model's size, which the worker then keeps to serve from. Nothing else is ever whole in
//! memory.

use std::{io::Read as _, sync::Arc};

use zero2ai_engine::ModelFile;
use zero2ai_proto::{limits::CHUNK_BYTES, local::PublishCall, rpc::RpcError};

use super::source::Source;
use crate::{
    core::Core,
    jobs::{Tell, load::start_worker, room::no_room, tell},
    memory::plan::{Evict, NoRoom},
    models::Loaded,
    serve::errors::{engine_error, invalid},
};

/// How to publish what does not run.
const STORE_ONLY: &str = "To publish it without running it, add --store-only";

impl Core {
    /// The worker that ran the model, or why none did: it was not asked for, or this version has no runtime for it.
    pub(super) async fn try_run(
        &self,
        source: &Arc<Source>,
        call: &PublishCall,
        progress: &Tell,
    ) -> Result<(Option<Loaded>, Option<String>), RpcError> {
        let run = match &source.run {
            _ if call.store_only => return Ok((None, Some("it was published with --store-only".into()))),
            // A folder of safetensors is a model that other versions run; a file of no known kind is likely a mistake.
            Err(why) if source.has_model() => return Ok((None, Some(why.clone()))),
            Err(why) => return Err(invalid(format!("{why}. {STORE_ONLY}"))),
            Ok(run) => run.clone(),
        };
        let (bytes, limit) = (run.iter().map(|i| source.files[*i].size).sum::<u64>(), self.worker.memory_bytes);
        if bytes > limit {
            return Err(invalid(format!(
                "the model's {bytes} bytes do not fit the {limit} of a worker (worker.memory_mb in config.toml). {STORE_ONLY}"
            )));
        }
        let cannot = |why: NoRoom| {
            let error = no_room("the model", why);
            RpcError::new(error.code, format!("{}. {STORE_ONLY}", error.message))
        };
        let room = self.room_for(None, false, source.format, bytes, Evict::Idle).await.map_err(cannot)?;
        let (from, to) = (Arc::clone(source), progress.clone());
        let files = self
            .blocking(move || run.iter().map(|i| into_memory(&from, *i, &to)).collect::<Result<Vec<_>, _>>())
            .await?;
        tell(progress, "trying the model in a worker", 0, 0);
        let started = start_worker(self.worker.clone(), source.format, files, call.conformance.clone()).await;
        let (worker, info) = started.map_err(|e| RpcError::new(e.code, format!("{}. {STORE_ONLY}", e.message)))?;
        self.settle(None, &worker, &room).await?;
        if let Some(preparation) = &call.preparation {
            preparation.suits(&info.inputs).map_err(invalid)?;
        }
        Ok((Some(Loaded { worker, info, preparation: call.preparation.clone(), room }), None))
    }
}

pub(super) fn into_memory(source: &Source, index: usize, progress: &Tell) -> Result<ModelFile, RpcError> {
    let (entry, mut file) = (&source.files[index], source.open(index)?);
    let mut memory = ModelFile::create(&entry.path, entry.size).map_err(engine_error)?;
    let (mut buffer, mut done) = (vec![0u8; CHUNK_BYTES], 0u64);
    loop {
        let n = file.read(&mut buffer).map_err(|e| invalid(format!("{} cannot be read: {e}", entry.path)))?;
        if n == 0 {
            memory.seal().map_err(engine_error)?;
            return Ok(memory);
        }
        memory.append(&buffer[..n]).map_err(engine_error)?;
        done = done.saturating_add(n as u64);
        tell(progress, "bytes read for a trial", done, entry.size);
    }
}
