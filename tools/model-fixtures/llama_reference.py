"""Tiny random Llama checkpoints and what Hugging Face transformers computes with them.

Writes, per shape, a checkpoint folder (config.json, model.safetensors) and reference.safetensors with
  tokens                int64[batch, sequence]
  directions            float32[layers, hidden], unit
  reference_norms       float32[layers]
  CASE.logits           float32[batch, sequence, vocabulary]
  CASE.residual         float32[layers, batch, sequence, hidden], after each block and its steering
where CASE is `unsteered`, or MODE-LAYERS-POSITIONS. Steering is a forward hook on the decoder blocks, which is what the
graphs are compared with: other code, other library.

Usage: python llama_reference.py OUT_DIR   (torch and transformers as in ../starter/requirements.txt)
"""

import sys
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

# Two shapes that differ in every way the importer branches on: grouped and plain heads, tied and untied head,
# head_dim times heads equal to the hidden size and not, a narrow and a wide epsilon.
SHAPES = {
    "grouped-untied": dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        intermediate_size=48, vocab_size=61, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False,
    ),
    "plain-tied": dict(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, head_dim=16,
        intermediate_size=40, vocab_size=53, rope_theta=500.0, rms_norm_eps=5e-2, tie_word_embeddings=True,
    ),
}
BATCH, SEQUENCE, PROMPT = 2, 28, 17
ALPHA = 0.6


def build(shape: dict, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(**shape, max_position_embeddings=40, hidden_act="silu", attention_bias=False, mlp_bias=False)
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).eval().float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
            elif "embed" in name or "lm_head" in name:
                # Small enough for epsilon to matter, large enough for logits of spread over 1.
                weight.copy_(0.4 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * 1.2 / weight.shape[1] ** 0.5)
    return model


def steering_hook(delta, positions: str, renorm: bool):
    def hook(_module, _inputs, output):
        h = output[0] if isinstance(output, tuple) else output
        at = torch.arange(h.shape[1])
        acts = {"ALL": at >= 0, "PROMPT": at < PROMPT, "GENERATED": at >= PROMPT}[positions]
        moved = h + delta
        if renorm:
            moved = moved * (h.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True))
        steered = torch.where(acts[None, :, None], moved, h)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return hook


@torch.no_grad()
def forward(model, tokens, deltas: dict, positions: str, renorm: bool):
    handles, residuals = [], []
    for index, layer in enumerate(model.model.layers):
        if index in deltas:
            handles.append(layer.register_forward_hook(steering_hook(deltas[index], positions, renorm)))

        def keep(_module, _inputs, output):
            residuals.append((output[0] if isinstance(output, tuple) else output).clone())

        # Hooks run in the order of registration: this one sees the steered residual.
        handles.append(layer.register_forward_hook(keep))
    logits = model(tokens).logits
    for handle in handles:
        handle.remove()
    return logits, torch.stack(residuals)


def main(out: Path) -> None:
    for seed, (name, shape) in enumerate(SHAPES.items()):
        model = build(shape, seed)
        folder = out / name
        model.save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
        layers, hidden = shape["num_hidden_layers"], shape["hidden_size"]
        tokens = torch.randint(0, shape["vocab_size"], (BATCH, SEQUENCE))
        directions = torch.nn.functional.normalize(torch.randn(layers, hidden), dim=-1)
        logits, residual = forward(model, tokens, {}, "ALL", False)
        norms = residual[:, :, 1:].norm(dim=-1).flatten(1).median(dim=1).values
        assert logits.std() >= 1, f"{name}: logits have spread {logits.std():.2f}"
        tensors = {
            "tokens": tokens,
            "directions": directions,
            "reference_norms": norms,
            "unsteered.logits": logits,
            "unsteered.residual": residual,
        }
        for mode, where, positions in product(("ADD", "ADD_RENORM"), ("one", "all"), ("ALL", "PROMPT", "GENERATED")):
            chosen = [layers // 2] if where == "one" else range(layers)
            deltas = {layer: ALPHA * norms[layer] * directions[layer] for layer in chosen}
            logits, residual = forward(model, tokens, deltas, positions, mode == "ADD_RENORM")
            tensors[f"{mode}-{where}-{positions}.logits"] = logits
            # Residuals once per way of steering; the logits cover the rest.
            if positions == "ALL":
                tensors[f"{mode}-{where}-{positions}.residual"] = residual
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "reference.safetensors")
        print(f"{name}: logit spread {tensors['unsteered.logits'].std():.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
