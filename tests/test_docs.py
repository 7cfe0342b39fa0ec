"""The documents are true: generated parts are fresh, and the README's commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.cli import exits
from bench.config import Config
from scripts import make_figures
from scripts.update_docs import GENERATED, regenerated
from tests.conftest import ROOT, Run
from tests.support.commands import script_in_process

README = (ROOT / "README.md").read_text()
RUN_CONTROL = ("measure=quick", "num_seqs=2", "model.max_seq_len=2048", "measure.weigh=false")


@pytest.mark.parametrize("path", GENERATED, ids=str)
def test_generated_parts_are_fresh(path: Path) -> None:
    assert regenerated(path) == (ROOT / path).read_text(), "run: python scripts/update_docs.py"


def commands() -> list[str]:
    marked = re.search(r"<!-- commands: run by tests/test_docs.py -->\n```sh\n(.*?)```", README, re.S)
    assert marked
    return marked[1].strip().splitlines()


def smallest(command: str, out: Path) -> list[str]:
    """Return the same command with each sweep cut to one point of each kind, so that it takes seconds."""
    words = shlex.split(command)
    if "-m" not in words:
        return words
    kept = [word for word in words if not word.startswith(("run_dir=", "num_seqs="))]
    kept = [re.sub(r"^(page_size|memory_budget|seed)=([^,]+),.*", r"\1=\2", word) for word in kept]
    kept = [re.sub(r"^replicates=\d+$", "replicates=2", word) for word in kept]
    narrowed = [] if any(word.startswith("impl=") for word in kept) else ["impl=paged_torch"]
    layout = ["page_layout=aged", "page_size=4"] if "experiment=page_layout" in kept else []
    return [*kept, *narrowed, *layout, *RUN_CONTROL, f"run_dir={out}"]


@pytest.fixture(scope="module")
def first_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the README's first command in a process of its own, with the figures that it draws."""
    run_dir = tmp_path_factory.mktemp("readme") / "run"
    words = smallest(commands()[0], run_dir)
    assert words[:2] == ["python", "bench/run.py"]
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return run_dir


def test_the_first_command_of_the_readme_draws_its_figures(first_sweep: Path) -> None:
    assert list((first_sweep / "figures").glob("*.png"))


@pytest.mark.parametrize("command", commands()[1:])
def test_the_commands_of_the_readme_run(bench: Run, first_sweep: Path, tmp_path: Path, command: str) -> None:
    """In this process. ``results/runs/latest`` is replaced by the run of the first command."""
    python, script, *words = smallest(command, tmp_path / "run")
    assert python == "python"
    if script == "bench/run.py":
        done = bench(*words, *(["draw=false"] if "-m" in words else []))
    else:
        assert script == "scripts/make_figures.py"
        words = [word.replace("results/runs/latest", str(first_sweep)) for word in words]
        done = script_in_process(make_figures, *words)
    assert done.returncode == 0, done.stderr


DOCUMENTS = [path for path in ROOT.rglob("*.md") if not {".venv", ".venv-ray", "runs"} & set(path.parts)]
NAMED_PATH = re.compile(r"(?<![\w/.~-])((?:bench|impls|conf|scripts|tests|docs)/[\w./-]*\w/?)")
PLACEHOLDERS = {"bench/YOUR_ROOM"}


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_have_targets(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", document.read_text()):
        file = document.parent / target if target else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_that_documents_name_exist(document: Path) -> None:
    if document.name == "CHANGELOG.md":
        return  # it names files of its time
    named = set(NAMED_PATH.findall(document.read_text())) - PLACEHOLDERS
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_lists_every_exit_code() -> None:
    codes = {value for name, value in vars(exits).items() if name.startswith("EXIT_")}
    assert codes == {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("*.md")} - {"README.md"}


def test_conf_readme_names_every_root_scalar_and_option() -> None:
    text = (ROOT / "conf" / "README.md").read_text()
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"}
    scalars = set(Config.__dataclass_fields__) - groups - {"job"}
    assert {name for name in scalars | groups if f"`{name}" not in text} == set()
    for group in groups - {"experiment", "scenario"}:
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert re.search(rf"[`, ]{path.stem}[`,]", text), path


def test_citation_and_version_agree() -> None:
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    released = yaml.safe_load((ROOT / "CITATION.cff").read_text())["date-released"]
    assert f"## [{version}] - {released}" in (ROOT / "CHANGELOG.md").read_text()
