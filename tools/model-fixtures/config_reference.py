"""What Hugging Face transformers makes of config.json: of published ones, and of tiny ones with a few fields changed.

Writes configs.json:
  published  {name: {config, reading}}
  bases      {name: config}, tiny
  readings   [reading]
  ropes      [{frequencies, factor}], which readings refer to by index
  changed    [{base, change: {field: value, or {"removed": true}}, reading: index, or null where transformers refuses}]
where a reading is what the model that transformers builds computes, taken from its modules and parameters.

Usage: python config_reference.py OUT_FILE   (torch and transformers as in ../starter/requirements.txt)
"""

import copy
import hashlib
import json
import logging
import random
import sys
import warnings
from pathlib import Path

import torch
from published import PUBLISHED
from transformers import AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

REMOVED = {"removed": True}


def reading(config_json: dict) -> dict | None:
    """Sizes, switches, and per layer the window and the rotary frequencies; from what was built."""
    try:
        config = CONFIG_MAPPING[config_json["model_type"]].from_dict(copy.deepcopy(config_json))
        if config.max_position_embeddings < 1:
            return None
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        rotary = type(model.model.rotary_emb)(config)
        return describe(config, model, rotary)
    except Exception:
        return None


def describe(config, model, rotary) -> dict:
    body = model.model
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    lines = "".join(f"{name} {shape}\n" for name, shape in sorted(shapes.items()))
    layers, ropes = [], {}
    for index, layer in enumerate(body.layers):
        attention = layer.self_attn
        window = getattr(attention, "sliding_window", None)
        if config.model_type in ("mistral", "phi3"):
            window = config.sliding_window
        if window is not None and window >= config.max_position_embeddings:
            window = None
        kind = config.layer_types[index] if config.model_type == "gemma3_text" else "all"
        rotated = bool(getattr(attention, "use_rope", True))
        if rotated and kind not in ropes:
            ropes[kind] = rope(config, rotary, kind)
        layers.append([window, kind if rotated else None])
    attention, mlp = body.layers[0].self_attn, body.layers[0].mlp
    norm = body.norm
    # Only Gemma 2 hands its cap to the attention.
    cap = attention.attn_logit_softcapping if config.model_type == "gemma2" else None
    return {
        "tensors": hashlib.sha256(lines.encode()).hexdigest()[:16],
        "context": config.max_position_embeddings,
        "head_dim": attention.head_dim,
        "groups": attention.num_key_value_groups,
        "eps": getattr(norm, "eps", None) or norm.variance_epsilon,
        "scale": attention.scaling,
        "attention_cap": cap,
        "logit_cap": getattr(config, "final_logit_softcapping", None),
        "embedding_scale": getattr(body.embed_tokens, "scalar_embed_scale", 1.0),
        "activation": type(getattr(mlp, "act_fn", None) or mlp.activation_fn).__name__,
        "tied": config.tie_word_embeddings,
        "bos": config.bos_token_id,
        "eos": config.eos_token_id,
        "layers": layers,
        "ropes": ropes,
    }


def rope(config, rotary, kind: str) -> dict:
    """Frequencies and the factor on cos and sin at the full context."""
    if kind == "all":
        frequencies, factor = rotary.inv_freq, rotary.attention_scaling
        parameters = config.rope_parameters
        if rotary.rope_type == "longrope":
            frequencies, factor = ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=config.max_position_embeddings)
        name = parameters["rope_type"]
    else:
        frequencies, factor = getattr(rotary, f"{kind}_inv_freq"), getattr(rotary, f"{kind}_attention_scaling")
        name = config.rope_parameters[kind]["rope_type"]
    # Not a fixed set of frequencies, or none at all.
    if name == "dynamic" or not frequencies.isfinite().all():
        raise ValueError(f"no frequencies for {name}")
    return {"frequencies": [float(f"{value:.7g}") for value in frequencies], "factor": factor}


# With narrow heads the frequencies are few.
TINY = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 128, "rms_norm_eps": 1e-05,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
}  # fmt: skip
GEMMA = {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "sliding_window": 32}
FACTORS = {"short_factor": [1 + i / 8 for i in range(8)], "long_factor": [2 + i / 2 for i in range(8)]}
BASES = {
    "llama": TINY | {"head_dim": 16, "rope_theta": 5000.0, "attention_bias": False, "tie_word_embeddings": False},
    "mistral": TINY | {"head_dim": None, "rope_theta": 5000.0, "sliding_window": 32},
    "qwen2": TINY
    | {"rope_theta": 5000.0, "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
    "qwen3": TINY
    | {"rope_theta": 5000.0, "head_dim": 32, "use_sliding_window": False, "sliding_window": 32, "max_window_layers": 2},
    "smollm3": TINY | {"rope_theta": 5000.0, "no_rope_layers": [1, 1, 0, 1], "use_sliding_window": False},
    "gemma2": TINY | GEMMA | {"rope_theta": 5000.0, "attn_logit_softcapping": 40.0, "final_logit_softcapping": 20.0},
    "gemma3_text": TINY
    | GEMMA
    | {"rope_theta": 500000.0, "rope_local_base_freq": 5000.0, "sliding_window_pattern": 3},
    "phi3": TINY
    | {
        "rope_theta": 5000.0, "original_max_position_embeddings": 64, "sliding_window": None,
        "rope_scaling": {"type": "longrope", **FACTORS},
    },
}  # fmt: skip
for model_type, base in BASES.items():
    base["model_type"] = model_type

SCALINGS = [
    None,
    {},
    {"rope_type": "default"},
    {"rope_type": "default", "rope_theta": 700.0},
    {"type": "linear", "factor": 2.0},
    {"rope_type": "linear", "factor": 3},
    {"type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    {"type": "yarn", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "truncate": False, "beta_fast": 8},
    {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "beta_fast": 4.0, "beta_slow": 0.5},
    {"rope_type": "yarn", "factor": 8.0, "mscale": 0.7, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", "factor": 8.0, "mscale": 0.7, "mscale_all_dim": 0},
    {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 32},
    {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"type": "llama3", "factor": 2.0, "low_freq_factor": 0.5, "high_freq_factor": 8.0},
    {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
    {"rope_type": "longrope", **FACTORS},
    {"type": "su", **FACTORS},
    {"type": "yarn", **FACTORS},
    {"rope_type": "longrope", **FACTORS, "original_max_position_embeddings": 64},
    {"rope_type": "longrope", **FACTORS, "original_max_position_embeddings": 128},
    {"rope_type": "longrope", **FACTORS, "original_max_position_embeddings": 64, "attention_factor": 1.5},
    {"rope_type": "longrope", **FACTORS, "original_max_position_embeddings": 64, "factor": 4.0},
    {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
    {"rope_type": "linear"},
    {"rope_type": "proportional", "factor": 2.0},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"full_attention": {"rope_type": "default", "rope_theta": 900.0}},
    {
        "full_attention": {"rope_type": "linear", "rope_theta": 900.0, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 90.0},
    },
    {"full_attention": {"rope_type": "default"}, "sliding_attention": None},
]  # fmt: skip
FULL, SLIDING = "full_attention", "sliding_attention"
VALUES = {
    "hidden_size": [32, 48, 128, 0, 66, 64.5],
    "intermediate_size": [16, 0, None],
    "num_hidden_layers": [1, 2, 5, 8, 0],
    "num_attention_heads": [2, 1, 8, 3],
    "num_key_value_heads": [None, 1, 4, 3, 0, 8],
    "head_dim": [None, 16, 32, 48, 8, 0],
    "vocab_size": [3, 200, 1],
    "max_position_embeddings": [64, 16, 4096, 0],
    "rms_norm_eps": [1e-6, 0.1],
    "bos_token_id": [None, 0, 7, 299],
    "eos_token_id": [None, 5, [3, 5]],
    "tie_word_embeddings": [True, False, None],
    "attention_bias": [True, False],
    "mlp_bias": [True, False],
    "hidden_act": ["gelu", "silu", "gelu_pytorch_tanh", None],
    "hidden_activation": ["gelu", "silu", "gelu_pytorch_tanh", None],
    "rope_theta": [100.0, 10000, None, 0],
    "rope_local_base_freq": [50.0, None],
    "rope_scaling": SCALINGS,
    "rope_parameters": SCALINGS,
    "partial_rotary_factor": [0.5, 1.0, 0.75, 0.01],
    "original_max_position_embeddings": [32, 128, 4096],
    "sliding_window": [8, None, 32, 128, 4096],
    "use_sliding_window": [True, False],
    "max_window_layers": [0, 3, 4, 28],
    "sliding_window_pattern": [1, 2, 4, 6],
    "_sliding_window_pattern": [3, 6],
    "layer_types": [[FULL] * 4, [SLIDING] * 4, [SLIDING, FULL] * 2, [FULL, SLIDING], ["chunked_attention"] * 4, None],
    "no_rope_layers": [None, [0, 1, 0, 1], [1] * 4, [1, 0], [0] * 6, []],
    "no_rope_layer_interval": [1, 2, 4],
    "attn_logit_softcapping": [None, 5.0],
    "final_logit_softcapping": [None, 5.0],
    "query_pre_attn_scalar": [16, 100],
    "use_bidirectional_attention": [False, True],
}
RANDOM_PER_BASE = 70


# Read by every family, though only some declare them.
UNDECLARED = {"head_dim", "rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor"}
UNDECLARED |= {"sliding_window_pattern", "_sliding_window_pattern"}


def changes(rng: random.Random, base: dict):
    """Every single change, and some of two to four fields."""
    known = CONFIG_MAPPING[base["model_type"]].__dataclass_fields__.keys() | UNDECLARED
    singles = [(field, REMOVED) for field in base if field != "model_type"]
    singles += [(field, value) for field, values in VALUES.items() if field in known for value in values]
    yield {}
    yield from ({field: value} for field, value in singles)
    # Windows and original contexts by default are wider than the context of the base.
    for field in base:
        if field not in ("model_type", "max_position_embeddings"):
            yield {field: REMOVED, "max_position_embeddings": 8192}
    for _ in range(RANDOM_PER_BASE):
        yield dict(rng.sample(singles, rng.randint(2, 4)))


def main(out: Path) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    rng = random.Random(0)
    changed, unique = [], {}
    for name, base in BASES.items():
        for change in changes(rng, base):
            config = base | change
            config = {field: value for field, value in config.items() if value != REMOVED}
            found = reading(config)
            key = json.dumps(found, sort_keys=True)
            # Many repeat; each is written once.
            index = None if found is None else unique.setdefault(key, len(unique))
            changed.append({"base": name, "change": change, "reading": index})
    published = {name: {"config": config, "reading": reading(config)} for name, config in PUBLISHED.items()}
    for name, entry in published.items():
        assert entry["reading"] is not None, f"transformers refuses {name}"
    readings = [json.loads(key) for key in unique]
    ropes = []
    for found in [*readings, *(entry["reading"] for entry in published.values())]:
        ropes += [one for one in found["ropes"].values() if one not in ropes]
        found["ropes"] = {kind: ropes.index(one) for kind, one in found["ropes"].items()}
    content = dict(published=published, bases=BASES, ropes=ropes, readings=readings, changed=changed)
    text = ",\n".join(f"{json.dumps(key)}: {lines(value)}" for key, value in content.items())
    out.write_text("{\n" + text + "\n}\n")
    read = sum(one["reading"] is not None for one in changed)
    print(f"{len(changed)} changes, {read} read, {len(readings)} readings")


def lines(value) -> str:
    """JSON with an entry per line."""
    if isinstance(value, dict):
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()) + "\n}"
    return "[\n" + ",\n".join(json.dumps(one) for one in value) + "\n]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
