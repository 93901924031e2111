"""A tiny checkpoint as a publisher would upload it, weights, tokenizer and template, and what transformers says with it.

Writes OUT_DIR/
  checkpoint/      a Qwen3 with a sliding window in two of three layers, bfloat16, in shards, with more embeddings than tokens
  reference.json   cases [{chat | text, prompt: ids, continuation: ids, logProbs of the continuation}, …]; computed in float32

Window and sequence are such that the prompts reach far past the window.

Usage: python served_reference.py OUT_DIR   (torch and transformers as in ../starter/requirements.txt)
"""

import json
import sys
from pathlib import Path

import torch
from model_reference import build
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config

FIXTURES = Path(__file__).parents[2] / "packages/model/src/tokenizer/fixtures"
WINDOW = 12
SPARE_EMBEDDINGS = 10
# As large as the other matrices, in three layers, which trained models do not have: what a tied model says next is else the
# token it has just read, whatever steers it.
INTO_STREAM = 1.2 * 6**0.5
CONTINUATION = 20
CHATS = [
    [{"role": "user", "content": "Where is my order?"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Wo ist mein Päckchen? 📦"},
        {"role": "assistant", "content": "On its way."},
        {"role": "user", "content": "  Thanks, 你好!\n"},
    ],
]
TEXTS = ["def area(r):\n    return 3.14 * r * r  # the circle's", "The quick brown fox"]


def write_checkpoint(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(FIXTURES / "families/qwen-2/tokenizer.json"))
    template = json.loads((FIXTURES / "templates/qwen-3.json").read_text())
    config = Qwen3Config(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        vocab_size=tokenizer.get_vocab_size() + SPARE_EMBEDDINGS, max_position_embeddings=256, tie_word_embeddings=True,
        use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"), eos_token_id=tokenizer.token_to_id("<|im_end|>"),
    )  # fmt: skip
    model = build(config, torch.bfloat16, seed=11, into_stream=INTO_STREAM).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="100KB")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=template["source"],
        model_max_length=256,
        clean_up_tokenization_spaces=False,
        **template["tokens"],
    ).save_pretrained(folder)


@torch.no_grad()
def reference(folder: Path) -> list[dict]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prompts = [({"chat": chat}, tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]) for chat in CHATS]
    prompts += [({"text": text}, tokenizer(text)["input_ids"]) for text in TEXTS]
    cases = []
    for source, prompt in prompts:
        # Any tokens, not likely ones: their log-probabilities depend on everything.
        continuation = torch.randint(0, model.config.vocab_size, (CONTINUATION,)).tolist()
        rows = torch.log_softmax(model(torch.tensor([prompt + continuation])).logits[0, len(prompt) - 1 : -1], dim=-1)
        log_probs = rows.gather(1, torch.tensor(continuation)[:, None])[:, 0]
        assert log_probs.std() > 1 and len(prompt) + CONTINUATION > 2 * WINDOW
        cases.append({**source, "prompt": prompt, "continuation": continuation, "logProbs": [round(float(x), 5) for x in log_probs]})
    return cases


def main(out: Path) -> None:
    (out / "checkpoint").mkdir(parents=True, exist_ok=True)
    for file in (out / "checkpoint").iterdir():
        file.unlink()
    write_checkpoint(out / "checkpoint")
    torch.manual_seed(3)
    cases = reference(out / "checkpoint")
    (out / "reference.json").write_text("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
