"""The pools that the tests run against: see testnet/network.py."""

import csv
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "testnet"))

from network import DIGITS, PATIENCE, SENTENCES, Network, embedder, language_model, until  # noqa: E402

MEDIA = ROOT / "testnet/fixtures/media"

__all__ = [
    "DIGITS", "EMBEDDER", "GOLDEN", "MEDIA", "NAME", "PATIENCE", "REFERENCE", "ROOT", "TEXT", "Network", "embedder", "language_model",
    "rows", "served", "until",
]  # fmt: skip

NAME, TEXT, EMBEDDER = "acme/digits", "lab/smollm2", "lab/minilm"
REFERENCE = json.loads(SENTENCES.read_text())
GOLDEN = json.loads((DIGITS / "golden.json").read_text())["files"]["predict.csv"]


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Held-out digits, and which each is."""
    with open(DIGITS / "predict.csv") as file:
        cells = np.array([[float(cell) for cell in row] for row in list(csv.reader(file))[1:]], dtype=np.float32)
    return cells[:, :-1].copy(), cells[:, -1].astype(int)


def served(client, name: str, by: int):
    """The name once so many nodes serve it: one that begins to is heard of a moment later."""
    enough = lambda found: found if len(found.endpoints) >= by else None
    return until(lambda: enough(client.resolve(name, fresh=True)), f"{name} served by {by}")
