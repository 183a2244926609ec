"""Commands as a user types them: standard output, standard error and exit codes."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from charnn import checkpoint
from tests.conftest import TINY, charnn, process, words


def test_train_prints_only_the_path_of_the_best_checkpoint(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = charnn("train", text_file, "--steps", "2", *TINY, "--out", out)
    assert result.exit_code == 0
    assert result.stdout == f"{out / 'best.safetensors'}\n"
    assert "nats/char" in result.stderr
    assert f"charnn sample {out}" in result.stderr
    assert "%|" not in result.stderr  # no bar without a terminal
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "best.safetensors", "last.safetensors", "metrics.jsonl", "run.json",
    ]  # fmt: skip


def test_quiet_leaves_stderr_empty(text_file: Path, tmp_path: Path) -> None:
    result = charnn("train", text_file, "--steps", "2", *TINY, "--out", tmp_path / "r", "--quiet")
    assert result.stderr == ""


def test_a_budget_in_minutes_is_kept_and_stored_as_steps(text_file: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    result = charnn("train", text_file, "--minutes", "0.02", *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert time.monotonic() - start < 15
    train = checkpoint.load(tmp_path / "run" / "last.safetensors").train
    assert train.steps >= 10
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])[
        "step"
    ] == (train.steps)


def test_without_a_corpus_the_built_in_text_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = charnn("train", "--steps", "1", *TINY)
    assert result.stdout == "checkpoints/demo/best.safetensors\n"
    assert charnn("train", "--steps", "1", *TINY).stdout == "checkpoints/demo-2/best.safetensors\n"
    assert charnn("train", "--out", "checkpoints/demo", "--resume").exit_code == 0


def test_standard_input_is_a_corpus(tmp_path: Path, text_file: Path) -> None:
    out = tmp_path / "run"
    text = text_file.read_bytes()
    train = charnn("train", "-", "--steps", "1", *TINY, "--out", out, stdin=text)
    assert train.exit_code == 0
    facts = checkpoint.load(out / "best.safetensors").corpus
    assert facts.characters == 2000
    result = charnn("eval", out)
    assert result.exit_code == 1
    assert "standard input" in result.stderr


def test_the_newest_run_is_used_if_none_is_named(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        charnn("train", text_file, "--steps", "1", *TINY, "--out", f"checkpoints/{name}")
    for command in (("sample", "--length", "3"), ("eval",), ("info",)):
        result = charnn(*command)
        assert result.exit_code == 0, result.stderr
        assert "checkpoints/b/best.safetensors" in result.stderr
    lines = charnn("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["checkpoints/b", "checkpoints/a"]


def test_sample_prints_the_prime_followed_by_length_characters(run_folder: Path) -> None:
    result = charnn("sample", run_folder, "--prime", "aein", "--length", "30", "--seed", "0")
    assert result.stdout.startswith("aein")
    assert len(result.stdout) == 4 + 30 + 1
    assert result.stderr == ""
    repeated = charnn("sample", run_folder, "--prime", "aein", "--length", "30", "--seed", "0")
    assert repeated.stdout == result.stdout


def test_a_random_seed_is_printed_and_generates_the_same_text_again(run_folder: Path) -> None:
    first = charnn("sample", run_folder, "--length", "30")
    seed = first.stderr.removeprefix("seed: ").strip()
    assert charnn("sample", run_folder, "--length", "30", "--seed", seed).stdout == first.stdout


def test_the_prime_can_come_from_a_file_or_stdin(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prime").write_text("st\na")
    options = ("--length", "5", "--seed", "1")
    inline = charnn("sample", run_folder, "--prime", "st\na", *options).stdout
    assert (
        charnn("sample", run_folder, "--prime-file", tmp_path / "prime", *options).stdout == inline
    )
    assert (
        charnn("sample", run_folder, "--prime-file", "-", *options, stdin="st\na").stdout == inline
    )


def test_eval_measures_the_validation_part_or_a_text(run_folder: Path, text_file: Path) -> None:
    own = json.loads(charnn("eval", run_folder, "--json").stdout)
    assert own.keys() == {
        "protocol", "nats_per_char", "bits_per_char", "characters", "unknown", "checkpoint",
    }  # fmt: skip
    assert own["protocol"] == "stream"
    assert own["characters"] == 199
    part = text_file.parent / "part.txt"
    part.write_text(text_file.read_text()[1800:])
    given = json.loads(charnn("eval", run_folder, part, "--json").stdout)
    assert given == own
    window = json.loads(charnn("eval", run_folder, "--protocol", "window", "--json").stdout)
    assert window["protocol"] == "window 256"


def test_eval_can_leave_out_unknown_characters(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "strange.txt").write_text("aXein\nstXYea")
    refused = charnn("eval", run_folder, tmp_path / "strange.txt")
    assert refused.exit_code == 1
    assert "'X' (U+0058) x 2" in refused.stderr
    (tmp_path / "known.txt").write_text("aein\nstea")
    skipped = charnn("eval", run_folder, tmp_path / "strange.txt", "--skip-unknown", "--json")
    known = json.loads(charnn("eval", run_folder, tmp_path / "known.txt", "--json").stdout)
    assert json.loads(skipped.stdout) == known | {"unknown": 3}


def test_byte_models_read_any_file_and_report_nats_per_byte(tmp_path: Path) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(bytes(range(256)) * 8)
    out = tmp_path / "run"
    train = charnn("train", data, "--tokenizer", "byte", "--steps", "2", *TINY, "--out", out)
    assert train.exit_code == 0, train.stderr
    result = json.loads(charnn("eval", out, "--json").stdout)
    assert result["nats_per_byte"] == result["nats_per_char"]
    assert charnn("sample", out, "--length", "50", "--prime", "ß").stdout.startswith("ß")


def test_rare_characters_are_scored_as_one_unknown_symbol(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("abcab" * 100 + "xyz" + "ab" * 20)
    out = tmp_path / "run"
    charnn("train", text, "--min-count", "2", "--steps", "2", *TINY, "--out", out)
    assert json.loads(charnn("info", out, "--json").stdout)["vocabulary"]["characters"] == "abc"
    other = tmp_path / "other.txt"
    other.write_text(text.read_text() + "b")
    scored = charnn("eval", out, other, "--json")
    assert json.loads(scored.stdout)["unknown"] == 3
    assert json.loads(scored.stdout)["characters"] == 543
    assert "'x' (U+0078) x 1" in scored.stderr
    assert json.loads(charnn("eval", out, "--json").stdout)["unknown"] == 3
    folded = charnn("sample", out, "--prime", "x")
    assert folded.exit_code == 0
    assert "unknown" in folded.stderr


def test_info_shows_the_command_that_made_the_model(run_folder: Path) -> None:
    about = json.loads(charnn("info", run_folder, "--json").stdout)
    assert about["model"]["hidden_size"] == 6
    assert about["run"]["corpus"][0].endswith("words.txt")
    assert about["run"]["command"].startswith("charnn")
    text = charnn("info", run_folder).stdout
    assert "1 x 6 lstm, embedding 5" in text
    assert about["run"]["command"] in text


@pytest.mark.medium
def test_a_closed_pipe_ends_sampling_quietly(run_folder: Path) -> None:
    sampling = process("sample", run_folder, "--length", "1000000", "--seed", "1")
    assert sampling.stdout is not None
    assert sampling.stderr is not None
    assert len(sampling.stdout.read(100)) == 100
    sampling.stdout.close()
    assert sampling.wait(timeout=60) == 0
    assert sampling.stderr.read() == ""
    sampling.stderr.close()


@pytest.mark.medium
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_saved_and_can_be_continued(
    number: signal.Signals, code: int, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    training = process("train", text_file, "--steps", "100000", *TINY, "--out", out)
    metrics = out / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size:
            break
        time.sleep(0.05)
    training.send_signal(number)
    stdout, stderr = training.communicate(timeout=60)
    assert training.returncode == code
    assert stdout == ""
    assert "Traceback" not in stderr
    assert f"charnn train --out {out} --resume" in stderr
    stopped = checkpoint.load(out / "last.safetensors").figures.step
    assert 0 < stopped < 100_000

    resumed = process("train", "--out", out, "--resume")
    assert resumed.stderr is not None
    first_lines = [resumed.stderr.readline() for _ in range(2)]  # where the text is, then the run
    assert f"from step {stopped:,}" in first_lines[1]
    resumed.send_signal(signal.SIGINT)
    resumed.communicate(timeout=60)
    assert resumed.returncode == 130


def test_resuming_a_finished_run_says_so(run_folder: Path, text_file: Path) -> None:
    result = charnn("train", text_file, "--out", run_folder, "--resume")
    assert result.exit_code == 0
    assert "finished already" in result.stderr
    assert result.stdout == f"{run_folder / 'best.safetensors'}\n"


def test_version() -> None:
    assert re.fullmatch(r"charnn, version \d+\.\d+\.\d+\n", charnn("--version").stdout)


@pytest.mark.medium
def test_a_closed_stderr_does_not_end_the_training(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    training = process("train", text_file, "--steps", "40", *TINY, "--out", out)
    assert training.stderr is not None
    assert training.stdout is not None
    training.stderr.close()
    assert training.stdout.read() == f"{out / 'best.safetensors'}\n"
    assert training.wait(timeout=60) == 0
    training.stdout.close()
    assert checkpoint.load(out / "last.safetensors").figures.step == 40


@pytest.mark.medium
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_of_one_line(run_folder: Path) -> None:
    command = [sys.executable, "-m", "charnn", "sample", str(run_folder), "--length", "9", "-q"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: output: no space left on device; check the path")


def test_resuming_without_out_continues_the_newest_run_of_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "my text.txt"):
        Path(name).write_text(words(300))
        assert charnn("train", name, "--steps", "1", *TINY).exit_code == 0
    result = charnn("train", "a.txt", "--resume")
    assert result.stdout == "checkpoints/a/best.safetensors\n"
    assert "charnn sample 'checkpoints/my text'" in charnn("train", "--resume").stderr


def test_evaluating_a_model_on_its_corpus_uses_the_validation_part(
    run_folder: Path, text_file: Path
) -> None:
    result = charnn("eval", run_folder, text_file, "--json")
    assert json.loads(result.stdout) == json.loads(charnn("eval", run_folder, "--json").stdout)
    assert "its validation part" in result.stderr


def test_a_text_in_another_encoding_can_be_evaluated(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("aein st")
    (tmp_path / "wide.txt").write_text("aein st", encoding="utf-16")
    plain = charnn("eval", run_folder, tmp_path / "plain.txt", "--json").stdout
    wide = charnn(
        "eval", run_folder, tmp_path / "wide.txt", "--encoding", "utf-16", "--json"
    ).stdout
    assert wide == plain


def test_a_prime_may_be_long(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prime").write_text(words(5000))
    result = charnn("sample", run_folder, "--prime-file", tmp_path / "prime", "--length", "3", "-q")
    assert result.stdout.startswith(words(5000))


def test_a_run_that_stops_early_says_why(text_file: Path, tmp_path: Path) -> None:
    options = ("--steps", "300", "--learning-rate", "2", "--patience", "1")
    result = charnn("train", text_file, *options, *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 0
    assert "no better validation in 1" in result.stderr


def test_auto_is_the_same_as_leaving_an_option_out(text_file: Path, tmp_path: Path) -> None:
    steps = ("--steps", "1", *TINY)
    for name, more in (("one", ()), ("two", ("--precision", "auto", "--optimizer", "auto"))):
        result = charnn("train", text_file, *steps, *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    first, second = (checkpoint.load(tmp_path / n / "last.safetensors") for n in ("one", "two"))
    assert first.train == second.train


def test_a_window_without_its_protocol_is_refused(run_folder: Path) -> None:
    result = charnn("eval", run_folder, "--window", "64")
    assert result.exit_code == 2
    assert "--window needs --protocol window" in result.stderr
