"""The documents are true: generated parts are fresh, and the README's commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.config import Config
from scripts.update_docs import GENERATED, regenerated

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
RUN_CONTROL = ("measure=quick", "num_seqs=2", "model.max_seq_len=2048")


@pytest.mark.parametrize("path", GENERATED, ids=str)
def test_generated_parts_are_fresh(path: Path) -> None:
    assert regenerated(path) == (ROOT / path).read_text(), "run: python scripts/update_docs.py"


def commands() -> list[str]:
    marked = re.search(r"<!-- commands: run by tests/test_docs.py -->\n```sh\n(.*?)```", README, re.S)
    assert marked
    return marked[1].strip().splitlines()


def smallest(command: str, out: Path) -> list[str]:
    """The same command, each sweep cut to one point of each kind so that it takes seconds."""
    words = shlex.split(command)
    if "-m" not in words:
        return words
    kept = [word for word in words if not word.startswith(("run_dir=", "num_seqs="))]
    kept = [re.sub(r"^(page_size|memory_budget|seed)=([^,]+),.*", r"\1=\2", word) for word in kept]
    narrowed = [] if any(word.startswith("impl=") for word in kept) else ["impl=paged_torch"]
    layout = ["page_layout=aged", "page_size=4"] if "experiment=page_layout" in kept else []
    return [*kept, *narrowed, *layout, *RUN_CONTROL, f"run_dir={out}"]


@pytest.mark.parametrize("command", commands())
def test_the_readmes_commands_run(command: str, tmp_path: Path) -> None:
    words = smallest(command, tmp_path / "run")
    assert words[0] == "python"
    if "results/runs/latest" in words and not (ROOT / "results" / "runs" / "latest").exists():
        subprocess.run([sys.executable, "bench/run.py", "-m", "impl=contiguous", *RUN_CONTROL], cwd=ROOT, check=True)
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for document in (p for p in ROOT.rglob("*.md") if ".venv" not in p.parts and "runs" not in p.parts):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


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
