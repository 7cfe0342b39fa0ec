"""What all commands share: one error message for bad input, exit codes, and overrides after ``--``."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from bench.cli.exits import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERNAL, EXIT_INTERRUPTED
from bench.rows.neutral import for_terminal


def run_command(command: Callable[[], int]) -> int:
    """Call a command and return its exit code. Errors are printed.

    Args:
        command: the command. It raises ``ValueError`` with one sentence for bad input, and ``OSError`` for a file
            that cannot be read or written.

    Returns:
        The command's own code. 2 after one of these errors. 130 if interrupted. 141 if the reader of the output ended
        early (``| head``). 1 for any other exception, which is a bug of this project.
    """
    _open_standard_streams()
    try:
        code = command()
    except BrokenPipeError:
        discard_output()
        return EXIT_BROKEN_PIPE
    except (ValueError, MemoryError, OSError, ImportError, RecursionError) as error:
        if (sentence := _sentence(error)) is None:
            return _report_bug(error)
        _print_error(sentence)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return _report_bug(error)
    return _flushed(code)


def _sentence(error: Exception) -> str | None:
    """Return one sentence for an error that the user can correct. ``None`` if it is a bug."""
    if isinstance(error, OSError):  # a path that does not exist, a full disk
        return f"{error.filename or 'input or output'}: {error.strerror or error}"
    if isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY):
        return "the memory limit of this process is too small. Check ulimit -v, or the limit of the container or job"
    return " ".join(str(error).split()) if isinstance(error, ValueError) else None


OUT_OF_MEMORY = ("failed to map segment", "annot allocate memory", "can't start new thread")
"""Parts of the messages of the loader of libraries and of threads when a memory limit is reached."""


def _print_error(sentence: str) -> None:
    with contextlib.suppress(OSError):
        print(f"error: {for_terminal(sentence)}", file=sys.stderr, flush=True)


def _report_bug(error: Exception) -> int:
    with contextlib.suppress(OSError):
        traceback.print_exc()
        name = type(error).__name__
        print(f"internal error: {name}: {error}. Please report it with the traceback above", file=sys.stderr)
    return EXIT_INTERNAL


def _flushed(code: int) -> int:
    """Write the rest of the output, and return the exit code. The work is complete even if the output is lost."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        discard_output()
        _print_error(f"the output could not be written ({error.strerror}). All files are complete")
    return code


def _open_standard_streams() -> None:
    """Replace closed streams by the null device, and let each stream write any character.

    A file that is opened later would otherwise get the number of a closed stream, and output would go to it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII locale cannot encode every table


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments at ``--`` into those of the command and overrides of ``bench/run.py``."""
    own = list(arguments)
    end = own.index("--") if "--" in own else len(own)
    return own[:end], own[end + 1 :]


def discard_output() -> None:
    """Redirect output to the null device. Otherwise the last flush of the interpreter reports the closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
