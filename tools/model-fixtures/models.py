"""The tiny random models: every architecture that is imported, and every feature in one of them at least.

A model is a config of transformers, how its weights are stored, and its features: how to leave each out, or misread it.
Sizes are as small as shapes allow (a head is a multiple of 8 wide); windows and original contexts are shorter than the
sequences, so that what lies beyond them is compared too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

CONTEXT = 48
TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)
SIZES = dict(
    hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    head_dim=16, vocab_size=53, max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, tie_word_embeddings=False, **TOKENS,
)  # fmt: skip
ONE_HEAD = SIZES | dict(num_attention_heads=1, num_key_value_heads=1, head_dim=32, num_hidden_layers=2)
HALF_ROPE = dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.5)
# 24 of the 32 elements of a head are rotated: 12 frequencies, each with factors of its own.
PARTIAL = dict(rope_theta=1000.0, partial_rotary_factor=0.75)
PARTIAL_ROPE = dict(rope_parameters=dict(rope_type="default", **PARTIAL))
LONGROPE = dict(
    rope_type="longrope", **PARTIAL, short_factor=[round(1 + 0.15 * i, 2) for i in range(12)],
    long_factor=[round(1.5 + 0.6 * i, 2) for i in range(12)],
)  # fmt: skip

Change = Callable[[PreTrainedModel], None]


@dataclass
class Model:
    config: PreTrainedConfig
    dtype: torch.dtype = torch.float32
    # Largest shard; None for one file.
    shard: str | None = None
    # Steered cases too, not only the plain forward pass.
    steered: bool = False
    sequence: int = 36
    # By name: config fields of a model that lacks the feature, or a change of the built model.
    features: dict[str, dict | Change] = field(default_factory=dict)


def without_bias(*projections: str) -> Change:
    def change(model):
        for name, parameter in model.named_parameters():
            if name.endswith(".bias") and name.split(".")[-2] in projections:
                parameter.zero_()

    return change


def without_modules(*names: str) -> Change:
    def change(model):
        for path, _module in list(model.named_modules()):
            if path.split(".")[-1] in names:
                parent = model.get_submodule(path.rpartition(".")[0])
                setattr(parent, path.split(".")[-1], nn.Identity())

    return change


def norm_without_one(model) -> None:
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.sub_(1)


def unscaled_embedding(model) -> None:
    model.model.embed_tokens.embed_scale.fill_(1)


def silu_gate(model) -> None:
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.SiLU()


def no_attention_cap(model) -> None:
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None


def uniform_rope(theta: float) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


# The range between slow and fast rotations lies inside the 16 frequencies, at 2.7 and 8.3.
QWEN3_YARN = dict(
    rope_type="yarn", rope_theta=50.0, factor=6.0, original_max_position_embeddings=24, beta_fast=2.0, beta_slow=0.5,
    mscale=0.7, mscale_all_dim=2.0, truncate=False,
)  # fmt: skip
PLAIN_ROPE = uniform_rope(10000.0)
LLAMA = dict(max_position_embeddings=40, hidden_act="silu", attention_bias=False, mlp_bias=False)

MODELS: dict[str, Model] = {
    # Two Llamas that differ in every way the importer branches on: grouped and plain heads, tied and untied head,
    # head_dim times heads equal to the hidden size and not, a narrow and a wide epsilon.
    "grouped-untied": Model(
        LlamaConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
            intermediate_size=48, vocab_size=61, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False,
            **LLAMA,
        ),  # fmt: skip
        steered=True,
        sequence=28,
    ),
    "plain-tied": Model(
        LlamaConfig(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, head_dim=16,
            intermediate_size=40, vocab_size=53, rope_theta=500.0, rms_norm_eps=5e-2, tie_word_embeddings=True,
            **LLAMA,
        ),  # fmt: skip
        steered=True,
        sequence=28,
    ),
    # Llama 3.1: low frequencies stretched, high ones kept; and every bias that Llama may have.
    "llama3-biased": Model(
        LlamaConfig(
            **SIZES, attention_bias=True, mlp_bias=True,
            rope_parameters=dict(
                rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        ),  # fmt: skip
        dtype=torch.float16,
        features={
            "rope scaling": uniform_rope(100.0),
            "query, key, value bias": without_bias("q_proj", "k_proj", "v_proj"),
            "attention output bias": without_bias("o_proj"),
            "MLP bias": without_bias("gate_proj", "up_proj", "down_proj"),
        },
    ),
    # SmolLM2: three query heads to one key head, tied; stretched evenly, in shards.
    "llama-linear-shards": Model(
        LlamaConfig(
            **SIZES | dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True),
            rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
        ),
        dtype=torch.bfloat16,
        shard="20KB",
        features={"rope scaling": PLAIN_ROPE},
    ),
    "mistral-window": Model(
        MistralConfig(**SIZES | dict(num_attention_heads=2, num_key_value_heads=1, head_dim=32), sliding_window=7),
        dtype=torch.bfloat16,
        features={"window": dict(sliding_window=None), "window's own position": dict(sliding_window=8)},
    ),
    # A window in the last two of three layers.
    "qwen2-window": Model(
        Qwen2Config(
            **SIZES | dict(tie_word_embeddings=True), use_sliding_window=True, sliding_window=9, max_window_layers=1,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),  # fmt: skip
        dtype=torch.float16,
        features={
            "window": dict(use_sliding_window=False),
            "layers without a window": dict(max_window_layers=0),
            "query, key, value bias": without_bias("q_proj", "k_proj", "v_proj"),
        },
    ),
    # Defaults of YaRN, as Qwen2.5 documents them for long contexts.
    "qwen2-yarn": Model(
        Qwen2Config(
            **SIZES | dict(num_hidden_layers=2),
            rope_parameters=dict(
                rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=12
            ),
        ),
        dtype=torch.bfloat16,
        features={"rope scaling": PLAIN_ROPE},
    ),
    # Every option of YaRN; norms on query and key, biases, a head wider than its share of the hidden size.
    "qwen3-yarn": Model(
        Qwen3Config(
            **SIZES | dict(num_hidden_layers=2, head_dim=32), attention_bias=True, rope_parameters=QWEN3_YARN
        ),
        dtype=torch.float16,
        features={
            "rope scaling": uniform_rope(QWEN3_YARN["rope_theta"]),
            "fast and slow rotations": dict(rope_parameters=QWEN3_YARN | dict(beta_fast=32.0, beta_slow=1.0)),
            "exact range": dict(rope_parameters=QWEN3_YARN | dict(truncate=True)),
            "weights of the factor on cos and sin": dict(rope_parameters=QWEN3_YARN | dict(mscale=None)),
            "query and key norm": without_modules("q_norm", "k_norm"),
            "query, key, value bias": without_bias("q_proj", "k_proj", "v_proj"),
            "attention output bias": without_bias("o_proj"),
        },
    ),
    # Every second layer without positions, and with a window.
    "smollm3-no-rope": Model(
        SmolLM3Config(
            **SIZES | dict(num_hidden_layers=4, tie_word_embeddings=True), no_rope_layer_interval=2,
            use_sliding_window=True, sliding_window=10, rope_parameters=dict(rope_type="default", rope_theta=5000.0),
        ),  # fmt: skip
        dtype=torch.bfloat16,
        features={
            "layers without positions": dict(no_rope_layers=[1, 1, 1, 1]),
            "window": dict(use_sliding_window=False, layer_types=["full_attention"] * 4),
        },
    ),
    "gemma2": Model(
        Gemma2Config(
            **SIZES | dict(num_hidden_layers=4, tie_word_embeddings=True), query_pre_attn_scalar=24, sliding_window=8,
            attn_logit_softcapping=2.0, final_logit_softcapping=4.0,
        ),  # fmt: skip
        dtype=torch.bfloat16,
        features={
            "soft cap of attention": no_attention_cap,
            "soft cap of logits": dict(final_logit_softcapping=None),
            "window": dict(layer_types=["full_attention"] * 4),
            "layers without a window": dict(layer_types=["sliding_attention"] * 4),
            "attention scale": dict(query_pre_attn_scalar=16),
            "embedding scale": unscaled_embedding,
            "GeGLU": silu_gate,
            "norm after attention": without_modules("post_attention_layernorm"),
            "norm after MLP": without_modules("post_feedforward_layernorm"),
            "one added to norms": norm_without_one,
        },
    ),
    # Two rotary embeddings: local layers their own base, global ones stretched.
    "gemma3": Model(
        Gemma3TextConfig(
            **SIZES | dict(head_dim=32, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True),
            query_pre_attn_scalar=20, sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters=dict(
                full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=3.0),
                sliding_attention=dict(rope_type="default", rope_theta=100.0),
            ),
        ),  # fmt: skip
        dtype=torch.bfloat16,
        features={
            "window": dict(sliding_window=CONTEXT),
            "rope scaling": dict(
                rope_parameters=dict(
                    full_attention=dict(rope_type="default", rope_theta=10000.0),
                    sliding_attention=dict(rope_type="default", rope_theta=100.0),
                )
            ),
            "rotary base of local layers": dict(
                rope_parameters=dict(
                    full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=3.0),
                    sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                )
            ),
            "query and key norm": without_modules("q_norm", "k_norm"),
            "attention scale": dict(query_pre_attn_scalar=32),
            "embedding scale": unscaled_embedding,
            "GeGLU": silu_gate,
            "norm after attention": without_modules("post_attention_layernorm"),
            "norm after MLP": without_modules("post_feedforward_layernorm"),
            "one added to norms": norm_without_one,
        },
    ),
    # Rotary over half of a head, fused projections, one window.
    "phi3-partial-window": Model(
        Phi3Config(
            **ONE_HEAD | dict(hidden_size=64, num_attention_heads=2), sliding_window=11, rope_parameters=HALF_ROPE
        ),
        dtype=torch.bfloat16,
        features={
            "window": dict(sliding_window=None),
            "partial rotary": dict(rope_parameters=HALF_ROPE | dict(partial_rotary_factor=1.0)),
        },
    ),
    # Beyond the original context: the long factors, and the factor on cos and sin that follows from the two contexts.
    "phi3-longrope": Model(
        Phi3Config(
            **ONE_HEAD | dict(tie_word_embeddings=True), original_max_position_embeddings=12, rope_parameters=LONGROPE
        ),
        dtype=torch.bfloat16,
        features={
            "rope scaling": PARTIAL_ROPE,
            "factor on cos and sin": dict(rope_parameters=LONGROPE | dict(attention_factor=1.0)),
            "long factors": dict(original_max_position_embeddings=CONTEXT),
        },
    ),
    # Within it: the short factors, and a factor on cos and sin that is written down.
    "phi3-longrope-short": Model(
        Phi3Config(
            **ONE_HEAD, original_max_position_embeddings=CONTEXT, rope_parameters=LONGROPE | dict(attention_factor=1.25)
        ),
        dtype=torch.float16,
        features={
            "rope scaling": PARTIAL_ROPE,
            "factor on cos and sin": dict(rope_parameters=LONGROPE),
            "short factors": dict(original_max_position_embeddings=CONTEXT // 4),
        },
    ),
    # A head of another width than the runtime's attention rotates.
    "llama-narrow-heads": Model(
        LlamaConfig(**SIZES | dict(num_hidden_layers=2, head_dim=24), rope_parameters=PLAIN_ROPE["rope_parameters"]),
        dtype=torch.bfloat16,
    ),
}
