"""The prose lint reads what is written for a reader, and nothing else."""

from __future__ import annotations

from scripts.lint_prose import CODE, COUNTED, WORST, config_text, markdown_text, python_text

PYTHON = '''"""A module; it says what it does."""
# noqa: X123; not prose
x = 1; y = 2  # a comment; with one semicolon
JOIN = "; "


def f():
    """Return nothing.

    >>> print("a; b")
    """
    raise ValueError(f"page_size={x} must be at least 1; nobody asked for {y}")
'''


def hits(kind: str, text: str) -> int:
    return len(COUNTED[kind][0].findall(CODE.sub(" ", text)))


def test_python_gives_comments_docstrings_and_messages_without_code() -> None:
    text = "\n".join(line for _, line in python_text(PYTHON, messages=True))
    assert (hits("semicolon", text), hits("who", text), hits("stand", text)) == (3, 1, 2)
    assert "print" not in text
    assert "noqa" not in text


def test_messages_of_tests_are_left_out() -> None:
    assert "nobody" not in "\n".join(line for _, line in python_text(PYTHON, messages=False))


def test_markdown_leaves_out_code_and_generated_tables() -> None:
    text = "one; `two; three`\n```sh\nfour; five\n```\n<!-- generated: x -->\nsix;\n<!-- end -->\nseven"
    assert hits("semicolon", "\n".join(line for _, line in markdown_text(text))) == 1
    assert [number for number, line in markdown_text(text) if line == "seven"] == [8]


def test_yaml_gives_comments_and_sentences_but_no_names() -> None:
    text = "a: 1 # one; two\nb: b;c\nc: a sentence; of some words\n"
    assert [number for number, line in config_text(text, is_yaml=True) if ";" in line] == [1, 3]


def test_whole_words_with_their_inflections_are_counted() -> None:
    assert hits("stand", "It stands, lay, lied, asked and told; it said so while standing.") == 5
    assert hits("stand", "a stand-in, an outstanding task, a teller, an essay") == 0
    assert hits("who", "whose rows") == 0


def test_every_worst_word_has_its_pattern() -> None:
    sample = (
        "Nobody wants the same of what stands on pages and hands out tokens that ask. It knows nothing, so to speak."
    )
    assert all(pattern.search(sample) for pattern, _ in WORST.values())
