//! A transfer as text: which pieces are here, how fast it goes, and what each peer gives.

use zero2ai_proto::local::FetchPicture;

use crate::output::{bytes, plural};

/// Peers shown; the rest is one line.
const PEERS: usize = 8;

/// One character a part of the model, from nothing to all of it.
fn pieces(cells: &[u8]) -> String {
    let sign = |cell: &u8| match cell {
        0 => '·',
        1..=84 => '░',
        85..=169 => '▒',
        170..=254 => '▓',
        255 => '█',
    };
    cells.iter().map(sign).collect()
}

/// The state in one line: `1 of 7 chunks, 1.0 MB of 7.0 MB, 2.0 MB/s from 2 peers, 3 s left`.
pub(crate) fn summary(picture: &FetchPicture) -> String {
    let rate = picture.peers.iter().fold(0u64, |sum, p| sum.saturating_add(p.rate));
    let giving = picture.peers.iter().filter(|p| p.rate > 0).count() as u64;
    let left = picture.total_bytes.saturating_sub(picture.bytes).checked_div(rate);
    let left = left.map_or_else(String::new, |s| format!(", {s} s left"));
    format!(
        "{} of {} chunks, {} of {}, {}/s from {}{left}",
        picture.chunks,
        picture.total_chunks,
        bytes(picture.bytes),
        bytes(picture.total_bytes),
        bytes(rate),
        plural(giving, "peer"),
    )
}

/// The picture for a terminal: pieces, the state, a line a peer.
pub(crate) fn draw(picture: &FetchPicture) -> String {
    let mut lines = vec![format!("[{}]", pieces(&picture.cells)), summary(picture)];
    for peer in picture.peers.iter().take(PEERS) {
        lines.push(format!("  {}  {:>10}/s  {:>10}", peer.node.short(), bytes(peer.rate), bytes(peer.bytes)));
    }
    if let Some(more) = picture.peers.len().checked_sub(PEERS).filter(|n| *n > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::{ByteBuf, PublicKey, local::FetchPeer};

    use super::*;

    #[test]
    fn a_picture_shows_pieces_rates_and_peers() {
        let peer = |n: u8| FetchPeer { node: PublicKey([n; 32]), bytes: 1_000_000, rate: 500_000 };
        let mut picture = FetchPicture {
            chunks: 3,
            total_chunks: 7,
            bytes: 3_000_000,
            total_bytes: 7_000_000,
            cells: ByteBuf::from(vec![0, 1, 100, 200, 255]),
            peers: vec![peer(1), peer(2)],
        };
        let text = draw(&picture);
        assert!(text.starts_with("[·░▒▓█]\n3 of 7 chunks, "), "{text}");
        assert!(text.contains("from 2 peers, 4 s left") && text.lines().count() == 4, "{text}");
        picture.peers = (0..12).map(peer).collect();
        assert!(draw(&picture).ends_with("and 4 more"));
        picture.peers.clear();
        assert!(!draw(&picture).contains("left"), "no rate, no time");
    }
}
