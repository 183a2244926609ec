"""A sweep trains each combination once and continues where it was stopped."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from charnn import api
from tests.conftest import words

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = ["hidden_size=6", "embedding_size=5", "batch_size=3", "seq_len=8", "dropout=.1,0.5"]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(3000))
    module = importlib.import_module("sweep")
    arguments = ["sweep.py", "words.txt", "--steps", "2", *TINY, "--out", "found.jsonl"]
    monkeypatch.setattr("sys.argv", arguments)
    return module


def test_each_combination_is_trained_once_and_again_if_its_line_is_incomplete(
    sweep: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Path("found.jsonl")
    sweep.main()
    lines = found.read_text().splitlines(keepends=True)
    assert [json.loads(line)["model"]["dropout"] for line in lines] == [0.1, 0.5]
    capsys.readouterr()
    found.write_text(lines[0] + lines[1][:20])
    sweep.main()
    out = capsys.readouterr().out
    assert out.count("dropout': 0.5") == 1
    assert "dropout': 0.1" not in out
    new_lines = found.read_text().splitlines(keepends=True)
    assert new_lines[0] == lines[0]
    first, second = (json.loads(line) for line in (lines[1], new_lines[1]))
    assert first.pop("seconds") > 0
    assert second.pop("seconds") > 0
    assert first == second


def test_the_last_fifth_of_the_validation_part_influences_no_choice(
    sweep: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = dict[str, str]()

    def train(corpus: Path, *, val: Path, **options: object) -> Path:
        seen.update(corpus=corpus.read_text(), val=val.read_text())
        return api.train(corpus, val=val, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("charnn.train", train, raising=False)
    text = sweep.Text(Path("words.txt"))
    assert text.train + text.validation == words(3000)
    assert (len(text.first), len(text.validation)) == (240, 300)
    judged = text.judge(steps=2, seed=1, hidden_size=6, batch_size=3, seq_len=8)
    counted = (239 * judged.first + 60 * judged.held_out) / 299
    assert judged.stream == pytest.approx(counted)
    assert seen == {"corpus": words(3000)[:2700], "val": words(3000)[2700:2940]}


@pytest.mark.parametrize("setting", ["seed=1", "hidden_size", "minutes=3"])
def test_an_option_or_a_setting_without_a_value_is_refused_as_a_setting(
    sweep: ModuleType, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr("sys.argv", ["sweep.py", "words.txt", setting])
    with pytest.raises(SystemExit):
        sweep.main()


def test_values_are_numbers_booleans_or_strings(sweep: ModuleType) -> None:
    given = [".5", "3", "6e-3", "true", "muon"]
    assert [sweep.parse_setting(f"x={v}")[1] for v in given] == [0.5, 3, 0.006, True, "muon"]
    pairs = list(sweep.combinations(["a=1,2", "b=x,y"]))
    assert len(pairs) == 4
    assert {"a": 2, "b": "x"} in pairs
