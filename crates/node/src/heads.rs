//! How often this node gossips its head and its addresses. Every node's word goes to every other one, so in a large pool with
//! nothing new to say that is most of what an idle node sends: the more peers there are, the rarer it becomes.

use std::time::Duration;

use tokio::time::Instant;
use zero2ai_proto::record::Address;

/// With so many peers or fewer, whatever the chain wants to say is said: every two seconds.
const FEW: usize = 8;
/// With more than so many, somebody comes all the time, and hears within [`RAREST`] what he has not heard.
const MANY: usize = 32;
/// Rarest: twice within the fifteen seconds after which a silent node counts as away.
const RAREST: Duration = Duration::from_secs(5);
/// What each peer beyond [`FEW`] makes it rarer by: thirty-two of them are the rarest.
const EACH: Duration = Duration::from_millis(125);

/// What others should know of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) height: u64,
    pub(crate) addresses: Vec<Address>,
    /// Connected: somebody new has heard nothing yet.
    pub(crate) peers: usize,
}

/// What they were told last, and when.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<(News, Instant)>);

impl Told {
    /// True if this is to be told now; then it counts as told.
    pub(crate) fn is_due(&mut self, news: News, now: Instant) -> bool {
        let due = match &self.0 {
            None => true,
            Some((last, at)) => {
                let came = last.peers < news.peers && news.peers <= MANY;
                let new = last.height != news.height || last.addresses != news.addresses || came;
                new || now.saturating_duration_since(*at) >= pause(news.peers)
            }
        };
        match &mut self.0 {
            _ if due => self.0 = Some((news, now)),
            // One who left and comes back is new again.
            Some((last, _)) => last.peers = last.peers.min(news.peers),
            None => {}
        }
        due
    }
}

/// The least time between two announcements with nothing new in them.
fn pause(peers: usize) -> Duration {
    let beyond = u32::try_from(peers.saturating_sub(FEW)).unwrap_or(u32::MAX);
    if beyond == 0 {
        return Duration::ZERO;
    }
    EACH.saturating_mul(beyond).saturating_add(Duration::from_secs(1)).min(RAREST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(height: u64, peers: usize) -> News {
        News { height, addresses: vec![Address::Rpc("10.0.0.1:7000".into())], peers }
    }

    #[test]
    fn in_a_small_pool_everything_is_said_and_in_a_large_one_only_news_and_a_sign_of_life() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut few = Told::default();
        assert!((0..10_u32).all(|n| few.is_due(news(1, 8), start + second * n)));
        let mut many = Told::default();
        let said = (0..60_u32).step_by(2).filter(|n| many.is_due(news(1, 63), start + second * *n)).count();
        assert_eq!(said, 10, "every six seconds, of a chain that asks every two");
    }

    #[test]
    fn what_is_new_is_said_at_once() {
        let now = Instant::now();
        let mut told = Told::default();
        assert!(told.is_due(news(1, 31), now));
        assert!(!told.is_due(news(1, 31), now));
        assert!(told.is_due(news(2, 31), now), "a block");
        assert!(told.is_due(news(2, 32), now), "a newcomer");
        assert!(!told.is_due(news(2, 31), now), "one left");
        assert!(told.is_due(news(2, 32), now), "and came back");
        let moved = News { addresses: Vec::new(), ..news(2, 32) };
        assert!(told.is_due(moved, now), "an address");
        assert!(!told.is_due(News { peers: 33, addresses: Vec::new(), ..news(2, 32) }, now), "one more of many");
    }
}
