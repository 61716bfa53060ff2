"""The shapes of what crosses peer RPC, beside those of an audit that the verifier has already: from proto/README.md alone."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "verify"))

from wire import (
    BYTES, Absent, GENESIS, H32, KEY, LOG_PROOF, MODEL, NAME, PROVEN, PROVIDER, SIGNED, SIGNED_HEADER, STATE_PROOF, TEXT,
    TRUST_STEP, U16, U32, U64, VERSION, choice, many, pair, raw, record,
)  # fmt: skip

__all__ = ["GENESIS", "LOG_PROOF", "MODEL", "PROVEN", "PROVIDER", "SIGNED_HEADER", "TRUST_STEP", "VERSION", "pair"]

POOL_KEY = record(epoch=U32, secret=H32)
ADDRESS = choice(("rpc", TEXT), ("swarm", TEXT))
BOOTSTRAP = record(node=KEY, addresses=many(ADDRESS, 16))
INVITE = record(version=U16, pool=H32, key=POOL_KEY, ticket=SIGNED, bootstrap=many(BOOTSTRAP, 16))

CHALLENGE = record(nonce=raw(32), epoch=U32)
PROOF = record(mac=raw(32))
HELLO = record(pool=H32, min_version=U16, max_version=U16, features=U64)
CODES = (
    "invalid", "denied", "notfound", "busy", "timeout", "unsupported", "unavailable", "internal", "clock", "storage",
    "model",
)  # fmt: skip
RPC_ERROR = record(code=choice(*((code, None) for code in CODES)), message=TEXT)
LOAD = record(queue=U32, queue_us=U64)
REPLY = choice(("item", BYTES), ("end", None), ("error", RPC_ERROR), ("load", LOAD))

PONG = record(time_ms=U64, height=U64, queue=U32, queue_us=U64, version=TEXT)
REDEEMED = record(genesis=BYTES, height=U64)
NAME_RECORD = record(version=U16, model=STATE_PROOF, latest=STATE_PROOF, header=SIGNED_HEADER)
SOURCE = choice(("cache", None), ("ledger", None), ("dht", None))
RESOLVED = record(
    record=NAME_RECORD, version=STATE_PROOF, version_header=SIGNED_HEADER, endpoints=many(SIGNED, 1024), source=SOURCE,
    took_us=U64,
)  # fmt: skip
ENDPOINT_RECORD = record(
    name=NAME, version=U32, manifest=H32, addresses=many(ADDRESS, 16), seq=U64, expires_ms=U64, region=Absent(TEXT),
    price=Absent(U64),
)  # fmt: skip

DTYPES = ("f32", "f64", "f16", "i64", "i32", "u8", "bool")
DTYPE = choice(*((name, None) for name in DTYPES))
TENSOR = record(name=TEXT, dtype=DTYPE, shape=many(U64, 8), data=BYTES)
PREDICTED = record(response=SIGNED, outputs=many(TENSOR, 64))

SCORE = record(id=U32, bytes=BYTES, minus_log_micro=U32)
PIECE = record(id=U32, text=TEXT, scores=many(SCORE, 21))
REASON = choice(("end_of_text", None), ("stop_string", None), ("length", None), ("context", None))
GENERATION_END = record(response=SIGNED, reason=REASON, prompt_tokens=U32)
GENERATED = choice(("token", PIECE), ("checkpoint", SIGNED), ("done", GENERATION_END))
