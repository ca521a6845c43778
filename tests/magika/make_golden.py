"""Writes small files of many types to files/, and what the Python package magika says of each to golden.json.

Run with: pip install magika==1.0.3 onnxruntime==1.31.1 pillow==13.0.0
Everything is invented here or generated from nothing, and the same at every run with the same packages.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import shutil
import sqlite3
import struct
import tarfile
import tempfile
import wave
import zipfile
from pathlib import Path

from magika import Magika
from magika.types import Seekable
from PIL import Image, ImageDraw

from samples import TEXTS

HERE = Path(__file__).parent


def picture(kind, **options):
    image = Image.new("RGB", (48, 32), "navy")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 4, 40, 28), fill="gold")
    draw.line((0, 31, 47, 0), fill="white", width=2)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def tarred(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def sound():
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<h", (n * 37 % 256 - 128) * 100) for n in range(1000)))
    return out.getvalue()


def database():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE bird (name TEXT, count INTEGER)")
        connection.executemany("INSERT INTO bird VALUES (?, ?)", [("robin", 3), ("wren", 1)])
        connection.commit()
        connection.close()
        return path.read_bytes()


def elf():
    """A program for x86-64 Linux that exits with 0: one header, one segment, three instructions, section names."""
    code = bytes.fromhex("b83c00000031ff0f05")
    names = b"\0.text\0.shstrtab\0"
    start = 64 + 56
    sections = start + len(code) + len(names)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400000 + start, 64, sections, 0, 64, 56, 1, 64, 3, 2)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, start + len(code), start + len(code), 0x1000)
    table = bytes(64)
    table += struct.pack("<IIQQQQIIQQ", 1, 1, 6, 0x400000 + start, start, len(code), 0, 0, 1, 0)
    table += struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, start + len(code), len(names), 0, 0, 1, 0)
    return head + program + code + names + table


def wasm():
    """A module that exports `add`, with names."""
    def section(number, body):
        return bytes([number, len(body)]) + body

    return b"".join([
        b"\0asm\1\0\0\0",
        section(1, bytes.fromhex("0160027f7f017f")),
        section(3, bytes.fromhex("0100")),
        section(5, bytes.fromhex("010001")),
        section(7, b"\x02\x03add\0\0\x06memory\x02\0"),
        section(10, bytes.fromhex("010700200020016a0b")),
        section(0, b"\x04name\x01\x06\x01\0\x03add"),
    ])


def pdf():
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length 43 >>\nstream\nBT /F1 18 Tf 20 40 Td (The ferry leaves) Tj ET\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (table, len(out))


def document():
    relations = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
    types = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    body = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>The ferry leaves.</w:t></w:r></w:p></w:body></w:document>'
    return zipped({"[Content_Types].xml": types, "_rels/.rels": relations, "word/document.xml": body})


def binaries():
    texts = {name: TEXTS[name] for name in ("letter.txt", "orchard.py", "birds.csv")}
    tar = tarred(texts)
    return {
        "sun.png": picture("PNG"),
        "sun.jpg": picture("JPEG", quality=80),
        "sun.gif": picture("GIF"),
        "sun.bmp": picture("BMP"),
        "sun.webp": picture("WEBP", quality=80),
        "sun.tiff": picture("TIFF"),
        "sun.ico": picture("ICO", sizes=[(16, 16)]),
        "texts.zip": zipped(texts),
        "texts.tar": tar,
        "texts.tar.gz": gzip.compress(tar, mtime=0),
        "texts.tar.bz2": bz2.compress(tar),
        "texts.tar.xz": lzma.compress(tar),
        "letter.docx": document(),
        "letter.pdf": pdf(),
        "exit.elf": elf(),
        "add.wasm": wasm(),
        "tone.wav": sound(),
        "birds.sqlite": database(),
    }


def edges():
    """Where the rules for short files, white space and blocks of 4096 bytes have their corners."""
    python = TEXTS["orchard.py"].encode()
    rust = TEXTS["queue.rs"].encode()
    noise = random.Random(2048).randbytes(6000)
    letters = random.Random(7)
    return {
        "empty": b"",
        "short-2": b"hi",
        "short-7": b"1234567",
        "short-7-binary": b"\xff\xfe\x00\x01\x02\x03\x80",
        "short-8": b"12345678",
        "short-umlaut": "größe".encode(),
        "space-100": b" \t\r\n\x0b\x0c" * 20,
        "space-5000": b" " * 5000,
        "space-then-7": b"  \n\n  1234567",
        "space-then-binary": b"        \x80\x81\x82",
        "space-then-short-trailing": b"  1       ",
        "space-4088-then-text": b" " * 4088 + b"print('a')",
        "space-4089-then-text": b" " * 4089 + b"print('a')",
        "cut-umlaut-4096": b" " * 4095 + "ä".encode(),
        "python-in-space": b"\x0b\x0c\n\n" + python + b"\n\x0b\x0c \n",
        "python-1024": (python * 2)[:1024],
        "python-4096": (python * 8)[:4096],
        "python-4097": (python * 8)[:4097],
        "python-then-space": python * 3 + b" " * 5000,
        "python-then-rust": python * 7 + rust * 7,
        "zeros": bytes(3000),
        "noise": noise,
        "letters": "".join(letters.choices("abcdefghijklmnopqrstuvwxyz0123456789+/", k=3000)).encode(),
        "utf16.txt": TEXTS["letter.txt"].encode("utf-16"),
        "latin1.txt": ("Grüße aus Köln, schönes Wetter, große Fähre. " * 20).encode("latin-1"),
    }


def features_of(magika, content):
    """The hash of the model's input, or none if the package answers without the model."""
    result, features = magika._get_result_or_features_from_seekable(Seekable(io.BytesIO(content)))
    if result is not None:
        return None
    tokens = features.beg + features.mid + features.end
    return hashlib.sha256(struct.pack(f"<{len(tokens)}i", *tokens)).hexdigest()


def golden(magika, name, content):
    prediction = magika.identify_bytes(content).prediction
    return {
        "file": name,
        "features": features_of(magika, content),
        "label": str(prediction.output.label),
        "score": prediction.score,
        "dl_label": str(prediction.dl.label),
        "overwrite_reason": str(prediction.overwrite_reason),
        "mime_type": prediction.output.mime_type,
        "group": prediction.output.group,
        "description": prediction.output.description,
        "extensions": prediction.output.extensions,
        "is_text": prediction.output.is_text,
    }


def main():
    contents = {name: text.encode() for name, text in TEXTS.items()} | binaries() | edges()
    files = HERE / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    magika = Magika()
    answers = []
    for name, content in contents.items():
        (files / name).write_bytes(content)
        answers.append(golden(magika, name, content))
    lines = ",\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
    (HERE / "golden.json").write_text(f"[\n{lines}\n]\n")
    labels = {answer["label"] for answer in answers}
    print(f"{len(answers)} files, {sum(map(len, contents.values()))} bytes, {len(labels)} types")


if __name__ == "__main__":
    main()
