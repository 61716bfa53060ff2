"""Makes trust.json beside this file: what the reference implementations say on seeded random cases and on edge cases.

The tests of crates/trust compare their own figures with it, within 1e-9 where both compute the same thing.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python trust.py

SQuAD's rules have no package of their own: `squad_normal` below is written from the published rules, with Python's own
regular expressions, so that it shares nothing with the Rust code. The same holds for perplexity (one line) and Holm.
"""

import collections
import json
import pathlib
import re
import string

import datasketch
import fairlearn.metrics
import jiwer
import numpy as np
import scipy.special
import scipy.stats
import sklearn.calibration
import sklearn.metrics
from rouge_score import rouge_scorer

rng = np.random.default_rng(20_261_123)
WORDS = "the a an model models peer Peer chunk, chunk key-value ledger. name's 42 7 signed über naïve – blocks an_d it".split()


def floats(values, digits=6):
    return [round(float(v), digits) for v in values]


def softmax(z):
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def labels():
    cases = []
    for classes, n, wrong in [(2, 40, 0.3), (3, 9, 0.5), (10, 200, 0.1), (7, 30, 0.9), (5, 12, 0.0), (4, 1, 1.0)]:
        truth = rng.integers(0, classes, n)
        if classes == 7:
            truth[truth == 3] = 2  # a class that never occurs, but may be said
        if classes == 5:
            truth[:] = 2  # one class only
        answers = np.where(rng.random(n) < wrong, rng.integers(0, classes, n), truth)
        score = lambda average: [
            None if v is None else (floats(v, 15) if average is None else float(v))
            for v in sklearn.metrics.precision_recall_fscore_support(
                truth, answers, labels=range(classes), average=average, zero_division=0
            )[:3]
        ]
        cases.append({
            "classes": classes, "truth": truth.tolist(), "answers": answers.tolist(),
            "accuracy": float(sklearn.metrics.accuracy_score(truth, answers)),
            "per_class": score(None), "micro": score("micro"), "macro": score("macro"),
        })
    return cases


def binary():
    cases = []
    for n, ties in [(30, None), (60, 5), (200, 20), (12, 1), (2, None)]:
        truth = rng.integers(0, 2, n)
        truth[:2] = [0, 1]
        scores = rng.normal(size=n) + truth
        scores = floats(scores if ties is None else np.round(scores * ties / 8))
        cases.append({
            "truth": truth.tolist(), "scores": scores,
            "roc_auc": float(sklearn.metrics.roc_auc_score(truth, scores)),
            "average_precision": float(sklearn.metrics.average_precision_score(truth, scores)),
        })
    return cases


def probabilities():
    cases = []
    for classes, n, sharp in [(2, 50, 1.0), (3, 80, 3.0), (5, 120, 0.3), (3, 40, 40.0)]:
        truth = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
        logits = rng.normal(size=(n, classes)) * sharp
        logits[np.arange(n), truth] += sharp
        rows = softmax(logits)
        if sharp == 40.0:  # certain, and certainly wrong once
            rows[0] = [0.0, 0.0, 1.0]
            truth[0] = 0
        best, confidence = rows.argmax(axis=1), rows.max(axis=1)
        right = (best == truth).astype(int)
        bins = 15
        # scikit-learn gives mean confidence and accuracy of the bins that hold anything; the error is their weighted gap.
        accuracy, mean = sklearn.calibration.calibration_curve(right, confidence, n_bins=bins)
        place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
        count = np.bincount(place, minlength=bins)
        ece = float(np.sum(count[count > 0] / n * np.abs(accuracy - mean)))
        one = lambda figure: float(np.mean([figure(truth == k, rows[:, k]) for k in range(classes)]))
        cases.append({
            "truth": truth.tolist(), "rows": rows.tolist(),
            "log_loss": float(sklearn.metrics.log_loss(truth, rows, labels=range(classes))),
            "ece": ece,
            "roc_auc": one(sklearn.metrics.roc_auc_score),
            "average_precision": one(sklearn.metrics.average_precision_score),
        })
    return cases


def regression():
    cases = []
    for n, scale, shift in [(2, 1.0, 0.0), (50, 3.0, 0.5), (300, 1e6, -2e5), (40, 1e-6, 1e3)]:
        truth = rng.normal(size=n) * scale + shift
        answers = truth + rng.normal(size=n) * scale * 0.4
        cases.append({
            "truth": truth.tolist(), "answers": answers.tolist(),
            "mae": float(sklearn.metrics.mean_absolute_error(truth, answers)),
            "rmse": float(sklearn.metrics.root_mean_squared_error(truth, answers)),
            "r2": float(sklearn.metrics.r2_score(truth, answers)),
        })
    return cases


def squad_normal(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(reference, answer):
    left, right = squad_normal(reference).split(), squad_normal(answer).split()
    if not left or not right:
        return float(left == right)
    shared = sum((collections.Counter(left) & collections.Counter(right)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(right), shared / len(left)
    return 2 * precision * recall / (precision + recall)


def texts():
    pairs = [("", ""), ("", "a word"), ("a word", ""), ("The cat.", "cat"), ("the", "a"), ("a–b the–end", "b end"),
             ("Straße ÉCOLE", "straße école"), ("...", "!"), ("same same same", "same"), ("naïve café 42%", "naive cafe 42")]
    for _ in range(30):
        left = list(rng.choice(WORDS, rng.integers(1, 25)))
        right = [w for w in left if rng.random() > 0.2]
        for _ in range(int(rng.integers(0, 5))):
            right.insert(int(rng.integers(0, len(right) + 1)), str(rng.choice(WORDS)))
        pairs.append((" ".join(left), " ".join(right)))
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    cases = []
    for reference, answer in pairs:
        words, characters = jiwer.process_words(reference, answer), jiwer.process_characters(reference, answer)
        edits = lambda o: o.substitutions + o.deletions + o.insertions
        cases.append({
            "reference": reference, "answer": answer,
            "exact": squad_normal(reference) == squad_normal(answer),
            "token_f1": squad_f1(reference, answer),
            "rouge_l": float(scorer.score(reference, answer)["rougeL"].fmeasure),
            "word_edits": edits(words), "character_edits": edits(characters),
            "wer": float(words.wer), "cer": float(characters.cer),
        })
    logs = floats(-rng.exponential(2.0, 100), 9)
    together = [p for p in pairs if p[0]]
    return {
        "pairs": cases,
        "corpus_wer": float(jiwer.wer([p[0] for p in together], [p[1] for p in together])),
        "log_probabilities": logs, "perplexity": float(np.exp(-np.mean(logs))),
    }


def retrieval():
    cases = []
    for items, queries in [(20, 30), (5, 12), (100, 8)]:
        scores = rng.normal(size=(queries, items))
        truth = rng.integers(0, items, queries)
        one_hot = np.eye(items)[truth]
        cases.append({
            "scores": [floats(s) for s in scores], "truth": truth.tolist(),
            # With one relevant item per query these are the mean reciprocal rank and recall at k.
            "mrr": float(sklearn.metrics.label_ranking_average_precision_score(one_hot, scores)),
            "recall": {
                str(k): float(sklearn.metrics.top_k_accuracy_score(truth, scores, k=k, labels=range(items)))
                for k in (1, 3, items - 1)
            },
        })
    return cases


def wilson():
    cases = []
    for hits, n in [(0, 1), (1, 1), (0, 30), (30, 30), (5, 10), (999, 1000), (37, 150), (1, 100000)]:
        interval = scipy.stats.binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
        cases.append({"hits": hits, "n": n, "low": float(interval.low), "high": float(interval.high)})
    return cases


def fairness():
    cases = []
    for groups, n, tilt in [(2, 60, 0.0), (3, 200, 0.3), (4, 300, 0.1)]:
        group, truth = rng.integers(0, groups, n), rng.integers(0, 2, n)
        answers = (rng.random(n) < 0.3 + 0.4 * truth + tilt * (group == 0)).astype(int)
        both = dict(sensitive_features=group)
        cases.append({
            "truth": truth.tolist(), "answers": answers.tolist(), "groups": group.tolist(),
            "parity_difference": float(fairlearn.metrics.demographic_parity_difference(truth, answers, **both)),
            "parity_ratio": float(fairlearn.metrics.demographic_parity_ratio(truth, answers, **both)),
            "odds_difference": float(fairlearn.metrics.equalized_odds_difference(truth, answers, **both)),
            "odds_ratio": float(fairlearn.metrics.equalized_odds_ratio(truth, answers, **both)),
        })
    return cases


def shift():
    ks = []
    for n, m, moved in [(30, 40, 0.0), (200, 150, 0.3), (50, 500, 1.0), (25, 25, 0.0)]:
        left, right = floats(rng.normal(size=n), 2), floats(rng.normal(size=m) + moved, 2)
        d = float(scipy.stats.ks_2samp(left, right).statistic)
        root = np.sqrt(n * m / (n + m))
        ks.append({"left": left, "right": right, "d": d, "p": float(scipy.special.kolmogorov(root * d))})
    tables = []
    for left, right in [([10, 20, 30], [12, 18, 33]), ([50, 5], [20, 30]), ([7, 8, 9, 10, 40], [40, 10, 9, 8, 7])]:
        result = scipy.stats.chi2_contingency([left, right], correction=False)
        tables.append({"left": left, "right": right, "chi2": float(result.statistic), "p": float(result.pvalue)})
    tails = [
        {"df": df, "x": x, "p": float(scipy.stats.chi2.sf(x, df))}
        for df in (1, 2, 3, 9, 40, 200) for x in (0.0, 0.01, 0.7, 3.84, 12.0, 55.0, 260.0)
    ]
    raw = floats(rng.random(12) ** 3, 9)
    order = np.argsort(raw)
    holm, running = np.zeros(len(raw)), 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, raw[i] * (len(raw) - place)))
        holm[i] = running
    return {"ks": ks, "chi2": tables, "tails": tails, "p": raw, "holm": holm.tolist(),
            "benjamini_hochberg": scipy.stats.false_discovery_control(raw).tolist()}


def minhash():
    """Sets of numbers that overlap by a known share, and what datasketch estimates from 128 permutations."""
    cases = []
    for shared, own in [(0, 100), (20, 80), (50, 50), (120, 30), (95, 5), (100, 0)]:
        pool = rng.choice(1_000_000, shared + 2 * own, replace=False)
        left, right = pool[:shared + own], np.concatenate([pool[:shared], pool[shared + own:]])
        sketches = []
        for members in (left, right):
            sketch = datasketch.MinHash(num_perm=128, seed=1)
            for member in members:
                sketch.update(int(member).to_bytes(8, "little"))
            sketches.append(sketch)
        cases.append({"left": left.tolist(), "right": right.tolist(), "jaccard": shared / (shared + 2 * own),
                      "datasketch": float(sketches[0].jaccard(sketches[1]))})
    return cases


golden = {
    "labels": labels(), "binary": binary(), "probabilities": probabilities(), "regression": regression(),
    "texts": texts(), "retrieval": retrieval(), "wilson": wilson(), "fairness": fairness(), "shift": shift(),
    "minhash": minhash(),
}
path = pathlib.Path(__file__).with_name("trust.json")
path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
print(f"{path.name}: {path.stat().st_size} bytes")
