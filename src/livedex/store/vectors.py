"""pgvector's `halfvec` as numpy arrays, in parameters, arrays, results and binary COPY.

Binary form, after pgvector's `halfvec_send`: dimensions as an unsigned 16-bit number, 16 bits unused, then the
components as 16-bit floats; all big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

Vector = npt.NDArray[np.float32] | npt.NDArray[np.float16]

_HEADER = struct.Struct(">HH")


def literal(vector: npt.ArrayLike) -> str:
    """The text form of a vector of shape (dimensions,): `[0.1,0.2]`. Precise to the last bit of a 32-bit float."""
    return "[" + ",".join(map(str, _checked(np.asarray(vector)).astype(np.float32).tolist())) + "]"


def _checked(vector: npt.NDArray[Any]) -> npt.NDArray[np.floating[Any]]:
    if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.floating):
        raise TypeError(
            f"A vector is an array of floats of shape (dimensions,), not {vector.dtype} of shape {vector.shape}. "
            "Pass any other array as a list: array.tolist()."
        )
    return vector


def _packed(vector: npt.NDArray[Any]) -> bytes:
    with np.errstate(over="ignore"):  # becomes infinite, which the server refuses by name
        halves = _checked(vector).astype(">f2")
    return _HEADER.pack(len(halves), 0) + halves.tobytes()


def _unpacked(packed: Buffer) -> npt.NDArray[np.float32]:
    dimensions, _ = _HEADER.unpack_from(packed)
    return np.frombuffer(packed, dtype=">f2", count=dimensions, offset=_HEADER.size).astype(np.float32)


class HalfvecLoader(Loader):
    """A result in text form → float32 array of shape (dimensions,)."""

    format = Format.TEXT

    def load(self, data: Buffer) -> npt.NDArray[np.float32]:
        return np.array(bytes(data)[1:-1].split(b","), dtype=np.float32)


class HalfvecBinaryLoader(Loader):
    """A result in binary form → float32 array of shape (dimensions,)."""

    format = Format.BINARY

    def load(self, data: Buffer) -> npt.NDArray[np.float32]:
        return _unpacked(data)


@dataclass(frozen=True, slots=True)
class HalfvecType:
    """Under which numbers one database knows `halfvec` and `halfvec[]`; they differ between databases."""

    oid: int
    array_oid: int

    def register(self, connection: AsyncConnection[Any]) -> None:
        """Teach a connection the type.

        An array of 16, 32 or 64-bit floats is sent as a halfvec, in binary for `%s` and `%b`; a list of them is sent
        in binary for `%b`. Results come as float32.
        """
        number = self.oid

        class TextDumper(Dumper):
            oid = number

            def dump(self, obj: npt.NDArray[Any]) -> bytes:
                return literal(obj).encode()

        class BinaryDumper(Dumper):
            format = Format.BINARY
            oid = number

            def dump(self, obj: npt.NDArray[Any]) -> bytes:
                return _packed(obj)

        TypeInfo("halfvec", self.oid, self.array_oid).register(connection)
        adapters = connection.adapters
        adapters.register_dumper(np.ndarray, TextDumper)
        adapters.register_dumper(np.ndarray, BinaryDumper)  # the later one is taken for `%s`
        adapters.register_loader(self.oid, HalfvecLoader)
        adapters.register_loader(self.oid, HalfvecBinaryLoader)
