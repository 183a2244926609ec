"""`charnn sample` generates what was requested: how many texts, how long, and in which form."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import charnn as package
from tests.conftest import TINY, charnn, process


def rows(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_jsonl_has_a_line_per_text_whose_seed_generates_it_again(run_folder: Path) -> None:
    options = ("--length", "12", "--prime", "st", "--format", "jsonl")
    several = rows(charnn("sample", run_folder, "-n", "6", "--seed", "0", *options))
    assert [row["index"] for row in several] == list(range(6))
    assert several[0]["seed"] == 0
    for row in several:
        assert row.keys() == {"index", "seed", "prime", "text", "nats", "stop"}
        assert (row["prime"], len(row["text"]), row["stop"]) == ("st", 12, "length")
        (again,) = rows(charnn("sample", run_folder, "--seed", str(row["seed"]), *options))
        assert again["text"] == row["text"]
        assert again["nats"] == pytest.approx(row["nats"], abs=1e-3)
    plain = charnn("sample", run_folder, *options[:4], "--seed", "0").stdout
    assert plain == "st" + several[0]["text"] + "\n"


@pytest.mark.parametrize(("typed", "line"), [((), "---"), (("--separator", "%%"), "%%")])
def test_many_texts_are_separated_by_a_line_and_nothing_else_is_on_stdout(
    run_folder: Path, typed: tuple[str, ...], line: str
) -> None:
    options = ("sample", run_folder, "-n", "3", "--length", "9", "--seed", "4")
    result = charnn(*options, *typed, "--quiet")
    texts = [row["text"] for row in rows(charnn(*options, "--format", "jsonl"))]
    assert result.stdout == f"\n{line}\n".join(texts) + "\n"
    assert result.stderr == ""
    exact = charnn(*options, *typed, "--format", "bytes").stdout_bytes
    assert exact.decode() == f"\n{line}\n".join(texts)


def test_a_stop_ends_each_text_and_can_be_kept(run_folder: Path) -> None:
    options = ("sample", run_folder, "-n", "20", "--seed", "2", "--format", "jsonl", "--stop", "a")
    before, after = (rows(charnn(*options, *more)) for more in ((), ("--keep-stop",)))
    assert {row["stop"] for row in before} == {"stop"}
    assert all("a" not in row["text"] for row in before)
    assert [row["text"] + "a" for row in before] == [row["text"] for row in after]


def test_a_stop_text_outside_the_vocabulary_is_noted(run_folder: Path) -> None:
    result = charnn("sample", run_folder, "--length", "5", "--stop", "Ω", "--seed", "1")
    assert "note: --stop 'Ω' cannot be generated" in result.stderr
    assert len(result.stdout) == 6


def test_logprobs_hold_each_character_and_its_alternatives(run_folder: Path) -> None:
    options = ("--format", "jsonl", "--length", "7", "--seed", "1", "--logprobs", "3")
    (row,) = rows(charnn("sample", run_folder, *options))
    assert "".join(one["char"] for one in row["logprobs"]) == row["text"]
    assert sum(one["nats"] for one in row["logprobs"]) == pytest.approx(row["nats"])
    for one in row["logprobs"]:
        assert len(one["best"]) == 3
        assert one["nats"] >= one["best"][0][1] - 1e-6


def test_logprobs_without_alternatives_hold_each_character(run_folder: Path) -> None:
    options = ("--format", "jsonl", "--length", "7", "--seed", "1", "--logprobs", "0")
    (row,) = rows(charnn("sample", run_folder, *options))
    assert "".join(one["char"] for one in row["logprobs"]) == row["text"]
    assert all(one["best"] == [] for one in row["logprobs"])


def test_logprobs_of_a_byte_model_are_of_bytes(text_file: Path, tmp_path: Path) -> None:
    train = ["--tokenizer", "byte", "--steps", "1", *TINY]
    result = charnn("train", text_file, *train, "--out", tmp_path / "bytes")
    assert result.exit_code == 0
    options = ("--format", "jsonl", "--length", "40", "--seed", "1", "--logprobs", "2")
    (row,) = rows(charnn("sample", tmp_path / "bytes", *options))
    written = bytes(one["byte"] for one in row["logprobs"])
    assert max(written) > 127  # half a character, which no text can show
    assert written.decode(errors="replace").startswith(row["text"])
    assert all(len(one["best"]) == 2 for one in row["logprobs"])


def test_eval_measures_the_loss_of_int8(run_folder: Path) -> None:
    exact, rough = (
        json.loads(charnn("eval", run_folder, "--json", *more).stdout) for more in ((), ("--int8",))
    )
    difference = rough["bits_per_char"] - exact["bits_per_char"]
    assert rough["int8_loss_bits_per_char"] == pytest.approx(difference, abs=1e-6)
    assert abs(difference) < 0.02
    assert "bits/char compared with float32" in charnn("eval", run_folder, "--int8").stdout
    assert charnn("sample", run_folder, "--int8", "--length", "9", "--seed", "1").exit_code == 0


def test_the_best_of_many_is_the_one_with_fewest_nats_per_character(run_folder: Path) -> None:
    options = ("sample", run_folder, "--length", "8", "--seed", "3", "--format", "jsonl")
    several = rows(charnn(*options, "-n", "9"))
    result = charnn(*options, "--best-of", "9")
    assert rows(result) == [min(several, key=lambda row: row["nats"])]
    assert f"best of 9: {min(row['nats'] for row in several) / 8:.4f} nats/char" in result.stderr


def test_a_beam_finds_no_worse_a_text_than_greedy_and_prints_its_score(run_folder: Path) -> None:
    options = ("sample", run_folder, "--length", "10", "--format", "jsonl")
    (greedy,) = rows(charnn(*options, "--temperature", "0", "--seed", "1"))
    result = charnn(*options, "--beam", "20")
    (found,) = rows(result)
    assert found["nats"] <= greedy["nats"] + 1e-4
    assert found["seed"] is None
    assert result.stderr == f"beam of 20: {found['nats'] / 10:.4f} nats/char\n"


def test_out_gets_what_stdout_would_and_overwrites_nothing(
    run_folder: Path, tmp_path: Path
) -> None:
    options = ("sample", run_folder, "-n", "2", "--length", "30", "--seed", "5")
    out = tmp_path / "some.txt"
    assert charnn(*options, "--out", out).stdout == ""
    assert out.read_text() == charnn(*options).stdout
    refused = charnn(*options, "--out", out)
    assert refused.exit_code == 1
    assert "already exists" in refused.stderr
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.medium
def test_a_stopped_endless_text_leaves_a_complete_file(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "endless.txt"
    writing = process("sample", run_folder, "--length", "inf", "--out", out, "--seed", "1")
    for _ in range(2400):
        if any(path.stat().st_size > 100_000 for path in tmp_path.iterdir()):
            break
        time.sleep(0.05)
    writing.send_signal(signal.SIGINT)
    _, stderr = writing.communicate(timeout=60)
    assert writing.returncode == 130
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["endless.txt"]
    first = charnn("sample", run_folder, "--length", "1000", "--seed", "1").stdout.removesuffix(
        "\n"
    )
    assert out.read_text().startswith(first)


def test_a_relaxed_filter_is_noted(run_folder: Path) -> None:
    result = charnn("sample", run_folder, "--length", "90", "--no-repeat", "1", "--seed", "1")
    assert re.search(r"note: --no-repeat was ignored for \d+ characters", result.stderr)


def test_python_generates_the_same_texts(run_folder: Path) -> None:
    model = package.load(run_folder)
    several = list(model.samples(4, "st", length=9, seed=2, stop=["a"]))
    options = ("--length", "9", "--seed", "2", "--stop", "a", "--prime", "st", "--format", "jsonl")
    assert [s.text for s in several] == [
        row["text"] for row in rows(charnn("sample", run_folder, "-n", "4", *options))
    ]
    assert model.sample("st", length=9, seed=several[3].seed, stop=["a"]) == several[3].text
    (found,) = model.beam(1, "st", length=5)
    assert found.text == model.sample("st", length=5, temperature=0.0)
