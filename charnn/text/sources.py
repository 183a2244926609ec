"""Where a text comes from: files, folders, globs, pipes and compressed files."""

import bz2
import codecs
import contextlib
import difflib
import gzip
import importlib
import io
import itertools
import logging
import lzma
import os
import shutil
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from charnn.config import TextConfig
from charnn.errors import CharnnError, MissingTextError, TextError, short
from charnn.files import cache_folder, explained, named_path
from charnn.text.unpack import Unpacker
from charnn.words import listed, plural

log = logging.getLogger(__name__)

CHUNK_BYTES = 2 << 20  # so that all copies of a chunk take well below 100 MB
DEMO_NAME = "the built-in demo text"
STDIN_NAME = "standard input"
IN_MEMORY = 1 << 20  # bytes of a pipe that need no file
FREE_BYTES = 1 << 30  # that a pipe must leave on the disk
SNIFFED = 4096  # bytes that tell what a file is
_OPENERS: dict[str, Callable[[Path], object]] = {
    ".gz": gzip.open,
    ".bz2": lambda path: Unpacker(path, bz2.BZ2Decompressor),
    ".xz": lambda path: Unpacker(path, lzma.LZMADecompressor, padding=b"\0"),
}
_DOCUMENTS = {
    b"%PDF": "PDF document", b"PK\3\4": ".docx, .odt, .epub or other zip archive",
    b"{\\rtf": "RTF document", b"\xd0\xcf\x11\xe0": ".doc, .xls or .ppt file",
}  # fmt: skip
_PACKED = {
    b"\x1f\x8b": "gzip file", b"BZh91AY&SY": "bzip2 file", b"\xfd7zXZ\0": "xz file",
    b"\x28\xb5\x2f\xfd": "zstd file", b"\x1f\x9d": ".Z file",
}  # fmt: skip
_PACKED_AS = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\0"}
_CACHES = ("__pycache__", "node_modules")
_CACHE_MARKS = ("CACHEDIR.TAG", "pyvenv.cfg")  # files that a cache or a virtual environment has
_RUN_FILES = {"run.json", "metrics.jsonl"}


@dataclass(frozen=True)
class Source:
    """A text that can be opened, and read from its beginning, any number of times."""

    name: str
    open: Callable[[], BinaryIO]
    path: Path | None = None  # None if it is not a file that can be found again

    @property
    def compressed(self) -> bool:
        """True if reading it unpacks it."""
        return self.path is not None and self.path.suffix.lower() in _OPENERS

    @property
    def misnamed(self) -> bool:
        """True if only its name is that of a compressed file, or of one of another kind."""
        if self.path is None or not self.compressed:
            return False
        magic = _PACKED_AS[self.path.suffix.lower()]
        with self.path.open("rb") as file:
            return file.read(len(magic)) != magic


def built_in_text() -> str:
    """Return Python's language reference as `help("for")` shows it, about 470,000 characters."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return "\n".join(topics[name] for name in sorted(topics))


def find_sources(
    arguments: Sequence[str], config: TextConfig, changes: set[str], pipe_bytes: int | None = None
) -> list[Source]:
    """Return the sources that the arguments name, in order, or the demo text without arguments.

    A note of what was left out of folders is added to `changes`. Of a pipe, only the first
    `pipe_bytes` are read, into memory, if that is given.
    """
    if not arguments:
        return [Source(DEMO_NAME, lambda: io.BytesIO(built_in_text().encode()))]
    walk = _Walk(config.encoding, binary=config.tokenizer == "byte")
    found = [source for argument in arguments for source in _find(argument, walk, pipe_bytes)]
    changes.update(walk.notes())
    return found


def _find(argument: str, walk: "_Walk", pipe_bytes: int | None) -> list[Source]:
    if argument == "-":
        return [_standard_input(pipe_bytes)]
    path = named_path(argument)
    with explained(f"looking for {short(argument)}", "name a readable file or folder"):
        if path.exists() and not path.is_dir() and not path.is_file():
            return [_pipe(path, pipe_bytes)]
        return [Source(str(file), _opener(file), file) for file in _files(path, walk)]


def _files(path: Path, walk: "_Walk") -> list[Path]:
    if path.is_dir():
        if files := list(walk.files(path)):
            return files
        skipped = "; ".join(walk.notes())
        raise TextError(
            f"{path}: the folder contains no text files{f' ({skipped})' if skipped else ''}; name "
            "a text file"
        )
    if path.is_file():
        if not walk.binary and (kind := _document(path)):
            packed = kind in _PACKED.values()
            advice = "unpack it" if packed else "save it as plain text (.txt)"
            raise TextError(f"{path}: a {kind}; {advice} first")
        return [path]
    matches = (walk.files(match) if match.is_dir() else [match] for match in _matches(path, walk))
    files = [file for found in matches for file in found if file.is_file()]
    if not files:
        raise MissingTextError(f"{short(path)}: no such file or folder; {_near_miss(path)}")
    return list(dict.fromkeys(files))  # `**` matches both a folder and the files in it


def _near_miss(path: Path) -> str:
    """Return advice on a file that is missing: the one that was probably meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        names = []
    same_stem = [name for name in sorted(names) if Path(name).stem == path.name]
    close = same_stem or difflib.get_close_matches(path.name, names, 1, 0.8)
    return f"did you mean {path.with_name(close[0])}?" if close else "check the name"


def _matches(pattern: Path, walk: "_Walk") -> list[Path]:
    """Return the paths that a glob matches, sorted, hidden ones only if the glob names them.

    A glob names its files like a shell does, but one with `**` is a walk, which leaves some out.
    The glob module is not used because its `**` follows links, without end if they form a circle.
    """
    parts = pattern.relative_to(pattern.anchor).parts
    literal = list(itertools.takewhile(lambda part: not set(part) & set("*?["), parts))
    if len(literal) == len(parts):
        return []
    hidden = any(part.startswith(".") for part in parts[len(literal) :])
    root = Path(pattern.anchor, *literal)
    try:
        matches = sorted(root.glob(str(Path(*parts[len(literal) :]))))
    except ValueError:  # "**" next to other characters
        return []
    return [
        match
        for match in matches
        if (hidden or not any(part.startswith(".") for part in match.relative_to(root).parts))
        and not ("**" in parts and walk.leaves_out(match, root))
    ]


@dataclass
class _Walk:
    """Finds the text files below folders, and keeps account of what it leaves out."""

    encoding: str
    binary: bool  # take files that are not plain text too
    left_out: dict[str, dict[Path, None]] = field(default_factory=dict)  # by kind, in order
    known: dict[Path, bool] = field(default_factory=dict)  # folders of globs: left out or not

    def files(self, folder: Path) -> Iterator[Path]:
        """Yield the files below `folder`, sorted, without hidden ones and links to folders.

        Run folders are left out, because a program's own files are no text, and so are caches.
        """
        for parent, folders, names in os.walk(folder, onerror=_reraise):
            here = Path(parent)
            if _is_run(names):
                folders.clear()
                self._leave_out("run folder", here)
                continue
            visible = [name for name in sorted(folders) if not self._is_cache(here / name)]
            folders[:] = [name for name in visible if not self._is_hidden(here / name)]
            for name in sorted(names):
                path = here / name
                if not self._is_hidden(path) and path.is_file() and not self._is_binary(path):
                    yield path

    def leaves_out(self, path: Path, root: Path) -> bool:
        """Return True if a walk from `root` would not come to this file or folder below it."""
        steps = [root / part for part in reversed(path.relative_to(root).parents)]
        for folder in [*steps, path] if path.is_dir() else steps:
            if folder not in self.known:
                run = _is_run(entry.name for entry in folder.iterdir()) and self._leave_out(
                    "run folder", folder
                )
                self.known[folder] = run or (folder != root and self._is_cache(folder))
            if self.known[folder]:
                return True
        return path.is_file() and self._is_binary(path)

    def notes(self) -> list[str]:
        """Return one line that says what was left out, or nothing."""
        parts = []
        for kind, paths in sorted(self.left_out.items()):
            parts.append(f"{plural(len(paths), kind)} ({listed(list(map(str, paths)))})")
        if any(kind in self.left_out for kind in _DOCUMENTS.values()):
            parts[-1] += "; save documents as plain text (.txt) to read them"
        return [f"left out: {', '.join(parts)}"] if parts else []

    def _leave_out(self, kind: str, path: Path) -> bool:
        self.left_out.setdefault(kind, {})[path] = None
        return True

    def _is_cache(self, path: Path) -> bool:
        cache = path.name in _CACHES or any((path / mark).exists() for mark in _CACHE_MARKS)
        return cache and self._leave_out("cache", path)

    def _is_hidden(self, path: Path) -> bool:
        return path.name.startswith(".") and self._leave_out("hidden name", path)

    def _is_binary(self, path: Path) -> bool:
        if self.binary:
            return False
        if kind := _document(path):
            return self._leave_out(kind, path)
        return _has_nul(path, self.encoding) and self._leave_out("binary file", path)


def _is_run(names: Iterable[str]) -> bool:
    """Return True if a folder with files of these names is a run's."""
    found = set(names)
    return found >= _RUN_FILES or any(name.endswith(".safetensors") for name in found)


def _start(path: Path) -> bytes:
    try:
        with _opener(path)() as file:
            return file.read(SNIFFED)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""  # reading the text will say why


def _document(path: Path) -> str:
    """Return the kind of a file that holds no plain text, or "". One with the ending of packed
    files is looked into, so that it is of such a kind only if it was packed twice."""
    start, kinds = _start(path), _DOCUMENTS | _PACKED
    return next((kind for magic, kind in kinds.items() if start.startswith(magic)), "")


def _has_nul(path: Path, encoding: str) -> bool:
    start = _start(path)
    if b"\0" not in start or start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    try:
        return "\0" in start.decode(encoding, "ignore")
    except UnicodeError:  # without the byte-order mark that it needs
        return True


def _reraise(error: OSError) -> None:
    """Raise an error that `os.walk` would ignore, silently leaving out a folder."""
    raise error


def _opener(path: Path) -> Callable[[], BinaryIO]:
    opener = _OPENERS.get(path.suffix.lower())
    return lambda: cast(BinaryIO, opener(path) if opener else path.open("rb"))


def _standard_input(most: int | None) -> Source:
    if sys.stdin is None or sys.stdin.isatty():
        raise TextError("standard input is a terminal; pipe a text into it or name a file")
    with contextlib.suppress(io.UnsupportedOperation):  # a stream without a file
        if stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode):
            raise TextError("standard input is a device; pipe a text into it or name a file")
    return _spooled(sys.stdin.buffer, most)


def is_pipe(argument: str) -> bool:
    """Return True if an argument names standard input or a pipe, which can be read only once."""
    with contextlib.suppress(OSError, ValueError):
        return argument == "-" or Path(argument).is_fifo()
    return False


def _pipe(path: Path, most: int | None) -> Source:
    """Read a named pipe, or the shell's `<(command)`, which is one, as standard input is read."""
    if not stat.S_ISFIFO(path.stat().st_mode):
        raise TextError(f"{path}: a device or a socket, not a text; name a file")
    log.info(f"reading the pipe {path}")  # which waits until something is written to it
    with path.open("rb") as file:
        return _spooled(file, most)


def _spooled(file: BinaryIO, most: int | None) -> Source:
    """Copy what can be read once, because a corpus is read twice: to memory, or if it is large to
    an unnamed temporary file."""
    start = file.read(IN_MEMORY if most is None else most)
    if most is not None or len(start) < IN_MEMORY:
        return Source(STDIN_NAME, lambda: io.BytesIO(start))
    with explained(f"copying {STDIN_NAME}", "set CHARNN_CACHE to a folder with free space"):
        spool = tempfile.TemporaryFile(dir=_spool_folder())  # noqa: SIM115 - lives as long as the source
        try:
            spool.write(start)
            while chunk := file.read(CHUNK_BYTES):
                spool.write(chunk)
                _check_free_space(spool.tell())
        except BaseException:
            spool.close()
            raise

    def reopen() -> BinaryIO:
        spool.seek(0)  # the duplicate shares this position
        return open(os.dup(spool.fileno()), "rb")  # noqa: PTH123 - a descriptor is not a path

    weakref.finalize(reopen, spool.close)
    return Source(STDIN_NAME, reopen)


def _check_free_space(copied: int) -> None:
    """Raise `TextError` if a copy of standard input has almost filled the disk."""
    if shutil.disk_usage(_spool_folder() or tempfile.gettempdir()).free < FREE_BYTES:
        raise TextError(
            f"{STDIN_NAME}: {copied / 1e9:.1f} GB so far, and the disk is almost full; does it "
            "end? Otherwise set CHARNN_CACHE to a folder with free space"
        )


def _spool_folder() -> Path | None:
    """Return the folder for a copy of a pipe: the cache, or None for that of temporary files."""
    try:
        folder = cache_folder()
    except CharnnError:
        return None
    return folder if os.access(folder, os.W_OK) else None
