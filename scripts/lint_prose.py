"""Count words that make text hard to read: ``python scripts/lint_prose.py [--strict] [PATH ...]``.

The text is comments, docstrings and messages of Python files, comments and sentences of YAML and TOML files, and
Markdown. Code, generated tables and everything in backticks are left out, and so is this file, which names the words.
With paths, every hit is printed as ``file:line``.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml"}
MESSAGE_WORDS = 4  # a string literal with fewer words is a name, not a sentence
SMALL_ROOM_HITS = 1  # a room of few words may have one hit, whatever its rate is

# Counted per 1,000 words; the limit is the highest rate that --strict accepts.
COUNTED = {
    "semicolon": (re.compile(r";"), 6.0),
    "who": (re.compile(r"\b(?:who|whom|whoever|nobody|somebody|everybody|anybody)\b", re.I), 0.6),
    "stand": (
        re.compile(
            r"\b(?:stand(?!-)|stands|standing|stood|lie|lies|lying|ask|asks|asked|asking"
            r"|tell|tells|telling|told|say|says|saying|said)\b",
            re.I,
        ),
        0.4,
    ),
}
# Refused by --strict wherever they occur, with what to write instead.
WORST = {
    "nobody, somebody": (re.compile(r"\b(?:nobody|somebody|everybody|whoever)\b", re.I), "name the subject"),
    "stands on": (re.compile(r"\bst(?:ands?|ood|anding) on\b", re.I), "requires, uses, is based on"),
    "the same of": (re.compile(r"\bthe same of\b", re.I), "repeat the definition"),
    "hands out": (re.compile(r"\bhand(?:s|ed|ing)? out\b", re.I), "assigns, returns"),
    "knows nothing of": (re.compile(r"\bknows? nothing\b", re.I), "does not import, does not use"),
    "wants": (re.compile(r"\bwants\b", re.I), "requires, expects"),
    "tokens that ask": (re.compile(r"\b(?:tokens?|that) ask\b", re.I), "query tokens"),
    "so to speak": (re.compile(r"\b(?:so to speak|as it were|of its own accord)\b", re.I), "leave it out"),
}
WORD = re.compile(r"[^\W\d_][\w'’-]*")
CODE = re.compile(r"``.+?``|`[^`\n]*`|\]\([^)]*\)|<!--.*?-->|https?://\S+|&\w+;", re.S)
PRAGMA = re.compile(r"^#\s*(?:noqa|type:|fmt:|!)")


def python_text(source: str, messages: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the comments, the docstrings and, if ``messages``, the sentences in string literals."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not PRAGMA.match(token.string):
            yield token.start[0], token.string.lstrip("# ")
    tree = ast.parse(source)
    docs = [docstring for node in ast.walk(tree) if (docstring := docstring_of(node)) is not None]
    for doc in docs:
        for offset, line in enumerate(doc.value.split("\n")):
            if not line.lstrip().startswith((">>>", "... ")):
                yield doc.lineno + offset, line
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree) if messages else ():
        if isinstance(node, ast.JoinedStr):
            text = " ".join(part.value for part in node.values if isinstance(part, ast.Constant))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside | set(map(id, docs))
        ):
            text = node.value
        else:
            continue
        if len(WORD.findall(text)) >= MESSAGE_WORDS:
            yield node.lineno, text


def docstring_of(node: ast.AST) -> ast.Constant | None:
    """Return the node of a docstring, or None if ``node`` has none."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
        return None
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first.value
    return None


def config_text(source: str, is_yaml: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the comments and, in YAML, of values that are sentences."""
    for number, line in enumerate(source.splitlines(), 1):
        if match := re.search(r"(?:^|\s)#\s?(.*)", line):
            yield number, match[1]
    nodes = list(yaml.compose_all(source)) if is_yaml else []
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.ScalarNode) and len(WORD.findall(node.value)) >= MESSAGE_WORDS:
            yield node.start_mark.line + 1, node.value
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [value for _, value in node.value]


def markdown_text(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) outside of code blocks and generated tables."""
    kept = re.sub(
        r"^```.*?^```|^<!-- generated.*?<!-- end -->", lambda m: "\n" * m[0].count("\n"), source, flags=re.S | re.M
    )
    yield from enumerate(kept.splitlines(), 1)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of everything in one file that is written for a reader."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        found = python_text(source, messages="tests" not in path.relative_to(ROOT).parts)
    elif path.suffix == ".md":
        found = markdown_text(source)
    else:
        found = config_text(source, is_yaml=path.suffix != ".toml")
    for number, text in found:
        yield number, CODE.sub(" ", text)


def files(paths: list[Path]) -> list[Path]:
    """Return the files below ``paths`` (default: the repository) that git tracks or would add."""
    names = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    listed = subprocess.run([*names, *map(str, paths)], capture_output=True, text=True, check=True).stdout
    found = [ROOT / name for name in sorted(set(listed.split("\0"))) if Path(name).suffix in SUFFIXES]
    return [path for path in found if path.is_file() and path != Path(__file__).resolve()]


def room(path: Path) -> str:
    """Return the folder, at most two levels deep, that a file is counted under."""
    return "/".join(path.relative_to(ROOT).parts[:-1][:2]) or "."


def main() -> int:
    """Print the counts of each room. Exit 1 if ``--strict`` finds a rate above its limit or one of the worst words."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strict", action="store_true", help="exit 1 above a limit, or on one of the worst words")
    parser.add_argument("paths", nargs="*", type=lambda text: Path(text).resolve(), help="files or folders")
    arguments = parser.parse_args()
    words: Counter[str] = Counter()
    hits: dict[str, Counter[str]] = defaultdict(Counter)
    worst = []
    for path in files(arguments.paths):
        for number, text in prose(path):
            words[room(path)] += len(WORD.findall(text))
            for name, (pattern, _) in COUNTED.items():
                count = len(pattern.findall(text))
                hits[room(path)][name] += count
                if count and arguments.paths:
                    print(f"{path.relative_to(ROOT)}:{number}: {name}: {' '.join(text.split())}")
            worst += [
                f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: write: {instead}"
                for pattern, instead in WORST.values()
                for match in pattern.finditer(text)
            ]
    failed = print_table(words, hits)
    print(f"{len(worst)} of the worst words", *(worst if arguments.strict or arguments.paths else ()), sep="\n")
    return 1 if arguments.strict and (failed or worst) else 0


def print_table(words: Counter[str], hits: dict[str, Counter[str]]) -> bool:
    """Print the rate per 1,000 words of each room and of all; return whether one is above its limit."""
    print(
        f"{'per 1,000 words':28} {'words':>7}  "
        + "  ".join(f"{f'{n} <= {limit}':>16}" for n, (_, limit) in COUNTED.items())
    )
    hits["all"] = sum(hits.values(), Counter())
    failed = False
    for name, count in [*sorted(words.items()), ("all", words.total())]:
        cells = []
        for kind, (_, limit) in COUNTED.items():
            found = hits[name][kind]
            above = found > limit * count / 1000 and (name == "all" or found > SMALL_ROOM_HITS)
            failed |= above
            cells.append(f"{1000 * found / max(count, 1):>15.1f}{'!' if above else ' '}")
        print(f"{name:28} {count:>7,}  " + "  ".join(cells))
    return failed


if __name__ == "__main__":
    sys.exit(main())
