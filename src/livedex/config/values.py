"""What stands behind the keys of livedex.yaml: kinds of values, each with what makes one wrong and how to say so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Section(BaseModel):
    """A mapping in the file. Unknown keys are refused; values never show in errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True, validate_default=False
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What relative paths in the file are relative to: its own directory, and for `~/` the user's."""

    directory: Path
    home: Path

    def locate(self, path: Path) -> Path:
        if path.parts[:1] == ("~",):
            return self.home.joinpath(*path.parts[1:])
        return self.directory / path


def check_database_url(url: SecretStr) -> SecretStr:
    """Refuse what cannot be a PostgreSQL connection string: neither a URL nor `host=... dbname=...`."""
    written = url.get_secret_value()
    if not re.match(r"postgres(ql)?://|\s*\w+\s*=", written):
        raise PydanticCustomError(
            "database_url", "must be a PostgreSQL URL such as postgresql://user@localhost:5432/database"
        )
    return url


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", name):
        raise PydanticCustomError(
            "name", "must be a name: a lower-case letter, then lower-case letters, digits or _, 48 characters at most"
        )
    return name


def _duration(written: Any) -> Any:
    if not isinstance(written, str):
        return written
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)", written.strip())
    if match is None:
        raise PydanticCustomError("duration", "must be a duration with its unit, such as 500ms, 2s, 5m, 1h or 7d")
    days_at_most = 36_500
    seconds = float(match[1]) * DURATION_UNITS[match[2]]
    if not 0 < seconds <= days_at_most * DURATION_UNITS["d"]:
        raise PydanticCustomError("duration", "must be longer than nothing and at most 36500d")
    return timedelta(seconds=seconds)


def one_or_more(written: Any) -> Any:
    """Let a single text stand for a list of one."""
    return [written] if isinstance(written, str) else written


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a list that names something twice."""
    if len(set(names)) < len(names):
        raise PydanticCustomError("distinct", "names something twice")
    return names


def _located(path: Path, info: ValidationInfo) -> Path:
    return info.context.locate(path) if isinstance(info.context, Surroundings) else path


def described(json_type: Any, shape: str) -> WithJsonSchema:
    """How the reference calls a value of this kind."""
    return WithJsonSchema({"type": json_type, "format": shape})


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(one_or_more), Field(min_length=1), AfterValidator(distinct)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(one_or_more), AfterValidator(distinct)]
Count = Annotated[int, Field(ge=1)]
Duration = Annotated[timedelta, BeforeValidator(_duration), described("string", "duration")]
DatabaseURL = Annotated[SecretStr, AfterValidator(check_database_url)]
Location = Annotated[Path, AfterValidator(_located)]
