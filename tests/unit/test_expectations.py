"""What a row is held to, by literals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedex.adapters.languages.langid import LanguageDetector
from livedex.errors import MissingExtra
from livedex.rules.expectations import MOST_REASONS, Expectations, ValueType, unmet
from livedex.rules.mapping import Rendered

SECRET = "hunter2"


def rendered(content: str, **metadata: Any) -> Rendered:
    return Rendered("", content, metadata, None, None, None, None)


def judged(expected: Expectations, columns: Mapping[str, Any], content: str = "") -> str | None:
    reason = unmet(expected, "notes", columns, rendered(content), None)
    return None if reason is None else reason.removeprefix('Not as expected of table "notes": ')


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("number", [1, 1.5, "-2.5e3", ".5", "7"], [True, "1,5", "", "NaN", "one", "1e"]),
        ("integer", [0, "-12", "+3"], [1.5, True, "1.0", ""]),
        ("boolean", [True, "t", "No", "0", 1], ["maybe", 2, ""]),
        ("date", ["2026-02-28"], ["2026-02-30", "28.2.2026", "2026-02-28T10:00", 20260228]),
        (
            "timestamp",
            ["2026-02-28 10:00:00+00", "2026-02-28T10:00Z", "2026-02-28 10:00:00.123456+05:30"],
            ["2026-02-28", "2026-02-30T10:00:00Z", "infinity", "2026-02-28T25:00"],
        ),
        ("url", ["https://example.org/a?b=c", "http://[::1]:80/"], ["example.org", "ftp://a", "https://", "http://a b", "http://["]),
        ("email", ["a.b+c@example.org"], ["a@b", "a b@example.org", "@example.org", "a@@example.org"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567", "123e4567e89b12d3a456426614174000"]),
    ],
)  # fmt: skip
def test_values_are_of_a_type_or_not(kind: str, good: list[Any], bad: list[Any]) -> None:
    expected = Expectations(types={"c": ValueType(kind)})
    assert [value for value in good if judged(expected, {"c": value}) is not None] == []
    assert [value for value in bad if judged(expected, {"c": value}) is None] == []


def test_null_is_of_every_type_and_each_value_of_a_list_counts() -> None:
    expected = Expectations(types={"c": ValueType("integer")})
    assert judged(expected, {"c": None}) is None
    assert judged(expected, {"c": ["1", None, "2"]}) is None
    assert judged(expected, {"c": ["1", "two"]}) == 'column "c" is no whole number.'


def test_a_pattern_is_for_the_whole_value() -> None:
    expected = Expectations(types={"c": ValueType("pattern", pattern="[A-Z]{2}")})
    assert judged(expected, {"c": "AB"}) is None
    assert judged(expected, {"c": "ABC"}) == 'column "c" does not match the pattern [A-Z]{2}.'


@given(st.text(min_size=1, max_size=30))
def test_no_reason_tells_a_value(value: str) -> None:
    hidden = f"{SECRET}{value}\ufffd"
    expected = Expectations(
        ("a",), {"c": ValueType("number"), "d": ValueType("one_of", ("x",))}, most_bytes=1, utf8=True
    )
    reason = judged(expected, {"a": " ", "c": hidden, "d": hidden}, hidden)
    assert reason is not None
    assert SECRET not in reason


def test_required_in_front_matter_is_looked_for_there() -> None:
    expected = Expectations(required=("owner",))
    assert unmet(expected, "notes", {}, rendered("", owner="Ada"), None) is None
    assert unmet(expected, "notes", {}, rendered("", owner=None), None) == (
        'Not as expected of table "notes": column "owner" is NULL, and is required.'
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "gar\ufffdden",
            "line 1, character 4 (offset 3): the replacement character, where something could not be read (U+FFFD)",
        ),
        ("one\ntw\x00o", "line 2, character 3 (offset 6): a control character (U+0000)"),
        ("one\r\n\x85", "line 2, character 1 (offset 5): a control character (U+0085)"),
        (
            "It â€™ s",
            "line 1, character 4 (offset 3): UTF-8 that was read as Latin-1 or Windows-1252 (U+00E2 U+20AC U+2122)",
        ),
        ("Ã¼ber", "line 1, character 1 (offset 0): UTF-8 that was read as Latin-1 or Windows-1252 (U+00C3 U+00BC)"),
        (
            "5\u00c2\u00a0km",
            "line 1, character 2 (offset 1): UTF-8 that was read as Latin-1 or Windows-1252 (U+00C2 U+00A0)",
        ),
        ("half \ud83d", "line 1, character 6 (offset 5): half a surrogate pair (U+D83D)"),
    ],
)
def test_text_that_is_not_what_was_meant_is_found_with_its_place(text: str, said: str) -> None:
    assert judged(Expectations(utf8=True), {"c": text}) == f'column "c", {said}.'


@pytest.mark.parametrize(
    "text",
    [
        "Café, naïve, Übergröße, Ångström\tand tabs\r\nand lines\n",
        "“MAÇÔ, «CAFÉ», SÃO PAULO, NÃO, Âge, PÂTÉ – “IRMÔ … Ã",
        "日本語 текст עברית العربية 👩‍👩‍👧 ½ ² ° © «»",
        "Ã and Â stand alone; âge; 5 € each",
    ],
)
def test_good_text_of_many_languages_is_let_through(text: str) -> None:
    assert judged(Expectations(utf8=True), {"c": text}) is None


def test_sizes_are_of_the_content_in_bytes() -> None:
    assert judged(Expectations(most_bytes=4, least_bytes=3), {}, "äö") is None
    assert judged(Expectations(most_bytes=3), {}, "äö") == "the content has 4 bytes, and 3 are allowed."


def test_only_some_of_many_reasons_are_told() -> None:
    reason = judged(Expectations(required=("a", "b", "c", "d", "e")), {}) or ""
    assert (reason.count("is NULL"), reason.endswith("And 2 more.")) == (MOST_REASONS, True)


def test_a_language_is_refused_only_where_it_is_told_apart() -> None:
    expected = Expectations(languages=("en", "de"))

    def reason(content: str, likely: Mapping[str, float]) -> str | None:
        return unmet(expected, "notes", {}, rendered(content), lambda text: likely)

    long = "palabra " * 20
    assert reason(long, {"es": 0.95, "en": 0.05}) == (
        'Not as expected of table "notes": the content is in es by all appearance, and en or de is expected.'
    )
    assert reason(long, {"es": 0.85, "en": 0.06, "de": 0.05}) is None
    assert reason("too short to tell", {"es": 1.0}) is None


def test_without_the_extra_telling_languages_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingExtra, match=r"pip install 'livedex\[language\]'"):
        LanguageDetector()


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "en",
            "Customers may return goods within thirty days. See `SELECT * FROM returns` and https://example.org/de.",
        ),
        ("de", "Kunden können Waren innerhalb von dreißig Tagen zurückgeben. Siehe `SELECT * FROM returns`."),
        ("fr", "Les clients peuvent retourner les marchandises dans les trente jours suivant leur achat."),
        ("ja", "お客様は購入後三十日以内に商品を返品することができます。"),
    ],
)
def test_languages_are_told_apart_beside_code_and_addresses(language: str, text: str) -> None:
    pytest.importorskip("py3langid")
    likely = LanguageDetector().likely(text)
    assert max(likely, key=lambda name: likely[name]) == language
    assert sum(likely.values()) == pytest.approx(1.0, abs=1e-3)
