"""`charnn inspect` and `charnn sample --clamp`, as a user types them."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from charnn.cli import view
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


def said(*arguments: str) -> Any:
    result = charnn("inspect", *arguments)
    assert result.exit_code == 0, result.stderr
    return result


def test_a_row_for_each_character_within_80_columns() -> None:
    rows = said("lstm", "nist it").stdout.splitlines()
    assert len(rows) == 2 + 7
    assert [row[0] for row in rows[2:]] == list("nist␣it")
    assert all(len(row) <= 80 for row in rows)
    assert re.split(" +", rows[1].strip())[:4] == ["input", "forget", "candid", "output"]
    for row in rows[2:]:
        assert re.fullmatch(r"\S +(. \d\.\d\d ){4}(1:\d \S+→\S+ +)+\S \d+.*", row)
    assert said("lstm", "stint", "--layer", "0").stdout.count(" 0:") >= 5


def test_a_plain_rnn_says_that_it_has_no_gates() -> None:
    assert "no gates: mean size of the hidden state" in said("rnn", "nist").stdout
    assert "reset  update candid" in said("gru", "nist").stdout


def test_json_holds_everything_and_agrees_with_itself() -> None:
    about = json.loads(said("lstm", "nist", "--json").stdout)
    assert [one["character"] for one in about["characters"]] == list("nist")
    for one in about["characters"]:
        assert [layer["layer"] for layer in one["layers"]] == [0, 1]
        for layer in one["layers"]:
            assert list(layer)[1:] == [*about["gates"], "cell", "hidden"]
            assert {len(layer[name]) for name in [*about["gates"], "cell", "hidden"]} == {6}
        assert sorted((p for _, p in one["next"]), reverse=True) == [p for _, p in one["next"]]
    (only,) = json.loads(said("lstm", "n", "--layer", "0", "--json").stdout)["characters"]
    assert only["layers"] == [about["characters"][0]["layers"][0]]
    unit = json.loads(said("lstm", "nist", "--unit", "1:3", "--json").stdout)
    cells = [one["layers"][1]["cell"][3] for one in about["characters"]]
    assert unit["values"] == pytest.approx(cells, abs=1e-6)


def test_a_model_of_bytes_tells_bytes_and_colours_characters() -> None:
    rows = said("byte", "é\n").stdout.splitlines()
    assert [row.split(" ")[0] for row in rows[2:]] == ["\\xc3", "\\xa9", "↵"]
    about = json.loads(said("byte", "é", "--json").stdout)
    assert [one["byte"] for one in about["characters"]] == [0xC3, 0xA9]
    unit = json.loads(said("byte", "né", "--unit", "0:3", "--json").stdout)
    assert (unit["text"], len(unit["values"])) == ("né", 2)


def test_a_text_comes_from_a_file_and_a_long_one_is_cut() -> None:
    assert said("lstm", "--file", "short.txt").stdout == said("lstm", "nist").stdout
    result = said("lstm", "--file", "long.txt")
    assert len(result.stdout.splitlines()) == 2 + 400
    assert "the first 400 of 3,000 characters" in result.stderr
    typed = said("lstm", Path("long.txt").read_text())  # which is too long for the name of a file
    assert typed.stdout == result.stdout
    assert "the first 2,000 of" in said("lstm", "--file", "long.txt", "--unit", "0:0").stderr


def test_the_unknown_symbol_stands_for_strange_characters() -> None:
    assert "1 characters are read as the unknown symbol" in said("rare", "énn").stderr


def test_a_pipe_gets_no_colour_and_digits_stand_by_the_signs() -> None:
    stdout = said("lstm", "nist\nit", "--unit", "0:2").stdout
    assert "\x1b" not in stdout
    assert "tanh cell 0:2" in stdout
    assert "  nist↵\n" in stdout
    rows = view.plain("ab\ncde", [0.94, -0.2, 0.04, 1.0, -1.0, 0.5], "x")[1:]
    assert rows == ["+ 9", "  ab↵", "-  2", "+ 9 5", "  cde", "-  9"]
    wide = view.plain("語a", [0.5, 0.5], "x")[1:]
    assert wide == ["+ 5 5", "  語a"]


def test_a_terminal_gets_colour_that_the_text_cannot_change() -> None:
    shown = view.coloured("a\x1b[2J\nb", [1.0, 0, 0, 0, 0, -1.0, 0.0], "x").split("\n", 1)[1]
    assert shown == "\x1b[48;5;196m\x1b[38;5;16ma\x1b[0m␛[2J\x1b[48;5;21m\x1b[38;5;231m \x1b[0m\nb"


@pytest.mark.parametrize(("terminal", "no", "colour"), [(1, "", 1), (1, "1", 0), (0, "", 0)])
def test_colour_is_for_terminals_without_no_color(
    monkeypatch: pytest.MonkeyPatch, terminal: int, no: str, colour: int
) -> None:
    monkeypatch.setenv("NO_COLOR", no)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: bool(terminal), raising=False)
    assert view.colours() == bool(colour)


def test_numbers_take_four_columns() -> None:
    values = (0.251, -0.0, 0.999, -0.994, 1.0, -9.94, 9.96, -42.4, 123.0)
    shown = ["+.25", "-.00", "+1.0", "-.99", "+1.0", "-9.9", "+10", "-42", "+123"]
    assert [view._short(value) for value in values] == shown


def test_a_picture_is_made_and_only_replaced_by_force(tmp_path: Path) -> None:
    picture = tmp_path / "nist.png"
    for more in ((), ("--force",)):
        assert said("gru", "nist", "--plot", str(picture), *more).stdout == f"{picture}\n"
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert charnn("inspect", "gru", "nist", "--plot", picture).exit_code == 1


def test_all_properties_that_the_text_has_are_ranked() -> None:
    assert tuple(PROPERTIES) == TRACKED
    result = said("lstm", "--find")
    assert "600 characters of the run's validation part" in result.stderr
    assert "note: quotes never holds in this text" in result.stderr
    assert "charnn sample lstm/best.safetensors --clamp " in result.stderr
    about = json.loads(said("lstm", "--find", "--json").stdout)
    assert [one["property"] for one in about["properties"]] == ["line", "newline", "space"]
    assert about["absent"].keys() == {"quotes", "brackets", "capital", "digit"}
    for one in about["properties"]:
        assert len(one["units"]) == 3
        assert f"{one['units'][0]['ranked']:+.3f}" in result.stdout


def test_one_property_and_a_pattern_of_a_text_of_ones_own() -> None:
    space = json.loads(said("gru", "--file", "long.txt", "--find", "space", "--json").stdout)
    same = json.loads(said("gru", "--file", "long.txt", "--pattern", " ", "--json").stdout)
    assert same["properties"][0]["units"] == space["properties"][0]["units"]
    assert len(space["properties"][0]["units"]) == 10
    assert space["properties"][0]["units"][0]["state"] == "hidden"
    assert space["characters"] == 2800


def test_a_model_of_records_reads_each_by_itself() -> None:
    assert json.loads(said("lines", "--find", "newline", "--json").stdout)["characters"] > 300
    assert len(said("lines", "--file", "short.txt").stdout.splitlines()) == 6


@pytest.mark.parametrize("how", ["", "-n 3", "--beam 2", "--int8", "--best-of 2", "--lines -n 3"])
def test_a_held_unit_is_heard_in_every_way_of_writing(how: str) -> None:
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
    ("inspect lstm ''", 1, ["empty text"]),
    ("inspect lstm --file empty.txt", 1, ["empty text"]),
    ("inspect lstm --file nowhere.txt", 1, ["nowhere.txt: no such file"]),
    ("inspect lstm steép", 1, ["'é' (U+00E9) at position 3", "'p'"]),
    ("inspect lstm nist it", 2, ["quote it"]),
    ("inspect lstm nist --file short.txt", 2, ["one TEXT at most"]),
    ("inspect lstm nist --layer 2", 1, ["no layer 2", "0 to 1"]),
    ("inspect lstm nist --layer -1", 1, ["no layer -1", "0 to 1"]),
    ("inspect byte nist --layer 1", 1, ["no layer 1", "only layer 0"]),
    ("inspect lstm nist --unit 0:6", 1, ["no unit 0:6", "0 to 1", "0 to 5"]),
    ("inspect lstm nist --unit 2:0", 1, ["no unit 2:0", "0 to 1", "0 to 5"]),
    ("inspect lstm nist --unit 5", 2, ["'5'", "LAYER:NUMBER"]),
    ("inspect lstm nist --unit 0:0 --layer 0", 2, ["--layer means nothing with --unit"]),
    ("inspect lstm nist --plot a.png --json", 2, ["--json means nothing with --plot"]),
    ("inspect lstm nist --plot a.gif", 1, [".png or .svg"]),
    ("inspect lstm nist --plot there.png", 1, ["exists", "--force"]),
    ("inspect lstm nist --force", 2, ["--force needs --plot"]),
    ("inspect lstm --find quotes", 1, ["quotes never holds", "--file"]),
    ("inspect lstm --pattern x", 1, ["pattern never holds", "--file"]),
    (r"inspect lstm --pattern '[\s\S]'", 1, ["pattern always holds"]),
    ("inspect lstm --pattern (", 2, ["unterminated"]),
    ("inspect lstm --find verbs", 2, ["'verbs'", "'quotes'"]),
    ("inspect lstm --find quotes --pattern x", 2, ["--pattern means nothing with --find"]),
    ("inspect lstm --find --layer 0", 2, ["--layer means nothing with --find"]),
    ("inspect lstm --find --file short.txt", 1, ["4 characters is too short", "400 or more"]),
    ("inspect lines 'ns\nt'", 1, ["a record at a time"]),
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
def test_what_is_wrong_is_one_clear_line(typed: str, code: int, words: list[str]) -> None:
    result = charnn(*shlex.split(typed))
    assert result.exit_code == code
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    if code == 1:
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "Traceback" not in result.stderr
