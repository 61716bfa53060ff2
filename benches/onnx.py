"""ONNX Runtime in the benches.

    onnx.py run MODEL THREADS                  and on the first line of standard input the inputs and how often, as JSON
    onnx.py embed MODEL TOKENIZER THREADS      and there the texts, how many at a time, and for how many seconds

Says `ready`, does everything once it has read that line, and says `done` with its figures as JSON. Tensors are little-endian
bytes in hexadecimal. Embedding is the mean over a text's tokens, at length one, as the model's maker has it; making tokens is
part of the time, as it is on our side.
"""

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime as ort

DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1", "Bool": "?"}
LONGEST = 256


def session(model, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model, threads):
    print("ready", flush=True)
    work = json.loads(sys.stdin.readline())
    begun = time.perf_counter()
    net = session(model, threads)
    load = time.perf_counter() - begun
    inputs = {
        t["name"]: np.frombuffer(bytes.fromhex(t["data"]), DTYPES[t["dtype"]]).reshape(t["shape"]) for t in work["inputs"]
    }
    outputs = net.run(None, inputs)
    took = []
    end = time.perf_counter() + work["seconds"]
    while time.perf_counter() < end or len(took) < 5:
        begun = time.perf_counter()
        net.run(None, inputs)
        took.append(time.perf_counter() - begun)
    said = [
        {"name": spec.name, "data": np.ascontiguousarray(value, "<f4").tobytes().hex()}
        for spec, value in zip(net.get_outputs(), outputs)
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    ]
    print("done", json.dumps({"load": load, "ms": statistics.median(took) * 1e3, "outputs": said}), flush=True)


def embed(model, tokenizer, threads):
    from tokenizers import Tokenizer

    print("ready", flush=True)
    work = json.loads(sys.stdin.readline())
    begun = time.perf_counter()
    net = session(model, threads)
    tokens = Tokenizer.from_file(tokenizer)
    tokens.enable_truncation(LONGEST)
    tokens.enable_padding()
    load = time.perf_counter() - begun
    names = [i.name for i in net.get_inputs()]

    def rows(texts):
        found = tokens.encode_batch(texts)
        mask = np.array([e.attention_mask for e in found], "<i8")
        given = {
            "input_ids": np.array([e.ids for e in found], "<i8"),
            "attention_mask": mask,
            "token_type_ids": np.array([e.type_ids for e in found], "<i8"),
        }
        out = net.run(None, {name: given[name] for name in names})[0]
        if out.ndim == 3:
            out = (out * mask[..., None]).sum(1) / mask.sum(1)[:, None]
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    figures = {"load": load, "rates": {}}
    texts = work["texts"]
    for many in work["together"]:
        rows(texts[:many])
        at, count, begun = 0, 0, time.perf_counter()
        while time.perf_counter() - begun < work["seconds"]:
            rows([texts[(at + i) % len(texts)] for i in range(many)])
            at, count = at + many, count + many
        figures["rates"][many] = count / (time.perf_counter() - begun)
    figures["rows"] = rows(texts[:8]).astype("<f4").tobytes().hex()
    print("done", json.dumps(figures), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2], int(sys.argv[3]))
    else:
        embed(sys.argv[2], sys.argv[3], int(sys.argv[4]))
