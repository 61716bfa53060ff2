"""Errors, by the code that each carries: the same words as in the `--json` errors of the `zero2ai` program."""

from __future__ import annotations


class Error(Exception):
    """Something failed. `code` is for programs; the text is one paragraph: what failed, why, and what to do."""

    code = "internal"

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        if code is not None:
            self.code = code


class Invalid(Error, ValueError):
    """What was given cannot be used, here or by the model."""

    code = "invalid"


class Denied(Error, PermissionError):
    """The pool or the ledger refuses: a right, an admission or the pool key is missing."""

    code = "denied"


class NotFound(Error, LookupError):
    """No such name, version or endpoint."""

    code = "not_found"


class Busy(Error):
    """Every endpoint is busy."""

    code = "busy"


class Timeout(Error, TimeoutError):
    """No whole answer in time."""

    code = "timeout"


class Unreachable(Error, ConnectionError):
    """No node answers, or the connection broke."""

    code = "unreachable"


class Unverified(Error):
    """A proof, signature or receipt does not hold: a node is faulty or lies."""

    code = "unverified"


class Unavailable(Error):
    """The chain is halted or too far behind for this."""

    code = "unavailable"


class ModelFailed(Error):
    """The model cannot be run, or failed while running."""

    code = "model"


class Cancelled(Error):
    """The call was cancelled before it was done."""

    code = "cancelled"


_CLASSES = {
    kind.code: kind
    for kind in (
        Invalid, Denied, NotFound, Busy, Timeout, Unreachable, Unverified, Unavailable, ModelFailed, Cancelled,
    )
}  # fmt: skip


def error(code: str, message: str) -> Error:
    """The exception of a code. Codes without a class of their own are plain `Error`s."""
    kind = _CLASSES.get(code)
    # OSError and its like take other meanings from two arguments: the text is set on its own.
    return Error(message, code) if kind is None else kind(message)
