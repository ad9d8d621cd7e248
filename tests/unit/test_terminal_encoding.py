"""What terminals show that lack a character."""

from __future__ import annotations

import pytest

from livedex.cli import encoding


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Refunds › Who decides · 3 hits …", "Refunds > Who decides - 3 hits ..."),
        ("“Müller’s” – ½ naïve", '"Muller\'s" - 1/2 naive'),
        ("7 °C", "7 C"),
        ("猫", "?"),
    ],
)
def test_ascii_gets_the_nearest_that_it_has(text: str, shown: str) -> None:
    assert text.encode("ascii", encoding.FALLBACK) == shown.encode()


def test_a_character_that_the_encoding_has_is_kept() -> None:
    assert "Müller › 猫".encode("cp1252", encoding.FALLBACK) == "Müller › ?".encode("cp1252")
