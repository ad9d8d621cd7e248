"""The committed configuration reference says what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from livedex.config import load

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "configuration.md"


def test_page_is_current() -> None:
    render = runpy.run_path(str(DOCS / "generate_reference.py"))["render"]
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python docs/generate_reference.py"


def test_example_on_the_page_loads(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "livedex.yaml"
    file.write_text(examples[0], encoding="utf-8")
    environ = {"KB_DATABASE_URL": "postgresql://db/kb", "OPENAI_API_KEY": "key"}
    assert list(load(file, environ).views) == ["handbook"]


def test_every_key_has_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [key for key, meaning in rows if not meaning] == []
