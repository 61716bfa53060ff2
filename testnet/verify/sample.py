"""Makes a small, complete audit in memory, for the tests: its own ledger in miniature, with keys of its own.

Nothing here is used by the verifier. `Sample()` has everything in order; tests change one thing and build again.
"""

from __future__ import annotations

import hashlib

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from verify import PLACEHOLDER, bit, macro, tagged_hash
from wire import Record, encode

NAME = "acme/digits"


class Key:
    def __init__(self, n: int):
        self.secret = Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)
        self.public = self.secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        return self.secret.sign(message)


class Tree:
    """A Jellyfish Merkle tree that is built anew for every question: slow, plain, and not shared with the verifier."""

    def __init__(self, entries: dict[bytes, bytes]):
        self.entries = entries
        self.leaves = {blake3(k).digest(): blake3(v).digest() for k, v in entries.items()}

    def node(self, leaves: dict, depth: int) -> bytes:
        if not leaves:
            return PLACEHOLDER
        if len(leaves) == 1:
            return blake3(b"JMT::LeafNode" + b"".join(*leaves.items())).digest()
        halves = [{k: v for k, v in leaves.items() if bit(k, depth) == side} for side in (0, 1)]
        return blake3(b"JMT::IntrnalNode" + b"".join(self.node(half, depth + 1) for half in halves)).digest()

    def root(self) -> bytes:
        return self.node(self.leaves, 0)

    def prove(self, key: bytes) -> dict:
        target, leaves, siblings = blake3(key).digest(), self.leaves, []
        while len(leaves) > 1:
            depth = len(siblings)
            other = {k: v for k, v in leaves.items() if bit(k, depth) != bit(target, depth)}
            siblings.append(self.node(other, depth + 1))
            leaves = {k: v for k, v in leaves.items() if k not in other}
        leaf = list(*leaves.items()) if leaves else None
        return {0: key, 1: self.entries.get(key), 2: leaf, 3: siblings[::-1]}


def log_root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + log_root(leaves[:k]) + log_root(leaves[k:])).digest()


def log_path(leaves: list[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if index < k:
        return log_path(leaves[:k], index) + [log_root(leaves[k:])]
    return log_path(leaves[k:], index - k) + [log_root(leaves[:k])]


class Sample:
    def __init__(self, receipts: int = 7):
        self.admin, self.user, self.provider = Key(1), Key(5), Key(6)
        self.signers = [Key(1), Key(2), Key(3), Key(4)]
        self.validators = [Key(2), Key(3), Key(4)]
        genesis = {0: 1, 1: 1_700_000_000_000, 2: b"n" * 16, 3: self.admin.public, 4: b"s" * 32,
                   5: self.set([self.admin]), 6: 1}
        self.genesis = encode(genesis)
        self.pool = tagged_hash("zero2ai genesis v1", self.genesis)
        self.voters = self.signers[:3]
        self.receipts = [self.receipt(i) for i in range(receipts)]
        self.state = self.entries()

    @staticmethod
    def set(keys) -> list:
        return [{0: k, 1: 1} for k in sorted(k.public for k in keys)]

    def signed(self, key: Key, kind: int, body: dict) -> dict:
        envelope = encode({0: kind, 1: 1, 2: encode(body)})
        return {0: envelope, 1: key.public, 2: key.sign(b"zero2ai signature v1\0" + self.pool + envelope)}

    def receipt(self, i: int) -> dict:
        time = 1_700_000_100_000 + i
        request = self.signed(self.user, 4, {
            0: self.provider.public, 1: NAME, 2: 1, 3: b"m" * 32, 4: bytes([i]) * 32, 5: bytes([i]) * 16, 6: time,
            7: time + 1000, 8: 0, 9: None,
        })
        request_hash = tagged_hash("zero2ai request v1", encode(request))
        return {0: request, 1: self.signed(self.provider, 5, {0: request_hash, 1: b"o" * 32, 2: 1, 3: 0, 4: time + 2})}

    def entries(self) -> dict[str, dict]:
        entries, events = {}, [{0: 0, 1: 1, 2: self.admin.public, 3: b"t" * 32, 4: 5, 5: 500}]
        thresholds = {0: 900_000, 1: 700_000}
        entries[f"version/{NAME}@1"] = {0: b"m" * 32, 1: self.admin.public, 2: 0, 3: [1, {0: 2}], 4: 1, 5: 20_000,
                                        6: 3, 7: None, 8: thresholds, 9: 5, 10: 500, 11: False}
        qualities = []
        for i, validator in enumerate(self.validators):
            classes = [(45, i, 2), (50, 2, i)]
            figures = macro([Record(tp=tp, fp=fp, fn=fn) for tp, fp, fn in classes])
            counts = {0: NAME, 1: 1, 2: [dict(enumerate(c)) for c in classes], 3: 97 + i, 4: 95, 5: 300,
                      6: bytes([i]) * 32, 7: b"p" * 32}
            entries[f"endorsement/{NAME}@1/{validator.public.hex()}"] = {
                0: counts, 1: figures[0], 2: figures[1], 3: figures[2], 4: figures[2], 5: 0, 6: 6 + i, 7: bytes([i]) * 32,
                8: {0: 5, 1: i} if i else None}
            events.append({0: 1, 1: 1, 2: validator.public, 3: bytes([i]) * 32, 4: 6 + i, 5: 600 + i})
            qualities.append(figures[2])
        entries[f"score/{NAME}@1"] = {0: sorted(qualities)[1], 1: [3, 0, 0], 2: 3, 3: 97 + 98 + 99, 4: 8}
        entries[f"model/{NAME}"] = {0: self.admin.public, 1: 1, 2: [], 3: len(events)}
        for i, event in enumerate(events):
            entries[f"event/{NAME}/{i}"] = event
        leaves = [encode(r) for r in self.receipts]
        entries[f"anchor/{self.provider.public.hex()}"] = {0: 1, 1: len(leaves), 2: log_root(leaves), 3: 9}
        entries["signers"] = {0: self.set(self.signers), 1: self.set(self.signers)}
        return entries

    def order(self) -> list[str]:
        endorsements = sorted(k for k in self.state if k.startswith("endorsement/"))
        events = [k for k in self.state if k.startswith("event/")]
        return [f"model/{NAME}", *events, f"version/{NAME}@1", f"score/{NAME}@1", *endorsements]

    def header(self, height: int, app_hash: bytes, signs, follows, voters) -> dict:
        set_hash = lambda keys: tagged_hash("zero2ai signer set v1", encode(self.set(keys)))
        header = encode({0: 1, 1: 1, 2: self.pool, 3: height, 4: height * 100, 5: b"h" * 32, 6: b"x" * 32, 7: app_hash,
                         8: set_hash(signs), 9: set_hash(follows), 10: self.admin.public})
        block = tagged_hash("zero2ai block header v1", header)
        vote = b"zero2ai vote v1\0" + self.pool + encode({0: height, 1: 0, 2: 1, 3: block})
        signatures = sorted([k.public, k.sign(vote)] for k in voters)
        return {0: header, 1: {0: height, 1: 0, 2: block, 3: signatures}}

    def audit(self) -> dict:
        tree = Tree({k.encode(): encode(v) for k, v in self.state.items()})
        step = {0: self.header(3, b"a" * 32, [self.admin], self.signers, [self.admin]), 1: self.set(self.signers)}
        leaves = [encode(r) for r in self.receipts]
        proven = [{0: r, 1: {0: i, 1: len(leaves), 2: log_path(leaves, i)}} for i, r in enumerate(self.receipts)]
        anchor = tree.prove(f"anchor/{self.provider.public.hex()}".encode())
        return {
            0: 1, 1: self.genesis, 2: NAME, 3: [step],
            4: self.header(10, tree.root(), self.signers, self.signers, self.voters),
            5: [tree.prove(k.encode()) for k in self.order()],
            6: [{0: self.provider.public, 1: anchor, 2: proven}],
        }
