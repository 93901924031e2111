"""Train the byte-level BPE tokenizer and write it in Hugging Face form.

Usage: ``python tokenizer.py OUT_DIR``. Any text round-trips: the alphabet is the 256 bytes. Digits stay single, so that order
numbers are copied digit by digit.
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from corpus import ASSISTANT, BOS, END, SYSTEM, USER, conversation

VOCAB = 1536
PAD = "<|pad|>"
SPECIAL = [PAD, BOS, END, SYSTEM, USER, ASSISTANT]
CONTEXT = 1024

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(seed: int = 7, conversations: int = 20000) -> PreTrainedTokenizerFast:
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    texts = (conversation(rng, 2) for _ in range(conversations))
    tokenizer.train_from_iterator((t for talk in texts for turn in [(talk.system or "",), *talk.turns] for t in turn), trainer)
    # Raw text starts as conversations do, which name the token in the template.
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def name_class(path: Path) -> None:
    """Write the class name that transformers of every version and transformers.js know."""
    config = json.loads(path.read_text())
    config.pop("backend", None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["additional_special_tokens"] = config.pop("extra_special_tokens", config.get("additional_special_tokens"))
    path.write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    tokenizer = train()
    tokenizer.save_pretrained(sys.argv[1], save_jinja_files=False)
    name_class(Path(sys.argv[1]) / "tokenizer_config.json")
    sample = "Łódź — 你好 \U0001f600 order 48213,  two  spaces\n\ttab"
    assert tokenizer.decode(tokenizer.encode(sample, add_special_tokens=False)) == sample
    rng = random.Random(8)
    talks = [conversation(rng, 2) for _ in range(500)]
    tokens = [len(tokenizer.encode(reply, add_special_tokens=False)) for talk in talks for _, reply in talk.turns]
    words = [len(reply.split()) for talk in talks for _, reply in talk.turns]
    print("vocabulary", len(tokenizer), "tokens per word", round(sum(tokens) / sum(words), 3), "tokens per reply", sum(tokens) / len(tokens))


if __name__ == "__main__":
    main()
