#!/usr/bin/env python3
"""Checks the JSON report of `zero2ai demo --report FILE`: every field is there, of its type, and its value makes sense.

    python3 testnet/check_report.py FILE

Exit codes: 0 in order, 1 not (every fault is named), 2 wrong usage. Needs the standard library only.
"""

from __future__ import annotations

import json
import sys

# Held-out digits are easy: a network that gets fewer right than this has served something else.
LEAST_ACCURACY = 0.85
# Kademlia, a fetch over loopback or a fail-over that takes longer than this has hung and recovered.
LONGEST_MS = 60_000


def number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Report:
    def __init__(self, value):
        self.value, self.faults = value, []

    def get(self, path: str, test, meaning: str, within=None, where=""):
        """The value at a dotted path; a fault if it is missing or fails the test."""
        value = self.value if within is None else within
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                self.faults.append(f"{where}{path} is missing")
                return None
            value = value[key]
        if not test(value):
            self.faults.append(f"{where}{path} is {json.dumps(value)[:80]}; expected {meaning}")
            return None
        return value

    def count(self, path, least=0, most=None, **where):
        test = lambda v: type(v) is int and v >= least and (most is None or v <= most)
        return self.get(path, test, f"a whole number from {least}" + ("" if most is None else f" to {most}"), **where)

    def ms(self, path, **where):
        return self.get(path, lambda v: number(v) and 0 < v < LONGEST_MS, f"milliseconds, 0 to {LONGEST_MS}", **where)

    def share(self, path, **where):
        return self.get(path, lambda v: number(v) and 0 <= v <= 1, "a share from 0 to 1", **where)

    def true(self, path):
        return self.get(path, lambda v: v is True, "true")

    def must(self, condition, why):
        if not condition:
            self.faults.append(why)


def check(value) -> list[str]:
    report = Report(value)
    check_pool(report)
    check_model(report)
    check_use(report)
    if "llm" in value:
        report.count("llm.tokens", least=1)
        report.get("llm.tokens_per_s", lambda v: number(v) and v > 0, "more than 0")
        report.ms("llm.ttft_ms")
    return report.faults


def check_pool(report: Report) -> None:
    report.count("nodes", least=4, most=17)
    report.true("stranger_refused")
    report.true("unadmitted_refused")
    report.count("signers.from", least=1, most=1)
    report.count("signers.to", least=4)
    predictions, ok = report.count("halted.predictions", least=100), report.count("halted.ok", least=100)
    report.must(predictions == ok, "halted.ok is not halted.predictions: some failed while the chain stood still")


def check_model(report: Report) -> None:
    report.count("publish.bytes", least=1_000)
    report.count("publish.chunks", least=1)
    report.count("publish.replicas", least=2)
    endorsements = report.get("endorsements", lambda v: isinstance(v, list) and len(v) >= 3, "a list of at least three")
    for i, endorsement in enumerate(endorsements or []):
        at = {"within": endorsement, "where": f"endorsements[{i}]."}
        report.get("validator", lambda v: isinstance(v, str) and len(v) >= 8, "a node", **at)
        report.count("samples", least=1, **at)
        f1 = [report.share(figure, **at) for figure in ("precision", "recall", "f1")][2]
        verdict = report.get("verdict", lambda v: v in ("positive", "negative", "abstain"), "a verdict", **at)
        report.must(f1 is None or f1 < LEAST_ACCURACY or verdict != "negative", f"endorsements[{i}]: good, yet negative")
    validators = {e.get("validator") for e in endorsements or [] if isinstance(e, dict)}
    report.must(len(validators) == len(endorsements or []), "endorsements: one validator stands there twice")
    score = report.share("score")
    figures = [e.get("f1") for e in endorsements or [] if isinstance(e, dict) and number(e.get("f1"))]
    if score is not None and figures:
        report.must(min(figures) - 1e-6 <= score <= max(figures) + 1e-6, f"score {score} is outside the endorsements' F1")
    report.count("block.height", least=1)
    signatures, validators = report.count("block.signatures", least=1), report.count("block.validators", least=4)
    if signatures is not None and validators is not None:
        report.must(validators * 2 < signatures * 3 <= validators * 3,
                    f"block: {signatures} of {validators} signatures are not more than two thirds")


def check_use(report: Report) -> None:
    report.ms("resolve.ms")
    report.get("resolve.endpoints", lambda v: isinstance(v, list) and len(v) >= 2, "at least two endpoints")
    requests, correct = report.count("predict.requests", least=100), report.count("predict.correct", least=1)
    if requests and correct is not None:
        report.must(correct <= requests, "predict.correct is more than predict.requests")
        report.must(correct > requests * LEAST_ACCURACY, f"predict: {correct} of {requests} right is too few")
    p50, p99 = report.ms("predict.p50_ms"), report.ms("predict.p99_ms")
    report.must(p50 is None or p99 is None or p50 <= p99, "predict.p50_ms is above predict.p99_ms")
    report.ms("failover.ms")
    report.true("audit.verified")
    # Every request before, during and after the faults left a receipt, but for those that a killed node took with it.
    report.count("audit.receipts", least=100)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError) as error:
        print(f"cannot read {sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    faults = check(value) if isinstance(value, dict) else ["the report is not an object"]
    for fault in faults:
        print(f"report: {fault}", file=sys.stderr)
    if not faults:
        print("the report is whole and its figures make sense")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
