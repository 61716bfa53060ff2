#!/usr/bin/env python3
"""Checks an exported audit against a genesis, offline and independently of the Rust code (see proto/README.md).

    python3 verify.py --genesis genesis.cbor --audit audit.cbor [--json]

Both files are raw CBOR. Exit codes: 0 verified, 1 not verified (the first part that fails is named), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import wire
from rounds import check_rounds, score_of
from wire import Bad, decode, encode

PLACEHOLDER = b"SPARSE_MERKLE_PLACEHOLDER_HASH__"


def tagged_hash(context: str, data: bytes) -> bytes:
    return blake3(data, derive_key_context=context).digest()


def signed_by(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


def need(condition: bool, part: str, why: str) -> None:
    if not condition:
        raise Bad(part, why)


# --- trust: genesis, certificates, the path of signer sets -----------------------------------------------------------


def set_hash(signers) -> bytes:
    return tagged_hash("zero2ai signer set v1", encode([{0: s.key, 1: s.power} for s in signers]))


def check_set(signers, part: str) -> None:
    keys = [s.key for s in signers]
    need(bool(keys), part, "the signer set is empty")
    need(all(a < b for a, b in zip(keys, keys[1:])), part, "the signer set is not in ascending order of key")
    need(all(1 <= s.power <= 1 << 40 for s in signers), part, "a signer's power is out of bounds")


def check_certificate(pool: bytes, certificate, signers, part: str) -> None:
    """More than two thirds of the power of `signers` precommitted to the block."""
    vote = {0: certificate.height, 1: certificate.round, 2: 1, 3: certificate.block}
    message = b"zero2ai vote v1\0" + pool + encode(vote)
    keys = [key for key, _ in certificate.signatures]
    need(all(a < b for a, b in zip(keys, keys[1:])), part, "the signatures are not in ascending order of key")
    power = {s.key: s.power for s in signers}
    signed = 0
    for key, signature in certificate.signatures:
        need(key in power, part, f"{key.hex()} is not a signer at height {certificate.height}")
        need(signed_by(key, message, signature), part, f"the signature of {key.hex()} does not verify")
        signed += power[key]
    total = sum(power.values())
    need(signed * 3 > total * 2, part, f"{signed} of {total} power signed, which is not more than two thirds")


def check_header(pool: bytes, signed, sets, part: str):
    """A header that is final by the set known for its height: `sets` holds (from which height, set), ascending."""
    header = decode(wire.HEADER, signed.header, f"{part} header")
    known = header.version == 1 and header.rules_version in (1, 2)
    need(known, f"{part} header", "has a version or rules that are not known")
    need(header.pool == pool, f"{part} header", "belongs to another pool")
    block = tagged_hash("zero2ai block header v1", signed.header)
    need(signed.certificate.block == block, f"{part} certificate", "is for another block")
    need(signed.certificate.height == header.height > 0, f"{part} certificate", "is for another height")
    signers = [known for start, known in sets if start <= header.height][-1]
    need(header.signers_hash == set_hash(signers), f"{part} header", "names another signer set than is known")
    check_certificate(pool, signed.certificate, signers, f"{part} certificate")
    return header, signers


def check_trust(pool: bytes, genesis, audit):
    """From the genesis' signers over every change of the set to the audit's header."""
    check_set(genesis.signers, "genesis")
    sets = [(1, genesis.signers)]
    for i, step in enumerate(audit.steps):
        part = f"trust step {i}"
        header, _ = check_header(pool, step.header, sets, part)
        need(header.height >= sets[-1][0], part, "is not above the step before it")
        need(header.next_signers_hash != header.signers_hash, part, "does not change the signer set")
        check_set(step.next_signers, part)
        need(set_hash(step.next_signers) == header.next_signers_hash, part, "carries another set than its header names")
        sets.append((header.height + 1, step.next_signers))
    return check_header(pool, audit.header, sets, "audit")


# --- proofs ----------------------------------------------------------------------------------------------------------


def bit(digest: bytes, i: int) -> int:
    return digest[i // 8] >> (7 - i % 8) & 1


def check_state(root: bytes, proof, part: str):
    """The value under the proof's key, or None if the key is proved absent."""
    key_hash, depth = blake3(proof.key).digest(), len(proof.siblings)
    if proof.value is not None:
        need(proof.leaf == (key_hash, blake3(proof.value).digest()), part, "the leaf is of another key or value")
    elif proof.leaf is not None:
        other = proof.leaf[0]
        need(other != key_hash, part, "claims absence of a key that is there")
        need(all(bit(other, i) == bit(key_hash, i) for i in range(depth)), part, "the leaf is not on the key's path")
    node = PLACEHOLDER if proof.leaf is None else blake3(b"JMT::LeafNode" + b"".join(proof.leaf)).digest()
    for i, sibling in enumerate(proof.siblings):
        children = sibling + node if bit(key_hash, depth - 1 - i) else node + sibling
        node = blake3(b"JMT::IntrnalNode" + children).digest()
    need(node == root, part, "the path does not lead to the header's app_hash")
    return proof.value


def check_log(root: bytes, proof, leaf: bytes, part: str) -> None:
    """RFC 9162 section 2.1.3.2 (the hashes are those of RFC 6962)."""
    need(proof.index < proof.size, part, "the index is beyond the log")
    node = hashlib.sha256(b"\0" + leaf).digest()
    at, last = proof.index, proof.size - 1
    for sibling in proof.siblings:
        need(last != 0, part, "the log proof is too long")
        if at & 1 or at == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not at & 1 and at != 0:
                at, last = at >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        at, last = at >> 1, last >> 1
    need(last == 0 and node == root, part, "the log proof does not lead to the anchored root")


# --- the model's history ---------------------------------------------------------------------------------------------


def macro(classes) -> tuple[int, int, int]:
    """Precision, recall and F1 averaged over the classes, in millionths, by the wire document's integer recipe."""

    def mean(fractions):
        total = sum((over * 10**6 << 40) // under if under else 0 for over, under in fractions)
        return (total + len(classes)) // (len(classes) << 40)

    return (
        mean([(c.tp, c.tp + c.fp) for c in classes]),
        mean([(c.tp, c.tp + c.fn) for c in classes]),
        mean([(2 * c.tp, 2 * c.tp + c.fp + c.fn) for c in classes]),
    )


def check_endorsement(name: str, number: int, version, endorsement, event, part: str) -> None:
    counts = endorsement.counts
    need((counts.name, counts.version) == (name, number), part, "is of another model or version")
    need(endorsement.tx == event.tx and endorsement.height == event.height, part, "is not the one of its event")
    committed = endorsement.committed
    need(committed is None or version.height <= committed.height < endorsement.height, part,
         "was not committed to between the publication and the endorsement")
    kind, task = version.task
    # What is no classifier has one count: right, or not.
    classes = task.classes if kind == "classify" else 1
    need(len(counts.classes) == classes > 0, part, "does not fit the model's classes")
    sums = [sum(c.tp for c in counts.classes), sum(c.tp + c.fn for c in counts.classes),
            sum(c.tp + c.fp for c in counts.classes)]
    need(sums == [counts.correct, counts.samples, counts.samples], part, "the counts do not add up")
    figures = macro(counts.classes)
    told = (endorsement.precision_ppm, endorsement.recall_ppm, endorsement.f1_ppm)
    need(told == figures, part, f"says precision, recall, F1 = {told}; its counts give {figures}")
    need(endorsement.quality_ppm == figures[2], part, "its quality is not its F1")
    marks = version.thresholds
    verdict = ("positive" if endorsement.quality_ppm >= marks.accept_ppm
               else "negative" if endorsement.quality_ppm <= marks.reject_ppm else "abstain")
    need(endorsement.verdict[0] == verdict, part, f"says {endorsement.verdict[0]}; its quality means {verdict}")


def score_of_endorsements(endorsements) -> dict:
    """Each has weight 1; the one committed to first on a dataset stands for it."""
    per_root = {}
    for e in endorsements:
        place = (e.committed.height, e.committed.index) if e.committed else (e.height, 2**32 - 1)
        root, vote = e.counts.dataset_root, (*place, e.quality_ppm, e.counts.samples)
        per_root[root] = min(per_root.get(root, vote), vote)
    qualities = sorted((quality for *_, quality, _ in per_root.values()), reverse=True)
    return {
        # The largest quality that at least half of them reach: with n of them, the ceil(n / 2)-th from above.
        "score_ppm": qualities[(len(qualities) + 1) // 2 - 1] if len(qualities) >= 3 else None,
        "verdicts": [sum(e.verdict[0] == word for e in endorsements) for word in ("positive", "negative", "abstain")],
        "datasets": len(per_root), "samples": sum(n for *_, n in per_root.values()),
        "height": max(e.height for e in endorsements),
    }


def check_score(score, endorsements, rounds, part: str) -> None:
    """Of the endorsements without a round, unless a round came to another."""
    expected = score_of(rounds, score_of_endorsements(endorsements) if endorsements else None)
    if expected is None:
        return need(score is None, part, "is there without anything that gives one")
    need(score is not None, part, "is proved absent, and there is what gives one")
    for field, value in expected.items():
        need(score[field] == value, part, f"says {field} {score[field]}; what was found gives {value}")


class Entries:
    """The audit's state entries in the order that the wire document gives them."""

    def __init__(self, audit, root: bytes):
        self.left, self.root = list(audit.entries), root

    def take(self, key: str, shape, may_be_absent=False):
        need(bool(self.left), f"entry {key}", "is missing from the audit")
        proof = self.left.pop(0)
        need(proof.key == key.encode(), f"entry {key}", f"{proof.key!r} stands in its place")
        value = check_state(self.root, proof, f"state proof of {key}")
        need(value is not None or may_be_absent, f"entry {key}", "is proved absent")
        return None if value is None else decode(shape, value, f"entry {key}")

    def next_key(self) -> str:
        return self.left[0].key.decode("utf-8", "replace") if self.left else ""


def check_history(name: str, entries: Entries):
    model = entries.take(f"model/{name}", wire.MODEL)
    events = [entries.take(f"event/{name}/{i}", wire.EVENT) for i in range(model.events)]
    need(all(a.height <= b.height for a, b in zip(events, events[1:])), f"history of {name}", "goes back in height")
    by_kind = {}
    for event in events:
        by_kind.setdefault((event.kind[0], event.version), []).append(event)
    need([v for k, v in ((e.kind[0], e.version) for e in events) if k == "published"] == list(range(1, model.latest + 1)),
         f"history of {name}", "does not publish every version once and in order")
    need(all(1 <= e.version <= model.latest for e in events), f"history of {name}", "has an event of no version")
    owners = events[:1] + [e for e in events if e.kind[0] == "transferred"]
    need(not owners or owners[-1].account == model.owner, f"model/{name}", "has another owner than its history tells")
    versions = {}
    for number in range(1, model.latest + 1):
        versions[number] = check_version(name, number, by_kind, events, entries)
    for channel, number in model.channels:
        need(("channel", number) in by_kind, f"channel {channel}", "points to a version that no event ever set")
    need(not entries.left, f"entry {entries.next_key()}", "is more than the history has")
    return model, versions


def check_version(name: str, number: int, by_kind, events, entries: Entries):
    part = f"version {name}@{number}"
    version = entries.take(f"version/{name}@{number}", wire.VERSION)
    published = by_kind[("published", number)][0]
    told = (version.publisher, version.height, version.time_ms)
    need(told == (published.account, published.height, published.time_ms), part, "is not the one its event published")
    need(version.withdrawn == (("withdrawn", number) in by_kind), part, "its withdrawal does not match its history")
    expected = {e.account: e for e in by_kind.get(("endorsed", number), [])}
    need(len(expected) == len(by_kind.get(("endorsed", number), [])), part, "a validator endorsed it twice")
    score = None
    if expected or entries.next_key() == f"score/{name}@{number}":
        score = entries.take(f"score/{name}@{number}", wire.SCORE, may_be_absent=not expected)
    found = {}
    for _ in expected:
        key = entries.next_key()
        validator = next((a for a in expected if key == f"endorsement/{name}@{number}/{a.hex()}"), None)
        need(validator is not None, f"entry {key}", f"stands where an endorsement of {name}@{number} is due")
        need(validator not in found, f"entry {key}", "stands there twice")
        found[validator] = entries.take(key, wire.ENDORSEMENT)
        check_endorsement(name, number, version, found[validator], expected[validator], f"endorsement {key}")
    rounds = check_rounds(name, number, version, events, entries, check_endorsement)
    check_score(score, list(found.values()), rounds, f"score of {name}@{number}")
    return version, score, found, rounds


# --- receipts --------------------------------------------------------------------------------------------------------


def open_signed(pool: bytes, signed, kind: int, shape, part: str):
    message = b"zero2ai signature v1\0" + pool + signed.envelope
    need(signed_by(signed.signer, message, signed.signature), part, "the signature does not verify")
    envelope = decode(wire.ENVELOPE, signed.envelope, part)
    need((envelope.kind, envelope.version) == (kind, 1), part, f"is of kind {envelope.kind}, version {envelope.version}")
    return decode(shape, envelope.body, part)


def signed_value(signed) -> dict:
    return {0: signed.envelope, 1: signed.signer, 2: signed.signature}


def check_receipt(pool: bytes, name: str, versions, provider: bytes, anchor, proven, part: str):
    receipt = proven.receipt
    request = open_signed(pool, receipt.request, 4, wire.REQUEST, f"{part}: request")
    response = open_signed(pool, receipt.response, 5, wire.RESPONSE, f"{part}: response")
    request_hash = tagged_hash("zero2ai request v1", encode(signed_value(receipt.request)))
    need(response.request == request_hash, part, "the response answers another request")
    need(request.provider == provider, part, "the request was made to another provider")
    need(receipt.response.signer == provider, part, "the response is signed by another provider than was asked")
    need(request.name == name and request.version in versions, part, "is of another model or an unknown version")
    need(request.manifest == versions[request.version][0].manifest, part, "is of another manifest than was published")
    need(proven.proof.size == anchor.size, part, "its log proof is for another size than the anchored one")
    leaf = encode({0: signed_value(receipt.request), 1: signed_value(receipt.response)})
    check_log(anchor.root, proven.proof, leaf, f"{part}: log proof")
    return request_hash, {
        "account": receipt.request.signer.hex(), "provider": provider.hex(), "version": request.version,
        "time_ms": response.time_ms, "units": response.units, "status": response.status[0],
        "output": response.commitment.hex(), "input": request.commitment.hex(), "index": proven.proof.index,
    }


def check_providers(pool: bytes, audit, root: bytes, versions) -> list[dict]:
    uses, seen = [], set()
    for p in audit.providers:
        who = p.provider.hex()
        need(p.provider not in seen, f"provider {who}", "stands there twice")
        seen.add(p.provider)
        need(p.anchor.key == f"anchor/{who}".encode(), f"provider {who}", "the anchor is another provider's")
        value = check_state(root, p.anchor, f"state proof of anchor/{who}")
        if value is None:
            need(not p.receipts, f"provider {who}", "has receipts but no anchor")
            continue
        anchor = decode(wire.ANCHOR, value, f"anchor of {who}")
        indices = [r.proof.index for r in p.receipts]
        need(all(a < b for a, b in zip(indices, indices[1:])), f"provider {who}", "receipts are not in order of the log")
        asked = set()
        for i, proven in enumerate(p.receipts):
            part = f"receipt {i} of {who}"
            request, use = check_receipt(pool, audit.name, versions, p.provider, anchor, proven, part)
            need(request not in asked, part, "its request has a receipt already")
            asked.add(request)
            uses.append(use)
    return uses


# --- the whole -------------------------------------------------------------------------------------------------------


def verify(genesis_bytes: bytes, audit_bytes: bytes) -> dict:
    """Checks everything. Returns what was proved; raises Bad with the first part that fails."""
    pool = tagged_hash("zero2ai genesis v1", genesis_bytes)
    genesis = decode(wire.GENESIS, genesis_bytes, "genesis")
    known = genesis.version == 1 and genesis.rules_version in (1, 2)
    need(known, "genesis", "has a version or rules that are not known")
    audit = decode(wire.AUDIT, audit_bytes, "audit")
    need(audit.version == 1, "audit", f"version {audit.version} is not known")
    need(audit.genesis == genesis_bytes, "genesis", "the audit is of another pool")
    header, signers = check_trust(pool, genesis, audit)
    model, versions = check_history(audit.name, Entries(audit, header.app_hash))
    uses = check_providers(pool, audit, header.app_hash, versions)
    grades = [
        {
            "version": number, "validator": validator.hex(), "samples": e.counts.samples, "correct": e.counts.correct,
            "precision_ppm": e.precision_ppm, "recall_ppm": e.recall_ppm, "f1_ppm": e.f1_ppm, "verdict": e.verdict[0],
        }
        for number, (_, _, found, _) in versions.items() for validator, e in sorted(found.items())
    ]
    rounds = [
        {"version": number, "round": turn, "selection": state.selection[0] if state.selection else None,
         "score_ppm": state.outcome.score_ppm if state.outcome else None,
         "confidence_ppm": state.outcome.confidence_ppm if state.outcome else None,
         "revealed": [{"validator": v.hex(), "quality_ppm": e.found.quality_ppm, "verdict": e.found.verdict[0],
                       "contradicted_by": wrong[v].reporter.hex() if v in wrong else None}
                      for v, e in sorted(revealed.items())]}
        for number, (*_, found) in versions.items() for turn, state, revealed, wrong in found
    ]
    published = [
        {"version": n, "publisher": v.publisher.hex(), "manifest": v.manifest.hex(), "height": v.height,
         "time_ms": v.time_ms, "withdrawn": v.withdrawn, "score_ppm": score.score_ppm if score else None}
        for n, (v, score, *_) in versions.items()
    ]
    return {
        "verified": True, "pool": pool.hex(), "name": audit.name, "owner": model.owner.hex(), "height": header.height,
        "time_ms": header.time_ms, "signatures": len(audit.header.certificate.signatures), "signers": len(signers),
        "trust_steps": len(audit.steps), "events": model.events, "versions": published, "endorsements": grades,
        "rounds": rounds, "receipts": uses,
    }


def summary(result: dict) -> str:
    lines = [
        f"verified: {result['name']} in pool {result['pool'][:16]}…, at height {result['height']} "
        f"({result['signatures']} of {result['signers']} signers, {result['trust_steps']} changes of the set since genesis)"
    ]
    for v in result["versions"]:
        score = "no score" if v["score_ppm"] is None else f"score {v['score_ppm'] / 1e6:.6f}"
        lines.append(f"  version {v['version']} published by {v['publisher'][:16]}… at height {v['height']}, {score}")
    for g in result["endorsements"]:
        lines.append(
            f"  graded by {g['validator'][:16]}…: {g['correct']}/{g['samples']} right, precision {g['precision_ppm'] / 1e6:.6f}, "
            f"recall {g['recall_ppm'] / 1e6:.6f}, F1 {g['f1_ppm'] / 1e6:.6f}, {g['verdict']}"
        )
    for r in result["rounds"]:
        score = "no score" if r["score_ppm"] is None else f"score {r['score_ppm'] / 1e6:.6f}"
        lines.append(f"  round {r['round']} of version {r['version']}: {len(r['revealed'])} revealed, {score}")
        for v in (v for v in r["revealed"] if v["contradicted_by"]):
            lines.append(f"    the counts of {v['validator'][:16]}… contradict leaves under its own root")
    by = {}
    for r in result["receipts"]:
        by.setdefault((r["account"], r["provider"]), []).append(r["units"])
    for (account, provider), units in sorted(by.items()):
        lines.append(f"  {len(units)} receipts ({sum(units)} units): {account[:16]}… served by {provider[:16]}…")
    return "\n".join(lines)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genesis", required=True, help="the pool's encoded genesis: the only thing that is trusted")
    parser.add_argument("--audit", required=True, help="the exported audit")
    parser.add_argument("--json", action="store_true", help="print what was proved as JSON")
    options = parser.parse_args(arguments)
    try:
        with open(options.genesis, "rb") as g, open(options.audit, "rb") as a:
            genesis, audit = g.read(), a.read()
    except OSError as error:
        print(f"cannot read a file: {error}", file=sys.stderr)
        return 2
    try:
        result = verify(genesis, audit)
    except Bad as bad:
        if options.json:
            print(json.dumps({"verified": False, "part": bad.part, "why": bad.why}))
        print(f"NOT VERIFIED: {bad.part}: {bad.why}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=1) if options.json else summary(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
