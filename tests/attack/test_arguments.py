"""Bad input gets one clear line and the right exit code; nothing is lost or overwritten."""

import gzip
import pickle
import shlex
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.attack.checks import contents, one_line_error
from tests.conftest import TINY, charnn, words

TRAIN = f"train text.txt {shlex.join(TINY)} --steps 2 --out new"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of inputs that can go wrong."""
    desk = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        text = words(600)
        Path("text.txt").write_text(text)
        Path("other.txt").write_text(text[::-1])
        Path("empty.txt").touch()
        Path("folder").mkdir()
        Path("dangling.txt").symlink_to("nothing")
        Path("empties").mkdir()
        Path("empties/a.txt").touch()
        Path("empties/b.txt").touch()
        Path("one.txt").write_text("a" * 500)
        Path("letter.txt").write_text("a")
        Path("short.txt").write_text("ainst")
        Path("strange.txt").write_text("ainst É€€ ainst")
        Path("strangers.txt").write_text("ÉÈ€")
        Path("nul.bin").write_bytes(b"ab\0cd" * 100)
        Path("latin.txt").write_bytes(text[:77].encode() + b"caf\xe9")
        Path("cut.txt.gz").write_bytes(gzip.compress(text.encode())[:-20])
        _train("text.txt", "run")
        for name in ("moved", "changed"):
            Path(f"{name}.txt").write_text(text)
            _train(f"{name}.txt", name)
        Path("moved.txt").unlink()
        Path("changed.txt").write_text(text[:-1] + "!")
        for name in ("bestonly", "nowhere"):
            Path(name).mkdir()
            shutil.copy("run/best.safetensors", name)
        whole = Path("run/best.safetensors").read_bytes()
        Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
        Path("text.safetensors").write_text(text)
        Path("empty.safetensors").touch()
        Path("pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
        torch.save({"a": torch.zeros(3)}, "torch.safetensors")
        safetensors.torch.save_file({"a": torch.zeros(3)}, "foreign.safetensors")
        Path("folder.safetensors").mkdir()
        Path("halfrun").mkdir()
        Path("halfrun/last.safetensors").write_bytes(whole[:100])
    return desk


def _train(text: str, out: str) -> None:
    result = charnn("train", text, "--steps", "2", *TINY, "--out", out, "--quiet")
    assert result.exit_code == 0, result.stderr


# What is typed after `charnn`, the exit code, and texts that stderr must contain.
Row = tuple[str, int, list[str]]

CORPUS: list[Row] = [
    ("missing.txt", 1, ["missing.txt", "no such file", "check the name"]),
    ("*.missing", 1, ["*.missing", "no such file"]),
    ("empty.txt", 1, ["empty.txt", "empty", "name a file that contains text"]),
    ("folder", 1, ["folder", "contains no text files"]),
    ("empties", 1, ["empties", "empty"]),
    ("one.txt", 1, ["one symbol", "'a'"]),
    ("nul.bin", 1, ["nul.bin", "NUL", "--tokenizer byte"]),
    ("cut.txt.gz", 1, ["cut.txt.gz", "truncated"]),
    ("latin.txt", 1, ["latin.txt", "0xe9 at offset 80", "--encoding", "--tokenizer byte"]),
    ("short.txt", 1, ["4 characters", "9", "--seq-len"]),
    ("- --val -", 1, ["standard input", "only once"]),
    ("text.txt --val missing.txt", 1, ["missing.txt", "no such file"]),
    ("text.txt --val empty.txt", 1, ["empty.txt", "empty"]),
]

SETTINGS: list[Row] = [
    ("--encoding utf-9", 1, ["utf-9", "try utf-8"]),
    ("--encoding rot13", 1, ["rot13"]),
    ("--encoding utf-16", 1, ["text.txt", "utf-16", "--tokenizer byte"]),
    ("--encoding utf-32", 1, ["text.txt", "utf-32", "offset"]),
    ("--tokenizer word", 2, ["--tokenizer", "word", "byte"]),
    ("--min-count 0", 2, ["--min-count", "0"]),
    ("--min-count 10000", 1, ["10,000 times", "--min-count"]),
    ("--val-fraction 0.95", 2, ["--val-fraction", "0.95"]),
    ("--val-fraction nan", 2, ["--val-fraction", "'nan' is not a finite number"]),
    ("--device tpu", 1, ["tpu", "cpu"]),
    ("--device cuda:99", 1, ["cuda:99", "--device cpu"]),
    ("--device meta", 1, ["meta", "cpu"]),
    ("--device ''", 1, ["''", "cpu"]),
    ("--cell transformer", 2, ["--cell", "transformer", "lstm"]),
    ("--hidden-size 0", 2, ["--hidden-size", "0"]),
    ("--hidden-size -3", 2, ["--hidden-size", "-3"]),
    ("--hidden-size 1.5", 2, ["--hidden-size", "1.5"]),
    ("--hidden-size many", 2, ["--hidden-size", "many"]),
    ("--num-layers 0", 2, ["--num-layers", "0"]),
    ("--embedding-size 0", 2, ["--embedding-size", "0"]),
    ("--dropout 1", 2, ["--dropout", "1"]),
    ("--dropout nan", 2, ["--dropout", "'nan' is not a finite number"]),
    ("--batch-size 0", 2, ["--batch-size", "0"]),
    ("--seq-len 0", 2, ["--seq-len", "0"]),
    ("--seq-len 5000", 1, ["540 characters", "5,001", "--seq-len"]),
    ("--learning-rate 0", 2, ["--learning-rate", "0"]),
    ("--learning-rate -1", 2, ["--learning-rate", "-1"]),
    ("--learning-rate nan", 2, ["--learning-rate", "'nan' is not a finite number"]),
    ("--learning-rate inf", 2, ["--learning-rate", "'inf' is not a finite number"]),
    ("--clip 0", 2, ["--clip", "0"]),
    ("--patience -1", 2, ["--patience", "-1"]),
    ("--precision fp16", 1, ["fp16 needs CUDA", "bf16"]),
    ("--precision int8", 2, ["--precision", "int8", "bf16"]),
    ("--val-every 0", 2, ["--val-every", "0"]),
    ("--save-every -1", 2, ["--save-every", "-1"]),
    ("--max-rollbacks -1", 2, ["--max-rollbacks", "-1"]),
    ("--hidden-size 60000", 1, ["60000 lstm", "GB", "--hidden-size 30000", "--force"]),
    ("--seed -1", 2, ["--seed", "-1"]),
    (f"--seed {2**63}", 2, ["--seed"]),
    ("--steps 0", 2, ["--steps", "0"]),
    (f"--steps {10**400}", 2, ["--steps"]),
    ("--minutes 1", 2, ["--minutes", "--steps"]),
    ("--epochs 1", 2, ["--epochs", "--steps"]),
    ("--minutes 0", 2, ["--minutes", "0"]),
    ("--epochs -1", 2, ["--epochs", "-1"]),
    ("--out run", 1, ["run", "exists", "--resume", "--out"]),
    ("--out text.txt", 1, ["text.txt", "exists", "--out"]),
    ("--out text.txt/run", 1, ["text.txt/run", "Not a directory", "--out"]),
    ("--no-such-option", 2, ["--no-such-option"]),
    ("--lr 1", 2, ["no such option: --lr; use --learning-rate X;"]),
]

BUDGET: list[Row] = [
    ("--minutes nan", 2, ["--minutes", "not a finite number"]),
    ("--epochs inf", 2, ["--epochs", "not a finite number"]),
    ("--epochs 1e300", 2, ["--epochs", "at most"]),
]

INIT_FROM: list[Row] = [
    ("missing", 1, ["no run named missing", "start with `charnn train TEXT`"]),
    ("text.txt", 1, ["text.txt", "not a checkpoint"]),
    ("folder", 1, ["folder", "not a checkpoint"]),
    ("halfrun", 1, ["halfrun/last.safetensors", "not a checkpoint"]),
    ("run --hidden-size 7", 2, ["--hidden-size", "that run's"]),
    ("run --tokenizer byte", 2, ["--tokenizer", "that run's"]),
]

RESUME: list[Row] = [
    ("", 1, ["no run given", "start with `charnn train TEXT`"]),
    ("--out missing", 1, ["no run named missing", "start with"]),
    ("--out text.txt", 1, ["text.txt", "not a run"]),
    ("--out bestonly", 1, ["bestonly", "last.safetensors"]),
    ("--out halfrun", 1, ["halfrun/last.safetensors", "not a checkpoint"]),
    ("--out run --hidden-size 7", 2, ["--hidden-size", "keeps its settings"]),
    ("--out run --steps 1", 1, ["2 steps", "longer, not shorter", "--out"]),
    ("--out run --minutes 9", 1, ["2 steps, not minutes", "--steps"]),
    ("--out run --steps 9 --epochs 3", 2, ["one of", "--steps"]),
    ("--out run --seed 1", 2, ["--seed", "keeps its settings"]),
    ("--out run --device tpu", 1, ["tpu"]),
    ("--out moved", 1, ["moved.txt", "no such file"]),
    ("--out changed", 1, ["changed.txt", "not the text", "sha256"]),
    ("other.txt --out run", 1, ["other.txt", "not the text", "sha256"]),
    ("strange.txt --out run", 1, ["strange.txt", "not the text", "sha256"]),
]

CHECKPOINT: list[Row] = [
    ("missing.safetensors", 1, ["missing.safetensors", "no such file", "charnn runs"]),
    ("text.safetensors", 1, ["text.safetensors", "not a checkpoint"]),
    ("empty.safetensors", 1, ["empty.safetensors", "not a checkpoint"]),
    ("cut.safetensors", 1, ["cut.safetensors", "not a checkpoint"]),
    ("pickle.safetensors", 1, ["pickle.safetensors", "not a checkpoint"]),
    ("torch.safetensors", 1, ["torch.safetensors", "not a checkpoint"]),
    ("foreign.safetensors", 1, ["foreign.safetensors", "not one that charnn wrote"]),
    ("folder.safetensors", 1, ["folder.safetensors"]),
    ("halfrun", 1, ["halfrun/last.safetensors", "not a checkpoint"]),
    ("", 1, ["no checkpoint given, and ./checkpoints is empty; start with `charnn train TEXT`"]),
]

NO_CHECKPOINT: list[Row] = [
    ("folder", 1, ["no checkpoint named folder, and ./checkpoints is empty"]),
    ("text.txt", 1, ["no checkpoint named text.txt, and ./checkpoints is empty"]),
    ("missing", 1, ["no checkpoint named missing", "start with `charnn train TEXT`"]),
    ("runs", 1, ["no checkpoint named runs; did you mean run?"]),
    ("run moved", 2, ["expected one checkpoint"]),
]

SAMPLE: list[Row] = [
    ("--temperature -1", 2, ["--temperature", "-1"]),
    ("--temperature nan", 2, ["--temperature", "not a finite number"]),
    ("--top-k 0", 2, ["--top-k", "0"]),
    ("--top-k -4", 2, ["--top-k", "-4"]),
    ("--length -1", 2, ["--length", "-1"]),
    ("--length infinite", 2, ["--length", "infinite"]),
    ("--length inf -n 2", 2, ["--length inf", "give a number"]),
    ("--length inf --format jsonl", 2, ["--length inf", "give a number"]),
    ("--top-p 0", 2, ["--top-p", "0"]),
    ("--top-p 1.5", 2, ["--top-p", "1.5"]),
    ("--min-p -1", 2, ["--min-p", "-1"]),
    ("--typical nan", 2, ["--typical", "not a finite number"]),
    ("--repetition-penalty 0", 2, ["--repetition-penalty", "0"]),
    ("--repetition-window 9", 2, ["--repetition-window needs --repetition-penalty"]),
    ("--no-repeat 0", 2, ["--no-repeat", "0"]),
    ("-n 0", 2, ["-n", "0"]),
    ("--stop ''", 2, ["--stop", "end every text"]),
    ("--keep-stop", 2, ["--keep-stop needs --stop"]),
    ("--logprobs 3", 2, ["--logprobs", "jsonl"]),
    ("--best-of 3 -n 2", 2, ["--num-samples cannot be combined with --best-of"]),
    ("--beam 3 --temperature 1 --seed 1", 2, ["--temperature, --seed", "--beam"]),
    ("--fp16", 1, ["fp16 is for a GPU", "--int8"]),
    ("--fp16 --int8", 2, ["only one of --int8", "--fp16"]),
    ("--out folder", 2, ["folder"]),
    ("--out folder --force", 2, ["folder"]),
    ("--out text.txt", 1, ["text.txt", "already exists", "--force"]),
    ("--out dangling.txt", 1, ["dangling.txt", "already exists"]),
    ("--out " + "n" * 300, 1, ["File name too long", "--out"]),
    ("--force", 2, ["--force needs --out"]),
    ("--force --out -", 2, ["--force needs --out"]),
    ("--separator x", 2, ["--separator is for several texts"]),
    ("--separator x -n 3 --format jsonl", 2, ["--separator is for several texts"]),
    ("--length 99999999999999999999", 2, ["--length"]),
    ("--beam 0", 2, ["--beam"]),
    ("--out missing/x.txt", 1, ["missing", "--out"]),
    ("--keep '('", 2, ["--keep", "'('"]),
    ("--unique --novel -n 3", 1, ["--unique, --novel", "charnn train --lines"]),
    ("--best-of 3 --unique", 2, ["--unique cannot be combined with --best-of"]),
    ("--seed -1", 2, ["--seed", "-1"]),
    ("--device tpu", 1, ["tpu", "cpu"]),
    ("--prime 'aA€a'", 1, ["'A' (U+0041) at position 1, try 'a'", "'€' (U+20AC) at position 2"]),
    ("--prime a --prime-file text.txt", 2, ["only one of --prime and --prime-file"]),
    ("--prime-file missing.txt", 1, ["missing.txt", "no such file"]),
    ("--prime-file folder", 1, ["folder", "contains no text files"]),
    ("--prime-file latin.txt", 1, ["latin.txt", "80", "utf-8"]),
]

EVAL: list[Row] = [
    ("text.txt run", 2, ["one checkpoint, as the first argument; move run there or leave it out"]),
    ("runn text.txt", 1, ["no checkpoint or text named runn; did you mean run?"]),
    ("run missing.txt", 1, ["missing.txt", "no such file"]),
    ("run empty.txt", 1, ["empty.txt", "empty"]),
    ("run folder", 1, ["folder", "no text files"]),
    ("run nul.bin", 1, ["nul.bin", "NUL"]),
    ("run latin.txt", 1, ["latin.txt", "offset 80"]),
    ("run cut.txt.gz", 1, ["cut.txt.gz", "truncated"]),
    ("run letter.txt", 1, ["nothing to predict"]),
    ("run strange.txt", 1, ["3 characters", "'€' (U+20AC) x 2", "'É'", "--skip-unknown"]),
    ("run strangers.txt --skip-unknown", 1, ["nothing to predict"]),
    ("run text.txt --window 0", 2, ["--window", "0"]),
    ("run text.txt --protocol lanes", 2, ["--protocol", "lanes", "stream"]),
    ("run text.txt --device tpu", 1, ["tpu", "cpu"]),
    ("moved", 1, ["moved.txt", "no such file"]),
    ("changed", 1, ["changed.txt", "not the text", "sha256"]),
    ("nowhere", 1, ["nowhere", "run.json", "name the text"]),
]

ROWS: list[Row] = [
    *[(f"{TRAIN.replace('text.txt', given)}", code, said) for given, code, said in CORPUS],
    *[(f"{TRAIN} {given}", code, said) for given, code, said in SETTINGS],
    *[(f"{TRAIN.replace('--steps 2', given)}", code, said) for given, code, said in BUDGET],
    *[
        (f"train text.txt --steps 2 --out new --init-from {given}", code, said)
        for given, code, said in INIT_FROM
    ],
    *[(f"train --resume {given}", code, said) for given, code, said in RESUME],
    *[
        (f"{command} {given}", code, said)
        for command in ("sample", "eval", "info")
        for given, code, said in CHECKPOINT
    ],
    *[
        (f"{command} {given}", code, said)
        for command in ("sample", "info")
        for given, code, said in NO_CHECKPOINT
    ],
    *[(f"sample run {given}", code, said) for given, code, said in SAMPLE],
    *[(f"eval {given}", code, said) for given, code, said in EVAL],
    ("runs extra", 2, ["extra"]),
    ("no-such-command", 2, ["no-such-command"]),
]


@pytest.mark.parametrize(
    ("line", "code", "said"), ROWS, ids=[row[0].replace(shlex.join(TINY), "…")[:90] for row in ROWS]
)
def test_bad_input_gets_one_clear_line_and_changes_nothing(
    desk: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: int, said: list[str]
) -> None:
    monkeypatch.chdir(desk)
    before = contents(desk)
    error = one_line_error(*shlex.split(line), code=code, stdin="some text from stdin")
    for some in said:
        assert some in error
    assert contents(desk) == before


def test_a_damaged_run_does_not_hide_the_others(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(desk / "run", "checkpoints/good")
    shutil.copytree(desk / "halfrun", "checkpoints/bad")
    result = charnn("runs")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert any("checkpoints/good" in line and "nats/char" in line for line in lines)
    assert any("checkpoints/bad" in line and "not a checkpoint" in line for line in lines)


@pytest.mark.parametrize("steps", [1, 9])  # noticed when validating, or by the next step
def test_a_diverging_run_says_what_to_try_and_keeps_no_broken_model(
    desk: Path, tmp_path: Path, steps: int
) -> None:
    options = shlex.split(f"--steps {steps} --learning-rate 1e300")
    result = charnn("train", desk / "text.txt", *TINY, *options, "--out", tmp_path / "run")
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert "--learning-rate" in result.stderr
    assert not (tmp_path / "run/best.safetensors").exists()


@pytest.mark.parametrize(
    "line",
    [
        "sample --temperature nan", "sample --device tpu", "sample --out text.txt",
        "sample --fp16", "inspect --device tpu", "inspect --plot text.txt",
        "inspect --plot text.png --layer 0 --device tpu",
    ],
)  # fmt: skip
def test_an_error_about_an_option_comes_before_any_word_about_a_checkpoint(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(desk / "run", "checkpoints/run")
    Path("text.txt").touch()
    result = charnn(*shlex.split(line))
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert "checkpoint:" not in result.stderr
    assert "seed:" not in result.stderr
