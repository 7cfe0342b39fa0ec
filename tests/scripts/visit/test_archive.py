"""The archive of a visit: small enough to return, replaced whole, and read as data only."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.visit import unpack, wheels
from scripts.visit.archive import pack
from scripts.visit.unpack import read_archive


def filled(work: Path) -> Path:
    for name in ("sweeps/a/points/1-0.json", "sweeps/a/samples/1-0.json", "sweeps/a/leases/1-0.json", "logs/a.log"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(os.urandom(20_000) if "samples" in name else b"{}")
    return work


def test_what_is_packed_is_read_back(tmp_path: Path) -> None:
    told = pack(filled(tmp_path / "work"), tmp_path / "visit.tar.gz")
    assert told["left_out"] == []
    files = read_archive(tmp_path / "visit.tar.gz")
    assert set(files) == {"sweeps/a/points/1-0.json", "sweeps/a/samples/1-0.json", "logs/a.log"}
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["visit.tar.gz"]


def test_samples_are_left_out_before_an_archive_is_too_large_to_return(tmp_path: Path) -> None:
    told = pack(filled(tmp_path / "work"), tmp_path / "visit.tar.gz", max_bytes=4000)
    assert told["left_out"] == ["samples"]
    assert "sweeps/a/points/1-0.json" in read_archive(tmp_path / "visit.tar.gz")


def test_an_archive_that_is_too_large_leaves_the_old_one(tmp_path: Path) -> None:
    pack(filled(tmp_path / "work"), tmp_path / "visit.tar.gz")
    before = (tmp_path / "visit.tar.gz").read_bytes()
    with pytest.raises(ValueError, match="at most 10 return"):
        pack(tmp_path / "work", tmp_path / "visit.tar.gz", max_bytes=10)
    assert (tmp_path / "visit.tar.gz").read_bytes() == before


def archive(path: Path, name: str, kind: bytes = tarfile.REGTYPE, size: int = 2, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, size, link
        tar.addfile(member, io.BytesIO(b"x" * size))
    return path


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "visit/../../etc/passwd", "visit/a/../b", "other/file", "visit/.hidden", "visit/a b", "visit"],
)
def test_a_name_that_a_visit_does_not_write_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="a visit only writes files under visit/"):
        read_archive(archive(tmp_path / "a.tar.gz", name))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_folders_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ValueError, match="is no plain file"):
        read_archive(archive(tmp_path / "a.tar.gz", "visit/a", kind, size=0, link="/etc/passwd"))


def test_large_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a.tar.gz", "visit/a", size=2000)
    monkeypatch.setattr(unpack, "MAX_MEMBER_BYTES", 1999)
    with pytest.raises(ValueError, match="of 2,000 bytes; at most 1,999 are read"):
        read_archive(path)
    monkeypatch.setattr(unpack, "MAX_MEMBER_BYTES", 2000)
    monkeypatch.setattr(unpack, "MAX_TOTAL_BYTES", 1999)
    with pytest.raises(ValueError, match="more than"):
        read_archive(path)


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is no archive of a visit"):
        read_archive(tmp_path / "a.tar.gz")
    whole = archive(tmp_path / "b.tar.gz", "visit/a", size=100_000).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is no archive of a visit"):
        read_archive(tmp_path / "b.tar.gz")


def test_carried_wheels_are_unpacked_from_subfolders_too(tmp_path: Path) -> None:
    (tmp_path / "wheels" / "more").mkdir(parents=True)
    for folder, name in (("wheels", "one"), ("wheels/more", "two")):
        with zipfile.ZipFile(tmp_path / folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "word = 'here'")
    wheels.unpack(tmp_path / "wheels", tmp_path / "packages")
    assert {path.name for path in (tmp_path / "packages").iterdir()} == {"one.py", "two.py"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no wheel; make them with --prepare"):
        wheels.unpack(tmp_path / "empty", tmp_path / "packages")


def test_wheels_that_do_not_fit_beside_the_tree_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "large-1-py3-none-any.whl").write_bytes(b"x" * 5000)
    monkeypatch.setattr(wheels, "tree_bytes", lambda root: 10_000)
    assert wheels.collect(tmp_path, tmp_path, needed=()) == 15_000
    monkeypatch.setattr(wheels, "MAX_BYTES", 14_999)
    with pytest.raises(ValueError, match="15,000 bytes of tree and wheels; at most 14,999 may travel"):
        wheels.collect(tmp_path, tmp_path, needed=())
