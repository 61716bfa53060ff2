"""Five real models, one of each domain, are graded by three validators, each on data of its own: `validator run` takes the versions as they
are published, and every report ends in a grade. The data are made by testnet/domains/data.py, labels included. With REPORTS in the
environment the reports are left there, for people who want to look at them.

    python3 testnet/domains/grading.py       # takes five minutes on two cores, and so is no part of CI
"""

import json
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import data
from network import PROGRAM, ROOT, Network, embedder, language_model, line_classifier, speech_detector, until

FIXTURES = ROOT / "testnet/fixtures"
RECORD = ROOT / "testnet/samples/record.py"
VALIDATORS = 3
IMAGE = "192x48,bgr,line,mean=0.5,std=0.5,input=x"
AUDIO = "16000,window=576,hop=512,lead=64,input=input,zeros=h:1x1x128,zeros=c:1x1x128"


def models():
    """Name, file, how it is published, the figure that its grade rests on."""
    low = ["--accept", "0.3", "--reject", "0.1"]
    yield "digits", FIXTURES / "digits/digits.onnx", ["--accept", "0.85"], "macro F1"
    yield "smollm2", language_model(), low, "exact match"
    yield "minilm", embedder(), ["--accept", "0.5", "--reject", "0.2"], "recall@1"
    yield "line", line_classifier(), ["--image", IMAGE, "--accept", "0.8"], "macro F1"
    yield "speech", speech_detector(), ["--audio", AUDIO, "--accept", "0.8"], "macro F1"


def samples(folder: Path, name: str, file: Path) -> list:
    """What fixes the sizes of models that leave them open: inputs, and what a reference runtime says to them."""
    state = np.zeros((1, 1, 128), np.float32)
    noise = np.random.default_rng(7).normal(0, 0.1, (60, 576)).astype(np.float32)
    picture = np.random.default_rng(7).uniform(-1, 1, (1, 3, 48, 192)).astype(np.float32)
    inputs = {"line": {"x": picture}, "speech": {"input": noise, "h": state, "c": state}}.get(name)
    if inputs is None:
        return []
    np.savez(folder / "inputs.npz", **inputs)
    command = [sys.executable, RECORD, file, "--out", folder / f"{name}.json", "--inputs", folder / "inputs.npz"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return ["--samples", folder / f"{name}.json"]


def settings(path: Path, **columns):
    lines = [f"{key} = {json.dumps(value)}" for key, value in columns.items()]
    path.with_suffix(".toml").write_text("\n".join(lines) + "\n")


def folder_of(folder: Path, nth: int) -> Path:
    """A validator's data, as `validator run` looks for them."""
    lab = folder / "lab"
    lab.mkdir(parents=True)
    shutil.copy(FIXTURES / f"digits/heldout-{nth + 1}.csv", lab / "digits.csv")
    data.texts(folder / "text.jsonl", nth)
    settings(folder / "text.jsonl", slice="length")
    data.pairs(folder / "embedding.jsonl", nth)
    data.pictures(lab / "line", nth)
    settings(lab / "line.x", classes=["upright", "turned"])
    data.sounds(lab / "speech", nth)
    settings(lab / "speech.x", classes=["silence", "speech"], slice="loud")
    return folder


class Grading(unittest.TestCase):
    def test_five_real_models_are_graded_by_three_validators(self):
        network = Network(1 + VALIDATORS)
        self.addCleanup(network.stop)
        folders = [folder_of(network.folder / f"data{nth}", nth) for nth in range(VALIDATORS)]
        reports = [network.folder / f"reports{nth}" for nth in range(VALIDATORS)]
        wanted = list(models())
        for name, file, flags, _ in wanted:
            flags = [*flags, *samples(network.folder, name, file)]
            network[0].json("publish", file, "--name", f"lab/{name}", "--replicas", "0", *flags)
        known = lambda node: len(node.try_json("names", "ls") or []) == len(wanted)
        for node in network[1:]:
            until(lambda: known(node), "the names at every validator")
        for node, folder, report in zip(network[1:], folders, reports):
            command = ["validator", "run", "--once", "--data", folder, "--reports", report]
            # The first also tests under load.
            load = ["--load"] if report == reports[0] else []
            command = [PROGRAM, "--home", node.home, "--json", *command, *load]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for name, _, _, figure in wanted:
            for report in reports:
                self.graded(json.loads((report / f"lab/{name}@1.json").read_text()), figure)
            found = next(m for m in network[0].json("names", "ls") if m["name"] == f"lab/{name}")
            self.assertIsNotNone(found["score"], name)
        tokens = json.loads((reports[0] / "lab/smollm2@1.json").read_text())["tokens"]
        self.assertGreater(tokens["first"][0]["micros"], tokens["each"][0]["micros"])
        if kept := os.environ.get("REPORTS"):
            shutil.copytree(reports[0], kept, dirs_exist_ok=True)

    def graded(self, report: dict, figure: str):
        """The grade rests on the figure that the domain has, and is good; attacks were run, and are told."""
        grade = report["grade"]
        self.assertEqual(grade["decision"], "positive", (report["subject"], grade, report["metrics"]))
        self.assertIn(figure, [metric["name"] for metric in report["metrics"]])
        self.assertTrue(report["robustness"], report["notes"])
        self.assertIn("black-box", " ".join(grade["reasons"]))


if __name__ == "__main__":
    unittest.main()
