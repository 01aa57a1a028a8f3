"""Byte-level BPE for the demo model: trains a small vocabulary, encodes, and writes a Hugging Face tokenizer.json.

    python3 bpe.py      # writes merges.json and tokenizer.json beside this file
"""
import collections
import json
import random
import re

# The pattern as Python's re knows it (ASCII, enough for the training texts) and as tokenizer.json carries it.
WORDS = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PUBLISHED_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
TEXT_MARKS = ("<think>", "</think>")  # Added tokens that are text to the reader.
SPLIT = re.compile("(" + "|".join(re.escape(s) for s in SPECIAL) + ")")
MERGES = 379


def byte_characters():
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (b for b in range(256) if b not in printable)
    return {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(rest)}


CHARACTER_OF = byte_characters()
BYTE_OF = {c: b for b, c in CHARACTER_OF.items()}


def join_pair(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        if symbols[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return tuple(out)


def train(texts, merges):
    """The `merges` most frequent pairs, greedily; ties go to the greater pair."""
    words = collections.Counter()
    for text in texts:
        for segment in SPLIT.split(text):
            if segment not in SPECIAL:
                words.update(WORDS.findall(segment))
    spelt = {w: tuple(CHARACTER_OF[b] for b in w.encode()) for w in words}
    learned = []
    while len(learned) < merges:
        pairs = collections.Counter()
        for word, symbols in spelt.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += words[word]
        pair, count = max(pairs.items(), key=lambda x: (x[1], x[0]), default=(None, 0))
        if count < 2:
            break
        learned.append(pair)
        spelt = {w: join_pair(s, pair) if pair[0] in s else s for w, s in spelt.items()}
    return learned


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        tokens = list(dict.fromkeys([CHARACTER_OF[b] for b in range(256)] + [a + b for a, b in self.merges]))
        self.vocab = {t: i for i, t in enumerate(tokens)}
        self.special = {s: len(tokens) + i for i, s in enumerate(SPECIAL)}
        self.size = len(tokens) + len(SPECIAL)
        self.token_of = {i: t for t, i in (self.vocab | self.special).items()}
        self.known = {}

    def word(self, word):
        if word not in self.known:
            symbols = tuple(CHARACTER_OF[b] for b in word.encode())
            while len(symbols) > 1:
                pair = min(zip(symbols, symbols[1:]), key=lambda p: self.rank.get(p, len(self.rank)))
                if pair not in self.rank:
                    break
                symbols = join_pair(symbols, pair)
            self.known[word] = [self.vocab[s] for s in symbols]
        return self.known[word]

    def encode(self, text):
        ids = []
        for segment in SPLIT.split(text):
            if segment in self.special:
                ids.append(self.special[segment])
            else:
                for word in WORDS.findall(segment):
                    ids += self.word(word)
        return ids

    def decode(self, ids):
        tokens = (self.token_of[i] for i in ids)
        out = b"".join(t.encode() if t in self.special else bytes(BYTE_OF[c] for c in t) for t in tokens)
        return out.decode(errors="replace")

    def save(self, path):
        added = [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                  "special": s not in TEXT_MARKS} for s, i in self.special.items()]
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        split = {"type": "Split", "pattern": {"Regex": PUBLISHED_WORDS}, "behavior": "Isolated", "invert": False}
        model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                 "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": self.vocab,
                 "merges": [list(m) for m in self.merges]}
        with open(path, "w") as file:
            json.dump({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
                       "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}, "post_processor": None,
                       "decoder": byte_level, "model": model}, file, ensure_ascii=False)


def main():
    import tasks
    r = random.Random(7)
    texts = ["".join(tasks.example(r)) for _ in range(4000)]
    tokenizer = Tokenizer(train(texts, MERGES))
    lengths = [len(tokenizer.encode(t)) for t in texts]
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]
    print("vocabulary", tokenizer.size, "mean tokens", sum(lengths) / len(lengths), "longest", max(lengths))
    with open("merges.json", "w") as file:
        json.dump(tokenizer.merges, file)
    tokenizer.save("tokenizer.json")


if __name__ == "__main__":
    main()
