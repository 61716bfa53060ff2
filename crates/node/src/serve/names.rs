//! Resolving: the DHT's word, or the ledger's own where the DHT has none, and the endpoints of the version meant.

use std::time::Instant;

use zero2ai_proto::{
    calls::{ResolveCall, Resolved, Source},
    rpc::RpcError,
    state::key,
};

use crate::{
    core::Core,
    jobs::audit::prove,
    serve::errors::{internal, not_found, unavailable},
};

pub(super) async fn resolve(core: &Core, call: ResolveCall) -> Result<Resolved, RpcError> {
    let start = Instant::now();
    let name = &call.name.name;
    // A name that the ledger does not know is not asked for in the network: anyone could invent any number.
    let version = core.pick_version(&call.name)?;
    let looked_up = core.names.lookup(name, call.fresh).await;
    let (header, height) = core.first_head().await?;
    let (record, endpoints, source) = match looked_up {
        Ok(answer) => (answer.record, answer.endpoints, answer.source),
        Err(why) => {
            // The DHT may be empty (a lone node) while our own copy of the ledger knows the name.
            let own = core.chain.read(|ledger| ledger.name_record(name, header.clone()));
            let record = own.map_err(|_| not_found(&why))?;
            let seen = core.names.height(name);
            if header.certificate.height < seen {
                return Err(unavailable(format!("{why}; and this node's own ledger is not at height {seen} yet")));
            }
            (record, Vec::new(), Source::Ledger)
        }
    };
    let entry = core.chain.read(|l| l.version(name, version)).ok_or_else(|| not_found("that version is not known"))?;
    let of_version = |e: &zero2ai_proto::Signed<zero2ai_proto::record::EndpointRecord>| {
        e.read_unverified().is_ok_and(|r| r.version == version && r.manifest == entry.manifest)
    };
    let mut endpoints: Vec<_> = endpoints.into_iter().filter(of_version).collect();
    if endpoints.is_empty() && core.models.is_served(&(name.clone(), version)) {
        // Our own announcement may not have reached the DHT, but we know that we serve it.
        endpoints.push(core.own_endpoint(name, version, entry.manifest).map_err(internal)?);
    }
    Ok(Resolved {
        record,
        version: prove(core, height, &key::version(name, version))?,
        version_header: header,
        endpoints,
        source,
        took_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}
