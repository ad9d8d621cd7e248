"""Proposals → the text of a livedex.yaml, every choice with its reason in a comment."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from livedex.setup.place import Database, Folder
from livedex.setup.propose import Choice, LeftOut, Proposal

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*( [\w./-]+)*")
_WORDS_OF_YAML = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_UNPRINTABLE = re.compile(
    r"[^\x20-\x7e\xa0-\ud7ff\uf900-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
"""What YAML takes for a line break or refuses, and what turns the direction of a line."""

_HEAD = """\
# Written by livedex init. The choices are guesses with their reasons; correct what is wrong.
# Then run: livedex doctor, and: livedex sync
# All keys are described in docs/reference/configuration.md.
"""

TEMPLATE_DATABASE = """\
  # A PostgreSQL database, followed through logical replication. Set the variable, for example:
  #   export APP_DATABASE_URL='postgresql://livedex_reader:...@localhost:5432/app'
  app:
    kind: postgres
    url: ${APP_DATABASE_URL}
    tables:
      documents:  # outside the schema public: schema.table
        key: id  # the primary key
        content: body  # a column, or a template: "{summary}\\n\\n{body}"
        title: title
        # updated_at: updated_at
        # metadata: [category, language]  # to filter by
        # tenant: tenant_id  # a row is found only by searches of its tenant
        # acl: readers  # a row is found only by its readers
"""


def scalar(text: str) -> str:
    """A text as a YAML value or key: plain where that is safe, else in double quotes."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else _UNPRINTABLE.sub(_escaped, json.dumps(text, ensure_ascii=False))


def database(place: Database, proposals: Sequence[Proposal], left_out: Sequence[LeftOut]) -> Iterator[str]:
    """The lines of a database's source."""
    yield from comment(f"Found by: {place.found}. The variable holds the address, so that no secret stands here.", 2)
    yield f"  {place.name}:"
    yield "    kind: postgres"
    yield f"    url: {_reference(place.reference)}"
    yield f"    # publication: livedex_{place.name}  # made by the tables' owner; without it livedex makes its own"
    yield "    tables:"
    for proposal in proposals:
        yield from _table(proposal)
    if left_out:
        yield ""
        yield "      # Not proposed:"
        for table in left_out:
            yield from comment(f"{table.table}: {table.reason}", 6, hang="    ", lead="- ")


def folder(place: Folder, files: int, *, active: bool = True) -> Iterator[str]:
    """The lines of a folder's source."""
    path = scalar(place.written.replace("$", "$$"))
    lines = [
        f"{place.name}:",
        "  kind: files",
        f"  path: {path}" + ("" if place.written.startswith("/") else "  # relative to this file"),
        '  # include: ["**/*.md", "**/*.html", "**/*.txt"]  # these and some more without it',
        '  # exclude: ["drafts/**"]',
        "  # metadata: [category, owner]  # names from the files' front matter, to filter by",
    ]
    yield from comment(f"Found by: {place.found}, {files:,} document{'s'[: files != 1]}.", 2)
    yield from (f"  {line}" if active else f"  # {line}" for line in lines)


def whole(
    sources: Iterable[str], view: str, names: Sequence[str], embedder: str, why: str, remarks: Iterable[str]
) -> str:
    """The file. `names` are the sources of the one view."""
    lines = [_HEAD, "sources:", *sources, "", "views:"]
    for remark in remarks:
        lines += comment(remark, 2)
    lines += [f"  {view}:", f"    from: {_one_or_list(names)}"]
    lines += [f"    embedder: {embedder}  # {why}", *_alternative(embedder), *_OPTIONS]
    return "\n".join(line.rstrip() for line in lines) + "\n"


_OPTIONS = (
    "    # target_lag: 2s  # how soon a change should be searchable; livedex status says when it was not",
    "    # shards: 1  # how many workers can build it side by side; fixed with the first build",
    "",
    "# The index is kept by a PostgreSQL of livedex's own, in .livedex/ beside this file. To keep it in yours:",
    "# store: {url: ...}  # or set LIVEDEX_DATABASE_URL",
)


def _alternative(embedder: str) -> list[str]:
    other = "hashing  # no model: finds words, not meanings" if embedder == "local" else (
        "local  # finds meanings; run: pip install 'livedex[local]' && livedex models fetch")  # fmt: skip
    return [f"    # embedder: {other}"]


def comment(text: str, indent: int, *, hang: str = "", lead: str = "") -> list[str]:
    """A comment of any text on as many lines as it takes. What came from a database cannot end it."""
    clean = " ".join(_UNPRINTABLE.sub(" ", text).split())
    start = f"{' ' * indent}# "
    return textwrap.wrap(clean, _WIDTH, initial_indent=start + lead, subsequent_indent=start + hang,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def _table(proposal: Proposal) -> Iterator[str]:
    table, mark = proposal.table, "# " if proposal.doubt else ""
    size = "an unknown number of rows" if table.rows is None else f"about {table.rows:,} row{'s'[: table.rows != 1]}"
    yield from comment(f"{size}" + (f"; commented out because {proposal.doubt}" if proposal.doubt else ""), 6)
    yield f"      {mark}{scalar(table.name)}:"
    for line in _columns(proposal):
        yield f"      {mark}  {line}"
    for remark in proposal.remarks:
        yield from comment(remark, 8)


def _columns(proposal: Proposal) -> Iterator[str]:
    yield f"key: {_one_or_list(proposal.table.key)}  # the primary key"
    yield _line("title", proposal.title) if proposal.title else "# title: no column is named like one"
    yield _line("content", proposal.content)
    if proposal.updated_at:
        yield _line("updated_at", proposal.updated_at)
    yield from _metadata(proposal.metadata)
    if proposal.tenant:
        certain = "a row is found only by searches with its tenant: livedex search --tenant ..."
        unsure = "if this separates customers from each other, take the # away: a row is then found only by its tenant"
        yield _line("tenant", proposal.tenant, certain if proposal.tenant_certain else unsure,
                    active=proposal.tenant_certain)  # fmt: skip
    if proposal.acl:
        yield _line("acl", proposal.acl, "if it lists who may read a row, take the # away", active=False)
    if proposal.version:
        yield _line("version", proposal.version, "without it a checksum of what the row says", active=False)


def _metadata(choices: Sequence[Choice]) -> Iterator[str]:
    if choices:
        yield "metadata:  # to filter by: few different values"
        for choice in choices:
            yield f"  - {scalar(choice.value)}  # {_one_line(choice.reason)}"


def _line(key: str, choice: Choice, reason: str = "", *, active: bool = True) -> str:
    return f"{'' if active else '# '}{key}: {scalar(choice.value)}  # {_one_line(reason or choice.reason)}"


def _one_or_list(names: Sequence[str]) -> str:
    written = [scalar(name) for name in names]
    return written[0] if len(written) == 1 else f"[{', '.join(written)}]"


def _reference(reference: str) -> str:
    return reference if reference.startswith("${") else f'"{reference}"'


def _one_line(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _escaped(match: re.Match[str]) -> str:
    return f"\\U{ord(match[0]):08x}"
