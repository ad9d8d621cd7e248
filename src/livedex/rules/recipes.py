"""A generation × what the configuration asks for → whether the one can serve for the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from livedex.errors import RecipeChanged
from livedex.model import Generation, Recipe


def check_searchable_by_words(generation: Generation) -> None:
    if not generation.recipe.lexical:
        raise RecipeChanged(
            f"View {generation.view} was built by an earlier livedex, before views could be searched by words. "
            "Give it a new name in livedex.yaml and run: livedex sync"
        )


def check_recipe(generation: Generation, wanted: Recipe, source_ids: Collection[int], shards: int) -> None:
    check_searchable_by_words(generation)
    built = generation.recipe
    differences = []
    for done, before, now in (
        ("read", built.parser, wanted.parser),
        ("cut", built.chunker, wanted.chunker),
        ("sorted into section types", built.extractor, wanted.extractor),
    ):
        if dict(before) != dict(now):
            differences.append(f"was {done} with {_settings(before)}, livedex.yaml asks for {_settings(now)}")
    if dict(built.lexical) != dict(wanted.lexical):
        differences.append("was indexed for words in another way than livedex.yaml, or this version, does")
    if built.model != wanted.model:
        differences.append(f"was embedded with {built.model.name}, livedex.yaml asks for {wanted.model.name}")
    if generation.shards != shards:
        differences.append(f"was built with {generation.shards} shards, livedex.yaml asks for {shards}")
    if set(generation.source_ids) != set(source_ids):
        differences.append("was built from other sources than livedex.yaml names")
    if differences:
        raise RecipeChanged(
            f"View {generation.view} {'; it '.join(differences)}. Undo the change, or give the changed view a new name "
            "so that both stand side by side."
        )


def _settings(recipe: Mapping[str, Any]) -> str:
    written = (
        f"{name} ({_settings(value)})" if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in recipe.items()
    )
    return ", ".join(written) or "nothing"
