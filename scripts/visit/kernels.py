"""What the kernels can do beyond a plain decode step: checked in parallel processes, then timed by splits and merges.

The checks are those of ``tests/kernels``, with the lengths of a GPU.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.cli.exits import EXIT_OK, EXIT_VISIT_INCOMPLETE
from bench.rows.json_file import write_json
from bench.rows.result import Answer
from scripts.visit.cases import Shape, draw, make_cache
from scripts.visit.check import Report
from scripts.visit.pool import Pool

LARGEST_LSE_ERROR = 2e-3
SPLIT: Mapping[str, object] = {"num_splits": 6}
OVERLAP: Mapping[str, object] = {"merge": "overlap"}
ROUNDS = 25

DECODES: Mapping[str, Mapping[str, Any]] = {
    "whole": {"options": {"num_splits": 1}},
    "chosen splits": {},
    "split": {"options": SPLIT},
    "overlapping merge": {"options": {**SPLIT, **OVERLAP}},
    "sinks and ALiBi, split": {"options": SPLIT, "extras": ("sinks", "slopes")},
    "sinks and ALiBi, whole": {"options": {"num_splits": 1}, "extras": ("sinks", "slopes")},
    "window": {"options": SPLIT, "semantics": {"sliding_window": 130}},
    "soft cap": {"semantics": {"soft_cap": 30.0}},
    "one query head": {"heads": (2, 2), "options": SPLIT},
    "group of 64": {"heads": (64, 1), "options": SPLIT},
    "regions": {"paged": False, "options": SPLIT},
    "pages of 64": {"page_size": 64, "options": SPLIT},
    "pages of 1, HND": {"page_size": 1, "options": {**SPLIT, "kv_layout": "HND"}},
    "1 warp": {"options": {"block_tokens": 32, "num_warps": 1, "num_stages": 4}},
    "2 warps": {"options": {"block_tokens": 64, "num_warps": 2}},
    "128 tokens": {"options": {"block_tokens": 128, "num_stages": 2}},
}
"""Decode steps with their log-sum-exp, by name: what differs from a plain one."""
PREFILLS = ("padding", "sinks and ALiBi", "tree", "cascade", "cascade with padding")
TIMED: tuple[Shape, ...] = (
    Shape(name="1 x 8192", lens=(8192,)),
    Shape(name="4 x 8192", lens=(8192,) * 4),
    Shape(name="16 x 8192", lens=(8192,) * 16),
    Shape(name="32 x 1024", lens=(1024,) * 32),
    Shape(name="32 x 8192", lens=(8192,) * 32),
    Shape(name="50 x 4096", lens=(4096,) * 50),
    Shape(name="1 x 131072 + 255 x 512", lens=(131072, *([512] * 255))),
)
SETS: tuple[Mapping[str, object], ...] = ({}, {"num_splits": 1}, {"num_splits": 2}, {"num_splits": 16},
                                          {"num_splits": 16, **OVERLAP})  # fmt: skip


def check_decode(argument: Mapping[str, Any]) -> Answer:
    """Compare one decode step and its log-sum-exp with the reference.

    Args:
        argument: ``name``, one of ``DECODES``, and ``small``: short lengths, no merge that overlaps.
    """
    cases = importlib.import_module("tests.kernels.attention_case")
    changes, small = dict(DECODES[argument["name"]]), argument["small"]
    if small:
        options = {name: value for name, value in changes.get("options", {}).items() if name != "merge"}
        changes["options"] = options
    plain = {"seq_lens": (1, 200 if small else 8000, 40, 77), "heads": (8, 2), "head_dim": 64 if small else 128,
             "dtype": "float16"}  # fmt: skip
    outcome, lse_error, repeats = cases.attend_with_lse(cases.Case(**{**plain, **changes}))
    good = outcome.error <= outcome.allowed and lse_error < LARGEST_LSE_ERROR and repeats
    return Answer(values={"good": bool(good), "max_rel_error": float(outcome.error),
                          "allowed_rel_error": float(outcome.allowed), "lse_error": float(lse_error)})  # fmt: skip


def check_prefill(argument: Mapping[str, Any]) -> Answer:
    """Check one prefill step.

    Args:
        argument: ``name``, one of ``PREFILLS``, and ``small``: short lengths.
    """
    case = importlib.import_module("tests.kernels.attention_case").Case
    steps = importlib.import_module("tests.kernels.prefill_case")
    name, small = argument["name"], argument["small"]
    plain: dict[str, Any] = {"heads": (8, 2), "head_dim": 64 if small else 128, "dtype": "float16"}
    shared = 64 if small else 2560
    lens = (shared, shared, shared + 1, shared + 130, shared + 26)
    if name == "padding":
        return Answer(values={"good": bool(steps.prefill_padding(case(seq_lens=(20, 5, 40), **plain)))})
    calls = {
        "sinks and ALiBi": lambda: steps.prefill(case(seq_lens=(1, 37, 70), extras=("sinks", "slopes"), **plain),
                                                 (1, 5, 33)),
        "tree": lambda: steps.prefill_tree(case(seq_lens=(7, 90, 33), extras=("sinks",), **plain), (7, 21, 1)),
        "cascade": lambda: steps.cascade(case(seq_lens=lens, page_size=16, extras=("sinks",), **plain), shared),
        "cascade with padding": lambda: steps.cascade(case(seq_lens=(32, 40, 33, 90), page_size=16, **plain), 32, (1,)),
    }  # fmt: skip
    error, allowed, *others = calls[name]()
    good = error <= allowed
    if name == "tree":  # without the tree's mask the error is larger than what is allowed
        good = good and allowed < others[0]
    elif name == "cascade":
        good = good and others[0] < LARGEST_LSE_ERROR
    return Answer(values={"good": bool(good), "max_rel_error": float(error), "allowed_rel_error": float(allowed)})


def compile_timing(argument: Mapping[str, Any]) -> Answer:
    """Compile and run what one timing will launch, all option sets of a batch.

    Args:
        argument: ``batch``, an index of ``TIMED``, and ``device``.
    """
    for options in SETS:
        step(TIMED[argument["batch"]], options, argument["device"])[0]()
    return Answer()


def step(shape: Shape, options: Mapping[str, object], device: str) -> tuple[Any, Any, Any]:
    """Return a call that decodes one batch, its cache and its metadata. Without options the cache is tuned."""
    cache = make_cache(replace(shape, options=options), "paged_triton", device)
    for tensor in cache.tensors:
        tensor.normal_()
    query, _, _ = draw(replace(shape, lens=(1,) * len(shape.lens)), device)
    batch = cache.prepare(range(len(shape.lens)))
    if not options:
        cache.tune(query, batch)
    return (lambda: cache.decode(0, query, batch)), cache, batch


def time_step(shape: Shape, options: Mapping[str, object], device: str) -> dict[str, Any]:
    """Return the times of one batch in µs, by graph replays with a flushed L2 cache, and that of ``prepare``."""
    from impls.launch.timing import GraphTimer

    where = torch.device(device)
    began = time.monotonic()
    call, cache, batch = step(shape, options, device)
    made_s = time.monotonic() - began
    call()
    timer = GraphTimer(where)
    times_us = sorted(1e6 * timer(call, where) for _ in range(ROUNDS))
    began = time.monotonic()
    for _ in range(5):
        cache.prepare(range(len(shape.lens)))
    prepare_us = (time.monotonic() - began) / 5 * 1e6
    median_us = times_us[ROUNDS // 2]
    kv_bytes = sum(shape.lens) * shape.model.token_bytes_per_layer
    return {"us": median_us, "us_min": times_us[0], "gbps": kv_bytes / median_us / 1000, "prepare_us": prepare_us,
            "made_s": made_s, "num_splits": batch.plan.num_splits, "programs": batch.plan.num_programs,
            "choice": cache.details().get("kernel_choice")}  # fmt: skip


def time_all(device: str, deadline: float, save: Any) -> None:
    """Time every batch with every option set. What fails is a result, too."""
    results: list[dict[str, Any]] = []
    for shape, options in itertools.product(TIMED, SETS):
        if options == {"num_splits": 1} and len(set(shape.lens)) > 1:
            continue  # the longest sequence alone would take the whole time
        if time.monotonic() > deadline:
            print("no time was left for the other timings", flush=True)
            return
        try:
            found = time_step(shape, options, device)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        results.append({"batch": shape.name, "options": dict(options), **found})
        shown = found.get("error") or f"{found['us']:.1f} us, {found['gbps']:.0f} GB/s"
        print(f"{shape.name} {dict(options)}: {shown}", flush=True)
        save(results)


def main() -> int:
    """Write checks.json and timings.json. Exit 0 if every check is right, 4 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of checks.json and timings.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=70.0)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.budget_s
    report = Report(arguments.out / "checks.json")
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(2 if arguments.small else 12, Path(folder), time.monotonic() + 0.6 * arguments.budget_s)
        for name in list(DECODES)[: 2 if arguments.small else None]:
            argument = {"name": name, "small": arguments.small}
            pool.submit(f"decode {name}", "scripts.visit.kernels:check_decode", argument, report.checked)
        for name in PREFILLS[: 1 if arguments.small else None]:
            argument = {"name": name, "small": arguments.small}
            pool.submit(f"prefill {name}", "scripts.visit.kernels:check_prefill", argument, report.checked)
        if arguments.device == "cuda":
            for index in range(len(TIMED)):
                argument = {"batch": index, "device": arguments.device}
                pool.submit(f"timing {index}", "scripts.visit.kernels:compile_timing", argument, report.warmed)
        pool.join()
        for log in sorted(Path(folder).glob("*.log")):
            if text := log.read_text(errors="replace").strip():
                print(f"--- {log.name}\n{text[-4000:]}", flush=True)
    if arguments.device == "cuda":
        path = arguments.out / "timings.json"
        time_all(arguments.device, deadline, lambda results: write_json(path, {"timings": results}))
    print(f"wrong: {json.dumps(report.bad)}", flush=True)
    return EXIT_VISIT_INCOMPLETE if report.bad else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
