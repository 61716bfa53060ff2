//! Names and what they mean: handles, versions, channels, withdrawals.

use zero2ai_proto::{
    ModelName,
    limits::{CHANNELS, CHUNK_BYTES, MANIFEST_CHUNKS},
    manifest::Task,
    name::is_label,
    state::{EventKind, Handle, Model, Rights, Version, key},
    tx::{ClaimHandle, Publish, SetChannel, Withdraw},
};

use super::{Call, HANDLES, STAKED_RULES, record, round};
use crate::{draft::Draft, error::TxError};

fn invalid(what: &'static str, why: impl Into<String>) -> TxError {
    TxError::Invalid { what, why: why.into() }
}

/// Gives a free handle to the signer.
pub(super) fn claim_handle(draft: &mut Draft<'_>, call: &Call<'_>, body: &ClaimHandle) -> Result<(), TxError> {
    call.need(Rights::PUBLISHER)?;
    if !is_label(&body.handle) {
        return Err(invalid("handle", "1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"));
    }
    let key = key::handle(&body.handle);
    if let Some(handle) = draft.read::<Handle>(&key)? {
        let what = format!("the handle {}", body.handle);
        let taken = TxError::NotOwner { what: what.clone(), owner: handle.owner };
        return Err(if handle.owner == call.who { TxError::Exists(what) } else { taken });
    }
    if draft.handles_of(&call.who)? >= HANDLES {
        return Err(invalid("handle", format!("the account holds {HANDLES} already, as many as one may")));
    }
    draft.write(key, &Handle { owner: call.who, claimed: call.at.height })
}

/// Publishes the next version of a model that the signer owns, or begins one under a handle of his.
pub(super) fn publish(draft: &mut Draft<'_>, call: &Call<'_>, body: &Publish) -> Result<(), TxError> {
    call.need(Rights::PUBLISHER)?;
    let model = draft.read::<Model>(&key::model(&body.name))?;
    let mut model = match model {
        Some(model) => model,
        None => begun(draft, call, &body.name)?,
    };
    if model.owner != call.who {
        return Err(TxError::NotOwner { what: body.name.to_string(), owner: model.owner });
    }
    if Some(body.version) != model.latest.checked_add(1) {
        let why = format!("{} is not the one above the newest, {}", body.version, model.latest);
        return Err(invalid("version", why));
    }
    check_figures(body)?;
    let version = Version {
        manifest: body.manifest,
        publisher: call.who,
        format: body.format,
        task: body.task,
        domain: body.domain,
        bytes: body.bytes,
        chunks: body.chunks,
        base: body.base,
        thresholds: body.thresholds,
        height: call.at.height,
        time_ms: call.at.time_ms,
        withdrawn: false,
    };
    draft.write(key::version(&body.name, body.version), &version)?;
    model.latest = body.version;
    record(draft, call, &body.name, model, EventKind::Published, body.version)?;
    if call.at.rules >= STAKED_RULES {
        round::open_first(draft, call, &body.name, body.version)?;
    }
    Ok(())
}

/// A model without versions, if the signer owns its publisher's handle.
fn begun(draft: &Draft<'_>, call: &Call<'_>, name: &ModelName) -> Result<Model, TxError> {
    let publisher = name.publisher();
    let handle: Handle =
        draft.read(&key::handle(publisher))?.ok_or_else(|| TxError::Missing(format!("the handle {publisher}")))?;
    if handle.owner != call.who {
        return Err(TxError::NotOwner { what: format!("the handle {publisher}"), owner: handle.owner });
    }
    Ok(Model { owner: call.who, latest: 0, channels: Vec::new(), events: 0 })
}

fn check_figures(body: &Publish) -> Result<(), TxError> {
    let chunks = body.chunks as usize;
    if !(1..=MANIFEST_CHUNKS).contains(&chunks) {
        return Err(invalid("chunks", format!("{chunks}; 1 to {MANIFEST_CHUNKS} are allowed")));
    }
    let most = u64::from(body.chunks).saturating_mul(CHUNK_BYTES as u64);
    if !(1..=most).contains(&body.bytes) {
        return Err(invalid("bytes", format!("{} do not fit {chunks} chunks of at most {CHUNK_BYTES}", body.bytes)));
    }
    if body.base.is_some_and(|base| base == 0 || base >= body.version) {
        return Err(invalid("base", "it names no earlier version of this model"));
    }
    let marks = body.thresholds;
    if marks.accept_ppm > zero2ai_trust::PPM || marks.reject_ppm >= marks.accept_ppm {
        return Err(invalid("thresholds", "reject must be below accept, and accept at most 1000000"));
    }
    if matches!(
        body.task,
        Task::Classify { classes: 0 }
            | Task::Generate { context: 0 }
            | Task::Embed { width: 0, .. }
            | Task::Embed { context: 0, .. }
    ) {
        return Err(invalid("task", "it has no classes, no width, or no context"));
    }
    Ok(())
}

/// Points a channel at a version that was not withdrawn.
pub(super) fn set_channel(draft: &mut Draft<'_>, call: &Call<'_>, body: &SetChannel) -> Result<(), TxError> {
    let mut model = owned(draft, call, &body.name)?;
    if !is_label(&body.channel) {
        return Err(invalid("channel", "1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"));
    }
    if version(draft, &body.name, body.version)?.withdrawn {
        return Err(invalid("version", format!("{}@{} was withdrawn", body.name, body.version)));
    }
    match model.channels.binary_search_by(|(channel, _)| channel.as_str().cmp(&body.channel)) {
        Ok(i) => model.channels[i].1 = body.version,
        Err(_) if model.channels.len() >= CHANNELS => {
            return Err(invalid("channel", format!("the model has {CHANNELS} already, as many as one may")));
        }
        Err(i) => model.channels.insert(i, (body.channel.clone(), body.version)),
    }
    record(draft, call, &body.name, model, EventKind::Channel, body.version)
}

/// Withdraws a version, for good. Channels that point at it keep doing so: resolvers say that it was withdrawn rather than
/// answer with another version than was asked for.
pub(super) fn withdraw(draft: &mut Draft<'_>, call: &Call<'_>, body: &Withdraw) -> Result<(), TxError> {
    let model = owned(draft, call, &body.name)?;
    let mut version = version(draft, &body.name, body.version)?;
    if version.withdrawn {
        return Err(TxError::Exists(format!("the withdrawal of {}@{}", body.name, body.version)));
    }
    version.withdrawn = true;
    draft.write(key::version(&body.name, body.version), &version)?;
    record(draft, call, &body.name, model, EventKind::Withdrawn, body.version)
}

/// The model, if the signer owns it and may publish.
pub(super) fn owned(draft: &Draft<'_>, call: &Call<'_>, name: &ModelName) -> Result<Model, TxError> {
    call.need(Rights::PUBLISHER)?;
    let model = model(draft, name)?;
    if model.owner != call.who {
        return Err(TxError::NotOwner { what: name.to_string(), owner: model.owner });
    }
    Ok(model)
}

pub(super) fn model(draft: &Draft<'_>, name: &ModelName) -> Result<Model, TxError> {
    draft.read(&key::model(name))?.ok_or_else(|| TxError::Missing(format!("the model {name}")))
}

pub(super) fn version(draft: &Draft<'_>, name: &ModelName, version: u32) -> Result<Version, TxError> {
    draft.read(&key::version(name, version))?.ok_or_else(|| TxError::Missing(format!("the version {name}@{version}")))
}
