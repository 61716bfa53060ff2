//! The end of a round: who stood up, the score, the records, the bonds. `zero2ai_trust::settle` has the rule; what it was given stands
//! in the entries afterwards, so that an auditor computes the same.

use zero2ai_proto::{
    ModelName, NodeId,
    state::{Due, EntryState, FindingState, Halt, Outcome, RoundState, Score, Standing as Stood, Verdict, key},
    tx::Disputed,
};
use zero2ai_trust::{
    Aging, Cumulative, PPM, Reach, Reputation,
    commit::{Bond, Entry, HALT_MS, bond},
    settle::{Conduct, Finding, Settled, Standing, settle},
};

use super::{
    Context, dispute, model, opening, reward,
    round::{self, round_job},
    stake, verdict,
};
use crate::{draft::Draft, error::TxError};

/// Ballots of ended disputes that leave the state with one block at most.
const SWEPT: usize = 128;

/// Does what is due at this height, and charges who was convicted in a window that ends here.
pub(super) fn end(draft: &mut Draft<'_>, at: &Context<'_>) -> Result<(), TxError> {
    let prefix = key::dues(at.height);
    let mut due = Vec::new();
    for (key, value) in draft.scan(&prefix) {
        let what: Due =
            zero2ai_proto::decode(value, crate::draft::VALUE_BYTES).map_err(|e| crate::draft::broken(key, &e))?;
        due.push((key.to_vec(), what));
    }
    let mut room = SWEPT;
    for (key, what) in due {
        let rest = key.strip_prefix(prefix.as_slice()).unwrap_or_default();
        match what {
            Due::Draw => round::draw(draft, at, named(&parse(rest, &key)?))?,
            Due::Open => opening::fix_seed(draft, at, named(&parse(rest, &key)?))?,
            Due::Settle => settle_round(draft, at, named(&parse(rest, &key)?))?,
            Due::Jury => dispute::summon(draft, at, &disputed(rest, &key)?)?,
            Due::Count => dispute::count(draft, at, &disputed(rest, &key)?)?,
            Due::Close => verdict::close(draft, at, &disputed(rest, &key)?)?,
            Due::Sweep => room = verdict::sweep(draft, at, &disputed(rest, &key)?, room)?,
        }
        draft.remove(key);
        draft.keep();
    }
    stake::charge(draft, at)?;
    reward::pay(draft, at)
}

const fn named(which: &(ModelName, u32, u64)) -> (&ModelName, u32, u64) {
    (&which.0, which.1, which.2)
}

/// `NAME@V/R`.
fn parse(rest: &[u8], key: &[u8]) -> Result<(ModelName, u32, u64), TxError> {
    let read = || {
        let (version, round) = std::str::from_utf8(rest).ok()?.rsplit_once('/')?;
        let (name, version) = version.rsplit_once('@')?;
        Some((name.parse().ok()?, version.parse().ok()?, round.parse().ok()?))
    };
    read().ok_or_else(|| crate::draft::broken(key, &"it names no round"))
}

fn disputed(rest: &[u8], key: &[u8]) -> Result<Disputed, TxError> {
    let read = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok());
    read.ok_or_else(|| crate::draft::broken(key, &"it names no dispute"))
}

/// How a validator stands, or stood, when its round is settled at `height`; `job` names the round, as [`round_job`] does. What is proved
/// later counts from the next round on. Verdicts are earlier: the settlement waits for them.
#[must_use]
pub fn conduct(round: &RoundState, job: &[u8], who: &NodeId, entry: &EntryState, height: u64) -> Conduct {
    let Some(found) = &entry.found else { return Conduct::Silent };
    let unopened = entry.opened.is_none() && opening::asked(round, job, who, found.counts.samples).is_some();
    let wrong = entry.contradicted.is_some_and(|at| at <= height) || entry.refuted.is_some_and(|at| at < height);
    if unopened || wrong {
        return Conduct::Refuted;
    }
    Conduct::Upheld(Finding {
        quality_ppm: found.quality_ppm,
        samples: found.counts.samples,
        dataset_root: found.counts.dataset_root,
        height: entry.place.height,
        index: entry.place.index,
    })
}

/// What a round comes to, from entries that say how each stood. Also an auditor's computation.
pub(crate) fn outcome(
    round: &RoundState,
    job: &[u8],
    entries: &[(NodeId, EntryState)],
    height: u64,
) -> (Outcome, Settled) {
    let aging = Aging::default();
    let (mut standings, mut verdicts) = (Vec::new(), [0u32; 3]);
    for (who, entry) in entries {
        let Some(Stood { stake, good, bad, history }) = entry.standing else { continue };
        let conduct = conduct(round, job, who, entry, height);
        if let (Conduct::Upheld(_), Some(found)) = (conduct, &entry.found) {
            let place = match found.verdict {
                Verdict::Positive => 0,
                Verdict::Negative => 1,
                Verdict::Abstain => 2,
            };
            verdicts[place] = u32::saturating_add(verdicts[place], 1);
        }
        let history = Cumulative { weighted: history.weighted, samples: history.samples, epoch: history.epoch };
        standings.push(Standing { validator: *who, stake, reputation: Reputation { good, bad }, history, conduct });
    }
    let settled = settle(&standings, height, &aging, &Reach::default());
    let score = settled.score;
    let samples = score.samples.saturating_mul(u64::from(PPM));
    let confidence_ppm = Cumulative { weighted: 0, samples, epoch: height / aging.epoch }.confidence_ppm(&aging);
    let outcome = Outcome {
        score_ppm: score.score_ppm,
        datasets: score.datasets,
        samples: score.samples,
        confidence_ppm,
        verdicts,
        height,
    };
    (outcome, settled)
}

/// The score of a version after a round: a round that came to none does not take an earlier one away.
pub(crate) fn score_after(before: Option<Score>, outcome: &Outcome) -> Score {
    let Outcome { score_ppm, verdicts, datasets, samples, height, .. } = *outcome;
    before.filter(|score| score_ppm.is_none() && score.score_ppm.is_some()).unwrap_or(Score {
        score_ppm,
        verdicts,
        datasets,
        samples,
        height,
    })
}

/// Settles a round that is at its end; while disputes over it are open it waits, and the end of the last of them brings it up again.
fn settle_round(
    draft: &mut Draft<'_>,
    at: &Context<'_>,
    (name, number, number_of_round): (&ModelName, u32, u64),
) -> Result<(), TxError> {
    let (height, job) = (at.height, round_job(name, number, number_of_round));
    let mut round = round::load(draft, name, number, number_of_round)?;
    if height <= round.end() {
        round.halted = draft.read::<Halt>(key::HALT)?.is_some_and(|halt| halt.height > round.draws);
    }
    if round.disputes > 0 {
        return draft.write(key::round(name, number, number_of_round), &round);
    }
    let earns = reward::earns(&round, &model::version(draft, name, number)?);
    let mut entries = round::entries(draft, &key::entries(name, number, number_of_round))?;
    for (who, entry) in &mut entries {
        let held = stake::held(draft, at, who)?;
        let history: FindingState = draft.read(&key::finding(name, number, who))?.unwrap_or_default();
        let stake = if round.staked { held.staked.min(bound(&round, entry)) } else { 1 };
        entry.standing = Some(Stood { stake, good: held.good, bad: held.bad, history });
        draft.write(key::entry(name, number, number_of_round, who), entry)?;
    }
    let (told, settled) = outcome(&round, &job, &entries, height);
    for ((who, entry), after) in entries.iter().zip(&settled.validators) {
        let mut held = stake::held(draft, at, who)?;
        (held.good, held.bad) = (after.reputation.good, after.reputation.bad);
        // What a conviction took of it is gone: what is staked since then does not answer for it.
        let bond = entry.bond.min(held.bonds).min(stake::liable(&held));
        held.bonds = held.bonds.saturating_sub(entry.bond);
        let conduct = conduct(&round, &job, who, entry, height);
        let fate = bond_of(conduct, entry, round.halted);
        let burned = if fate == Bond::Burned { bond } else { 0 };
        stake::burn(draft, who, &mut held, burned)?;
        match (conduct, after.shared, entry.standing) {
            // A proof or a verdict voided the epoch in which it came.
            (Conduct::Refuted, ..)
                if fate == Bond::Burned && entry.contradicted.is_none() && entry.refuted.is_none() =>
            {
                reward::void(draft, height, who)?;
            }
            (Conduct::Upheld(_), Some(shared), Some(stood)) if earns => {
                reward::note(draft, height, who, shared, (stood.stake, after.reputation))?;
            }
            _ => {}
        }
        let Cumulative { weighted, samples, epoch } = after.history;
        draft.write(key::finding(name, number, who), &FindingState { weighted, samples, epoch })?;
    }
    let before: Option<Score> = draft.read(&key::score(name, number))?;
    if before.is_some() || entries.iter().any(|(_, entry)| entry.found.is_some()) {
        draft.write(key::score(name, number), &score_after(before, &told))?;
    }
    round.outcome = Some(told);
    draft.write(key::round(name, number, number_of_round), &round)
}

/// The most stake for which a commitment's bond is enough: what is staked once others' figures can be seen does not weigh.
fn bound(round: &RoundState, entry: &EntryState) -> u64 {
    let most = u128::from(entry.bond).saturating_mul(u128::from(PPM)).checked_div(u128::from(round.bond_ppm));
    most.map_or(u64::MAX, |most| u64::try_from(most).unwrap_or(u64::MAX))
}

/// Who was contradicted or refuted loses its bond; who was silent, or did not open what it was asked to, unless the chain stood still meanwhile.
fn bond_of(conduct: Conduct, entry: &EntryState, halted: bool) -> Bond {
    if matches!(conduct, Conduct::Upheld(_)) {
        return Bond::Returned;
    }
    if entry.contradicted.is_some() || entry.refuted.is_some() {
        return Bond::Burned;
    }
    let (digest, height, index) = (entry.commitment, entry.place.height, entry.place.index);
    bond(&Entry::Committed { digest, height, index }, if halted { HALT_MS } else { 0 })
}
