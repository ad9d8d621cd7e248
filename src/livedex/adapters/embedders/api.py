"""Embeddings from any endpoint that speaks OpenAI's `POST /embeddings`.

What an answer means:

    200, well formed            vectors, in the order of `index`, brought to length 1 here
    200, other dimensions       EmbedderMisconfigured
    200, no direction (NaN, 0)  InputRejected where the endpoint embeds other texts, else EmbedderUnavailable
    200, anything else          EmbedderUnavailable
    400 413 422                 InputRejected, or EmbedderMisconfigured when the error names a setting
    408 409 425 429 5xx         EmbedderUnavailable, with what Retry-After asks for
    no answer, or none in time  EmbedderUnavailable
    any other status            EmbedderMisconfigured

Nothing is tried again here: whoever calls knows what waiting costs. Of an answer that reports a failure only the
message is passed on, shortened and without the key; other parts may echo the texts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np

from livedex.errors import EmbedderError, EmbedderMisconfigured, EmbedderUnavailable, InputRejected
from livedex.model import ModelIdentity
from livedex.ports import Vectors

REJECTED = frozenset({400, 413, 422})
TRY_AGAIN = frozenset({408, 409, 425, 429})
SETTINGS = frozenset({"model", "dimensions", "encoding_format", "user"})
SETTING_CODES = frozenset({"model_not_found", "invalid_api_key", "unsupported_parameter", "unknown_parameter"})
PROBE = "A sentence that every model can embed."
LONGEST_REASON = 200
CHARACTERS_PER_TOKEN = 4


class ApiEmbedder:
    """Embeds through `base_url`, which ends before `/embeddings` (usually in `/v1`).

    `dimensions` is what the vectors must have; `send_dimensions` also asks for it, for models that can shorten their
    vectors. `concurrency` bounds the requests under way, for documents and for queries apart, so that no query queues
    behind documents. Documents keep to `requests_per_minute` and `tokens_per_minute`; queries are counted but do not
    wait. `transport`, `monotonic`, `now` and `sleep` are for tests. Belongs to one event loop.

    Raises EmbedderMisconfigured for settings that cannot work.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        dimensions: int,
        api_key: str | None = None,
        *,
        batch_size: int = 128,
        concurrency: int = 4,
        timeout_seconds: float = 30.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        send_dimensions: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = _endpoint(base_url)
        self._key = _checked_key(api_key)
        if min(dimensions, batch_size, concurrency, timeout_seconds) <= 0:
            raise EmbedderMisconfigured("dimensions, batch_size, concurrency and timeout_seconds must be above zero.")
        self.identity = ModelIdentity(
            model=model,
            revision="",
            dimensions=dimensions,
            precision="provider",
            pooling="provider",
            query_prefix=query_prefix,
            document_prefix=document_prefix,
        )
        self.batch_size = batch_size
        self._send_dimensions = send_dimensions
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._offline = asyncio.Semaphore(concurrency)
        self._online = asyncio.Semaphore(concurrency)
        self._requests = TokenBucket(requests_per_minute, monotonic, sleep)
        self._tokens = TokenBucket(tokens_per_minute, monotonic, sleep)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx.Limits(max_connections=2 * concurrency, max_keepalive_connections=2 * concurrency),
            timeout=None,  # noqa: S113  # one deadline over the whole exchange instead, which no trickle can extend
            transport=transport,
        )

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions). More than `batch_size` texts become several requests, in parallel.

        The first failure ends the call. InputRejected carries indexes only where the endpoint's answer tells which
        texts are meant; without, halve the call to find them.
        """
        prefixed = [self.identity.document_prefix + text for text in texts]
        vectors = np.empty((len(texts), self.identity.dimensions), dtype=np.float32)

        async def embed(start: int) -> None:
            part = prefixed[start : start + self.batch_size]
            async with self._offline:
                await self._requests.wait(1)
                await self._tokens.wait(_tokens(part))
                try:
                    vectors[start : start + len(part)] = await self._embed(part)
                except InputRejected as error:
                    raise InputRejected(str(error), indexes=[start + index for index in error.indexes]) from error

        await _all_or_first_error([embed(start) for start in range(0, len(texts), self.batch_size)])
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        """Shape (dimensions,)."""
        prefixed = self.identity.query_prefix + text
        async with self._online:
            self._requests.spend(1)
            self._tokens.spend(_tokens([prefixed]))
            vector: Vectors = (await self._embed([prefixed]))[0]
            return vector

    async def close(self) -> None:
        await self._client.aclose()

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        vectors = await self._request(texts)
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        without_direction = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
        if len(without_direction):
            await self._blame(without_direction.tolist(), len(texts))
        unit: Vectors = (vectors / lengths).astype(np.float32)
        return unit

    async def _blame(self, indexes: Sequence[int], texts: int) -> None:
        """Some vectors are zero or not finite. Texts are at fault if the endpoint embeds others, else it is."""
        if len(indexes) == texts:
            probe = await self._request([PROBE])
            if not np.isfinite(probe).all() or not probe.any():
                raise EmbedderUnavailable(f"{self._url} returns vectors that are zero or not finite for every text.")
        raise InputRejected(
            f"{self._url} returned vectors that are zero or not finite for {len(indexes)} of {texts} texts.",
            indexes=indexes,
        )

    async def _request(self, texts: Sequence[str]) -> Vectors:
        sendable = [text.encode(errors="replace").decode() for text in texts]  # half a surrogate pair is no character
        body: dict[str, Any] = {"model": self.identity.model, "input": sendable, "encoding_format": "float"}
        if self._send_dimensions:
            body["dimensions"] = self.identity.dimensions
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.post(self._url, json=body)
        except TimeoutError as error:
            raise EmbedderUnavailable(f"{self._url} did not answer within {self._timeout_seconds:g} s.") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
            raise EmbedderMisconfigured(f"{self._url} cannot be called: {error}. Correct base_url.") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise EmbedderUnavailable(f"{self._url} cannot be reached: {reason}.") from error
        if response.status_code != httpx.codes.OK:
            raise self._failure(response, len(texts))
        return self._vectors(response, len(texts))

    def _failure(self, response: httpx.Response, texts: int) -> EmbedderError:
        status = response.status_code
        error = _error(response)
        reason = self._without_key(_reason(error))
        said = f"{self._url} answered {status}" + (f": {reason}" if reason else ".")
        if status in TRY_AGAIN or status >= 500:
            return EmbedderUnavailable(said, retry_after_seconds=_retry_after(response.headers, self._now()))
        names_setting = error.get("param") in SETTINGS or error.get("code") in SETTING_CODES
        if status in REJECTED and not names_setting:
            return InputRejected(said, indexes=range(texts) if texts == 1 else ())
        return EmbedderMisconfigured(f"{said} {_remedy(status)}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _vectors(self, response: httpx.Response, texts: int) -> Vectors:
        """Shape (texts, dimensions), as they came. Raises EmbedderUnavailable or EmbedderMisconfigured."""
        try:
            answer = response.json()
            rows = {int(row["index"]): row["embedding"] for row in answer["data"]}
            sizes = {len(row) for row in rows.values()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            kind = response.headers.get("content-type", "no content type")
            raise EmbedderUnavailable(
                f"{self._url} answered 200 with something else than embeddings ({kind}). Check base_url if it stays so."
            ) from error
        if len(answer["data"]) != texts or rows.keys() != set(range(texts)):
            raise EmbedderUnavailable(f"{self._url} returned {len(rows)} vectors for {texts} texts.")
        if sizes != {self.identity.dimensions}:
            raise EmbedderMisconfigured(
                f"{self.identity.model} at {self._url} returned vectors of {', '.join(map(str, sorted(sizes)))} "
                f"dimensions, but {self.identity.dimensions} are configured. Correct dimensions, or the model."
            )
        try:
            return np.array([rows[index] for index in range(texts)], dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise EmbedderUnavailable(f"{self._url} returned vectors that hold something else than numbers.") from error


class TokenBucket:
    """So many units a minute, saved up for at most ten seconds; no limit if `per_minute` is None.

    `spend` takes at once and may go into debt, which those in `wait` then wait off, in the order in which they came.
    """

    def __init__(
        self, per_minute: float | None, monotonic: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        if per_minute is not None and per_minute <= 0:
            raise EmbedderMisconfigured(f"A rate limit must be above zero, not {per_minute:g} per minute.")
        self._per_second = None if per_minute is None else per_minute / 60
        self._most = 0.0 if per_minute is None else max(per_minute / 6, 1.0)
        self._monotonic, self._sleep = monotonic, sleep
        self._left, self._seen = self._most, monotonic()
        self._turn = asyncio.Lock()

    def spend(self, units: float) -> None:
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._seen) * (self._per_second or 0.0)) - units
        self._seen = now

    async def wait(self, units: float) -> None:
        """Take once the bucket is out of debt and holds `units`, or, when it can never hold as many, is full."""
        if self._per_second is None:
            return
        async with self._turn:
            self.spend(0)
            while (short := min(units, self._most) - self._left) > 1e-9:
                await self._sleep(short / self._per_second)
                self.spend(0)
            self.spend(units)


async def _all_or_first_error(work: Sequence[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _endpoint(base_url: str) -> httpx.URL:
    """The URL to post to. Credentials in it would end up in errors and logs."""
    try:
        url = httpx.URL(base_url.rstrip("/") + "/embeddings")
    except httpx.InvalidURL as error:
        raise EmbedderMisconfigured(f"base_url is not a URL: {error}.") from error
    if url.userinfo:
        raise EmbedderMisconfigured("base_url holds a user name or password. Give the key as api_key instead.")
    if url.scheme not in {"http", "https"} or not url.host:
        raise EmbedderMisconfigured(f"base_url must begin with http:// or https:// and name a host: {url.host!r}.")
    return url


def _checked_key(key: str | None) -> str:
    key = (key or "").strip()
    if not (key.isascii() and (key.isprintable() or not key)):
        raise EmbedderMisconfigured("The API key holds characters that no HTTP header can carry. Copy it again.")
    return key


def _tokens(texts: Sequence[str]) -> float:
    return sum(len(text) // CHARACTERS_PER_TOKEN + 1 for text in texts)


def _error(response: httpx.Response) -> Mapping[str, Any]:
    """The error object of an answer; what OpenAI nests under `error` stands at the top elsewhere."""
    try:
        body = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    if isinstance(inner, str):
        return {"message": inner}
    return inner if isinstance(inner, dict) else body


def _reason(error: Mapping[str, Any]) -> str:
    """What the endpoint says went wrong, shortened."""
    reason = error.get("message") or error.get("detail") or ""
    if isinstance(reason, list):  # FastAPI
        reason = "; ".join(str(item["msg"]) for item in reason if isinstance(item, dict) and "msg" in item)
    return " ".join(str(reason).split())[:LONGEST_REASON] if isinstance(reason, str) else ""


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return "Check the API key and what it may use."
    return "Check base_url and model." if status in {404, 405} or 300 <= status < 400 else "Check the settings."


def _retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds to wait: `Retry-After` as a number or as an HTTP date. None when absent or unreadable."""
    asked = headers.get("retry-after", "").strip()
    try:
        seconds = float(asked)
    except ValueError:
        try:
            moment = parsedate_to_datetime(asked)
        except ValueError:
            return None
        seconds = (moment - now if moment.tzinfo else moment.replace(tzinfo=UTC) - now).total_seconds()
    return max(seconds, 0.0) if np.isfinite(seconds) else None
