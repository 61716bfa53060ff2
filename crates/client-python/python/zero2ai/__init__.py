"""Client of Zero2AI: models served by a pool's own machines. Names are proved from the pool's genesis, answers come with
receipts that were checked, and no daemon is needed."""

from ._client import AsyncClient, AsyncText, Client, Text
from ._errors import (
    Busy, Cancelled, Denied, Error, Invalid, ModelFailed, NotFound, Timeout, Unavailable, Unreachable, Unverified,
)  # fmt: skip
from ._values import (
    Audit, AuditVersion, Endorsement, Endpoint, Event, Model, Outcome, Prediction, Receipt, Resolution, TensorSpec, TextEnd, Token, Use,
)  # fmt: skip

__all__ = [
    "AsyncClient", "AsyncText", "Audit", "AuditVersion", "Busy", "Cancelled", "Client", "Denied", "Endorsement", "Endpoint",
    "Error", "Event", "Invalid", "Model",
    "ModelFailed", "NotFound", "Outcome", "Prediction", "Receipt", "Resolution", "TensorSpec", "Text", "TextEnd", "Timeout", "Token",
    "Unavailable", "Unreachable", "Unverified", "Use",
]  # fmt: skip
