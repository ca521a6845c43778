"""What needs no host: `python3 -m unittest`."""
import struct
import unittest

import spam


class Spam(unittest.TestCase):
    def test_a_text_becomes_three_figures(self):
        self.assertEqual(spam.features("Hi THERE! https://example.com"), struct.pack("<3f", 6 / 22, 1, 1))

    def test_what_is_no_text_is_refused(self):
        self.assertEqual(spam.read(b'{"text": "a"}'), "a")
        for body in (b"", b"{}", b'{"text": ""}', b'{"text": 7}', b"null", b"\xff"):
            with self.assertRaises(ValueError, msg=body):
                spam.read(body)

    def test_a_score_becomes_an_answer(self):
        self.assertEqual(spam.answer(struct.pack("<f", 0.75)), b'{"spam":true,"score":0.75}')


if __name__ == "__main__":
    unittest.main()
