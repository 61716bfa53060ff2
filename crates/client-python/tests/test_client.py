"""The Python client against a pool of two real daemons.

    python3 -m unittest discover -s crates/client-python/tests     # zero2ai installed; ZERO2AI names the program
"""

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import zero2ai
from common import (
    DIGITS, EMBEDDER, GOLDEN, MEDIA, NAME, PATIENCE, REFERENCE, ROOT, TEXT, Network, embedder, language_model, rows, served, until,
)  # fmt: skip

network = client = None
folder = Path()


def setUpModule():
    global network, client, folder
    network = Network(2)
    unittest.addModuleCleanup(network.stop)
    network.publish(DIGITS / "digits.onnx", NAME)
    network[0].json("publish", language_model(), "--name", TEXT, "--replicas", "0")
    network[0].json("publish", embedder(), "--name", EMBEDDER, "--replicas", "0")
    folder = Path(tempfile.mkdtemp(dir=network.folder))
    client = zero2ai.Client.connect(network.invite(), account=folder / "me")
    unittest.addModuleCleanup(client.close)
    served(client, NAME, 2)
    served(client, TEXT, 1)
    served(client, EMBEDDER, 1)


class Accounts(unittest.TestCase):
    def test_an_account_in_a_file_is_the_same_again_and_secret(self):
        self.assertEqual(stat.S_IMODE((folder / "me").stat().st_mode), 0o600)
        with zero2ai.Client.connect(account=str(folder / "me")) as again:
            self.assertEqual((again.account, again.pool), (client.account, client.pool))
            self.assertEqual(again.resolve(NAME).name, NAME)

    def test_a_used_up_invite_admits_nobody_else(self):
        invite = network.invite()
        with zero2ai.Client.connect(invite) as one:
            self.assertNotEqual(one.account, client.account)
        with self.assertRaises(zero2ai.Error) as caught:
            zero2ai.Client.connect(invite)
        self.assertIn(caught.exception.code, ("denied", "invalid"))

    def test_what_is_no_invite_or_account(self):
        for invite, account, code in ((None, None, "invalid"), ("z2a1-xyz", None, "invalid"), (None, folder / "no", "config")):
            with self.subTest(invite=invite), self.assertRaises(zero2ai.Error) as caught:
                zero2ai.Client.connect(invite, account=account)
            self.assertEqual(caught.exception.code, code)

    def test_a_closed_client_says_so(self):
        other = zero2ai.Client.connect(account=folder / "me")
        other.close()
        with self.assertRaises(zero2ai.Invalid):
            other.resolve(NAME)


class Embeddings(unittest.TestCase):
    def test_rows_are_those_of_single_precision(self):
        texts = [sentence["text"] for sentence in REFERENCE]
        array = client.embed(EMBEDDER, texts)
        self.assertEqual((array.shape, array.dtype), ((len(texts), 384), np.float32))
        cosines = (array * np.array([sentence["embedding"] for sentence in REFERENCE])).sum(axis=1)
        self.assertGreater(cosines.min(), 0.999)
        np.testing.assert_array_equal(client.embed(EMBEDDER, texts[1]), array[1:2])  # one text is one row, the same bits
        np.testing.assert_array_equal(client.embed(EMBEDDER, (text for text in texts)), array)

        async def awaited():
            async with await zero2ai.AsyncClient.connect(account=folder / "me") as other:
                return await other.embed(EMBEDDER, texts)

        np.testing.assert_array_equal(asyncio.run(awaited()), array)

    def test_what_cannot_be_embedded(self):
        long = "word " * 600
        for name, texts in ((EMBEDDER, []), (EMBEDDER, ["a"] * 257), (EMBEDDER, long), (NAME, "a"), (TEXT, "a")):
            with self.subTest(name), self.assertRaises(zero2ai.Error) as caught:
                client.embed(name, texts)
            self.assertIn(caught.exception.code, ("invalid", "model"))
        self.assertEqual(client.embed(EMBEDDER, long, truncate=True).shape, (1, 384))
        self.assertEqual(client.describe(EMBEDDER).task, "embed")


class Predictions(unittest.TestCase):
    def test_arrays_in_and_out_with_a_receipt(self):
        data, classes = rows()
        model = client.describe(NAME)
        self.assertEqual((model.task, model.inputs[0].shape, model.inputs[0].dtype), ("classify", (None, 64), np.float32))
        answer = client.predict(NAME, {model.inputs[0].name: data})
        self.assertEqual((answer.output.shape, answer.output.dtype), ((len(data), 10), np.float32))
        self.assertEqual(int((answer.output.argmax(axis=1) == classes).sum()), GOLDEN["correct"])
        first = np.array(GOLDEN["first_probabilities"])
        np.testing.assert_allclose(answer.output[: len(first)], first, atol=1e-4)
        self.assertIs(answer[next(iter(answer))], answer.output)
        receipt = answer.receipt
        self.assertEqual((receipt.account, receipt.name, receipt.units), (client.account, NAME, len(data)))
        self.assertEqual((receipt.provider, receipt.status), (answer.node, "complete"))

    def test_what_was_true_reaches_the_owner(self):
        data, classes = rows()
        answer = client.predict(NAME, data[:4])
        told = client.tell_outcome(answer, label=classes[:4])
        self.assertTrue(told.fresh)
        self.assertFalse(client.tell_outcome(answer.kept(), label=classes[:4]).fresh, "kept as bytes, it is the same call")
        with self.assertRaises(zero2ai.Invalid):
            client.tell_outcome(answer, right=False)  # another word on the same call
        for wrong in ({}, {"label": [1], "right": True}, {"label": []}, {"label": [70_000]}, {"label": [1, 2]}, {"label": [0.9, 0.1, 0.0, 0.0]}, {"label": [[0, 1], [1, 0]]}):
            with self.subTest(wrong), self.assertRaises(zero2ai.Invalid):
                client.tell_outcome(answer, **wrong)
        shown = network[0].json("outcomes", NAME)
        rows_told = [row for one in shown["outcomes"] if one["account"] == client.account for row in one["rows"]]
        self.assertEqual([row["true"] for row in rows_told], [str(one) for one in classes[:4]])

        async def awaited():
            async with await zero2ai.AsyncClient.connect(account=folder / "me") as other:
                return await other.tell_outcome(await other.predict(NAME, data[:1]), right=True, with_input=True)

        self.assertEqual(asyncio.run(awaited()).owner, told.owner)

    def test_an_output_stands_on_the_bytes_that_came(self):
        output = client.predict(NAME, rows()[0]).output
        self.assertIsNotNone(output.base)
        output[0, 0] = 7  # its own memory, to do with as one likes

    def test_inputs_that_are_not_laid_out_as_the_wire_wants_them(self):
        data, _ = rows()
        expected = client.predict(NAME, data).output
        for name, same in {
            "columns first": np.asfortranarray(data), "every second of twice as many": np.repeat(data, 2, axis=0)[::2],
            "big-endian": data.astype(">f4"),
        }.items():  # fmt: skip
            with self.subTest(name):
                np.testing.assert_array_equal(client.predict(NAME, same).output, expected)

    def test_what_cannot_be_predicted(self):
        data, _ = rows()
        for inputs in (
            data.astype("complex64"), data[:, :3], {"no such input": data}, b"bytes", "text", np.array(["text"]),
            {str(i): data[:1] for i in range(65)}, {},
        ):  # fmt: skip
            with self.subTest(type(inputs)), self.assertRaises(zero2ai.Error) as caught:
                client.predict(NAME, inputs)
            self.assertIn(caught.exception.code, ("invalid", "model"))
        with self.assertRaises(TypeError):
            client.predict(NAME, [object()])
        for timeout in (0, -1, float("nan"), float("inf")):
            with self.assertRaises(zero2ai.Invalid):
                client.predict(NAME, data, timeout=timeout)

    def test_names_that_are_none(self):
        for name, kind in (("acme/nothing", zero2ai.NotFound), (f"{NAME}@9", zero2ai.NotFound), ("nonsense", zero2ai.Invalid)):
            with self.subTest(name), self.assertRaises(kind):
                client.predict(name, rows()[0])

    def test_resolved_names_tell_who_serves_them(self):
        found = client.resolve(NAME, fresh=True)
        self.assertEqual((found.version, found.task, len(found.endpoints)), (1, "classify", 2))
        self.assertTrue(any(e.rtt is not None and 0 < e.rtt < 5 for e in found.endpoints))

    def test_receipts_are_proved_in_the_provider_s_log(self):
        answer = client.predict(NAME, rows()[0])

        def logged():
            try:
                found = client.receipts(NAME, answer.node)
            except (zero2ai.NotFound, zero2ai.Unavailable):
                return None  # nothing of its log is anchored yet, or it is a block behind
            return next((r for r in found if r.id == answer.receipt.id), None)

        receipt = until(logged, "the receipt's anchor")
        self.assertEqual(receipt.encoded, answer.receipt.encoded)
        self.assertIsNotNone(receipt.index)

    def test_an_audit_is_checked_here_and_by_the_program(self):
        answer = client.predict(NAME, rows()[0])

        def audited():
            audit = client.audit(NAME)
            # A provider may be a block behind the audit's header: then it is asked again.
            whole = not audit.missing and any(use.receipt == answer.receipt.id for use in audit.uses)
            return audit if whole else None

        audit = until(audited, "the receipt's anchor")
        self.assertEqual([(v.version, v.withdrawn) for v in audit.versions], [(1, False)])
        self.assertEqual([e.kind for e in audit.events], ["published"])
        self.assertEqual({use.account for use in audit.uses}, {client.account}, "others' uses are not for this account")
        (folder / "audit").write_bytes(audit.encoded)
        network[0].json("pool", "genesis", "--out", folder / "genesis")
        verified = network[0].json("audit", "verify", folder / "audit", "--genesis", folder / "genesis")
        self.assertEqual((verified["verified"], len(verified["receipts"])), (True, len(audit.uses)))
        with self.assertRaises(zero2ai.NotFound):
            client.audit("acme/nothing")
        with self.assertRaises(zero2ai.Invalid):
            client.audit("acme/digits@1")

    def test_many_threads_share_a_client(self):
        data, _ = rows()
        expected, wrong = client.predict(NAME, data).output, []

        def work():
            for _ in range(10):
                if not np.array_equal(client.predict(NAME, data).output, expected):
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertFalse(wrong or any(thread.is_alive() for thread in threads))


class Contents(unittest.TestCase):
    NAME = "lab/picture"

    @classmethod
    def setUpClass(cls):
        flags = "--samples", MEDIA / "picture.samples.json", "--image", "24x16,mean=0.5,std=0.5,input=pixels"
        network[0].json("publish", MEDIA / "picture.onnx", "--name", cls.NAME, "--replicas", "0", *flags)
        served(client, cls.NAME, 1)
        cls.want = json.loads((MEDIA / "golden.json").read_text())["picture.png"]["scores"]

    def test_a_picture_becomes_tensors_here(self):
        picture = MEDIA / "picture.png"
        for answer in client.predict(self.NAME, picture), client.predict_content(self.NAME, picture.read_bytes()):
            self.assertEqual((answer.output.shape, answer.receipt.units), ((1, 3), 1))
            np.testing.assert_allclose(answer.output[0], self.want, atol=1e-4)
        batch = client.predict_content(self.NAME, picture, bytearray((MEDIA / "picture.bmp").read_bytes()))
        self.assertEqual(batch.receipt.units, 2)
        np.testing.assert_array_equal(batch.output[0], batch.output[1])

    def test_awaited(self):
        async def ask():
            async with await zero2ai.AsyncClient.connect(account=folder / "me") as one:
                return await one.predict(self.NAME, MEDIA / "picture.webp")

        np.testing.assert_allclose(asyncio.run(ask()).output[0], self.want, atol=1e-4)

    def test_what_is_no_picture_is_told_before_anything_is_sent(self):
        for name, content, word in [
            (self.NAME, MEDIA / "clip.wav", "WAV sound"), (self.NAME, b"", "empty"), (self.NAME, b"\x89PNG\r\n\x1a\n", "cut short"),
            (NAME, MEDIA / "picture.png", "tensors alone"),
        ]:  # fmt: skip
            with self.subTest(word), self.assertRaises(zero2ai.Invalid) as caught:
                client.predict_content(name, content)
            self.assertIn(word, str(caught.exception))
        with self.assertRaises(FileNotFoundError):
            client.predict(self.NAME, folder / "nothing.png")


class Texts(unittest.TestCase):
    def test_token_by_token_with_receipts(self):
        text = client.generate(TEXT, "The capital of France is", max_tokens=12)
        said = list(text)
        self.assertIn("Paris", "".join(token.text for token in said))
        self.assertEqual((text.end.reason, len(said)), ("length", 12))
        self.assertEqual([receipt.units for receipt in text.end.receipts], [12])
        self.assertEqual(list(text), [])

    def test_a_conversation_and_a_stop_string(self):
        chat = [{"role": "user", "content": "What is the capital of France?"}]
        text = client.generate(TEXT, chat, max_tokens=24)
        self.assertTrue(text.read())
        raw = client.generate(TEXT, chat[0]["content"], max_tokens=1)
        raw.read()
        self.assertGreater(text.end.prompt_tokens, raw.end.prompt_tokens, "the template adds its own")
        text = client.generate(TEXT, "One, two, three, four, five,", max_tokens=40, stop="seven")
        self.assertNotIn("seven", text.read())

    def test_the_same_seed_says_the_same(self):
        say = lambda seed: client.generate(TEXT, "Once upon a time", max_tokens=16, temperature=1.0, seed=seed).read()
        self.assertEqual(say(7), say(7))

    def test_what_is_out_of_bounds(self):
        for bad in ({"max_tokens": 10**9}, {"max_tokens": -1}, {"max_tokens": 10**12}, {"temperature": -1.0}, {"top_p": 2.0},
                    {"temperature": float("nan")}, {"seed": -1}):  # fmt: skip
            with self.subTest(bad), self.assertRaises(zero2ai.Invalid):
                client.generate(TEXT, "x", **bad).read()
        with self.assertRaises(zero2ai.Invalid):
            client.generate(TEXT, [{"role": "nobody", "content": "x"}])

    def test_a_text_that_is_dropped_frees_the_provider(self):
        for _ in range(3):
            for _ in client.generate(TEXT, "Once upon a time", max_tokens=2000):
                break
        self.assertIn("Paris", client.generate(TEXT, "The capital of France is", max_tokens=8).read())


class Awaited(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = await zero2ai.AsyncClient.connect(account=folder / "me")
        self.addAsyncCleanup(self.client.close)

    async def test_predictions_side_by_side(self):
        data, classes = rows()
        answers = await asyncio.gather(*(self.client.predict(NAME, data) for _ in range(16)))
        for answer in answers:
            self.assertEqual(int((answer.output.argmax(axis=1) == classes).sum()), GOLDEN["correct"])
        self.assertEqual((await self.client.resolve(NAME)).version, 1)
        self.assertEqual((await self.client.describe(NAME)).task, "classify")

    async def test_text_and_other_work_meanwhile(self):
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(tick())
        text = await self.client.generate(TEXT, "The capital of France is", max_tokens=12)
        said = [token.text async for token in text]
        other.cancel()
        self.assertIn("Paris", "".join(said))
        self.assertEqual(text.end.receipts[0].units, len(said))
        self.assertGreater(ticks, 100)

    async def test_cancelling_stops_the_work(self):
        async def endless():
            async for _ in await self.client.generate(TEXT, "Once upon a time", max_tokens=2000):
                started.set()

        started = asyncio.Event()
        task = asyncio.create_task(endless())
        await asyncio.wait_for(started.wait(), PATIENCE)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task

    async def test_errors_are_raised_where_they_are_awaited(self):
        with self.assertRaises(zero2ai.NotFound):
            await self.client.predict("acme/nothing", rows()[0])


class Waiting(unittest.TestCase):
    """While every node stands still, nothing answers: what waits must neither hold other threads up nor resist Ctrl-C."""

    def setUp(self):
        self.client = zero2ai.Client.connect(account=folder / "me")
        self.addCleanup(self.client.close)

    def stand_still(self):
        for node in network:
            node.process.send_signal(signal.SIGSTOP)
            self.addCleanup(node.process.send_signal, signal.SIGCONT)

    def test_other_threads_go_on(self):
        turns, over = [], threading.Event()
        thread = threading.Thread(target=lambda: [turns.append(1) for _ in iter(lambda: over.wait(0.01), True)])
        self.stand_still()
        thread.start()
        before = len(turns)
        with self.assertRaises((zero2ai.Timeout, zero2ai.Unreachable)):
            self.client.resolve(NAME, fresh=True, timeout=2)
        during = len(turns) - before
        over.set()
        thread.join()
        self.assertGreater(during, 10)

    def test_ctrl_c_ends_the_wait(self):
        script = (
            "import sys, zero2ai\n"
            f"client = zero2ai.Client.connect(account={str(folder / 'me')!r})\n"
            "print('connected', flush=True)\n"
            "sys.stdin.readline()\n"
            "try: client.resolve('acme/digits', fresh=True, timeout=3600)\n"
            "except KeyboardInterrupt: print('interrupted', flush=True)\n"
            "except zero2ai.Error as error: print(error.code, flush=True)\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.kill)
        self.assertEqual(child.stdout.readline(), "connected\n")
        self.stand_still()
        child.stdin.write("\n")
        child.stdin.close()
        time.sleep(1)  # long enough to be inside the wait; if it is not there yet, the answer is the same
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.stdout.readline(), "interrupted\n")
        self.assertEqual(child.wait(PATIENCE), 0)


class Words(unittest.TestCase):
    def test_the_examples_run_as_written(self):
        for page in (ROOT / "README.md", ROOT / "crates/client-python/README.md"):
            examples = [code for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.S) if "zero2ai.Client" in code]
            self.assertTrue(examples, page)
            for code in examples:
                with self.subTest(page), tempfile.TemporaryDirectory() as where:
                    (Path(where) / "invite").write_text(network.invite() + "\n")
                    done = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, timeout=PATIENCE)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertIn("Paris", done.stdout)


if __name__ == "__main__":
    unittest.main()
