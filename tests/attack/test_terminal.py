"""Whatever a name, a file or an argument holds, it stays within its line of the output."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest

from tests.attack.checks import no_traceback, one_line_error
from tests.conftest import TINY, charnn

# A line end, a carriage return, line separators, direction marks, zero-width characters, escapes.
HOSTILE = {
    "newline": "a\nerror: forged", "return": "a\rerror: forged", "next line": "a\x85error: forged",
    "separator": "a\u2028error: forged", "paragraph": "a\u2029error: forged",
    "vertical tab": "a\verror: forged", "override": "a\u202etxt.exe", "isolate": "a\u2067b",
    "zero width": "a\u200bb\u200d\ufeff", "tag": "a\U000e0041", "escape": "a\x1b[2J\x9b31m\x07",
    "byte": "a\udcff\udc9b", "setting": "`force=True`", "setting in a sentence": "a `force=True` b",
    "long": "a" * 200_000,
}  # fmt: skip
BAD = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def assert_plain_lines(printed: str) -> None:
    """Assert that nothing printed acts on a terminal, apart from the ends of our own lines."""
    assert not [c for c in printed if c != "\n" and unicodedata.category(c) in BAD]


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return HOSTILE[request.param]


USES = [
    ["sample", "NAME"], ["info", "NAME"], ["info", "NAME.safetensors"], ["plot", "NAME"],
    ["train", "NAME"], ["eval", "NAME"], ["inspect", "NAME", "--unit", "NAME"],
    ["NAME"], ["--NAME"], ["sample", "--NAME"], ["sample", "--length", "NAME"],
    ["sample", "--temperature", "NAME"], ["sample", "--format", "NAME"], ["info", "a", "NAME"],
    ["sample", "--clamp", "NAME"], ["sample", "--keep", "(NAME"], ["completion", "NAME"],
    ["train", "--encoding", "NAME", "text.txt"], ["train", "--device", "NAME", "text.txt"],
    ["train", "--init-from", "NAME", "text.txt"], ["runs", "NAME"], ["doctor", "NAME"],
]  # fmt: skip


@pytest.mark.parametrize("words", USES, ids=" ".join)
def test_an_error_is_one_bounded_line_whatever_was_typed(words: list[str], hostile: str) -> None:
    Path("text.txt").write_text("ainst " * 99)
    arguments = [word.replace("NAME", hostile) for word in words]
    result = no_traceback(*arguments)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert_plain_lines(result.stderr)
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert max(map(len, lines)) < 2000


NAMES = [value for key, value in HOSTILE.items() if key != "long"]


def test_a_table_of_runs_has_a_line_for_each_run(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        shutil.copytree(run_folder, Path("checkpoints") / name)
    shown = charnn("runs").stdout
    assert_plain_lines(shown)
    assert len(shown.splitlines()) == len(NAMES)
    assert all(line.startswith("checkpoints/") for line in shown.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_info_has_a_line_for_each_fact(run_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    usual = charnn("info", folder).stdout.splitlines()
    written = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(written | {"command": name, "started": name}))
    shown = charnn("info", folder).stdout
    assert_plain_lines(shown)
    assert len(shown.splitlines()) == len(usual)


def test_names_that_a_shell_would_act_on_are_not_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from charnn.cli.types import Checkpoint

    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, "$(touch x)", "a b", "a;b", "*", "a'b", 'a"b', "-a", "good-1.2", "gutö"]:
        (Path("checkpoints") / name).mkdir(parents=True)
        (Path("checkpoints") / name / "best.safetensors").touch()
    offered = Checkpoint().shell_complete(None, None, "")  # type: ignore[arg-type]
    assert {item.value for item in offered if item.type == "plain"} == {"good-1.2", "gutö"}


@pytest.mark.medium
def test_a_training_says_its_names_in_one_line_each(tmp_path: Path) -> None:
    for name in [name for name in NAMES if "\udcff" not in name]:  # safetensors wants UTF-8
        text = tmp_path / f"{name}.txt"
        text.write_text("ainst " * 99)
        result = charnn("train", text, *TINY, "--steps", "2", "--out", tmp_path / "runs" / name)
        assert result.exit_code == 0, result.stderr
        assert_plain_lines(result.stderr)
        assert not any(line.startswith("error") for line in result.stderr.splitlines())
        path = tmp_path / "runs" / name / "best.safetensors"
        assert result.stdout_bytes == f"{path}\n".encode("utf-8", "surrogateescape")


def test_a_name_with_a_setting_in_it_is_not_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "`force=True`" in one_line_error("info", "`force=True`")
    assert "is `top_k=3` here" in one_line_error("train", "is `top_k=3` here")
    Path("folder").mkdir()
    Path("folder/`force=True`").write_bytes(b"caf\xe9" * 9)
    message = one_line_error("train", "folder", "--steps", "1")
    assert "folder/`force=True`" in message
    assert "--encoding" in message
