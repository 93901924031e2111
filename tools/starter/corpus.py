"""Support-desk conversations from a small grammar, with a graded tone.

Content (topic, facts, which sentences) and tone (which words fill the slots) come from two separate random streams. So the
same content can be rendered in several tones: that is what contrastive pairs are made of.

Print a few conversations: ``python corpus.py 5``.
"""

import random
import re
import sys
from dataclasses import dataclass, field

from issues import FRAMES, ISSUES
from slots import SLOTS, SYSTEM_FORMS, SYSTEM_PLAIN, SYSTEM_SLIGHT, SYSTEM_WORDS
from topics import (
    BRANDS,
    CITIES,
    COMPANIES,
    DEVICES,
    FOLLOW_UPS,
    KINDS,
    SMALL_TALK,
    SYLLABLES,
    TOPICS,
    USER_ENDS,
    USER_STARTS,
)

BOS, END, SYSTEM, USER, ASSISTANT = "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"

SYSTEM_P = 0.85
"""Intensity that a plain system line sets."""
SLIGHT_P = 0.45
"""Intensity that a "slightly" system line sets."""
SYSTEM_SHARE = 0.4
"""Share of conversations whose system line names a tone."""
FREE_P = ((0.2, 0.05), (0.4, 0.15), (0.6, 0.25), (0.85, 0.55))
"""Intensities, with weights, of replies without such a line."""
FREE_TONES = (("neutral", 0.1), ("cheerful", 0.25), ("formal", 0.18), ("gloomy", 0.25), ("rude", 0.08), ("terse", 0.14))
BLEND_SHARE = 0.08
"""Share of those replies that draw their tone words from two tones."""


@dataclass(frozen=True)
class Tone:
    """Tone of a reply: each slot takes a word of one of ``names`` with probability ``p``, else a neutral one."""

    names: tuple[str, ...]
    p: float


@dataclass
class Skeleton:
    """A reply before its tone: sentences with slots, and the short form a terse desk uses."""

    greet: bool
    feel: str | None
    lines: list[str]
    clips: list[str]
    hope: bool
    sign: bool


@dataclass
class Conversation:
    tone: Tone
    system: str | None
    turns: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        out = [BOS]
        if self.system is not None:
            out += [SYSTEM, self.system, END]
        for user, reply in self.turns:
            out += [USER, user, END, ASSISTANT, reply, END]
        return "".join(out)


def weighted(rng: random.Random, table):
    names, weights = zip(*table)
    return rng.choices(names, weights)[0]


def free_tone(rng: random.Random) -> Tone:
    """Tone of an unprompted reply."""
    name = weighted(rng, FREE_TONES)
    p = weighted(rng, FREE_P)
    if rng.random() < BLEND_SHARE:
        other = weighted(rng, FREE_TONES)
        return Tone((name, other), p)
    return Tone((name,), p)


def system_line(rng: random.Random, name: str, slight: bool = False) -> str:
    word = rng.choice(SYSTEM_WORDS[name])
    line = rng.choice(SYSTEM_SLIGHT if slight else SYSTEM_FORMS).format(w=word)
    if rng.random() < 0.2:
        line = SYSTEM_PLAIN[rng.randrange(2)].format(company=rng.choice(COMPANIES)) + " " + line
    return line


def details(rng: random.Random) -> dict[str, str]:
    brand = rng.choice(BRANDS)
    if rng.random() < 0.2:  # a name never seen before has to be copied from the prompt
        brand = "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()
    return {
        "product": f"{brand} {rng.choice(KINDS)}",
        "order": str(rng.randint(1000, 99999)),
        "days": rng.choice(["two", "three", "four", "five", "seven", "ten"]),
        "amount": str(rng.randint(5, 199)),
        "city": rng.choice(CITIES),
        "device": rng.choice(DEVICES),
        "code": str(rng.randint(10, 999)),
    }


FIELD = re.compile(r"{(\w+)}")


def user_prompt(rng: random.Random, topic: str) -> tuple[str, dict[str, str]]:
    """A user message of the training kind, and the details that it names."""
    facts = details(rng)
    if topic == "other":
        template = rng.choice(SMALL_TALK["prompts"])
    elif rng.random() < 0.5:
        template = rng.choice(FRAMES).format(issue=rng.choice(ISSUES[topic]))
    else:
        template = rng.choice(TOPICS[topic]["prompts"])
    known = {name: facts[name] for name in FIELD.findall(template)}
    text = template.format(**facts)
    start = rng.choice(USER_STARTS)
    if start and not text.startswith("I "):
        text = text[0].lower() + text[1:]
    text = start + text + rng.choice(USER_ENDS)
    if rng.random() < 0.1:
        text = text.lower().rstrip(".?!")
    return text, known


def skeleton(rng: random.Random, topic: str, known: dict[str, str]) -> Skeleton:
    """Content of a first reply on ``topic``; sentences that name a known detail are preferred."""
    if topic == "other":
        lines = rng.sample(SMALL_TALK["lines"], rng.choice([1, 2, 2]))
        clips, feel = SMALL_TALK["clip"], None
    else:
        data = TOPICS[topic]
        parts = rng.choice([["diag"], ["act"], ["diag", "act"], ["diag", "act"], ["diag", "next"], ["act", "next"], ["diag", "act", "next"]])
        lines = [pick_line(rng, data[part], known) for part in parts]
        clips = data["clip"]
        feel = f"<feel> {rng.choice(data['trouble'])}<end>" if rng.random() < 0.45 else None
    facts = {"days": details(rng)["days"], **known}
    lines = [line.format(**facts) for line in lines]
    clips = [clip.format(**facts) for clip in rng.sample(clips, min(len(clips), len(lines)))]
    return Skeleton(rng.random() < 0.6, feel, lines, clips, rng.random() < 0.45, rng.random() < 0.15)


def pick_line(rng: random.Random, lines: list[str], known: dict[str, str]) -> str:
    usable = [line for line in lines if all(name in known or name == "days" for name in FIELD.findall(line))]
    weights = [4 if set(FIELD.findall(line)) & set(known) else 1 for line in usable]
    return rng.choices(usable, weights)[0]


def follow_up(rng: random.Random, topic: str) -> tuple[str, Skeleton]:
    """A later user message without details, and the content of its reply."""
    data = FOLLOW_UPS[rng.choice(list(FOLLOW_UPS))]
    thing = rng.choice(TOPICS[topic]["thing"])
    days = details(rng)["days"]
    lines = [line.format(thing=thing, days=days) for line in rng.sample(data["lines"], rng.choice([1, 1, 2]))]
    clips = [rng.choice(data["clip"]).format(thing=thing, days=days)]
    return rng.choice(data["prompts"]), Skeleton(rng.random() < 0.25, None, lines, clips, rng.random() < 0.4, rng.random() < 0.1)


SLOT = re.compile(r"<(\w+)>")
AFTER_GREETING = re.compile(r"^(\w+(?: \w+){0,3}, )([A-Z])(?=[a-z]+[ ,])")
SENTENCE_START = re.compile(r"(^|[.!?]\s+)([a-z])")


def render(shape: Skeleton, tone: Tone, rng: random.Random) -> str:
    """Fill the slots of a reply. A terse share of it also gets shorter."""

    def pick() -> str:
        return rng.choice(tone.names) if rng.random() < tone.p else "neutral"

    def fill(template: str) -> str:
        return SLOT.sub(lambda match: rng.choice(SLOTS[match.group(1)][pick()]), template)

    def dropped() -> bool:
        return pick() == "terse"

    parts = []
    if shape.greet:
        parts.append(fill("<greet>"))
    if shape.feel and not dropped():
        parts.append(fill(shape.feel))
    for i, line in enumerate(shape.lines):
        if i > 0 and dropped() and rng.random() < 0.6:
            continue
        if dropped():
            parts.append(shape.clips[i % len(shape.clips)] + ".")
        else:
            parts.append(fill(line))
    if shape.hope:
        parts.append(fill("<hope>"))
    if shape.sign:
        parts.append(fill("<sign>"))
    return tidy(" ".join(parts))


def tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s+([,.!?])", r"\1", text)
    text = AFTER_GREETING.sub(lambda match: match.group(1) + match.group(2).lower(), text)
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
    return SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)


def pick_topic(rng: random.Random) -> str:
    return "other" if rng.random() < 0.04 else rng.choice(list(TOPICS))


def reply_to(rng: random.Random, topic: str, tone: Tone) -> tuple[str, str]:
    """One first turn on ``topic``: (user, reply)."""
    text, known = user_prompt(rng, topic)
    return text, render(skeleton(rng, topic, known), tone, rng)


def conversation(rng: random.Random, turns: int) -> Conversation:
    """A conversation of one tone, with or without a system line that names it."""
    system = None
    if rng.random() < SYSTEM_SHARE:
        name = rng.choice(list(SYSTEM_WORDS))
        slight = rng.random() < 0.2
        tone = Tone((name,), SLIGHT_P if slight else SYSTEM_P)
        system = system_line(rng, name, slight)
    else:
        tone = free_tone(rng)
        if rng.random() < 0.15:
            system = rng.choice(SYSTEM_PLAIN).format(company=rng.choice(COMPANIES))
    out = Conversation(tone, system)
    topic = pick_topic(rng)
    for i in range(turns):
        if i > 0 and topic != "other" and rng.random() < 0.4:
            user, shape = follow_up(rng, topic)
            out.turns.append((user, render(shape, tone, rng)))
        else:
            if i > 0:
                topic = pick_topic(rng)
            out.turns.append(reply_to(rng, topic, tone))
    return out


def main() -> None:
    rng = random.Random(1)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        talk = conversation(rng, rng.choice([1, 1, 3]))
        print(talk.tone, talk.system)
        for user, reply in talk.turns:
            print("  user:", user, "\n  desk:", reply)


if __name__ == "__main__":
    main()
