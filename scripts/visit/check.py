"""Correctness of both Triton arms, and the kernels of the sweeps compiled beforehand, in parallel processes.

Nothing is timed here, so one device serves many processes at once. Each shape has a process of its
own: a crash or a hang costs that shape only.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.rows.record import write_json
from bench.rows.result import Answer
from bench.runner.process.server import Server, ServerLost
from bench.runner.round import TENSOR_MODULES
from impls.interface import KVCache, QuantisedKVCache
from impls.reference import allowed_error, decode_attention, max_rel_error, prefill_attention
from scripts.visit.cases import ARMS, SHAPES, SMALL_SHAPES, Shape, draw, make_cache, write

TIMEOUT_S = 60.0


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
    """Compile what one point of a sweep will launch; its tiles are timed into a cache that is thrown away.

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


class Pool:
    """Runs calls in forked children, several at a time.

    Args:
        size: children at a time.
        folder: for logs, and for the tile cache that is thrown away.
        deadline: of ``time.monotonic``; a call that would begin later does not run.
    """

    def __init__(self, size: int, folder: Path, deadline: float) -> None:
        self.folder, self.deadline = folder, deadline
        self.waiting: queue.Queue[tuple[str, str, Any, Callable[[str, Answer, float], None]] | None] = queue.Queue()
        self.threads = [threading.Thread(target=self._work, args=(index,), daemon=True) for index in range(size)]
        for thread in self.threads:
            thread.start()

    def submit(self, name: str, call: str, argument: Any, then: Callable[[str, Answer, float], None]) -> None:
        """Queue one call; ``then`` gets its name, its answer and its seconds."""
        self.waiting.put((name, call, argument, then))

    def join(self) -> None:
        """Wait for all calls."""
        for _ in self.threads:
            self.waiting.put(None)
        for thread in self.threads:
            thread.join()

    def _work(self, index: int) -> None:
        env = {"PAGED_ATTENTION_BENCH_CACHE": str(self.folder / f"tiles-{index}"), "OMP_NUM_THREADS": "2"}
        server: Server | None = None
        while (item := self.waiting.get()) is not None:
            name, call, argument, then = item
            left_s = self.deadline - time.monotonic()
            if left_s < 2:
                then(name, Answer(status="interrupted", status_reason="no time was left"), 0.0)
                continue
            began = time.monotonic()
            try:
                if server is None:
                    server = Server(
                        env, preload=(*TENSOR_MODULES, "triton", "impls.caches.paged_triton", "impls.kernels.decode")
                    )
                log = self.folder / f"{call.partition(':')[2]}-{index}.log"
                answer = server.run(call, argument, log=log, timeout_s=min(TIMEOUT_S, left_s)).answer
            except ServerLost as error:
                answer, server = Answer(status="crashed", status_reason=str(error)), None
            except Exception as error:
                answer = Answer(status="crashed", status_reason=f"{type(error).__name__}: {error}")
            then(name, answer, time.monotonic() - began)
        if server is not None:
            server.close()


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
    deadline = time.monotonic() + arguments.budget_s
    results: dict[str, dict[str, Any]] = {}
    compiled: dict[str, Any] = {}
    lock = threading.Lock()

    def save() -> None:
        write_json(arguments.out / "check.json", {"shapes": results, "compiled": compiled})

    def checked(name: str, answer: Answer, seconds: float) -> None:
        with lock:
            good = answer.status == "ok" and bool(answer.values.get("good"))
            status = answer.status if answer.status != "ok" or good else "incorrect"
            results[name] = {"status": status, "reason": answer.status_reason, "seconds": seconds, **answer.values}
            told = (
                answer.status_reason
                or f"error {answer.values.get('max_rel_error')} (allowed {answer.values.get('allowed_rel_error')})"
            )
            print(f"{'OK ' if good else 'BAD'} {name}: {told} in {seconds:.1f} s", flush=True)
            save()

    def warmed(name: str, answer: Answer, seconds: float) -> None:
        with lock:
            compiled[name] = {"status": answer.status, "reason": answer.status_reason, "seconds": seconds}
            if answer.status != "ok":
                print(f"compile {name}: {answer.status}: {answer.status_reason}", flush=True)
            save()

    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(arguments.workers, Path(folder), deadline)
        shapes = SMALL_SHAPES if arguments.small else SHAPES
        for shape in shapes:
            for arm in ARMS:
                if arm == "triton_contiguous" and (shape.page_size != 16 or shape.options):
                    continue  # it has no pages
                argument = {"shape": asdict(shape), "arm": arm, "device": arguments.device}
                pool.submit(f"{shape.name} {arm}", "scripts.visit.check:check_shape", argument, checked)
        if arguments.requests and arguments.device == "cuda":
            _submit_compilations(pool, json.loads(arguments.requests), arguments.device, warmed)
        pool.join()
        for log in sorted(Path(folder).glob("*.log")):
            text = log.read_text(errors="replace").strip()
            if text:
                print(f"--- {log.name}\n{text[-6000:]}", flush=True)
    save()
    bad = [name for name, result in results.items() if result["status"] != "ok"]
    print(f"{len(results) - len(bad)} of {len(results)} shapes are right; {len(compiled)} points compiled", flush=True)
    return 4 if bad else 0


def _submit_compilations(pool: Pool, requests: Any, device: str, then: Callable[[str, Answer, float], None]) -> None:
    """Queue the tiles, then every point of the sweeps that our kernels serve, each kernel once."""
    from scripts.visit import tiles

    for index in range(len(tiles.TILES)):
        pool.submit(f"tile {index}", "scripts.visit.tiles:compile_tile", {"tile": index, "device": device}, then)
    try:
        from scripts.visit.sweeps import Planner

        planner, seen = Planner(), set()
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


if __name__ == "__main__":
    sys.exit(main())
