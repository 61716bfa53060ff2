"""The official `openai` client against a node's gateway, with a real language model and a real embedder behind it.

Run by `run.sh`, which starts the node and says where it is.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import tempfile
import time
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

BASE = os.environ["ZERO2AI_URL"] + "/v1"
TOKEN = os.environ["ZERO2AI_TOKEN"]
MODEL, EMBEDDER = "lab/smollm2", "lab/minilm"
SENTENCES = Path(__file__).resolve().parent.parent / "fixtures/minilm/reference.json"
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def client(**changes) -> openai.OpenAI:
    return openai.OpenAI(**{"base_url": BASE, "api_key": TOKEN, "max_retries": 0, **changes})


class Embeddings(unittest.TestCase):
    def test_rows_are_those_of_single_precision(self):
        sentences = json.loads(SENTENCES.read_text())
        texts = [sentence["text"] for sentence in sentences]
        # The client asks for base64 by itself, and decodes it; plain numbers are asked for here.
        answer = client().embeddings.create(model=EMBEDDER, input=texts)
        plain = client().embeddings.create(model=EMBEDDER, input=texts[0], encoding_format="float")
        self.assertEqual(answer.usage.prompt_tokens, sum(sentence["tokens"] for sentence in sentences))
        self.assertEqual([row.index for row in answer.data], list(range(len(texts))))
        for sentence, row in zip(sentences, answer.data, strict=True):
            cosine = sum(a * b for a, b in zip(sentence["embedding"], row.embedding, strict=True))
            self.assertGreater(cosine, 0.999, sentence["text"])
        self.assertEqual(plain.data[0].embedding, answer.data[0].embedding)

    def test_what_is_not_done_is_refused_by_name(self):
        for wish, word in (
            ({"input": "a", "dimensions": 64}, "dimensions"),
            ({"input": [[1, 2, 3]]}, "tokens"),
            ({"input": "word " * 600}, "602 tokens"),
            ({"input": "a", "model": MODEL}, "does not embed"),
        ):
            with self.subTest(wish), self.assertRaises(openai.BadRequestError) as caught:
                client().embeddings.create(**{"model": EMBEDDER, **wish})
            self.assertIn(word, str(caught.exception))
        with self.assertRaises(openai.NotFoundError):
            client().embeddings.create(model="lab/nothing", input="a")


class Chat(unittest.TestCase):
    def test_an_answer(self):
        answer = client().chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=40)
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertIn("Paris", answer.choices[0].message.content)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        usage = answer.usage
        self.assertGreater(usage.prompt_tokens, 10)
        self.assertGreater(usage.completion_tokens, 2)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_a_stream_says_the_same_as_the_whole(self):
        wish = {"model": MODEL, "messages": QUESTION, "temperature": 0.8, "seed": 7, "max_completion_tokens": 24}
        whole = client().chat.completions.create(**wish)
        options = {"include_usage": True}
        chunks = list(client().chat.completions.create(**wish, stream=True, stream_options=options))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-2].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))
        self.assertEqual(len({c.id for c in chunks}), 1)

    def test_seeds_and_limits(self):
        def say(**wish):
            answer = client().chat.completions.create(model=MODEL, messages=QUESTION, temperature=1.5, **wish)
            return answer.choices[0]

        self.assertEqual(say(seed=1, max_tokens=16).message.content, say(seed=1, max_tokens=16).message.content)
        self.assertNotEqual(say(seed=1, max_tokens=16).message.content, say(seed=2, max_tokens=16).message.content)
        self.assertEqual(say(seed=1, max_tokens=2).finish_reason, "length")
        stopped = client().chat.completions.create(
            model=MODEL, messages=QUESTION, temperature=0, max_tokens=40, stop=["Paris"]
        ).choices[0]
        self.assertNotIn("Paris", stopped.message.content)
        self.assertEqual(stopped.finish_reason, "stop")

    def test_a_caller_that_leaves_stops_the_work(self):
        # Counting goes on to the limit, for many seconds; the provider signs what it did as soon as it is told to stop.
        wish = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6,", "temperature": 0, "max_tokens": 4000}

        def leave_stream():
            stream = client().completions.create(**wish, stream=True)
            for _ in zip(range(5), stream):
                pass
            stream.close()

        def leave_whole():
            with self.assertRaises(openai.APITimeoutError):
                client(timeout=1).completions.create(**wish)

        for leave in (leave_stream, leave_whole):
            with self.subTest(leave.__name__):
                before = receipts()
                leave()
                end = time.monotonic() + 3
                while receipts() == before and time.monotonic() < end:
                    time.sleep(0.1)
                self.assertEqual(receipts(), before + 1, "the provider went on for nobody")

    def test_several_callers_at_once(self):
        wish = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 12}
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: client().chat.completions.create(**wish), range(4)))
        self.assertEqual(len({a.choices[0].message.content for a in answers}), 1)


class Readme(unittest.TestCase):
    def test_its_example_runs_as_written(self):
        text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
        example = text.split("```python\n")[1].split("```")[0]
        self.assertLessEqual(len(example.splitlines()), 5)
        example = example.replace("http://127.0.0.1:8700", os.environ["ZERO2AI_URL"])
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            Path("n1").mkdir()
            Path("n1/http.token").write_text(TOKEN)
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile(example, "README.md", "exec"), {})
        self.assertGreater(len(said.getvalue()), 20)


    def test_its_curl_line_runs_as_written(self):
        text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
        example = next(block.split("```")[0] for block in text.split("```sh\n") if block.startswith("curl"))
        self.assertLessEqual(len(example.splitlines()), 5)
        example = example.replace("http://127.0.0.1:8700", os.environ["ZERO2AI_URL"])
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "n1").mkdir()
            (Path(folder) / "n1/http.token").write_text(TOKEN)
            said = subprocess.run(["sh", "-c", example], cwd=folder, check=True, capture_output=True).stdout
        self.assertEqual(json.loads(said)["usage"]["completion_tokens"], 8)


class Budgets(unittest.TestCase):
    def test_a_text_ends_where_its_budget_does(self):
        made = zero2ai("token", "new", "trial", "--scopes", "infer", "--budget", "60")
        wish = {"model": MODEL, "prompt": "1, 2, 3, 4, 5, 6,", "temperature": 0}
        poor = client(api_key=made["token"], max_retries=2)
        first = poor.completions.create(**wish, max_tokens=4)
        self.assertEqual(first.usage.completion_tokens, 4)
        left = 60 - first.usage.total_tokens
        chunks = list(poor.completions.create(**wish, max_tokens=500, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-2].choices[0].finish_reason, "length")
        # What a prompt has is estimated before it is read: the text may be that much off.
        self.assertLess(abs(chunks[-1].usage.total_tokens - left), 24)
        start = time.monotonic()
        with self.assertRaises(openai.RateLimitError) as caught:
            poor.completions.create(**wish, max_tokens=40)
        self.assertEqual((caught.exception.code, caught.exception.type), ("insufficient_quota", "insufficient_quota"))
        self.assertIn(f"zero2ai token budget {made['id']}", str(caught.exception))
        self.assertLess(time.monotonic() - start, 30, "the client tried again")
        self.assertEqual(caught.exception.response.headers["x-should-retry"], "false")

        zero2ai("token", "budget", made["id"], "200")
        self.assertEqual(poor.completions.create(**wish, max_tokens=4).usage.completion_tokens, 4)
        # Figures are on disk within seconds.
        totals = first.usage.total_tokens * 2 + chunks[-1].usage.total_tokens
        end = time.monotonic() + 60
        while (used := listed(made["id"]))["used"] != totals and time.monotonic() < end:
            time.sleep(0.2)
        self.assertEqual((used["used"], used["budget"], used["calls"]), (totals, 200, 3))


def zero2ai(*words: str) -> dict:
    said = subprocess.run([os.environ["ZERO2AI"], "--json", *words], check=True, capture_output=True)
    return json.loads(said.stdout)


def listed(token: str) -> dict:
    return next(entry for entry in zero2ai("token", "list") if entry["id"] == token)


class Completions(unittest.TestCase):
    WISH = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12}

    def test_whole_and_streamed(self):
        whole = client().completions.create(**self.WISH)
        self.assertEqual(whole.object, "text_completion")
        self.assertEqual(whole.usage.completion_tokens, 12)
        chunks = list(client().completions.create(**self.WISH, stream=True))
        self.assertEqual("".join(c.choices[0].text for c in chunks), whole.choices[0].text)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")


class Models(unittest.TestCase):
    def test_listed_and_found(self):
        self.assertIn(MODEL, [m.id for m in client().models.list()])
        model = client().models.retrieve(MODEL)
        self.assertEqual(model.owned_by, "lab")
        self.assertLess(abs(model.created - time.time()), 3600)


class Refusals(unittest.TestCase):
    def test_each_is_the_clients_own_exception(self):
        def chat(**changes):
            return client().chat.completions.create(**{"model": MODEL, "messages": QUESTION, "max_tokens": 2, **changes})

        with self.assertRaises(openai.AuthenticationError):
            client(api_key="0" * 64).models.list()
        with self.assertRaises(openai.NotFoundError) as caught:
            chat(model="lab/nothing")
        self.assertEqual(caught.exception.code, "model_not_found")
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        for name, value in [
            ("n", 2),
            ("tools", [tool]),
            ("top_logprobs", 21),
            ("frequency_penalty", -1),
            ("max_tokens", 10**9),
            ("temperature", 3),
            ("messages", []),
            ("response_format", {"type": "json_object"}),
        ]:
            with self.subTest(name), self.assertRaises(openai.BadRequestError) as caught:
                chat(**{name: value})
            self.assertEqual(caught.exception.param, name)
        with self.assertRaises(openai.BadRequestError):
            chat(messages=[{"role": "user", "content": "word " * 40_000}])
        with self.assertRaises(openai.PermissionDeniedError):
            client(default_headers={"Origin": "http://evil.example"}).models.list()


def receipts() -> int:
    """Receipts in the node's log."""
    said = subprocess.run([os.environ["ZERO2AI"], "status", "--json"], check=True, capture_output=True)
    return json.loads(said.stdout)["receipts"]


class Metrics(unittest.TestCase):
    def test_tokens_are_counted(self):
        before = tokens()
        usage = client().completions.create(model=MODEL, prompt="Hello", max_tokens=5).usage
        after = tokens()
        self.assertEqual(after["prompt"] - before["prompt"], usage.prompt_tokens)
        self.assertEqual(after["completion"] - before["completion"], usage.completion_tokens)


def tokens() -> dict[str, int]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with urllib.request.urlopen(urllib.request.Request(os.environ["ZERO2AI_URL"] + "/metrics", headers=headers)) as answer:
        text = answer.read().decode()
    return {kind: int(n) for kind, n in re.findall(r'^zero2ai_http_tokens_total{kind="(\w+)"} (\d+)$', text, re.M)}


if __name__ == "__main__":
    unittest.main()
