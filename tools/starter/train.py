"""Train the starter checkpoint.

Usage: ``python train.py OUT_DIR --steps 1500 [--work DIR]``. Needs the tokenizer in OUT_DIR (``tokenizer.py``). The
loss counts replies fully and the rest of a conversation at a fifth: the desk has to write replies, but raw text is not
foreign to it. Batches hold the same number of tokens at lengths from 128 to 1024, so that late positions are trained.
"""

import argparse
import json
import math
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from corpus import ASSISTANT, END, conversation
from tokenizer import CONTEXT

BUCKETS = ((128, 2, 0.55), (256, 4, 0.2), (512, 8, 0.12), (1024, 16, 0.13))
"""(sequence length, turns at most, share of batches)."""
BATCH_TOKENS = 4096
OTHER_WEIGHT = 0.2
IGNORED = 0.0
FLASH_FROM = 256
"""Sequence length from which the fused attention kernel is the faster one on a CPU."""


def model_config(tokenizer) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def sequences(tokenizer, seed: int, length: int, turns: int, count: int) -> np.ndarray:
    """uint16[count, length]: conversations, padded or cut; a fifth of the long ones pack unrelated conversations."""
    rng = random.Random(f"{seed}-{length}")
    out = np.full((count, length), tokenizer.pad_token_id, dtype=np.uint16)
    for start in range(0, count, 1000):
        texts = []
        for _ in range(min(1000, count - start)):
            if length >= 512 and rng.random() < 0.2:
                texts.append("".join(conversation(rng, rng.choice([1, 2, 3])).text() for _ in range(turns // 2)))
            else:
                texts.append(conversation(rng, rng.randint(max(1, turns // 2), turns) if length < 512 else turns).text())
        for row, ids in enumerate(tokenizer._tokenizer.encode_batch(texts, add_special_tokens=False)):
            kept = ids.ids[:length]
            out[start + row, : len(kept)] = kept
    return out


def loss_weights(ids: torch.Tensor, tokenizer) -> torch.Tensor:
    """Weight of each position as a target: 1 in replies up to their end mark, 0 for padding, else OTHER_WEIGHT."""
    reply_id, end_id = tokenizer.convert_tokens_to_ids([ASSISTANT, END])
    # A position is in a reply when the last role mark before it opened one that has not ended.
    opened = torch.cumsum(ids == reply_id, 1)
    position = torch.arange(ids.shape[1]).expand_as(ids)
    last_open = torch.where(ids == reply_id, position, -1).cummax(1).values
    last_end = torch.where(ids == end_id, position, -1).cummax(1).values
    last_end_before = F.pad(last_end[:, :-1], (1, 0), value=-1)
    inside = (opened > 0) & (position > last_open) & (last_end_before < last_open)
    weights = torch.where(inside, 1.0, OTHER_WEIGHT)
    return torch.where(ids == tokenizer.pad_token_id, IGNORED, weights)


def make_batches(tokenizer, steps: int, seed: int, work: Path) -> list[np.ndarray]:
    """One array of sequences per step, shuffled over lengths."""
    cache = work / f"batches-{seed}-{steps}.npz"
    if cache.exists():
        loaded = np.load(cache)
        pools = {length: loaded[str(length)] for length, _, _ in BUCKETS}
    else:
        pools = {}
        for length, turns, share in BUCKETS:
            pools[length] = sequences(tokenizer, seed, length, turns, math.ceil(steps * share) * BATCH_TOKENS // length)
        work.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **{str(length): pool for length, pool in pools.items()})
    batches = []
    for length, pool in pools.items():
        rows = BATCH_TOKENS // length
        batches += [pool[i : i + rows] for i in range(0, len(pool), rows)]
    random.Random(seed).shuffle(batches)
    return batches[:steps]


def optimizers(model, lr: float):
    """Muon for the matrices of the blocks, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def schedule(step: int, steps: int) -> float:
    """Warm up over 60 steps, hold, then fall linearly over the last half."""
    return min(1.0, (step + 1) / 60, 2.0 * (steps - step) / steps + 0.02)


class ResidualNoise:
    """Constant offsets after random blocks: per sequence a random direction of up to ``strength`` times the residual norm.

    Meant to make the model tolerate an offset that it never saw. Directions are random: nothing about any tone is taught.
    What it adds has not been separated from what the longer training adds.
    """

    def __init__(self, model: LlamaForCausalLM, strength: float, seed: int):
        self.strength = strength
        self.generator = torch.Generator().manual_seed(seed)
        for block in model.model.layers[:-1]:
            block.register_forward_hook(self._add)

    def _add(self, _module, _inputs, out: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return out
        batch, _, hidden = out.shape
        direction = F.normalize(torch.randn(batch, 1, hidden, generator=self.generator), dim=-1)
        chosen = torch.rand(batch, 1, 1, generator=self.generator) < 0.5
        size = self.strength * torch.rand(batch, 1, 1, generator=self.generator) * chosen
        norm = out.detach()[:, 1:].float().norm(dim=-1).median()
        return out + (size * norm * direction).to(out.dtype)


def weighted_loss(model, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def reply_loss(model, ids: torch.Tensor, tokenizer) -> torch.Tensor:
    """Mean loss of reply tokens per position, float32[length − 1]; NaN where no reply token falls."""
    total = torch.zeros(ids.shape[1] - 1)
    count = torch.zeros(ids.shape[1] - 1)
    for rows in ids.split(16):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        losses = F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
        inside = loss_weights(rows, tokenizer)[:, 1:] == 1.0
        total += (losses * inside).sum(0)
        count += inside.sum(0)
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--init", type=Path, help="go on from these weights, with fresh optimizer state")
    parser.add_argument("--noise", type=float, default=0.0, help="largest residual offset, as a share of the residual norm")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "starter")
    parser.add_argument("--save-every", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.out)
    model = LlamaForCausalLM.from_pretrained(args.init, dtype=torch.float32) if args.init else LlamaForCausalLM(model_config(tokenizer))
    model.train()
    if args.noise:
        ResidualNoise(model, args.noise, args.seed)
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    batches = make_batches(tokenizer, args.steps, args.seed, args.work)
    held_out = torch.from_numpy(sequences(tokenizer, 99, 256, 4, 64).astype(np.int64))
    groups = optimizers(model, args.lr)
    started, seen, curve, running = time.time(), 0, [], []
    for step, rows in enumerate(batches):
        ids = torch.from_numpy(rows.astype(np.int64))
        weights = loss_weights(ids, tokenizer)
        for group in groups:
            group.param_groups[0]["lr"] = args.lr * schedule(step, args.steps)
        model.config._attn_implementation = "sdpa" if ids.shape[1] >= FLASH_FROM else "eager"
        with torch.autocast("cpu", torch.bfloat16):
            loss = weighted_loss(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in groups:
            group.step()
            group.zero_grad(set_to_none=True)
        seen += ids.numel()
        running.append(loss.item())
        if step % 25 == 24:
            print(step + 1, f"{np.mean(running[-25:]):.4f}", f"{seen / (time.time() - started):.0f} tokens/s", flush=True)
        if step % args.save_every == args.save_every - 1 or step == args.steps - 1:
            held = reply_loss(model, held_out, tokenizer).nanmean().item()
            curve.append({"step": step + 1, "tokens": seen, "train": round(float(np.mean(running[-100:])), 4), "heldOutReply": round(held, 4)})
            print(json.dumps(curve[-1]), flush=True)
            model.save_pretrained(args.out)
            (args.work / "curve.json").write_text(json.dumps(curve))


if __name__ == "__main__":
    main()
