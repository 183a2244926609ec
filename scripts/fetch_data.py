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
TIMEOUT_S = 30.0  # without any data, not for the complete download
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Corpus:
    """A text's URL, the name of its file, and the known properties of that file."""

    url: str
    file: str
    size: int | None = None  # bytes
    sha256: str | None = None
    zipped: bool = False  # the URL is that of a zip file with `file` as its only member


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
    """Return the known corpus of that name, or one for an http or https URL."""
    if name in KNOWN:
        return KNOWN[name]
    try:
        parts = urlsplit(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{name!r} is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        known = ", ".join(KNOWN)
        raise argparse.ArgumentTypeError(f"{name!r} is neither one of {known} nor an http(s) URL")
    file = unquote(parts.path.rpartition("/")[2])
    if not re.fullmatch(r"\w[\w .,+'()-]*", file):  # no folders, hidden files or options
        raise argparse.ArgumentTypeError(f"{name!r} does not end in a plain file name")
    return Corpus(quote(name, safe=string.punctuation), file)


def download(url: str) -> Generator[bytes, None, None]:
    """Yield the content of `url` in chunks; raise `CharnnError` if it is incomplete."""
    # Some servers refuse urllib's own user agent.
    request = Request(url, headers={"User-Agent": "charnn"})
    name = url.rpartition("/")[2]
    received = 0
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:
            total: int | None = response.length
            with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=None) as bar:
                while chunk := response.read(CHUNK_BYTES):
                    received += len(chunk)
                    bar.update(len(chunk))
                    yield chunk
        if total is not None and received != total:  # `read` treats a broken connection as the end
            raise ConnectionError(f"the connection broke after {received:,} of {total:,} bytes")
    except (OSError, HTTPException, UnicodeError) as error:
        reason = str(error).strip("<>") or type(error).__name__
        raise CharnnError(reason) from error


def unzip(chunks: Iterable[bytes], member: str, folder: Path) -> Iterator[bytes]:
    """Yield the only member of a zip file in chunks."""
    # A zip file lists its members at its end, so it has to be on disk first. The temporary file
    # has no name, so that nothing is left behind whatever happens.
    with TemporaryFile(dir=folder) as archive:
        archive.writelines(chunks)
        try:
            with ZipFile(archive) as opened:
                if (members := opened.namelist()) != [member]:
                    found = ", ".join(members[:3]) or "nothing"
                    raise CharnnError(f"in the zip file: expected only {member}, found {found}")
                with opened.open(member) as file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
        except (BadZipFile, EOFError, RuntimeError, zlib.error) as error:
            raise CharnnError(f"expected a zip file that contains {member}: {error}") from error


def fetch(corpus: Corpus, path: Path) -> None:
    """Download `corpus` to `path`; replace nothing unless the size and checksum are as known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size, digest = 0, hashlib.sha256()
    with closing(download(corpus.url)) as body, replacing(path) as file:
        for chunk in unzip(body, corpus.file, path.parent) if corpus.zipped else body:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        known = [("bytes", corpus.size, size), ("sha256", corpus.sha256, digest.hexdigest())]
        for what, expected, found in known:
            if expected not in (None, found):
                raise CharnnError(f"{what}: expected {expected}, found {found}")
    print(f"{size:,} bytes, sha256 {digest.hexdigest()}", file=sys.stderr)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Download the corpus, print its path, and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Download a standard corpus, or any text from a URL.",
        epilog="example: python scripts/fetch_data.py tinyshakespeare",
    )
    parser.add_argument(
        "corpus", type=find, metavar="NAME|URL", help=f"one of {', '.join(KNOWN)}, or a URL"
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        default=DATA,
        help="folder to save into (default: the repository's data/)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    arguments = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "scripts/fetch_data.py", *arguments])

    corpus: Corpus = options.corpus
    path: Path = options.into / corpus.file
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    try:
        if corpus.sha256 and path.is_file() and sha256_of(path) == corpus.sha256:
            print(f"already downloaded: sha256 {corpus.sha256}", file=sys.stderr)
        elif path.exists() and not options.force:
            return fail(f"{path} already exists; to replace it, run: {command} --force")
        else:
            fetch(corpus, path)
    except CharnnError as error:
        return fail(f"{corpus.url}: {error}; to try again, run: {command}")
    except OSError as error:
        reason = error.strerror or error
        return fail(f"cannot write {path}: {reason}; to try again, run: {command}")
    except KeyboardInterrupt:
        return 130
    print(path)
    return 0


def fail(message: str) -> int:
    """Print an error in one line and return exit status 1."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
