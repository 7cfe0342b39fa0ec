"""conf/workload/: every option states the dataclass's own fields and defaults, and the command that runs it."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest
import yaml

from bench.config import QuantileWorkload, TraceWorkload, Workload

CONF = Path(__file__).parents[2] / "conf" / "workload"
MEMBERS = {
    name: member
    for member in typing.get_args(Workload)
    for name in typing.get_args(typing.get_type_hints(member)["name"])
}


def test_there_is_one_file_for_each_workload() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_option_has_the_fields_of_its_dataclass(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    assert text.startswith(f"# python bench/run.py -m workload={name}")
    values = yaml.safe_load(text)
    fields = {field.name: field.default for field in dataclasses.fields(MEMBERS[name])}
    if MEMBERS[name] is QuantileWorkload:  # its options are its values. It has no defaults
        fields = dict.fromkeys(fields) | {key: value for key, value in values.items() if key in fields}
    assert list(values.items()) == list(fields.items())


def test_a_trace_must_be_named() -> None:
    with pytest.raises(ValueError, match=r"workload.path is empty. Set it to a trace file"):
        TraceWorkload()
