"""The shapes of the wire that an audit is made of, read strictly: canonical CBOR, integer keys, every range checked.

Follows proto/README.md alone; shares no code with the Rust side.
"""

from __future__ import annotations

import re

import cbor2


class Bad(Exception):
    """Bytes that are not what they should be. The first argument says which part, the second why."""

    def __init__(self, part: str, why: str):
        super().__init__(f"{part}: {why}")
        self.part, self.why = part, why


class Record(dict):
    """A decoded struct: fields by name, also as attributes."""

    __getattr__ = dict.__getitem__


def uint(bits):
    def check(value, part):
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise Bad(part, f"is not an unsigned number of {bits} bits")
        return value

    return check


def raw(length=None):
    def check(value, part):
        if type(value) is not bytes or (length is not None and len(value) != length):
            raise Bad(part, "is not a byte string" + (f" of {length} bytes" if length else ""))
        return value

    return check


def exact(kind, word):
    def check(value, part):
        if type(value) is not kind:
            raise Bad(part, f"is not {word}")
        return value

    return check


def many(item, at_most):
    def check(value, part):
        if type(value) is not list or len(value) > at_most:
            raise Bad(part, f"is not a list of at most {at_most} items")
        return [item(x, f"{part}[{i}]") for i, x in enumerate(value)]

    return check


def pair(first, second):
    def check(value, part):
        if type(value) is not list or len(value) != 2:
            raise Bad(part, "is not a pair")
        return first(value[0], f"{part}[0]"), second(value[1], f"{part}[1]")

    return check


def maybe(inner):
    return lambda value, part: None if value is None else inner(value, part)


class Absent:
    """A field of a record that may be left out, and then is None; null is refused there."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, value, part):
        return self.inner(value, part)


def record(**fields):
    """A struct: a map from 0, 1, 2, … to the fields in this order."""
    names = list(fields.items())
    needed = {i for i, (_, shape) in enumerate(names) if not isinstance(shape, Absent)}

    def check(value, part):
        if type(value) is not dict or list(value) != [i for i in range(len(names)) if i in needed or i in value]:
            raise Bad(part, f"is not a map with the keys 0 to {len(names) - 1}")
        there = [(name, shape(value[i], f"{part}.{name}") if i in value else None) for i, (name, shape) in enumerate(names)]
        return Record(dict(there))

    return check


def choice(*variants):
    """An enum: the index of a variant without content, or [index, content]. Gives (name, content)."""

    def check(value, part):
        index, content = (value, None) if type(value) is int else tuple(value) if type(value) is list else (None, None)
        if type(index) is not int or not 0 <= index < len(variants):
            raise Bad(part, "is none of the variants")
        name, shape = variants[index]
        if (shape is None) != (type(value) is int):
            raise Bad(part, f"variant {name} has content where there should be none, or none where there should be some")
        return (name, None if shape is None else shape(content, part))

    return check


U16, U32, U64 = uint(16), uint(32), uint(64)
H32, KEY, SIG = raw(32), raw(32), raw(64)
BOOL, TEXT, BYTES = exact(bool, "true or false"), exact(str, "text"), raw()
LABEL = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"


def NAME(value, part):
    if type(value) is not str or not re.fullmatch(f"{LABEL}/{LABEL}", value):
        raise Bad(part, "is not a model's name")
    return value


SIGNERS = many(record(key=KEY, power=U64), 100)
GENESIS = record(
    version=U16, created_ms=U64, nonce=raw(16), admin=KEY, admin_sealing=H32, signers=SIGNERS, rules_version=U16
)
HEADER = record(
    version=U16, rules_version=U16, pool=H32, height=U64, time_ms=U64, parent=H32, txs_root=H32, app_hash=H32,
    signers_hash=H32, next_signers_hash=H32, proposer=KEY,
)
CERTIFICATE = record(height=U64, round=U32, block=H32, signatures=many(pair(KEY, SIG), 100))
SIGNED_HEADER = record(header=BYTES, certificate=CERTIFICATE)
TRUST_STEP = record(header=SIGNED_HEADER, next_signers=SIGNERS)
STATE_PROOF = record(key=BYTES, value=maybe(BYTES), leaf=maybe(pair(H32, H32)), siblings=many(H32, 256))
LOG_PROOF = record(index=U64, size=U64, siblings=many(H32, 64))

FORMAT = choice(("onnx", None), ("gguf", None), ("safetensors", None), ("opaque", None))
TASK = choice(
    ("tensors", None), ("classify", record(classes=U16)), ("generate", record(context=U32)),
    ("embed", record(width=U32, context=U32)),
)  # fmt: skip
DOMAIN = choice(("public", None), ("pool", None), ("private", None))
THRESHOLDS = record(accept_ppm=U32, reject_ppm=U32)
MODEL = record(owner=KEY, latest=U32, channels=many(pair(TEXT, U32), 16), events=U64)
VERSION = record(
    manifest=H32, publisher=KEY, format=FORMAT, task=TASK, domain=DOMAIN, bytes=U64, chunks=U32, base=maybe(U32),
    thresholds=THRESHOLDS, height=U64, time_ms=U64, withdrawn=BOOL,
)
CLASS = record(tp=U32, fp=U32, fn=U32)
COUNTS = record(
    name=NAME, version=U32, classes=many(CLASS, 256), samples=U32, correct=U32, p50_us=U32, dataset_root=H32,
    predictions_root=H32,
)
VERDICT = choice(("positive", None), ("negative", None), ("abstain", None))
ENDORSEMENT = record(
    counts=COUNTS, precision_ppm=U32, recall_ppm=U32, f1_ppm=U32, quality_ppm=U32, verdict=VERDICT, height=U64, tx=H32,
    committed=maybe(record(height=U64, index=U32)),
)
SCORE = record(score_ppm=maybe(U32), verdicts=many(U32, 3), datasets=U32, samples=U64, height=U64)
EVENT_KIND = choice(
    ("published", None), ("endorsed", None), ("channel", None), ("withdrawn", None), ("transferred", None),
    ("opened", None), ("revealed", None), ("contradicted", None), ("refuted", None),
)  # fmt: skip
EVENT = record(kind=EVENT_KIND, version=U32, account=KEY, tx=H32, height=U64, time_ms=U64)
LEAF = record(index=U32, label=U16, answer=U16, sample=H32, siblings=many(H32, 256))
OUTCOME = record(
    score_ppm=maybe(U32), datasets=U32, samples=U64, confidence_ppm=U32, verdicts=many(U32, 3), height=U64
)
SELECTION = choice(
    ("everyone", None), ("random", None), ("appointed", None), ("elected", None), ("named", None)
)  # fmt: skip
ROUND = record(
    opened=U64, draws=U64, commit=U64, reveal=U64, dispute=U64, seats=U16, bond_ppm=U32, open_ppm=U32, leaves=U16,
    staked=BOOL, selection=maybe(SELECTION), committee=many(KEY, 64), open_seed=maybe(H32), outcome=maybe(OUTCOME),
    disputes=U32, halted=BOOL,
)
FINDING = record(weighted=U64, samples=U64, epoch=U64)
STANDING = record(stake=U64, good=U64, bad=U64, history=FINDING)
ENTRY = record(
    commitment=H32, place=record(height=U64, index=U32), bond=U64, found=maybe(ENDORSEMENT), opened=maybe(U64),
    contradicted=maybe(U64), standing=maybe(STANDING), refuted=maybe(U64),
)
CONTRADICTION = record(leaves=many(LEAF, 24), reporter=KEY, tx=H32, height=U64)
ANCHOR = record(seq=U64, size=U64, root=H32, height=U64)

SIGNED = record(envelope=BYTES, signer=KEY, signature=SIG)
ENVELOPE = record(kind=U16, version=U16, body=BYTES)
REQUEST = record(
    provider=KEY, name=NAME, version=U32, manifest=H32, commitment=H32, nonce=raw(16), time_ms=U64, deadline_ms=U64,
    price_cap=U64, parent=maybe(H32),
)
STATUS = choice(("complete", None), ("checkpoint", None), ("cancelled", None))
RESPONSE = record(request=H32, commitment=H32, units=U64, status=STATUS, time_ms=U64)
RECEIPT = record(request=SIGNED, response=SIGNED)
PROVEN = record(receipt=RECEIPT, proof=LOG_PROOF)
PROVIDER = record(provider=KEY, anchor=STATE_PROOF, receipts=many(PROVEN, 1 << 20))
AUDIT = record(
    version=U16, genesis=BYTES, name=NAME, steps=many(TRUST_STEP, 1 << 16), header=SIGNED_HEADER,
    entries=many(STATE_PROOF, 1 << 20), providers=many(PROVIDER, 1 << 12),
)


def encode(value) -> bytes:
    """Plain decoded CBOR (not a Record) back to its one canonical spelling."""
    return cbor2.dumps(value, canonical=True)


def plain(data: bytes, part: str):
    """Decodes CBOR and insists that it was the canonical spelling of one value, with nothing behind it."""
    try:
        value = cbor2.loads(data)
    except Exception as error:  # every decoder error means the same here: these bytes are not a value
        raise Bad(part, f"is not CBOR ({error})") from error
    if encode(value) != data:
        raise Bad(part, "is not in canonical form")
    return value


def decode(shape, data: bytes, part: str):
    return shape(plain(data, part), part)
