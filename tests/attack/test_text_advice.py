"""The advice in a message about a text works: the command has the options, and they help."""

import os
import re
import shlex
from pathlib import Path

import pytest

import charnn as library
from charnn.config import TextConfig
from charnn.errors import SettingError, TextError
from charnn.text import sources
from charnn.text.corpus import open_corpus
from charnn.text.decoding import read_text
from charnn.text.tokenizer import CharTokenizer
from tests.attack.checks import no_traceback, one_line_error
from tests.conftest import TINY

LATIN = ("caf\xe9 au lait, " * 40).encode("latin-1")
SMALL = [*TINY, "--steps", "2", "--out", "new"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with texts that are not UTF-8."""
    (tmp_path / "latin.txt").write_bytes(LATIN)
    (tmp_path / "mixed.txt").write_bytes(b"ainst " * 50 + b"\x81\xff" + b"sat " * 50)
    (tmp_path / "wide.txt").write_bytes(("ainst " * 50).encode("utf-16-le"))
    (tmp_path / "empty.txt").write_bytes(b"\n" * 50)
    (tmp_path / "rare.txt").write_text("".join(map(chr, range(0x4E00, 0x4E00 + 150))) * 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def advised(message: str) -> list[list[str]]:
    """Return the options that an error advises, each with its value."""
    return [shlex.split(found) for found in re.findall(r"--[a-z-]+(?: [\w.-]+)?", message)]


def follow(command: list[str | Path], message: str, ends: tuple[int, ...] = (0,)) -> None:
    """Run a command with each advice, none of which may fail as before or be unknown."""
    for number, options in enumerate(advised(message)):
        if "or" in options or "instead" in options:
            options = options[:1]
        words = [f"new{number}" if word == "new" else word for word in command]
        result = no_traceback(*words, *options)
        assert result.exit_code in ends, (options, result.stderr)


@pytest.mark.parametrize("name", ["latin.txt", "mixed.txt", "wide.txt"])
def test_each_advice_on_a_corpus_reads_it(here: Path, name: str) -> None:
    error = one_line_error("train", name, *SMALL)
    assert "--tokenizer byte" in error
    follow(["train", name, *SMALL], error)


@pytest.mark.parametrize("name", ["latin.txt", "mixed.txt", "wide.txt"])
@pytest.mark.parametrize("command", ["eval", "gradients"])
def test_each_advice_on_a_text_to_evaluate_reads_it(
    here: Path, run_folder: Path, command: str, name: str
) -> None:
    arguments: list[str | Path] = [command, run_folder, name]
    error = one_line_error(*arguments)
    assert "--tokenizer" not in error
    assert advised(error)
    follow([*arguments, "--skip-unknown"], error)


@pytest.mark.parametrize(
    "command",
    [
        "sample RUN --prime-file latin.txt",
        "inspect RUN --file latin.txt",
        "inspect RUN --file wide.txt",
    ],
)
def test_a_command_without_options_for_an_encoding_advises_none(
    here: Path, run_folder: Path, command: str
) -> None:
    words = [run_folder if word == "RUN" else word for word in command.split()]
    error = one_line_error(*words)
    assert not advised(error.partition(": ")[2])
    assert "utf-8" in error


def test_a_text_that_was_encoded_anew_is_not_advised_options_that_a_run_refuses(
    here: Path,
) -> None:
    (here / "text.txt").write_text("élan sat " * 50, encoding="utf-8")
    no_traceback("train", "text.txt", *SMALL)
    (here / "text.txt").write_text("élan sat " * 50, encoding="latin-1")
    for command in (["eval", "new"], ["train", "--resume", "--out", "new", "--steps", "4"]):
        assert "--encoding" not in one_line_error(*command)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_advised_encoding_is_that_of_the_text(here: Path, encoding: str) -> None:
    (here / "text.txt").write_bytes(("café au lait, " * 40).encode(encoding))
    with pytest.raises(TextError, match=f'`encoding="{encoding}"`'):
        open_corpus(["text.txt"], TextConfig())


def test_blank_lines_hold_no_records_whatever_the_fraction(here: Path) -> None:
    for fraction in (0.0, 0.1):
        config = TextConfig(lines=True, val_fraction=fraction)
        with pytest.raises(TextError, match="all lines are empty"):
            open_corpus(["empty.txt"], config, tokenizer=CharTokenizer("\nab"))


def test_an_advised_count_keeps_a_character(here: Path) -> None:
    with pytest.raises(TextError, match="`min_count=3` or less"):
        open_corpus(["rare.txt"], TextConfig(min_count=10))
    assert open_corpus(["rare.txt"], TextConfig(min_count=3)).tokenizer.vocabulary_size == 150


def test_a_replaced_byte_is_not_taken_for_a_wrong_encoding(here: Path) -> None:
    (note,) = open_corpus(["mixed.txt"], TextConfig(encoding_errors="replace")).notes
    assert "2 bytes not in utf-8, replaced by U+FFFD" in note


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_folder_of_wide_texts_is_read_in_their_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "text.txt").write_bytes(("one two " * 20).encode(encoding))
    corpus = open_corpus([str(tmp_path)], TextConfig(encoding=encoding))
    assert corpus.tokenizer.decode(corpus.indices) == "one two " * 20


def test_standard_input_from_a_device_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/zero").open() as endless:
        monkeypatch.setattr("sys.stdin", endless)
        with pytest.raises(TextError, match="standard input is a device"):
            open_corpus(["-"], TextConfig())


def test_a_pipe_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = str(tmp_path / "pipe")
    with pytest.raises(TextError, match="only once"):
        open_corpus([pipe], TextConfig(), val=[pipe])


def test_only_the_beginning_of_a_large_text_is_inspected(
    here: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad byte at the end is never met."""
    (here / "large.txt").write_bytes(b"ainst " * 400_000 + b"\xff")
    read = read_text("large.txt", TextConfig(), 400)
    assert len(read) <= sources.CHUNK_BYTES
    result = no_traceback("inspect", run_folder, "--file", "large.txt")
    assert result.exit_code == 0, result.stderr
    assert "inspecting the first 400 characters" in result.stderr


@pytest.mark.parametrize(
    "option", ["--encoding utf-8", "--min-count 1", "--encoding-errors strict"]
)
def test_an_option_for_characters_beside_bytes_is_wrong_usage(here: Path, option: str) -> None:
    words = ["train", "latin.txt", "--tokenizer", "byte", *option.split(), *SMALL]
    assert option.split()[0] in one_line_error(*words, code=2)


def test_a_byte_model_to_start_from_refuses_settings_for_characters(here: Path) -> None:
    no_traceback("train", "latin.txt", "--tokenizer", "byte", *SMALL)
    with pytest.raises(SettingError, match="`min_count` is for characters"):
        library.train("latin.txt", init_from="new", min_count=5, steps=2, out="more")


def test_a_run_of_many_texts_names_a_few_of_them(here: Path) -> None:
    for number in range(30):
        (here / f"{number}.txt").write_text("ainst " * 20)
    names = [f"{number}.txt" for number in range(30)]
    no_traceback("train", *names, *SMALL)
    (here / "5.txt").write_text("sat in " * 20)
    error = one_line_error("eval", "new")
    assert "and 27 others: not the text" in error
