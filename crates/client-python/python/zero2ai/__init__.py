"""Client of Zero2AI: models served by a pool's own machines. Names are proved from the pool's genesis, answers come with
receipts that were checked, and no daemon is needed."""

from ._client import AsyncClient, AsyncText, Client, Text
from ._errors import (
    Busy, Cancelled, Denied, Error, Invalid, ModelFailed, NotFound, Timeout, Unavailable, Unreachable, Unverified,
)  # fmt: skip
from ._values import Endpoint, Model, Prediction, Receipt, Resolution, TensorSpec, TextEnd, Token

__all__ = [
    "AsyncClient", "AsyncText", "Busy", "Cancelled", "Client", "Denied", "Endpoint", "Error", "Invalid", "Model",
    "ModelFailed", "NotFound", "Prediction", "Receipt", "Resolution", "TensorSpec", "Text", "TextEnd", "Timeout", "Token",
    "Unavailable", "Unreachable", "Unverified",
]  # fmt: skip
