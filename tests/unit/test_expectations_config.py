"""`expects` and `brake` in livedex.yaml."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from livedex import config
from livedex.errors import ConfigError


def source(directory: Path, lines: str) -> config.Source:
    file = directory / "livedex.yaml"
    file.write_text(
        "sources:\n  kb:\n    kind: postgres\n    url: postgresql://reader@db/kb\n    tables:\n"
        '      notes: {key: id, title: title, content: "{head}: {body}", metadata: [price], front_matter: [owner]}\n'
        f"      others: {{key: id, content: text}}\n{lines}views:\n  handbook: {{from: kb}}\n"
    )
    return config.load(file, {}).sources["kb"]


def test_nothing_is_expected_and_the_brake_is_on_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    found = source(tmp_path, "")
    assert found.expects.of("notes").named == ()
    assert (found.brake.enabled, found.brake.deletes, found.brake.least) == (True, 0.3, 100)


def test_a_table_has_its_own_expectations_instead_of_the_sources(tmp_path: Path) -> None:
    expects = "{max_bytes: 5, tables: {notes: {required: [head, owner, price], min_bytes: 2}}}"
    found = source(tmp_path, f"    expects: {expects}\n").expects
    assert (found.of("others").max_bytes, found.of("notes").max_bytes, found.of("notes").min_bytes) == (5, None, 2)


@pytest.mark.parametrize("off", ["off", "false", "OFF"])
def test_the_brake_can_be_off(tmp_path: Path, off: str) -> None:
    assert not source(tmp_path, f"    brake: {off}\n").brake.enabled


def test_shares_are_written_in_percent(tmp_path: Path) -> None:
    brake = source(tmp_path, "    brake: {deletes: 12.5%, window: 5m}\n").brake
    assert (brake.deletes, brake.shrinks, brake.window) == (0.125, 0.3, timedelta(minutes=5))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("expects: {required: text}", "column text, which table notes does not map"),
        ("expects: {tables: {nothing: {max_bytes: 1}}}", "table nothing, which it does not map"),
        ("expects: {tables: {notes: {types: {price: money}}}}", "must be one of number, integer"),
        ("expects: {tables: {notes: {types: {price: {pattern: '('}}}}}", "no regular expression"),
        ("expects: {min_bytes: 2, max_bytes: 1}", "min_bytes greater than max_bytes"),
        ("expects: {near_duplicates: {limit: 1, similarity: 50%}}", "from 85% to 100%"),
        ("brake: {deletes: 0.3}", "a share such as 30%"),
        ("brake: {deletes: 0%}", "a share such as 30%"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        source(tmp_path, f"    {lines}\n")
    assert said in str(caught.value)
