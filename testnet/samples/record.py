"""Records conformance samples: what ONNX Runtime makes of some inputs, for `zero2ai publish --samples`. Every node that is to serve
the model must then come to the same, within the tolerance, or it does not serve it.

    python3 -m venv venv && venv/bin/pip install numpy onnxruntime
    venv/bin/python record.py model.onnx --out samples.json
    venv/bin/python record.py model.onnx --out samples.json --inputs real.npz --tolerance 1e-3
    zero2ai publish model.onnx --name lab/model --samples samples.json

Real inputs say more than random ones. `--inputs` is a file of numpy.savez with an array for each of the model's inputs; it may be
given several times, a sample each. Without it inputs are random (numbers from 0 to 1, whole numbers 0 or 1), the same for the
same --seed. Free dimensions are 2, or what --size says (`--size batch=1 --size height=48`, or by place: `--size pixels.2=48`).

The file is JSON: {"recorded_with", "samples": [{"tolerance", "inputs": [TENSOR], "outputs": [TENSOR]}]}, a TENSOR being what
`zero2ai predict --input` takes too: {"name", "datatype", "shape", "data"}, flat and row-major.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime

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


def record(session, inputs, tolerance):
    """One sample."""
    outputs = session.run(None, inputs)
    return {
        "tolerance": tolerance,
        "inputs": [tensor(name, array) for name, array in inputs.items()],
        "outputs": [tensor(spec.name, array) for spec, array in zip(session.get_outputs(), outputs)],
    }


def size(text):
    name, _, value = text.partition("=")
    if not name or not value.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=NUMBER")
    return name, int(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an ONNX file")
    parser.add_argument("--out", required=True, help="the file of samples to write")
    parser.add_argument("--inputs", action="append", default=[], help="a file of numpy.savez: one sample")
    parser.add_argument("--count", type=int, default=3, help="random samples, without --inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=size, action="append", default=[], help="of a free dimension: NAME=NUMBER")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest absolute difference allowed")
    given = parser.parse_args()

    session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
    if given.inputs:
        every = [dict(np.load(path)) for path in given.inputs]
    else:
        random = np.random.default_rng(given.seed)
        every = [invented(session.get_inputs(), dict(given.size), random) for _ in range(given.count)]
    samples = [record(session, inputs, given.tolerance) for inputs in every]
    with open(given.out, "w") as file:
        rows = ",\n".join("  " + json.dumps(sample, separators=(",", ":")) for sample in samples)
        file.write(f'{{\n "recorded_with": "onnxruntime {onnxruntime.__version__}",\n "samples": [\n{rows}\n ]\n}}\n')
    print(f"{len(samples)} samples in {given.out}")


if __name__ == "__main__":
    main()
