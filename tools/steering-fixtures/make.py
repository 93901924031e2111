"""Reference values for packages/steering from other people's code: NumPy, SciPy, scikit-learn, safetensors.

    pip install -r requirements.txt && python make.py

writes packages/steering/src/fixtures/*.json. The seeds are fixed and the files are committed: the tests never run Python.
Arrays are base64 of little-endian float32, row-major, unless a name ends in 64 (float64).
"""

import base64
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from scipy.special import log_softmax, logsumexp, rel_entr, softmax
from scipy.stats import entropy
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import PredefinedSplit

OUT = Path(__file__).parents[2] / "packages/steering/src/fixtures"
FOLDS = 5


def f32(array) -> str:
    return base64.b64encode(np.asarray(array, "<f4").tobytes()).decode()


def f64(array) -> str:
    return base64.b64encode(np.asarray(array, "<f8").tobytes()).decode()


def write(name: str, value) -> None:
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


# --- extraction -------------------------------------------------------------------------------------------------------


def axis(positive, negative, method):
    """The axis of the pairs, [hidden], as long as a typical difference along it."""
    differences = positive - negative
    if method == "MEAN_DIFF":
        return differences.mean(axis=0)
    if method == "PCA_CENTER":
        middle = (positive + negative) / 2
        samples = np.concatenate([positive - middle, negative - middle])
        component = PCA(n_components=1, svd_solver="full").fit(samples).components_[0]
        return component * np.sqrt(np.mean((differences @ component) ** 2))
    component = PCA(n_components=1, svd_solver="full").fit(differences).components_[0]
    return component * np.std(differences @ component)


def oriented(positive, negative, mean, method):
    """The axis without the baseline's mean, with the majority's sign; and the cosine that was removed."""
    raw = axis(positive, negative, method)
    unit = mean / np.linalg.norm(mean)
    removed = raw @ unit / np.linalg.norm(raw)
    # The part of the axis in the complement of the mean, by projecting on an orthonormal basis of that complement.
    basis = np.linalg.svd(unit[None, :])[2][1:]
    result = basis.T @ (basis @ raw)
    projections = (positive - negative) @ result
    # Where the pairs are split evenly, the sum decides.
    sign = -1 if (np.sum(np.sign(projections)) or np.sum(projections)) < 0 else 1
    return sign * result, sign * removed


def extracted(positive, negative, mean, method):
    pairs = len(positive)
    whole, removed = oriented(positive, negative, mean, method)
    cosines = cosine_similarity(positive - negative)
    auc = right = 0.0
    for train, held in PredefinedSplit(np.arange(pairs) % FOLDS).split():
        direction, _ = oriented(positive[train], negative[train], mean, method)
        along, against = positive[held] @ direction, negative[held] @ direction
        labels = np.repeat([1, 0], len(held))
        auc += roc_auc_score(labels, np.concatenate([along, against])) * len(held) / pairs
        right += np.sum(along > against) / pairs
    even = oriented(positive[0::2], negative[0::2], mean, method)[0]
    odd = oriented(positive[1::2], negative[1::2], mean, method)[0]
    return {
        "direction64": f64(whole / np.linalg.norm(whole)),
        "quality": {
            "pairwiseCosine": cosines[~np.eye(pairs, dtype=bool)].mean(),
            "auc": auc,
            "rightSignShare": right,
            "splitHalfCosine": cosine_similarity([even], [odd])[0, 0],
            "normBefore": np.linalg.norm(whole),
            "removedCosine": removed,
        },
    }


def extraction_case(seed, pairs, layers, hidden, strength):
    """Pairs that share a prompt and differ in a concept of graded strength, in a residual with a large mean of its own."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(layers, hidden)) * 3
    concept = rng.normal(size=(layers, hidden)) + 0.2 * mean
    concept /= np.linalg.norm(concept, axis=-1, keepdims=True)
    prompt = mean + rng.normal(size=(pairs, layers, hidden)) * 0.5
    grade = rng.uniform(0.3, 1.7, size=(pairs, 1, 1)) * strength
    noise = rng.normal(size=(2, pairs, layers, hidden)) * 0.4
    positive = (prompt + grade * concept + noise[0]).astype("f4")
    negative = (prompt - grade * concept + noise[1]).astype("f4")
    means = mean.astype("f4")
    wide = lambda array, layer: array[:, layer].astype("f8")
    return {
        "pairs": pairs,
        "layers": layers,
        "hidden": hidden,
        "positive": f32(positive),
        "negative": f32(negative),
        "means": f32(means),
        "methods": {
            method: [
                extracted(wide(positive, layer), wide(negative, layer), means[layer].astype("f8"), method)
                for layer in range(layers)
            ]
            for method in ("MEAN_DIFF", "PCA_CENTER", "PCA_DIFF")
        },
    }


# --- composition ------------------------------------------------------------------------------------------------------


def composition_case(seed, terms, hidden, alphas, overlap):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(terms, hidden))
    directions[1:] += overlap * directions[:1]
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype("f4")
    norms = np.full(terms, 7.25) + np.arange(terms) * 0.5
    wide = directions.astype("f8")
    weights = np.array(alphas) / 100 * norms
    # Q R = directionsᵀ: what Gram–Schmidt leaves of term i is R[i,i] of the orthonormal axis i.
    q, r = np.linalg.qr(wide.T)
    left = (q * np.diag(r)).T
    written = weights @ wide
    orthogonal = weights @ left
    return {
        "hidden": hidden,
        "alphas": alphas,
        "referenceNorms": norms.tolist(),
        "directions": f32(directions),
        "gram": (wide @ wide.T).ravel().tolist(),
        "written64": f64(written),
        "writtenDose": np.linalg.norm(written) / norms.min(),
        "orthogonal64": f64(orthogonal),
        "orthogonalDose": np.linalg.norm(orthogonal) / norms.min(),
        "remainders": np.abs(np.diag(r)).tolist(),
    }


# --- entropy and divergence -------------------------------------------------------------------------------------------


def logits_case(name, p, q):
    p, q = np.asarray(p, "f4").astype("f8"), np.asarray(q, "f4").astype("f8")
    by_probabilities = float(np.sum(rel_entr(softmax(p), softmax(q))))
    return {
        "name": name,
        "width": len(p),
        "p": f32(p),
        "q": f32(q),
        "logSumExp": logsumexp(p),
        "entropy": entropy(softmax(p)),
        # By log-softmax where probabilities of Q underflow.
        "kl": float(np.sum(softmax(p) * (log_softmax(p) - log_softmax(q)))),
        "klByProbabilities": by_probabilities if np.isfinite(by_probabilities) else None,
    }


def logits_cases():
    rng = np.random.default_rng(7)
    base = rng.normal(size=512) * 3
    return [
        logits_case("a usual step", base, base + rng.normal(size=512) * 0.3),
        logits_case("nearly certain", np.where(np.arange(300) == 7, 40.0, base[:300]), base[:300]),
        logits_case("uniform against peaked", np.zeros(1000), np.where(np.arange(1000) == 3, 9.0, 0.0)),
        logits_case("far from zero", base[:64] + 3e4, base[:64] * 0.5 - 3e4),
        logits_case("one token", [2.5], [-1.0]),
        logits_case("an unlikely token underflows", np.linspace(0, 5, 50), np.linspace(0, -900, 50)),
    ]


# --- the file layout --------------------------------------------------------------------------------------------------


def file_case():
    """The same bytes must come from the safetensors library, given the tensors and the manifest's text."""
    rng = np.random.default_rng(11)
    layers, hidden = [2, 3, 10, 21], 12
    directions = rng.normal(size=(len(layers), hidden))
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype("f4")
    quality = {
        "pairwiseCosine": 0.25,
        "auc": 0.875,
        "rightSignShare": 0.96875,
        "splitHalfCosine": 0.75,
        "normBefore": 1.5,
        "removedCosine": -0.125,
    }
    manifest = {
        "formatVersion": 1,
        "name": "fröhlich \"1\"",
        "modelChecksum": "0123456789abcdef" * 4,
        "graphDigest": "1" * 64,
        "hiddenSize": hidden,
        "layerCount": 24,
        "site": "post_block",
        "layers": layers,
        "referenceNorms": [8, 8.5, 12.25, 100.125],
        "method": "MEAN_DIFF",
        "pooling": "response_mean",
        "extractorVersion": "1",
        "pairCount": 64,
        "pairsDigest": "2" * 64,
        "baselineDigest": "3" * 64,
        "quality": [quality] * len(layers),
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    tensors = {f"direction.{layer}": directions[i] for i, layer in enumerate(layers)}
    return {
        "manifest": manifest,
        "directions": f32(directions),
        "file": base64.b64encode(save(tensors, metadata={"manifest": text})).decode(),
    }


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write(
        "extract",
        [
            extraction_case(1, pairs=12, layers=2, hidden=32, strength=0.6),
            extraction_case(2, pairs=24, layers=1, hidden=16, strength=0.3),
            extraction_case(3, pairs=11, layers=1, hidden=160, strength=2.0),
        ],
    )
    write(
        "compose",
        [
            composition_case(4, terms=2, hidden=24, alphas=[20, 15], overlap=0.6),
            composition_case(5, terms=4, hidden=65, alphas=[10, -12, 7, 9], overlap=0.3),
            composition_case(6, terms=3, hidden=3, alphas=[5, 5, -5], overlap=0.5),
        ],
    )
    write("logits", logits_cases())
    write("file", file_case())
