//! How often this node gossips its head and its addresses. Every node's word goes to every other one, so that is most of what an
//! idle node sends. What is the same from everybody, the head, is said by a few and left out by whoever heard them say it (the
//! Trickle algorithm, RFC 6206, section 4.2); what each must say himself, that he is there and where, is said the more rarely the
//! more members there are: together they say it twice a second.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use zero2ai_proto::{NodeId, record::Address};

/// With so many members or fewer, whatever the chain wants to say is said: every two seconds, and with each block.
const FEW: usize = 8;
/// With more peers than this, somebody comes all the time: he hears a head at once, from a few, and within [`pause`] where this node is.
/// Told to no more than so many, this node has hardly introduced itself: whoever then comes is told at once.
const SOME: usize = 16;
/// What each member makes the sign of life rarer by. Less, and a large pool talks all the time; more, and who joins knows later where
/// all others are.
const EACH: Duration = Duration::from_millis(500);
/// Rarest: beyond 240 members the pool talks more.
const RAREST: Duration = Duration::from_secs(120);
/// A head that so many others told need not be told again (RFC 6206's redundancy constant). They may be liars, all of them: then honest
/// signs of life tell it still, and who fetches blocks asks others than the one who spoke of them.
const TOLD_ENOUGH: usize = 4;
/// Heads so much above this node's own are remembered; higher ones, which may be lies, hinder nothing.
const AHEAD: u64 = 16;
/// After this long without a word a member counts as away, or after three signs of life that did not come.
const AWAY: Duration = Duration::from_secs(15);
/// See [`introductions`].
const INTRODUCTIONS: Duration = Duration::from_secs(5);
/// The chain asks every two seconds, so that a sign of life comes up to so much later than it is due; and its way.
const ASKED: Duration = Duration::from_secs(3);
/// Members heard of within so long are counted: three of the rarest signs of life, less the last one's way.
pub(crate) const COUNTED: Duration = Duration::from_secs(300);

/// What others should know of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) height: u64,
    pub(crate) addresses: Vec<Address>,
    /// Connected: somebody new has heard nothing yet.
    pub(crate) peers: usize,
    /// Heard of within [`COUNTED`], or connected.
    pub(crate) members: usize,
}

/// What others were told last, and what they tell.
#[derive(Debug, Default)]
pub(crate) struct Told {
    last: Option<(News, Instant)>,
    /// The height that this was asked about last: this node's own.
    own: u64,
    /// Somebody came who may have heard no head yet.
    newcomer: bool,
    /// Who told this height and those above it, to a newcomer too: so many as are enough.
    others: BTreeMap<u64, BTreeSet<NodeId>>,
}

impl Told {
    /// Somebody else told his head.
    pub(crate) fn heard(&mut self, author: NodeId, height: u64) {
        if (self.own..=self.own.saturating_add(AHEAD)).contains(&height) {
            let by = self.others.entry(height).or_default();
            if by.len() < TOLD_ENOUGH {
                by.insert(author);
            }
        }
    }

    /// True if this is to be told now; then it counts as told. Asked with each block, and every two seconds: nodes whose seconds begin at
    /// different times do not speak at once.
    pub(crate) fn is_due(&mut self, news: News, now: Instant) -> bool {
        let first = std::mem::replace(&mut self.own, news.height) != news.height;
        self.others = self.others.split_off(&news.height);
        let told = self.others.get(&news.height).is_some_and(|by| by.len() >= TOLD_ENOUGH);
        let due = match &mut self.last {
            None => true,
            Some((last, at)) => {
                let (came, few_heard) = (last.peers < news.peers, last.peers <= SOME);
                let few = news.members <= FEW;
                // A block that has just come, or somebody who has, is left to those whose turn is sooner.
                let head = (last.height != news.height || self.newcomer) && !told && !first;
                self.newcomer &= !told;
                if came && news.peers > SOME {
                    (self.newcomer, last.peers) = (true, news.peers);
                    self.others.remove(&news.height);
                }
                let block = head || (few && last.height != news.height);
                let pause = if few { Duration::ZERO } else { pause(news.members) };
                block
                    || (came && few_heard)
                    || last.addresses != news.addresses
                    || now.saturating_duration_since(*at) >= pause
            }
        };
        match &mut self.last {
            // What is said while nobody is there is told to nobody.
            _ if due && news.peers > 0 => (self.last, self.newcomer) = (Some((news, now)), false),
            // One who left and comes back is new again.
            Some((last, _)) => last.peers = last.peers.min(news.peers),
            None => {}
        }
        due
    }
}

/// How many members speak, as a node knows that has run for so long: at first it has heard of few of them, and takes all that the ledger
/// has; later, those it heard of, as the others do.
pub(crate) fn speaking(heard: usize, ledger: usize, runs: Duration) -> usize {
    if runs < COUNTED { heard.max(ledger) } else { heard }
}

/// The time between two announcements with nothing new in them, of so many members.
fn pause(members: usize) -> Duration {
    EACH.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX)).min(RAREST)
}

/// How long it takes until everyone of so many has said where he is, to somebody who came just now. In a small pool, more than two
/// announcements.
pub(crate) fn introductions(members: usize) -> Duration {
    let rest = if members <= FEW { Duration::ZERO } else { pause(members) };
    INTRODUCTIONS.max(rest + ASKED)
}

/// How long a member of so many may say nothing before he counts as away.
pub(crate) fn away(members: usize) -> Duration {
    AWAY.max(pause(members) * 3)
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::PublicKey;

    use super::*;

    fn news(height: u64, peers: usize) -> News {
        News { height, addresses: vec![Address::Rpc("10.0.0.1:7000".into())], peers, members: peers }
    }

    #[test]
    fn in_a_small_pool_everything_is_said_and_in_a_large_one_only_news_and_a_sign_of_life() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut few = Told::default();
        assert!((0..10_u32).all(|n| few.is_due(news(1, 8), start + second * n)));
        for (members, rest) in [(24, 12), (64, 32), (1_000, 120)] {
            let mut many = Told::default();
            let said = (0..1_200_u32).step_by(2).filter(|n| many.is_due(news(1, members), start + second * *n)).count();
            assert_eq!(u32::try_from(said), Ok(1_200_u32.div_ceil(rest)), "{members} members");
            assert!(away(members) >= second * 3 * rest, "and nobody takes it for away");
        }
        assert_eq!((away(3), introductions(3)), (AWAY, INTRODUCTIONS));
        assert_eq!(introductions(64), second * 35, "all of them have spoken once by then");
    }

    #[test]
    fn members_that_are_away_are_waited_for_only_while_this_node_cannot_know_it() {
        let patience = |runs| introductions(speaking(5, 240, runs));
        assert_eq!(patience(Duration::ZERO), introductions(240), "it may have heard of five of them as yet");
        assert_eq!(patience(COUNTED), INTRODUCTIONS, "the five speak every two seconds");
        assert_eq!(speaking(5, 3, Duration::ZERO), 5, "one may hear of a member before the ledger says so");
    }

    fn member(n: usize) -> NodeId {
        PublicKey([u8::try_from(n).unwrap_or_default(); 32])
    }

    #[test]
    fn a_block_is_told_by_a_few_and_again_when_they_are_silent() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_due(news(1, 40), now));
        assert!(!told.is_due(news(2, 40), now), "it has just come: somebody's turn is sooner");
        (1..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 2));
        assert!(told.is_due(news(2, 40), now), "one too few told it");
        (0..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 3));
        told.heard(member(9), 1);
        assert!((0..5).all(|_| !told.is_due(news(3, 40), now)), "they all know, some before this node did");
        let mut few = Told::default();
        assert!((1..9).all(|height| few.is_due(news(height, 8), now)), "in a small pool each block is told");
    }

    #[test]
    fn one_member_silences_nobody_and_is_not_remembered_without_end() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_due(news(1, 40), now));
        for height in (0..100).chain(u64::MAX - 100..=u64::MAX) {
            (0..10).for_each(|_| told.heard(member(1), height));
        }
        assert!(told.others.len() <= 17 && told.others.values().all(|by| by.len() == 1));
        assert!(!told.is_due(news(2, 40), now) && told.is_due(news(2, 40), now), "however often he says it");
        assert!(told.others.keys().all(|height| *height >= 2));
    }

    #[test]
    fn a_newcomer_hears_a_head_from_a_few_of_many() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_due(news(1, 40), now));
        (0..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 1));
        assert!(!told.is_due(news(1, 41), now), "he has just come: somebody's turn is sooner");
        assert!(told.is_due(news(1, 41), now), "what was told before he came he did not hear");
        assert!(!told.is_due(news(1, 41), now), "once");
        assert!(!told.is_due(news(1, 42), now));
        (0..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 1));
        assert!((0..9).all(|_| !told.is_due(news(1, 42), now)), "others told it to the next one");
    }

    #[test]
    fn what_is_new_is_said_at_once() {
        let now = Instant::now();
        let mut told = Told::default();
        assert!(told.is_due(news(1, 15), now));
        assert!(!told.is_due(news(1, 15), now));
        assert!(told.is_due(news(1, 16), now), "a newcomer");
        assert!(!told.is_due(news(1, 15), now), "one left");
        assert!(told.is_due(news(1, 16), now), "and came back");
        assert!(told.is_due(news(1, 17), now), "one more than few");
        assert!(!told.is_due(news(1, 18), now), "one more of many");
        assert!(told.is_due(news(1, 18), now), "to whom nobody else told the head");
        let moved = News { addresses: Vec::new(), ..news(1, 18) };
        assert!(told.is_due(moved, now), "an address");
    }

    #[test]
    fn who_starts_among_many_introduces_himself_though_others_tell_the_head() {
        for alone in [0, 3] {
            let (mut told, now) = (Told::default(), Instant::now());
            assert!(told.is_due(news(1, alone), now), "to nobody, or to a few");
            (0..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 1));
            assert!(told.is_due(news(1, 20), now), "all but {alone} do not know where this node is");
            (0..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 1));
            assert!(!told.is_due(news(1, 20), now) && !told.is_due(news(1, 21), now), "once");
        }
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(told.is_due(news(1, 40), now));
        assert!(!told.is_due(News { members: 40, ..news(1, 0) }, now), "all of them left");
        (0..TOLD_ENOUGH).for_each(|n| told.heard(member(n), 1));
        assert!(told.is_due(news(1, 40), now), "and came back");
    }
}
