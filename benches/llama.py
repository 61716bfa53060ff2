"""llama.cpp in the benches, through the C interface that llama-cpp-python binds.

    llama.py convert MODEL OUT Q8_0|Q4_0|F32
    llama.py run MODEL THREADS      and on the first line of standard input the prompts, as JSON
    llama.py perplexity MODEL TEXT COUNT

`run` says `ready`, does everything once it has read the prompts, and says `done` with its figures. Tokens are chosen by
numpy's argmax; encoding of prompts is not part of any time. `perplexity` prints the first COUNT tokens of a file's text and
the mean log-probability of all but the first, as JSON.
"""

import ctypes
import json
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
        return self.decode([(t, i, sequence, i == last) for i, t in enumerate(tokens)])[0]

    def generate(self, prompts, count):
        """Seconds from the first token of all to the last of all."""
        self.clear()
        given = [self.prompt(p, s) for s, p in enumerate(prompts)]
        begun = time.perf_counter()
        for step in range(count - 1):
            given = self.decode([(t, len(prompts[s]) + step, s, True) for s, t in enumerate(given)])
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
    for n in (1, 4, 8):
        figures[f"{n} sequences, tokens/s"] = n * (given - 1) / text.generate(short[:n], given)
    figures["peak memory MiB"] = peak_mib()
    figures["of it Python MiB"] = before
    print("done", json.dumps(figures), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:5])
    elif sys.argv[1] == "perplexity":
        perplexity(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        run(sys.argv[2], int(sys.argv[3]))
