"""What an embedder of the BERT family makes of texts, computed with numpy in single precision from its folder as
sentence-transformers saves it: config.json, model.safetensors, tokenizer.json, and modules.json with the pooling if they are there.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def safetensors(path):
    """Tensors of a file, by name: a length, a header in JSON, then the numbers."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F32": np.float32, "F16": np.float16}
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__" or name.endswith("position_ids"):
            continue
        if entry["dtype"] not in types:
            sys.exit(f"tensor '{name}' is of the type {entry['dtype']}; F32 and F16 are read here")
        first, end = entry["data_offsets"]
        values = np.frombuffer(data[start + first : start + end], types[entry["dtype"]])
        tensors[name.removeprefix("bert.")] = values.reshape(entry["shape"]).astype(np.float32)
    return tensors


def settings(path):
    return json.loads(path.read_text()) if path.exists() else {}


class Bert:
    def __init__(self, folder: Path):
        self.config = settings(folder / "config.json")
        if self.config.get("model_type") != "bert" or self.config.get("hidden_act") != "gelu":
            sys.exit(f"{folder} is no BERT with gelu, which alone is computed here")
        self.tensors = safetensors(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        pooling = settings(folder / "1_Pooling/config.json") or {"pooling_mode_mean_tokens": True}
        modes = {mode for mode, wanted in pooling.items() if mode.startswith("pooling_mode_") and wanted is True}
        if modes not in ({"pooling_mode_mean_tokens"}, {"pooling_mode_cls_token"}):
            sys.exit(f"the pooling {sorted(modes)} is not computed here; the mean of the tokens or their first is")
        self.first = modes == {"pooling_mode_cls_token"}
        modules = settings(folder / "modules.json") or [{"type": "Normalize"}]
        self.normalised = any(module["type"].endswith("Normalize") for module in modules)

    def dense(self, rows, name):
        return rows @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, rows, name):
        centred = rows - rows.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / scale * self.tensors[f"{name}.LayerNorm.weight"] + self.tensors[f"{name}.LayerNorm.bias"]

    def attention(self, rows, name):
        heads = self.config["num_attention_heads"]
        split = lambda part: self.dense(rows, f"{name}.self.{part}").reshape(len(rows), heads, -1).transpose(1, 0, 2)
        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[2])
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        mixed = weights / weights.sum(axis=2, keepdims=True) @ value
        return self.dense(mixed.transpose(1, 0, 2).reshape(len(rows), -1), f"{name}.output.dense")

    def embed(self, text):
        """The row of a text, and how many tokens it has."""
        ids = self.tokenizer.encode(text).ids
        if len(ids) > self.config["max_position_embeddings"]:
            sys.exit(f"a text has {len(ids)} tokens, which is more than the model takes")
        part = lambda name: self.tensors[f"embeddings.{name}_embeddings.weight"]
        rows = self.norm(part("word")[ids] + part("position")[: len(ids)] + part("token_type")[0], "embeddings")
        erf = np.frompyfunc(math.erf, 1, 1)
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            rows = self.norm(rows + self.attention(rows, f"{name}.attention"), f"{name}.attention.output")
            inside = self.dense(rows, f"{name}.intermediate.dense")
            inside = inside * 0.5 * (1 + erf(inside / math.sqrt(2)).astype(np.float32))
            rows = self.norm(rows + self.dense(inside, f"{name}.output.dense"), f"{name}.output")
        row = rows[0] if self.first else rows.mean(axis=0)
        return (row / np.linalg.norm(row) if self.normalised else row).astype(np.float32), len(ids)
