"""Where do I get the standard corpora?"""

import argparse
import hashlib
import re
import shlex
import string
import sys
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile

from tqdm import tqdm

from charnn.errors import CharnnError
from charnn.files import replacing

DATA = Path(__file__).resolve().parent.parent / "data"
TIMEOUT_S = 30.0  # of silence, not of the whole download
PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Corpus:
    """A text's address, the file it becomes, and what is known of that file."""

    url: str
    file: str
    size: int | None = None  # bytes
    sha256: str | None = None
    zipped: bool = False  # the address gives a zip file whose one member is `file`


KNOWN = {
    "tinyshakespeare": Corpus(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "tinyshakespeare.txt",
        size=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "text8": Corpus("http://mattmahoney.net/dc/text8.zip", "text8", 100_000_000, zipped=True),
    "enwik8": Corpus("http://mattmahoney.net/dc/enwik8.zip", "enwik8", 100_000_000, zipped=True),
}


def find(name: str) -> Corpus:
    """The known corpus of that name, or the one an http or https address stands for."""
    if name in KNOWN:
        return KNOWN[name]
    try:
        parts = urlsplit(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{name!r} is no address: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        known = ", ".join(KNOWN)
        raise argparse.ArgumentTypeError(f"{name!r} is neither one of {known} nor an http(s) URL")
    file = unquote(parts.path.rpartition("/")[2])
    if not re.fullmatch(r"\w[\w .,+'()-]*", file):  # no folders, hidden files or options
        raise argparse.ArgumentTypeError(f"{name!r} does not end in a plain file name")
    return Corpus(quote(name, safe=string.punctuation), file)


def download(url: str) -> Generator[bytes, None, None]:
    """What `url` holds, piece by piece; raises `CharnnError` unless all of it came."""
    # Some servers turn away the name that urllib gives itself.
    request = Request(url, headers={"User-Agent": "charnn"})
    name = url.rpartition("/")[2]
    received = 0
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:
            total: int | None = response.length
            with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:
                while piece := response.read(PIECE_BYTES):
                    received += len(piece)
                    bar.update(len(piece))
                    yield piece
        if total is not None and received != total:  # `read` takes that for the end
            raise ConnectionError(f"the connection broke after {received:,} of {total:,} bytes")
    except (OSError, HTTPException, UnicodeError) as error:
        reason = str(error).strip("<>") or type(error).__name__
        raise CharnnError(reason) from error


def unzip(pieces: Iterable[bytes], member: str, folder: Path) -> Iterator[bytes]:
    """The one member of a zip file, piece by piece."""
    # A zip file's list of members is at its end, so all of it has to be on disk first.
    # It has no name there: whatever happens, nothing is left behind.
    with TemporaryFile(dir=folder) as archive:
        archive.writelines(pieces)
        try:
            with ZipFile(archive) as opened:
                if (members := opened.namelist()) != [member]:
                    met = ", ".join(members[:3]) or "nothing"
                    raise CharnnError(f"in the zip file: expected {member} alone, met {met}")
                with opened.open(member) as file:
                    while piece := file.read(PIECE_BYTES):
                        yield piece
        except (BadZipFile, EOFError, RuntimeError, zlib.error) as error:
            raise CharnnError(f"expected a zip file that holds {member}: {error}") from error


def fetch(corpus: Corpus, path: Path) -> None:
    """Download `corpus` to `path`, which stays as it is unless all that is known agrees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with closing(download(corpus.url)) as body, replacing(path) as file:
        for piece in unzip(body, corpus.file, path.parent) if corpus.zipped else body:
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        known = [("bytes", corpus.size, size), ("sha256", corpus.sha256, digest.hexdigest())]
        for what, expected, met in known:
            if expected not in (None, met):
                raise CharnnError(f"{what}: expected {expected}, met {met}")
    print(f"{size:,} bytes, sha256 {digest.hexdigest()}", file=sys.stderr)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python scripts/fetch_data.py tinyshakespeare",
    )
    parser.add_argument(
        "corpus", type=find, metavar="NAME|URL", help=f"one of {', '.join(KNOWN)}, or an address"
    )
    parser.add_argument(
        "--into", type=Path, metavar="DIR", default=DATA, help="the folder (the repository's data/)"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    words = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(words)
    command = shlex.join(["python", "scripts/fetch_data.py", *words])

    corpus: Corpus = options.corpus
    path: Path = options.into / corpus.file
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    try:
        if corpus.sha256 and path.is_file() and sha256_of(path) == corpus.sha256:
            print(f"already there: sha256 {corpus.sha256}", file=sys.stderr)
        elif path.exists() and not options.force:
            return complain(f"{path} exists; to replace it type: {command} --force")
        else:
            fetch(corpus, path)
    except CharnnError as error:
        return complain(f"{corpus.url}: {error}; to try again type: {command}")
    except OSError as error:
        reason = error.strerror or error
        return complain(f"cannot write {path}: {reason}; to try again type: {command}")
    except KeyboardInterrupt:
        return 130
    print(path)
    return 0


def complain(message: str) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
