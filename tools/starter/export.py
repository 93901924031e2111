"""Copy a trained checkpoint into ``models/starter`` in plain Hugging Face form, and check that it loads.

Usage: ``python export.py TRAINED_DIR models/starter``. ``config.json`` gets the classic field names, which every reader knows.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokenizer import CONTEXT


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads((source / "config.json").read_text())
    rope = config.pop("rope_parameters", None) or {}
    config.pop("dtype", None)
    config.pop("transformers_version", None)
    config |= {"torch_dtype": "float32", "rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": None}
    write(target / "config.json", dict(sorted(config.items())))
    write(target / "generation_config.json", {
        "bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"],
        "do_sample": True, "temperature": 0.9, "max_new_tokens": 128,
    })
    tensors = {name: tensor.float().contiguous() for name, tensor in load_file(source / "model.safetensors").items() if name != "lm_head.weight"}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (target / name).write_bytes((source / name).read_bytes())
    check(source, target)


def write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


@torch.no_grad()
def check(source: Path, target: Path) -> None:
    """The exported folder loads, computes what the trained one does, and renders a chat."""
    tokenizer = AutoTokenizer.from_pretrained(target)
    chat = [{"role": "system", "content": "Be formal."}, {"role": "user", "content": "Where is my parcel?"}]
    encoded = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    before, after = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (source, target))
    assert torch.equal(before(**encoded).logits, after(**encoded).logits)
    assert after.config.max_position_embeddings == CONTEXT
    out = after.generate(**encoded, do_sample=False, max_new_tokens=60)
    print(tokenizer.decode(out[0]))
    print("parameters", sum(p.numel() for p in after.parameters()))


if __name__ == "__main__":
    main()
