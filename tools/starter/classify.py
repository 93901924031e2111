"""Linear tone and topic classifiers over words, trained on generated text alone: no model, no steering involved.

A feature is binary: a word or word pair of the lowercased text, or a length bucket such as ``len<=8`` (number of matches of
PATTERN). The score of a class is its bias plus the weights of the features present; the highest score wins.
"""

import random
import re
from collections import Counter
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from corpus import FREE_TONES, SYSTEM_P, Tone, follow_up, render, reply_to
from topics import TOPICS

PATTERN = r"[a-z']+|[!?.;,]"
LENGTH_BUCKETS = (4, 8, 12, 18)
TONES = [name for name, _ in FREE_TONES]


def features(text: str) -> set[str]:
    words = re.findall(PATTERN, text.lower())
    out = set(words) | {f"{a} {b}" for a, b in pairwise(words)}
    return out | {f"len<={limit}" for limit in LENGTH_BUCKETS if len(words) <= limit}


def tone_samples(rng: random.Random, per_tone: int, intensities: tuple[float, ...]) -> list[tuple[str, str]]:
    """(reply, label); without any intensity the label is neutral."""
    out = []
    for name in TONES:
        for _ in range(per_tone):
            p = rng.choice(intensities)
            tone = Tone((name,), p)
            topic = rng.choice(list(TOPICS))
            reply = reply_to(rng, topic, tone)[1] if rng.random() < 0.85 else render(follow_up(rng, topic)[1], tone, rng)
            out.append((reply, name if p > 0 else "neutral"))
    return out


def topic_samples(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """(reply, topic) in any tone and intensity."""
    out = []
    for _ in range(count):
        topic = rng.choice(list(TOPICS))
        tone = Tone((rng.choice(TONES),), rng.choice([0.2, 0.5, SYSTEM_P]))
        out.append((reply_to(rng, topic, tone)[1], topic))
    return out


class Linear:
    """Multinomial logistic regression in the form that ``classifiers.json`` holds."""

    def __init__(self, classes: list[str], names: list[str], weights: np.ndarray, bias: np.ndarray):
        self.classes, self.names, self.weights, self.bias = classes, names, weights, bias

    @classmethod
    def train(cls, samples: list[tuple[str, str]], classes: list[str], keep: int) -> "Linear":
        """Fit, prune to the ``keep`` features that matter most, fit again."""
        counts = Counter(feature for text, _ in samples for feature in features(text))
        out = cls(classes, sorted(name for name, count in counts.items() if count >= 8), np.zeros(0), np.zeros(0))
        out._fit(samples)
        strength = np.abs(out.weights).max(0)
        out.names = sorted(out.names[i] for i in np.argsort(-strength)[:keep])
        out._fit(samples)
        out.weights, out.bias = out.weights.round(4), out.bias.round(4)
        return out

    def _matrix(self, texts: list[str]) -> csr_matrix:
        index = {name: i for i, name in enumerate(self.names)}
        rows, columns = [], []
        for row, text in enumerate(texts):
            found = [index[name] for name in features(text) if name in index]
            rows += [row] * len(found)
            columns += found
        return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(self.names)))

    def _fit(self, samples: list[tuple[str, str]]) -> None:
        model = LogisticRegression(C=2.0, max_iter=400)
        model.fit(self._matrix([text for text, _ in samples]), [self.classes.index(label) for _, label in samples])
        self.weights, self.bias = model.coef_, model.intercept_

    def predict(self, texts: list[str]) -> list[str]:
        scores = self._matrix(texts) @ self.weights.T + self.bias
        return [self.classes[i] for i in scores.argmax(1)]

    def accuracy(self, samples: list[tuple[str, str]]) -> float:
        found = self.predict([text for text, _ in samples])
        return float(np.mean([a == label for a, (_, label) in zip(found, samples)]))

    @classmethod
    def from_json(cls, value: dict) -> "Linear":
        return cls(value["classes"], list(value["vocabulary"]), np.array(value["weights"]), np.array(value["bias"]))

    def to_json(self, accuracy: float) -> dict:
        return {
            "classes": self.classes,
            "features": {"lowercase": True, "pattern": PATTERN, "ngrams": [1, 2], "lengthBuckets": list(LENGTH_BUCKETS), "value": "binary"},
            "vocabulary": {name: i for i, name in enumerate(self.names)},
            "weights": self.weights.tolist(),
            "bias": self.bias.tolist(),
            "heldOutAccuracy": round(accuracy, 4),
        }


def train_classifiers(seed: int = 21) -> tuple[Linear, Linear, dict[str, float]]:
    rng = random.Random(seed)
    tone = Linear.train(tone_samples(rng, 3000, (0.0, 0.4, 0.6, SYSTEM_P)), TONES, 700)
    topic = Linear.train(topic_samples(rng, 9000), list(TOPICS), 450)
    held = random.Random(seed + 1)
    accuracy = {"tone": tone.accuracy(tone_samples(held, 500, (SYSTEM_P,))), "topic": topic.accuracy(topic_samples(held, 3000))}
    return tone, topic, accuracy
