//! Rounds: a version is graded anew from time to time, by a committee that a seed from after the opening draws. Commitments, then
//! reveals, then openings, each in its window of heights, with a bond of the validator's stake. `zero2ai_trust` has the rules of each
//! step; here they meet the state.

use zero2ai_proto::{
    CodecError, Digest, ModelName, NodeId, PoolId, decode, encode,
    ids::tagged_hash,
    manifest::Domain,
    state::{
        Committed, Due, Endorsement, EntryState, EventKind, GradersState, GrantState, Member, Model, Rights,
        RoundCount, RoundState, Selection, Version, key,
    },
    tx::{CommitRound, Endorse, Graders, OpenRound, RevealRound},
};
use zero2ai_trust::{
    Aging, Cumulative, PPM,
    commit::{self, Commitment, Entry, Schedule, StepError, Windows},
    committee, slash,
};

use super::{
    Call, Context, beacon, election, endorse,
    grading::{self, grading},
    model, record, stake,
};
use crate::{
    draft::{Draft, VALUE_BYTES, broken},
    error::TxError,
};

/// Rounds of which something is due at one height, before a further one is drawn later.
const DUES: usize = 32;

pub(super) fn invalid(why: impl Into<String>) -> TxError {
    TxError::Invalid { what: "round", why: why.into() }
}

fn step(why: StepError) -> TxError {
    invalid(why.to_string())
}

/// The commitment of a round to figures: a digest that shows nothing of them without the salt.
///
/// # Errors
/// Never with figures that can be encoded, as all that were decoded can.
pub fn round_commitment(
    pool: &PoolId,
    validator: &NodeId,
    round: u64,
    endorse: &Endorse,
    salt: &[u8; 32],
) -> Result<Digest, CodecError> {
    let body = Digest(tagged_hash("zero2ai endorsement body v1", &encode(endorse)?));
    let Endorse { name, version, .. } = endorse;
    Ok(Commitment { pool, name, version: *version, round, validator, body: &body, salt }.digest())
}

/// What a round's draws are named by: `NAME@V/R`.
#[must_use]
pub fn round_job(name: &ModelName, version: u32, round: u64) -> Vec<u8> {
    format!("{name}@{version}/{round}").into_bytes()
}

pub(super) fn load(draft: &Draft<'_>, name: &ModelName, version: u32, round: u64) -> Result<RoundState, TxError> {
    let missing = || TxError::Missing(format!("round {round} of {name}@{version}"));
    draft.read(&key::round(name, version, round))?.ok_or_else(missing)
}

pub(super) fn load_entry(
    draft: &Draft<'_>,
    (name, version, round): (&ModelName, u32, u64),
    validator: &NodeId,
) -> Result<EntryState, TxError> {
    let missing = || TxError::Missing(format!("an entry of {validator} in round {round} of {name}@{version}"));
    draft.read(&key::entry(name, version, round, validator))?.ok_or_else(missing)
}

/// The entries of a round, in order of key.
pub(super) fn entries(draft: &Draft<'_>, prefix: &[u8]) -> Result<Vec<(NodeId, EntryState)>, TxError> {
    let read = |(key, value): (&[u8], &[u8])| {
        Ok((super::last_part(key)?, decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?))
    };
    draft.scan(prefix).into_iter().map(read).collect()
}

pub(super) fn schedule(round: &RoundState) -> Schedule {
    let RoundState { commit, reveal, dispute, draws, .. } = *round;
    Schedule { opened: draws.saturating_add(1), windows: Windows { commit, reveal, dispute } }
}

/// Opens the first round of a version that was just published, if it can be graded.
pub(super) fn open_first(draft: &mut Draft<'_>, call: &Call<'_>, name: &ModelName, number: u32) -> Result<(), TxError> {
    let version = model::version(draft, name, number)?;
    if endorse::graded_classes(version.task).is_ok() {
        open(draft, call, name, number, 1)?;
    }
    Ok(())
}

/// Opens the next round: for the model's owner whenever none is open, for a validator once the score has faded.
pub(super) fn open_next(draft: &mut Draft<'_>, call: &Call<'_>, body: &OpenRound) -> Result<(), TxError> {
    let (name, number) = (&body.name, body.version);
    let (model, version) = (model::model(draft, name)?, model::version(draft, name, number)?);
    endorse::graded_classes(version.task)?;
    if version.withdrawn {
        return Err(invalid(format!("{name}@{number} was withdrawn")));
    }
    let newest = draft.read::<RoundCount>(&key::rounds(name, number))?.map_or(0, |count| count.newest);
    let last = if newest > 0 { Some(load(draft, name, number, newest)?) } else { None };
    if let Some(open) = last.as_ref().filter(|round| round.outcome.is_none()) {
        let until = match open.disputes {
            disputes if disputes > 0 && call.at.height > open.end() => "the disputes over it are settled".to_owned(),
            _ => format!("height {}", open.end()),
        };
        return Err(invalid(format!("round {newest} is open until {until}")));
    }
    if model.owner != call.who {
        call.need(Rights::VALIDATOR)?;
        if last.as_ref().is_some_and(|round| !is_stale(round, call.at.height)) {
            return Err(invalid("the score is fresh enough: only the model's owner opens a round before it has faded"));
        }
    }
    open(draft, call, name, number, newest.saturating_add(1))
}

/// True if the score that a round came to has lost half of its confidence, or there is none.
fn is_stale(round: &RoundState, height: u64) -> bool {
    let Some(outcome) = round.outcome.filter(|outcome| outcome.score_ppm.is_some()) else { return true };
    let aging = Aging::default();
    let samples = outcome.samples.saturating_mul(u64::from(PPM));
    let held = Cumulative { weighted: 0, samples, epoch: outcome.height / aging.epoch };
    held.is_stale(height, outcome.confidence_ppm / 2, &aging)
}

fn open(draft: &mut Draft<'_>, call: &Call<'_>, name: &ModelName, number: u32, round: u64) -> Result<(), TxError> {
    let grading = grading(draft)?;
    let opened = call.at.height;
    // The set of signers may have grown since the windows were set.
    let windows = grading::windows(&grading);
    let least = windows.check(call.at.signers.as_slice().len() as u64).map_or_else(|short| short.least, |()| 0);
    let reveal = grading.reveal.max(least);
    let state = RoundState {
        opened,
        draws: free_height(draft, opened.saturating_add(grading.delay)),
        commit: grading.commit.max(least),
        reveal,
        dispute: grading.dispute.max(reveal.saturating_add(least).saturating_add(1)),
        seats: grading.seats,
        bond_ppm: grading.bond_ppm,
        open_ppm: grading.open_ppm,
        leaves: grading.leaves,
        staked: stake::weighs(draft),
        selection: None,
        committee: Vec::new(),
        open_seed: None,
        outcome: None,
        disputes: 0,
        halted: false,
    };
    draft.write(key::due(state.draws, name, number, round), &Due::Draw)?;
    draft.write(key::round(name, number, round), &state)?;
    draft.write(key::rounds(name, number), &RoundCount { newest: round })?;
    let model = model::model(draft, name)?;
    record(draft, call, name, model, EventKind::Opened, number)
}

/// The first height from `least` on at whose end there is room for one more draw: a block full of publications must not make another
/// block too much work for its voters.
pub(super) fn free_height(draft: &Draft<'_>, least: u64) -> u64 {
    let full = |height: u64| draft.scan(&key::dues(height)).len() >= DUES;
    (least..).find(|height| !full(*height)).unwrap_or(least)
}

/// Draws the committee of a round, at the end of the block whose seed it waits for.
pub(super) fn draw(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    (name, number, round): (&ModelName, u32, u64),
) -> Result<(), TxError> {
    let mut state = load(draft, name, number, round)?;
    let candidates = candidates(draft, at, name, number, state.staked)?;
    let graders = draft.read::<GradersState>(&key::graders(name))?.map_or(Graders::Everyone, |state| state.graders);
    (state.selection, state.committee) = match graders {
        Graders::Named(named) => {
            let sits = |who: &NodeId| candidates.iter().any(|(candidate, _)| candidate == who);
            (Some(Selection::Named), named.into_iter().filter(sits).collect())
        }
        Graders::Elected => (Some(Selection::Elected), election::elected(draft, at, &candidates, state.seats)?),
        Graders::Everyone if candidates.len() <= usize::from(state.seats) => {
            (Some(Selection::Everyone), candidates.into_iter().map(|(who, _)| who).collect())
        }
        Graders::Everyone => {
            let (seed, job) = (beacon::seed(draft, at.pool)?, round_job(name, number, round));
            let how = match committee::selection(at.signers.as_slice().len()) {
                committee::Selection::Random => Selection::Random,
                committee::Selection::Appointed => Selection::Appointed,
            };
            (Some(how), committee::draw(&seed, &job, &candidates, usize::from(state.seats)))
        }
    };
    state.committee.sort();
    draft.write(key::due(state.reveal_end().saturating_add(1), name, number, round), &Due::Open)?;
    draft.write(key::round(name, number, round), &state)
}

/// Who may sit over a version, with what each has at stake (1 where stake does not weigh), in order of key.
pub(super) fn candidates(
    draft: &Draft<'_>,
    at: &Context<'_>,
    name: &ModelName,
    number: u32,
    staked: bool,
) -> Result<Vec<(NodeId, u64)>, TxError> {
    let (model, version) = (model::model(draft, name)?, model::version(draft, name, number)?);
    let mut candidates = Vec::new();
    for (key, value) in draft.scan(b"member/") {
        let (who, member) = (super::last_part(key)?, decode::<Member>(value, VALUE_BYTES));
        if !member.map_err(|e| broken(key, &e))?.rights.has(Rights::VALIDATOR) {
            continue;
        }
        let weight = if staked { stake::held(draft, at, &who)?.staked } else { 1 };
        if weight > 0 && may_sit(draft, name, &model, &version, &who)? {
            candidates.push((who, weight));
        }
    }
    Ok(candidates)
}

/// What `who` alone would have at stake over a version; none if it may not sit.
pub(super) fn seat_of(
    draft: &Draft<'_>,
    at: &Context<'_>,
    (name, number, staked): (&ModelName, u32, bool),
    who: &NodeId,
) -> Result<Option<u64>, TxError> {
    let (model, version) = (model::model(draft, name)?, model::version(draft, name, number)?);
    let member: Option<Member> = draft.read(&key::member(who))?;
    let weight = if staked { stake::held(draft, at, who)?.staked } else { 1 };
    let may = member.is_some_and(|m| m.rights.has(Rights::VALIDATOR)) && may_sit(draft, name, &model, &version, who)?;
    Ok(Some(weight).filter(|weight| may && *weight > 0))
}

/// Nobody grades what is his, nor what he may not open.
fn may_sit(
    draft: &Draft<'_>,
    name: &ModelName,
    model: &Model,
    version: &Version,
    who: &NodeId,
) -> Result<bool, TxError> {
    let granted = version.domain != Domain::Private
        || draft.read::<GrantState>(&key::grant(name, who))?.is_some_and(|grant| grant.granted);
    Ok(granted && version.publisher != *who && model.owner != *who)
}

/// Fixes what a validator will say in a round; once, and it binds a part of its stake.
pub(super) fn commit(draft: &mut Draft<'_>, call: &Call<'_>, body: &CommitRound) -> Result<(), TxError> {
    let (name, number, round) = (&body.name, body.version, body.round);
    endorse::may_grade(draft, call, name, number)?;
    let state = load(draft, name, number, round)?;
    let key = key::entry(name, number, round, &call.who);
    let height = call.at.height;
    let held: Option<EntryState> = draft.read(&key)?;
    let mut index = 0u32;
    for (_, entry) in entries(draft, &key::entries(name, number, round))? {
        index = index.max(entry.place.index.saturating_add(1));
    }
    let held = held.map(|entry| committed(&entry));
    commit::commit(&schedule(&state), held.as_ref(), body.commitment, height, index).map_err(step)?;
    if !state.seats(&call.who) {
        return Err(invalid(format!("{} has no seat in round {round} of {name}@{number}", call.who)));
    }
    let bond = bind(draft, call, &state)?;
    let place = Committed { height, index };
    let entry = EntryState {
        commitment: body.commitment,
        place,
        bond,
        found: None,
        opened: None,
        contradicted: None,
        standing: None,
        refuted: None,
    };
    draft.write(key, &entry)
}

/// Binds what a commitment costs; nothing where stake does not weigh.
fn bind(draft: &mut Draft<'_>, call: &Call<'_>, round: &RoundState) -> Result<u64, TxError> {
    if !round.staked {
        return Ok(0);
    }
    let mut held = stake::held(draft, call.at, &call.who)?;
    let bond = slash::slash(held.staked, round.bond_ppm);
    if held.staked == 0 || held.staked - held.bonds.min(held.staked) < bond {
        let (staked, bonds) = (held.staked, held.bonds);
        let why = format!("a commitment binds {bond} of a stake, and of {staked} other commitments bind {bonds}");
        return Err(TxError::Invalid { what: "stake", why });
    }
    held.bonds = held.bonds.saturating_add(bond);
    stake::write(draft, &call.who, &held)?;
    Ok(bond)
}

fn committed(entry: &EntryState) -> Entry {
    let Committed { height, index } = entry.place;
    match &entry.found {
        Some(_) => Entry::Revealed { height, index, body: entry.commitment },
        None => Entry::Committed { digest: entry.commitment, height, index },
    }
}

/// Records what a validator committed to in a round. Whether it may grade was asked at the commitment: who withdraws the version or
/// takes the right away since then must not cost it its bond.
pub(super) fn reveal(draft: &mut Draft<'_>, call: &Call<'_>, body: &RevealRound) -> Result<(), TxError> {
    let RevealRound { endorse: counts, round, salt } = body;
    let (name, number) = (&counts.name, counts.version);
    let (model, version) = (model::model(draft, name)?, model::version(draft, name, number)?);
    let state = load(draft, name, number, *round)?;
    let mut entry = load_entry(draft, (name, number, *round), &call.who)?;
    let salt: &[u8; 32] = salt
        .as_slice()
        .try_into()
        .map_err(|_| TxError::Invalid { what: "salt", why: format!("{} bytes instead of 32", salt.len()) })?;
    let body = Digest(tagged_hash("zero2ai endorsement body v1", &encode(counts).map_err(|e| invalid(e.to_string()))?));
    let shown = Commitment {
        pool: call.at.pool,
        name,
        version: number,
        round: *round,
        validator: &call.who,
        body: &body,
        salt,
    };
    commit::reveal(&schedule(&state), Some(&committed(&entry)), &shown, call.at.height).map_err(step)?;
    endorse::check(counts, &version)?;
    let figures = endorse::figures(counts, &version)
        .ok_or_else(|| TxError::Invalid { what: "counts", why: "they give no figures".into() })?;
    entry.found = Some(Endorsement { height: call.at.height, tx: call.id, committed: Some(entry.place), ..figures });
    draft.write(key::entry(name, number, *round, &call.who), &entry)?;
    record(draft, call, name, model, EventKind::Revealed, number)
}
