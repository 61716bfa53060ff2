"""The two faces of the client: `Client` blocks, `AsyncClient` is awaited. Both start the same tasks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from . import _core
from ._errors import Invalid
from ._values import Audit, Inputs, Model, Outcome, Prediction, Receipt, Resolution, TextEnd, Token, tensors, texts_as_inputs

Prompt = Union[str, Sequence[Mapping[str, str]]]
Content = Union[bytes, bytearray, memoryview, "PathLike[str]"]


def _contents(contents: Sequence[Content]) -> list[bytes]:
    return [Path(one).read_bytes() if isinstance(one, PathLike) else bytes(one) for one in contents]


def _prompt(prompt: Prompt) -> Any:
    if isinstance(prompt, str):
        return prompt
    return [(message["role"], message["content"]) for message in prompt]


def _sampling(temperature: float, top_k: int, top_p: float, seed: int | None) -> tuple[float, int, float, int]:
    return float(temperature), top_k, float(top_p), secrets.randbits(63) if seed is None else seed


async def _awaited(task: _core.Task) -> Any:
    """A task's result, without holding up the event loop. Cancelling the wait cancels the work."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody waits

    task.then(tell)
    try:
        await done
    except asyncio.CancelledError:
        task.cancel()
        raise
    return task.result()


class _Base:
    def __init__(self, core: _core.Core):
        self._core = core

    @property
    def account(self) -> str:
        """This account's key in hexadecimal."""
        return self._core.account

    @property
    def pool(self) -> str:
        """The pool's id in hexadecimal."""
        return self._core.pool

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.account[:8]} in pool {self.pool[:8]})"

    def _tell(self, call, label, right, with_input, timeout) -> _core.Task:
        kept = bytes(call) if isinstance(call, (bytes, bytearray, memoryview)) else call.kept()
        if (label is None) == (right is None):
            raise Invalid("say either the true class of each row (label) or whether the answer was right (right)")
        labels = [] if label is None else _classes(label)
        if label is not None and not labels:
            raise Invalid("no row has a label: there is nothing to tell")
        try:
            return self._core.tell_outcome(kept, labels, bool(right), with_input, timeout)
        except OverflowError as error:
            raise Invalid(f"a label is no class: {error}") from error

    def _generate(self, name, prompt, max_tokens, temperature, top_k, top_p, seed, stop, timeout) -> _core.Task:
        stop = [stop] if isinstance(stop, str) else list(stop)
        sampling = _sampling(temperature, top_k, top_p, seed)
        try:
            return self._core.generate(name, _prompt(prompt), max_tokens, sampling, stop, timeout)
        except OverflowError as error:
            raise Invalid(f"max_tokens, top_k or seed is out of range: {error}") from error


def _classes(label) -> list[int]:
    """The classes that labels name: one whole number, or a row of them. Probabilities and one-hot rows are none."""
    given = np.asarray(label)
    if given.size and (given.ndim > 1 or given.dtype.kind not in "iu"):
        raise Invalid(f"a label is a class's number, one for each row: not {given.dtype} of shape {given.shape}")
    return [int(one) for one in given.reshape(-1)]


class Text:
    """A text under way: iterate over its tokens; `end` is set after the last. Dropping it stops the provider's work."""

    #: How the text ended; None until it has.
    end: TextEnd | None = None

    def __init__(self, text: _core.Text):
        self._text = text

    def __iter__(self) -> Text:
        return self

    def __next__(self) -> Token:
        event = None if self.end else self._text.next().wait()
        if isinstance(event, tuple):
            return Token(*event)
        if event is not None:
            self.end = TextEnd._of(event)
        raise StopIteration

    def read(self) -> str:
        """All the text that is still to come."""
        return "".join(token.text for token in self)


class AsyncText:
    """As `Text`, for `async for`."""

    #: How the text ended; None until it has.
    end: TextEnd | None = None

    def __init__(self, text: _core.Text):
        self._text = text

    def __aiter__(self) -> AsyncText:
        return self

    async def __anext__(self) -> Token:
        event = None if self.end else await _awaited(self._text.next())
        if isinstance(event, tuple):
            return Token(*event)
        if event is not None:
            self.end = TextEnd._of(event)
        raise StopAsyncIteration

    async def read(self) -> str:
        """All the text that is still to come."""
        return "".join([token.text async for token in self])


class Client(_Base):
    """A member of one pool. Calls block, but not other threads; it may be used from several. Timeouts are in seconds."""

    @classmethod
    def connect(
        cls, invite: str | None = None, *, account: str | PathLike[str] | None = None, timeout: float = 60.0
    ) -> Client:
        """Joins the pool of `invite` (one line of text), or connects again with the account in the file `account`, which is
        made, mode 0600, when it is not there. Without a file each call is a new account and uses the invite up by one."""
        return cls(_core.connect(invite, account, timeout).wait())

    def resolve(self, name: str, *, fresh: bool = False, timeout: float = 30.0) -> Resolution:
        """Looks `publisher/model[@version|:channel]` up and measures who serves it; `fresh` asks past every cache."""
        return Resolution._of(self._core.resolve(name, fresh, timeout).wait())

    def describe(self, name: str, *, timeout: float = 30.0) -> Model:
        """What a model takes and gives."""
        return Model._of(self._core.describe(name, timeout).wait())

    def predict(self, name: str, inputs: Inputs, *, timeout: float = 60.0) -> Prediction:
        """Predicts at the nearest endpoint, or the next one if that is gone, full or lies. `inputs` is a mapping from input
        names to arrays, or the only input: an array, bytes, or text. A path is a picture or a sound: see `predict_content`."""
        if isinstance(inputs, PathLike):
            return self.predict_content(name, inputs, timeout=timeout)
        return Prediction._of(self._core.predict(name, tensors(inputs), timeout).wait())

    def predict_content(self, name: str, *contents: Content, timeout: float = 60.0) -> Prediction:
        """Predicts from pictures (PNG, JPEG, WebP, BMP; several are a batch) or one sound (WAV, FLAC, Ogg Vorbis, MP3), each a path
        or a file's bytes. They become tensors here, as the model's publisher said; its provider never sees the files."""
        return Prediction._of(self._core.predict_content(name, _contents(contents), timeout).wait())

    def embed(
        self, name: str, texts: str | Iterable[str], *, truncate: bool = False, timeout: float = 60.0
    ) -> npt.NDArray[np.float32]:
        """One row of numbers for each text: an array [texts, width]; a single text is one row. At most 256 texts at once. A text
        of more tokens than the model takes is `Invalid`, or cut if `truncate` says so. `predict` tells receipts and tokens."""
        return self.predict(name, texts_as_inputs(texts, truncate), timeout=timeout)["embeddings"]

    def generate(
        self,
        name: str,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        timeout: float = 600.0,
    ) -> Text:
        """Text, token by token, from a prompt or a conversation of `{"role": …, "content": …}`. When a provider dies, the
        next goes on from what was shown."""
        args = name, prompt, max_tokens, temperature, top_k, top_p, seed, stop, timeout
        return Text(self._generate(*args).wait())

    def audit(self, name: str, *, timeout: float = 120.0) -> Audit:
        """Who published, graded and used `publisher/model`: gathered from the ledger and the providers, checked here from the
        genesis alone. Of its uses it shows what this account may see: its own, or all if it is the owner or an auditor."""
        return Audit._of(self._core.audit(name, timeout).wait())

    def tell_outcome(
        self,
        call: Prediction | TextEnd | bytes,
        *,
        label: npt.ArrayLike | None = None,
        right: bool | None = None,
        with_input: bool = False,
        timeout: float = 60.0,
    ) -> Outcome:
        """Tells a model's owner what was true of a call of this account: the true class of each row (`label`), or whether the whole
        answer was right. Signed, and sealed to the owner alone, who sees who called, with labels what was answered, and what was asked if
        `with_input` gives it. Telling it again is harmless; while the owner is away it is `Unreachable`, and nothing is kept here."""
        return Outcome(**self._tell(call, label, right, with_input, timeout).wait())

    def receipts(self, name: str, provider: str, *, start: int = 0, timeout: float = 30.0) -> list[Receipt]:
        """Receipts of a model that one provider has anchored on the ledger and shows to this account, each proved, from log
        index `start` on; at most 512 come at once."""
        return [Receipt(**r) for r in self._core.receipts(name, provider, start, timeout).wait()]

    def close(self) -> None:
        """Closes the connections. A text under way goes on."""
        self._core.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Base):
    """As `Client`, to be awaited. Cancelling a call stops its work."""

    @classmethod
    async def connect(
        cls, invite: str | None = None, *, account: str | PathLike[str] | None = None, timeout: float = 60.0
    ) -> AsyncClient:
        """See `Client.connect`."""
        return cls(await _awaited(_core.connect(invite, account, timeout)))

    async def resolve(self, name: str, *, fresh: bool = False, timeout: float = 30.0) -> Resolution:
        """See `Client.resolve`."""
        return Resolution._of(await _awaited(self._core.resolve(name, fresh, timeout)))

    async def describe(self, name: str, *, timeout: float = 30.0) -> Model:
        """See `Client.describe`."""
        return Model._of(await _awaited(self._core.describe(name, timeout)))

    async def predict(self, name: str, inputs: Inputs, *, timeout: float = 60.0) -> Prediction:
        """See `Client.predict`."""
        if isinstance(inputs, PathLike):
            return await self.predict_content(name, inputs, timeout=timeout)
        return Prediction._of(await _awaited(self._core.predict(name, tensors(inputs), timeout)))

    async def predict_content(self, name: str, *contents: Content, timeout: float = 60.0) -> Prediction:
        """See `Client.predict_content`."""
        return Prediction._of(await _awaited(self._core.predict_content(name, _contents(contents), timeout)))

    async def embed(
        self, name: str, texts: str | Iterable[str], *, truncate: bool = False, timeout: float = 60.0
    ) -> npt.NDArray[np.float32]:
        """See `Client.embed`."""
        return (await self.predict(name, texts_as_inputs(texts, truncate), timeout=timeout))["embeddings"]

    async def generate(
        self,
        name: str,
        prompt: Prompt,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        timeout: float = 600.0,
    ) -> AsyncText:
        """See `Client.generate`."""
        args = name, prompt, max_tokens, temperature, top_k, top_p, seed, stop, timeout
        return AsyncText(await _awaited(self._generate(*args)))

    async def audit(self, name: str, *, timeout: float = 120.0) -> Audit:
        """See `Client.audit`."""
        return Audit._of(await _awaited(self._core.audit(name, timeout)))

    async def tell_outcome(
        self,
        call: Prediction | TextEnd | bytes,
        *,
        label: npt.ArrayLike | None = None,
        right: bool | None = None,
        with_input: bool = False,
        timeout: float = 60.0,
    ) -> Outcome:
        """See `Client.tell_outcome`."""
        return Outcome(**await _awaited(self._tell(call, label, right, with_input, timeout)))

    async def receipts(self, name: str, provider: str, *, start: int = 0, timeout: float = 30.0) -> list[Receipt]:
        """See `Client.receipts`."""
        return [Receipt(**r) for r in await _awaited(self._core.receipts(name, provider, start, timeout))]

    async def close(self) -> None:
        """Closes the connections. A text under way goes on."""
        self._core.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._core.close()
