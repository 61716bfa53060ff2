"""Writes drift.json: where river's detectors speak, on streams that tests/drift.rs makes again from their seeds.

    pip install river==0.26.1 && python drift.py
"""
import json
import pathlib

from river import drift

MASK = 2**64 - 1


def draws(seed):
    """SplitMix64, the upper 32 bits."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield (z ^ (z >> 31)) >> 32


def stream(seed, parts):
    """Outcomes: for each part (length, chance in millionths) so many zeros and ones."""
    numbers = draws(seed)
    return [int(next(numbers) % 1_000_000 < ppm) for length, ppm in parts for _ in range(length)]


CASES = [
    (1, [[3000, 100_000]]),
    (2, [[1500, 100_000], [1500, 250_000]]),
    (3, [[2000, 50_000], [1000, 80_000], [2000, 200_000]]),
    (4, [[1000, 500_000], [1000, 700_000]]),
    (5, [[800, 300_000], [800, 100_000], [800, 400_000]]),
    (6, [[40, 0], [400, 20_000], [4000, 30_000]]),
    (7, [[20_000, 150_000], [5000, 190_000]]),
    (8, [[200, 1_000_000], [200, 0], [200, 1_000_000]]),
]

cases = []
for seed, parts in CASES:
    ddm, adwin = drift.binary.DDM(), drift.ADWIN()
    warnings, changes, cuts = [], [], []
    for i, wrong in enumerate(stream(seed, parts)):
        ddm.update(wrong)
        warnings += [i] if ddm.warning_detected else []
        changes += [i] if ddm.drift_detected else []
        adwin.update(wrong)
        if adwin.drift_detected:
            cuts.append([i, int(adwin.width), adwin.estimation])
    cases.append({"seed": seed, "parts": parts, "ddm": {"warnings": warnings, "changes": changes}, "adwin": cuts})
    print(seed, len(warnings), changes, cuts)
target = pathlib.Path(__file__).with_name("drift.json")
lines = ",\n".join(json.dumps(case) for case in cases)
target.write_text(f'{{"source": "river 0.26.1 (BSD-3-Clause)", "cases": [\n{lines}\n]}}\n')
