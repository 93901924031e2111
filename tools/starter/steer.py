"""Activation steering of the starter model in PyTorch: capture, directions, generation, scoring.

The contract is the product's: after block l, ``h' = h + alpha * referenceNorm[l] * direction[l]`` at every position.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass
class Replies:
    texts: list[str]
    ids: list[list[int]]
    entropy: float
    """Mean next-token entropy over generated tokens, in nats, under the model that wrote them."""
    ended: float
    """Share that closed its turn within the limit."""


class Starter:
    def __init__(self, path: str):
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.layers = len(self.model.model.layers)
        self.hidden = self.model.config.hidden_size

    def chat(self, prompt: str, system: str | None = None, history: list[tuple[str, str]] | None = None) -> list[int]:
        """Token ids of a prompt, after earlier turns if any, up to and including the assistant mark."""
        messages = [{"role": "system", "content": system}] if system else []
        for user, reply in history or []:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
        messages.append({"role": "user", "content": prompt})
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.tokenizer.encode(text, add_special_tokens=False)

    def reply_ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    @torch.no_grad()
    def residuals(self, samples: list[tuple[str, str]]):
        """For each (prompt, response): float32[layers, tokens, hidden] after each block, and where the response starts."""
        for at in range(0, len(samples), 32):
            heads = [self.chat(prompt) for prompt, _ in samples[at : at + 32]]
            rows = [head + self.reply_ids(response) for head, (_, response) in zip(heads, samples[at : at + 32])]
            width = max(map(len, rows))
            ids = torch.tensor([row + [self.tokenizer.pad_token_id] * (width - len(row)) for row in rows])
            states: list[torch.Tensor] = []
            hooks = [block.register_forward_hook(lambda _m, _i, out, kept=states: kept.append(first(out))) for block in self.model.model.layers]
            self.model(input_ids=ids, use_cache=False, logits_to_keep=1)
            for hook in hooks:
                hook.remove()
            stacked = torch.stack(states).numpy()
            for i, (head, row) in enumerate(zip(heads, rows)):
                yield stacked[:, i, : len(row)], len(head)

    def baseline(self, samples: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        """Mean residual float32[layers, hidden] and reference norm float32[layers], without position 0."""
        rows = np.concatenate([states[:, 1:] for states, _ in self.residuals([(s["prompt"], s["response"]) for s in samples])], axis=1)
        return rows.mean(1), np.median(np.linalg.norm(rows, axis=2), axis=1)

    def direction(self, pairs: list[dict], mean: np.ndarray) -> np.ndarray:
        """Unit directions float32[layers, hidden]: response means, positive minus negative, baseline mean projected out."""

        def response_means(side: str) -> np.ndarray:
            return np.mean([states[:, start:].mean(1) for states, start in self.residuals([(p["prompt"], p[side]) for p in pairs])], axis=0)

        difference = response_means("positive") - response_means("negative")
        difference -= (difference * mean).sum(1, keepdims=True) / (mean * mean).sum(1, keepdims=True) * mean
        return difference / np.linalg.norm(difference, axis=1, keepdims=True)

    @contextmanager
    def steered(self, deltas: dict[int, np.ndarray]):
        """Add ``deltas[layer]`` (float32[hidden]) after each named block, at all positions."""

        def adder(delta: torch.Tensor):
            return lambda _m, _i, out: (out[0] + delta, *out[1:]) if isinstance(out, tuple) else out + delta

        hooks = [self.model.model.layers[l].register_forward_hook(adder(torch.from_numpy(d.astype(np.float32)))) for l, d in deltas.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def generate(self, heads: list[list[int]], seed: int, temperature: float = 0.9, limit: int = 96) -> Replies:
        """One sampled reply per prompt (token ids, see ``chat``), in one left-padded batch."""
        generator = torch.Generator().manual_seed(seed)
        width = max(map(len, heads))
        ids = torch.tensor([[self.tokenizer.pad_token_id] * (width - len(h)) + h for h in heads])
        mask = torch.tensor([[0] * (width - len(h)) + [1] * len(h) for h in heads])
        cache, out, entropies = None, [[] for _ in heads], []
        live = torch.ones(len(heads), dtype=torch.bool)
        for _ in range(limit):
            position = mask.cumsum(1)[:, -ids.shape[1] :] - 1
            step = self.model(input_ids=ids, attention_mask=mask, position_ids=position.clamp(min=0), past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = step.past_key_values
            logits = step.logits[:, -1].float()
            full = F.log_softmax(logits, -1)
            entropies += (-(full.exp() * full).sum(-1))[live].tolist()
            token = torch.multinomial(F.softmax(logits / temperature, -1), 1, generator=generator)
            for row in live.nonzero().flatten().tolist():
                out[row].append(int(token[row]))
            live &= token[:, 0] != self.tokenizer.eos_token_id
            if not live.any():
                break
            ids = token
            mask = torch.cat([mask, torch.ones_like(token)], 1)
        texts = [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in out]
        return Replies(texts, out, float(np.mean(entropies)), 1 - live.float().mean().item())

    @torch.no_grad()
    def loss(self, prompts: list[str], replies: Replies) -> np.ndarray:
        """Mean negative log-likelihood per reply under the model as it is now, float64[replies]."""
        rows = [self.chat(p) + r for p, r in zip(prompts, replies.ids)]
        width = max(map(len, rows))
        ids = torch.tensor([r + [self.tokenizer.pad_token_id] * (width - len(r)) for r in rows])
        logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        out = []
        for i, (row, reply) in enumerate(zip(rows, replies.ids)):
            out.append(losses[i, len(row) - len(reply) - 1 : len(row) - 1].mean().item())
        return np.array(out)


def first(out) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out


def repeats(ids: list[int], size: int = 6) -> bool:
    """Whether a run of ``size`` tokens occurs twice."""
    grams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    return len(set(grams)) < len(grams)
