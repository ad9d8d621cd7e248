"""The embedding endpoint of a run: well, or ill in one of the ways that endpoints are."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from livedex.testing.embedders import EmbeddingEndpoint, Request, Response, hashed_embeddings

DIMENSIONS = 64
HANG_SECONDS = 10.0


class Endpoint:
    """Serves hashing vectors. While ill, every answer is that of the illness."""

    def __init__(self) -> None:
        self._ill: list[str] = []
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self._server = EmbeddingEndpoint(self._respond)

    @property
    def base_url(self) -> str:
        return self._server.base_url

    def __enter__(self) -> Endpoint:
        self._server.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._server.__exit__(*details)

    def falls_ill(self, how: str) -> None:
        with self._lock:
            self._ill.append(how)

    def is_well_again(self, how: str) -> None:
        with self._lock:
            self._ill.remove(how)

    def _respond(self, request: Request) -> Response:
        self._server.requests.clear()
        with self._lock:
            how = self._ill[-1] if self._ill else "well"
            self.answers[how] += 1
        return _ANSWERS[how](self, request)

    def well(self, request: Request) -> Response:
        return hashed_embeddings(request, DIMENSIONS)

    def fails(self, request: Request) -> Response:
        return Response({"error": {"message": "the model is loading"}}, status=503)

    def throttles(self, request: Request) -> Response:
        return Response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "1"})

    def hangs(self, request: Request) -> Response:
        until = time.monotonic() + HANG_SECONDS
        while time.monotonic() < until and "hangs" in self._ill and not self._server.closing.is_set():
            time.sleep(0.05)
        return Response(hangs_up=True)

    def changes_dimensions(self, request: Request) -> Response:
        return hashed_embeddings(request, DIMENSIONS * 2)

    def returns_nan(self, request: Request) -> Response:
        return self._altered(request, lambda rows: [{**row, "embedding": [math.nan] * DIMENSIONS} for row in rows])

    def returns_too_few(self, request: Request) -> Response:
        return self._altered(request, lambda rows: rows[:-1])

    def returns_garbage(self, request: Request) -> Response:
        return Response(b"<html>502 Bad Gateway</html>", headers={"Content-Type": "text/html"})

    def hangs_up(self, request: Request) -> Response:
        return Response(hangs_up=True)

    def _altered(self, request: Request, alter: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Response:
        answer = hashed_embeddings(request, DIMENSIONS).body
        return Response({**answer, "data": alter(answer["data"])})


_ANSWERS: Mapping[str, Callable[[Endpoint, Request], Response]] = {
    "well": Endpoint.well,
    "fails": Endpoint.fails,
    "throttles": Endpoint.throttles,
    "hangs": Endpoint.hangs,
    "changes dimensions": Endpoint.changes_dimensions,
    "returns NaN": Endpoint.returns_nan,
    "returns too few": Endpoint.returns_too_few,
    "returns garbage": Endpoint.returns_garbage,
    "hangs up": Endpoint.hangs_up,
}
