"""Make strings from files harmless in each output format. Rows can come from another person.

A string can contain commands for a terminal, tags of HTML, marks of Markdown, or a formula for a spreadsheet.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_MARKDOWN = re.compile(r"([\\`*|\[\]#])")
_FORMULA = re.compile(r"^[\s]*[=+\-@\t\r]")


def for_terminal(text: str) -> str:
    r"""Return a text in which control characters are visible and have no effect. Line ends are kept.

    Characters that change the direction of writing are made visible, too.

    >>> print(for_terminal("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    return character.encode("unicode_escape").decode("ascii")


def for_markdown(text: str) -> str:
    r"""Return a text for one line of Markdown: no tag, table cell, heading, link, code or mention begins in it.

    >>> print(for_markdown("a|b <img src=x> @all"))
    a\|b &lt;img src=x&gt; &#64;all
    """
    line = for_terminal(text.replace("\r", " ").replace("\n", " "))
    escaped = _MARKDOWN.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return escaped.replace("@", "&#64;")


def for_spreadsheet(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which no text begins like a formula. An apostrophe is put in front of such a text."""
    texts = [
        name for name in table.columns if table[name].dtype == "object" or str(table[name].dtype).startswith("str")
    ]
    return table.assign(**{name: table[name].map(_no_formula, na_action="ignore") for name in texts})


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
