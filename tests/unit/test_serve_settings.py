"""What livedex.yaml may say about its doors."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedex.config import Serve, load
from livedex.errors import ConfigError

REST = """\
sources:
  kb: {kind: postgres, url: postgresql://db/kb, tables: {documents: {key: id, content: body}}}
views:
  handbook: {from: kb, embedder: hashing, description: What the staff must know.}
"""


def loaded(tmp_path: Path, serve: str) -> Serve | None:
    file = tmp_path / "livedex.yaml"
    file.write_text(f"{REST}{serve}\n")
    return load(file, {"HOME": str(tmp_path)}).serve


def test_a_file_that_says_nothing_of_serving_is_told_from_one_that_does(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") is None
    assert loaded(tmp_path, "serve: {}") == Serve()


@pytest.mark.parametrize(("written", "enabled"), [("false", False), ("true", True), ("{enabled: false}", False)])
def test_serving_can_be_switched(tmp_path: Path, written: str, enabled: bool) -> None:
    assert loaded(tmp_path, f"serve: {written}") == Serve(enabled=enabled)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_every_name_of_this_machine_will_do(tmp_path: Path, host: str) -> None:
    assert loaded(tmp_path, f'serve: {{host: "{host}"}}') == Serve(host=host)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{host: 0.0.0.0}", "livedex.yaml:5: serve.host: must be 127.0.0.1, ::1 or localhost"),
        ("{port: 70000}", "livedex.yaml:5: serve.port: must be at most 65535"),
        ("{prot: 8484}", 'livedex.yaml:5: serve.prot: unknown key. Did you mean "port"?'),
        ("{mcp: {tenants: x}}", 'livedex.yaml:5: serve.mcp.tenants: unknown key. Did you mean "tenant"?'),
    ],
)
def test_what_is_wrong_is_named_with_line_and_key(tmp_path: Path, written: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"serve: {written}")
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(said)


def test_one_principal_needs_no_list(tmp_path: Path) -> None:
    wanted = loaded(tmp_path, "serve: {mcp: {principals: support}}")
    assert wanted is not None
    assert wanted.mcp.principals == ("support",)


def test_a_view_may_be_described(tmp_path: Path) -> None:
    file = tmp_path / "livedex.yaml"
    file.write_text(REST)
    assert load(file, {"HOME": str(tmp_path)}).views["handbook"].description == "What the staff must know."
