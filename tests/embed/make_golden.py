"""Writes golden.json: texts of many kinds, and the tokens that the Python package tokenizers gives them.

Run, after `make setup`, with: pip install tokenizers==0.23.3
Truncation and padding are set as plugins/embed sets them: 256 tokens, and none.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
TOKENIZER = HERE.parents[1] / "examples" / "embed" / "tokenizer.json"

TEXTS = [
    "How do I reset my password?",
    "I forgot my login credentials",
    "The cat sat on the mat",
    "",
    " ",
    "\n\t\r\n",
    "a",
    "Hello,   world!\nA second line.\r\nAnd\ta tab.",
    "UPPER lower MiXeD",
    "naïve café, déjà vu, Straße, Ærø, Łódź",
    "nai\u0308ve cafe\u0301: the same with combining marks",
    "İstanbul ve IĞDIR, ΑΣΣΟΣ, ΟΔΟΣ",
    "Ελληνικά: πού είναι η βιβλιοθήκη;",
    "Где находится библиотека? Ёлка, йод.",
    "أين المكتبة؟ مُحَمَّد",
    "איפה הספרייה? שָׁלוֹם",
    "पुस्तकालय कहाँ है?",
    "ห้องสมุดอยู่ที่ไหน",
    "图书馆在哪里？我忘记了密码。",
    "図書館はどこですか。カタカナとひらがな、ガ と カ\u3099",
    "도서관이 어디에 있나요?",
    "Tiếng Việt: thư viện ở đâu?",
    "mixed 中文 and English 混合text",
    "𠀀𪜀 rare ideographs, 豈 compatibility, 丽",
    "I ❤️ 🦀 and 👩‍👩‍👧‍👦 families 🇨🇭 👍🏽",
    "ﬁne ﬂow, Ⅷ, ½, ①, ㎏, ﷺ",
    "１２３ ＡＢＣ full width",
    "zero\u200bwidth, soft\u00adhyphen, no\u00a0break, em\u2003space, line\u2028separator, bom\ufeff",
    "bell\x07 null\x00 delete\x7f replacement\ufffd private\ue000 unassigned\u0378",
    "\u202eright to left\u202c and \u2066isolates\u2069",
    "e-mail: some.one+tag@example.co.uk, https://example.com/a?b=c&d=%20#e",
    "C++ != C#; x_y = a[i] ** 2 && !b || ~c; // <tag attr=\"v\">",
    "$100 €50 £20 ¥10 ₿1 3.14159 1,000,000 1e-12 50% −5 ×2 ÷",
    "“curly” ‘quotes’ «guillemets» — dash – en … ellipsis ¿qué? ¡sí!",
    "don't can't it's O'Brien's rock'n'roll",
    "state-of-the-art pre-trained sub-word",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 100,
    "x" * 101,
    "é" * 100,
    "before " + "y" * 300 + " after",
    "[CLS] special [SEP] tokens [MASK] [PAD] [UNK] in the text",
    "[cls] [ SEP ] [unused1] ##ing",
    "word " * 253 + "end",
    "word " * 254 + "end",
    "word " * 255 + "end",
    "tokenization " * 300,
    "字" * 300,
    " ".join(chr(letter) * length for letter in range(ord("a"), ord("z") + 1) for length in range(1, 8)),
]


def main():
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS]
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "golden.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(cases)} texts, {sum(len(case['ids']) for case in cases)} tokens")


if __name__ == "__main__":
    main()
