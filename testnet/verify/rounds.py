"""Rounds of an audit: their windows, what leaves prove, and the outcome computed again (see Scores in proto/README.md)."""

from __future__ import annotations

import hashlib
from collections import Counter
from math import isqrt

from blake3 import blake3

import wire
from wire import Bad

PPM = 10**6
EPOCH, CAP, HALF = 10_000, 100_000, 10_000


def need(condition: bool, part: str, why: str) -> None:
    if not condition:
        raise Bad(part, why)


class Draws:
    """Numbers that a seed fixes: see step 5 of the scores."""

    def __init__(self, seed: bytes, validator: bytes, end: bytes, job: bytes):
        self.material, self.drawn = seed + validator + end + job, 0

    def below(self, n: int) -> int:
        while True:
            data = self.drawn.to_bytes(8, "little") + self.material
            self.drawn += 1
            number = int.from_bytes(blake3(data, derive_key_context="zero2ai leaf challenge v1").digest()[:16], "big")
            if number < 2**128 - 2**128 % n:
                return number % n


def is_asked(state, job: bytes, validator: bytes) -> bool:
    return state.open_seed is not None and Draws(state.open_seed, validator, b"whether", job).below(PPM) < state.open_ppm


def asked_leaves(state, job: bytes, validator: bytes, samples: int) -> list[int]:
    """By Floyd's algorithm."""
    draws, chosen, count = Draws(state.open_seed, validator, b"leaves", job), set(), min(state.leaves, samples)
    for last in range(samples - count, samples):
        place = draws.below(last + 1)
        chosen.add(last if place in chosen else place)
    return sorted(chosen)


# --- what leaves prove -----------------------------------------------------------------------------------------------


def leaf_root(leaf, size: int) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2), or nothing if its length does not fit."""
    data = leaf.answer.to_bytes(2, "little") + leaf.label.to_bytes(2, "little") + leaf.sample
    node, at, last = hashlib.sha256(b"\0" + data).digest(), leaf.index, size - 1
    for sibling in leaf.siblings:
        if last == 0:
            return b""
        if at & 1 or at == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not at & 1 and at != 0:
                at, last = at >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        at, last = at >> 1, last >> 1
    return node if last == 0 else b""


def contradicts(counts, leaves) -> bool:
    """No run of any model gives such leaves with such counts."""
    by_place = {leaf.index: leaf for leaf in leaves}
    left = {"tp": Counter(), "fp": Counter(), "fn": Counter()}
    for leaf in by_place.values():
        if len(counts.classes) == 1 and leaf.label == 0 and leaf.answer > 0:
            # No classifier: what is not right is a false positive and a false negative at once.
            left["fp"][0] += 1
            left["fn"][0] += 1
            continue
        if max(leaf.label, leaf.answer) >= len(counts.classes):
            return True
        if leaf.label == leaf.answer:
            left["tp"][leaf.answer] += 1
        else:
            left["fp"][leaf.answer] += 1
            left["fn"][leaf.label] += 1
    more = any(seen[i] > c[kind] for kind, seen in left.items() for i, c in enumerate(counts.classes))
    whole = len(by_place) == counts.samples
    return more or whole and any(seen[i] != c[kind] for kind, seen in left.items() for i, c in enumerate(counts.classes))


def check_contradiction(proof, entry, part: str) -> None:
    counts = entry.found.counts
    need(proof.height == entry.contradicted, part, "is of another height than its entry says")
    need(1 <= len(proof.leaves), part, "has no leaves")
    for leaf in proof.leaves:
        fits = leaf.index < counts.samples and leaf_root(leaf, counts.samples) == counts.predictions_root
        need(fits, part, f"leaf {leaf.index} is not under the root that was revealed")
    need(contradicts(counts, proof.leaves), part, "its leaves agree with the counts that were revealed")


# --- the outcome -----------------------------------------------------------------------------------------------------


def faded(value: int, lag: int) -> int:
    one, factor = 1 << 62, 1 << 62
    base = 900_000 * one // PPM
    while lag > 0 and factor > 0:
        if lag & 1:
            factor = factor * base >> 62
        base, lag = base * base >> 62, lag >> 1
    return value * factor >> 62


def reputation(good: int, bad: int) -> int:
    if good + bad == 0:
        return 50_000
    mean = good * PPM // (good + bad)
    variance = mean * (PPM - mean) * PPM // (good + bad + PPM)
    below = -(-isqrt(variance) * 128 // 100)
    return min(max(mean - below, 50_000), PPM)


def vote(entry, height: int):
    """Root, place, weight, quality, samples; nothing if less than a sample is left."""
    standing, found, epoch = entry.standing, entry.found, height // EPOCH
    lag, n = epoch - standing.history.epoch, min(found.counts.samples, CAP)
    weighted = faded(standing.history.weighted, lag) + n * found.quality_ppm
    samples = faded(standing.history.samples, lag) + n * PPM
    weight = min(standing.stake * reputation(standing.good, standing.bad), 2**64 - 1)
    place = (entry.place.height, entry.place.index)
    return found.counts.dataset_root, place, weight, min(weighted * PPM // samples, PPM), samples // PPM


def check_outcome(name: str, number: int, turn: int, state, entries, part: str) -> None:
    told, end = state.outcome, state.draws + state.commit + state.reveal + state.dispute
    need(told.height >= end, part, "was settled before its end")
    need(state.disputes == 0, part, "was settled while it was disputed")
    need(all(e.standing is not None for e in entries.values()), part, "was settled without all that was revealed")
    job, verdicts, first = f"{name}@{number}/{turn}".encode(), Counter(), {}
    for validator, entry in entries.items():
        # The settlement waits for verdicts.
        wrong = (entry.contradicted is not None and entry.contradicted <= told.height) or (
            entry.refuted is not None and entry.refuted < told.height)
        if wrong or entry.opened is None and is_asked(state, job, validator):
            continue
        verdicts[entry.found.verdict[0]] += 1
        root, place, weight, quality, samples = vote(entry, told.height)
        if weight > 0 and (root not in first or place < first[root][0]):
            first[root] = (place, weight, quality, samples)
    counted = sorted(((quality, weight) for _, weight, quality, _ in first.values()), reverse=True)
    total, support, score = sum(weight for _, weight in counted), 0, None
    for quality, weight in counted:
        support += weight
        if 2 * support >= total:
            score = quality
            break
    samples = sum(n for *_, n in first.values())
    expected = {
        "score_ppm": score if len(first) >= 3 else None, "datasets": len(first), "samples": samples,
        "confidence_ppm": samples * PPM * PPM // (samples * PPM + HALF * PPM),
        "verdicts": [verdicts[word] for word in ("positive", "negative", "abstain")], "height": told.height,
    }
    need(dict(told) == expected, part, f"says {dict(told)}; its entries give {expected}")


# --- one version's rounds --------------------------------------------------------------------------------------------


def check_windows(state, validator: bytes, entry, part: str) -> None:
    commit_end = state.draws + state.commit
    reveal_end = commit_end + state.reveal
    found = entry.found
    need(found is not None, part, "holds no figures though the history tells of some")
    need(found.committed == entry.place, part, "was committed to at another place than its figures say")
    need(state.draws < entry.place.height <= commit_end, part, "was committed to outside of its window")
    need(commit_end < found.height <= reveal_end, part, "was revealed outside of its window")
    opened = entry.opened
    need(opened is None or reveal_end < opened <= reveal_end + 1 + state.reveal, part, "was opened outside of its window")
    seated = validator in state.committee
    need(seated, part, "is of a validator without a seat")


def told_rounds(events, number: int):
    rounds = []
    for event in (e for e in events if e.version == number):
        if event.kind[0] == "opened":
            rounds.append([event])
        elif event.kind[0] == "revealed" and rounds:
            rounds[-1].append(event)
    return rounds


def check_rounds(name: str, number: int, version, events, entries, check_endorsement):
    """Takes the proofs of a version's rounds. Returns (round, state, entries, contradictions) of each."""
    found = []
    for turn, (opening, *reveals) in enumerate(told_rounds(events, number), 1):
        part = f"round {name}@{number}/{turn}"
        state = entries.take(f"round/{name}@{number}/{turn}", wire.ROUND)
        need(state.opened == opening.height, part, "is not the one that its event opened")
        revealed, wrong = {}, {}
        for event in reveals:
            key = f"{name}@{number}/{turn}/{event.account.hex()}"
            need(event.account not in revealed, part, "a validator revealed twice")
            entry = revealed[event.account] = entries.take(f"entry/{key}", wire.ENTRY)
            check_windows(state, event.account, entry, f"entry {key}")
            check_endorsement(name, number, version, entry.found, event, f"entry {key}")
            if entry.contradicted is not None:
                proof = wrong[event.account] = entries.take(f"contradiction/{key}", wire.CONTRADICTION)
                check_contradiction(proof, entry, f"contradiction {key}")
        if state.outcome is not None:
            check_outcome(name, number, turn, state, revealed, part)
        found.append((turn, state, revealed, wrong))
    told = [e for e in events if e.kind[0] == "contradicted" and e.version == number]
    proved = sum(len(wrong) for *_, wrong in found)
    need(len(told) == proved, f"history of {name}", f"tells of {len(told)} contradictions; {proved} are proved")
    told = sum(e.kind[0] == "refuted" and e.version == number for e in events)
    refuted = sum(e.refuted is not None for _, _, revealed, _ in found for e in revealed.values())
    need(told == refuted, f"history of {name}", f"tells of {told} refutations; the entries of {refuted}")
    return found


def score_of(found, before):
    """The score after a version's rounds: of the last that had one, else of the last."""
    for _, state, revealed, _ in found:
        told = state.outcome
        if told is None or before is None and not revealed:
            continue
        if told.score_ppm is not None or before is None or before["score_ppm"] is None:
            before = {k: told[k] for k in ("score_ppm", "verdicts", "datasets", "samples", "height")}
    return before
