"""A page's main content as Markdown."""

from __future__ import annotations

import pydoc
import textwrap

import pytest

from livedex.adapters.chunkers.markdown import MarkdownChunker
from livedex.adapters.parsers.html import HtmlParser
from livedex.errors import DocumentError
from livedex.ports import Parser

PARSER: Parser = HtmlParser()


def markdown(page: str) -> str:
    return PARSER.parse(page).removesuffix("\n")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<h1>A</h1><p>b</p><h3>C</h3>d", "# A\n\nb\n\n### C\n\nd"),
        ("<p>one\n  two <b>bold</b>&nbsp;x &amp; y</p>", "one two bold x & y"),
        ("<p>a<br>b</p>", "a\nb"),
        ("<ul><li>a<li>b <ul><li>c</ul><li>d</ul>", "- a\n- b\n  - c\n- d"),
        ("<ol start=9><li>a<li><p>b</p><p>c</p></ol>", "9. a\n10. b\n\n    c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<dl><dt>Term</dt><dd>Means this.</dd><dt>Other</dt><dd>That.</dd></dl>",
         "Term\n: Means this.\n\nOther\n: That."),
        ("<pre><code class='language-py'>if x:\n    y\n</code></pre>", "```py\nif x:\n    y\n```"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````"),
        ("<p>run <code>a  `b</code></p>", "run ``a `b``"),
        ("<p><a href='/x y(1)'> to it </a>now</p>", "[to it](/x%20y%281%29) now"),
        ("<p><a href='javascript:x()'>a</a> <a>b</a> <a href='/c'></a></p>", "a b"),
        ("<a href='/card'><h2>Title</h2><p>more</p></a>", "## [Title](/card)\n\nmore"),
        ("<h2>Title <a class=headerlink href='#title'>¶</a></h2>", "## Title"),
        ("<p>see <img src=x.png alt='the diagram'></p>", "see the diagram"),
        ("<p>10<sup>2</sup> m</p>", "10^2 m"),
        ("<p><del>old</del> new</p>", "~~old~~ new"),
        ("<p>a</p><hr><p>b</p>", "a\n\n***\n\nb"),
        ("<p># a</p><p>1. b</p><p>- c</p>", "\\# a\n\n1\\. b\n\n\\- c"),
        ("<p>---</p><p>&lt;div> d</p>", "\\---\n\n\\<div> d"),
        ("<h2>The &lt;div> of *args</h2>", r"## The \<div> of \*args"),
        ("no tags at all", "no tags at all"),
    ],
)  # fmt: skip
def test_what_says_something_is_kept(page: str, text: str) -> None:
    assert markdown(page) == text


@pytest.mark.parametrize(
    "noise",
    [
        "<nav>x</nav>",
        "<header><h1>x</h1></header>",
        "<footer>x</footer>",
        "<aside>x</aside>",
        "<script>x</script>",
        "<style>x</style>",
        "<template>x</template>",
        "<form>x<button>y</button></form>",
        "<noscript>x</noscript>",
        "<svg><title>x</title></svg>",
        "<!-- x -->",
        "<p hidden>x</p>",
        "<p style='color: red; display: none'>x</p>",
        "<p aria-hidden=true>x</p>",
        "<div role=navigation>x</div>",
        "<select><option>x</select>",
    ],
)
def test_what_stands_around_the_text_is_left_out_and_what_follows_is_not(noise: str) -> None:
    assert markdown(f"<body>before{noise}after</body>").split() in (["before", "after"], ["beforeafter"])


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>a</p><main><p>b</p></main>c", "b"),
        ("<p>a</p><div role=main>b</div>", "b"),
        ("a<article>b<article>c</article></article>d<article>e</article>", "b\n\nc\n\ne"),
        ("<main><header><h1>T</h1><p>by me</p></header><p>b</p></main>", "# T\n\nb"),
        ("<main> </main><p>a</p>", "a"),
        ("<form><p>the page is a form</p><input></form>", "the page is a form"),
    ],
)
def test_the_main_content_is_taken_and_where_there_is_none_the_body(page: str, text: str) -> None:
    assert markdown(page) == text


def test_a_table_keeps_every_cell_under_its_headers() -> None:
    page = """<table><caption>Fees</caption>
      <thead><tr><th rowspan=2>Country<th colspan=2>Fee<tr><th>low<th>high</thead>
      <tr><th rowspan=2>DE<td>1|2<td>3<tr><td colspan=2>none<ul><li>a<li>b</ul></table>"""
    assert markdown(page) == textwrap.dedent("""\
        Fees

        | Country | Fee / low | Fee / high |
        | --- | --- | --- |
        | DE | 1\\|2 | 3 |
        | DE | none; a; b | none; a; b |""")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<table><tr><td>a<td>b<tr><td>c<td>d</table>", "|  |  |\n| --- | --- |\n| a | b |\n| c | d |"),
        ("<table><tr><td>a<tr><td>b</table>", "a\n\nb"),
        ("<table role=presentation><tr><td>a<td>b</table>", "a\n\nb"),
        ("<table><tr><td><h2>A</h2>b<td>c</table>", "## A\n\nb\n\nc"),
        ("<table><tr><td><table><tr><th>a<th>b<tr><td>1<td>2</table></table>", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
        ("<table><tr></table>x", "x"),
    ],
)
def test_a_table_without_headers_or_for_layout_only_is_read_as_what_it_is(page: str, text: str) -> None:
    assert markdown(page) == text


@pytest.mark.parametrize(
    "page",
    ["", " ", "<html></html>", "<!-- only -->", "<script>x</script>", "\ufeff", "<p>&nbsp;</p>", "<!--" * 9, "<"[:0]],
)
def test_a_page_without_text_is_empty(page: str) -> None:
    assert PARSER.parse(page) == ""


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>a\0b", "a\ufffdb"),
        ("<p>half \ud800 pair", "half ? pair"),
        ("<p>👩\u200d👧 مرحبا 東京", "👩\u200d👧 مرحبا 東京"),
        ("<b><p>a</b>b<i>c", "abc"),
        ("<ul><li>a</ul></div></p>b", "- a\n\nb"),
        ("<p>&bogus; &#xD800; &eacute;", "&bogus; \ufffd é"),
        (
            "<?xml version='1.0' encoding='latin-1'?><html xmlns='http://www.w3.org/1999/xhtml'><p>é<br/>x</p></html>",
            "é\nx",
        ),
    ],
)
def test_broken_pages_are_read_as_far_as_they_go(page: str, text: str) -> None:
    assert markdown(page) == text


@pytest.mark.parametrize(
    "tag", ["div", "b", "ul><li", "blockquote", "table><tr><td", "dl><dd", "a href=x", "span", "pre"]
)
def test_ten_thousand_nested_elements_lose_nothing(tag: str) -> None:
    count = 10_000 // (tag.count("><") + 1)
    assert PARSER.parse(f"<{tag}>" * count + "innermost").count("innermost") == 1


def test_what_no_browser_would_show_is_refused_with_the_reason() -> None:
    with pytest.raises(DocumentError, match="16,384 levels"):
        PARSER.parse("<div>" * 100_000)


@pytest.mark.parametrize(
    "piece",
    [
        "<", "<a ", "<!--", "<p a='", "&", "<b>x</b>", "</div>", "<p>x", "<td>x",
        "<tr><td colspan=999 rowspan=65000>" + "x" * 99, "<li>x", "<table><tr><td>x</table>", "<code>`</code>",
        "<sup>1</sup>", "<del>x</del>", "<br>", "<h2>x</h2>",
    ],
)  # fmt: skip
def test_text_grows_no_faster_than_the_page(piece: str) -> None:
    few, many = (len(PARSER.parse("<table>" * ("<tr" in piece[:3]) + piece * count)) for count in (500, 5_000))
    assert many <= 11 * few + 20_000


def test_chunks_of_a_page_stand_in_its_text_under_its_headings() -> None:
    text = PARSER.parse(
        "<main><h1>Refunds</h1><h2>Scope &amp; <em>time</em></h2><p>" + "Thirty days. " * 90 + "</main>"
    )
    chunks = MarkdownChunker().chunk(text, "")
    assert {chunk.heading_path for chunk in chunks} == {("Refunds", "Scope & time")}
    assert [text[chunk.start : chunk.end] for chunk in chunks] == [chunk.text for chunk in chunks]


def test_a_real_page_keeps_its_headings_and_signatures() -> None:
    page = pydoc.html.page("textwrap", pydoc.html.document(textwrap, "textwrap"))
    text = PARSER.parse(page)
    assert [line in text for line in ("TextWrapper", "fill(text, width=70, **kwargs)", "&nbsp;")] == [True, True, False]
