"""Small tokenizers with the parts that model families have, and what the reference library does with them.

Writes into OUT_DIR:
  corpus.json                 [text, …]
  FAMILY/tokenizer.json, FAMILY/tokenizer_config.json
  FAMILY/reference.json       texts    [ids | {ids, decoded}, …], for each text of the corpus, control tokens taken as text;
                                       decoded where it is not the text itself
                              control  [{text, ids, decoded}, …]   the same where control tokens count; decoded shows them
                              around   [ids before, ids after] of a text
                              streams  [{ids, prefixes}, …]        any tokens, and the text of the first 1, 2, 3, … of them

The reference is the `tokenizers` library on the file as it is. (Some classes of transformers build another tokenizer from
the same vocabulary.)

Training the unigram models gives a slightly different vocabulary each time; the other files stay the same.

Usage: python tokenizer_families.py OUT_DIR   (tokenizers as in ../starter/requirements.txt)
"""

import base64
import json
import random
import struct
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_reference import CONTROL, CORPUS, TRAINING

WORD_MARK = "\u2581"

# Word rules with what the families' own are made of: each is ours.
WORDS_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS_QWEN_2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

MORE_TEXTS = [
    "a\u00a0b \u00a0 c", "\ufeff", "\ufeff\ufeffx\ufeff", "x\u0085y", "\u2028line\u2029para", "tab\tat\t\tthe end\t", "\r\r\n\n\r", " \r\n \r\n",
    "\u200d\u200d", "👩‍❤️‍💋‍👨👨‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿🇩🇪🇯🇵🇺", "🙂🙂🏽🙂🏿", "#️⃣ 1️⃣", "e\u0301e\u0323\u0301o\u0302\u0323 n\u0303", "\u1100\u1161\u11a8 \uac01 각", "\u0958 \u0915\u093c", "Å \u212b \u00c5",
    "क्षत्रिय ज्ञान ড়", "ﷺ ﬃ ① ㍿ ｶﾞ Ａｂ１", "١٢٣ ۴۵۶ १२३ ๑๒๓ Ⅻ ½ ²", "ΑΣ ΣΑΣ ὈΔΥΣΣΕΎΣ", "Straße STRASSE ſ 'ſ 'S'T'RE'Ve", "1 12 123 1234 12345 1a2b 3.4.5", "don't DON'T don’t they'VE I'M",
    "שָׁלוֹם عَرَبِيّ اَلسَّلَامُ", "\u202eright to left\u202c \u2066x\u2069", "中文，和English混排。「引用」・テスト〜ー", "한글 텍스트 조합 ㅎㅏㄴ", "   x   y   ", "▁▁a ▁b▁ ▁", " ▁ a", "a\u3000b\u2003c\u2009d",
    "\n", "\n\n", "\n\n\n\n x", "a\n b\n  c\n\td", "    four\n        eight", "if (a&&b||c){return!d;}", "x=[1,2,3];y={'a':1}", "#include <a.h>\nint main(){}//x", "\\n \\t \\\\", "`code` ```py\nx\n```",
    "\u0000nul\u0001", "\u001c\u001d\u001e\u001f", "\ue000\uf8ff private", "\U0010fffd \ufffd", "𠮷野家 𝓐𝓑 \U0001f1e6", "\u0378\U000e0fff unassigned", "new \U0001faea \U000323b0 \u088f \ua7ce \u0c5c", "ʕ•ᴥ•ʔ ɐ", "<0x0A> <0xE4><0xB8>", "", "    ",
    "<pad> <mask> word-token", "xword-tokenx word-tokenx", "NAME name Name", "🧑🏻‍🚀" * 3 + "é" * 5, "aaaaaaaaaaaaaaaa" * 4, "0" * 33, "\u0e01\u0e33\u0e19\u0e49\u0e33", "ｱｲｳ゛ ￥", "Ω Ω K K", "\u0323\u0d3b x\u0301\u0eba\u0323 \u1df9\u0323 \U000105d2\u0307 \U00011935\U00011930 \u32ff", "\u0344 \u0385 \u1fee",
]

CONTROL_PIECES = [
    "hello {c} world", "{c}", "{c}{c}", " {c} ", "a{c}b", "\n{c}\n\nb", "\t {c}  \t x", "{c}\u00a0x", "é{c}é", "<{c}>", "{c}hello", "x {c}\u0085\ufeffy",
]

LINES = TRAINING + [
    "the quick brown fox jumps over the lazy dog and the cat sat on the mat near the other one",
    "The United Nations said on Monday that they would send more help. We're sure it's what they've wanted.",
    "import os\nfrom sys import argv\n\nclass Reader:\n    def __init__(self, path):\n        self.path = path\n",
    "int main(void) {\n    printf(\"hello, world\\n\");\n    return 0;\n}\n",
]
LATIN = [line for line in LINES if all(ord(c) < 0x180 for c in line)]


def random_texts(count: int) -> list[str]:
    """Mixtures that nobody would think of; the same ones every time."""
    rng = random.Random(3)
    pieces = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u0085", "\ufeff", "\u200d", "'s", "'LL", "1", "23", "٣", "Ⅳ", "½", "a", "The", "é", "e\u0301", "ß", "Я", "ж",
              "中", "語", "か", "한", "ש", "ع", "क", "्", "ष", "😀", "👍🏽", "🇩🇪", "👩‍💻", "ﬁ", "Å", "_", "-", "!", "...", "(", "{", "/", "\\", "<|", "|>", "▁", "Ġ", "\u0000", "𠮷", "\u0303"]
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(2, 24))) for _ in range(count)]


def texts() -> list[str]:
    return list(dict.fromkeys(CORPUS + MORE_TEXTS + random_texts(60)))


def special(*tokens: str, **flags) -> list[AddedToken]:
    return [AddedToken(token, special=True, normalized=flags.get("normalized", False), **{k: v for k, v in flags.items() if k != "normalized"}) for token in tokens]


def template(start: str | None, tokenizer: Tokenizer, end: str | None = None) -> processors.PostProcessor:
    named = [token for token in (start, end) if token is not None]
    single = " ".join(([start] if start else []) + ["$A"] + ([end] if end else []))
    return processors.TemplateProcessing(single=single, special_tokens=[(token, tokenizer.token_to_id(token)) for token in named])


def byte_level(pre, *, tokens: list[AddedToken], normalizer=None, ignore_merges=False, size=560) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    )
    tokenizer.add_tokens(tokens)
    return tokenizer


def split_words(rule: str):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(rule), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def sentencepiece_bpe(*, first: list[str], pieces: int = 260, fuse_unk: bool = True) -> Tokenizer:
    """As sentencepiece's BPE converts: word marks, bytes for what is not in the vocabulary."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend(WORD_MARK), normalizers.Replace(" ", WORD_MARK)])
    trained.pre_tokenizer = pre_tokenizers.Split(WORD_MARK, behavior="merged_with_next")
    trained.train_from_iterator(LATIN, trainers.BpeTrainer(vocab_size=pieces, special_tokens=["<unk>"], show_progress=False))
    parts = json.loads(trained.to_str())["model"]
    vocabulary = first + [f"<0x{byte:02X}>" for byte in range(256)]
    merges = [tuple(merge) for merge in parts["merges"]]
    # Runs of spaces, as families have them.
    for length in (2, 4):
        merges.append((WORD_MARK * (length // 2), WORD_MARK * (length // 2)))
    vocabulary += [a + b for a, b in merges] + [piece for piece in parts["vocab"] if len(piece) == 1]
    vocabulary = list(dict.fromkeys(vocabulary))
    return Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(vocabulary)}, merges, unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=True)
    )


SENTENCEPIECE_DECODER = [decoders.Replace(WORD_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
LEGACY = normalizers.Sequence([normalizers.Prepend(WORD_MARK), normalizers.Replace(" ", WORD_MARK)])


def llama_legacy(normalized: bool) -> Tokenizer:
    tokenizer = sentencepiece_bpe(first=["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = LEGACY
    tokenizer.decoder = decoders.Sequence([*SENTENCEPIECE_DECODER, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>", normalized=normalized))
    tokenizer.post_processor = template("<s>", tokenizer)
    return tokenizer


def llama_metaspace() -> Tokenizer:
    tokenizer = sentencepiece_bpe(first=["<unk>", "<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD_MARK, prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([*SENTENCEPIECE_DECODER, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special("<unk>", "<s>", "</s>", "[INST]", "[/INST]"))
    tokenizer.post_processor = template("<s>", tokenizer)
    return tokenizer


def phi_3() -> Tokenizer:
    tokenizer = sentencepiece_bpe(first=["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = LEGACY
    tokenizer.decoder = decoders.Sequence([*SENTENCEPIECE_DECODER, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special("<unk>", "<s>"))
    tokenizer.add_tokens([AddedToken("</s>", rstrip=True, normalized=False)])
    tokenizer.add_special_tokens(special("<|endoftext|>"))
    tokenizer.add_special_tokens(special("<|assistant|>", "<|system|>", "<|end|>", "<|user|>", rstrip=True))
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = sentencepiece_bpe(first=["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "\n\n", "\n\n\n", "\t\t"])
    tokenizer.normalizer = normalizers.Replace(" ", WORD_MARK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence(SENTENCEPIECE_DECODER)
    tokenizer.add_special_tokens(special("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("\n\n", "\n\n\n", "\t\t", WORD_MARK * 2, WORD_MARK * 4)])
    tokenizer.post_processor = template("<bos>", tokenizer)
    return tokenizer


def charsmap(replacements: dict[str, str]) -> bytes:
    """SentencePiece's compiled map: a double-array trie (darts-clone's units) and a block of replacements."""
    block, offsets = bytearray(b"\0"), {}
    for text in sorted(set(replacements.values())):
        offsets[text] = len(block)
        block += text.encode() + b"\0"
    trie: dict = {}
    for word, text in replacements.items():
        node = trie
        for byte in word.encode():
            node = node.setdefault(byte, {})
        node[None] = offsets[text]
    units: dict[int, int] = {}
    taken = {0}

    def place(node: dict, at: int, label: int) -> None:
        keys = [0 if key is None else key for key in node]
        base = next(b for b in range(1, 1 << 20) if (at ^ b) < (1 << 20) and all((at ^ b ^ key) not in taken for key in keys) and b < 1 << 21)
        taken.update(at ^ base ^ key for key in keys)
        units[at] = base << 10 | (0x100 if None in node else 0) | label
        for key, child in node.items():
            if key is None:
                units[at ^ base] = 1 << 31 | child
            else:
                place(child, at ^ base ^ key, key)

    place(trie, 0, 0)
    size = (max(units) | 0xFF) + 1
    packed = struct.pack(f"<{size}I", *(units.get(i, 0) for i in range(size)))
    return struct.pack("<I", len(packed)) + packed + bytes(block)


REPLACEMENTS = {
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\ufeff": "", "\u0001": "", "\u0002": "", "ﬁ": "fi", "ﬃ": "ffi", "①": "1", "Ａ": "A", "ｂ": "b", "１": "1", "２": "2",
    "３": "3", "½": "1⁄2", "²": "2", "e\u0301": "é", "n\u0303": "ñ", "ｶﾞ": "ガ", "㍿": "株式会社", "…": "...", "\u212b": "Å", "K": "K", "’": "'", "ß": "ss", "\u0915\u093c": "क़", "❤️": "♥",
}


def unigram(*, kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    if kind == "charsmap":
        steps = [normalizers.Precompiled(charsmap(REPLACEMENTS)), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(left=False, right=True)]
    else:
        steps = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()] if kind == "accents" else [normalizers.Nmt(), normalizers.NFKC(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    space = pre_tokenizers.Metaspace(replacement=WORD_MARK, prepend_scheme="always", split=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space]) if kind == "nmt" else space
    tokenizer.decoder = decoders.Metaspace(replacement=WORD_MARK, prepend_scheme="always")
    first = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(LINES, trainers.UnigramTrainer(vocab_size=420, special_tokens=first, unk_token="<unk>", show_progress=False))
    state = json.loads(tokenizer.to_str())
    if kind == "nmt":
        state["model"]["vocab"] += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
        state["model"]["byte_fallback"] = True
        state["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": WORD_MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = template(None, tokenizer, "</s>")
    return tokenizer


def prefix_space() -> Tokenizer:
    """`add_prefix_space`, and added tokens with each flag there is."""
    tokenizer = byte_level(
        pre_tokenizers.ByteLevel(add_prefix_space=True), tokens=special("<|endoftext|>"), normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True), AddedToken("<pad>", lstrip=True, rstrip=True, normalized=False, special=True)])
    tokenizer.add_tokens([
        AddedToken("word-token", single_word=True, normalized=False), AddedToken("Name", normalized=True), AddedToken("naïve", normalized=True, single_word=True), AddedToken("cod", normalized=True, lstrip=True),
    ])
    return tokenizer


def splits() -> Tokenizer:
    """Every behaviour of `Split`, `Digits` in runs, and text patterns."""
    split = pre_tokenizers.Split
    return byte_level(
        pre_tokenizers.Sequence([
            split(Regex(r"[\r\n]+"), behavior="contiguous"), split(Regex(r"\s"), behavior="merged_with_next"), split(",", behavior="merged_with_previous"), split(Regex(r"[\x{2000}-\x{206f}]"), behavior="removed"),
            split(Regex(r"\p{Han}+|[A-Z][a-z]*|[^A-Z\p{Han}]+"), behavior="removed", invert=True), split("-", behavior="contiguous"), pre_tokenizers.Digits(individual_digits=False), split(Regex(r"(?<=[.!?])(?=[\"')]|$)|^#"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]),
        tokens=special("<|end|>"),
    )


CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def families() -> dict[str, tuple[Tokenizer, dict]]:
    llama_3 = byte_level(split_words(WORDS_LLAMA_3), tokens=special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), ignore_merges=True)
    llama_3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template("<|begin_of_text|>", llama_3)])
    tekken = byte_level(split_words(WORDS_TEKKEN), tokens=special("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"), ignore_merges=True)
    tekken.post_processor = template("<s>", tekken)
    qwen_2 = byte_level(split_words(WORDS_QWEN_2), tokens=[*special(*CHATML), *(AddedToken(token, normalized=False) for token in ("<tool_call>", "<think>", "</think>"))], normalizer=normalizers.NFC())
    smollm_2 = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]), tokens=special(*CHATML))
    sentencepiece = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return {
        "llama-1": (llama_legacy(True), sentencepiece),
        "llama-2": (llama_legacy(False), sentencepiece),
        "llama-2-metaspace": (llama_metaspace(), sentencepiece),
        "llama-3": (llama_3, dict(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")),
        "mistral-tekken": (tekken, sentencepiece),
        "qwen-2": (qwen_2, dict(eos_token="<|im_end|>", pad_token="<|endoftext|>")),
        "smollm-2": (smollm_2, dict(bos_token="<|im_start|>", eos_token="<|im_end|>")),
        "gemma": (gemma(), dict(bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<pad>")),
        "phi-3": (phi_3(), dict(bos_token="<s>", eos_token="<|endoftext|>", unk_token="<unk>")),
        "unigram-charsmap": (unigram(kind="charsmap"), dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>")),
        "unigram-nmt": (unigram(kind="nmt"), dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>")),
        "prefix-space": (prefix_space(), dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>")),
        "splits": (splits(), dict(eos_token="<|end|>")),
    }


def reference(tokenizer: Tokenizer) -> dict:
    def encode(text: str, as_text: bool) -> list[int]:
        tokenizer.encode_special_tokens = as_text
        return tokenizer.encode(text, add_special_tokens=False).ids

    def case(text: str):
        ids = encode(text, True)
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        return ids if decoded == text else {"ids": ids, "decoded": decoded}

    def control(text: str) -> dict:
        ids = encode(text, False)
        return {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}

    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    rng = random.Random(5)
    pieces = [CONTROL_PIECES[i % len(CONTROL_PIECES)].format(c=token) for token in added for i in rng.sample(range(len(CONTROL_PIECES)), 4)]
    pieces += ["".join(rng.choice([*added, " ", "a", "\n", "the ", "é"]) for _ in range(8)) for _ in range(12)]
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    bare = encode("a", True)
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    byte_ids = [i for i in range(tokenizer.get_vocab_size()) if (tokenizer.id_to_token(i) or "").startswith("<0x")]
    streams = []
    for number in range(10):
        pool = byte_ids if byte_ids and number % 2 else range(tokenizer.get_vocab_size())
        ids = []
        while len(ids) < 18:
            # Whole characters, halves of characters, other tokens.
            some = encode(rng.choice(["é", "中", "😀", " the", "Я!", "\n", "한"]), True)
            ids += [some, some[: rng.randint(0, len(some))], [rng.choice(pool)]][rng.randint(0, 2)]
        streams.append({"ids": ids, "prefixes": [tokenizer.decode(ids[: i + 1], skip_special_tokens=True) for i in range(len(ids))]})
    return {
        "texts": [case(text) for text in texts()],
        "control": [control(text) for text in dict.fromkeys(CONTROL + pieces)],
        "around": [whole[:at], whole[at + len(bare) :]],
        "streams": streams,
    }


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    (out / "corpus.json").write_text(json.dumps(texts(), ensure_ascii=True, indent=0) + "\n")
    for name, (tokenizer, config) in families().items():
        folder = out / name
        folder.mkdir(exist_ok=True)
        state = tokenizer.to_str()
        (folder / "tokenizer.json").write_text(json.dumps(json.loads(state), ensure_ascii=False, separators=(",", ":")) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
        lines = json.dumps(reference(Tokenizer.from_str(state)), ensure_ascii=False, separators=(",", ":")).replace("],[", "],\n[").replace("},{", "},\n{")
        (folder / "reference.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
