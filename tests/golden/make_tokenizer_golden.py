#!/usr/bin/env python3
"""Small tokenizers, and what the reference implementations make of hard texts.

    pip install tokenizers tiktoken sentencepiece
    bible -f gen1:1-rev22:21 >bible.txt                    (Debian's bible-kjv)
    python3 tests/golden/make_tokenizer_golden.py bible.txt [FOLDER]
                                                 (default: tokenizers, beside this script)

The committed files were made with Python 3.11.7, tokenizers 0.23.3, tiktoken 0.14.0, sentencepiece
0.2.3 and bible-kjv 4.38. Nothing here is Memwall's own code.

FOLDER/gpt2/vocab.json, merges.txt   byte-level BPE in GPT-2's format: 256 bytes, 1200 merges and
                                     <|endoftext|>, learned by Hugging Face's tokenizers with GPT-2's
                                     pre-tokenizer from the first chapters and MIXED
FOLDER/unigram.model                 SentencePiece: unigram, identity normalisation, spaces kept, byte
                                     fallback (as Llama's)
FOLDER/bpe.model                     SentencePiece: BPE, a few normalisation rules, extra spaces
                                     removed, no byte fallback, a user-defined symbol
FOLDER/long.txt                      every hard text in turn, between lines of prose
FOLDER/golden.json                   {"gpt2" | "unigram" | "bpe": [{"text": hexadecimal bytes,
                                     "ids": [...], "decoded": hexadecimal bytes}, ...],
                                     "long": {the same names: {"tokens": n, "hash": FNV-1a}}}

gpt2: ids by tokenizers, which must be tiktoken's, too; bytes that are no UTF-8 are decoded with
errors="replace" first. long: long.txt as one sentence; the hash is over the ids as little-endian
uint32.
"""
import io
import json
import pathlib
import sys

import sentencepiece
import tiktoken
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

MIXED = """\
Größenwahn, naïve façade, El Niño, smörgåsbord, Ça va?
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.
いろはにほへと ちりぬるを。色は匂へど散りぬるを。
我能吞下玻璃而不伤身体。天地玄黃，宇宙洪荒。
다람쥐 헌 쳇바퀴에 타고파
نص حكيم له سر قاطع وذو شأن عظيم
דג סקרן שט בים מאוכזב ולפתע מצא חברה
ऋषियों को सताने वाले दुष्ट राक्षसों
int main(void) { return x[i++] != 0 ? 42 : -1; }  // 3.14159
def f(x):\n\treturn {k: v for k, v in x.items() if not k.startswith('_')}
I'm sure they've said we'll see; he'd say it's don't-care, y'all're right.
😀 😃 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ ☃ ★ → ∑ ∫ √ ½ ² ³
"""

HARD = [
    b"", b" ", b"a", b"Hello, world!", b"In the beginning God created the heaven and the earth.",
    b"  leading", b"trailing  ", b"a  b   c    d", b" " * 17, b"x" + b" " * 300 + b"y",
    b"\n", b"\n\n\n", b"line\nline\r\nline\r", b"a \n b", b"\t\tif (x) {\n\t\t\treturn;\n\t\t}\n",
    b"I'm you're he's we've they'll she'd can't", b"I'M YOU'RE HE'S", b"'s't're've'm'll'd", b"''s '' '",
    b"1234567890 3.14 1,000,000 0x1F 2nd", b"foo123bar", b"!?!?... --- ___ ***", b"<|endoftext|>",
    b"a<|endoftext|>b </s> <s> <unk> <0x41> <sep>x",
    "naïve café Ångström".encode(), "e\u0301 vs \u00e9".encode(),
    "ﬁ ﬂ Ａ１ ① Ⅷ ㍿".encode(), "½ ² ³ ٣ ४ 五".encode(),
    "😀😃👍🏽 👨‍👩‍👧‍👦🇩🇪❤️".encode(), "日本語のテキスト、です。".encode(),
    "Съешь же ещё этих мягких".encode(), "العربية עברית हिन्दी".encode(),
    "mixedТекст混合텍스트🎉end".encode(), "a\u00a0b\u2003c\u3000d\u2028e\u202ff\u1680g".encode(),
    "a\u180eb \u200bc\u200d\ufeffd\u0085e".encode(), "\ufeffBOM".encode(),
    "\u2581already\u2581\u2581spelled ▁".encode(),
    bytes(range(0, 32)), b"nul\0in\0side", b"\x7f\x1b[31mred\x1b[0m\x1c\x1d\x1e\x1f",
    "\ue000\uf8ff\U000f0000\U0010ffff\ufffe".encode(), "\ufffd".encode(),
    b"a" * 500, b"abc" * 200, b"ab " * 99, b"=" * 333, "é".encode() * 100, b"the" * 100,
    "z\u0300\u0301\u0302\u0303\u0304\u0305zalgo".encode(), "ß".encode() + b"S" * 50,
    b"http://example.com/a?b=c&d=%20e#f", b"\xe2\x80\x9cquoted\xe2\x80\x9d \xe2\x80\x94 dash\xe2\x80\xa6",
]
INVALID = [
    b"\xff", b"caf\xe9 au lait", b"\x80\x81\x82", b"\xc3", b"a\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80",
    b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98\x80\xf0\x9f\xe2\x82\xac", b"\xe2\x82\xe2\x82\xac x",
]


def long_text():
    """Every hard text in turn, between lines of prose; some 40 kB."""
    prose = MIXED.splitlines(keepends=True)
    return "".join(
        prose[i % len(prose)] + HARD[i % len(HARD)].decode() + (" " if i % 3 else "\n")
        for i in range(250))


def corpus(bible):
    return bible.splitlines(keepends=True)[:3000] + MIXED.splitlines(keepends=True) * 3


def make_gpt2(lines, folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 1200, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    vocab = dict(sorted(state["vocab"].items(), key=lambda item: item[1]))
    vocab["<|endoftext|>"] = len(vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    merges = [" ".join(pair) for pair in state["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    # As it lies on the disk, read by the library itself.
    read = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    read.pre_tokenizer, read.decoder = tokenizer.pre_tokenizer, tokenizer.decoder
    return read


def make_tiktoken(folder):
    """The same tokenizer by OpenAI's library: its own pattern, ranks from the vocabulary's order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    symbols = {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
    vocab = json.loads((folder / "vocab.json").read_text())
    end = vocab.pop("<|endoftext|>")
    return tiktoken.Encoding(
        "small", explicit_n_vocab=end + 1,
        pat_str=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        mergeable_ranks={bytes(symbols[c] for c in token): i for token, i in vocab.items()},
        special_tokens={"<|endoftext|>": end})


def make_sentencepiece(lines, path, **options):
    model = io.BytesIO()  # no path of the training text ends up in the model
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.rstrip("\n") for line in lines), model_writer=model,
        minloglevel=2, num_threads=1, **options)
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def main():
    bible = pathlib.Path(sys.argv[1]).read_text("utf-8")
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else
                          pathlib.Path(__file__).parent / "tokenizers").absolute()
    lines = corpus(bible)
    gpt2 = make_gpt2(lines, folder / "gpt2")
    other = make_tiktoken(folder / "gpt2")
    golden = {"gpt2": [], "unigram": [], "bpe": [], "long": {}}
    for text in HARD + INVALID:
        string = text.decode(errors="replace")
        ids = gpt2.encode(string).ids
        assert ids == other.encode_ordinary(string), text
        assert other.decode_bytes(ids) == string.encode(), text
        golden["gpt2"].append({"text": text.hex(), "ids": ids, "decoded": string.encode().hex()})

    rules = pathlib.Path("rules.tsv")  # the model keeps the name as it was given
    rules.write_text("A0\t20\n3000\t20\n2003\t20\n9\t20\nA\t20\nD\t20\nFB01\t66 69\nFF21\t41\n65 301\tE9\n")
    pieces = {
        "unigram": make_sentencepiece(
            lines, folder / "unigram.model", model_type="unigram", vocab_size=1400,
            byte_fallback=True, character_coverage=0.9995, normalization_rule_name="identity",
            remove_extra_whitespaces=False),
        "bpe": make_sentencepiece(
            lines, folder / "bpe.model", model_type="bpe", vocab_size=1400,
            character_coverage=0.9999, normalization_rule_tsv=str(rules),
            user_defined_symbols=["<sep>"]),
    }
    rules.unlink()
    for name, model in pieces.items():
        for text in HARD:
            ids = model.encode(text.decode())
            golden[name].append(
                {"text": text.hex(), "ids": ids, "decoded": model.decode(ids).encode().hex()})
    text = long_text()
    for name, ids in [("gpt2", gpt2.encode(text).ids), *((n, m.encode(text)) for n, m in pieces.items())]:
        golden["long"][name] = {"tokens": len(ids), "hash": fnv1a(ids)}
    assert gpt2.encode(text).ids == other.encode_ordinary(text)
    golden["long"]["text"] = {"bytes": len(text.encode())}
    (folder / "long.txt").write_text(text, "utf-8", newline="")
    entries = [f' "{name}": [\n  ' + ",\n  ".join(json.dumps(e, separators=(",", ":")) for e in golden[name]) + "\n ]"
               for name in ("gpt2", "unigram", "bpe")]
    (folder / "golden.json").write_text(
        "{\n" + ",\n".join(entries) + ',\n "long": ' + json.dumps(golden["long"]) + "\n}\n")
    print({name: len(golden[name]) for name in ("gpt2", "unigram", "bpe")}, golden["long"])


if __name__ == "__main__":
    main()
