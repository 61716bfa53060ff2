"""llama.cpp in the benches, through the C interface that llama-cpp-python binds.

    llama.py convert MODEL OUT Q8_0|Q4_0|F32
    llama.py make MODEL OUT Q8_0|Q4_0   a llama of 1.1 billion random weights with MODEL's tokens
    llama.py run MODEL THREADS      and on the first line of standard input the prompts, as JSON
    llama.py perplexity MODEL TEXT COUNT

`run` says `ready`, does everything once it has read the prompts, and says `done` with its figures. Tokens are chosen by
numpy's argmax; encoding of prompts is not part of any time. `perplexity` prints the first COUNT tokens of a file's text and
the mean log-probability of all but the first, as JSON.
"""

import ctypes
import json
import os
import struct
import sys
import time

import llama_cpp as lc
import numpy as np

TYPES = {"Q8_0": lc.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": lc.LLAMA_FTYPE_MOSTLY_Q4_0, "F32": lc.LLAMA_FTYPE_ALL_F32}
CONTEXT = 8192
SEQUENCES = 8
SILENT = lc.llama_log_callback(lambda level, text, data: None)


def convert(model, out, kind):
    params = lc.llama_model_quantize_default_params()
    params.ftype = TYPES[kind]
    params.allow_requantize = True
    if lc.llama_model_quantize(model.encode(), out.encode(), ctypes.byref(params)) != 0:
        sys.exit("llama.cpp could not convert the model")


# The shape of the made model, as TinyLlama's; the head is the embedding.
LAYERS, WIDTH, HIDDEN, HEADS, KV_HEADS = 22, 2048, 5632, 32, 4
SPREAD = 0.02
# Bytes of a value of each of GGUF's plain types.
PLAIN = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def skip(data, at, kind):
    """Where a value of this type ends, and how many elements it has if it is a list."""
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", data, at)[0], 0
    if kind == 9:
        inner, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            at, _ = skip(data, at, inner)
        return at, count
    return at + PLAIN[kind], 0


def tokenizer(model):
    """The file's keys that speak of tokens, as they are stored, and how many tokens there are."""
    with open(model, "rb") as file:
        data = file.read(64 << 20)
    (keys,) = struct.unpack_from("<Q", data, 16)
    at, kept, tokens = 24, [], 0
    for _ in range(keys):
        start = at
        (length,) = struct.unpack_from("<Q", data, at)
        key = data[at + 8 : at + 8 + length].decode()
        (kind,) = struct.unpack_from("<I", data, at + 8 + length)
        at, count = skip(data, at + 12 + length, kind)
        if key.startswith("tokenizer."):
            kept.append(data[start:at])
        if key == "tokenizer.ggml.tokens":
            tokens = count
    return kept, tokens


def make(model, out, kind):
    kept, tokens = tokenizer(model)
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    number = lambda key, n: text("llama." + key) + struct.pack("<II", 4, n)
    keys = kept + [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        number("block_count", LAYERS),
        number("context_length", CONTEXT),
        number("embedding_length", WIDTH),
        number("feed_forward_length", HIDDEN),
        number("attention.head_count", HEADS),
        number("attention.head_count_kv", KV_HEADS),
        number("rope.dimension_count", WIDTH // HEADS),
        text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5),
        text("llama.rope.freq_base") + struct.pack("<If", 6, 10000.0),
    ]
    shared = WIDTH // HEADS * KV_HEADS
    shapes = [("token_embd", tokens, WIDTH), ("output_norm", None, WIDTH)]
    for i in range(LAYERS):
        parts = [("attn_norm", None, WIDTH), ("ffn_norm", None, WIDTH), ("attn_q", WIDTH, WIDTH), ("attn_k", shared, WIDTH)]
        parts += [("attn_v", shared, WIDTH), ("attn_output", WIDTH, WIDTH), ("ffn_gate", HIDDEN, WIDTH)]
        parts += [("ffn_up", HIDDEN, WIDTH), ("ffn_down", WIDTH, HIDDEN)]
        shapes += [(f"blk.{i}.{name}", n, k) for name, n, k in parts]
    # Type, bytes of quants in a block of 32 weights, and the scale that gives weights their spread.
    code, quants, scale = {"Q8_0": (8, 32, SPREAD / 73.9), "Q4_0": (2, 16, SPREAD / 4.61)}[kind]
    size = lambda n, k: 4 * k if n is None else n * k // 32 * (2 + quants)
    infos, offset = [], 0
    for name, n, k in shapes:
        dims = [k] if n is None else [k, n]
        infos.append(text(name + ".weight") + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, 0 if n is None else code, offset))
        offset += -(-size(n, k) // 32) * 32
    random = np.random.default_rng(20260101)
    with open(out + ".part", "wb") as file:
        pad = lambda: file.write(bytes(-file.tell() % 32))
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys + infos))
        pad()
        for name, n, k in shapes:
            if n is None:
                file.write(np.ones(k, dtype="<f4").tobytes())
            else:
                blocks = random.integers(0, 256, size=(n * k // 32, 2 + quants), dtype=np.uint8)
                blocks[:, :2] = np.frombuffer(np.float16(scale).tobytes(), dtype=np.uint8)
                file.write(blocks.tobytes())
            pad()
    os.rename(out + ".part", out)


class Text:
    def __init__(self, path, threads):
        self.model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
        params = lc.llama_context_default_params()
        params.n_ctx = CONTEXT
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = SEQUENCES
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        self.context = lc.llama_init_from_model(self.model, params)
        self.vocabulary = lc.llama_model_get_vocab(self.model)
        self.size = lc.llama_vocab_n_tokens(self.vocabulary)
        self.batch = lc.llama_batch_init(CONTEXT, 0, 1)

    def tokens(self, text, count):
        out = (lc.llama_token * (count + 64))()
        raw = text.encode()
        found = lc.llama_tokenize(self.vocabulary, raw, len(raw), out, len(out), False, True)
        if found != count:
            sys.exit(f"a prompt has {found} tokens instead of {count}")
        return list(out[:count])

    def clear(self):
        lc.llama_memory_clear(lc.llama_get_memory(self.context), False)

    def decode(self, rows):
        """Rows are (token, position, sequence, whether scores are wanted); answers the likeliest token of each that wants."""
        self.batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i] = token
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = wanted
        if lc.llama_decode(self.context, self.batch) != 0:
            sys.exit("llama.cpp could not decode")
        scores = lambda i: np.ctypeslib.as_array(lc.llama_get_logits_ith(self.context, i), shape=(self.size,))
        return [int(scores(i).argmax()) for i, row in enumerate(rows) if row[3]]

    def prompt(self, tokens, sequence=0):
        last = len(tokens) - 1
        rows = [(t, i, sequence, i == last) for i, t in enumerate(tokens)]
        for start in range(0, len(rows), 512):
            given = self.decode(rows[start : start + 512])
        return given[0]

    def generate(self, prompts, count):
        """Seconds from the first token of all to the last of all."""
        self.clear()
        given = [self.prompt(p, s) for s, p in enumerate(prompts)]
        return self.go_on([len(p) for p in prompts], given, count)

    def go_on(self, lengths, given, count):
        """The same, from the first tokens on."""
        begun = time.perf_counter()
        for step in range(count - 1):
            given = self.decode([(t, lengths[s] + step, s, True) for s, t in enumerate(given)])
        return time.perf_counter() - begun


def perplexity(path, text, count):
    lc.llama_log_set(SILENT, None)
    lc.llama_backend_init()
    model = Text(path, 2)
    with open(text, encoding="utf-8") as file:
        raw = file.read().encode()
    out = (lc.llama_token * len(raw))()
    tokens = list(out[: lc.llama_tokenize(model.vocabulary, raw, len(raw), out, len(out), False, True)])[:count]
    logs = []
    for start in range(0, len(tokens), 256):
        rows = [(t, start + i, 0, True) for i, t in enumerate(tokens[start : start + 256])]
        model.decode(rows)
        for i in range(len(rows)):
            if start + i + 1 < len(tokens):
                scores = np.ctypeslib.as_array(lc.llama_get_logits_ith(model.context, i), shape=(model.size,))
                scores = scores.astype(np.float64)
                scores -= scores.max()
                logs.append(float(scores[tokens[start + i + 1]] - np.log(np.exp(scores).sum())))
    print(json.dumps({"tokens": tokens, "mean": sum(logs) / len(logs)}))


def peak_mib():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def run(path, threads):
    lc.llama_log_set(SILENT, None)
    lc.llama_backend_init()
    before = peak_mib()
    print("ready", flush=True)
    work = json.loads(sys.stdin.readline())
    begun = time.perf_counter()
    text = Text(path, threads)
    text.decode([(0, 0, 0, True)])
    figures = {"load s": time.perf_counter() - begun}
    long = text.tokens(work["long"], work["long_tokens"])
    short = [text.tokens(p, work["short_tokens"]) for p in work["short"]]
    given = work["given"]
    text.generate(short[:1], 8)
    text.clear()
    begun = time.perf_counter()
    text.prompt(long)
    seconds = time.perf_counter() - begun
    figures["prompt tokens/s"] = len(long) / seconds
    figures["first token ms"] = seconds * 1e3
    if work["after"]:
        text.clear()
        first = text.prompt(long)
        figures["after it, tokens/s"] = (work["given"] - 1) / text.go_on([len(long)], [first], work["given"])
    for n in work["together"]:
        figures[f"{n} sequences, tokens/s"] = n * (given - 1) / text.generate(short[:n], given)
    figures["peak memory MiB"] = peak_mib()
    figures["of it Python MiB"] = before
    print("done", json.dumps(figures), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:5])
    elif sys.argv[1] == "make":
        make(*sys.argv[2:5])
    elif sys.argv[1] == "perplexity":
        perplexity(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        run(sys.argv[2], int(sys.argv[3]))
