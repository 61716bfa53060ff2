"""A provider dies in the middle of a text: the other goes on, and nothing that was shown is lost or said twice."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import zero2ai
from common import TEXT, Network, language_model, served


class Failover(unittest.TestCase):
    def test_a_text_goes_on_at_another_provider(self):
        network = Network(2)
        self.addCleanup(network.stop)
        network.publish(language_model(), TEXT)
        client = zero2ai.Client.connect(network.invite())
        self.addCleanup(client.close)
        served(client, TEXT, 2)
        prompt = "Once upon a time"
        whole = [token.id for token in client.generate(TEXT, prompt, max_tokens=48)]
        text = client.generate(TEXT, prompt, max_tokens=48)
        said = [next(text) for _ in range(12)]
        first = said[0].node
        next(n for n in network if n.json("status")["node"] == first).kill()
        said += list(text)
        # Greedy, so the other provider says what the first would have said.
        self.assertEqual([token.id for token in said], whole)
        self.assertNotEqual(said[-1].node, first)
        self.assertEqual(text.end.failed, 1)
        billed = {receipt.provider: receipt.units for receipt in text.end.receipts}
        self.assertEqual(billed[said[-1].node], sum(token.node != first for token in said))


if __name__ == "__main__":
    unittest.main()
