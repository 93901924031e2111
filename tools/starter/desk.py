"""Write the evaluation data of the demo: classifiers, contrastive pairs, baseline samples, held-out prompts.

Usage: ``python desk.py OUT_DIR``. Only the generator is involved; the model never sees the held-out prompt templates.
"""

import json
import random
import sys
from pathlib import Path

from classify import TONES, train_classifiers
from corpus import (
    FIELD,
    SYSTEM_P,
    Tone,
    details,
    free_tone,
    render,
    reply_to,
    skeleton,
    user_prompt,
)
from topics import TOPICS

PAIRS = 96
BASELINE = 72
HELD_OUT_PER_TOPIC = 22
SYSTEM_LINES = {name: f"Reply in a {name} tone." for name in TONES}


def pairs(rng: random.Random, name: str) -> list[dict[str, str]]:
    """The same content in the tone and without one.

    Against the other tones in turn, the direction reached the same share of the tone at an entropy about a tenth higher.
    """
    out = []
    for i in range(PAIRS):
        topic = list(TOPICS)[i % len(TOPICS)]
        prompt, known = user_prompt(rng, topic)
        shape = skeleton(rng, topic, known)
        positive = render(shape, Tone((name,), SYSTEM_P), rng)
        negative = render(shape, Tone(("neutral",), SYSTEM_P), rng)
        out.append({"prompt": prompt, "positive": positive, "negative": negative})
    return out


def baseline(rng: random.Random) -> list[dict[str, str]]:
    out = []
    for i in range(BASELINE):
        prompt, response = reply_to(rng, list(TOPICS)[i % len(TOPICS)], free_tone(rng))
        out.append({"prompt": prompt, "response": response})
    return out


def held_out(rng: random.Random) -> list[dict[str, str]]:
    """Plain prompts from the held-out templates, each template filled anew."""
    out = []
    for topic, data in TOPICS.items():
        texts = [template for template in data["held_out"] if not FIELD.search(template)]
        open_templates = [template for template in data["held_out"] if FIELD.search(template)]
        while len(texts) < HELD_OUT_PER_TOPIC:
            text = rng.choice(open_templates).format(**details(rng))
            if text not in texts:
                texts.append(text)
        out += [{"text": text, "topic": topic} for text in texts]
    return out


def write(path: Path, value) -> None:
    path.write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    tone, topic, accuracy = train_classifiers()
    print("held-out accuracy", accuracy)
    write(out / "classifiers.json", {"tone": tone.to_json(accuracy["tone"]), "topic": topic.to_json(accuracy["topic"])})
    rng = random.Random(31)
    write(out / "pairs.json", {"tones": {name: {"pairs": pairs(rng, name)} for name in TONES if name != "neutral"}})
    write(out / "baseline.json", {"samples": baseline(rng)})
    write(out / "held-out.json", {"prompts": held_out(rng), "systemLines": SYSTEM_LINES})


if __name__ == "__main__":
    main()
