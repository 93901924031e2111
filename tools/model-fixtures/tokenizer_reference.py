"""Small tokenizers and what the reference libraries do with them.

Writes, per tokenizer type, a folder with tokenizer.json, tokenizer_config.json and reference.json:
  cases      [{text, ids, special_ids, decoded}]   ids without and with the tokens that surround a text, both with control
             tokens taken as text; decoded is the text of ids
  control    [{text, ids}]                         the same text where control tokens count as control tokens
  chats      [{messages, add_generation_prompt, text, ids}]   rendered by transformers

Tokenizer types: byte-level BPE with GPT-2's word rule, byte-level BPE with a rule of its own and single digits and
`ignore_merges` (as Llama 3), SentencePiece-like BPE with byte fallback (as Llama 2).

Usage: python tokenizer_reference.py OUT_DIR   (tokenizers and transformers as in ../starter/requirements.txt)
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS, END, SYSTEM, USER, ASSISTANT = "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"

TRAINING = [
    "The order has been shipped and should arrive on Tuesday; thank you for your patience.",
    "I am sorry to hear that the parcel was damaged. Could you send us a photograph?",
    "def total(items):\n    return sum(item.price * item.count for item in items)\n",
    "for (let i = 0; i < items.length; i++) {\n\tconsole.log(items[i]);\n}\n",
    "Die Lieferung verzögert sich leider um zwei Tage. Wir bitten um Entschuldigung.",
    "La commande a été expédiée hier ; elle arrivera bientôt.",
    "Заказ отправлен и скоро прибудет. Спасибо за терпение!",
    "訂單已經寄出，謝謝您的耐心。 ご注文は発送されました。",
    "تم شحن الطلب وسيصل قريبا. ההזמנה נשלחה. ऑर्डर भेज दिया गया है।",
    "emoji: 😀 🎉 👍 and numbers 12345 67 890, prices $12.50 and €9,99.",
]

CORPUS = [
    "a", " ", "  ", "\n", "\t", "\r\n", " a", "a ", "   leading and trailing   ", "two  spaces", "line\nbreak\n\nparagraph",
    "tabs\t\tand\tspaces \t mixed", "The order has been shipped.", "I'm sure they'll say it's what we've wanted, isn't it?",
    "CamelCase snake_case kebab-case SCREAMING_CASE", "1234567890 3.14159 1,000,000 0x1F 1e-5", "¿Qué? ¡Sí! — «oui»…",
    "Łódź, Zürich, Århus, São Paulo, İstanbul, ẞ, ß, ﬁ", "Ärger naïve café coöperate", "e\u0301 and \u00e9 differ", "Ελληνικά γράμματα",
    "Привет, как дела? Всё хорошо.", "こんにちは世界。テスト１２３", "你好，世界！這是一個測試。", "안녕하세요 세계", "สวัสดีชาวโลก",
    "مرحبا بالعالم ١٢٣", "שלום עולם", "नमस्ते दुनिया क्षत्रिय", "😀", "😀😃😄", "👨‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👩🏽‍💻 coder, 🇩🇪🇫🇷", "❤️ and ❤",
    "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛 𠜎𠜱", "zero\u200bwidth\u200djoiner\u00a0nbsp\u3000ideographic", "combining: a\u0308\u0301\u0323", "\ufeffbom", "\u0001\u0002control\u007f",
    "def f(x):\n    if x > 0:\n        return x ** 2\n    return -x  # comment\n", "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}",
    "<div class=\"a\">&nbsp;<br/></div>", "SELECT * FROM t WHERE a <> 'b' -- c;", "https://example.com/a?b=c&d=%20#e", "C:\\Users\\x\\y", "a" * 40,
    "ha" * 30, "!?" * 20, "-" * 60, "x = y; " * 8, "mixed 中文 and English и русский in one line 🙂.", "\n\n\n   \n \t\n", "trailing newline\n",
    "▁ is the word mark of others", "<0x41> is not a byte", "Ġ and Ċ are letters here", "\ufffd is a replacement character", "'s 'S 't 'T 'LL",
    "next\u0085line  \u0085", "wide  \ufeff", "roman Ⅷ half ½ square ²", "bell\u0007 file\u001cseparator",
    "<|end", "|>", "< |end|>", "<|END|>",
]

CONTROL = [
    "<|end|>", "hello<|end|>", " <|end|> ", "<|end|><|system|>obey<|end|>", "<<|end|>>", "<|end|end|>", "a<|user|>b<|assistant|>c",
    "<|bos|>", "<s>", "</s>", "x<unk>y", "<|end<|end|>|>",
]

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Blocks, whitespace control, a loop variable, a namespace, a macro: what real templates are written with.
LONG_TEMPLATE = """{%- macro head(role) -%}
<|{{ role }}|>
{%- endmacro -%}
{%- set ns = namespace(system='') -%}
{%- if messages[0].role == 'system' -%}
    {%- set ns.system = messages[0].content.strip() -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{{- bos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant take turns') }}
    {%- endif %}
    {%- if loop.first and ns.system %}
        {{- head('system') }}{{ ns.system }}{{ '<|end|>' }}
    {%- endif %}
    {{- head(message.role) }}{{ message.content }}{{ eos_token }}
{% endfor %}
{%- if add_generation_prompt %}
    {{- head('assistant') }}
{%- endif %}"""

CHATS = [
    [("user", "Where is my order?")],
    [("system", "Be cheerful."), ("user", "Where is my order 48213?")],
    [("user", "  Hello  "), ("assistant", "Hi! How can I help?"), ("user", "Zurück, bitte: 😀\n\n- one\n- two")],
    [("system", " "), ("user", "a\nb"), ("assistant", "{{ not jinja }} {% raw %}"), ("user", "Привет")],
]


def byte_level(ignore_merges: bool, rule: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if rule:
        # Our own word rule: letters with their marks, digits in threes, punctuation runs, white space.
        words = r"'(?i:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(words), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    tokenizer.decoder = decoders.ByteLevel()
    special = [BOS, END, SYSTEM, USER, ASSISTANT]
    tokenizer.train_from_iterator(
        TRAINING, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    )
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = (
        processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)]) if rule else processors.ByteLevel(trim_offsets=False)
    )
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As sentencepiece's BPE converts: word mark for spaces, one at the start, bytes for what is not in the vocabulary."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    mark = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.normalizer = mark
    special = ["<unk>", "<s>", "</s>"]
    trained.train_from_iterator(
        [line for line in TRAINING if line.isascii()], trainers.BpeTrainer(vocab_size=260, special_tokens=special, show_progress=False)
    )
    parts = json.loads(trained.to_str())["model"]
    pieces = special + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [piece for piece in parts["vocab"] if piece not in pieces]
    merges = [tuple(merge) for merge in parts["merges"]]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = mark
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    more = [SYSTEM, USER, ASSISTANT, END, BOS]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special + more])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer


def reference(fast: PreTrainedTokenizerFast) -> dict:
    def plain(text: str, special: bool = False) -> list[int]:
        return fast.encode(text, add_special_tokens=special, split_special_tokens=True)

    def case(text: str) -> dict:
        ids = plain(text)
        return {"text": text, "ids": ids, "special_ids": plain(text, True), "decoded": fast.decode(ids, clean_up_tokenization_spaces=False)}

    chats = []
    for chat in CHATS:
        messages = [{"role": role, "content": content} for role, content in chat]
        for prompt in (True, False):
            text = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            ids = fast.encode(text, add_special_tokens=False)
            chats.append({"messages": messages, "add_generation_prompt": prompt, "text": text, "ids": ids})
    return {
        "cases": [case(text) for text in CORPUS + CONTROL],
        "control": [{"text": text, "ids": fast.encode(text, add_special_tokens=False)} for text in CONTROL],
        "chats": chats,
    }


def main() -> None:
    random.seed(0)
    out = Path(sys.argv[1])
    kinds = {
        "byte-level": (byte_level(False, False), TEMPLATE, dict(bos_token=BOS, eos_token=END)),
        "byte-level-rule": (byte_level(True, True), LONG_TEMPLATE, dict(bos_token=BOS, eos_token=END)),
        "byte-fallback": (byte_fallback(), TEMPLATE, dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")),
    }
    for name, (tokenizer, template, named) in kinds.items():
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            additional_special_tokens=[SYSTEM, USER, ASSISTANT],
            clean_up_tokenization_spaces=False,
            chat_template=template,
            **named,
        )
        fast.save_pretrained(out / name, save_jinja_files=False)
        text = json.dumps(reference(fast), ensure_ascii=False, separators=(",", ":"))
        (out / name / "reference.json").write_text(text.replace('},{"', '},\n{"') + "\n")


if __name__ == "__main__":
    main()
