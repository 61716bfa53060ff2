"""LangChain, a framework on top of the official client: chains, streams and batches against a node's gateway, by one base URL.

Run by `run.sh`, which starts the node and says where it is.
"""

import asyncio
import os
import unittest

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

BASE = os.environ["ZERO2AI_URL"] + "/v1"
TOKEN = os.environ["ZERO2AI_TOKEN"]
MODEL = "lab/smollm2"
QUESTION = "What is the capital of France? Answer in one sentence."


def model(**changes) -> ChatOpenAI:
    return ChatOpenAI(
        **{"model": MODEL, "base_url": BASE, "api_key": TOKEN, "temperature": 0, "max_tokens": 24, "max_retries": 0, **changes}
    )


class LangChain(unittest.TestCase):
    def test_the_nearest_of_some_texts(self):
        # It sends text as tokens of OpenAI's own vocabulary unless told not to.
        embed = OpenAIEmbeddings(
            model="lab/minilm", base_url=BASE, api_key=TOKEN, check_embedding_ctx_length=False, max_retries=0
        )
        texts = ["The cat sleeps on the sofa.", "Interest rates rose again.", "A ship leaves the harbour."]
        rows, asked = embed.embed_documents(texts), embed.embed_query("a kitten naps")
        near = [sum(a * b for a, b in zip(row, asked, strict=True)) for row in rows]
        self.assertEqual(near.index(max(near)), 0)

    def test_a_chain_of_template_model_and_parser(self):
        ask = ChatPromptTemplate.from_messages([("human", "What is the capital of {country}? Answer in one sentence.")])
        self.assertIn("Paris", (ask | model() | StrOutputParser()).invoke({"country": "France"}))

    def test_a_conversation_with_usage(self):
        said = [SystemMessage("You answer briefly."), HumanMessage("My name is Ada."), AIMessage("Hello Ada."), HumanMessage(QUESTION)]
        answer = model().invoke(said)
        self.assertIn("Paris", answer.content)
        usage = answer.usage_metadata
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
        self.assertIn(answer.response_metadata["finish_reason"], ("stop", "length"))

    def test_a_stream_says_the_same_as_the_whole(self):
        chunks = list(model(stream_usage=True).stream(QUESTION))
        self.assertGreater(len(chunks), 3)
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        self.assertEqual(whole.content, model().invoke(QUESTION).content)
        self.assertGreater(whole.usage_metadata["output_tokens"], 2)

    def test_batches_and_awaited_calls(self):
        answers = model(max_tokens=12).batch([QUESTION] * 3)
        self.assertEqual(len({answer.content for answer in answers}), 1)
        self.assertEqual(asyncio.run(model(max_tokens=12).ainvoke(QUESTION)).content, answers[0].content)

    def test_plain_completion(self):
        text = OpenAI(model=MODEL, base_url=BASE, api_key=TOKEN, temperature=0, max_tokens=8, max_retries=0)
        self.assertIn("Paris", text.invoke("The capital of France is"))

    def test_what_is_refused_is_the_clients_own_exception(self):
        with self.assertRaises(openai.NotFoundError):
            model(model="lab/nothing").invoke(QUESTION)
        with self.assertRaises(openai.AuthenticationError):
            model(api_key="0" * 64).invoke(QUESTION)


if __name__ == "__main__":
    unittest.main()
