"""Which language a text is in, by py3langid: frequencies of letter sequences in about 140 languages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from livedex.errors import MissingExtra

_NO_LANGUAGE = re.compile(r"https?://\S+|```.*?(?:```|\Z)|`[^`\n]*`|<[^<>]*>", re.DOTALL)
"""Addresses, code and tags, which look like English whatever stands around them."""


class LanguageDetector:
    """Raises MissingExtra. Loading takes about a second and 150 MB; a text about half a millisecond."""

    def __init__(self) -> None:
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError as error:
            raise MissingExtra("Telling languages (expects.language)", "language") from error
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    @property
    def languages(self) -> frozenset[str]:
        """Those that are told apart, as ISO 639-1 codes, or 639-3 where there is none."""
        return frozenset(self._identifier.labels)

    def likely(self, text: str) -> Mapping[str, float]:
        """How likely each language is, together 1."""
        by_language: dict[str, float] = {}
        for language, probability in self._identifier.rank(_NO_LANGUAGE.sub(" ", text)):
            by_language[language] = by_language.get(language, 0.0) + float(probability)
        return by_language
