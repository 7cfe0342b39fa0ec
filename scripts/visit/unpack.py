"""Reads the archive of a visit as data: checks names and sizes, and writes to no path that it names."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

MAX_MEMBERS = 20_000
MAX_MEMBER_BYTES = 8 * 2**20
MAX_TOTAL_BYTES = 256 * 2**20
NAME = re.compile(r"visit(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)+")


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the files of an archive by their path below ``visit/``.

    Raises:
        ValueError: it is no such archive, or a member is a link, has a name that is not ours, or is too large.
    """
    files: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(path, "r:gz") as tar:
            for number, member in enumerate(tar):
                total += member.size
                _check(path, member, number, total)
                name = member.name.removeprefix("visit/")
                if name in files:
                    raise ValueError(f"{path} holds {member.name} twice")
                file = tar.extractfile(member)
                files[name] = b"" if file is None else file.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ValueError(f"{path} is no archive of a visit: {error}") from error
    return files


def _check(path: Path, member: tarfile.TarInfo, number: int, total: int) -> None:
    """Refuse what a visit does not write."""
    name = member.name[:100]
    if not member.isfile():
        raise ValueError(f"{path} holds {name}, which is no plain file")
    if not NAME.fullmatch(member.name):
        raise ValueError(f"{path} holds {name!r}; a visit only writes files under visit/")
    if member.size > MAX_MEMBER_BYTES:
        raise ValueError(f"{path} holds {name} of {member.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read")
    if number >= MAX_MEMBERS or total > MAX_TOTAL_BYTES:
        raise ValueError(f"{path} holds more than {MAX_MEMBERS:,} files or {MAX_TOTAL_BYTES:,} bytes")
