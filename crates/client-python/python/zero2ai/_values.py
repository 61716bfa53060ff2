"""What the client gives: plain values, and numpy arrays that stand on the bytes that came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Union

import numpy as np
import numpy.typing as npt

Inputs = Union[npt.ArrayLike, bytes, bytearray, memoryview, str, Mapping[str, Any], "PathLike[str]"]


@dataclass(frozen=True)
class Receipt:
    """Both signed halves of one call, checked: who asked whom for what, and how much was given."""

    id: str
    account: str
    provider: str
    name: str
    version: int
    manifest: str
    units: int
    status: str
    time_ms: int
    encoded: bytes
    #: Its place in the provider's log; None until it was read from there.
    index: int | None = None


@dataclass(frozen=True)
class Endpoint:
    """A node that signed that it serves a model. `rtt` and `queue` are seconds; `rtt` is None if no ping came back."""

    node: str
    addresses: list[str]
    rtt: float | None
    queue: float


@dataclass(frozen=True)
class Resolution:
    """A name, proved from the genesis, and its endpoints, nearest first. `record_age` and `took` are seconds."""

    name: str
    version: int
    manifest: str
    publisher: str
    task: str
    bytes: int
    height: int
    record_age: float
    took: float
    endpoints: list[Endpoint]

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Resolution:
        return cls(**{**raw, "endpoints": [Endpoint(**e) for e in raw["endpoints"]]})


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model. None in `shape` is a free dimension (a batch, a length)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Model:
    """What a model takes and gives, in a provider's own words."""

    task: str
    architecture: str
    runtime: str
    parameters: int
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Model:
        specs = lambda key: [TensorSpec(name, np.dtype(dtype), tuple(shape)) for name, dtype, shape in raw[key]]
        return cls(**{**raw, "inputs": specs("inputs"), "outputs": specs("outputs")})


@dataclass(frozen=True, eq=False)
class Prediction(Mapping[str, "npt.NDArray[Any]"]):
    """An answer whose receipt holds: a mapping from output names to arrays. `took` is seconds; `failed` counts endpoints that
    were tried before, in vain."""

    outputs: dict[str, npt.NDArray[Any]]
    receipt: Receipt
    node: str
    took: float
    failed: int
    _call: Any = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_call": None}  # the call is no part of a copy

    def kept(self) -> bytes:
        """The call with its input, as `zero2ai predict --save-call` writes it: for `Client.tell_outcome` and `zero2ai audit re-run`."""
        return self._call.encode()

    @property
    def output(self) -> npt.NDArray[Any]:
        """The first output."""
        return next(iter(self.outputs.values()))

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Prediction:
        outputs = {name: data.view(np.dtype(dtype).newbyteorder("<")).reshape(shape) for name, dtype, shape, data in raw["outputs"]}
        raw = {**raw, "outputs": outputs, "receipt": Receipt(**raw["receipt"]), "_call": raw["call"]}
        del raw["call"]
        return cls(**raw)


@dataclass(frozen=True)
class Token:
    """A token, and the text that became certain with it (may be empty inside a character)."""

    id: int
    text: str
    #: Who gave it.
    node: str


@dataclass(frozen=True)
class TextEnd:
    """How a text ended: `reason` is end_of_text, stop_string, length or context. One receipt a provider, in order."""

    reason: str
    node: str
    prompt_tokens: int
    failed: int
    receipts: list[Receipt]
    _call: Any = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_call": None}  # the call is no part of a copy

    def kept(self) -> bytes:
        """The last provider's call with its prompt, as `zero2ai run --save-call` writes it: for `Client.tell_outcome`."""
        return self._call.encode()

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> TextEnd:
        raw = {**raw, "receipts": [Receipt(**r) for r in raw["receipts"]], "_call": raw["call"]}
        del raw["call"]
        return cls(**raw)


@dataclass(frozen=True)
class Outcome:
    """An outcome that the model's owner has on disk; `fresh` is false if it had the same one before."""

    owner: str
    fresh: bool


@dataclass(frozen=True)
class AuditVersion:
    """A version on the ledger. `score` is what its validators found, from 0 to 1; None before anyone graded it."""

    version: int
    manifest: str
    publisher: str
    bytes: int
    height: int
    time_ms: int
    withdrawn: bool
    score: float | None


@dataclass(frozen=True)
class Endorsement:
    """What one validator found. The ledger computed the figures again from the counts it signed."""

    version: int
    validator: str
    samples: int
    precision: float
    recall: float
    f1: float
    verdict: str
    height: int


@dataclass(frozen=True)
class Event:
    """Something that happened to a model: `kind` is published, endorsed, channel or withdrawn."""

    kind: str
    version: int
    account: str
    tx: str
    height: int
    time_ms: int


@dataclass(frozen=True)
class Use:
    """An anchored receipt: who asked whom, when, and how much was given."""

    account: str
    provider: str
    index: int
    receipt: str
    version: int
    asked_ms: int
    answered_ms: int
    units: int
    status: str


@dataclass(frozen=True)
class Audit:
    """Who published, graded and used a model, proved from the genesis under one header; `signatures` is how many signers of how
    many certified it. `missing` are providers whose receipts could not be had; `encoded` is for `zero2ai audit verify`."""

    name: str
    owner: str
    height: int
    time_ms: int
    signatures: tuple[int, int]
    versions: list[AuditVersion]
    endorsements: list[Endorsement]
    events: list[Event]
    uses: list[Use]
    missing: list[str]
    encoded: bytes

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Audit:
        rows = {"versions": AuditVersion, "endorsements": Endorsement, "events": Event, "uses": Use}
        return cls(**{**raw, **{key: [row(**one) for one in raw[key]] for key, row in rows.items()}})


def _tensor(name: str, value: Any) -> tuple[str, str, list[int], npt.NDArray[np.uint8]]:
    """One input as the compiled half takes it: no copy here if the array is contiguous and little-endian."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        value = np.frombuffer(value, np.uint8)
    array = np.asarray(value, order="C")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.hasobject:
        raise TypeError(f"input {name!r} is no array of numbers: numpy makes {array.dtype} of it")
    return name, array.dtype.name, list(array.shape), array.reshape(-1).view(np.uint8)


def tensors(inputs: Inputs) -> list[tuple[str, str, list[int], npt.NDArray[np.uint8]]]:
    """A mapping from input names to arrays, or the only input: an array, bytes, or text (as its UTF-8 bytes)."""
    if isinstance(inputs, Mapping):
        return [_tensor(str(name), value) for name, value in inputs.items()]
    return [_tensor("", inputs)]


def texts_as_inputs(texts: str | Iterable[str], truncate: bool) -> dict[str, Any]:
    """Texts as the tensors that an embedder takes: each one's length in bytes, then all of their UTF-8."""
    encoded = [text.encode() for text in ([texts] if isinstance(texts, str) else texts)]
    lengths = np.array([len(text) for text in encoded], np.int64)
    inputs: dict[str, Any] = {"lengths": lengths, "text": np.frombuffer(b"".join(encoded), np.uint8)}
    return {**inputs, "truncate": np.ones(1, bool)} if truncate else inputs
