"""The wire client against a pool of two real daemons, and against the pinned vectors: that proto/README.md suffices.

    python3 -m unittest discover -s testnet/wire        # ZERO2AI names the program; else target/release/zero2ai
"""

import asyncio
import csv
import json
import struct
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import shapes
from client import PREDICT, PROVE, Client, read_invite
from network import DIGITS, PATIENCE, SENTENCES, Network, embedder, language_model
from peer import Closed, Refused, dial, pool_proof, raw_public
from wire import Bad, Record, decode, encode, plain

VECTORS = {
    name: bytes.fromhex(value)
    for name, value in json.loads((HERE / "../../proto/vectors/vectors.json").read_text()).items()
}
NAME, TEXT, EMBEDDER = "acme/digits", "lab/smollm2", "lab/minilm"
network = None


def setUpModule():
    global network
    network = Network(2)
    unittest.addModuleCleanup(network.stop)
    network.publish(DIGITS / "digits.onnx", NAME)
    network[0].json("publish", language_model(), "--name", TEXT, "--replicas", "0")
    network[0].json("publish", embedder(), "--name", EMBEDDER, "--replicas", "0")


def rows() -> tuple[list[list[float]], list[int]]:
    with open(DIGITS / "predict.csv") as file:
        cells = [[float(c) for c in row] for row in list(csv.reader(file))[1:]]
    return [row[:-1] for row in cells], [int(row[-1]) for row in cells]


def tensor(data: list[list[float]]) -> dict:
    flat = [x for row in data for x in row]
    return {0: "", 1: shapes.DTYPES.index("f32"), 2: [len(data), len(data[0])], 3: struct.pack(f"<{len(flat)}f", *flat)}


class Vectors(unittest.TestCase):
    def test_the_shapes_are_those_of_the_vectors(self):
        for name, shape in {
            "pool/invite": shapes.INVITE, "rpc/challenge": shapes.CHALLENGE, "rpc/proof": shapes.PROOF,
            "rpc/hello": shapes.HELLO, "rpc/reply_item": shapes.REPLY, "rpc/reply_end": shapes.REPLY,
            "rpc/reply_error": shapes.REPLY, "rpc/reply_load": shapes.REPLY, "calls/pong": shapes.PONG,
            "calls/redeemed": shapes.REDEEMED,
            "calls/resolved": shapes.RESOLVED, "record/name": shapes.NAME_RECORD, "record/endpoint": shapes.ENDPOINT_RECORD,
            "tensor/f32": shapes.TENSOR, "calls/predicted": shapes.PREDICTED, "calls/generated_token": shapes.GENERATED,
            "calls/generated_checkpoint": shapes.GENERATED, "calls/generated_done": shapes.GENERATED,
            "calls/provider_receipts": shapes.PROVIDER,
        }.items():  # fmt: skip
            with self.subTest(name):
                decode(shape, VECTORS[name], name)

    def test_an_invite_is_read_and_a_typing_error_is_seen(self):
        line = VECTORS["derived/invite_line"].decode()
        self.assertEqual(read_invite(line).pool, plain(VECTORS["pool/invite"], "invite")[1])
        with self.assertRaises(Bad):
            read_invite(line[:-1] + ("A" if line[-1] != "A" else "B"))

    def test_pool_proofs_are_those_of_the_vectors(self):
        key = decode(shapes.POOL_KEY, VECTORS["pool/key"], "the key")
        ends = [raw_public(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32).public_key()) for n in (1, 2)]
        for role, who in enumerate(("dialer", "listener")):
            mac = pool_proof(b"\xa0" * 32, key, role, tuple(ends), (b"\x11" * 32, b"\x12" * 32))
            self.assertEqual(mac, VECTORS[f"derived/pool_proof_rpc_{who}"])


class Member(unittest.IsolatedAsyncioTestCase):
    """Joins, resolves, predicts, and has the receipt proved under the ledger's header."""

    async def asyncSetUp(self):
        self.client = await Client.join(network.invite())
        self.addAsyncCleanup(self.client.close)

    async def found(self, name: str, version: int | None = None, at_least: int = 1):
        """The name once it has so many endpoints: a node that serves is heard of a moment later."""
        async with asyncio.timeout(PATIENCE):
            while len((found := await self.client.resolve(name, version)).endpoints) < at_least:
                await asyncio.sleep(0.2)
            return found

    async def test_predicts_at_every_provider_and_the_ledger_proves_the_receipts(self):
        found = await self.found(NAME, at_least=2)
        data, classes = rows()
        for provider in found.endpoints:
            answer = await self.client.predict(found, [tensor(data)], provider)
            scores = answer.outputs[0]
            self.assertEqual(scores.shape, [len(data), 10])
            values = struct.unpack(f"<{10 * len(data)}f", scores.data)
            said = [max(range(10), key=values[10 * i : 10 * i + 10].__getitem__) for i in range(len(data))]
            golden = json.loads((DIGITS / "golden.json").read_text())["files"]["predict.csv"]
            self.assertEqual(sum(a == b for a, b in zip(said, classes)), golden["correct"])
            async with asyncio.timeout(PATIENCE):
                while (header := await self.client.anchored(found, answer)) is None:
                    await asyncio.sleep(0.2)
            self.assertGreater(header.height, found.entry.height)

    async def test_text_comes_token_by_token_and_is_signed(self):
        found = await self.found(TEXT)
        answer = await self.client.generate(found, "The capital of France is", 70, await self.client.nearest(found))
        self.assertIn("Paris", "".join(text for _, text in answer.outputs))
        self.assertLessEqual(len(answer.outputs), 70)

    async def test_texts_become_rows(self):
        found = await self.found(EMBEDDER)
        sentences = json.loads(SENTENCES.read_text())
        texts = [sentence["text"] for sentence in sentences]
        rows, tokens = (await self.client.embed(found, texts, await self.client.nearest(found))).outputs
        self.assertEqual(tokens, [sentence["tokens"] for sentence in sentences])
        for sentence, row in zip(sentences, rows, strict=True):
            self.assertGreater(sum(a * b for a, b in zip(sentence["embedding"], row, strict=True)), 0.999)

    async def test_a_version_that_is_asked_for(self):
        self.assertEqual((await self.found(NAME, version=1)).version, 1)
        for name, version in ((NAME, 7), ("acme/nothing", None)):
            with self.assertRaises((Bad, Refused)) as caught:
                await self.client.resolve(name, version)
            if isinstance(caught.exception, Refused):
                self.assertEqual(caught.exception.code, "notfound")

    async def test_a_response_that_was_changed_is_refused(self):
        found = await self.found(NAME)
        provider = next(iter(found.endpoints))
        content = [tensor(rows()[0][:1])]
        request, salt = self.client.order(found, provider, content, 20)
        peer = await self.client.peer(provider, found.endpoints[provider].addresses)
        data = await peer.call(PREDICT, {0: request, 1: salt, 2: content}, 20)
        answer = decode(shapes.PREDICTED, data, "the prediction")
        outputs = plain(data, "the prediction")[1]
        check = lambda response=answer.response, output=outputs, units=1, status="complete", who=provider: (
            self.client.check(request, salt, response, output, units, status, who)
        )
        check()
        other = Record(answer.response, envelope=answer.response.envelope[:-1] + b"\0")
        wrong = {**outputs[0], 3: bytes(len(outputs[0][3]))}
        for change in ({"units": 2}, {"status": "cancelled"}, {"output": [wrong]}, {"response": other}, {"who": b"x" * 32}):
            with self.subTest(change), self.assertRaises(Bad):
                check(**change)

    async def test_a_request_that_does_not_hold_is_refused_with_a_code(self):
        found = await self.found(NAME)
        provider = next(iter(found.endpoints))
        short = {**tensor(rows()[0][:1]), 2: [2, 64]}
        with self.assertRaises(Refused) as caught:
            await self.client.predict(found, [short], provider)
        self.assertEqual(caught.exception.code, "invalid")
        with self.assertRaises(Refused) as caught:
            await self.client.ask(99, {})
        self.assertEqual(caught.exception.code, "unsupported")


class Strangers(unittest.IsolatedAsyncioTestCase):
    async def dial(self, change=lambda invite: None, expect: bytes | None = None):
        invite = read_invite(network.invite())
        change(invite)
        home = invite.bootstrap[0]
        address = next(text for kind, text in home.addresses if kind == "rpc")
        peer = await dial(address, expect or home.node, Ed25519PrivateKey.generate(), invite.pool, invite.key)
        self.addAsyncCleanup(peer.hang_up)
        return peer

    async def test_a_wrong_key_is_turned_away(self):
        with self.assertRaises(Closed) as caught:
            await self.dial(lambda invite: invite.key.update(secret=b"x" * 32))
        self.assertEqual(caught.exception.code, 1)

    async def test_the_key_in_another_pool_is_turned_away(self):
        with self.assertRaises(Closed) as caught:
            await self.dial(lambda invite: invite.update(pool=b"x" * 32))
        self.assertEqual(caught.exception.code, 1)

    async def test_another_node_than_expected_is_left(self):
        with self.assertRaises(Bad):
            await self.dial(expect=b"x" * 32)

    async def test_the_key_without_admission_may_redeem_and_nothing_else(self):
        peer = await self.dial()
        with self.assertRaises(Refused) as caught:
            await peer.call(PROVE, {0: [b"signers"]}, 20)
        self.assertEqual(caught.exception.code, "denied")

    async def test_a_genesis_of_another_pool_is_not_believed(self):
        client = Client(read_invite(network.invite()), Ed25519PrivateKey.generate())
        with self.assertRaises(Bad):
            client.begin(encode({**plain(VECTORS["pool/genesis"], "genesis"), 1: 7}))


if __name__ == "__main__":
    unittest.main()
