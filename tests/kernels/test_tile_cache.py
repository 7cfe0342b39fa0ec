"""What tuning found is kept: by device and shape, for several processes, never in the way."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from impls.kernels.heuristics import Tile
from impls.launch.tile_cache import FOLDER_VARIABLE, TileCache, kernels_digest, user_cache
from tests.kernels.attention_case import Case
from tests.kernels.cache_case import tune_twice, tune_with_a_tile_that_does_not_fit

SLOW = Tile(block_group=16, block_dim=128, block_tokens=64)
FAST = replace(SLOW, block_tokens=32, num_stages=4)
QUESTION = {"device": "a", "num_seqs": 4}


def never() -> Tile:
    raise AssertionError("nothing was to be timed")


def test_the_second_time_nothing_is_timed(tmp_path: Path) -> None:
    assert TileCache(tmp_path / "new").choose(QUESTION, [SLOW, FAST], lambda: FAST) == (FAST, "timed")
    assert TileCache(tmp_path / "new").choose(QUESTION, [SLOW, FAST], never) == (FAST, "cached")


def test_the_times_of_the_others_are_kept_beside_the_choice(tmp_path: Path) -> None:
    times_us: dict[str, float] = {}

    def time_them() -> Tile:
        times_us.update({"slow": 20.5, "fast": 10.25})
        return FAST

    TileCache(tmp_path).choose(QUESTION, [SLOW, FAST], time_them, times_us)
    (entry,) = json.loads((tmp_path / "tiles.json").read_text()).values()
    assert entry["times_us"] == {"slow": 20.5, "fast": 10.25}


def test_another_question_is_timed(tmp_path: Path) -> None:
    cache = TileCache(tmp_path)
    cache.choose(QUESTION, [SLOW, FAST], lambda: FAST)
    assert cache.choose({**QUESTION, "device": "b"}, [SLOW, FAST], lambda: SLOW) == (SLOW, "timed")
    assert cache.choose(QUESTION, [SLOW, FAST], never).tile == FAST


def test_a_tile_that_is_not_in_contention_any_more_is_not_taken(tmp_path: Path) -> None:
    cache = TileCache(tmp_path)
    cache.choose(QUESTION, [SLOW, FAST], lambda: FAST)
    assert cache.choose(QUESTION, [SLOW], lambda: SLOW) == (SLOW, "timed")


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    choice = TileCache(tmp_path / "file" / "folder").choose(QUESTION, [SLOW], lambda: SLOW)
    assert choice.tile == SLOW
    assert choice.source.startswith("timed, not kept: ")


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiles.json").write_text("{")
    with pytest.raises(ValueError, match=r"tiles\.json is no JSON; delete it"):
        TileCache(tmp_path).choose(QUESTION, [SLOW], lambda: SLOW)


def test_answers_kept_at_once_are_all_kept(tmp_path: Path) -> None:
    def keep(number: int) -> None:
        TileCache(tmp_path).choose({"number": number}, [SLOW], lambda: SLOW)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(keep, range(24)))
    kept = json.loads((tmp_path / "tiles.json").read_text())
    assert sorted(entry["question"]["number"] for entry in kept.values()) == list(range(24))


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    user_cache().choose(QUESTION, [SLOW], lambda: SLOW)
    assert (tmp_path / "xdg" / "paged-attention-bench" / "tiles.json").is_file()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "named"))
    user_cache().choose(QUESTION, [SLOW], lambda: SLOW)
    assert (tmp_path / "named" / "tiles.json").is_file()


def test_the_kernels_are_part_of_the_question() -> None:
    assert len(kernels_digest()) == 16


@pytest.mark.parametrize("paged", [True, False], ids=["pages", "regions"])
def test_decoding_never_tunes(kernels: ProcessPoolExecutor, tmp_path: Path, paged: bool) -> None:
    """Two tiles in contention. A second cache of the same shape times none, and ``decode`` never does."""
    case = Case(seq_lens=(9, 30), heads=(4, 2), paged=paged)
    first, second, timings = kernels.submit(tune_twice, case, str(tmp_path)).result()
    assert "(timed)" in first
    assert "(cached)" in second
    assert timings == 1


def test_a_tile_that_does_not_fit_is_left_out_with_a_note(kernels: ProcessPoolExecutor, tmp_path: Path) -> None:
    case = Case(seq_lens=(9, 30), heads=(4, 2), paged=True)
    choice = str(kernels.submit(tune_with_a_tile_that_does_not_fit, case, str(tmp_path)).result())
    assert "(timed)" in choice
    assert "refused: OutOfResources: out of resource: shared memory, Required: 327680" in choice
