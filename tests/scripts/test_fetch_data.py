"""The data script saves a file completely or not at all; a local server stands in for the web."""

import hashlib
import importlib.util
import io
import signal
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BODY = "Ünï, 5 lines\r\n".encode() * 5 + bytes(range(256))
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = b"something else"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_data", ROOT / "scripts" / "fetch_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fetch_data = _script()


class Handler(BaseHTTPRequestHandler):
    server: "Site"

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        with suppress(ConnectionError):  # the client may leave first
            self.server.answer(self)

    def log_message(self, *_: Any) -> None:
        pass


class Site(HTTPServer):
    """A server that sends the same `answer` for every path and records the `requested` paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str] = []
        self.answer: Callable[[Handler], None] = sends(BODY)
        self.url = f"http://127.0.0.1:{self.server_port}/folder/text.txt"


def sends(body: bytes, **headers: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def is_missing(handler: Handler) -> None:
    handler.send_error(404)


def hangs_up(handler: Handler) -> None:
    pass


def stalls(handler: Handler) -> None:
    sends(BODY, Content_Length="1000")(handler)
    handler.connection.recv(1)  # returns once the client has gone


def presses_ctrl_c(handler: Handler) -> None:
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGINT)
    stalls(handler)


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.getvalue()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


@pytest.fixture
def known(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes `small` a known corpus on the local server."""

    def add(**facts: Any) -> None:
        monkeypatch.setitem(
            fetch_data.KNOWN, "small", fetch_data.Corpus(site.url, "small.txt", **facts)
        )

    return add


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("query", ["", "?raw=true&name=other", "#part"])
def test_a_url_is_saved_byte_for_byte_under_its_file_name(
    query: str, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    assert fetch_data.main([site.url + query, "--into", str(folder)]) == 0
    assert contents(folder) == {"text.txt": BODY}
    out, err = capsys.readouterr()
    assert out == f"{folder / 'text.txt'}\n"
    assert err == f"{len(BODY)} bytes, sha256 {SHA256}\n"


def test_a_url_outside_ascii_is_percent_encoded(site: Site, tmp_path: Path) -> None:
    url = site.url.replace("text", "война и мир")
    assert fetch_data.main([url, "--into", str(tmp_path)]) == 0
    assert contents(tmp_path) == {"война и мир.txt": BODY}
    assert site.requested == [
        "/folder/%D0%B2%D0%BE%D0%B9%D0%BD%D0%B0%20%D0%B8%20%D0%BC%D0%B8%D1%80.txt"
    ]


@pytest.mark.parametrize(
    "facts", [{}, {"size": len(BODY)}, {"sha256": SHA256}, {"size": len(BODY), "sha256": SHA256}]
)
def test_a_known_corpus_is_saved_if_its_size_and_checksum_agree(
    facts: dict[str, Any], known: Callable[..., None], tmp_path: Path
) -> None:
    known(**facts)
    assert fetch_data.main(["small", "--into", str(tmp_path)]) == 0
    assert contents(tmp_path) == {"small.txt": BODY}


def test_a_zip_file_is_unpacked(site: Site, known: Callable[..., None], tmp_path: Path) -> None:
    known(size=len(BODY), sha256=SHA256, zipped=True)
    site.answer = sends(zipped(**{"small.txt": BODY}))
    assert fetch_data.main(["small", "--into", str(tmp_path)]) == 0
    assert contents(tmp_path) == {"small.txt": BODY}


@pytest.mark.parametrize(
    ("answer", "facts", "expected"),
    [
        (is_missing, {}, ["404", "Not Found"]),
        (hangs_up, {}, ["closed connection"]),
        (stalls, {}, ["timed out"]),
        (sends(BODY, Content_Length="1000"), {}, ["broke", f"{len(BODY)} of 1,000 bytes"]),
        (sends(b"ff\r\n" + BODY[:9], Transfer_Encoding="chunked"), {}, ["IncompleteRead"]),
        (sends(BODY), {"size": 5}, ["expected 5", f"found {len(BODY)}"]),
        (sends(OTHER), {"sha256": SHA256}, [SHA256, hashlib.sha256(OTHER).hexdigest()]),
        (sends(BODY), {"zipped": True}, ["expected a zip file", "small.txt"]),
        (sends(zipped(b=BODY)), {"zipped": True}, ["expected only small.txt", "found b"]),
        (
            sends(zipped(**{"small.txt": BODY, "c": OTHER})),
            {"zipped": True},
            ["expected only small.txt", "found small.txt, c"],
        ),
        (
            sends(zipped(**{"small.txt": BODY}), Content_Length="1000"),
            {"zipped": True},
            ["of 1,000 bytes"],
        ),
    ],
)
@pytest.mark.parametrize("before", [{}, {"small.txt": OTHER[::-1]}])
def test_a_failed_download_is_one_line_and_leaves_the_folder_unchanged(
    answer: Callable[[Handler], None],
    facts: dict[str, Any],
    expected: list[str],
    before: dict[str, bytes],
    site: Site,
    known: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fetch_data, "TIMEOUT_S", 0.2)
    known(**facts)
    site.answer = answer
    for name, body in before.items():
        (tmp_path / name).write_bytes(body)
    assert fetch_data.main(["small", "--force", "--into", str(tmp_path)]) == 1
    assert contents(tmp_path) == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {site.url}: ")
    assert err.count("\n") == 1
    for words in [*expected, "python scripts/fetch_data.py small --force"]:
        assert words in err


def test_an_unreachable_server_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as bound:  # bound but not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/text.txt"
        assert fetch_data.main([url, "--into", str(tmp_path)]) == 1
    assert contents(tmp_path) == {}
    err = capsys.readouterr().err
    assert err.startswith(f"error: {url}: ")
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_created_is_an_error_of_one_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(OTHER)
    assert fetch_data.main([site.url, "--into", str(tmp_path / "file" / "folder")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: cannot write ")
    assert err.count("\n") == 1
    assert contents(tmp_path) == {"file": OTHER}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signal to one thread")
def test_ctrl_c_exits_with_130_and_leaves_no_file(site: Site, tmp_path: Path) -> None:
    site.answer = presses_ctrl_c
    assert fetch_data.main([site.url, "--into", str(tmp_path)]) == 130
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_file_with_the_known_checksum_is_not_downloaded_again(
    force: list[str],
    site: Site,
    known: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known(sha256=SHA256)
    (tmp_path / "small.txt").write_bytes(BODY)
    assert fetch_data.main(["small", "--into", str(tmp_path), *force]) == 0
    assert site.requested == []
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'small.txt'}\n"
    assert "already downloaded" in err


@pytest.mark.parametrize("facts", [{}, {"size": len(OTHER)}, {"sha256": SHA256}])
def test_any_other_file_is_replaced_only_with_force(
    facts: dict[str, Any],
    site: Site,
    known: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known(**facts)
    site.answer = sends(BODY[: facts.get("size")])
    (tmp_path / "small.txt").write_bytes(OTHER)
    words = ["small", "--into", str(tmp_path)]

    assert fetch_data.main(words) == 1
    assert contents(tmp_path) == {"small.txt": OTHER}
    assert site.requested == []
    assert "small.txt already exists; to replace it, run: python" in capsys.readouterr().err

    assert fetch_data.main([*words, "--force"]) == 0
    assert contents(tmp_path) == {"small.txt": BODY[: facts.get("size")]}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["shakespeare"],
        ["ftp://example.org/text.txt"],
        ["http:///text.txt"],
        ["http://[/text.txt"],
        ["http://example.org"],
        ["http://example.org/folder/"],
        ["http://example.org/.."],
        ["http://example.org/.hidden"],
        ["http://example.org/-option"],
        ["http://example.org/..%2Fabove"],
        ["http://example.org/a%2Fb"],
        ["http://example.org/a%5Cb"],
        ["http://example.org/a%00b"],
        ["text8", "--seed"],
    ],
)
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        fetch_data.main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", sorted(fetch_data.KNOWN))
def test_the_readme_of_the_data_folder_lists_the_known_corpora(name: str) -> None:
    corpus = fetch_data.KNOWN[name]
    sha256 = f"`{corpus.sha256}`" if corpus.sha256 else "printed by the script"
    row = (
        f"| `{corpus.file}` | `python scripts/fetch_data.py {name}` | <{corpus.url}> "
        f"| {corpus.size:,} | {sha256} |"
    )
    assert row in (ROOT / "data" / "README.md").read_text(encoding="utf-8").splitlines()
