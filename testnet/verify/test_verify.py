"""Tests of the verifier: the wire's pinned vectors, an audit in order, and what it says when something is not.

    python3 -m unittest discover -s testnet/verify
"""

import base64
import copy
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from blake3 import blake3

import wire
from sample import NAME, Key, Sample, Tree
from rounds import check_contradiction, check_outcome
from verify import check_certificate, check_state, set_hash, signed_by, summary, tagged_hash, verify
from wire import Bad, decode, encode, plain

VECTORS = {
    name: bytes.fromhex(value)
    for name, value in json.loads((HERE / "../../proto/vectors/vectors.json").read_text()).items()
}
POOL = b"\xa0" * 32


class TheWire(unittest.TestCase):
    def test_every_vector_is_canonical_cbor(self):
        for name, data in VECTORS.items():
            if not name.startswith("derived/"):
                with self.subTest(name):
                    self.assertEqual(encode(plain(data, name)), data)

    def test_shapes_are_those_of_the_wire_document(self):
        shapes = {
            "pool/genesis": wire.GENESIS, "block/header": wire.HEADER, "block/certificate": wire.CERTIFICATE,
            "proof/state": wire.STATE_PROOF, "proof/state_absent": wire.STATE_PROOF, "proof/log": wire.LOG_PROOF,
            "proof/trust_step": wire.TRUST_STEP, "state/model": wire.MODEL, "state/version": wire.VERSION,
            "state/endorsement": wire.ENDORSEMENT, "state/score": wire.SCORE, "state/score_none": wire.SCORE,
            "state/round": wire.ROUND, "state/round_open": wire.ROUND, "state/entry": wire.ENTRY,
            "state/entry_committed": wire.ENTRY, "state/finding": wire.FINDING,
            "state/contradiction": wire.CONTRADICTION,
            "state/event": wire.EVENT, "state/anchor": wire.ANCHOR, "receipt/request": wire.REQUEST,
            "receipt/response": wire.RESPONSE, "receipt/receipt": wire.RECEIPT, "receipt/audit": wire.AUDIT,
        }
        for name, shape in shapes.items():
            with self.subTest(name):
                decode(shape, VECTORS[name], name)

    def test_the_tables_of_the_wire_document_fit_the_vectors(self):
        page = (HERE / "../../proto/README.md").read_text()
        tables = re.findall(r"^\*\*(\w+)\*\* \(vectors? ([^)]*)\):.*\n\n\| (key|index) .*\n\|.*\n((?:\|.*\n)+)", page, re.M)
        self.assertGreater(len(tables), 80)
        for name, vectors, kind, rows in tables:
            rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()]
            self.assertEqual([row[0] for row in rows], [str(i) for i in range(len(rows))], name)
            for vector in re.findall(r"`([^`]*)`", vectors):
                value = plain(VECTORS[vector], vector)
                with self.subTest(name, vector=vector):
                    if kind == "key":
                        self.assertEqual(list(value), list(range(len(rows))))
                    else:
                        index = value if type(value) is int else value[0]
                        self.assertEqual(rows[index][2] == "–", type(value) is int)

    def test_derived_bytes_are_computed_alike(self):
        v = VECTORS
        signers = plain(v["state/signers"], "signers")[1]
        expected = {
            "pool_id": tagged_hash("zero2ai genesis v1", v["pool/genesis"]),
            "cid_of_abc": blake3(b"abc").digest(),
            "manifest_id_of_abc": tagged_hash("zero2ai manifest v1", b"abc"),
            "block_id": tagged_hash("zero2ai block header v1", v["block/header"]),
            "tx_id": tagged_hash("zero2ai transaction v1", v["tx/signed"]),
            "signers_hash": set_hash(wire.SIGNERS(signers, "signers")),
            "request_hash": tagged_hash("zero2ai request v1", encode(plain(v["receipt/receipt"], "receipt")[0])),
            "receipt_id": tagged_hash("zero2ai receipt v1", v["receipt/receipt"]),
            "commitment": blake3(b"abc", key=b"\x51" * 32).digest(),
            "output_salt": tagged_hash("zero2ai output salt v1", b"\x51" * 32),
            "public_key_of_1": Key(1).public,
            "pool_key_id": tagged_hash("zero2ai pool key id v1", b"\xc0" * 32 + (5).to_bytes(4, "big")),
            "vote_sign_bytes": b"zero2ai vote v1\0" + POOL + v["block/vote"],
            "proposal_sign_bytes": b"zero2ai proposal v1\0" + POOL + v["block/proposal"],
            "dht_name": tagged_hash("zero2ai dht name v1", POOL + NAME.encode()),
            "dht_second_place": tagged_hash(
                "zero2ai dht place v1", tagged_hash("zero2ai dht name v1", POOL + NAME.encode()) + b"\x01"
            ),
            "dht_third_place": tagged_hash(
                "zero2ai dht place v1", tagged_hash("zero2ai dht name v1", POOL + NAME.encode()) + b"\x02"
            ),
            "dht_providers": tagged_hash("zero2ai dht providers v1", POOL + NAME.encode()),
            "dht_endpoint": tagged_hash("zero2ai dht endpoint v1", POOL + Key(2).public + NAME.encode()),
        }
        sealed = v["pool/invite"] + blake3(v["pool/invite"]).digest()[:4]
        expected["invite_line"] = b"z2a1-" + base64.urlsafe_b64encode(sealed).rstrip(b"=")
        proof_key = tagged_hash("zero2ai pool proof v1", b"\xc0" * 32)
        for t, transport in enumerate(["swarm", "rpc"]):
            for r, role in enumerate(["dialer", "listener"]):
                bound = POOL + (5).to_bytes(4, "big") + bytes([t, r]) + Key(1).public + Key(2).public
                mac = blake3(bound + b"\x11" * 32 + b"\x12" * 32, key=proof_key).digest()
                expected[f"pool_proof_{transport}_{role}"] = mac
        node = Key(2).public.hex()
        expected["state_keys"] = "\n".join([
            "signers", f"member/{node}", f"ticket/{'a2' * 16}", "handle/acme", "model/acme/digits",
            "version/acme/digits@2", f"endorsement/acme/digits@2/{node}", "score/acme/digits@2", f"anchor/{node}",
            "event/acme/digits/12",
        ]).encode()
        model, leaf = "acme/digits@2", f"acme/digits@1/2/{Key(3).public.hex()}/3"
        expected["grading_keys"] = "\n".join([
            "stakes", "seed", "halt", "grading", f"stake/{node}", f"rounds/{model}", f"round/{model}/1",
            f"entry/{model}/1/{node}", f"finding/{model}/{node}", f"contradiction/{model}/1/{node}",
            f"convicted/10000/{node}", f"due/308/{model}/1", f"vote/{node}", "graders/acme/digits",
            f"dispute/{leaf}", f"ballot/{leaf}/1/{node}", f"due/508/{leaf}", "pot", f"reward/10000/{node}", "epoch/10000",
        ]).encode()
        for name, value in expected.items():
            self.assertEqual(v[f"derived/{name}"], value, name)
        self.assertEqual({f"derived/{n}" for n in expected}, {n for n in v if n.startswith("derived/")})

    def test_signatures_of_the_vectors_verify(self):
        for name in ("tx/signed", "pool/signed_ticket"):
            signed = decode(wire.SIGNED, VECTORS[name], name)
            self.assertTrue(signed_by(signed.signer, b"zero2ai signature v1\0" + POOL + signed.envelope, signed.signature))
        certificate = decode(wire.CERTIFICATE, VECTORS["block/certificate"], "certificate")
        signers = wire.SIGNERS(plain(VECTORS["state/signers"], "signers")[1], "signers")
        check_certificate(POOL, certificate, signers, "certificate")

    def test_a_second_spelling_is_refused(self):
        for data in (b"\x18\x07", b"\xa2\x01\x00\x00\x00", b"\xbf\x00\x07\xff", b"\x00\x00", b"\xa2\x00\x00\x00\x00", b""):
            with self.assertRaises(Bad):
                plain(data, "value")


class Proofs(unittest.TestCase):
    def test_presence_and_absence(self):
        tree = Tree({f"key{i}".encode(): bytes([i]) for i in range(40)})
        for i in range(60):
            proof = tree.prove(f"key{i}".encode())
            value = check_state(tree.root(), wire.STATE_PROOF(proof, "proof"), "proof")
            self.assertEqual(value, bytes([i]) if i < 40 else None)
            lie = dict(proof) | {1: b"other" if i >= 40 else None}
            with self.assertRaises(Bad):
                check_state(tree.root(), wire.STATE_PROOF(lie, "proof"), "proof")

    def test_an_empty_and_a_lone_tree(self):
        for entries in ({}, {b"a": b"1"}):
            tree = Tree(entries)
            self.assertEqual(check_state(tree.root(), wire.STATE_PROOF(tree.prove(b"a"), "proof"), "proof"), entries.get(b"a"))
            self.assertIsNone(check_state(tree.root(), wire.STATE_PROOF(tree.prove(b"b"), "proof"), "proof"))


class TheAudit(unittest.TestCase):
    def setUp(self):
        self.sample = Sample()

    def refused(self, part, audit=None, genesis=None):
        with self.assertRaises(Bad) as caught:
            verify(genesis or self.sample.genesis, encode(audit or self.sample.audit()))
        self.assertIn(part, str(caught.exception))

    def test_what_is_in_order_verifies(self):
        result = verify(self.sample.genesis, encode(self.sample.audit()))
        self.assertEqual((len(result["receipts"]), len(result["endorsements"])), (7, 3))
        self.assertEqual((result["signatures"], result["signers"], result["trust_steps"]), (3, 4, 1))
        self.assertEqual(result["versions"][0]["score_ppm"], self.sample.state[f"score/{NAME}@1"][0])

    def test_logs_of_every_size(self):
        for size in range(1, 18):
            sample = Sample(size)
            self.assertEqual(len(verify(sample.genesis, encode(sample.audit()))["receipts"]), size)

    def test_a_flipped_byte_anywhere_is_refused(self):
        good, dice = encode(self.sample.audit()), random.Random(1)
        for _ in range(400):
            at = dice.randrange(len(good))
            bad = good[:at] + bytes([good[at] ^ 1 << dice.randrange(8)]) + good[at + 1 :]
            with self.assertRaises(Bad, msg=f"byte {at} of {len(good)}"):
                verify(self.sample.genesis, bad)

    def test_another_genesis(self):
        other = Sample()
        value = plain(other.genesis, "genesis") | {1: 5}
        self.refused("genesis", genesis=encode(value))

    def test_two_of_four_signatures(self):
        self.sample.voters = self.sample.signers[:2]
        self.refused("audit certificate: 2 of 4 power")

    def test_a_strangers_signature(self):
        self.sample.voters = [*self.sample.signers[:3], Key(9)]
        self.refused("is not a signer")

    def test_a_missing_step(self):
        self.refused("names another signer set", self.sample.audit() | {3: []})

    def test_a_header_byte(self):
        audit = self.sample.audit()
        audit[4][0] = audit[4][0][:-1] + bytes([audit[4][0][-1] ^ 1])
        self.refused("audit certificate: is for another block", audit)

    def test_an_endorsement_left_out(self):
        audit = self.sample.audit()
        audit[5].pop()
        self.refused("endorsement", audit)

    def test_an_event_left_out(self):
        audit = self.sample.audit()
        del audit[5][2]
        self.refused(f"entry event/{NAME}/1", audit)

    def test_figures_that_counts_do_not_give(self):
        for field, word in ((1, "its counts give"), (4, "quality"), (5, "means positive")):
            sample = self.sample = Sample()
            key = next(k for k in sample.state if k.startswith("endorsement/"))
            sample.state[key][field] = 1
            self.refused(word)

    def test_a_score_that_endorsements_do_not_give(self):
        self.sample.state[f"score/{NAME}@1"][0] += 1
        self.refused(f"score of {NAME}@1")

    def test_receipts(self):
        for change, part in (
            (lambda r: r[0][0].update({2: bytes(64)}), "receipt 0"),
            (lambda r: r[0][1].update({2: bytes(64)}), "response"),
            (lambda r: r[0].update({1: copy.deepcopy(self.sample.receipts[1][1])}), "answers another request"),
        ):
            audit = copy.deepcopy(self.sample.audit())
            change(audit[6][0][2][0])
            self.refused(part, audit)
        audit = copy.deepcopy(self.sample.audit())
        audit[6][0][2][0][1][2][0] = bytes(32)
        self.refused("log proof does not lead to the anchored root", audit)

    def test_a_request_that_was_logged_twice(self):
        self.sample.receipts[4] = copy.deepcopy(self.sample.receipts[1])
        self.sample.state = self.sample.entries()
        self.refused("its request has a receipt already")

    def test_a_receipt_of_another_provider(self):
        other = Sample()
        other.provider = Key(7)
        self.sample.receipts[2] = other.receipt(2)
        self.sample.state = self.sample.entries()
        self.refused("was made to another provider")


class Rounds(unittest.TestCase):
    """An audit that the Rust ledger made (crates/ledger/tests/rounds.rs): five validators, of whom one lied."""

    def setUp(self):
        self.genesis, self.audit = ((HERE / "rounds" / f"{name}.cbor").read_bytes() for name in ("genesis", "audit"))
        proofs = decode(wire.AUDIT, self.audit, "audit").entries
        self.values = {proof.key.decode(): proof.value for proof in proofs}

    def one(self, start: str, shape):
        key = next(key for key in self.values if key.startswith(start))
        return key, decode(shape, self.values[key], key)

    def entries(self):
        keys = [key for key in self.values if key.startswith("entry/")]
        return {bytes.fromhex(key.rsplit("/", 1)[1]): decode(wire.ENTRY, self.values[key], key) for key in keys}

    def test_the_lie_is_proved_and_the_outcome_is_computed_alike(self):
        result = verify(self.genesis, self.audit)
        (found,) = result["rounds"]
        wrong = [v for v in found["revealed"] if v["contradicted_by"]]
        self.assertEqual((len(found["revealed"]), len(wrong), found["selection"]), (5, 1, "everyone"))
        self.assertEqual(found["score_ppm"], result["versions"][0]["score_ppm"])
        self.assertIn("the counts of", summary(result))

    def test_a_contradiction_that_is_none(self):
        key, proof = self.one("contradiction/", wire.CONTRADICTION)
        entry = self.entries()[bytes.fromhex(key.rsplit("/", 1)[1])]
        check_contradiction(proof, entry, key)
        right = [leaf for leaf in proof.leaves if leaf.label == leaf.answer]
        with self.assertRaisesRegex(Bad, "agree with the counts"):
            check_contradiction(wire.Record(proof, leaves=right), entry, key)
        leaf = proof.leaves[0]
        other = {"answer": 1 - leaf.answer, "label": 1 - leaf.label, "index": 99 - leaf.index, "sample": bytes(32)}
        for change in ({field: value} for field, value in (other | {"siblings": []}).items()):
            made_up = [wire.Record(leaf, **change)]
            with self.assertRaisesRegex(Bad, "not under the root"):
                check_contradiction(wire.Record(proof, leaves=made_up), entry, key)
        with self.assertRaisesRegex(Bad, "has no leaves"):
            check_contradiction(wire.Record(proof, leaves=[]), entry, key)

    def test_an_outcome_that_entries_do_not_give(self):
        key, state = self.one("round/", wire.ROUND)
        entries = self.entries()
        check_outcome("lab/digits", 1, 1, state, entries, key)
        for change in ({"score_ppm": None}, {"datasets": 5}, {"confidence_ppm": 1}, {"verdicts": [4, 0, 0]}):
            forged = wire.Record(state, outcome=wire.Record(state.outcome, **change))
            with self.assertRaises(Bad):
                check_outcome("lab/digits", 1, 1, forged, entries, key)
        # Another seed asks others, and all who were asked have opened.
        for who, entry in entries.items():
            silent = entries | {who: wire.Record(entry, opened=None, contradicted=None)}
            if entry.contradicted is None:
                refuted = entries | {who: wire.Record(entry, refuted=state.outcome.height - 1)}
                late = entries | {who: wire.Record(entry, refuted=state.outcome.height)}
                for changed in (silent, refuted):
                    with self.assertRaises(Bad):
                        check_outcome("lab/digits", 1, 1, state, changed, key)
                check_outcome("lab/digits", 1, 1, state, late, key)

    def test_what_is_left_out_is_missed(self):
        audit = plain(self.audit, "audit")
        for i, proof in enumerate(audit[5]):
            if proof[0].split(b"/")[0] in (b"round", b"entry", b"contradiction"):
                with self.assertRaises(Bad):
                    verify(self.genesis, encode(audit | {5: audit[5][:i] + audit[5][i + 1 :]}))


class TheCommand(unittest.TestCase):
    def run_it(self, *arguments):
        return subprocess.run([sys.executable, HERE / "verify.py", *arguments], capture_output=True, text=True)

    def test_exit_codes_and_output(self):
        sample = Sample()
        with tempfile.TemporaryDirectory() as folder:
            genesis, audit = os.path.join(folder, "g"), os.path.join(folder, "a")
            Path(genesis).write_bytes(sample.genesis)
            Path(audit).write_bytes(encode(sample.audit()))
            done = self.run_it("--genesis", genesis, "--audit", audit)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("verified: acme/digits", done.stdout)
            done = self.run_it("--genesis", genesis, "--audit", audit, "--json")
            self.assertTrue(json.loads(done.stdout)["verified"])
            Path(audit).write_bytes(encode(sample.audit() | {3: []}))
            done = self.run_it("--genesis", genesis, "--audit", audit)
            self.assertEqual(done.returncode, 1)
            self.assertIn("NOT VERIFIED: audit header", done.stderr)
            self.assertEqual(self.run_it("--genesis", genesis).returncode, 2)
            self.assertEqual(self.run_it("--genesis", genesis, "--audit", folder + "/none").returncode, 2)


if __name__ == "__main__":
    unittest.main()
