"""Words as they are looked up, and BM25's parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.rules.lexical import LONGEST_WORD, forms, idf, saturation, weighted_words, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Refunds are paid.", ["Refunds", "are", "paid"]),
        ("a-b/c_d e.f", ["a", "b", "c_d", "e", "f"]),
        ("Zürich – 10 °C", ["Zürich", "10", "C"]),
        ("ﬁne ｗｉｄｅ", ["fine", "wide"]),
        ("don't", ["don", "t"]),
        ("", []),
        ("😀 \x00 …", []),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("הַסֵּפֶר، الْكِتَابُ", ["הַסֵּפֶר", "الْكِتَابُ"]),
        ("ภาษาไทยที่ดี", ["ภาษาไทยที่ดี"]),
        ("\u0301 1\ufe0f\u20e3", ["1"]),
    ],
)
def test_words_are_runs_of_letters_digits_and_underscores(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_text_gives_the_words_that_it_gives_among_other_characters(text: str) -> None:
    assert words(text) == words(f"{text} é")[:-1]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("Hello", ("hello",)),
        ("getUserName", ("getusername", "get", "user", "name")),
        ("PAYMENT_RETRY_LIMIT", ("payment_retry_limit", "payment", "retry", "limit")),
        ("HTTPServer", ("httpserver", "http", "server")),
        ("IL6", ("il6", "il", "6")),
        ("v2", ("v2", "v", "2")),
        ("__init__", ("__init__", "init")),
        ("TNF", ("tnf",)),
        ("2026", ("2026",)),
        ("_", ("_",)),
        ("Übergröße", ("übergröße",)),
        ("straßenName", ("straßenname", "straßen", "name")),
        ("東京都", ("東京", "京都")),
        ("都", ("都",)),
        ("東京tower", ("東京", "tower")),
        ("वर्ष2024", ("वर्ष2024", "वर्ष", "2024")),
        ("हिन्दी", ("हिन्दी",)),
    ],
)
def test_a_word_is_looked_up_as_itself_and_by_its_parts(word: str, found: tuple[str, ...]) -> None:
    assert forms(word) == found


def test_however_long_a_run_without_spaces_is_its_end_is_looked_up_too() -> None:
    assert forms("東京" * LONGEST_WORD + "検索")[-2:] == ("京検", "検索")
    assert forms("x" * 2 * LONGEST_WORD) == ("x" * LONGEST_WORD,)
    assert forms("й" * 2 * LONGEST_WORD) == ("й" * LONGEST_WORD,)


@given(st.text())
def test_any_text_has_forms_that_are_short_and_never_empty(text: str) -> None:
    for word in words(text):
        assert forms(word)
        assert all(0 < len(form) <= 2 * LONGEST_WORD for form in forms(word))  # some letters have two in lower case


def test_words_of_the_title_count_twice_and_those_of_headings_once_more() -> None:
    assert sorted(weighted_words("Refunds", ["How long", "Cards"], "Refunds take days")) == sorted(
        ["Refunds", "Refunds", "How", "long", "Cards", "Refunds", "take", "days"]
    )


def test_a_term_says_more_the_rarer_it_is_and_never_less_than_nothing() -> None:
    gains = [idf(1000, frequency) for frequency in (1, 10, 500, 999, 1000)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0


def test_occurrences_count_less_and_less_and_less_in_a_longer_chunk() -> None:
    # By hand, with k1 = 1.2 and b = .75: 1 / (1 + 1.2) in a chunk of average length.
    assert saturation(1, 50, 50) == pytest.approx(1 / 2.2)
    assert saturation(3, 50, 50) == pytest.approx(3 / 4.2)
    assert saturation(1, 100, 50) == pytest.approx(1 / (1 + 1.2 * 1.75))
