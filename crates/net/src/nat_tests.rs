//! Peers that see this node here and there, relays that refuse and die, addresses that change.
#![allow(clippy::unwrap_used)]

use super::*;

const OWN: [u8; 4] = [192, 168, 1, 5];
const NAT: [u8; 4] = [5, 6, 7, 8];

fn nat() -> (Nat, Instant) {
    let mut nat = Nat::default();
    nat.listens([OWN.into(), [127, 0, 0, 1].into()].into_iter());
    (nat, Instant::now())
}

fn address(ip: [u8; 4]) -> Multiaddr {
    Multiaddr::from(IpAddr::from(ip)).with(Protocol::Udp(7000)).with(Protocol::QuicV1)
}

#[test]
fn on_one_network_nothing_is_behind_anything() {
    let (mut nat, now) = nat();
    assert_eq!((nat.reach(), nat.routable(), nat.relays()), (Reach::Unknown, true, false));
    nat.seen(PeerId::random(), OWN.into());
    nat.offers(PeerId::random(), Some(address([1, 1, 1, 1])), now);
    assert_eq!((nat.reach(), nat.routable(), nat.due(now).len()), (Reach::Unknown, true, 0));
    nat.confirmed(address(OWN));
    assert_eq!((nat.reach(), nat.routable(), nat.relays()), (Reach::Open, true, true));
}

#[test]
fn another_address_means_relays_until_it_was_dialled_back() {
    let (mut nat, now) = nat();
    let [observer, relay, other, third] = std::array::from_fn(|_| PeerId::random());
    nat.seen(observer, NAT.into());
    assert_eq!((nat.reach(), nat.routable()), (Reach::Behind, false));
    let inside = PeerId::random();
    nat.seen(inside, OWN.into());
    nat.offers(inside, Some(address(OWN)), now);
    assert!(nat.due(now).is_empty(), "who sees us as we see ourselves is on this side of the NAT");
    for peer in [relay, other, third] {
        nat.seen(peer, NAT.into());
        nat.offers(peer, Some(address([1, 1, 1, 1])), now);
    }
    assert_eq!(nat.due(now).len(), RELAYS);
    let [one, two] = [ListenerId::next(), ListenerId::next()];
    nat.asked(&relay, Some(one), now);
    nat.asked(&other, Some(two), now);
    assert!(nat.due(now).is_empty() && !nat.routable());
    nat.granted(one);
    assert!(nat.routable() && nat.reserved().eq([&relay]));
    nat.ended(two, now);
    assert_eq!(nat.due(now), [(third, address([1, 1, 1, 1]))], "who refused is not asked again at once");
    assert!(nat.stuck(now + 2 * ASKING).is_empty());
    nat.gone(&relay);
    assert!(!nat.routable());
    assert_eq!(nat.due(now + PAUSE).len(), RELAYS);
    nat.confirmed(address(NAT));
    assert_eq!((nat.reach(), nat.due(now + PAUSE).len()), (Reach::Open, 0));
    nat.expired(&address(NAT));
    assert_eq!(nat.reach(), Reach::Behind);
}

#[test]
fn a_confirmed_address_is_given_up_when_peers_see_this_node_elsewhere() {
    let (mut nat, now) = nat();
    nat.confirmed(address(NAT));
    nat.confirmed(address(OWN));
    assert!(nat.outlived(now).is_empty() && nat.outlived(now + 9 * ELSEWHERE).is_empty(), "nobody says anything");
    let [old, new] = [PeerId::random(), PeerId::random()];
    nat.seen(old, NAT.into());
    nat.seen(new, [9, 9, 9, 9].into());
    let later = now + 10 * ELSEWHERE;
    assert!(
        nat.outlived(later).is_empty() && nat.outlived(later + 2 * ELSEWHERE).is_empty(),
        "one sees it there still"
    );
    nat.seen(old, [9, 9, 9, 9].into());
    let moved = later + 2 * ELSEWHERE;
    assert!(nat.outlived(moved).is_empty(), "the others may only come later");
    assert_eq!(nat.outlived(moved + ELSEWHERE), [address(NAT)]);
    assert!(nat.external().eq([&address(OWN)]), "what this machine listens at stays");
    assert!(nat.outlived(moved + 2 * ELSEWHERE).is_empty());
    assert!(!nat.again(&address([9, 9, 9, 9])) && nat.again(&address(NAT)), "back where it was dialled once");
    assert_eq!(nat.external().count(), 2);
}

#[test]
fn who_cannot_see_a_confirmed_address_says_nothing_of_it() {
    let (mut nat, now) = nat();
    nat.confirmed(address(NAT));
    nat.seen(PeerId::random(), OWN.into());
    nat.seen(PeerId::random(), "2001:db8::9".parse().unwrap());
    assert!(nat.outlived(now).is_empty());
    assert!(nat.outlived(now + 9 * ELSEWHERE).is_empty(), "one on this network, and one over IPv6");
    nat.seen(PeerId::random(), [9, 9, 9, 9].into());
    assert!(nat.outlived(now + 9 * ELSEWHERE).is_empty());
    assert_eq!(nat.outlived(now + 10 * ELSEWHERE), [address(NAT)]);
}

#[test]
fn one_liar_takes_nobody_out_of_the_routing_tables() {
    let (mut nat, _) = nat();
    for _ in 0..2 {
        nat.seen(PeerId::random(), OWN.into());
    }
    nat.seen(PeerId::random(), NAT.into());
    assert_eq!((nat.reach(), nat.routable()), (Reach::Behind, true));
}

#[test]
fn a_relay_that_never_answers_is_given_up() {
    let (mut nat, now) = nat();
    let (relay, listener) = (PeerId::random(), ListenerId::next());
    nat.seen(relay, NAT.into());
    nat.offers(relay, Some(address([1, 1, 1, 1])), now);
    nat.asked(&relay, Some(listener), now);
    assert!(nat.stuck(now).is_empty());
    assert_eq!(nat.stuck(now + 2 * ASKING), [listener]);
    for failures in 0..20 {
        nat.ended(listener, now);
        assert!(nat.due(now).is_empty(), "{failures}");
        nat.asked(&relay, Some(listener), now);
    }
    nat.ended(listener, now);
    assert_eq!(nat.due(now + LONGEST_PAUSE).len(), 1);
}

#[test]
fn what_was_this_machines_own_is_given_up_when_no_interface_has_it_any_more() {
    let (mut nat, now) = nat();
    for n in 0..2 * u8::try_from(CONFIRMED).unwrap() {
        let [own, new] = [[7, 0, 0, n], [7, 0, 0, n + 1]];
        nat.listens([own.into()].into_iter());
        nat.confirmed(address(own));
        assert!(nat.external().eq([&address(own)]), "there is room for it, however many there were");
        assert!(nat.outlived(now).is_empty());
        nat.listens([new.into()].into_iter());
        nat.seen(PeerId::random(), new.into());
        assert!(nat.outlived(now).is_empty(), "an interface may be gone for a moment");
        assert_eq!(nat.outlived(now + ELSEWHERE), [address(own)]);
    }
    nat.listens([OWN.into()].into_iter());
    nat.confirmed(address(OWN));
    nat.listens(std::iter::empty());
    assert!(nat.outlived(now).is_empty());
    nat.listens([OWN.into()].into_iter());
    assert!(nat.outlived(now + ELSEWHERE).is_empty(), "it came back");
}

#[test]
fn one_observer_neither_takes_a_confirmed_address_away_nor_keeps_it() {
    let (mut nat, now) = nat();
    nat.confirmed(address(NAT));
    let [liar, one, two] = std::array::from_fn(|_| PeerId::random());
    for inner in [[192, 168, 0, 7], [100, 64, 0, 7], [100, 127, 255, 7]] {
        nat.seen(PeerId::random(), inner.into());
    }
    assert!(nat.outlived(now).is_empty() && nat.outlived(now + ELSEWHERE).is_empty(), "seen from within an outer NAT");
    nat.seen(one, NAT.into());
    nat.seen(liar, [9, 9, 9, 9].into());
    assert!(nat.outlived(now).is_empty() && nat.outlived(now + ELSEWHERE).is_empty(), "one against one");
    nat.seen(two, [9, 9, 9, 9].into());
    assert!(nat.outlived(now).is_empty());
    assert_eq!(nat.outlived(now + ELSEWHERE), [address(NAT)], "most see it elsewhere, whatever the other says");
}
