"""What livedex.yaml may say of a contract, and what is told of one that nothing could keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedex.config import load
from livedex.errors import ConfigError
from livedex.parts import build_contract
from livedex.rules.contracts import Contract, OnViolation

FILE = """\
sources:
  kb:
    kind: postgres
    url: postgresql://db/kb
    tables:
      documents: {key: id, content: body, metadata: [team, kind], version: revision}
  wiki: {kind: files, path: wiki, metadata: [owner]}
views:
  handbook:
    from: kb
    embedder: hashing
    contract: CONTRACT
  pages:
    from: wiki
    embedder: hashing
    contract: PAGES
"""


def read(tmp_path: Path, contract: str, pages: str = "{}") -> Contract:
    file = tmp_path / "livedex.yaml"
    file.write_text(FILE.replace("CONTRACT", contract).replace("PAGES", pages))
    wanted = load(file, {"HOME": str(tmp_path)}).views["handbook"].contract
    assert wanted is not None
    return build_contract("handbook", wanted)


def problem(tmp_path: Path, contract: str, pages: str = "{}") -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, contract, pages)
    return str(caught.value).partition(": ")[2]


def test_every_clause_is_read(tmp_path: Path) -> None:
    written = """{require: [team], document_types: {kind: policy}, section_types: [text, table],
      version: {min: 3, max: 7.10}, max_age: 365d, max_staleness: 60s, min_characters: 40, complete: true,
      min_score: {dense: 0.3, lexical: 2}, min_hits: 2, on_violation: escalate}"""
    assert read(tmp_path, written) == Contract(
        "handbook",
        require=("team",),
        document_types={"kind": ("policy",)},
        section_types=("text", "table"),
        min_version="3",
        max_version="7.10",
        max_age_seconds=365 * 86_400,
        max_staleness_seconds=60,
        min_characters=40,
        complete=True,
        min_score={"dense": 0.3, "lexical": 2.0},
        min_hits=2,
        on_violation=OnViolation.ESCALATE,
    )


def test_an_empty_contract_asks_for_one_hit(tmp_path: Path) -> None:
    assert read(tmp_path, "{}") == Contract("handbook")


def test_metadata_that_no_source_has_is_told_with_what_there_is(tmp_path: Path) -> None:
    assert problem(tmp_path, "{require: [team, url]}") == (
        "views.handbook.contract.require: no source of the view has metadata of the name url. They have: kind, team."
    )


def test_a_document_type_that_no_source_has_is_told(tmp_path: Path) -> None:
    assert problem(tmp_path, "{document_types: {owner: anna}}").startswith(
        "views.handbook.contract.document_types: no source of the view has metadata of the name owner."
    )


def test_a_version_range_needs_a_mapped_version(tmp_path: Path) -> None:
    assert problem(tmp_path, "{}", pages='{version: {min: "3"}}') == (
        "views.pages.contract.version: no source of the view maps a column to version"
    )


@pytest.mark.parametrize(
    ("contract", "told"),
    [
        ("{version: {}}", "views.handbook.contract.version: has neither min nor max"),
        ("{section_types: [chapter]}", "views.handbook.contract.section_types[0]: must be one of"),
        ("{min_hits: 0}", "views.handbook.contract.min_hits: must be at least 1"),
        ("{requre: [team]}", 'views.handbook.contract.requre: unknown key. Did you mean "require"?'),
        ("{min_score: {fused: 1}}", "views.handbook.contract.min_score.fused: unknown key."),
        ("{on_violation: ignore}", "views.handbook.contract.on_violation: must be one of"),
        ("{max_age: 0d}", "views.handbook.contract.max_age: must be longer than nothing"),
    ],
)
def test_a_wrong_clause_is_told_at_its_place(tmp_path: Path, contract: str, told: str) -> None:
    assert problem(tmp_path, contract).startswith(told)
