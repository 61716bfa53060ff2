"""Triton's own HTTP client against a node's gateway: the digits classifier, in JSON and in binary tensors.

Run by `run.sh`, which starts the node and says where it is.
"""

import csv
import json
import os
import unittest
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

HEADERS = {"Authorization": f"Bearer {os.environ['ZERO2AI_TOKEN']}"}
MODEL = "acme/digits"
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures/digits"


def client() -> triton.InferenceServerClient:
    return triton.InferenceServerClient(os.environ["ZERO2AI_URL"].removeprefix("http://"))


def samples() -> tuple[np.ndarray, np.ndarray]:
    with open(FIXTURES / "predict.csv") as file:
        rows = np.array([[float(cell) for cell in row] for row in list(csv.reader(file))[1:]], dtype=np.float32)
    return rows[:, :-1].copy(), rows[:, -1].astype(int)


class Digits(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.metadata = self.client.get_model_metadata(MODEL, headers=HEADERS)

    def infer(self, data: np.ndarray, binary: bool, name: str = MODEL, ask: bool = True, **more) -> triton.InferResult:
        kind = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}[data.dtype.name]
        tensor = triton.InferInput(self.metadata["inputs"][0]["name"], list(data.shape), kind)
        tensor.set_data_from_numpy(data, binary_data=binary)
        outputs = [triton.InferRequestedOutput(self.output(), binary_data=binary)] if ask else None
        return self.client.infer(name, [tensor], outputs=outputs, headers=dict(HEADERS), **more)

    def output(self) -> str:
        return self.metadata["outputs"][0]["name"]

    def test_what_it_is(self):
        self.assertTrue(self.client.is_server_live(headers=HEADERS))
        self.assertTrue(self.client.is_server_ready(headers=HEADERS))
        self.assertTrue(self.client.is_model_ready(MODEL, headers=HEADERS))
        self.assertTrue(self.client.is_model_ready(MODEL, model_version="1", headers=HEADERS))
        self.assertFalse(self.client.is_model_ready("acme/nothing", headers=HEADERS))
        self.assertIn("binary_tensor_data", self.client.get_server_metadata(headers=HEADERS)["extensions"])
        self.assertEqual(self.metadata["name"], MODEL)
        self.assertEqual(self.metadata["inputs"][0]["shape"], [-1, 64])
        self.assertEqual(self.metadata["inputs"][0]["datatype"], "FP32")

    def test_json_and_binary_give_the_golden_figures(self):
        data, classes = samples()
        golden = json.loads((FIXTURES / "golden.json").read_text())["files"]["predict.csv"]
        first = np.array(golden["first_probabilities"])
        answers = [
            self.infer(data, binary=True),
            self.infer(data, binary=False),
            self.infer(data, binary=True, ask=False),
            self.infer(data, binary=True, model_version="1", request_id="7"),
        ]
        self.assertEqual(answers[-1].get_response()["id"], "7")
        for answer in answers:
            got = answer.as_numpy(self.output())
            self.assertEqual((got.shape, got.dtype), ((len(data), 10), np.float32))
            np.testing.assert_allclose(got[: len(first)], first, atol=1e-5)
            self.assertEqual(int((got.argmax(axis=1) == classes).sum()), golden["correct"])
        np.testing.assert_array_equal(answers[0].as_numpy(self.output()), answers[1].as_numpy(self.output()))

    def test_what_is_wrong_is_an_exception_with_its_reason(self):
        data, _ = samples()
        for change, status, word in [
            (lambda: self.infer(data[:, :63].copy(), binary=True), "400", "64"),
            (lambda: self.infer(data.astype(np.float64), binary=True), "400", "F64"),
            (lambda: self.infer(data, binary=True, name="acme/nothing"), "404", "nothing"),
            (lambda: self.infer(data, binary=True, model_version="9"), "404", "9"),
            (lambda: self.infer(np.full_like(data, np.nan), binary=True), "400", "NaN"),
            (lambda: self.infer(data, binary=True, request_compression_algorithm="gzip"), "415", "compressed"),
            (lambda: self.infer(np.zeros((20_000, 64), dtype=np.float32), binary=True), "413", "larger"),
        ]:
            with self.subTest(word), self.assertRaises(InferenceServerException) as caught:
                change()
            self.assertEqual(caught.exception.status(), status)
            self.assertIn(word, caught.exception.message())
        with self.assertRaises(InferenceServerException) as caught:
            self.client.get_model_metadata(MODEL)
        self.assertEqual(caught.exception.status(), "401")


if __name__ == "__main__":
    unittest.main()
