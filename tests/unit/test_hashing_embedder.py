"""What the hashing embedder promises beyond the port: stable bits, and words that show."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.adapters.embedders import hashing
from livedex.adapters.embedders.hashing import HashingEmbedder
from livedex.errors import EmbedderMisconfigured
from livedex.ports import Vectors


async def similarity(one: str, other: str) -> float:
    embedder = HashingEmbedder()
    return float(await embedder.embed_query(one) @ await embedder.embed_query(other))


@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=8), others=st.lists(st.text(max_size=60), max_size=80))
async def test_a_vector_has_the_same_bits_whatever_else_is_in_the_call(texts: list[str], others: list[str]) -> None:
    embedder = HashingEmbedder(48)
    alone = np.concatenate([await embedder.embed_documents([text]) for text in texts])
    among = (await embedder.embed_documents([*others, *texts]))[len(others) :]
    assert alone.tobytes() == among.tobytes()


@given(text=st.text(max_size=200), dimensions=st.integers(1, 40))
async def test_every_text_gets_length_one_in_any_number_of_dimensions(text: str, dimensions: int) -> None:
    vector = await HashingEmbedder(dimensions).embed_query(text)
    assert abs(float(np.linalg.norm(vector)) - 1.0) < 1e-6


async def test_vectors_are_those_of_revision_1_on_every_machine() -> None:
    vector = await HashingEmbedder(8).embed_query("The watermark is the minimum over shards; naïve 東京.")
    expected = [0.0, 0.301979, -0.822558, -0.063274, -0.253095, 0.316369, 0.253095, 0.0]
    np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-6)


def test_another_process_makes_the_same_bits() -> None:
    program = (
        "import asyncio; from livedex.adapters.embedders.hashing import HashingEmbedder;"
        "print(asyncio.run(HashingEmbedder().embed_query('lease lost, nothing written')).tobytes().hex())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


async def test_the_same_words_in_another_order_are_near_but_not_equal() -> None:
    assert 0.8 < await similarity("the lease expired before the commit", "before the commit the lease expired") < 0.999


async def test_texts_that_share_words_are_nearer_than_texts_that_share_none() -> None:
    shared = await similarity("rotate the signing key every quarter", "how to rotate a signing key")
    apart = await similarity("rotate the signing key every quarter", "lunch is served at noon")
    assert shared > apart + 0.3


async def test_case_and_punctuation_make_no_difference() -> None:
    assert await similarity("Refund-Policy (EU)", "refund policy eu") == pytest.approx(1.0, abs=1e-6)


async def test_identifiers_match_by_their_parts() -> None:
    assert await similarity("max_retry_count", "max retry count") == pytest.approx(1.0, abs=1e-6)


@given(text=st.text(st.characters(codec="ascii"), max_size=80))
def test_the_fast_path_for_ascii_finds_the_words_that_the_other_finds(text: str) -> None:
    assert hashing._words(f"a {text}")[1:] == hashing._words(f"é {text}")[1:]


async def test_scripts_without_spaces_match_by_characters() -> None:
    assert await similarity("東京は日本の首都です", "日本の首都") > 0.5


async def test_repeating_a_word_counts_less_than_linearly() -> None:
    once, often = await similarity("alpha beta", "alpha"), await similarity("alpha " * 50 + "beta", "alpha")
    assert once < often < 0.999


async def test_texts_without_words_differ_by_their_characters() -> None:
    assert await similarity("🚀🚀", "🌧") < 0.5


async def test_forgetting_known_words_changes_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{number} word{number + 1}" for number in range(50)]

    async def vectors() -> Vectors:
        return await HashingEmbedder().embed_documents(texts)

    before = await vectors()
    monkeypatch.setattr(hashing, "KNOWN_WORDS", 3)
    assert before.tobytes() == (await vectors()).tobytes()


def test_the_identity_says_hashing() -> None:
    identity = HashingEmbedder(64).identity
    assert (identity.model, identity.revision, identity.dimensions) == ("hashing", "1", 64)


def test_no_dimensions_are_refused() -> None:
    with pytest.raises(EmbedderMisconfigured, match="at least 1 dimension"):
        HashingEmbedder(0)
