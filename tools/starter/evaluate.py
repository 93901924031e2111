"""Measure the checkpoint: classifiers on replies, system lines, steering sweep, random controls.

Usage: ``python evaluate.py MODEL_DIR --out FILE.json [--quick]`` with the evaluation data in ``MODEL_DIR/desk``. Sweeps
layers and alphas per tone, picks the best, runs the random control on it. ``--final`` instead takes the layers and alphas from
``MODEL_DIR/desk/recommended.json``, measures them over three seeds, and writes the figures back into that file.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from classify import Linear
from corpus import conversation
from steer import Starter, repeats
from tokenizer import CONTEXT
from train import reply_loss, sequences

STEERED_TONES = ("cheerful", "formal", "gloomy", "rude")
"""Terse is left out of the sweep: it has no words of its own."""
RANDOM_DIRECTIONS = 20
RUNS = ((1, 0.8), (2, 0.9), (3, 1.0))
"""(seed, temperature) of the final measurement."""
MAX_SUMMED_DOSE = 1.0
"""Two times the customer-facing cap of 0.5."""


class Bench:
    def __init__(self, path: Path, limit: int | None):
        self.starter = Starter(str(path))
        desk = path / "desk"
        classifiers = json.loads((desk / "classifiers.json").read_text())
        self.tone, self.topic = Linear.from_json(classifiers["tone"]), Linear.from_json(classifiers["topic"])
        self.accuracy = {name: value["heldOutAccuracy"] for name, value in classifiers.items()}
        held_out = json.loads((desk / "held-out.json").read_text())
        rows = held_out["prompts"]
        rows = rows[:: max(1, len(rows) // limit)] if limit else rows
        self.prompts, self.topics = [r["text"] for r in rows], [r["topic"] for r in rows]
        self.system_lines = held_out["systemLines"]
        self.mean, self.norms = self.starter.baseline(json.loads((desk / "baseline.json").read_text())["samples"])
        tones = json.loads((desk / "pairs.json").read_text())["tones"]
        self.directions = {name: self.starter.direction(tones[name]["pairs"], self.mean) for name in tones}
        self.random_runs: dict[tuple[tuple[int, ...], float], list[dict[str, float]]] = {}
        self.base = self.measure({}, 1)

    def measure(self, deltas: dict[int, np.ndarray], seed: int, system: str | None = None, temperature: float = 0.9) -> dict:
        with self.starter.steered(deltas):
            replies = self.starter.generate([self.starter.chat(prompt, system) for prompt in self.prompts], seed, temperature)
        losses = self.starter.loss(self.prompts, replies)
        found = self.tone.predict(replies.texts)
        out = {
            "shares": {name: round(found.count(name) / len(found), 3) for name in self.tone.classes},
            "onTopic": round(float(np.mean([a == b for a, b in zip(self.topic.predict(replies.texts), self.topics)])), 3),
            "entropy": round(replies.entropy, 3),
            "loss": round(float(losses.mean()), 3),
            "repeating": round(float(np.mean([repeats(ids) for ids in replies.ids])), 3),
            "ended": round(replies.ended, 3),
            "tokens": round(float(np.mean([len(ids) for ids in replies.ids])), 1),
        }
        return out | {"texts": replies.texts, "losses": losses}

    def deltas(self, directions: np.ndarray, layers: list[int], alpha: float) -> dict[int, np.ndarray]:
        return {l: alpha * self.norms[l] * directions[l] for l in layers}

    def steer(self, name: str, layers: list[int], alpha: float, seed: int = 1) -> dict:
        return self.measure(self.deltas(self.directions[name], layers, alpha), seed)

    def random_shares(self, name: str, layers: list[int], alpha: float, count: int) -> list[float]:
        """Share of the tone under random unit directions, drawn anew for each layer; tones of equal dose share the runs."""
        key = (tuple(layers), alpha)
        if key not in self.random_runs:
            rng = np.random.default_rng(5)
            self.random_runs[key] = []
            for i in range(count):
                directions = rng.standard_normal((self.starter.layers, self.starter.hidden))
                directions /= np.linalg.norm(directions, axis=1, keepdims=True)
                self.random_runs[key].append(self.measure(self.deltas(directions, layers, alpha), 100 + i)["shares"])
        return [shares[name] for shares in self.random_runs[key]]


def candidates(layers: int, quick: bool) -> list[tuple[list[int], float]]:
    """Layer sets and alphas: single layers, then bands of two to four at a smaller alpha each."""
    out = [([l], a) for l in range(layers - 1) for a in ((0.2, 0.4) if quick else (0.1, 0.2, 0.3, 0.4, 0.5))]
    for width, alphas in ((2, (0.15, 0.2, 0.25, 0.3)), (3, (0.1, 0.13, 0.16, 0.2, 0.25)), (4, (0.08, 0.1, 0.12, 0.15, 0.2))):
        for start in range(1 if quick else 0, layers - width):
            out += [(list(range(start, start + width)), a) for a in (alphas[1::2] if quick else alphas) if a * width <= MAX_SUMMED_DOSE]
    return out


def late_context(bench: Bench, seed: int = 61) -> dict:
    """Reply loss per 128 positions of 1024, and the on-topic share of replies to held-out prompts after about 850 tokens."""
    tokenizer = bench.starter.tokenizer
    rows = torch.from_numpy(sequences(tokenizer, seed, CONTEXT, 16, 48).astype(np.int64))
    per_position = reply_loss(bench.starter.model, rows, tokenizer).numpy()
    rng = random.Random(seed)
    prompts, heads = list(zip(bench.prompts, bench.topics))[::4], []
    for text, _ in prompts:
        turns: list[tuple[str, str]] = []
        while len(ids := bench.starter.chat(text, None, turns)) < CONTEXT - 250:
            turns += conversation(rng, 1).turns
        heads.append(ids)
    replies = bench.starter.generate(heads, seed)
    hits = np.mean([a == topic for a, (_, topic) in zip(bench.topic.predict(replies.texts), prompts)])
    return {
        "lossPer128": [round(float(np.nanmean(per_position[i : i + 128])), 3) for i in range(0, CONTEXT - 1, 128)],
        "promptTokens": round(float(np.mean([len(h) for h in heads]))),
        "onTopic": round(float(hits), 3),
    }


def final(bench: Bench, path: Path, tones: list[str], random_count: int) -> dict:
    """Measure the recommended layers and alphas over seeds and temperatures; keep the figures beside them."""
    recommended = json.loads((path / "desk" / "recommended.json").read_text())
    report: dict = {"base": [strip(bench.measure({}, s, None, t)) for s, t in RUNS], "tones": {}}
    for name in [tone for tone in tones if tone in recommended]:
        pick = recommended[name]
        deltas = bench.deltas(bench.directions[name], pick["layers"], pick["alpha"])
        system = [bench.measure({}, 10 + s, bench.system_lines[name], t) for s, t in RUNS]
        steered = [bench.measure(deltas, 20 + s, None, t) for s, t in RUNS]
        random_shares = bench.random_shares(name, pick["layers"], pick["alpha"], random_count)
        measured = {
            "unsteeredShare": mean(report["base"], "shares", name), "systemLineShare": mean(system, "shares", name),
            "steeredShare": mean(steered, "shares", name), "randomMaxShare": max(random_shares, default=None),
            "unsteeredOnTopic": mean(report["base"], "onTopic"), "steeredOnTopic": mean(steered, "onTopic"),
            "unsteeredLoss": mean(report["base"], "loss"), "systemLineLoss": mean(system, "loss"), "steeredLoss": mean(steered, "loss"),
            "unsteeredEntropy": mean(report["base"], "entropy"), "systemLineEntropy": mean(system, "entropy"), "steeredEntropy": mean(steered, "entropy"),
            "unsteeredRepeating": mean(report["base"], "repeating"), "steeredRepeating": mean(steered, "repeating"),
            "prompts": len(bench.prompts), "runs": len(RUNS),
        }
        recommended[name] = {"layers": pick["layers"], "alpha": pick["alpha"], "mode": pick["mode"], "measured": measured}
        report["tones"][name] = {"measured": measured, "random": random_shares, "samples": steered[1]["texts"][::24], "systemSamples": system[1]["texts"][::24]}
        print(name, json.dumps(recommended[name]), random_shares, flush=True)
    (path / "desk" / "recommended.json").write_text(json.dumps(recommended, indent=1) + "\n")
    return report


def mean(rows: list[dict], key: str, name: str | None = None) -> float:
    return round(float(np.mean([row[key][name] if name else row[key] for row in rows])), 3)


def line(label: str, row: dict, name: str | None = None) -> str:
    share = f"share {row['shares'][name]:.3f} " if name else f"{row['shares']} "
    return f"{label:28s} {share}topic {row['onTopic']:.3f} H {row['entropy']:.3f} loss {row['loss']:.3f} rep {row['repeating']:.3f} end {row['ended']:.3f} len {row['tokens']}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="coarse sweep")
    parser.add_argument("--tones", nargs="*", default=list(STEERED_TONES))
    parser.add_argument("--final", action="store_true", help="measure recommended.json instead of sweeping")
    parser.add_argument("--limit", type=int, help="prompts to use")
    parser.add_argument("--layers", type=int, nargs="*", help="sweep only bands inside these layers")
    parser.add_argument("--random", type=int, default=RANDOM_DIRECTIONS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    started = time.time()
    bench = Bench(args.model, args.limit)
    if args.final:
        report = final(bench, args.model, args.tones, args.random) | {"late": late_context(bench), "baseSamples": bench.base["texts"][::24]}
        print(report["late"])
        args.out.write_text(json.dumps(report))
        return
    print("classifiers", bench.accuracy, "norms", bench.norms.round(2))
    print(line("unsteered", bench.base), flush=True)
    report: dict = {"base": strip(bench.base), "classifiers": bench.accuracy, "tones": {}}
    for name in args.tones:
        system = bench.measure({}, 2, bench.system_lines[name])
        print(line(f"system line {name}", system, name), f"{time.time() - started:.0f}s", flush=True)
        rows = []
        for layers, alpha in candidates(bench.starter.layers, args.quick):
            if args.layers and not set(layers) <= set(args.layers):
                continue
            row = bench.steer(name, layers, alpha)
            rows.append({"layers": layers, "alpha": alpha, **strip(row)})
            print(line(f"{name} {layers} {alpha}", row, name), f"{time.time() - started:.0f}s", flush=True)
        best = choose(rows, name, system, bench.base)
        random_shares = bench.random_shares(name, best["layers"], best["alpha"], args.random)
        print("CHOSEN", best, "random", random_shares, flush=True)
        report["tones"][name] = {"system": strip(system), "sweep": rows, "chosen": best, "random": random_shares}
        args.out.write_text(json.dumps(report))


def strip(row: dict) -> dict:
    return {key: value for key, value in row.items() if key not in ("texts", "losses")}


def choose(rows: list[dict], name: str, system: dict, base: dict) -> dict:
    """The row with the lowest loss among those that keep 0.95 of the system line's share and of the on-topic share."""

    def fits(row: dict) -> bool:
        return row["shares"][name] >= 0.95 * system["shares"][name] and row["onTopic"] >= 0.95 * base["onTopic"]

    usable = [row for row in rows if fits(row)]
    if usable:
        return min(usable, key=lambda row: row["loss"])
    return max(rows, key=lambda row: row["shares"][name] + row["onTopic"] - 0.3 * max(0.0, row["loss"] / base["loss"] - 1.2))


if __name__ == "__main__":
    main()
