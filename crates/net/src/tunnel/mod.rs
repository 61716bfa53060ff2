//! Datagrams to a member over whatever connection the swarm has with it: for peers that no UDP packet of peer RPC reaches
//! directly. What the datagrams are, this crate does not know; the node puts peer RPC's QUIC packets in, so that identity,
//! pool proof and encryption are those of peer RPC, from end to end.
//!
//! On the wire it is one stream of the protocol `/zero2ai/POOL/tunnel/1`, and on it each datagram in either direction as
//! its length (u16, big-endian, 1 to [`DATAGRAM_BYTES`]) and its bytes. There is no target in it: a tunnel leads to the
//! node that accepts it, and to the one place where that node puts it.
//!
//! The stream is reliable and the datagrams do their own retransmission on top: a loss on the way delays all behind
//! it, and two congestion controls, one inside the other, react to it. Correct, and slower than a direct path. Whoever
//! sends should drop what does not fit a short queue, as a router would.

mod behaviour;

use std::{io, sync::Arc};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    io::{BufReader, ReadHalf, WriteHalf},
};
use libp2p::Stream;

pub(crate) use behaviour::{Event, Tunnels};

/// Largest datagram that a tunnel takes: peer RPC's are 1,452 bytes at most.
pub const DATAGRAM_BYTES: usize = 2_048;
/// Bytes read at once.
const READ: usize = 32 * 1024;

/// Datagrams to and from one member. Dropping both halves closes it.
#[derive(Debug)]
pub struct Tunnel {
    stream: Stream,
    relayed: bool,
    in_use: InUse,
}

/// Held by both halves of each tunnel of a connection: while it is, the connection is not let go.
pub(crate) type InUse = Arc<()>;

impl Tunnel {
    pub(crate) fn new(stream: Stream, relayed: bool, in_use: InUse) -> Self {
        Self { stream, relayed, in_use }
    }

    /// True if it goes through a relay, whose bytes are to be spared.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Its two halves.
    #[must_use]
    pub fn split(self) -> (TunnelSender, TunnelReceiver) {
        let (read, write) = self.stream.split();
        (
            TunnelSender { stream: write, batch: Vec::new(), _in_use: Arc::clone(&self.in_use) },
            TunnelReceiver { stream: BufReader::with_capacity(READ, read), _in_use: self.in_use },
        )
    }
}

/// The sending half of a [`Tunnel`].
#[derive(Debug)]
pub struct TunnelSender<S = WriteHalf<Stream>> {
    stream: S,
    batch: Vec<u8>,
    _in_use: InUse,
}

impl<S: AsyncWrite + Unpin> TunnelSender<S> {
    /// Sends these datagrams, as one write. Waits while the other end takes none.
    ///
    /// # Errors
    /// The tunnel is broken, or a datagram is empty or longer than [`DATAGRAM_BYTES`] (nothing is sent then).
    pub async fn send(&mut self, datagrams: impl IntoIterator<Item = impl AsRef<[u8]>>) -> io::Result<()> {
        self.batch.clear();
        for datagram in datagrams {
            let bytes = datagram.as_ref();
            let length = u16::try_from(bytes.len()).ok().filter(|n| (1..=DATAGRAM_BYTES).contains(&usize::from(*n)));
            let length = length.ok_or_else(|| wrong(bytes.len()))?;
            self.batch.extend_from_slice(&length.to_be_bytes());
            self.batch.extend_from_slice(bytes);
        }
        self.stream.write_all(&self.batch).await?;
        self.stream.flush().await
    }
}

/// The receiving half of a [`Tunnel`].
#[derive(Debug)]
pub struct TunnelReceiver<S = ReadHalf<Stream>> {
    stream: BufReader<S>,
    _in_use: InUse,
}

impl<S: AsyncRead + Unpin> TunnelReceiver<S> {
    /// The next datagram, at the beginning of `buffer`. Not to be dropped half-way: the rest would be read as a length.
    ///
    /// # Errors
    /// The tunnel has ended, or the other end sends what is no datagram.
    pub async fn receive<'b>(&mut self, buffer: &'b mut [u8; DATAGRAM_BYTES]) -> io::Result<&'b [u8]> {
        let mut length = [0; 2];
        self.stream.read_exact(&mut length).await?;
        let length = usize::from(u16::from_be_bytes(length));
        let bytes = buffer.get_mut(..length).filter(|b| !b.is_empty()).ok_or_else(|| wrong(length))?;
        self.stream.read_exact(bytes).await?;
        Ok(bytes)
    }
}

fn wrong(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a datagram of {length} bytes; 1 to {DATAGRAM_BYTES} are allowed"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::{executor::block_on, io::Cursor};
    use proptest::prelude::*;

    use super::*;

    fn sent(datagrams: &[Vec<u8>]) -> io::Result<Vec<u8>> {
        let mut sender = TunnelSender { stream: Cursor::new(Vec::new()), batch: Vec::new(), _in_use: InUse::default() };
        block_on(sender.send(datagrams))?;
        Ok(sender.stream.into_inner())
    }

    /// All datagrams in these bytes, and the error that ends them.
    fn received(bytes: &[u8]) -> (Vec<Vec<u8>>, io::ErrorKind) {
        let mut receiver = TunnelReceiver { stream: BufReader::new(Cursor::new(bytes)), _in_use: InUse::default() };
        let (mut buffer, mut all) = ([0; DATAGRAM_BYTES], Vec::new());
        loop {
            match block_on(receiver.receive(&mut buffer)) {
                Ok(datagram) => all.push(datagram.to_vec()),
                Err(error) => return (all, error.kind()),
            }
        }
    }

    #[test]
    fn what_is_no_datagram_is_refused_at_either_end() {
        assert_eq!(sent(&[vec![7, 8], vec![9]]).unwrap(), [0, 2, 7, 8, 0, 1, 9]);
        for bad in [vec![], vec![0; DATAGRAM_BYTES + 1], vec![0; 70_000]] {
            assert_eq!(sent(&[vec![1], bad]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let too_long = [8, 1, 0, 0];
        for bad in [&[0, 0][..], &too_long, &[255, 255, 1]] {
            assert_eq!(received(bad), (vec![], io::ErrorKind::InvalidData));
        }
        assert_eq!(received(&[0, 3, 1, 2]), (vec![], io::ErrorKind::UnexpectedEof));
    }

    proptest! {
        #[test]
        fn datagrams_arrive_as_they_were(all in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=DATAGRAM_BYTES), 0..9)) {
            prop_assert_eq!(received(&sent(&all).unwrap()), (all, io::ErrorKind::UnexpectedEof));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4_096)) {
            prop_assert!(received(&bytes).0.iter().all(|d| (1..=DATAGRAM_BYTES).contains(&d.len())));
        }
    }
}
