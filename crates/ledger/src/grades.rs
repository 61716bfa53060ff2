//! Typed reads of what rules 2 add to the state: stakes and records, the seed, rounds, convictions.

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{
    Digest, ModelName, NodeId, TxId, decode,
    state::{
        BallotState, ContradictionState, Conviction, DisputeState, Due, Endorsement, EntryState, EpochState,
        FindingState, GradersState, PotState, RewardState, Rights, RoundCount, RoundState, SeedState, StakeState,
        StakeTotal, VoteState, key,
    },
    tx::{Disputed, Graders, Grading},
};

use crate::{
    Ledger, TxError,
    draft::VALUE_BYTES,
    ledger::last_part,
    rules::{self, stake},
};

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

    /// Whether `who` may grade a version, whatever round it has.
    ///
    /// # Errors
    /// Why not, as a transaction of its would be refused.
    pub fn may_grade(&self, name: &ModelName, version: u32, who: &NodeId) -> Result<(), TxError> {
        let at = self.context(self.time_ms.saturating_add(1));
        let rights = self.member(who).ok_or(TxError::NotMember(*who))?.rights;
        let call = rules::Call { at: &at, who: *who, rights, id: TxId([0; 32]) };
        rules::may_grade(&self.draft(), &call, name, version).map(|_| ())
    }

    /// One dispute.
    #[must_use]
    pub fn dispute(&self, which: &Disputed) -> Option<DisputeState> {
        self.read(&key::dispute(which))
    }

    /// Disputes whose jury was drawn and whose ballots are not counted yet.
    #[must_use]
    pub fn voted_on(&self) -> Vec<Disputed> {
        let read = |(key, value): (&[u8], &[u8])| {
            let is_vote = decode::<Due>(value, VALUE_BYTES).is_ok_and(|due| due == Due::Count);
            let (_, which) =
                std::str::from_utf8(key).ok().filter(|_| is_vote)?.strip_prefix("due/")?.split_once('/')?;
            which.parse().ok()
        };
        self.scan(b"due/").filter_map(read).collect()
    }

    /// Whether a ballot of `who` over a disputed leaf would be taken in the next block: it was drawn and has not voted, or everyone who may
    /// grade the version votes now.
    #[must_use]
    pub fn may_vote(&self, which: &Disputed, who: &NodeId) -> bool {
        let at = self.context(self.time_ms.saturating_add(1));
        rules::may_vote(&self.draft(), &at, which, who).unwrap_or(false)
    }

    /// Every dispute there ever was, in order of key.
    #[must_use]
    pub fn disputes(&self) -> Vec<(Disputed, DisputeState)> {
        let read = |(key, value): (&[u8], &[u8])| {
            let which = std::str::from_utf8(key.strip_prefix(b"dispute/")?).ok()?.parse().ok()?;
            Some((which, decode(value, VALUE_BYTES).ok()?))
        };
        self.scan(b"dispute/").filter_map(read).collect()
    }

    /// The jury of an instance and what each said, in order of key; empty before the draw, and once the dispute is settled. At the last
    /// instance those who voted.
    #[must_use]
    pub fn ballots(&self, which: &Disputed, instance: u8) -> Vec<(NodeId, BallotState)> {
        let read = |(key, value)| Some((last_part(key)?, decode(value, VALUE_BYTES).ok()?));
        self.scan(&key::ballots(which, instance)).filter_map(read).collect()
    }

    /// What everybody claims of an epoch that is not paid yet.
    #[must_use]
    pub fn epoch(&self, end: u64) -> Option<EpochState> {
        self.read(&key::epoch(end))
    }

    /// What the end of the epoch divides.
    #[must_use]
    pub fn pot(&self) -> u64 {
        self.read::<PotState>(key::POT).unwrap_or_default().amount
    }

    /// What every validator shared and may claim in epochs that are not paid yet, with the height at which each ends: by that height and
    /// then by key.
    #[must_use]
    pub fn rewards(&self) -> Vec<(u64, NodeId, RewardState)> {
        self.by_height(b"reward/")
    }

    /// Every conviction with the height at which it is charged, by that height and then by key.
    #[must_use]
    pub fn convictions(&self) -> Vec<(u64, NodeId, Conviction)> {
        self.by_height(b"convicted/")
    }

    /// Entries under `PREFIX/HEIGHT/KEY`.
    fn by_height<T: Serialize + DeserializeOwned>(&self, prefix: &[u8]) -> Vec<(u64, NodeId, T)> {
        let read = |(key, value): (&[u8], &[u8])| {
            let (height, who) = std::str::from_utf8(key.strip_prefix(prefix)?).ok()?.split_once('/')?;
            Some((height.parse().ok()?, who.parse().ok()?, decode(value, VALUE_BYTES).ok()?))
        };
        let mut all: Vec<(u64, NodeId, T)> = self.scan(prefix).filter_map(read).collect();
        all.sort_by_key(|(height, who, _)| (*height, *who));
        all
    }
}
