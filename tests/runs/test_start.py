"""A run starts in a new folder and can be resumed, lengthened, or started from other weights."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import charnn
from charnn import checkpoint
from charnn.device import fast_bfloat16, has_bfloat16_lstm
from charnn.errors import CharnnError
from charnn.model.network import tensors_of
from charnn.runs.lock import lock_run
from charnn.text.tokenizer import CharTokenizer
from charnn.training import loop, plan, recipe
from charnn.training.init_from import adapt_weights
from charnn.training.memory import estimate_memory
from charnn.training.update import Update
from tests.conftest import TINY, stopped_run, warned, words
from tests.conftest import charnn as command

SIZES: dict[str, Any] = {
    "hidden_size": 6, "embedding_size": 5, "num_layers": 2, "batch_size": 3, "seq_len": 8,
    "dropout": 0.2, "seed": 1, "val_every": 2,
}  # fmt: skip
FILES = ("best.safetensors", "last.safetensors")


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def stopped(folder: Path, text: Path, step: int, **settings: Any) -> Path:
    """Start a run of six steps, stop it after `step` of them, and return its folder."""
    stopped_run(folder, text, step, steps=6, **SIZES | settings)
    assert checkpoint.load(folder / FILES[1]).figures.step == step
    return folder


CASES = [
    {"cell": cell, "tokenizer": tokenizer}
    for cell in ("lstm", "gru", "rnn")
    for tokenizer in ("char", "byte")
]


@pytest.mark.medium
def test_a_run_resumed_in_a_new_process_has_the_same_bytes_for_each_cell_and_tokenizer(
    text_file: Path, tmp_path: Path
) -> None:
    folders = []
    for number, case in enumerate(CASES):
        charnn.train(text_file, out=tmp_path / f"{number}-reference", steps=6, **SIZES | case)
        folders.append(stopped(tmp_path / str(number), text_file, 3, **case))
    code = "import sys, charnn\nfor folder in sys.argv[1:]: charnn.resume(folder)"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, *folders], check=True, env=environment)
    for number, case in enumerate(CASES):
        assert contents(folders[number]) == contents(tmp_path / f"{number}-reference"), case


def test_resuming_with_the_same_budget_changes_nothing(text_file: Path, tmp_path: Path) -> None:
    reference, run = tmp_path / "reference", stopped(tmp_path / "run", text_file, 3)
    charnn.train(text_file, out=reference, steps=6, **SIZES)
    result = command("train", "--resume", "--out", run, "--steps", "6")
    assert result.exit_code == 0
    assert "note" not in result.stderr
    assert contents(run) == contents(reference)


def test_a_larger_budget_lengthens_a_finished_run_and_prints_the_consequences(
    text_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    charnn.train(text_file, out=run, steps=6, **SIZES)
    result = command("train", "--resume", "--out", run, "--steps", "10")
    assert result.exit_code == 0, result.stderr
    assert "6 steps become 10" in result.stderr
    assert "learning rate goes from" in result.stderr
    last = checkpoint.load(run / FILES[1])
    assert (last.figures.step, last.train.steps) == (10, 10)
    assert json.loads((run / "run.json").read_text())["budget"] == {"steps": 10}
    assert "finished already" in command("train", "--resume", "--out", run).stderr


def test_a_lengthened_run_can_be_stopped_and_resumed_too(text_file: Path, tmp_path: Path) -> None:
    for name in ("reference", "run"):
        charnn.train(text_file, out=tmp_path / name, steps=6, **SIZES)
    with warned("6 steps become"):
        charnn.resume(tmp_path / "reference", epochs=0.2)
    from charnn.config import TrainConfig
    from charnn.training.plan import epoch_steps

    train = TrainConfig(1, SIZES["batch_size"], SIZES["seq_len"], 1.0, 1)
    steps = epoch_steps(0.2, train, 1800)
    assert checkpoint.load(tmp_path / "reference" / FILES[1]).train.steps == steps > 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_steps", lambda *_: iter(()))
        patch.setattr("charnn.runs.run.train_steps", lambda *_: iter(()))
        with warned("6 steps become"):
            charnn.resume(tmp_path / "run", steps=steps)  # as if it were killed immediately
    charnn.resume(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "reference")


def test_a_budget_in_minutes_lengthens_a_run_in_proportion(text_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    charnn.train(text_file, out=run, minutes=0.02, **SIZES)
    steps = checkpoint.load(run / FILES[1]).train.steps
    charnn.resume(run, minutes=0.02)
    assert checkpoint.load(run / FILES[1]).train.steps == steps
    with warned("stretched"):
        charnn.resume(run, minutes=0.03)
    assert checkpoint.load(run / FILES[1]).train.steps == round(1.5 * steps)


def as_on_machine(run: Path, **machine: Any) -> None:
    """Let `last` say that another machine wrote it."""
    last = checkpoint.load(run / FILES[1])
    assert last.run is not None
    facts = replace(last.run, machine=replace(last.run.machine, **machine))
    checkpoint.save(run / FILES[1], replace(last, run=facts))


def as_older(run: Path) -> None:
    """Let `last` be one that holds no facts about its run."""
    checkpoint.save(run / FILES[1], replace(checkpoint.load(run / FILES[1]), run=None))


OTHER_MACHINES = [
    ({"threads": 99}, "99 threads before, 1 now"),
    ({"processes": 2}, "2 processes before, 1 now"),
    ({"device": "NVIDIA"}, "on NVIDIA before, on cpu now"),
    ({"bfloat16": not fast_bfloat16(torch.device("cpu"))}, "muon in "),
    ({"torch": "1.0"}, "PyTorch 1.0 before"),
    ({"instructions": "DEFAULT"}, r"\(DEFAULT\) before, on .* now: the last bits may differ"),
    ({"processor": "Abacus"}, "on Abacus .* before, on "),
    ({"variables": "MKL_CBWR=AVX2"}, "MKL_CBWR=AVX2.* before, on "),
]


@pytest.mark.parametrize(("part", "message"), OTHER_MACHINES)
def test_resuming_prints_what_differs_from_the_machine_that_wrote_last(
    text_file: Path, tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    as_on_machine(run, **part)
    assert re.search(f"note: .*{message}", command("train", "--resume", "--out", run).stderr)


@pytest.mark.parametrize(("part", "message"), OTHER_MACHINES)
def test_resuming_an_older_checkpoint_prints_what_differs_from_the_machine_in_run_json(
    text_file: Path, tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    as_older(run)
    about = json.loads((run / "run.json").read_text())
    about["versions" if "torch" in part else "machine"] |= part
    (run / "run.json").write_text(json.dumps(about))
    assert re.search(f"note: .*{message}", command("train", "--resume", "--out", run).stderr)


@pytest.mark.parametrize("variable", ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR"])
def test_an_instruction_set_that_a_variable_restricts_is_noted(
    text_file: Path, tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    monkeypatch.setenv(variable, "avx2")
    assert re.search(
        f"note: on .* before, on .*{variable}=avx2\\) now: the last bits may differ",
        command("train", "--resume", "--out", run).stderr,
    )


def test_resuming_a_bf16_run_on_a_machine_with_slow_bf16_prints_a_note(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fast in (True, False):  # when the run starts, when it is resumed
        monkeypatch.setattr("charnn.training.plan.fast_bfloat16", lambda _, fast=fast: fast)
        monkeypatch.setattr("charnn.runs.machine.fast_bfloat16", lambda _, fast=fast: fast)
        if fast:
            run = stopped(tmp_path / "run", text_file, 3)
            assert checkpoint.load(run / FILES[1]).train.precision == "bf16"
    result = command("train", "--resume", "--out", run)
    note = "slow on this machine" if has_bfloat16_lstm(torch.device("cpu")) else "computing in fp32"
    assert note in result.stderr
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "damage",
    [
        "", "[]", '{"corpus": 3}', '{"validation": {"val_every": 0}}', '{"budget": "much"}',
        "[" * 200_000, '{"command": "\\ud800", "started": 3}', '{"machine": 3, "versions": []}',
        '{"budget": {"minutes": 1e-300, "steps": ' + "9" * 400 + "}}",
    ],
)  # fmt: skip
def test_a_damaged_run_json_causes_no_traceback(
    text_file: Path, tmp_path: Path, damage: str
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    (run / "run.json").write_text(damage)
    for line in (
        ("info", run),
        ("train", "--resume", "--out", run, "--minutes", "1"),
        ("train", "--resume", "--out", run),
        ("train", text_file, "--resume", "--out", run),
    ):
        result = command(*line)
        assert isinstance(result.exception, SystemExit | None), result.exception


@pytest.mark.parametrize("damage", [None, "[]", '{"command": "charnn train", "corpus": 3}'])
def test_a_run_without_a_whole_run_json_ends_the_same_and_gets_a_new_one(
    text_file: Path, tmp_path: Path, damage: str | None
) -> None:
    charnn.train(text_file, out=tmp_path / "reference", steps=6, **SIZES)
    run = stopped(tmp_path / "run", text_file, 3)
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").unlink()
    if damage is not None:
        (run / "run.json").write_text(damage)
    result = command("train", text_file, "--resume", "--out", run)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"note: .*run\.json: (missing|damaged).*; writing anew", result.stderr)
    assert contents(run) == contents(tmp_path / "reference")
    again = json.loads((run / "run.json").read_text())
    for name in ("corpus", "val", "validation", "machine"):
        assert again[name] == about[name]
    assert (run / "run.json.damaged").exists() == (damage is not None)


def test_running_out_of_memory_is_an_error_of_one_line_with_the_sizes(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(Update, "__call__", refuse)
    result = command("train", text_file, "--steps", "3", *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "error: not enough memory for 1 x 6 lstm, " in result.stderr
    assert "3 lanes x 8; try --" in result.stderr


def test_patience_may_be_given_to_a_resumed_run(text_file: Path, tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    result = command("train", "--resume", "--out", run, "--patience", "7", "-q")
    assert result.exit_code == 0
    assert json.loads((run / "run.json").read_text())["validation"]["patience"] == 7


def test_a_run_is_resumed_from_the_previous_checkpoint_if_the_last_is_damaged(
    text_file: Path, tmp_path: Path
) -> None:
    reference, run = tmp_path / "reference", stopped(tmp_path / "run", text_file, 3)
    charnn.train(text_file, out=reference, steps=6, **SIZES)
    last, previous = run / FILES[1], run / "last.previous.safetensors"
    shutil.copy(last, previous)
    last.write_bytes(last.read_bytes()[:1000])
    sampled = command("sample", last, "--length", "5", "--seed", "1")
    assert sampled.exit_code == 0
    assert "using the older" in sampled.stderr
    with warned("using the older"):
        charnn.load(last)
    result = command("train", "--resume", "--out", run)
    assert result.exit_code == 0
    assert "could not be read; resuming from the one before it" in result.stderr
    assert contents(run) == contents(reference)
    assert not previous.exists()
    assert (run / "last.safetensors.damaged").stat().st_size == 1000  # the damaged file is kept


def test_a_run_killed_while_renaming_its_last_checkpoint_can_be_resumed(
    text_file: Path, tmp_path: Path
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    (run / FILES[1]).rename(run / "last.previous.safetensors")
    with warned("the one before it"):
        charnn.resume(run)
    assert checkpoint.load(run / FILES[1]).figures.step == 6


def test_a_folder_without_a_first_save_cannot_be_resumed_but_started_over(
    text_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("metrics.jsonl", ".lock", ".last.safetensors.0123abcd.tmp"):
        (run / name).touch()
    (run / "run.json").write_text('{"versions": {"charnn": "0.1.0"}}')
    result = command("train", "--resume", "--out", run)
    assert result.exit_code == 1
    assert f"start it again with the same text and --out {run}" in result.stderr
    result = command("sample", run)
    assert result.exit_code == 1
    assert "stopped before its first save" in result.stderr
    assert command("train", text_file, "--steps", "2", *TINY, "--out", run).exit_code == 0
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock", "best.safetensors", "last.safetensors", "metrics.jsonl", "run.json",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["mine", '{"step": 1}', "{}"])
def test_files_of_the_user_that_only_have_our_names_are_left_unchanged(
    text_file: Path, tmp_path: Path, name: str, content: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).write_text(content)
    for more in ([], ["--hidden-size", "60000"]):  # one that could start, and one too large
        result = command("train", text_file, "--steps", "2", *TINY, *more, "--out", folder)
        assert result.exit_code == 1
        assert "already exists" in result.stderr
    assert (folder / name).read_text() == content
    assert len(list(folder.iterdir())) == 1


def test_a_folder_with_other_files_is_refused_and_left_unchanged(
    text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    result = command("train", text_file, "--steps", "2", *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_resuming_removes_the_temporary_files_of_a_killed_process(
    text_file: Path, tmp_path: Path
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    (run / ".best.safetensors.0123abcd.tmp").write_bytes(b"half")
    (run / "notes.tmp").write_text("mine")
    charnn.resume(run)
    assert sorted(path.name for path in run.glob("*.tmp")) == ["notes.tmp"]
    assert list(run.glob(".*.tmp")) == []


def test_two_processes_cannot_write_to_the_same_run(text_file: Path, tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    before = contents(run)
    code = "import sys, time\nfrom pathlib import Path\nfrom charnn.runs.lock import lock_run\n"
    code += "with lock_run(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, run], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    result = command("train", "--resume", "--out", run)
    assert result.exit_code == 1
    assert f"in use by process {holder.pid}" in result.stderr
    assert command("sample", run, "--length", "3").exit_code == 0  # reading is always allowed
    assert contents(run) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert command("train", "--resume", "--out", run).exit_code == 0


def test_a_new_run_is_refused_if_another_process_has_locked_its_folder(
    text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    with lock_run(tmp_path / "run"):
        result = command("train", text_file, "--steps", "2", *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "in use by process" in result.stderr


def test_a_run_started_from_a_byte_model_is_a_byte_model_and_can_be_resumed(
    text_file: Path, tmp_path: Path
) -> None:
    charnn.train(text_file, out=tmp_path / "one", steps=2, **SIZES, tokenizer="byte")
    charnn.train(text_file, out=tmp_path / "two", steps=2, init_from=tmp_path / "one", seed=1)
    with warned("2 steps become 3"):
        charnn.resume(tmp_path / "two", steps=3)
    assert checkpoint.load(tmp_path / "two" / FILES[1]).tokenizer.kind == "byte"


def test_init_from_adapts_the_weights_of_another_run_to_the_new_vocabulary(
    run_folder: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(words(900, seed=5).replace("e", "E"))
    small = ("--steps", "1", "--learning-rate", "1e-30", "--out", tmp_path / "run")
    result = command("train", text, "--init-from", run_folder, *small, *TINY[6:])
    assert result.exit_code == 0, result.stderr
    ours, theirs = (checkpoint.load(f / FILES[0]) for f in (tmp_path / "run", run_folder))
    assert ours.model.hidden_size == theirs.model.hidden_size
    assert ours.tokenizer.to_json() == CharTokenizer("\n Eainst").to_json()
    expected = adapt_weights(tensors_of(theirs.weights), theirs.tokenizer, ours.tokenizer)
    for name, weight in ours.weights.items():
        torch.testing.assert_close(torch.from_numpy(weight), expected[name], atol=1e-6, rtol=0)
    dropped, added = result.stderr.splitlines()[:2]  # before anything else
    assert dropped.startswith("note: dropped: these characters of the old model do not occur in")
    assert dropped.endswith(": 'e'")
    assert added == "note: characters new to the model start as the mean of the others: 'E'"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--hidden-size 7", 2, "--hidden-size: with --init-from"),
        ("--tokenizer byte", 2, "--tokenizer: with --init-from"),
        ("--resume", 2, "--init-from: a resumed run"),
    ],
)
def test_settings_that_the_weights_determine_cannot_be_given(
    run_folder: Path, text_file: Path, tmp_path: Path, options: str, code: int, message: str
) -> None:
    out = ("--out", tmp_path / "run")
    result = command("train", text_file, "--init-from", run_folder, *options.split(), *out)
    assert result.exit_code == code
    assert message in result.stderr


def test_python_refuses_sizes_that_do_not_fit_the_weights(
    run_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(CharnnError, match="hidden_size 9 does not fit the weights"):
        charnn.train(text_file, out=tmp_path / "x", init_from=run_folder, steps=1, hidden_size=9)
    assert not (tmp_path / "x").exists()


def test_a_dry_run_prints_the_plan_and_creates_nothing(text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = command("train", text_file, "--steps", "9", *TINY, "--dry-run", "--out", out)
    assert result.exit_code == 0
    printed = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert printed["parameters"] == "408"
    assert printed["memory"].startswith("about ")
    assert "seconds" in printed["time"]
    assert (printed["hidden_size"], printed["steps"], printed["cell"]) == ("6", "9", "lstm")
    assert not out.exists()
    command("train", text_file, "--steps", "9", *TINY, "--out", out)
    assert checkpoint.load(out / FILES[0]).figures.parameters == 408


def test_a_run_that_needs_more_memory_than_available_is_refused_before_it_starts(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charnn.training.memory.available_memory", lambda device: 20_000.0)
    out = ("--steps", "2", "--out", tmp_path / "run")
    result = command("train", text_file, *TINY, *out)
    assert result.exit_code == 1
    assert "would need about" in result.stderr
    assert result.stderr.count("--") >= 4  # three options that help, and --force
    assert not (tmp_path / "run").exists()
    assert command("train", text_file, *TINY, *out, "--force").exit_code == 0


def test_a_plan_chooses_sizes_that_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = recipe.Facts(10**8, 10**7, 65, 1)
    large = plan.make_plan(facts, plan.Budget(epochs=3), {}, NoSpeed())
    less = recipe.Facts(10**8, 10**7, 65, 1, memory=2e8)
    small = plan.make_plan(less, plan.Budget(epochs=3), {}, NoSpeed())
    assert small.model.hidden_size < large.model.hidden_size
    assert estimate_memory(small.model, small.train) <= 2e8


class NoSpeed:
    """A speed that must not be measured."""

    def measure(self, *_: Any) -> Any:
        raise AssertionError

    def elapsed(self) -> float:
        return 0.0


@pytest.mark.medium
def test_a_run_interrupted_while_planning_leaves_no_folder(text_file: Path, tmp_path: Path) -> None:
    arguments = ["train", text_file, "--minutes", "5", "--out", tmp_path / "run"]
    code = [sys.executable, "-m", "charnn", *map(str, arguments)]
    training = subprocess.Popen(code, stderr=subprocess.PIPE, text=True)
    assert training.stderr is not None
    for line in training.stderr:
        if "timing this machine" in line:
            break
    time.sleep(0.2)
    training.send_signal(signal.SIGINT)
    rest = training.communicate(timeout=60)[1]
    assert training.returncode == 130
    assert "Traceback" not in rest
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_that_needs_more_memory_than_available_is_refused(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    monkeypatch.setattr("charnn.training.memory.available_memory", lambda device: 20_000.0)
    result = command("train", "--resume", "--out", run)
    assert result.exit_code == 1
    assert "would need about" in result.stderr
    assert command("train", "--resume", "--out", run, "--force").exit_code == 0


@pytest.mark.medium
def test_lengthening_a_run_that_stopped_early_suggests_more_patience(
    text_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    charnn.train(text_file, out=run, steps=60, learning_rate=2.0, patience=2, **SIZES)
    result = command("train", "--resume", "--out", run, "--steps", "70")
    assert "--patience 4" in result.stderr
    assert "finished already" in result.stderr
    result = command("train", "--resume", "--out", run, "--patience", "100")
    assert checkpoint.load(run / FILES[1]).figures.step == 70


def test_bf16_on_a_cpu_without_a_bf16_lstm_is_an_error_of_one_line(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charnn.training.plan.has_bfloat16_lstm", lambda _: False)
    line = ("train", text_file, "--steps", "2", "--precision", "bf16", "--out", tmp_path / "run")
    result = command(*line)
    assert result.exit_code == 1
    assert "precision bf16: this CPU has no LSTM in bfloat16" in result.stderr
    assert not (tmp_path / "run").exists()
    assert command(*line, "--cell", "gru").exit_code == 0


def test_a_resumed_run_keeps_its_number_of_threads(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(tmp_path / "run", text_file, 3)
    as_on_machine(run, threads=os.cpu_count())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    used = []
    monkeypatch.setattr(Update, "run", lambda *_: used.append(torch.get_num_threads()))
    with pytest.raises(AttributeError):  # the patched update returns None
        charnn.resume(run)
    assert used == [os.cpu_count()]
    assert torch.get_num_threads() == 1, "the caller's number of threads was not restored"


def test_the_advice_to_start_a_run_again_names_its_folder_as_a_shell_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, typed in (("0x10", "0x10"), ("None", "None"), ("my run", "'my run'")):
        Path(name).mkdir()
        (Path(name) / "run.json").write_text('{"versions": {"charnn": "0.1.0"}}')
        result = command("train", "--resume", "--out", name)
        assert f"--out {typed}" in result.stderr
