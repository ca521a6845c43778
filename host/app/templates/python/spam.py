"""From a text to three figures, and from a score to an answer, all as bytes. Knows nothing of the host."""
import json
import struct


def read(body):
    """The text of a request's body; a ValueError says what is wrong with it."""
    try:
        text = json.loads(body)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the body is not {{\"text\": \"…\"}}: {error!r}")
    if not isinstance(text, str) or not text:
        raise ValueError("`text` must be a text that is not empty")
    return text


def features(text):
    """The share of capitals among the letters, exclamation marks, links: three little-endian f32."""
    letters = sum(letter.isalpha() for letter in text)
    capitals = sum(letter.isupper() for letter in text)
    links = text.count("http://") + text.count("https://")
    return struct.pack("<3f", capitals / max(letters, 1), text.count("!"), links)


def answer(score):
    """From one little-endian f32."""
    (score,) = struct.unpack("<f", score)
    return json.dumps({"spam": score > 0.5, "score": score}, separators=(",", ":")).encode()
