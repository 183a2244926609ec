"""Texts of any kind are read whole, or refused in one line whose advice works when followed."""

# ruff: noqa: RUF001 - typographic signs are what is tested
import bz2
import gzip
import lzma
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import charnn as library
from charnn.config import TextConfig
from charnn.errors import CharnnError, TextError
from charnn.text.corpus import open_corpus
from charnn.text.decoding import read_text
from tests.conftest import charnn, words

TEXT = words(400)
PACKERS = {bytes: "txt", gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}
ACCENTS = "Die Bäume blühen früh, naïve Café-Gäste grüßen. " * 9


def corpus(path: Path, **settings: object) -> str:
    found = open_corpus([str(path)], TextConfig(**settings))  # type: ignore[arg-type]
    return found.tokenizer.decode(found.indices.tolist())


@pytest.mark.parametrize("damage", ["second broken", "garbage after", "second cut"])
@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_damaged_compressed_file_is_never_half_a_text(
    tmp_path: Path, suffix: str, compress: type[bytes], damage: str
) -> None:
    first, second = compress(TEXT.encode()), compress(TEXT[::-1].encode())
    path = tmp_path / f"text.txt{suffix}"
    path.write_bytes(first + second)
    assert corpus(path) == TEXT + TEXT[::-1]
    broken = {
        "second broken": b"X" + second[1:], "garbage after": b"garbage", "second cut": second[:-9],
    }  # fmt: skip
    path.write_bytes(first + broken[damage])
    with pytest.raises(TextError, match="truncated or damaged"):
        corpus(path)


@pytest.mark.parametrize("name", ["text.gz", "text.bz2", "text.xz"])
@pytest.mark.parametrize("pack", PACKERS)
def test_a_file_that_is_named_like_another_kind_is_to_be_renamed(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    path, right = tmp_path / name, tmp_path / f"text.{PACKERS[pack]}"
    path.write_bytes(pack(TEXT.encode()))
    settings: dict[str, Any]
    for settings in ({}, {"tokenizer": "byte"}) if path != right else ():
        with pytest.raises(TextError, match="not packed in the way that its name says; rename it"):
            corpus(path, **settings)
    assert corpus(path.rename(right)) == TEXT


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("text.txt", gzip.compress(TEXT.encode()), "gzip"),
        ("text.tgz", gzip.compress(TEXT.encode()), "gzip"),
        ("text.txt", bz2.compress(TEXT.encode()), "bzip2"),
        ("text.txt", lzma.compress(TEXT.encode()), "xz"),
        ("text.gz.gz", gzip.compress(gzip.compress(TEXT.encode())), "gzip"),
        ("text.zst", b"\x28\xb5\x2f\xfd" + TEXT.encode(), "zstd"),
    ],
)
def test_packed_data_is_not_advised_to_be_read_as_a_text(
    tmp_path: Path, name: str, data: bytes, kind: str
) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / name
    path.write_bytes(data)
    with pytest.raises(TextError, match=f"{name}: a {kind} file; unpack it first$"):
        corpus(path)
    with pytest.raises(TextError, match=f"no text files .*1 {kind} file"):
        corpus(path.parent)


def test_zeros_may_follow_a_stream_of_xz(tmp_path: Path) -> None:
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress(TEXT.encode()) + bytes(8) + lzma.compress(b"end") + bytes(4))
    assert corpus(path) == TEXT + "end"


def test_a_pipe_is_read_once_and_learned(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(TEXT))
    writer.start()
    assert corpus(pipe) == TEXT
    writer.join()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_text(path: str) -> None:
    with pytest.raises(TextError, match="a device or a socket"):
        corpus(Path(path))


def test_a_folder_is_read_without_runs_caches_hidden_and_binary_files(
    tmp_path: Path, run_folder: Path
) -> None:
    for name in ("checkpoints/run", ".git", "__pycache__", "cache", "texts"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "checkpoints/run/last.safetensors").write_bytes(b"secret")
    (tmp_path / "checkpoints/run/run.json").write_text("secret")
    for name in (".git/config", "__pycache__/a.txt", "cache/b.txt", ".hidden"):
        (tmp_path / name).write_text("secret")
    (tmp_path / "cache/CACHEDIR.TAG").touch()
    (tmp_path / "novel.docx").write_bytes(b"PK\3\4secret")
    (tmp_path / "tool").write_bytes(b"\x7fELF\0secret")
    (tmp_path / "texts/a.txt").write_text(TEXT)
    found = open_corpus([str(tmp_path)], TextConfig())
    assert found.tokenizer.decode(found.indices.tolist()) == TEXT
    (note,) = [note for note in found.notes if note.startswith("left out")]
    for part in ("run folder", "2 caches", "2 hidden names", "zip archive", "binary file"):
        assert part in note
    found = open_corpus([str(tmp_path)], TextConfig(tokenizer="byte"))
    assert found.indices.tobytes().count(b"secret") == 2  # of the files that are not plain text


@pytest.mark.parametrize(
    ("data", "kind"), [(b"PK\3\4", "zip archive"), (b"%PDF-1.4", "PDF"), (b"{\\rtf1", "RTF")]
)
def test_a_document_is_named_as_such(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / "novel"
    path.write_bytes(data)
    with pytest.raises(TextError, match=f"{kind}.*save it as plain text"):
        corpus(path)


@pytest.mark.parametrize(
    ("encoding", "tried"),
    [
        ("utf-16", "utf-8"), ("utf-16-le", "utf-8"), ("utf-16-be", "utf-8"), ("cp1252", "utf-8"),
        ("latin-1", "utf-8"), ("utf-8", "utf-16"), ("utf-8", "ascii"), ("cp1252", "ascii"),
    ],
)  # fmt: skip
def test_the_encoding_that_is_advised_reads_the_text(
    tmp_path: Path, encoding: str, tried: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(ACCENTS.encode(encoding))
    with pytest.raises(TextError) as caught:
        corpus(path, encoding=tried)
    advised = re.search('`encoding="(.*?)"`', str(caught.value))
    assert advised is not None, caught.value
    assert advised[1] != tried
    assert corpus(path, encoding=advised[1]) == ACCENTS


def test_what_was_tried_is_not_advised_again(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"a\x81b" * 99)
    with pytest.raises(TextError) as caught:
        corpus(path, encoding="cp1252")
    assert 'encoding="cp1252"' not in str(caught.value)


@pytest.mark.parametrize(("errors", "text"), [("replace", "caf\ufffd au"), ("skip", "caf au")])
def test_wrong_bytes_are_replaced_or_left_out_and_counted(
    tmp_path: Path, errors: str, text: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"caf\xe9 au" * 50)
    found = open_corpus([str(path)], TextConfig(encoding_errors=errors))
    assert found.tokenizer.decode(found.indices.tolist()) == text * 50
    assert any("50 bytes not in utf-8" in note for note in found.notes)


def test_a_run_remembers_what_became_of_wrong_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"caf\xe9 au lait\n" * 50)
    sizes = ["--hidden-size", "4", "--num-layers", "1", "--batch-size", "2", "--seq-len", "8"]
    run = tmp_path / "run"
    options: list[str | Path] = ["--encoding-errors", "skip", "--steps", "2", "--out", run, *sizes]
    assert charnn("train", path, *options).exit_code == 0
    assert charnn("eval", run).exit_code == 0
    assert library.load(run).checkpoint.text.encoding_errors == "skip"


def test_the_advice_on_a_prime_works_for_the_command_that_reads_it(
    tmp_path: Path, run_folder: Path
) -> None:
    path = tmp_path / "prime.txt"
    path.write_bytes("ainst".encode("utf-16"))
    result = charnn("sample", run_folder, "--prime-file", path, "--length", "3")
    assert result.exit_code == 1
    assert "convert it to utf-8" in result.stderr
    assert "--encoding" not in result.stderr
    path.write_text(path.read_text(encoding="utf-16"))
    assert charnn("sample", run_folder, "--prime-file", path, "--length", "3").exit_code == 0


def test_a_prime_from_standard_input_needs_no_cache_folder(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARNN_CACHE", "/proc/nowhere")
    result = charnn("sample", run_folder, "--prime-file", "-", "--length", "3", stdin="ain")
    assert result.exit_code == 0, result.stderr


def test_a_large_text_is_read_only_as_far_as_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 20_000)
    assert len(read_text(str(path), TextConfig(), 400)) < 3_000_000


def test_a_file_whose_ending_was_forgotten_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text(TEXT)
    with pytest.raises(TextError, match="did you mean corpus") as caught:
        corpus(Path("corpus"))
    assert corpus(Path(str(caught.value).rpartition("mean ")[2].rstrip("?"))) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "“NÃO”, disse. A MAÇÃ” “IRMÔ e “AMANHÔ. A MANHÃ… A LÃ – A FÔ " * 3,
        "À Â» «Â Ð” Ñ” Đà Nẵng: “TRÂ” “Đ” Â… " * 3,
        "Œuvre À l’École — « Ça va ? » Ô Â – Ê " * 3,
    ],
)
def test_good_text_is_not_called_mojibake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text + "\n")
    assert not any("decoded" in note for note in open_corpus([str(path)], TextConfig()).notes)


@pytest.mark.parametrize("text", ["café déjà Ôter Où “naïve”. ", "Привет, мир. ", "it’s – “so” "])
def test_mojibake_is_called_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text((text * 9).encode().decode("cp1252", "ignore"))
    assert any("decoded" in note for note in open_corpus([str(path)], TextConfig()).notes)


def test_a_byte_order_mark_inside_a_text_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\ufeff" + TEXT)
    assert any("byte-order mark" in note for note in open_corpus([str(path)], TextConfig()).notes)


def test_a_min_count_that_is_advised_keeps_something(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 150))))
    for note in open_corpus([str(path)], TextConfig()).notes:
        advised = re.search("min_count=([0-9]+)", note)
        assert advised is None
    path.write_text(path.read_text() + "a" * 99)
    for note in open_corpus([str(path)], TextConfig()).notes:
        if advised := re.search("min_count=([0-9]+)", note):
            open_corpus([str(path)], TextConfig(min_count=int(advised[1])))


def test_settings_for_characters_are_refused_for_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    with pytest.raises(CharnnError, match="`encoding_errors` is for characters"):
        library.train(path, tokenizer="byte", encoding_errors="skip", out=tmp_path / "run")
