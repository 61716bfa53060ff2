//! Typed reads of what rules 2 add to the state: stakes and records, the seed, rounds, convictions.

use zero2ai_proto::{
    Digest, ModelName, NodeId, decode,
    state::{
        ContradictionState, Conviction, Endorsement, EntryState, FindingState, GradersState, Rights, RoundCount,
        RoundState, SeedState, StakeState, StakeTotal, VoteState, key,
    },
    tx::{Graders, Grading},
};

use crate::{Ledger, draft::VALUE_BYTES, ledger::last_part, rules::stake};

impl Ledger {
    /// What a member has, as of the next block, and its record as a validator: a newcomer's where nothing is known.
    #[must_use]
    pub fn stake(&self, member: &NodeId) -> StakeState {
        let held = self.read(&key::stake(member)).unwrap_or_else(stake::none);
        stake::thawed(held, self.height().saturating_add(1))
    }

    /// Everyone who has or had something, or a record; in order of key.
    #[must_use]
    pub fn stakes(&self) -> Vec<(NodeId, StakeState)> {
        self.scan(b"stake/").filter_map(|(key, _)| last_part(key)).map(|who| (who, self.stake(&who))).collect()
    }

    /// All stakes together; `None` while nothing was allotted, and everyone weighs one.
    #[must_use]
    pub fn stake_total(&self) -> Option<StakeTotal> {
        self.read(key::STAKES)
    }

    /// How rounds that are opened next are graded.
    #[must_use]
    pub fn grading(&self) -> Grading {
        self.read(key::GRADING).unwrap_or_default()
    }

    /// The newest seed.
    #[must_use]
    pub fn seed(&self) -> Digest {
        self.read::<SeedState>(key::SEED).map_or(Digest(self.pool().0), |state| state.seed)
    }

    /// How many rounds were opened for a version.
    #[must_use]
    pub fn rounds(&self, name: &ModelName, version: u32) -> u64 {
        self.read::<RoundCount>(&key::rounds(name, version)).map_or(0, |count| count.newest)
    }

    /// One round of a version, from 1.
    #[must_use]
    pub fn round(&self, name: &ModelName, version: u32, round: u64) -> Option<RoundState> {
        self.read(&key::round(name, version, round))
    }

    /// What one validator did in a round.
    #[must_use]
    pub fn entry(&self, name: &ModelName, version: u32, round: u64, validator: &NodeId) -> Option<EntryState> {
        self.read(&key::entry(name, version, round, validator))
    }

    /// Everyone who committed to something in a round, in order of key.
    #[must_use]
    pub fn entries(&self, name: &ModelName, version: u32, round: u64) -> Vec<(NodeId, EntryState)> {
        self.scan(&key::entries(name, version, round))
            .filter_map(|(key, value)| Some((last_part(key)?, decode(value, VALUE_BYTES).ok()?)))
            .collect()
    }

    /// What was revealed in a round.
    pub(crate) fn revealed(&self, name: &ModelName, version: u32, round: u64) -> Vec<(NodeId, Endorsement)> {
        let entries = self.entries(name, version, round).into_iter();
        entries.filter_map(|(who, entry)| Some((who, entry.found?))).collect()
    }

    /// What one validator found of a version over all settled rounds.
    #[must_use]
    pub fn finding(&self, name: &ModelName, version: u32, validator: &NodeId) -> FindingState {
        self.read(&key::finding(name, version, validator)).unwrap_or_default()
    }

    /// What proves a validator's counts of a round wrong.
    #[must_use]
    pub fn contradiction(
        &self,
        name: &ModelName,
        version: u32,
        round: u64,
        validator: &NodeId,
    ) -> Option<ContradictionState> {
        self.read(&key::contradiction(name, version, round, validator))
    }

    /// Behind whom each member put its stake, and that stake as of the next block; in order of the members' keys.
    #[must_use]
    pub fn votes(&self) -> Vec<(NodeId, NodeId, u64)> {
        let staked = self.stake_total().is_some();
        let read = |(key, value): (&[u8], &[u8])| {
            let (voter, vote) = (last_part(key)?, decode::<VoteState>(value, VALUE_BYTES).ok()?);
            self.member(&voter).filter(|member| member.rights != Rights(0))?;
            Some((voter, vote.candidate?, if staked { self.stake(&voter).staked } else { 1 }))
        };
        self.scan(b"vote/").filter_map(read).collect()
    }

    /// Who may grade a model, as its owner said.
    #[must_use]
    pub fn graders(&self, name: &ModelName) -> Graders {
        self.read::<GradersState>(&key::graders(name)).map_or(Graders::Everyone, |state| state.graders)
    }

    /// Every conviction with the height at which it is charged, by that height and then by key.
    #[must_use]
    pub fn convictions(&self) -> Vec<(u64, NodeId, Conviction)> {
        let read = |(key, value): (&[u8], &[u8])| {
            let (end, who) = std::str::from_utf8(key.strip_prefix(b"convicted/")?).ok()?.split_once('/')?;
            Some((end.parse().ok()?, who.parse().ok()?, decode(value, VALUE_BYTES).ok()?))
        };
        let mut all: Vec<(u64, NodeId, Conviction)> = self.scan(b"convicted/").filter_map(read).collect();
        all.sort_by_key(|(end, who, _)| (*end, *who));
        all
    }
}
