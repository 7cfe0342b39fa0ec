"""Correctness of both Triton arms, and the kernels of the sweeps compiled beforehand, in parallel processes.

Nothing is timed here, so one device serves many processes at once. Each shape has a process of its
own: a crash or a hang costs that shape only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.cli.exits import EXIT_OK, EXIT_VISIT_INCOMPLETE
from bench.rows.json_file import write_json
from bench.rows.result import Answer
from impls.interface import KVCache, QuantisedKVCache
from impls.reference import allowed_error, decode_attention, max_rel_error, prefill_attention
from scripts.visit.cases import ARMS, SHAPES, SMALL_SHAPES, Shape, draw, make_cache, write
from scripts.visit.pool import Pool, Then


def shape_of(content: Mapping[str, Any]) -> Shape:
    """A shape from JSON."""
    lists = {name: tuple(content[name]) for name in ("lens", "heads")}
    num_queries = content["num_queries"]
    return Shape(**{**content, **lists, "num_queries": None if num_queries is None else tuple(num_queries)})


def check_shape(argument: Mapping[str, Any]) -> Answer:
    """Compare one shape on one arm with the reference.

    Args:
        argument: ``shape``, ``arm``, ``device``.
    """
    shape, device = shape_of(argument["shape"]), str(argument["device"])
    cache = make_cache(shape, argument["arm"], device)
    query, keys, values = draw(shape, device)
    _poison(cache)
    keys, values, written = _stored(cache, shape, keys, values)
    write(cache, *written)
    masking: dict[str, Any] = {
        "window": shape.semantics.get("sliding_window"),
        "soft_cap": shape.semantics.get("soft_cap"),
    }
    if shape.num_queries is None:
        found = _decode(cache, shape, query)
        queries: Any = query
        reference = decode_attention(query, keys, values, **masking)
    else:
        batch = cache.prepare_prefill(range(len(shape.lens)), shape.num_queries)  # type: ignore[attr-defined]
        cache.tune_prefill(query, batch)  # type: ignore[attr-defined]
        found = {"first": cache.prefill(0, query, batch)}  # type: ignore[attr-defined]
        queries = list(query.split(list(shape.num_queries)))
        reference = prefill_attention(queries, keys, values, **masking)
    allowed = allowed_error(queries, keys, values, reference, **masking)
    errors = {name: max_rel_error(out, reference) for name, out in found.items()}
    worst = max(errors.values(), key=lambda error: error if error == error else float("inf"))
    good = all(error <= allowed for error in errors.values())
    return Answer(values={"good": good, "max_rel_error": _finite(worst), "allowed_rel_error": allowed,
                          "errors": {name: _finite(error) for name, error in errors.items()},
                          "details": dict(cache.details())})  # fmt: skip


def _poison(cache: KVCache) -> None:
    """Fill the cache with NaN: what no sequence owns must not be read."""
    for tensor in cache.tensors:
        if tensor.element_size() == 1:
            tensor.view(torch.uint8).fill_(0x7F)  # NaN of float8_e4m3fn
        else:
            tensor.fill_(float("nan"))


def _decode(cache: KVCache, shape: Shape, query: torch.Tensor) -> dict[str, torch.Tensor]:
    """One decode step called twice, and from a CUDA graph where there is one."""
    batch = cache.prepare(range(len(shape.lens)))
    cache.tune(query, batch)
    found = {"first": cache.decode(0, query, batch).clone(), "again": cache.decode(0, query, batch).clone()}
    if query.device.type == "cuda":
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = cache.decode(0, query, batch)
        out.zero_()
        graph.replay()
        torch.cuda.synchronize()
        found["graph"] = out.clone()
    return found


def _stored(cache: KVCache, shape: Shape, keys: Any, values: Any) -> tuple[Any, Any, Any]:
    """K and V as the cache gives them back, and as they are written."""
    if "kv_dtype" not in shape.semantics:
        return keys, values, (keys, values)
    assert isinstance(cache, QuantisedKVCache)
    from bench.scenarios.tensors.filled import _rounded, _scales

    dtype = getattr(torch, shape.semantics["kv_dtype"])
    scales = [_scales(rows, dtype) for rows in (keys, values)]
    cache.set_scales(0, *scales)
    held = [[_rounded(one, scale, dtype) for one in rows] for rows, scale in zip((keys, values), scales, strict=True)]
    return held[0], held[1], (keys, values)


def _finite(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)


def compile_point(argument: Mapping[str, Any]) -> Answer:
    """Compile what one point of a sweep will launch. Its tiles are timed into a cache that is thrown away.

    Args:
        argument: ``config`` of the point.
    """
    from bench.config import build
    from bench.scenarios import filling
    from bench.scenarios.tensors import filled as tensors

    config = build(argument["config"])
    filled = filling.fill(config, *filling.draw(config))
    cache = tensors.make_cache(config, filled.policy, num_layers=1)
    batch = cache.prepare(range(len(filled.seq_lens)))
    dtype, model = getattr(torch, config.model.dtype), config.model
    rows = len(filled.seq_lens)
    query = torch.zeros((rows, model.num_query_heads, model.head_dim), dtype=dtype, device=config.device)
    newest = torch.zeros((rows, model.num_kv_heads, model.head_dim), dtype=dtype, device=config.device)
    cache.write(0, batch.slot_mapping, newest, newest)
    cache.tune(query, batch)
    cache.decode(0, query, batch)
    return Answer(values={"details": dict(cache.details())})


class Report:
    """Notes and prints what becomes of each shape and of each compilation.

    Args:
        path: of ``check.json``, written anew after each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, dict[str, Any]] = {}
        self.compiled: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    @property
    def bad(self) -> list[str]:
        """Shapes that are not right."""
        return [name for name, result in self.shapes.items() if result["status"] != "ok"]

    def checked(self, name: str, answer: Answer, seconds: float) -> None:
        """A shape was compared, or could not be."""
        values = answer.values
        good = answer.status == "ok" and bool(values.get("good"))
        status = answer.status if answer.status != "ok" or good else "incorrect"
        error = f"error {values.get('max_rel_error')} (allowed {values.get('allowed_rel_error')})"
        print(f"{'OK ' if good else 'BAD'} {name}: {answer.status_reason or error} in {seconds:.1f} s", flush=True)
        with self._lock:
            self.shapes[name] = {"status": status, "reason": answer.status_reason, "seconds": seconds, **values}
            self.save()

    def warmed(self, name: str, answer: Answer, seconds: float) -> None:
        """A point was compiled, or could not be."""
        if answer.status != "ok":
            print(f"compile {name}: {answer.status}: {answer.status_reason}", flush=True)
        with self._lock:
            self.compiled[name] = {"status": answer.status, "reason": answer.status_reason, "seconds": seconds}
            self.save()

    def save(self) -> None:
        """Write ``check.json``."""
        write_json(self.path, {"shapes": self.shapes, "compiled": self.compiled})


def submit_shapes(pool: Pool, device: str, then: Then, *, small: bool) -> None:
    """Queue every shape on every implementation that has its options."""
    for shape in SMALL_SHAPES if small else SHAPES:
        for arm in ARMS:
            if arm == "triton_contiguous" and (shape.page_size != 16 or shape.options):
                continue  # it has no pages
            argument = {"shape": asdict(shape), "arm": arm, "device": device}
            pool.submit(f"{shape.name} {arm}", "scripts.visit.check:check_shape", argument, then)


def submit_compilations(pool: Pool, requests: Any, device: str, then: Then) -> None:
    """Queue the tiles, then every point of the sweeps that our kernels serve, each kernel once."""
    from scripts.visit import tiles

    for index in range(len(tiles.TILES)):
        pool.submit(f"tile {index}", "scripts.visit.tiles:compile_tile", {"tile": index, "device": device}, then)
    try:
        from scripts.visit.sweeps import SweepPlanner

        planner, seen = SweepPlanner(), set()
        for request in requests:
            plan, _ = planner.plan(request["sweeps"], device, None)
            for point in plan.points:
                asked = point.question
                if asked["scenario"]["name"] != "decode" or asked["impl"]["name"] not in ARMS:
                    continue
                what = json.dumps([asked[part] for part in ("impl", "model", "workload", "page_size", "num_seqs")])
                if what not in seen:
                    seen.add(what)
                    argument = {"config": point.config.to_json()}
                    pool.submit(f"{request['name']} {point.key}", "scripts.visit.check:compile_point", argument, then)
    except Exception as error:  # the sweeps compile what they need themselves
        print(f"the sweeps could not be planned: {type(error).__name__}: {error}", flush=True)


def main() -> int:
    """Exit 0 if every shape is right, 4 if not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of check.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget-s", type=float, default=90.0)
    parser.add_argument("--workers", type=int, default=max(1, min(12, (os.cpu_count() or 1) - 2)))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--requests", help="JSON list of sweeps to compile for")
    arguments = parser.parse_args()
    report = Report(arguments.out / "check.json")
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(arguments.workers, Path(folder), time.monotonic() + arguments.budget_s)
        submit_shapes(pool, arguments.device, report.checked, small=arguments.small)
        if arguments.requests and arguments.device == "cuda":
            submit_compilations(pool, json.loads(arguments.requests), arguments.device, report.warmed)
        pool.join()
        for log in sorted(Path(folder).glob("*.log")):
            if text := log.read_text(errors="replace").strip():
                print(f"--- {log.name}\n{text[-6000:]}", flush=True)
    report.save()
    right = len(report.shapes) - len(report.bad)
    print(f"{right} of {len(report.shapes)} shapes are right; {len(report.compiled)} points compiled", flush=True)
    return EXIT_VISIT_INCOMPLETE if report.bad else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
