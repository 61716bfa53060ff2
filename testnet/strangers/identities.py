"""Certificates of strangers, and frames of the pool proof: what somebody can make who has read the page and holds no key."""

from __future__ import annotations

import datetime

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

#: libp2p's extension: a SignedKey, by which the certificate's key is vouched for by the identity's (libp2p specs, tls/tls.md).
LIBP2P = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")


def octets(tag: int, data: bytes) -> bytes:
    """DER, of short and of two-byte lengths."""
    length = bytes([len(data)]) if len(data) < 128 else b"\x81" + bytes([len(data)])
    return bytes([tag]) + length + data


def certificate(kind: str):
    """A self-signed certificate and its key: `plain` as peer RPC takes them, `libp2p` as the swarm does."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(datetime.datetime(1975, 1, 1)).not_valid_after(datetime.datetime(4096, 1, 1))
    )
    if kind == "libp2p":
        host = Ed25519PrivateKey.generate()
        public = host.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        # A protobuf of libp2p's: key type Ed25519, then the key.
        message = b"\x08\x01\x12\x20" + public
        signed = octets(0x30, octets(0x04, message) + octets(0x04, host.sign(b"libp2p-tls-handshake:" + spki)))
        builder = builder.add_extension(x509.UnrecognizedExtension(LIBP2P, signed), critical=True)
    return builder.sign(key, None), key


def frame(value: dict) -> bytes:
    """A frame of peer RPC (proto/README.md)."""
    data = cbor2.dumps(value, canonical=True)
    return len(data).to_bytes(4, "big") + data
