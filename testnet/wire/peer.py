"""Peer RPC over QUIC, written from proto/README.md: the connection, the pool proof, and calls. It knows no method.

`aioquic` does what is needed of TLS: with `verify_mode = CERT_NONE` it still checks the handshake's own signature against
the key in the peer's certificate, and only leaves out names, dates and issuers, which mean nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hmac
import os
import socket
import ssl

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StreamReset
from blake3 import blake3
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shapes import CHALLENGE, HELLO, PROOF, REPLY
from verify import need, tagged_hash
from wire import Bad, decode, encode

ALPN = "zero2ai/1"
VERSION = 1
HANDSHAKE_BYTES = 256
FRAME_BYTES = 4 << 20
#: Seconds for TLS and the proof together; a node allows five.
HANDSHAKE = 10


class Closed(Exception):
    """The node closed the connection; `code` is one of those in the wire document, or None if it was not the node."""

    def __init__(self, code: int | None, reason: str):
        super().__init__(f"the connection is closed: code {code} {reason}")
        self.code = code


class Refused(Exception):
    """A call failed; `code` is a name of the wire document's ErrorCode, in lower case."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


def raw_public(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def self_signed(key: Ed25519PrivateKey) -> x509.Certificate:
    """A certificate of which nothing but the key counts."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "zero2ai")])
    begin = datetime.datetime(1975, 1, 1)
    return (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(begin).not_valid_after(datetime.datetime(4096, 1, 1)).sign(key, None)
    )


def identity_of(certificate: x509.Certificate) -> bytes:
    """The node in a self-signed Ed25519 certificate."""
    key = certificate.public_key()
    need(isinstance(key, Ed25519PublicKey), "the node's certificate", "does not carry an Ed25519 key")
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature as error:
        raise Bad("the node's certificate", "is not signed by its own key") from error
    return raw_public(key)


def pool_proof(pool: bytes, pool_key, role: int, keys: tuple[bytes, bytes], nonces: tuple[bytes, bytes]) -> bytes:
    """The proof of the dialler (role 0) or the listener (role 1); keys and nonces are the dialler's, then the listener's."""
    bound = pool + pool_key.epoch.to_bytes(4, "big") + bytes([1, role]) + b"".join(keys) + b"".join(nonces)
    return blake3(bound, key=tagged_hash("zero2ai pool proof v1", pool_key.secret)).digest()


class Peer(QuicConnectionProtocol):
    """A proven connection to one node. Made by `dial`."""

    node: bytes
    ended: ConnectionTerminated | None = None

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self.ended = event
        elif isinstance(event, StreamReset) and event.stream_id in self._stream_readers:
            self._stream_readers[event.stream_id].feed_eof()
        super().quic_event_received(event)

    async def read_frame(self, reader: asyncio.StreamReader, at_most: int) -> bytes:
        try:
            length = int.from_bytes(await reader.readexactly(4), "big")
            need(length <= at_most, "a frame", f"has {length} bytes, more than {at_most}")
            return await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            await asyncio.sleep(0)  # the event that tells why may be next in line
            code = self.ended.error_code if self.ended and self.ended.frame_type is None else None
            raise Closed(code, self.ended.reason_phrase if self.ended else "the stream was reset") from error

    @staticmethod
    def write_frame(writer: asyncio.StreamWriter, value: dict):
        data = encode(value)
        writer.write(len(data).to_bytes(4, "big") + data)

    async def prove(self, me: bytes, pool: bytes, pool_key):
        """The first stream: both ends prove the pool key, then say hello."""
        reader, writer = await self.create_stream()
        mine = os.urandom(32)
        self.write_frame(writer, {0: mine, 1: pool_key.epoch})
        theirs = decode(CHALLENGE, await self.read_frame(reader, HANDSHAKE_BYTES), "the node's challenge")
        bound = (me, self.node), (mine, theirs.nonce)
        self.write_frame(writer, {0: pool_proof(pool, pool_key, 0, *bound)})
        proof = decode(PROOF, await self.read_frame(reader, HANDSHAKE_BYTES), "the node's proof")
        right = hmac.compare_digest(proof.mac, pool_proof(pool, pool_key, 1, *bound))
        need(right, "the node's proof", "is wrong: it does not know the pool's key")
        hello = decode(HELLO, await self.read_frame(reader, HANDSHAKE_BYTES), "the node's hello")
        need(hello.pool == pool, "the node's hello", "is of another pool")
        need(hello.min_version <= VERSION <= hello.max_version, "the node's hello", "has no version in common with us")
        self.write_frame(writer, {0: pool, 1: VERSION, 2: VERSION, 3: 0})
        writer.write_eof()

    async def stream(self, method: int, request: dict, timeout: float):
        """A call: yields the encoded items of the answer. Leaving early resets the stream, which stops the work."""
        reader, writer = await self.create_stream()
        self.write_frame(writer, {0: method, 1: int(timeout * 1000), 2: encode(request)})
        writer.write_eof()
        number, over = writer.get_extra_info("stream_id"), False
        try:
            while True:
                frame = await asyncio.wait_for(self.read_frame(reader, FRAME_BYTES), timeout)
                kind, content = decode(REPLY, frame, "a reply")
                over = kind != "item"
                if kind == "end":
                    return
                if kind == "error":
                    raise Refused(content.code[0], content.message)
                yield content
        finally:
            if not over and self.ended is None:
                with contextlib.suppress(ValueError):  # the stream is over after all
                    self._quic.stop_stream(number, 0)
                self.transmit()

    async def call(self, method: int, request: dict, timeout: float) -> bytes:
        """A call of a method with one answer."""
        items = [item async for item in self.stream(method, request, timeout)]
        need(len(items) == 1, f"the answer to method {method}", f"has {len(items)} items where one is due")
        return items[0]

    async def hang_up(self):
        self.close(0)
        await self.wait_closed()
        self._transport.close()


async def dial(address: str, expect: bytes, key: Ed25519PrivateKey, pool: bytes, pool_key) -> Peer:
    """Connects to `ip:port`, insists on the node `expect`, and proves the pool's key both ways."""
    host, _, port = address.rpartition(":")
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE, idle_timeout=60.0)
    configuration.certificate, configuration.private_key = self_signed(key), key
    loop = asyncio.get_running_loop()
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    _, peer = await loop.create_datagram_endpoint(lambda: Peer(QuicConnection(configuration=configuration)), family=family)
    peer.connect((host, int(port)))
    try:
        async with asyncio.timeout(HANDSHAKE):
            await peer.wait_connected()
            # aioquic has no public name for it.
            peer.node = identity_of(peer._quic.tls._peer_certificate)
            need(peer.node == expect, "the node", f"is {peer.node.hex()}, not the {expect.hex()} that was dialled")
            await peer.prove(raw_public(key.public_key()), pool, pool_key)
    except BaseException:
        peer.close(1)
        peer._transport.close()
        raise
    return peer
