"""Makes what the targets `embedder` and `vocabulary` start from: the smallest embedder that loads, and a language model's header
with a vocabulary.

    python3 -m venv venv && venv/bin/pip install numpy
    venv/bin/python make.py

Writes the embedder's files beside itself, and each of them, behind a byte that says which it is, to ../corpus/embedder;
the header to ../corpus/vocabulary.
"""

import json
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent
WIDTH, CONTEXT = 32, 16
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = MARKS + ["a", "b", "##a", "##b", "cat", "dog", "sits", "the", "##s", "."]


def tokenizer():
    marks = [
        {"id": i, "content": mark, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i, mark in enumerate(MARKS)
    ]
    around = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    around.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": marks,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": around, "pair": around,
            "special_tokens": {mark: {"id": mark, "ids": [MARKS.index(mark)], "tokens": [mark]} for mark in ("[CLS]", "[SEP]")},
        },
        "decoder": None,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(WORDS)},
        },
    }  # fmt: skip


def tensors():
    shapes = {"embeddings.word_embeddings.weight": [len(WORDS), WIDTH], "embeddings.position_embeddings.weight": [CONTEXT, WIDTH],
              "embeddings.token_type_embeddings.weight": [2, WIDTH]}  # fmt: skip
    layer = "encoder.layer.0"
    for norm in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        shapes |= {f"{norm}.LayerNorm.{part}": [WIDTH] for part in ("weight", "bias")}
    dense = [f"attention.self.{part}" for part in ("query", "key", "value")]
    for part in (*dense, "attention.output.dense", "intermediate.dense", "output.dense"):
        shapes |= {f"{layer}.{part}.weight": [WIDTH, WIDTH], f"{layer}.{part}.bias": [WIDTH]}
    random = np.random.default_rng(1)
    return {name: random.normal(0, 0.3, shape).astype("<f4") for name, shape in shapes.items()}


def safetensors(arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        entry = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        header[name], data = entry, data + array.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + data


def gguf():
    """Version 3: a few keys, a vocabulary of bytes, and one tensor."""
    string = lambda text: struct.pack("<Q", len(text.encode())) + text.encode()
    number = lambda key, value: string(key) + struct.pack("<II", 4, value)
    text = lambda key, value: string(key) + struct.pack("<I", 8) + string(value)
    texts = lambda key, values: string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))
    numbers = lambda key, values: string(key) + struct.pack("<IIQ", 9, 5, len(values)) + struct.pack(f"<{len(values)}i", *values)
    words = [chr(c) for c in range(0x21, 0x7F)] + ["Ġ", "th", "the", "<|end|>"]
    pairs = [
        text("general.architecture", "llama"),
        *(number(f"llama.{key}", value) for key, value in [
            ("attention.head_count", 2), ("attention.head_count_kv", 1), ("embedding_length", 32), ("block_count", 1),
            ("context_length", 64), ("feed_forward_length", 32), ("rope.dimension_count", 16)]),
        string("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5),
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", "smollm"),
        texts("tokenizer.ggml.tokens", words),
        numbers("tokenizer.ggml.token_type", [1] * (len(words) - 1) + [3]),
        texts("tokenizer.ggml.merges", ["t h", "th e"]),
        number("tokenizer.ggml.eos_token_id", len(words) - 1),
        number("tokenizer.ggml.bos_token_id", len(words) - 1),
        text("tokenizer.chat_template", "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"),
    ]  # fmt: skip
    tensor = string("output_norm.weight") + struct.pack("<IQIQ", 1, 32, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return header + bytes(-len(header) % 32) + bytes(32 * 4)


def main():
    json_bytes = lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    kinds = ["Transformer", "Pooling", "Normalize"]
    files = {
        "config.json": json_bytes({
            "model_type": "bert", "architectures": ["BertModel"], "hidden_size": WIDTH, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": WIDTH, "hidden_act": "gelu", "max_position_embeddings": CONTEXT,
            "type_vocab_size": 2, "vocab_size": len(WORDS), "layer_norm_eps": 1e-12, "position_embedding_type": "absolute"}),
        "tokenizer.json": json_bytes(tokenizer()),
        "modules.json": json_bytes([
            {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)]),
        "1_Pooling.json": json_bytes({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}),
        "model.safetensors": safetensors(tensors()),
    }  # fmt: skip
    corpus = HERE / "../corpus"
    for folder in ("embedder", "vocabulary"):
        (corpus / folder).mkdir(exist_ok=True)
    for which, (name, data) in enumerate(files.items()):
        (HERE / name).write_bytes(data)
        (corpus / "embedder" / name.split(".")[0]).write_bytes(bytes([which]) + data)
    (corpus / "vocabulary/header").write_bytes(gguf())


if __name__ == "__main__":
    main()
