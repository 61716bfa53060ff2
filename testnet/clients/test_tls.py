"""The official `openai` client against a gateway beyond loopback, over TLS with the certificate that the node made.

Run by `run.sh`, which says where the program is; the node here is this test's own.
"""

import ssl
import sys
import tempfile
import unittest
from pathlib import Path

import httpx
import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from network import Node


class Tls(unittest.TestCase):
    def test_the_certificate_is_enough_and_needed(self):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "n"
            node = Node(home, "--http", "0.0.0.0:0", "--http-tls", "self-signed", "--http-tls-name", "gpu7.example")
            try:
                http = node.said["http"]
                port = http["url"].rsplit(":", 1)[1]
                token = Path(http["token_file"]).read_text()

                def models(verify):
                    options = {"base_url": f"https://127.0.0.1:{port}/v1", "api_key": token, "max_retries": 0}
                    with httpx.Client(verify=verify) as caller:
                        return list(openai.OpenAI(**options, http_client=caller).models.list())

                self.assertEqual(models(ssl.create_default_context(cafile=http["certificate_file"])), [])
                with self.assertRaises(openai.APIConnectionError) as caught:
                    models(True)
                self.assertIn("certificate", str(caught.exception.__cause__).lower())
            finally:
                node.stop()


if __name__ == "__main__":
    unittest.main()
