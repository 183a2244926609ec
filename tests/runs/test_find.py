"""The command line and Python find the same run by a name; a new run has a folder of its own."""

import os
import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import charnn
from charnn.errors import CharnnError, SettingError
from charnn.runs.find import find_runs, newest_run, runs_of
from charnn.runs.folder import BEST, LAST, make_run_folder, run_name
from tests.attack.checks import contents, one_line_error
from tests.conftest import charnn as command
from tests.conftest import words

SIZES = ("--steps", "2", "--seed", "1", "--hidden-size", "6", "--quiet")


@pytest.fixture
def desk(tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the run novel1."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, Path("checkpoints", "novel1"))
    return tmp_path


@pytest.mark.parametrize("name", ["novel1", "checkpoints/novel1", f"checkpoints/novel1/{BEST}"])
def test_python_finds_a_run_as_the_command_does(desk: Path, name: str, text_file: Path) -> None:
    sampled = command("sample", name, "--length", "9", "--seed", "1", "--quiet").stdout
    assert charnn.load(name).sample(length=9, seed=1) == sampled.removesuffix("\n")
    if not name.endswith(".safetensors"):
        assert charnn.curves(name).metrics.validations
        assert charnn.resume(name).parent == Path("checkpoints/novel1")
    best = charnn.train(text_file, out="new", init_from=name, steps=1)
    assert charnn.load(best).checkpoint.model == charnn.load(name).checkpoint.model


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("novl1", "novel1"),
        ("chekpoints/novel1", "novel1"),
        ("chekpoints/novl1", "novel1"),
        (f"chekpoints/novel1/{BEST}", f"checkpoints/novel1/{BEST}"),
        ("checkpoints/novel1/bst.safetensors", f"checkpoints/novel1/{BEST}"),
    ],
)
def test_a_near_miss_is_suggested_in_python_and_by_every_command(
    desk: Path, name: str, like: str
) -> None:
    meant = f"did you mean {like}?"
    for fail in (charnn.load, charnn.resume, charnn.curves):
        if not name.endswith(".safetensors") or fail is charnn.load:
            with pytest.raises(CharnnError) as caught:
                fail(name)
            assert meant in str(caught.value)
            assert isinstance(caught.value, FileNotFoundError)
    for arguments in (["sample"], ["info"], ["eval"], ["train", "--resume", "--out"]):
        assert meant in one_line_error(*arguments, name)


def test_a_run_is_resumed_by_its_name(desk: Path) -> None:
    for arguments in (["novel1"], ["checkpoints/novel1"], ["--out", "novel1"]):
        done = command("train", "--resume", *arguments)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == f"checkpoints/novel1/{BEST}\n"
    assert "did you mean novel1?" in one_line_error("train", "--resume", "novl1")


def test_words_that_look_like_a_run_are_reported_when_they_are_inspected(desk: Path) -> None:
    Path("checkpoints/novel1").rename("checkpoints/steins")
    warned = command("inspect", "stein")
    assert warned.exit_code == 0
    assert "note: stein is read as a text; did you mean the run steins?" in warned.stderr
    assert "read as a text" not in command("inspect", "steins", "stein").stderr


@pytest.mark.parametrize(
    ("corpus", "name"),
    [
        ("names.txt", "names"),
        ("towns.txt.gz", "towns"),
        ("train.smi", "train"),
        ("shakespeare", "shakespeare"),
        ("folder.d", "folder.d"),  # a folder has no ending
        ("Book [1].txt", "Book _1"),
        ("Book [2].txt", "Book _2"),
        ("what?.txt", "what"),
        ("data/*.txt", "data"),
        ("chapter*.txt", "chapter"),
        ("v1.25", "v1.25"),
        (".hidden.txt", "hidden"),
        ("日記.txt", "日記"),
        ("/", "text"),
        ("-", "stdin"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_run_is_called_after_its_text(
    corpus: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.d").mkdir()
    assert run_name([corpus]) == name


def test_the_run_of_a_text_is_not_that_of_another_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [Path(name) for name in ("Book [1].txt", "Book [2].txt", "list.csv", "list.txt")]
    runs = {}
    for number, text in enumerate(texts):
        text.write_text(words(900, seed=number))
        done = command("train", text, *SIZES)
        assert done.exit_code == 0, done.stderr
        runs[text] = Path(done.stdout).parent
    assert len(set(runs.values())) == 4
    for text, run in runs.items():
        assert runs_of([str(text)])[0] == run
        assert command("train", "--resume", text, "--quiet").stdout == f"{run / BEST}\n"


def test_the_run_taken_by_default_is_one_with_a_model(desk: Path) -> None:
    shutil.copytree("checkpoints/novel1", "checkpoints/begun")
    Path("checkpoints/begun", BEST).unlink()
    os.utime(Path("checkpoints/novel1", BEST), (1, 1))
    os.utime(Path("checkpoints/novel1", LAST), (1, 1))
    assert [run.name for run in find_runs()] == ["begun", "novel1"]
    assert newest_run() == Path("checkpoints/novel1")
    told = command("sample", "--length", "1", "--seed", "1").stderr
    assert told == (
        f"checkpoint: checkpoints/novel1/{BEST} "
        "(the newer checkpoints/begun was not validated yet)\n"
    )
    shutil.rmtree("checkpoints/novel1")
    assert newest_run() == Path("checkpoints/begun")


def test_a_damaged_best_points_to_last(desk: Path) -> None:
    best = Path("checkpoints/novel1", BEST)
    best.write_bytes(best.read_bytes()[:-9])
    line = one_line_error("sample", "novel1")
    assert line.endswith(f"; try {best.with_name(LAST)}")
    assert charnn.load(best.with_name(LAST)).sample(length=1)


def test_a_folder_called_like_a_checkpoint_makes_no_run(desk: Path, text_file: Path) -> None:
    line = one_line_error("train", text_file, *SIZES, "--out", "foo.safetensors")
    assert "--out foo" in line
    assert not Path("foo.safetensors").exists()
    Path("checkpoints/x/foo.safetensors").mkdir(parents=True)
    assert [run.name for run in find_runs()] == ["novel1"]
    assert "novel1" in command("runs").stdout


def test_threads_that_start_runs_get_different_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_run_folder(None, "x")[0], range(40)))
    assert {folder.name for folder in made} == {"x", *(f"x-{n}" for n in range(2, 41))}


def test_a_run_that_fails_removes_the_folders_that_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept").mkdir()
    Path("text.txt").write_text(words(900))
    before = contents(tmp_path)
    for out in ("p/q/r", "kept/q/r", None):
        with pytest.raises(SettingError):
            charnn.train("text.txt", steps=1, out=out, precision="fp16", device="cpu")
        assert contents(tmp_path) == before


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run whose text has moved to moved.txt."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(words(3000))
    charnn.train("text.txt", out="my run", steps=2, seed=1, hidden_size=6, num_layers=1)
    Path("text.txt").rename("moved.txt")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--out", "my run", "--resume", "--steps", "3"),
        ("eval", "my run"),
        ("gradients", "my run", "--distance", "5", "--positions", "2"),
        ("inspect", "my run", "--find", "space"),
        ("gradients", "--compare", "my run"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_the_command_for_a_text_that_has_moved_is_given_and_works(
    moved: Path, arguments: tuple[str, ...]
) -> None:
    line = one_line_error(*arguments)
    advice = re.search(r"name the text: `charnn (.*)`$", line)
    assert advice, line
    given = shlex.split(advice[1])
    assert given[0] == arguments[0]
    if "--compare" in given:  # which trains for a minute
        assert given == ["gradients", "--compare", "TEXT"]
        return
    if "--find" in given:
        given.insert(given.index("--find") + 1, "space")
    given += [word for word in arguments[2:] if word not in given and given[0] != "train"]
    done = command(*(word.replace("TEXT", "moved.txt") for word in given))
    assert done.exit_code == 0, done.stderr


def test_the_call_for_a_text_that_has_moved_is_given_and_works(moved: Path) -> None:
    model = charnn.load("my run")
    for method in (model.find_units, model.gradients):
        with pytest.raises(CharnnError, match='name the text: `text="…"`'):
            method()
    with pytest.raises(CharnnError) as caught:
        charnn.resume("my run", steps=3)
    call = re.search(r"name the text: `(.*)`$", str(caught.value))
    assert call, caught.value
    assert eval(call[1].replace("TEXT", "moved.txt"), {"charnn": charnn}).exists()
