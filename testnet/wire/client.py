"""A member of a pool in Python, written from proto/README.md alone: joins with an invite, resolves names, predicts and
generates, and believes nothing that is not proved from the genesis.

It is a test of that page, kept plain: one home node, no retries, no cache. Programs want `crates/client-python`.
"""

from __future__ import annotations

import base64
import os
import re
import struct
import time
from dataclasses import dataclass

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import shapes
from peer import Peer, Refused, dial, raw_public
from verify import check_log, check_state, check_trust, need, open_signed, signed_value, tagged_hash
from wire import ANCHOR, LABEL, REQUEST, RESPONSE, Bad, Record, decode, encode

PING, REDEEM, RESOLVE, HEAD, PROVE, TRUST_STEPS, PREDICT, GENERATE, RECEIPTS = 1, 2, 3, 4, 6, 7, 13, 14, 16
TICKET_KIND, TX_KIND, ENDPOINT_KIND, REQUEST_KIND, RESPONSE_KIND = 1, 2, 3, 4, 5
#: Seconds for an answer from memory, and for one that must become final first.
QUICK, FINAL = 20, 60


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def read_invite(line: str):
    need(line.startswith("z2a1-"), "the invite", "does not begin with z2a1-")
    text = line.strip()[5:]
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(blake3(data[:-4]).digest()[:4] == data[-4:], "the invite", "has a typing error: its check bytes are wrong")
    invite = decode(shapes.INVITE, data[:-4], "the invite")
    need(invite.version == 1, "the invite", f"has version {invite.version}, which is not known")
    need(1 <= sum(len(b.addresses) for b in invite.bootstrap) <= 16, "the invite", "names no address, or too many")
    return invite


def rpc_address(addresses) -> str:
    found = next((text for kind, text in addresses if kind == "rpc"), None)
    need(found is not None, "the node", "has no address of peer RPC")
    return found


@dataclass
class Found:
    """A name, looked up and proved."""

    name: str
    version: int
    entry: Record
    endpoints: dict[bytes, Record]


@dataclass
class Answer:
    """An answer whose receipt holds."""

    outputs: list
    request: dict
    response: dict
    provider: bytes

    def receipt(self) -> dict:
        return {0: self.request, 1: self.response}


class Client:
    """An identity in one pool, and its connections. Made by `Client.join`."""

    def __init__(self, invite, key: Ed25519PrivateKey):
        self.invite, self.key, self.pool = invite, key, invite.pool
        self.account = raw_public(key.public_key())
        self.peers: dict[bytes, Peer] = {}
        self.home = invite.bootstrap[0].node
        self.genesis = None

    @classmethod
    async def join(cls, line: str, key: Ed25519PrivateKey | None = None) -> Client:
        """Connects to the invite's first node and has its ticket redeemed; the answer's genesis is the root of trust."""
        client = cls(read_invite(line), key or Ed25519PrivateKey.generate())
        sealing = X25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        ticket = signed_value(client.invite.ticket)
        tx = client.sign(TX_KIND, {0: 0, 1: [0, {0: ticket, 1: sealing}]})
        redeemed = decode(shapes.REDEEMED, await client.ask(REDEEM, {0: tx}, FINAL), "the redemption")
        client.begin(redeemed.genesis)
        return client

    def begin(self, genesis: bytes):
        need(tagged_hash("zero2ai genesis v1", genesis) == self.pool, "the genesis", "is of another pool")
        self.genesis = decode(shapes.GENESIS, genesis, "the genesis")

    def sign(self, kind: int, body: dict) -> dict:
        envelope = encode({0: kind, 1: 1, 2: encode(body)})
        signature = self.key.sign(b"zero2ai signature v1\0" + self.pool + envelope)
        return {0: envelope, 1: self.account, 2: signature}

    async def peer(self, node: bytes, addresses) -> Peer:
        peer = self.peers.get(node)
        if peer is None or peer.ended is not None:
            peer = await dial(rpc_address(addresses), node, self.key, self.pool, self.invite.key)
            self.peers[node] = peer
        return peer

    async def ask(self, method: int, request: dict, timeout: float = QUICK) -> bytes:
        return await (await self.peer_at_home()).call(method, request, timeout)

    async def peer_at_home(self) -> Peer:
        return await self.peer(self.home, self.invite.bootstrap[0].addresses)

    async def close(self):
        for peer in self.peers.values():
            if peer.ended is None:
                await peer.hang_up()

    # --- the ledger ---------------------------------------------------------------------------------------------------

    async def final(self, signed) -> Record:
        """The header in it, if it is final by the signer sets from the genesis on."""
        peer = await self.peer_at_home()
        steps = [decode(shapes.TRUST_STEP, s, "a trust step") async for s in peer.stream(TRUST_STEPS, {}, QUICK)]
        return check_trust(self.pool, self.genesis, Record(steps=steps, header=signed))[0]

    @staticmethod
    def entry(root: bytes, proof, key: str, shape):
        """The entry under `key`, proved; None if its absence is."""
        need(proof.key == key.encode(), f"the proof of {key}", f"is of {proof.key!r}")
        value = check_state(root, proof, f"the proof of {key}")
        return None if value is None else decode(shape, value, key)

    # --- names --------------------------------------------------------------------------------------------------------

    async def resolve(self, name: str, version: int | None = None) -> Found:
        """The version of a name and who serves it. Without `version`, the newest that the record knows of."""
        need(re.fullmatch(f"{LABEL}/{LABEL}", name) is not None, name, "is not a model's name")
        selector = 0 if version is None else [1, version]
        data = await self.ask(RESOLVE, {0: {0: name, 1: selector}, 1: True})
        found = decode(shapes.RESOLVED, data, f"the answer about {name}")
        header = await self.final(found.record.header)
        model = self.entry(header.app_hash, found.record.model, f"model/{name}", shapes.MODEL)
        need(model is not None, name, "does not exist: its absence is proved")
        newest = self.entry(header.app_hash, found.record.latest, f"version/{name}@{model.latest}", shapes.VERSION)
        need(newest is not None, name, "has no newest version in its record")
        version = model.latest if version is None else version
        later = await self.final(found.version_header)
        need(later.height >= header.height, name, "is proved by a header older than its record's")
        entry = self.entry(later.app_hash, found.version, f"version/{name}@{version}", shapes.VERSION)
        need(entry is not None and not entry.withdrawn, f"{name}@{version}", "does not exist, or was withdrawn")
        endpoints = {}
        for signed in found.endpoints:
            try:
                said = open_signed(self.pool, signed, ENDPOINT_KIND, shapes.ENDPOINT_RECORD, "an endpoint record")
            except Bad:
                continue  # one node's record that does not hold takes nothing from the others
            if (said.name, said.version, said.manifest) == (name, version, entry.manifest) and said.expires_ms > now_ms():
                endpoints[signed.signer] = said
        return Found(name, version, entry, endpoints)

    async def nearest(self, found: Found) -> bytes:
        """The endpoint whose ping comes back first."""
        took = {}
        for node, said in found.endpoints.items():
            peer = await self.peer(node, said.addresses)
            start = time.perf_counter()
            decode(shapes.PONG, await peer.call(PING, {}, QUICK), "the answer to a ping")
            took[node] = time.perf_counter() - start
        need(bool(took), found.name, "is served by nobody")
        return min(took, key=took.get)

    # --- predictions --------------------------------------------------------------------------------------------------

    def order(self, found: Found, provider: bytes, content, timeout: float) -> tuple[dict, bytes]:
        """A signed request to one provider, and the call's salt."""
        salt, time_ms = os.urandom(32), now_ms()
        commitment = blake3(encode(content), key=salt).digest()
        request = self.sign(REQUEST_KIND, {
            0: provider, 1: found.name, 2: found.version, 3: found.entry.manifest, 4: commitment, 5: os.urandom(16),
            6: time_ms, 7: time_ms + int(timeout * 1000), 8: 0, 9: None,
        })  # fmt: skip
        return request, salt

    def check(self, request: dict, salt: bytes, response, output, units: int, status: str, provider: bytes) -> dict:
        """A response, if it answers this request with this output, billed rightly, signed by the provider."""
        need(response.signer == provider, "the response", "is signed by another node than was asked")
        said = open_signed(self.pool, response, RESPONSE_KIND, RESPONSE, "the response")
        need(said.request == tagged_hash("zero2ai request v1", encode(request)), "the response", "answers another request")
        output_salt = tagged_hash("zero2ai output salt v1", salt)
        need(said.commitment == blake3(encode(output), key=output_salt).digest(), "the response", "commits to another output")
        need(said.units == units, "the response", f"bills {said.units} units for {units}")
        need(said.status[0] == status, "the response", f"says {said.status[0]}, not {status}")
        return signed_value(response)

    async def predict(self, found: Found, inputs: list[dict], provider: bytes, timeout: float = QUICK) -> Answer:
        """`inputs` are encoded tensors: {0: name, 1: dtype, 2: shape, 3: data}."""
        request, salt = self.order(found, provider, inputs, timeout)
        peer = await self.peer(provider, found.endpoints[provider].addresses)
        data = await peer.call(PREDICT, {0: request, 1: salt, 2: inputs}, timeout)
        answer = decode(shapes.PREDICTED, data, "the prediction")
        plain = [{0: t.name, 1: shapes.DTYPES.index(t.dtype[0]), 2: t.shape, 3: t.data} for t in answer.outputs]
        units = inputs[0][2][0] if inputs[0][2] else 1
        response = self.check(request, salt, answer.response, plain, units, "complete", provider)
        return Answer(answer.outputs, request, response, provider)

    async def embed(self, found: Found, texts: list[str], provider: bytes, timeout: float = QUICK) -> Answer:
        """The answer's outputs are the rows, one a text, and each text's number of tokens."""
        encoded = [text.encode() for text in texts]
        lengths = b"".join(len(text).to_bytes(8, "little") for text in encoded)
        text = b"".join(encoded)
        dtypes = shapes.DTYPES.index("i64"), shapes.DTYPES.index("u8")
        inputs = [{0: "lengths", 1: dtypes[0], 2: [len(texts)], 3: lengths}, {0: "text", 1: dtypes[1], 2: [len(text)], 3: text}]
        answer = await self.predict(found, inputs, provider, timeout)
        rows, tokens = answer.outputs
        width = found.entry.task[1].width
        fits = (rows.name, rows.dtype[0], rows.shape) == ("embeddings", "f32", [len(texts), width])
        need(fits and (tokens.name, tokens.dtype[0], tokens.shape) == ("tokens", "i64", [len(texts)]), "the rows", "have another shape")
        numbers, counts = struct.iter_unpack(f"<{width}f", rows.data), struct.unpack(f"<{len(texts)}q", tokens.data)
        return Answer([list(numbers), list(counts)], answer.request, answer.response, provider)

    async def generate(self, found: Found, prompt: str, max_tokens: int, provider: bytes, timeout: float = 120) -> Answer:
        """Greedy text; the answer's outputs are (token, text) pairs."""
        content = {0: [0, prompt], 1: {0: max_tokens, 1: 0, 2: 0, 3: 1000, 4: 0, 5: [], 6: 0, 7: 1000, 8: 0, 9: 0, 10: None}, 2: []}
        request, salt = self.order(found, provider, content, timeout)
        peer = await self.peer(provider, found.endpoints[provider].addresses)
        pieces, ids, response = [], [], None
        async for item in peer.stream(GENERATE, {0: request, 1: salt, 2: content}, timeout):
            kind, said = decode(shapes.GENERATED, item, "an item of the text")
            if kind == "token":
                pieces.append((said.id, said.text))
                ids.append(said.id)
            elif kind == "checkpoint":
                self.check(request, salt, said, ids, len(ids), "checkpoint", provider)
            else:
                response = self.check(request, salt, said.response, ids, len(ids), "complete", provider)
        need(response is not None, "the text", "ends without its signature")
        return Answer(pieces, request, response, provider)

    async def anchored(self, found: Found, answer: Answer) -> Record | None:
        """The final header under which this answer's receipt is proved to be in its provider's log; None if the log was
        not anchored again yet."""
        signed = decode(shapes.SIGNED_HEADER, await self.ask(HEAD, {}), "the head")
        header = await self.final(signed)
        peer = await self.peer(answer.provider, found.endpoints[answer.provider].addresses)
        start, leaf = 0, encode(answer.receipt())
        while True:
            try:
                data = await peer.call(RECEIPTS, {0: found.name, 1: start, 2: header.height}, QUICK)
            except Refused as refused:
                if refused.code in ("notfound", "unavailable"):  # no anchor by that height, or it is a block behind
                    return None
                raise
            said = decode(shapes.PROVIDER, data, "the provider's receipts")
            need(said.provider == answer.provider, "the receipts", "are another provider's")
            anchor = self.entry(header.app_hash, said.anchor, f"anchor/{answer.provider.hex()}", ANCHOR)
            if anchor is None or not said.receipts:
                return None
            for proven in said.receipts:
                shown = {0: signed_value(proven.receipt.request), 1: signed_value(proven.receipt.response)}
                if encode(shown) == leaf:
                    need(proven.proof.size == anchor.size, "the receipt", "is proved in a log of another size")
                    check_log(anchor.root, proven.proof, leaf, "the receipt")
                    open_signed(self.pool, proven.receipt.request, REQUEST_KIND, REQUEST, "the receipt's request")
                    return header
            start = said.receipts[-1].proof.index + 1
