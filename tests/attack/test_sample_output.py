"""What `charnn sample` writes is all there, in the right file, and overwrites nothing."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

import charnn as package
from charnn.sampling import sampler as sampling
from tests.attack.checks import contents, no_traceback, one_line_error
from tests.conftest import TINY, charnn, process


@pytest.fixture(scope="module")
def byte_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a byte model of a file that is not text."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    options = ("--tokenizer", "byte", "--steps", "2", *TINY, "--quiet")
    assert charnn("train", folder / "binary", *options, "--out", folder / "run").exit_code == 0
    return folder / "run"


def test_bytes_are_the_same_in_a_pipe_in_a_file_in_json_and_in_python(
    byte_run: Path, tmp_path: Path
) -> None:
    model = package.load(byte_run)
    expected = b"".join(model.stream_bytes(b"\xe9".decode(errors="surrogateescape"), seed=1))
    assert len(expected) == 500
    (sample,) = model.samples(1, "\udce9", seed=1)
    assert sample.data == expected
    options = ("sample", byte_run, "--seed", "1", "--prime", os.fsdecode(b"\xe9"))
    assert charnn(*options, "--format", "bytes").stdout_bytes == b"\xe9" + expected
    assert charnn(*options, "--format", "bytes", "--out", tmp_path / "b").exit_code == 0
    assert (tmp_path / "b").read_bytes() == b"\xe9" + expected
    assert f'"hex": "{expected.hex()}"' in charnn(*options, "--format", "jsonl").stdout
    charnn(*options).stdout_bytes.decode()  # text is valid UTF-8 whatever the model writes


def test_a_terminal_gets_bytes_only_with_raw(
    byte_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import _NamedTextIOWrapper

    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda self: True, raising=False)
    error = one_line_error("sample", byte_run, "--format", "bytes", code=2)
    assert "redirect" in error
    assert no_traceback("sample", byte_run, "--format", "bytes", "--raw").exit_code == 0


def test_a_dash_is_stdout(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("sample", run_folder, "--length", "9", "--seed", "1")
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        assert charnn(*options, "--out", name).stdout == charnn(*options).stdout != ""
        assert "--force needs" in one_line_error(*options, "--out", name, "--force", code=2)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_text_is_not_written_under_the_name_of_a_model(
    run_folder: Path, force: tuple[str, ...]
) -> None:
    before = contents(run_folder)
    for name in ("best.safetensors", "new.safetensors"):
        error = one_line_error("sample", run_folder, "--out", run_folder / name, *force)
        assert "the name of a checkpoint" in error
    assert contents(run_folder) == before


def test_a_file_is_replaced_with_force_only(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    out.write_text("old")
    options = ("sample", run_folder, "--length", "9", "--seed", "1", "--out", out)
    one_line_error(*options)
    assert out.read_text() == "old"
    assert no_traceback(*options, "--force").exit_code == 0
    assert len(out.read_text()) == 10
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["taken.txt", "n" * 250])
def test_a_file_that_appears_meanwhile_is_not_overwritten(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its name is taken from the first moment on, so that of two commands the second ends."""
    out = tmp_path / name
    options = ("sample", run_folder, "--length", "9", "--seed", "1", "--out", out)
    stream, seconds = sampling.Sampler.stream_bytes, []

    def meanwhile(*arguments: object, **settings: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling.Sampler, "stream_bytes", stream)
            seconds.append(charnn(*options))
        return stream(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(sampling.Sampler, "stream_bytes", meanwhile)
    assert no_traceback(*options).exit_code == 0
    (second,) = seconds
    assert (second.exit_code, "already exists" in second.stderr) == (1, True)
    assert len(out.read_text()) == 10
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_device_is_written_and_stays_a_device(run_folder: Path, force: tuple[str, ...]) -> None:
    assert no_traceback("sample", run_folder, "--out", "/dev/null", *force).exit_code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(
    ("options", "number", "code", "expected"),
    [
        (["-n", "1000000", "--length", "40"], signal.SIGINT, 130, r"[\d,]+ of 1,000,000 texts"),
        (["--length", "inf"], signal.SIGTERM, 143, r"[\d,]+ characters"),
    ],
)
@pytest.mark.medium
def test_a_stopped_command_says_how_much_it_wrote_and_keeps_it(
    run_folder: Path, tmp_path: Path, options: list[str], number: int, code: int, expected: str
) -> None:
    out = tmp_path / "out.txt"
    writing = process("sample", run_folder, *options, "--out", out, "--seed", "1")
    for _ in range(600):
        if out.exists() and out.stat().st_size > 10_000:
            break
        time.sleep(0.05)
    writing.send_signal(number)
    _, stderr = writing.communicate(timeout=60)
    assert writing.returncode == code
    assert re.search(f"stopped; {expected} written to {re.escape(str(out))}\n", stderr), stderr
    assert "Traceback" not in stderr
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize("name", ["prime", "stop"])
def test_an_escape_that_the_shell_did_not_read_is_noted(byte_run: Path, name: str) -> None:
    result = charnn("sample", byte_run, "--length", "5", f"--{name}", r"\n\n")
    assert rf"note: \n in --{name} is read as it stands" in result.stderr
