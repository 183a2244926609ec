"""Records from the command line: train, judge, write those that are wanted, count."""

import json
import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import charnn as package
from charnn import checkpoint
from charnn.runs import start
from charnn.runs.info import reopen_corpus
from charnn.sampling.record_filter import known_records
from charnn.text.corpus import open_corpus
from charnn.text.records import indices_of
from tests.conftest import TINY, charnn, stopped_run, words

NAMES = sorted(set(words(4000).split()))


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("\n".join(NAMES * 2) + "\n\n")
    return path


@pytest.fixture(scope="session")
def names_run(names: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("names") / "run"
    result = charnn("train", names, "--lines", "--steps", "60", *TINY, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "val" in result.stderr
    return out


def rows(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_each_line_that_is_written_is_a_record(names_run: Path) -> None:
    result = charnn("sample", names_run, "--lines", "-n", "300", "--seed", "1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 300
    assert set("".join(lines)) <= set("aeinst")
    table = (
        r"requested 300, generated \d+, kept 300\n"
        r"of those generated: complete [\d.]+%, unique [\d.]+%, unique and novel [\d.]+%\n"
        r"novelty check is approximate: 0\.0\d% false rejections\n"
        r"mean length [\d.]+, in the corpus [\d.]+\n"
    )
    assert re.search(table, result.stderr)


def test_unique_and_novel_records_are(names_run: Path) -> None:
    options = ("sample", names_run, "--seed", "2", "--length", "30", "--temperature", "1")
    lines = charnn(*options, "-n", "50", "--unique", "--novel").stdout.splitlines()
    assert len(set(lines)) == 50
    known = checkpoint.load(names_run / "best.safetensors").known
    assert known is not None
    codes_of = package.load(names_run).tokenizer.codes_of
    assert all(known.has(codes_of(name)) for name in NAMES)  # also those that validate
    assert not set(NAMES) & set(lines)


def test_a_separate_validation_list_is_known_too(tmp_path: Path) -> None:
    for name, lines in {"train": ["ab", "ba", "aab"], "val": ["bb", "ab"]}.items():
        (tmp_path / name).write_text("\n".join(lines))
    options: tuple[str | Path, ...] = ("--lines", "--steps", "2", *TINY, "--out", tmp_path / "run")
    charnn("train", tmp_path / "train", "--val", tmp_path / "val", *options)
    for name in ("best", "last"):
        loaded = checkpoint.load(tmp_path / "run" / f"{name}.safetensors")
        assert (loaded.corpus.records, loaded.corpus.known_records) == (3, 5)
        is_known = known_records(loaded)
        known = [word for word in ("ab", "ba", "aab", "bb", "b", "aaa") if is_known(word)]
        assert known == ["ab", "ba", "aab", "bb"]


def test_a_list_with_frequent_records_learns_each_of_them_and_says_so(tmp_path: Path) -> None:
    shares = {"anna": 300, "bert": 200, "ida": 100}
    lines = [name for name, count in shares.items() for _ in range(count)]
    (tmp_path / "names").write_text("\n".join(lines + [a + b for a in "abd" for b in "int"]))
    options: tuple[str | Path, ...] = ("--lines", "--steps", "2", *TINY, "--out", tmp_path / "run")
    result = charnn("train", tmp_path / "names", *options)
    assert "note: 600 lines hold records that occur 10 times or more: of each" in result.stderr
    corpus = reopen_corpus(tmp_path / "run", checkpoint.load(tmp_path / "run/best.safetensors"))
    for part, share in ((corpus.train, 0.9), (corpus.validation, 0.1)):
        counts = Counter(corpus.tokenizer.decode(indices_of(part)).split("\n"))
        for name, count in shares.items():
            assert abs(counts[name] - share * count) <= 1


@pytest.mark.parametrize("kind", ["char", "byte"])
def test_a_run_of_before_goes_on_with_the_split_that_it_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    names = tmp_path / "names"
    names.write_bytes(b"\r\n".join([b"anna", b"bert", b"ida", b"dina", b"berta"] * 30))
    monkeypatch.setattr(start, "open_corpus", partial(open_corpus, record_rules=1))
    settings: dict[str, Any] = {
        "hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 4, "seed": 1,
        "lines": True, "val_fraction": 0.5, "tokenizer": kind,
    }  # fmt: skip
    package.train(names, out=tmp_path / "run", steps=4, **settings)
    before = checkpoint.load(tmp_path / "run" / "last.safetensors")
    monkeypatch.undo()
    package.resume(tmp_path / "run", steps=8)
    after = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert after.corpus == before.corpus
    assert json.loads(charnn("eval", tmp_path / "run", names, "--json").stdout) == json.loads(
        charnn("eval", tmp_path / "run", "--json").stdout
    )
    package.train(names, out=tmp_path / "new", steps=4, **settings)
    new = checkpoint.load(tmp_path / "new" / "last.safetensors").corpus
    assert new.train_characters != before.corpus.train_characters
    assert (new.sha256 == before.corpus.sha256) == (kind == "char")


def test_byte_records_end_before_their_line_end_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"\xef\xbb\xbfab\r\nba\r\naab\r\n" * 9)
    options = ("--lines", "--tokenizer", "byte", "--steps", "2", *TINY)
    result = charnn("train", tmp_path / "names", *options, "--out", tmp_path / "run")
    assert "note: converted CRLF and CR line ends to LF; --keep-newlines keeps" in result.stderr
    found = charnn("sample", tmp_path / "run", "-n", "3", "--keep", "[^\r]$", "--novel")
    assert found.exit_code == 0
    is_known = known_records(checkpoint.load(tmp_path / "run/best.safetensors"))
    assert is_known("ab")
    assert not is_known("ab\r")


def test_a_record_can_be_begun_filtered_and_validated(names_run: Path, tmp_path: Path) -> None:
    options = ("sample", names_run, "--seed", "3", "--temperature", "1", "--max-tries", "4000")
    begun = charnn(*options, "-n", "9", "--prime", "st", "--keep", "^st.*e").stdout.splitlines()
    assert len(begun) == 9
    assert all(line.startswith("st") and "e" in line for line in begun)
    script = tmp_path / "even.py"
    script.write_text("import sys\nfor line in sys.stdin: print(len(line.strip()) % 2 ^ 1)\n")
    result = charnn(*options, "-n", "20", "--validator", f"{sys.executable} {script}")
    assert result.exit_code == 0, result.stderr
    assert all(len(line) % 2 == 0 for line in result.stdout.splitlines())
    assert "valid" in result.stderr


def test_what_is_not_found_ends_with_3_and_what_there_is(names_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "few.txt"
    result = charnn(
        "sample", names_run, "-n", "40", "--keep", "^[ae]+$", "--max-tries", "200", "--seed", "1",
        "--out", out, "--temperature", "1",
    )  # fmt: skip
    assert result.exit_code == 3
    assert (
        "of 40 records among 200 generated; try a higher --max-tries or --temperature, or a "
        "looser --keep" in result.stderr
    )
    assert all(set(line) <= set("ae") for line in out.read_text().splitlines())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(4)", "failed with exit code 4"),
        ("print(1)", "printed 1 answer for 256 records"),
        ("import time; time.sleep(9)", "took more than"),
    ],
)
def test_a_validator_that_fails_is_told_in_a_line(
    names_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.setattr("charnn.sampling.validator.VALIDATOR_SECONDS", 0.5)
    (tmp_path / "script.py").write_text(code)
    command = f"{sys.executable} {tmp_path / 'script.py'}"
    result = charnn("sample", names_run, "-n", "300", "--validator", command)
    assert result.exit_code == 1
    assert said in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("keep", "named"),
    [
        ("^Q", "'Q'"), ("Q.*7", "'7', 'Q'"), ("(?i)A", ""), ("(?i)Ü", "'Ü'"), (r"\Zx\w", "'x'"),
        ("[QX]b{3}", "'b'"), ("(?:x)", "'x'"), ("(?P<name>x)", "'x'"), (r"[^]Q]{99}", ""),
    ],
)  # fmt: skip
def test_a_pattern_with_characters_that_the_model_does_not_know_is_explained(
    names_run: Path, keep: str, named: str
) -> None:
    result = charnn(
        "sample", names_run, "-n", "2", "--keep", keep, "--max-tries", "2", "-q", "--seed", "2"
    )
    assert (f"--keep has {named}, which the model does not know" in result.stderr) == bool(named)
    assert result.exit_code == 3 or not named


def test_records_are_judged_by_themselves(names_run: Path, names: Path) -> None:
    own = json.loads(charnn("eval", names_run, "--json").stdout)
    assert own["protocol"] == "records"
    other = json.loads(charnn("eval", names_run, names, "--json").stdout)
    assert other == own
    model = package.load(names_run)
    assert model.score("".join(f"{name}\n" for name in NAMES)).characters == sum(
        map(len, NAMES)
    ) + len(NAMES)
    assert "\n" not in model.sample(length=400, seed=1)


@pytest.mark.medium
def test_a_run_of_records_goes_on_exactly(names: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 4, "dropout": 0.2,
        "seed": 1, "val_every": 5, "lines": True, "steps": 40,
    }  # fmt: skip
    package.train(names, out=tmp_path / "straight", **settings)
    stopped_run(tmp_path / "run", names, 17, **settings)
    package.resume(tmp_path / "run")
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_model_of_plain_text_writes_no_records(run_folder: Path) -> None:
    for option in (("--lines",), ("--unique",), ("--keep", "a")):
        result = charnn("sample", run_folder, *option)
        assert result.exit_code == 1
        assert "not trained on records; train one with `charnn train --lines`" in result.stderr


def test_a_text_without_a_line_end_is_no_list_of_records(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("abc" * 99)
    result = charnn("train", tmp_path / "one.txt", "--lines", *TINY, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "no line end" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_stop_in_a_record_is_kept_and_its_line_end_never(names_run: Path) -> None:
    options = ("sample", names_run, "-n", "40", "--seed", "1", "--stop", "e", "--keep-stop")
    lines = charnn(*options, "--lines").stdout.splitlines()
    assert len(lines) == 40
    assert all("e" not in line[:-1] for line in lines)
    assert any(line.endswith("e") for line in lines)


def test_a_prime_from_a_file_ends_where_its_line_does(names_run: Path, tmp_path: Path) -> None:
    (tmp_path / "prime").write_text("st\n")
    options = ("sample", names_run, "-n", "5", "--lines", "--seed", "1")
    primed = charnn(*options, "--prime-file", tmp_path / "prime")
    assert primed.stdout == charnn(*options, "--prime", "st").stdout
    refused = charnn(*options, "--prime", "s\nt")
    assert refused.exit_code == 1
    assert "a record has no newline" in refused.stderr


def test_the_line_end_before_a_record_is_no_repetition(names_run: Path) -> None:
    options = ("sample", names_run, "-n", "30", "--lines", "--seed", "1", "--no-repeat", "1")
    result = charnn(*options)
    lines = result.stdout.splitlines()
    assert all(len(set(line)) == len(line) for line in lines)
    assert "--no-repeat was ignored" not in result.stderr


def test_records_longer_than_a_validation_is_are_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charnn.training.validations.MIN_VALIDATION_SYMBOLS", 10)
    lines = [words(300, seed).replace("\n", " ") for seed in range(30)]
    (tmp_path / "long.txt").write_text("\n".join(lines) + "\n")
    options: tuple[str | Path, ...] = (
        "--steps",
        "3",
        *TINY,
        "--out",
        tmp_path / "run",
        "--val-every",
        "1",
    )
    result = charnn("train", tmp_path / "long.txt", "--lines", *options)
    assert result.exit_code == 0, result.stderr
    assert "not measured" not in result.stderr


def test_a_list_whose_records_all_validate_is_told(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("c\nc\n")  # whose hash is at 0.41
    options: tuple[str | Path, ...] = ("--lines", "--steps", "2", *TINY, "--out", tmp_path / "run")
    refused = charnn("train", tmp_path / "one.txt", *options, "--val-fraction", "0.5")
    assert refused.exit_code == 1
    assert "no record to train on; give more lines or a smaller --val-fraction" in refused.stderr
    assert not (tmp_path / "run").exists()
    accepted = charnn("train", tmp_path / "one.txt", *options, "--val-fraction", "0.4")
    assert accepted.exit_code == 0, accepted.stderr


def test_a_dry_run_of_records_takes_a_list_of_a_few(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("ab\nba\naab\nbba\n")
    result = charnn("train", tmp_path / "few.txt", "--lines", "--steps", "5", "--dry-run")
    assert result.exit_code == 0, result.stderr


def test_parts_of_records_are_refused_with_what_to_do(names_run: Path) -> None:
    command = ("sample", names_run, "-n", "2", "--seed", "1")
    result = charnn(*command, "--part", "1/2")
    assert result.exit_code == 1
    assert "give each process another --seed instead" in result.stderr
    assert charnn("sample", names_run, "-n", "2", "--seed", "2").exit_code in (0, 3)
