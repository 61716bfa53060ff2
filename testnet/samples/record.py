"""Records conformance samples: what a reference makes of some inputs, for `zero2ai publish --samples`. Every node that is to serve
the model must then come to the same, within the tolerance, or it does not serve it.

    python3 -m venv venv && venv/bin/pip install numpy onnxruntime     # an ONNX file: ONNX Runtime
    venv/bin/python record.py model.onnx --out samples.json --inputs real.npz --tolerance 1e-3
    venv/bin/pip install numpy llama-cpp-python                        # a GGUF file: llama.cpp
    venv/bin/python record.py model.gguf --out samples.json --texts lines.txt
    venv/bin/pip install numpy tokenizers                              # a folder with an embedder: numpy, see bert.py
    venv/bin/python record.py folder --out samples.json --texts lines.txt
    zero2ai publish model.onnx --name lab/model --samples samples.json

Real inputs say more than random ones. `--inputs` is a file of numpy.savez with an array for each of an ONNX model's inputs; it may
be given several times, a sample each. Without it inputs are random (numbers from 0 to 1, whole numbers 0 or 1), the same for the
same --seed. Free dimensions are 2, or what --size says (`--size batch=1 --size height=48`, or by place: `--size pixels.2=48`).
`--texts` is a file with a text a line: a sample each of a language model, all of them one sample of an embedder.

A language model's sample is a text, the tokens that it is, and at each position the log-probabilities of the tokens that are
likeliest by the reference: a tokenizer, weights and chosen words that differ all show.

The file is JSON: {"recorded_with", "samples": [{"tolerance", "inputs": [TENSOR], "outputs": [TENSOR]}]}, a TENSOR being what
`zero2ai predict --input` takes too: {"name", "datatype", "shape", "data"}, flat and row-major; or {"name", "text"}, the bytes of
a text.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

#: Datatypes of the network by ONNX Runtime's and numpy's names.
TYPES = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(bool)": ("BOOL", np.bool_),
}
NAMES = {np.dtype(numpy): name for name, numpy in TYPES.values()}
#: Largest absolute difference allowed, unless said: of an ONNX model's numbers; of log-probabilities, where products round to
#: 8 bits in one way here and in another there (0.47 was seen of a small model in 4 bits); of an embedding's numbers, whose weights
#: nodes round to 8 bits (0.005 was seen).
TOLERANCES = {"onnx": 1e-4, "gguf": 0.75, "folder": 0.01}
#: What is read if no texts are given: words, numbers, signs, other scripts, code.
TEXTS = [
    "The capital of France is Paris, and the capital of Italy is Rome. In 1969, two people walked on the Moon.",
    "naïve cafés  sell 12.50 worth – “quoted” — Straße, Москва, 東京 🙂\n\tand tabs\n\n",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))  # 5\n",
]
#: Tokens told of at each position.
TOP = 5


def shape(spec, sizes):
    """A shape without free dimensions."""
    size = lambda place, dim: sizes.get(f"{spec.name}.{place}", dim if isinstance(dim, int) and dim > 0 else sizes.get(dim, 2))
    return [size(place, dim) for place, dim in enumerate(spec.shape)]


def invented(specs, sizes, random):
    """Random inputs of a model."""
    made = {}
    for spec in specs:
        if spec.type not in TYPES:
            sys.exit(f"input '{spec.name}' is of the type {spec.type}, which no model of the network takes")
        dtype, dims = TYPES[spec.type][1], shape(spec, sizes)
        made[spec.name] = (random.random(dims) if np.issubdtype(dtype, np.floating) else random.integers(0, 2, dims)).astype(dtype)
    return made


def tensor(name, array):
    """An array as JSON."""
    array = np.asarray(array)
    if array.dtype not in NAMES:
        sys.exit(f"'{name}' is of the type {array.dtype}, which the network does not carry")
    if not np.isfinite(array.astype(np.float64)).all():
        sys.exit(f"'{name}' has values that are no numbers: such a sample can never be reproduced")
    # The shortest decimal that is the same single-precision number, not the same double.
    data = [float(str(v)) for v in array.reshape(-1)] if array.dtype == np.float32 else array.reshape(-1).tolist()
    data = [int(v) for v in data] if array.dtype == np.bool_ else data
    return {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape), "data": data}


def of_onnx(given):
    """What ONNX Runtime makes of inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
    if given.inputs:
        every = [dict(np.load(path)) for path in given.inputs]
    else:
        random = np.random.default_rng(given.seed)
        every = [invented(session.get_inputs(), dict(given.size), random) for _ in range(given.count)]
    samples = []
    for inputs in every:
        outputs = zip(session.get_outputs(), session.run(None, inputs))
        given_in = [tensor(name, array) for name, array in inputs.items()]
        samples.append((given_in, [tensor(spec.name, array) for spec, array in outputs]))
    return f"onnxruntime {onnxruntime.__version__}", samples


def of_gguf(given):
    """What llama.cpp makes of texts: their tokens, and the likeliest at each position."""
    import llama_cpp

    samples, longest = [], max(len(text.encode()) for text in given.texts) + 8
    model = llama_cpp.Llama(str(given.model), n_ctx=longest, logits_all=True, verbose=False)
    for text in given.texts:
        tokens = model.tokenize(text.encode(), add_bos=True, special=True)
        if len(tokens) < 2:
            sys.exit(f"'{text}' is one token: nothing follows it")
        model.reset()
        model.eval(tokens)
        scores = np.array(model.scores[: len(tokens) - 1], np.float64)
        logs = scores - scores.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        likeliest = np.argsort(-logs, axis=1, kind="stable")[:, :TOP]
        among = np.take_along_axis(logs, likeliest, axis=1).astype(np.float32).round(5)
        inputs = [
            {"name": "text", "text": text},
            tensor("from", np.array([1], np.int64)),
            tensor("among", likeliest.astype(np.int64)),
        ]
        outputs = [tensor("tokens", np.array(tokens, np.int64)), tensor("likeliest", among[:, 0]), tensor("among", among)]
        samples.append((inputs, outputs))
    return f"llama-cpp-python {llama_cpp.__version__}", samples


def of_folder(given):
    """What an embedder makes of texts."""
    from bert import Bert

    model = Bert(given.model)
    rows, counts = zip(*(model.embed(text) for text in given.texts))
    inputs = [
        tensor("lengths", np.array([len(text.encode()) for text in given.texts], np.int64)),
        {"name": "text", "text": "".join(given.texts)},
    ]
    outputs = [tensor("embeddings", np.stack(rows).round(6)), tensor("tokens", np.array(counts, np.int64))]
    return f"numpy {np.__version__}", [(inputs, outputs)]


def size(text):
    name, _, value = text.partition("=")
    if not name or not value.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=NUMBER")
    return name, int(value)


def lines(path):
    found = [line for line in Path(path).read_text("utf-8").splitlines() if line]
    if not found:
        raise argparse.ArgumentTypeError(f"'{path}' has no text")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX file, a GGUF file, or a folder with an embedder")
    parser.add_argument("--out", required=True, help="the file of samples to write")
    parser.add_argument("--inputs", action="append", default=[], help="a file of numpy.savez: one sample")
    parser.add_argument("--texts", type=lines, default=TEXTS, help="a file with a text a line")
    parser.add_argument("--count", type=int, default=3, help="random samples, without --inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=size, action="append", default=[], help="of a free dimension: NAME=NUMBER")
    parser.add_argument("--tolerance", type=float, help=f"largest absolute difference allowed; unless said {TOLERANCES}")
    given = parser.parse_args()

    kind = "folder" if given.model.is_dir() else given.model.suffix.lower().lstrip(".")
    recorders = {"onnx": of_onnx, "gguf": of_gguf, "folder": of_folder}
    if kind not in recorders:
        sys.exit(f"{given.model} is no .onnx or .gguf file and no folder")
    recorder, samples = recorders[kind](given)
    tolerance = TOLERANCES[kind] if given.tolerance is None else given.tolerance
    written = [{"tolerance": tolerance, "inputs": inputs, "outputs": outputs} for inputs, outputs in samples]
    with open(given.out, "w") as file:
        rows = ",\n".join("  " + json.dumps(sample, separators=(",", ":")) for sample in written)
        file.write(f'{{\n "recorded_with": "{recorder}",\n "samples": [\n{rows}\n ]\n}}\n')
    print(f"{len(samples)} samples in {given.out}")


if __name__ == "__main__":
    main()
