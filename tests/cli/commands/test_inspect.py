"""`charnn inspect` and `charnn sample --clamp`, as a user types them."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from charnn.cli import view
from charnn.cli.terminal import use_color
from charnn.cli.unit_table import TRACKED
from charnn.insight.properties import PROPERTIES
from tests.conftest import TINY, charnn, words

BRACKETS = str.maketrans("ae", "()")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every cell, of two layers; of bytes; of records; and texts."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "text.txt").write_text(words(6000).translate(BRACKETS))
    (desk / "long.txt").write_text(words(3000).translate(BRACKETS))
    (desk / "rare.txt").write_text(words(3000) + "é")
    (desk / "short.txt").write_text("nist")
    (desk / "empty.txt").touch()
    (desk / "there.png").touch()
    runs = {cell: ["--cell", cell, "--num-layers", "2"] for cell in ("lstm", "gru", "rnn")}
    runs |= {"byte": ["--tokenizer", "byte"], "lines": ["--lines"], "rare": ["--min-count", "2"]}
    for name, options in runs.items():
        tiny = [*TINY[:2], *TINY[4:]] if "--num-layers" in options else TINY
        result = charnn(
            "train",
            desk / ("rare.txt" if name == "rare" else "text.txt"),
            "--steps",
            "2",
            *tiny,
            *options,
            "--out",
            desk / name,
            "-q",
        )
        assert result.exit_code == 0, result.stderr
    return desk


@pytest.fixture(autouse=True)
def _at_the_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)


def inspect(*arguments: str) -> Any:
    result = charnn("inspect", *arguments)
    assert result.exit_code == 0, result.stderr
    return result


def test_a_row_for_each_character_within_80_columns() -> None:
    rows = inspect("lstm", "nist it").stdout.splitlines()
    assert len(rows) == 2 + 7
    assert [row[0] for row in rows[2:]] == list("nist␣it")
    assert all(len(row) <= 80 for row in rows)
    assert re.split(" +", rows[1].strip())[:4] == ["input", "forget", "candid", "output"]
    for row in rows[2:]:
        assert re.fullmatch(r"\S +(. \d\.\d\d ){4}(1:\d \S+→\S+ +)+\S \d+.*", row)
    assert inspect("lstm", "stint", "--layer", "0").stdout.count(" 0:") >= 5


def test_a_plain_rnn_has_no_gates() -> None:
    assert "no gates; hidden state: mean absolute value" in inspect("rnn", "nist").stdout
    assert "reset  update candid" in inspect("gru", "nist").stdout


def test_json_holds_all_layers_gates_and_states() -> None:
    about = json.loads(inspect("lstm", "nist", "--json").stdout)
    assert [one["character"] for one in about["characters"]] == list("nist")
    for one in about["characters"]:
        assert [layer["layer"] for layer in one["layers"]] == [0, 1]
        for layer in one["layers"]:
            assert list(layer)[1:] == [*about["gates"], "cell", "hidden"]
            assert {len(layer[name]) for name in [*about["gates"], "cell", "hidden"]} == {6}
        assert sorted((p for _, p in one["next"]), reverse=True) == [p for _, p in one["next"]]
    (only,) = json.loads(inspect("lstm", "n", "--layer", "0", "--json").stdout)["characters"]
    assert only["layers"] == [about["characters"][0]["layers"][0]]
    unit = json.loads(inspect("lstm", "nist", "--unit", "1:3", "--json").stdout)
    cells = [one["layers"][1]["cell"][3] for one in about["characters"]]
    assert unit["values"] == pytest.approx(cells, abs=1e-6)


def test_a_byte_model_is_traced_by_bytes_and_its_units_by_characters() -> None:
    rows = inspect("byte", "é\n").stdout.splitlines()
    assert [row.split(" ")[0] for row in rows[2:]] == ["\\xc3", "\\xa9", "↵"]
    about = json.loads(inspect("byte", "é", "--json").stdout)
    assert [one["byte"] for one in about["characters"]] == [0xC3, 0xA9]
    unit = json.loads(inspect("byte", "né", "--unit", "0:3", "--json").stdout)
    assert (unit["text"], len(unit["values"])) == ("né", 2)


@pytest.mark.medium
def test_a_text_comes_from_a_file_and_a_long_one_is_cut() -> None:
    assert inspect("lstm", "--file", "short.txt").stdout == inspect("lstm", "nist").stdout
    result = inspect("lstm", "--file", "long.txt")
    assert len(result.stdout.splitlines()) == 2 + 400
    assert "inspecting the first 400 characters" in result.stderr
    typed = inspect("lstm", Path("long.txt").read_text())  # too long for a file name
    assert typed.stdout == result.stdout
    assert (
        "the first 2,000 characters"
        in inspect("lstm", "--file", "long.txt", "--unit", "0:0").stderr
    )


def test_characters_outside_the_vocabulary_are_read_as_the_unknown_symbol() -> None:
    assert "1 character read as the unknown symbol" in inspect("rare", "énn").stderr


def test_a_pipe_gets_digits_above_and_below_the_text_instead_of_colour() -> None:
    stdout = inspect("lstm", "nist\nit", "--unit", "0:2").stdout
    assert "\x1b" not in stdout
    assert "tanh cell 0:2" in stdout
    assert "  nist↵\n" in stdout
    rows = view.plain("ab\ncde", [0.94, -0.2, 0.04, 1.0, -1.0, 0.5], "x")[1:]
    assert rows == ["+ 9", "  ab↵", "-  2", "+ 9 5", "  cde", "-  9"]
    wide = view.plain("語a", [0.5, 0.5], "x")[1:]
    assert wide == ["+ 5 5", "  語a"]


def test_a_terminal_gets_colour_and_no_control_characters_of_the_text() -> None:
    shown = view.coloured("a\x1b[2J\nb", [1.0, 0, 0, 0, 0, -1.0, 0.0], "x").split("\n", 1)[1]
    assert shown == "\x1b[48;5;196m\x1b[38;5;16ma\x1b[0m␛[2J\x1b[48;5;21m\x1b[38;5;231m \x1b[0m\nb"


@pytest.mark.parametrize(("terminal", "no", "colour"), [(1, "", 1), (1, "1", 0), (0, "", 0)])
def test_colour_is_used_on_terminals_unless_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, terminal: int, no: str, colour: int
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("NO_COLOR", no)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: bool(terminal), raising=False)
    assert use_color(sys.stdout) == bool(colour)


def test_numbers_take_four_columns() -> None:
    values = (0.251, -0.0, 0.999, -0.994, 1.0, -9.94, 9.96, -42.4, 123.0)
    shown = ["+.25", "-.00", "+1.0", "-.99", "+1.0", "-9.9", "+10", "-42", "+123"]
    assert [view._short(value) for value in values] == shown


@pytest.mark.medium
def test_a_picture_is_replaced_only_with_force(tmp_path: Path) -> None:
    picture = tmp_path / "nist.png"
    for more in ((), ("--force",)):
        assert inspect("gru", "nist", "--plot", str(picture), *more).stdout == f"{picture}\n"
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert charnn("inspect", "gru", "nist", "--plot", picture).exit_code == 1


def test_units_are_ranked_for_all_properties_that_vary() -> None:
    assert tuple(PROPERTIES) == TRACKED
    result = inspect("lstm", "--find")
    assert "600 characters of the run's validation part" in result.stderr
    assert "note: quotes: never true in this text; not ranked" in result.stderr
    assert "charnn sample lstm/best.safetensors --clamp " in result.stderr
    about = json.loads(inspect("lstm", "--find", "--json").stdout)
    assert [one["property"] for one in about["properties"]] == ["line", "newline", "space"]
    assert about["not_ranked"].keys() == {"quotes", "brackets", "capital", "digit"}
    for one in about["properties"]:
        assert len(one["units"]) == 3
        assert f"{one['units'][0]['r_first_half']:+.3f}" in result.stdout


def test_a_pattern_for_a_property_ranks_the_same_units() -> None:
    space = json.loads(inspect("gru", "--file", "long.txt", "--find", "space", "--json").stdout)
    same = json.loads(inspect("gru", "--file", "long.txt", "--pattern", " ", "--json").stdout)
    assert same["properties"][0]["units"] == space["properties"][0]["units"]
    assert len(space["properties"][0]["units"]) == 10
    assert space["properties"][0]["units"][0]["state"] == "hidden"
    assert space["characters"] == 2800


def test_a_model_of_records_is_inspected_record_by_record() -> None:
    assert json.loads(inspect("lines", "--find", "newline", "--json").stdout)["characters"] > 300
    assert len(inspect("lines", "--file", "short.txt").stdout.splitlines()) == 6


@pytest.mark.parametrize("how", ["", "-n 3", "--beam 2", "--int8", "--best-of 2", "--lines -n 3"])
def test_a_clamped_unit_changes_the_text_in_every_sampling_mode(how: str) -> None:
    run = "lines" if "--lines" in how else "lstm"
    line = ["sample", run, "--length", "99", "--format", "jsonl", *how.split()]
    line += [] if "beam" in how else ["--seed", "1"]
    held, free, nothing = (
        charnn(*line, *clamps) for clamps in (["--clamp", "0:2=3", "--clamp=0:0=-3"], [], [])
    )
    assert held.exit_code == free.exit_code == 0, held.stderr + free.stderr
    assert held.stdout != free.stdout == nothing.stdout


# What is typed after `charnn`, the exit code, and words that stderr must hold.
BAD = [
    ("inspect lstm ''", 1, ["the text is empty"]),
    ("inspect lstm --file empty.txt", 1, ["the text is empty"]),
    ("inspect lstm --file nowhere.txt", 1, ["nowhere.txt: no such file"]),
    ("inspect lstm steép", 1, ["'é' (U+00E9) at position 3", "'p'"]),
    ("inspect lstm nist it", 2, ["quote it"]),
    ("inspect lstm nist --file short.txt", 2, ["one TEXT at most"]),
    ("inspect lstm nist --layer 2", 1, ["no layer 2", "0 to 1"]),
    ("inspect lstm nist --layer -1", 2, ["-1 must be at least 0"]),
    ("inspect byte nist --layer 1", 1, ["no layer 1", "only layer 0"]),
    ("inspect lstm nist --unit 0:6", 1, ["no unit 0:6", "0 to 1", "0 to 5"]),
    ("inspect lstm nist --unit 2:0", 1, ["no unit 2:0", "0 to 1", "0 to 5"]),
    ("inspect lstm nist --unit 5", 2, ["'5'", "LAYER:NUMBER"]),
    ("inspect lstm nist --unit 0:0 --layer 0", 2, ["--unit cannot be combined with --layer"]),
    ("inspect lstm nist --plot a.png --json", 2, ["--plot cannot be combined with --json"]),
    ("inspect lstm nist --plot a.gif", 1, [".png or .svg"]),
    ("inspect lstm nist --plot there.png", 1, ["already exists", "--force"]),
    ("inspect lstm nist --force", 2, ["--force needs --plot"]),
    ("inspect lstm --find quotes", 1, ["quotes: never true", "another text"]),
    ("inspect lstm --pattern x", 1, ["pattern: never true", "another text"]),
    (r"inspect lstm --pattern '[\s\S]'", 1, ["pattern: always true"]),
    ("inspect lstm --pattern (", 2, ["unterminated"]),
    ("inspect lstm --find verbs", 2, ["'verbs'", "'quotes'"]),
    ("inspect lstm --find quotes --pattern x", 2, ["--find cannot be combined with --pattern"]),
    ("inspect lstm --find --layer 0", 2, ["--find cannot be combined with --layer"]),
    ("inspect lstm --find --file short.txt", 1, ["4 characters is too short", "400 or more"]),
    ("inspect lines 'ns\nt'", 1, ["one line"]),
    ("inspect nowhere.safetensors", 1, ["nowhere.safetensors"]),
    ("inspect lstm --device nowhere", 1, ["nowhere"]),
    ("sample lstm --clamp 0:6=1", 1, ["no unit 0:6", "0 to 1", "0 to 5"]),
    ("sample lstm --clamp 3:0=1", 1, ["no unit 3:0", "0 to 1", "0 to 5"]),
    ("sample lstm --clamp 0:0=nan", 2, ["'0:0=nan'", "LAYER:NUMBER=VALUE"]),
    ("sample lstm --clamp 0:0=inf", 2, ["'0:0=inf'"]),
    ("sample lstm --clamp 0:0", 2, ["'0:0'", "0:17=1"]),
    ("sample lstm --clamp 0=1", 2, ["LAYER:NUMBER"]),
    ("sample lstm --clamp 0:0=1 --clamp 0:0=2", 1, ["twice"]),
    ("sample gru --clamp 0:0=1.5", 1, ["between -1 and 1"]),
]


@pytest.mark.parametrize(("typed", "code", "words"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_is_one_clear_line(typed: str, code: int, words: list[str]) -> None:
    result = charnn(*shlex.split(typed))
    assert result.exit_code == code
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    if code == 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "Traceback" not in result.stderr
