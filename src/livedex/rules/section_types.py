"""What a chunk is good for: definitions, scope, exceptions, effective dates, steps or questions and answers. Pure.

The headings decide, the innermost that says anything first; where they say nothing, the text does, if it is clear. A
wrong type misleads whoever filters by it, a missing one only leaves the structure that the chunker found, so everything
here would rather say too little. English only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

VERSION = 1
"""Part of a generation's recipe: raise it with every change of what `classify` returns."""

RECIPE: Mapping[str, Any] = {"kind": "section_types", "version": VERSION}

TYPES = ("definitions", "scope", "exceptions", "effective_dates", "steps", "faq")

_HOW_TO, _QUESTION = "how_to", "question"
"""Headings that decide for their own section only; `_HOW_TO` only where its text has a list of steps."""

_OF = r"(?: (?:of|to|for|from|in|on|with|about) .+)?"
_HEADINGS: Mapping[str, str] = {
    "definitions": rf"(?:[\w-]+ ){{0,3}}(?:definitions|glossary){_OF}|definition|definition of .+|terminology|"
    r"vocabulary|(?:key|defined|important|common) terms|terms used|terms and definitions|definitions and .+|"
    r"(?:abbreviations|acronyms)(?: and (?:abbreviations|acronyms|definitions))?",
    "scope": r"(?:in |out of |purpose and |policy )?scope(?: of .+| and (?:applicability|purpose))?|applicability|"
    r"appli(?:es|cable) to|who (?:this|it|the policy|this \w+) (?:applies to|covers|is for)|"
    r"who does (?:this|it|this \w+) (?:apply to|cover)|what (?:this|it|this \w+) (?:covers|applies to)|coverage|"
    r"persons covered|non-goals",
    "exceptions": rf"(?:policy )?(?:exceptions?|exclusions?|exemptions?){_OF}|(?:known )?limitations{_OF}|"
    r"(?:exceptions?|exclusions?|exemptions?|limitations) and (?:exceptions?|exclusions?|exemptions?|limitations)|"
    r"what(?: is|'s) not (?:covered|included)|not (?:covered|included)|when (?:this|it|this \w+) does not apply",
    "effective_dates": r"effective (?:dates?|from|period)(?: .+)?|validity(?: period| and .+)?|valid from|"
    r"(?:version|revision|document|change) history|commencement(?: date)?|(?:coming|entry) into (?:force|effect)",
    "steps": r"(?:(?:runbook|\w+) )?(?:steps|procedures?|instructions)(?: (?:to|for) .+)?|step[ -]by[ -]step(?: .+)?|"
    r"runbook|step (?:\d+|one|two|three|four|five|six|seven|eight|nine|ten)\b.*",
    "faq": r"(?:.+ )?(?:faqs?|frequently asked questions|q ?(?:&|and) ?a)(?:[ :].+)?|"
    r"(?:common |other )?questions(?: and answers)?|questions? \d+.*|q\d*[.:] .+",
    _HOW_TO: r"how to .*",
    _QUESTION: r"(?:how|what|when|where|why|who|which|whose|can|could|do|does|did|is|are|was|should|will|would|may|"
    r"must|have|has)\b(?:'s)? \S+ .*\?",
}
_TELLING = re.compile(
    r"defin|glossar|termi|terms|vocab|abbrev|acron|scope|appli|cover|persons|non-goals|excep|exclu|exempt|limit|effective|"
    r"valid|history|commenc|into|step|proced|instruc|runbook|faq|freq|quest|q|how|\?"
)
"""No heading that says nothing of this can match; most end here."""
_NO_STEPS = re.compile(r"(?:next|first|action) steps.*|.*\b(?:follow|following)\b.*")
_HEADING = re.compile("|".join(rf"(?P<{name}>{pattern})" for name, pattern in _HEADINGS.items()))
_NUMBERING = re.compile(
    r"(?:(?:section|part|appendix|annex|chapter|article) )?(?:\d+(?:\.\d+)*|[a-h]|[ivx]+)[.)] |[\d.]+ "
)
_MARKS = re.compile(r"[*`_~\"“”]+|^\W+|[\s:.,!–—-]+$|\([^()]*\)$")
_LONGEST_HEADING = 120

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATE = (
    r"(?:\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d{2,4}|"
    rf"\d\d?(?:st|nd|rd|th)? {_MONTH},? \d{{4}}|{_MONTH} (?:\d\d?(?:st|nd|rd|th)?,? )?\d{{4}})"
)
_EFFECTIVE = re.compile(
    r"\b(?:(?:effective|valid|in force|in effect|applies|applicable)(?: (?:as of|from|on|since|until|through))?|"
    r"(?:comes?|came|enters?|entered) into (?:force|effect)(?: on)?|(?:takes?|took) effect(?: on| from)?|"
    rf"effective date(?: is)?)[ *:_]{{1,4}}(?:the )?{_DATE}"
)
_DEFINITION = re.compile(
    r"^[\s>*-]*(?:[\"“*`_]{1,3}[^\n\"”*`_]{1,60}[\"”*`_]{1,3}|[a-z][\w/-]*(?: [\w/-]+){0,4}):? (?:\([^()\n]{1,60}\) )?"
    r"(?:means|(?:is|are) defined as|refers to|shall mean|has the meaning)\b",
    re.MULTILINE,
)
_NO_TERM = re.compile(r"[\s>*-]*(?:this|that|it|which|what|these|those|they|there|and|but|so|also|here|if|when)\b")
_DESCRIPTION = re.compile(r"^[ \t]*: \S", re.MULTILINE)
_EXCEPTION = re.compile(
    r"\b(?:(?:does|do|shall|will) not apply|(?:is|are) (?:exempt|excluded)\b|exempt from|with the exception of|"
    r"except (?:for|where|when|if|in|as|that|to)\b)"
)
_QUESTION_LINE = re.compile(r"^[ \t>*_-]*q[:.]", re.MULTILINE)
_ANSWER_LINE = re.compile(r"^[ \t>*_-]*a[:.]", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t>]*\d{1,3}[.)][ \t]+(?:\[[ x]\] )?[\W_]*([a-z]+)?", re.MULTILINE)
_VERBS = """
accept access add adjust allow answer apply approve ask assign attach back be book build call cancel change check
choose clear click clone close collect comment commit communicate compare complete configure confirm connect consider
contact copy create cut decide define delete deploy describe determine disable discuss document download drag draft
edit email enable ensure enter escalate evaluate execute expand explain export file fill find finish fix follow
generate get give go grant hand head identify import include inform insert install investigate invite issue join keep
leave let link list locate log look mail make mark merge monitor move name navigate note notify obtain open paste
pause perform pick ping place plan post prepare press provide publish pull push put read reboot rebuild receive record
refresh register remove rename repeat replace reply report request reset resolve restart restore retrieve return
review revert roll rotate run save scale schedule scroll search select send set share sign skip speak specify start
stop submit switch sync tag take talk tell terminate test toggle track transfer trigger try turn type uninstall unlock
update upgrade upload use validate verify view visit wait watch write
"""
_IMPERATIVES = frozenset(_VERBS.split())
_LEAST_STEPS = 3
_FEW_WORDS, _SOME_WORDS = 40, 120


def classify(heading_path: Sequence[str], text: str, structure: str) -> str:
    """The section type of a chunk: one of `TYPES`, else `structure`, which is what the chunker found."""
    found, is_how_to = _path_type(tuple(heading_path))
    if is_how_to and _step_count(text.lower()) >= 2:
        return "steps"
    if found or structure in ("code", "table"):
        return found or structure
    return _text_type(text.lower()) or structure


@lru_cache(maxsize=8192)
def _path_type(heading_path: tuple[str, ...]) -> tuple[str, bool]:
    """What the headings say, and whether the innermost asks for a list of steps."""
    innermost = _heading_type(heading_path[-1]) if heading_path else ""
    if innermost == _QUESTION:
        return "faq", False
    types = (_heading_type(heading) for heading in reversed(heading_path))
    return next((found for found in types if found in TYPES), ""), innermost == _HOW_TO


@lru_cache(maxsize=8192)
def _heading_type(heading: str) -> str:
    """One of `TYPES`, `_HOW_TO`, `_QUESTION` or nothing."""
    if len(heading) > _LONGEST_HEADING or not _TELLING.search(heading.lower()):
        return ""
    words = " ".join(_MARKS.sub("", heading.lower().replace("’", "'").strip()).replace(" & ", " and ").split())
    words = _MARKS.sub("", _NUMBERING.sub("", words, count=1)).strip()
    found = _HEADING.fullmatch(words)
    if found is None or found.lastgroup is None:
        return ""
    return "" if found.lastgroup == "steps" and _NO_STEPS.fullmatch(words) else found.lastgroup


def _text_type(text: str) -> str:
    """`text` is in lower case. What a type cannot do without is looked for first: most chunks have none of it."""
    if ("q:" in text or "q." in text) and _are_answered(text):
        return "faq"
    if "2. " in text and _step_count(text) >= _LEAST_STEPS:
        return "steps"
    if "\n: " in text and len(_DESCRIPTION.findall(text)) >= 2:
        return "definitions"
    hints = text.count("mean") + text.count("defined as") + text.count("refers to")
    if hints and _are_most(text, hints) and _are_most(text, _definition_count(text)):
        return "definitions"
    if "20" in text and _word_count(text) < _SOME_WORDS and _EFFECTIVE.search(text):
        return "effective_dates"
    hints = text.count("not apply") + text.count(" exc") + text.count("exempt")
    if hints and _are_most(text, hints) and _are_most(text, len(_EXCEPTION.findall(text))):
        return "exceptions"
    return ""


def _are_answered(text: str) -> bool:
    return bool(_QUESTION_LINE.search(text) and _ANSWER_LINE.search(text))


def _are_most(text: str, count: int) -> bool:
    """Whether so many sentences are what most of a text can be."""
    return count * _FEW_WORDS > _word_count(text)


def _word_count(text: str) -> int:
    return text.count(" ") + text.count("\n")


def _definition_count(text: str) -> int:
    return sum(not _NO_TERM.match(hit[0]) for hit in _DEFINITION.finditer(text))


def _step_count(text: str) -> int:
    """How many items a numbered list has, if most of them say what to do."""
    items = _NUMBERED.findall(text)
    return len(items) if sum(word in _IMPERATIVES for word in items) * 3 >= len(items) * 2 else 0
