//! The short form of `testnet/strangers/probe.py`, without root: what a daemon's two UDP ports answer to datagrams that are no connection,
//! and that it serves on after a megabyte of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use zero2ai_testnet::{Daemon, Network, faults::rng::Rng};

/// For an answer to come on loopback.
const QUIET: Duration = Duration::from_millis(300);

/// The daemon's ports of peer RPC and of the swarm.
fn ports(daemon: &Daemon) -> Vec<SocketAddr> {
    let status = daemon.json(&["status"]).unwrap();
    let texts = status["addresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned());
    let port = |text: String| {
        let udp = text.split_once("/udp/").map(|(_, rest)| rest.split('/').next().unwrap().to_owned());
        let digits = udp.unwrap_or_else(|| text.rsplit(':').next().unwrap().to_owned());
        SocketAddr::from(([127, 0, 0, 1], digits.parse().unwrap()))
    };
    let mut ports: Vec<SocketAddr> = texts.map(port).collect();
    ports.sort();
    ports.dedup();
    ports
}

/// Sends them, and gives the bytes that went and the datagrams that came.
fn probe(to: SocketAddr, datagrams: impl IntoIterator<Item = Vec<u8>>) -> (usize, Vec<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(QUIET)).unwrap();
    let mut sent = 0;
    for datagram in datagrams {
        sent += socket.send_to(&datagram, to).unwrap();
    }
    let (mut buffer, mut came) = ([0; 2048], Vec::new());
    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
        came.push(buffer[..length].to_vec());
    }
    (sent, came)
}

/// A long header of QUIC (RFC 8999, 5.1) with this version, padded to `length` with noise.
fn long_header(version: u32, length: usize, rng: &mut Rng) -> Vec<u8> {
    let mut datagram = vec![0xc0];
    datagram.extend(version.to_be_bytes());
    for _ in 0..2 {
        datagram.push(8);
        datagram.extend(rng.bytes(8));
    }
    datagram.extend(rng.bytes(length - datagram.len()));
    datagram
}

#[test]
fn strangers_get_less_than_they_send_and_the_daemon_serves_on() {
    let network = Network::start(1).unwrap();
    let daemon = &network.nodes[0];
    let ports = ports(daemon);
    assert_eq!(ports.len(), 2, "{ports:?}");
    let mut rng = Rng::new(7, 0);
    for port in ports {
        // RFC 8999: whoever does not know a version says which it knows, in fewer bytes than it got.
        let (sent, came) = probe(port, [long_header(0x1a2a_3a4a, 1200, &mut rng)]);
        let [negotiation] = came.as_slice() else { panic!("{} datagrams came", came.len()) };
        assert!(negotiation.len() * 3 < sent && negotiation[1..5] == [0; 4], "{negotiation:?}");
        // Too short for an Initial, or one that cannot be decrypted: nobody answers.
        for datagram in [long_header(1, 600, &mut rng), long_header(1, 1200, &mut rng), vec![0xc0; 20]] {
            assert!(probe(port, [datagram]).1.is_empty());
        }
        // Noise may look like an unknown version.
        let (sent, came) = probe(port, (0..1_000).map(|_| rng.bytes(1_000)));
        assert!(came.iter().map(Vec::len).sum::<usize>() * 100 < sent, "{} datagrams came", came.len());
    }
    assert_eq!(daemon.run(&["status"]).unwrap().code, 0);
}
