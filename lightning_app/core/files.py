"""Files of the user: opened only where they are regular, unpacked where they are gzipped, and read line by line."""

import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from .errors import InputError, system_error

_TORN = (EOFError, gzip.BadGzipFile, zlib.error)


def check_regular(path: Path) -> None:
    """Refuse pipes, devices and folders: reading a pipe may never end.

    Raises:
        InputError: If it is there and no regular file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise system_error(error, path) from None
    if stat.S_ISDIR(mode):
        raise system_error(IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)), path)
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: not a regular file; write its content into a file first")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file, also a gzipped one, for its bytes.

    Raises:
        InputError: If it is no regular file or cannot be read, also while it is read inside.
    """
    check_regular(path)
    try:
        with _stream(path) as stream:
            yield stream
    except _TORN as error:
        raise InputError(
            f"{path}: cannot be read ({error}); the file is incomplete or damaged, save it again"
        ) from None
    except OSError as error:
        raise system_error(error, path) from None


def filled_lines(stream: IO[bytes], path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not blank, each with its number from 1, without a byte-order mark.

    Raises:
        InputError: If a line is not UTF-8; names it.
    """
    row = 0
    for number, line in enumerate(stream, start=1):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: row {row} (line {number}): not UTF-8 ({error.reason}); save the file as UTF-8"
            ) from None
        if text.strip():
            yield number, text
            row += 1


def read_text(path: Path) -> str:
    """A regular file's text, which is UTF-8, perhaps after a byte-order mark.

    Raises:
        InputError: If it is no regular file or cannot be read.
        UnicodeDecodeError: If it is not UTF-8.
    """
    with opened(path) as stream:
        return stream.read().decode("utf-8-sig")


def suffix_of(path: Path) -> str:
    """What a file's name ends with, in lower case, `.gz` aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _stream(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")
