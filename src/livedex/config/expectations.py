"""What `expects` and `brake` of a source say: what its producers are held to, and when its losses need a word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from livedex.config.values import Count, Duration, Section, Text, Texts, described, one_or_more

Kind = Literal["number", "integer", "boolean", "date", "timestamp", "url", "email", "uuid"]


class ValueType(Section):
    """What the values of a column are. In the file: a kind, a list of the accepted values, or `{pattern: …}`."""

    kind: Kind | None = None
    values: tuple[str, ...] = ()
    pattern: str = ""


def _value_type(written: Any) -> ValueType:
    if isinstance(written, str):
        if written not in get_args(Kind):
            raise PydanticCustomError(
                "value_type",
                "must be one of {kinds}; a list of the accepted values; or {pattern: …}",
                {"kinds": ", ".join(get_args(Kind))},
            )
        return ValueType.model_validate({"kind": written})
    if isinstance(written, list) and written:
        return ValueType(
            values=tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in written)
        )
    if isinstance(written, Mapping) and list(written) == ["pattern"] and isinstance(written["pattern"], str):
        try:
            re.compile(written["pattern"])
        except re.error as error:
            raise PydanticCustomError(
                "value_type", "has a pattern that is no regular expression: {error}", {"error": error.msg}
            ) from error
        return ValueType(pattern=written["pattern"])
    raise PydanticCustomError("value_type", "must be a kind, a list of the accepted values, or {pattern: …}")


def _share(written: Any) -> float:
    number = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,3})?)\s*%\s*", written) if isinstance(written, str) else None
    if number is None or not 0 < float(number[1]) <= 100:
        raise PydanticCustomError("share", "must be a share such as 30%, more than 0% and at most 100%")
    return float(number[1]) / 100


def _similarity(written: Any) -> float:
    share = _share(written)
    if share < LEAST_SIMILARITY:
        raise PydanticCustomError("similarity", "must be from 85% to 100%")
    return share


def _off(written: Any) -> Any:
    """`off` is text in YAML 1.2."""
    if written is None or isinstance(written, Mapping):
        return written
    return {"enabled": {"off": False, "on": True}.get(str(written).lower(), written)}


LEAST_SIMILARITY = 0.85
Share = Annotated[float, PlainValidator(_share), described("string", "share, such as 30%")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class NearDuplicates(Section):
    """How many documents of the source may say almost the same. One more is set aside."""

    limit: Count
    """How many there may be."""
    similarity: Annotated[float, PlainValidator(_similarity), described("string", "share, 85% to 100%")] = 0.95
    """From when on two count as the same: how much of their groups of three words they share."""


class TableExpects(Section):
    """What a table's rows are expected to be. A row that is not is set aside with the reason; all others go on."""

    required: Texts = ()
    """Columns that must be there: not NULL and not blank."""
    types: Mapping[Text, Annotated[ValueType, PlainValidator(_value_type), described("string", "type")]] = Field(
        default_factory=dict
    )
    """Column to what its values are: `number`, `integer`, `boolean`, `date`, `timestamp`, `url`, `email`, `uuid`; a
    list of the accepted values; or `{pattern: …}`, a regular expression for the whole value. NULL is of every type."""
    max_bytes: Count | None = None
    """The most bytes that the content may have in UTF-8."""
    min_bytes: Count | None = None
    """The fewest."""
    encoding: Literal["utf-8"] | None = None
    """With `utf-8`: no text has replacement characters, control characters, or UTF-8 that was read as Latin-1."""
    language: Annotated[tuple[Language, ...], BeforeValidator(one_or_more)] = ()
    """The languages that the content may be in, as ISO 639-1 codes such as `en`. Needs the extra `language`."""
    near_duplicates: NearDuplicates | None = None
    """How many documents may say almost the same."""

    @model_validator(mode="after")
    def _possible(self) -> TableExpects:
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise PydanticCustomError("possible", "has min_bytes greater than max_bytes, so that no row could be right")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that it mentions."""
        return (*self.required, *self.types)


class Expects(TableExpects):
    """What the rows of a source are expected to be. A row that is not is set aside with the reason; all others go
    on."""

    tables: Mapping[Text, TableExpects] = Field(default_factory=dict)
    """For tables of which something else is expected: by name, in the place of everything above."""

    def of(self, table: str) -> TableExpects:
        return self.tables.get(table, self)


class Brake(Section):
    """When so much of a source would be lost at once that a person has to agree. `brake: off` asks nobody."""

    enabled: bool = True
    """Whether it holds anything."""
    deletes: Share = 0.3
    """The share of a source's documents that may be deleted within the window."""
    shrinks: Share = 0.3
    """The share of which more than half of the content may go within the window."""
    least: Count = 100
    """Fewer documents than this are never too many."""
    window: Duration = timedelta(minutes=1)
    """Over how long losses are added up."""


Braked = Annotated[Brake, BeforeValidator(_off)]
"""`Brake`, for which the file may have `off`."""
