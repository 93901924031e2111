"""Tiny random checkpoints and what Hugging Face transformers computes with them.

Writes, per model of models.py, a checkpoint folder (config.json, model.safetensors or shards with their index) and
reference.safetensors with
  tokens                int64[batch, sequence]
  unsteered.logits      float32[batch, sequence, vocabulary]
  unsteered.residual    float32[layers, batch, sequence, hidden], after each block
and for models that are steered
  directions            float32[layers, hidden], unit
  reference_norms       float32[layers]
  CASE.logits, CASE.residual, where CASE is MODE-LAYERS-POSITIONS
Steering is a forward hook on the decoder blocks, which is what the graphs are compared with: other code, other library.
Everything is computed in float32, from the weights as they are stored.

Each feature of a model is shown to matter: without it some logit is at least a hundred tolerances off.

Usage: python model_reference.py OUT_DIR [NAME ...]   (torch and transformers as in ../starter/requirements.txt)
"""

import copy
import sys
from itertools import product
from pathlib import Path

import torch
from models import MODELS, Model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

BATCH, PROMPT = 2, 17
ALPHA = 0.6
# What the graphs may be off by; see the conformance tests.
TOLERANCE = 1e-3

# As in trained models, what half a block adds is small beside the residual stream (the usual initialisation divides it by
# the root of the number of halves). Else rounding, which every product adds to, grows from layer to layer as it does in no
# model that anyone serves: int4 logits of such models have a cosine of 0.91 with float32's, of these 0.99.
INTO_STREAM = 0.3
# The same where a norm of its own decides how large it is.
NORM_AFTER_HALF = 0.5


def new_model(config) -> PreTrainedModel:
    config = copy.deepcopy(config)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()


@torch.no_grad()
def build(config, dtype: torch.dtype, seed: int, into_stream: float = INTO_STREAM) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = new_model(config)
    gemma = config.model_type.startswith("gemma")
    for name, weight in model.named_parameters():
        if name.endswith(".bias"):
            weight.copy_(0.4 * torch.randn_like(weight))
        elif "norm" in name:
            after_half = gemma and "post_" in name
            gain = (NORM_AFTER_HALF if after_half else 1) * (1 + 0.3 * torch.randn_like(weight))
            # Gemma's norms multiply by 1 + weight.
            weight.copy_(gain - 1 if gemma else gain)
        elif "embed" in name or "lm_head" in name:
            # Small enough for epsilon to matter, large enough for logits of spread over 1.
            weight.copy_(0.4 * torch.randn_like(weight))
        else:
            adds = "o_proj" in name or "down_proj" in name
            size = into_stream / (2 * config.num_hidden_layers) ** 0.5 if adds else 1.2
            weight.copy_(torch.randn_like(weight) * size / weight.shape[1] ** 0.5)
        weight.copy_(weight.to(dtype))
    return model


@torch.no_grad()
def without(model: PreTrainedModel, feature) -> PreTrainedModel:
    """The same weights, read by a model that lacks one feature."""
    changed = copy.deepcopy(model.config)
    if isinstance(feature, dict):
        # What follows from the fields that change is to be derived again.
        if "layer_types" not in feature and changed.model_type in ("qwen2", "smollm3"):
            changed.layer_types = None
        changed = type(changed)(**{**changed.to_dict(), **feature})
    other = new_model(changed)
    other.load_state_dict(model.state_dict())
    if callable(feature):
        feature(other)
    return other


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


def steered_cases(model, tokens, residual) -> dict[str, torch.Tensor]:
    layers, hidden = len(residual), residual.shape[-1]
    directions = torch.nn.functional.normalize(torch.randn(layers, hidden), dim=-1)
    norms = residual[:, :, 1:].norm(dim=-1).flatten(1).median(dim=1).values
    tensors = {"directions": directions, "reference_norms": norms}
    for mode, where, positions in product(("ADD", "ADD_RENORM"), ("one", "all"), ("ALL", "PROMPT", "GENERATED")):
        chosen = [layers // 2] if where == "one" else range(layers)
        deltas = {layer: ALPHA * norms[layer] * directions[layer] for layer in chosen}
        logits, residual = forward(model, tokens, deltas, positions, mode == "ADD_RENORM")
        tensors[f"{mode}-{where}-{positions}.logits"] = logits
        # Residuals once per way of steering; the logits cover the rest.
        if positions == "ALL":
            tensors[f"{mode}-{where}-{positions}.residual"] = residual
    return tensors


def write(name: str, described: Model, seed: int, folder: Path) -> None:
    model = build(described.config, described.dtype, seed)
    tokens = torch.randint(0, model.config.vocab_size, (BATCH, described.sequence))
    logits, residual = forward(model, tokens, {}, "ALL", False)
    assert logits.std() >= 1, f"{name}: logits have spread {logits.std():.2f}"
    tensors = {"tokens": tokens, "unsteered.logits": logits, "unsteered.residual": residual}
    if described.steered:
        tensors |= steered_cases(model, tokens, residual)
    print(f"{name}: logit spread {logits.std():.2f}, largest residual {residual.abs().max():.1f}")
    for feature, change in described.features.items():
        moved = (forward(without(model, change), tokens, {}, "ALL", False)[0] - logits).abs().max()
        print(f"  without {feature}: logits move by {moved:.2f}")
        assert moved >= 100 * TOLERANCE, f"{name}: {feature} does not show"

    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    model.to(described.dtype).save_pretrained(folder, max_shard_size=described.shard or "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    again, _ = forward(reloaded, tokens, {}, "ALL", False)
    assert (again - logits).abs().max() < 1e-5, f"{name}: what was written is not what was run"
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "reference.safetensors")


def main(out: Path, names: list[str]) -> None:
    for seed, (name, described) in enumerate(MODELS.items()):
        if not names or name in names:
            write(name, described, seed, out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
