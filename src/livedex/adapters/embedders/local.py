"""Sentence embeddings on this machine's processor, through ONNX Runtime.

    texts ▸ tokens ▸ small runs of about equal length ▸ ONNX ▸ vectors

Queries go first: each runs at once on threads of its own, and documents start no further run while a query is on its
way. A document run is small (`RUN_TOKENS`), because on a processor large ones are no faster and a query that meets one
has to share the cores with it until it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from livedex.adapters.embedders import local_graph, weights
from livedex.adapters.embedders.weights import Precision
from livedex.errors import EmbedderUnavailable, MissingExtra, WeightsUnavailable
from livedex.model import ModelIdentity
from livedex.ports import Vectors

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

T = TypeVar("T")

TRUNCATION = 256
"""The most tokens that are read of a text. The model was evaluated at this length."""

RUN_TOKENS = 1024
"""Padded tokens in one ONNX run of documents: four texts at full length, or sixteen of 64 tokens."""

OFFLINE_PATIENCE_SECONDS = 0.5
"""How long a document run waits for a moment without queries. Then it goes, else busy servers would never refresh."""

CHARACTERS_READ = 65_536
"""What follows cannot reach the first 256 tokens of any real text, and would only cost time to tokenise."""

PACKAGES = ("onnxruntime", "onnx", "tokenizers", "safetensors")


class LocalEmbedder:
    """all-MiniLM-L6-v2, or another BERT sentence encoder from a folder, with mean pooling.

    `cache_directory` holds fetched weights and built graphs. `path` is a folder with tokenizer.json and either
    model.safetensors (and config.json unless it is the known model) or model.onnx; without it the weights must be in
    the cache, where `weights.fetch` brings them. `threads` defaults to the processors that this process may use.
    With precision int8 each text is a run of its own: int8 vectors depend on their neighbours.

    Raises MissingExtra when a package is missing and WeightsUnavailable when files are missing or not the model's.
    The graph is built (a few seconds, once) and loaded with the first call, or by `load`.
    """

    batch_size = 64

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        *,
        cache_directory: Path,
        precision: Precision = "fp32",
        threads: int | None = None,
        path: Path | None = None,
    ) -> None:
        if not all(find_spec(package) for package in PACKAGES):
            raise MissingExtra("The local embedder", "local")
        self._files = _fetched(model, cache_directory) if path is None else _given(model, path, cache_directory)
        self.identity = ModelIdentity(
            model=model,
            revision=self._files.revision,
            dimensions=self._files.dimensions,
            precision=precision,
            pooling="mean",
            truncation=TRUNCATION,
            normalised=True,
        )
        self._threads = threads or _processors()
        self._encoder: _Encoder | None = None
        self._loading = threading.Lock()
        self._traffic = _Traffic()
        self._online = ThreadPoolExecutor(self._threads, thread_name_prefix="embed-query")
        self._offline = ThreadPoolExecutor(1, thread_name_prefix="embed-documents")

    async def load(self) -> None:
        """Build the graph if need be and load it, so that the first query does not wait for that."""
        await self._in(self._online, self._loaded)

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimensions). Offline traffic, in small runs between which queries go first.

        Raises WeightsUnavailable when the model cannot be loaded, EmbedderUnavailable when a run fails.
        """
        vectors = np.empty((len(texts), self.identity.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        tokens = await self._in(self._offline, lambda: self._loaded().tokens(texts))
        for run in self._runs([len(ids) for ids in tokens]):
            vectors[run] = await self._in(self._offline, self._run_documents, [tokens[index] for index in run])
        return vectors

    async def embed_query(self, text: str) -> Vectors:
        """Shape (dimensions,). Online traffic; raises as `embed_documents` does."""
        with self._traffic.query():
            return await self._in(self._online, self._run_query, text)

    async def close(self) -> None:
        """Runs that have begun end; nothing can be embedded afterwards."""
        for pool in (self._online, self._offline):
            pool.shutdown(wait=False, cancel_futures=True)
        self._encoder = None

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def _run_query(self, text: str) -> Vectors:
        encoder = self._loaded()
        vector: Vectors = encoder.run(encoder.tokens([text]))[0]
        return vector

    def _run_documents(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        self._traffic.wait_for_quiet(OFFLINE_PATIENCE_SECONDS)
        return self._loaded().run(tokens)

    def _runs(self, lengths: Sequence[int]) -> list[list[int]]:
        return runs_of_similar_length(lengths, RUN_TOKENS if self.identity.precision == "fp32" else 0)

    def _loaded(self) -> _Encoder:
        with self._loading:
            if self._encoder is None:
                self._encoder = _Encoder(self._files, self.identity, self._threads)
            return self._encoder


def runs_of_similar_length(lengths: Sequence[int], padded_tokens: int) -> list[list[int]]:
    """Part texts, given by their lengths in tokens, into runs: indexes, longest text first, so that a run padded to
    its longest text stays within `padded_tokens`, and no text in it is padded by more than a third or 16 tokens. A run
    holds at least one text."""
    runs: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        fits = runs and longest * (len(runs[-1]) + 1) <= padded_tokens
        if fits and longest - lengths[index] <= max(lengths[index] // 3, 16):
            runs[-1].append(index)
        else:
            runs.append([index])
            longest = lengths[index]
    return runs


class _Traffic:
    """Counts the queries on their way. Works on threads, so it serves any event loop."""

    def __init__(self) -> None:
        self._queries = 0
        self._changed = threading.Condition()

    @contextmanager
    def query(self) -> Iterator[None]:
        with self._changed:
            self._queries += 1
        try:
            yield
        finally:
            with self._changed:
                self._queries -= 1
                self._changed.notify_all()

    def wait_for_quiet(self, patience_seconds: float) -> None:
        """Return when no query is on its way, or after that many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._queries == 0, timeout=patience_seconds)


@dataclass(frozen=True, slots=True)
class _Files:
    """A model's files. `graphs` is where graphs built from `weights` are kept; a given model.onnx has none."""

    weights: Path
    tokenizer: Path
    revision: str
    dimensions: int
    shape: local_graph.BertShape
    graphs: Path | None

    def graph(self, precision: Precision) -> Path:
        """The graph to run, built first if need be."""
        if self.graphs is None:
            return self.weights
        if precision == "fp32":
            return weights.graph(self.graphs, "fp32", self._build)
        return weights.graph(self.graphs, "int8", self._quantise)

    def _build(self, target: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        found = weights.sha256(self.weights)
        if not found.startswith(self.revision):
            raise WeightsUnavailable(
                f"{self.weights} is damaged: its SHA-256 begins with {found[:12]}, not {self.revision}. "
                "Run: livedex models fetch"
            )
        try:
            tensors = load_file(self.weights)
        except SafetensorError as error:
            raise WeightsUnavailable(f"{self.weights} is not a safetensors file: {error}.") from error
        target.write_bytes(local_graph.build(tensors, self.shape))

    def _quantise(self, target: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            self.graph("fp32"),
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


def _fetched(model: str, cache: Path) -> _Files:
    known = weights.known(model)
    place = weights.locate(model, cache)
    return _Files(
        weights=place / weights.WEIGHTS,
        tokenizer=place / weights.TOKENIZER,
        revision=known.revision,
        dimensions=known.dimensions,
        shape=local_graph.BertShape(),
        graphs=place,
    )


def _given(model: str, path: Path, cache: Path) -> _Files:
    tokenizer, tensors, graph = path / weights.TOKENIZER, path / weights.WEIGHTS, path / "model.onnx"
    found = tensors if tensors.is_file() else graph
    if not (tokenizer.is_file() and found.is_file()):
        raise WeightsUnavailable(
            f"{path} does not hold a model: it needs tokenizer.json and model.safetensors or model.onnx. "
            "Correct the path, or leave it out and run: livedex models fetch"
        )
    digest = weights.sha256(found)
    revision = digest[: weights.REVISION_DIGITS]
    known = weights.KNOWN_MODELS.get(model)
    if found is tensors and known is not None and digest != known.files[weights.WEIGHTS]:
        raise WeightsUnavailable(
            f"{tensors} does not hold the weights of {model}: its SHA-256 is {digest}, not "
            f"{known.files[weights.WEIGHTS]}. Give a fine-tuned model a name of its own, or run: livedex models fetch"
        )
    config = path / "config.json"
    return _Files(
        weights=found,
        tokenizer=tokenizer,
        revision=revision,
        dimensions=_dimensions(found),
        shape=local_graph.BertShape.from_config(json.loads(config.read_text()) if config.is_file() else {}),
        graphs=weights.folder(cache, model, revision) if found is tensors else None,
    )


def _dimensions(file: Path) -> int:
    """Read from the file without loading it, or, for a graph, its weights."""
    try:
        if file.name == weights.WEIGHTS:
            from safetensors import safe_open

            with safe_open(file, framework="numpy") as opened:
                return int(opened.get_slice("embeddings.word_embeddings.weight").get_shape()[1])
        import onnx

        outputs = onnx.load(file, load_external_data=False).graph.output
        dimensions = int(outputs[0].type.tensor_type.shape.dim[-1].dim_value)
    except Exception as error:  # parsers of three packages, each with its own errors
        raise WeightsUnavailable(f"{file} cannot be read: {error}. Give another file.") from error
    if not dimensions:
        raise WeightsUnavailable(f"{file} does not state the size of its output. Export it with a fixed hidden size.")
    return dimensions


class _Encoder:
    """A loaded model: tokenizer and ONNX session. Its methods block, and may be called from several threads."""

    def __init__(self, files: _Files, identity: ModelIdentity, threads: int) -> None:
        precision: Precision = "int8" if identity.precision == "int8" else "fp32"
        self._tokenizer = _tokenizer(files.tokenizer)
        self._session = _session(files.graph(precision), threads)
        self._inputs = {wanted.name for wanted in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """At most `TRUNCATION` token ids for each text, at least the two that mark begin and end."""
        shortened = [_encodable(text[:CHARACTERS_READ]) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(shortened)]

    def run(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        """Shape (len(tokens), dimensions), length 1. Raises EmbedderUnavailable when ONNX Runtime fails."""
        shape = (len(tokens), max(map(len, tokens)))
        ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, dtype=np.int64)}
        try:
            (output,) = self._session.run([self._output.name], {name: feed[name] for name in self._inputs})
        except Exception as error:  # ONNX Runtime has a dozen errors without a common root
            raise EmbedderUnavailable(f"ONNX Runtime could not embed {shape[0]} texts: {error}") from error
        return _pooled(output, mask)


def _pooled(output: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]) -> Vectors:
    """Our own graph's output already has length 1; a given model.onnx may return token vectors or longer ones."""
    vectors = (output * mask[:, :, None]).sum(axis=1) if output.ndim == 3 else output
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    unit: Vectors = (vectors / lengths).astype(np.float32)
    return unit


def _encodable(text: str) -> str:
    """Half a surrogate pair is no character and cannot be handed to the tokenizer."""
    return text.encode(errors="replace").decode()


def _tokenizer(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception
        raise WeightsUnavailable(f"{file} is damaged: {error}. Run: livedex models fetch") from error
    tokenizer.no_padding()  # the file pads everything to 128 tokens and cuts there
    tokenizer.enable_truncation(max_length=TRUNCATION)
    return tokenizer


def _session(graph: Path, threads: int) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # shapes change with every run
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle cores belong to PostgreSQL
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen errors without a common root
        raise WeightsUnavailable(f"{graph} cannot be loaded: {error}. Give another file.") from error


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
