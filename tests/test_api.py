"""Python does what the commands do."""

import copy
import math
import pickle
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import charnn
from charnn import checkpoint
from charnn.config import SampleConfig
from charnn.errors import CharnnError, MissingCheckpointError, SettingError
from charnn.training.optimizer import Optimizer
from tests.conftest import charnn as command
from tests.conftest import words


def test_train_load_sample_and_score(text_file: Path, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 8}
    sizes["num_layers"] = 1
    best = charnn.train(text_file, out=tmp_path / "run", steps=4, seed=1, **sizes)
    assert best == tmp_path / "run" / "best.safetensors"
    model = charnn.load(tmp_path / "run")
    text = model.sample("steep"[:2], length=20, seed=3)
    assert text == "".join(charnn.load(best).stream("st", length=20, seed=3))
    assert len(text) == 20
    assert 0 < model.score("aein\nst").nats_per_char < 10


def test_python_and_the_command_make_the_same_checkpoint(
    text_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"hidden_size": 6, "embedding_size": 5, "batch_size": 3, "seq_len": 8}
    sizes["num_layers"] = 1
    best = charnn.train(text_file, out=tmp_path / "run", steps=4, seed=1, **sizes)
    assert best.read_bytes() == (run_folder / "best.safetensors").read_bytes()


def test_python_and_the_command_generate_the_same_text(run_folder: Path) -> None:
    written = command("sample", run_folder, "--prime", "st", "--length", "20", "--seed", "3").stdout
    assert "st" + charnn.load(run_folder).sample("st", length=20, seed=3) + "\n" == written


def test_errors_are_charnn_errors(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="called hiden_size; did you mean `hidden_size`"):
        charnn.train(text_file, out=tmp_path / "run", steps=1, hiden_size=3)  # type: ignore[call-arg]
    with pytest.raises(SettingError, match="no setting called vocabulary_size"):
        charnn.train(text_file, out=tmp_path / "run", steps=1, vocabulary_size=3)  # type: ignore[call-arg]
    with pytest.raises(CharnnError, match="no such file"):
        charnn.load(tmp_path / "none.safetensors")
    assert not (tmp_path / "run").exists()


def test_settings_that_come_with_trained_weights_are_refused(
    text_file: Path, run_folder: Path, tmp_path: Path
) -> None:
    for setting in ({"tokenizer": "byte"}, {"tokenizer": "char"}, {"hidden_size": 7}):
        with pytest.raises(SettingError, match="leave it out"):
            charnn.train(
                text_file, out=tmp_path / "run", steps=1, init_from=run_folder,
                **setting,
            )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_without_a_seed_each_text_is_another(run_folder: Path) -> None:
    model = charnn.load(run_folder)
    assert model.sample("st", length=60, seed=None) != model.sample("st", length=60)
    with pytest.raises(SettingError, match="'lenght'; did you mean `length`"):
        model.sample("st", lenght=3)  # type: ignore[call-arg]


def test_the_public_names_are_all_there() -> None:
    for name in charnn.__all__:
        assert getattr(charnn, name) is not None
    with pytest.raises(AttributeError, match="tarin"):
        charnn.tarin  # noqa: B018


def test_threads_that_share_a_loaded_model_get_the_texts_of_one_thread(run_folder: Path) -> None:
    model = charnn.load(run_folder)
    expected = [model.sample("st", length=40, seed=seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        texts = pool.map(lambda seed: model.sample("st", length=40, seed=seed), range(200))
    assert list(texts) == expected


def test_a_run_can_be_followed_from_python(text_file: Path, tmp_path: Path) -> None:
    reports: list[object] = []
    charnn.train(
        text_file, out=tmp_path / "run", steps=4, val_every=2, seed=1, hidden_size=6,
        on_report=reports.append, progress=True,
    )  # fmt: skip
    steps = [report.step for report in reports if isinstance(report, charnn.StepReport)]
    validations = [report.step for report in reports if isinstance(report, charnn.Validation)]
    assert (steps, validations) == ([1, 2, 3, 4], [2, 4])


def test_records_are_filtered_from_python(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(words(2000).replace(" ", "\n"))
    charnn.train(tmp_path / "names.txt", lines=True, steps=30, seed=1, out=tmp_path / "run")
    model = charnn.load(tmp_path / "run")
    found = model.records(10, unique=True, keep="^.{2,5}$", validator=_short_first, seed=1)
    texts = [sample.text for sample in found]
    assert len(set(texts)) == len(texts) == found.counts.kept == 10
    assert found.relaxed == 0
    assert all(2 <= len(text) <= 5 and text[0] != "s" for text in texts)
    with pytest.raises(SettingError, match="lines=True"):
        charnn.load(_other(tmp_path)).records(3)


def _short_first(records: list[str]) -> list[bool]:
    return [not record.startswith("s") for record in records]


def _other(folder: Path) -> Path:
    (folder / "text.txt").write_text(words(900))
    return charnn.train(folder / "text.txt", steps=2, hidden_size=6, out=folder / "other")


def test_a_model_and_its_results_say_what_they_are(run_folder: Path) -> None:
    model = charnn.load(run_folder)
    assert re.fullmatch(
        r"<LanguageModel 1x6 lstm, 8 symbols, [\d,]+ parameters, \d\.\d{4} nats/char>", repr(model)
    )
    assert "nats_per_char=" in repr(model.score("stein"))
    assert "text=" in repr(next(model.samples(1, length=5)))


def test_the_look_inside_works_from_python(run_folder: Path) -> None:
    model = charnn.load(run_folder)
    trace = model.inspect("stein")
    assert trace.values["forget"].shape == (5, 1, 6)
    search = model.find_units(words(3000), {"space": charnn.PROPERTIES["space"]}, best=2)
    assert [len(found.units) for found in search.properties] == [2]
    assert model.gradients(words(3000), distance=9, positions=3).positions == 3
    assert charnn.curves(run_folder).metrics.validations
    clamped = model.with_clamps(charnn.Clamp(0, 3, 1.0))
    assert clamped.sample("st", length=60, seed=1) != model.sample("st", length=60, seed=1)
    assert clamped.score("stein").nats != model.score("stein").nats
    both = clamped.with_clamps(charnn.Clamp(0, 2, -1.0))
    assert both.score("stein") == model.with_clamps(
        charnn.Clamp(0, 3, 1.0), charnn.Clamp(0, 2, -1.0)
    ).score("stein")
    with pytest.raises(SettingError, match="clamped twice"):
        clamped.with_clamps(charnn.Clamp(0, 3, 0.5))
    for method in (clamped.inspect, clamped.find_units, clamped.gradients):
        with pytest.raises(SettingError, match="without clamps"):
            method("stein")


def test_a_missing_file_is_also_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        charnn.load(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="no such file"):
        charnn.train(tmp_path / "none.txt", steps=1, out=tmp_path / "run")


def test_an_error_in_on_report_leaves_torch_and_the_run_as_they_should_be(
    text_file: Path, tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise ValueError("enough")

    before, kept = torch.get_num_threads(), None
    try:
        charnn.train(
            text_file, out=tmp_path / "run", steps=4, seed=1, hidden_size=6, threads=before + 1,
            on_report=fail,
        )  # fmt: skip
    except ValueError as error:
        kept = error
    assert kept is not None
    assert torch.get_num_threads() == before


def test_an_impossible_number_of_threads_changes_no_run(text_file: Path, tmp_path: Path) -> None:
    best = charnn.train(text_file, out=tmp_path / "run", steps=2, seed=1, hidden_size=6)
    last = best.with_name("last.safetensors").read_bytes()
    with pytest.raises(SettingError, match="threads"):
        charnn.resume(tmp_path / "run", steps=4, threads=-1)
    assert best.with_name("last.safetensors").read_bytes() == last


TINY: dict[str, Any] = {"hidden_size": 6, "batch_size": 3, "seq_len": 8, "seed": 1, "val_every": 50}


@pytest.mark.parametrize(
    ("step", "error"), [(1, KeyboardInterrupt), (30, ValueError), (50, SystemExit)]
)
def test_an_interrupted_run_is_resumed_where_it_was(
    text_file: Path, tmp_path: Path, step: int, error: type[BaseException]
) -> None:
    steps: list[int] = []

    def interrupt(report: object) -> None:
        if isinstance(report, charnn.StepReport) and report.step == step:
            raise error

    with pytest.raises(error):
        charnn.train(text_file, out=tmp_path / "cut", steps=60, on_report=interrupt, **TINY)
    charnn.resume(
        tmp_path / "cut",
        on_report=lambda r: steps.append(r.step) if isinstance(r, charnn.StepReport) else None,
    )
    assert steps == list(range(step + 1, 61))
    whole = charnn.train(text_file, out=tmp_path / "whole", steps=60, **TINY)
    for name in ("best.safetensors", "last.safetensors"):
        assert whole.with_name(name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.medium
@pytest.mark.parametrize(("step", "resumed"), [(60, 0), (101, 100), (199, 100)])
def test_a_step_that_was_interrupted_halfway_is_undone(
    text_file: Path, tmp_path: Path, step: int, resumed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = TINY | {"val_every": 100}
    whole = charnn.train(text_file, out=tmp_path / "whole", steps=220, **tiny)
    backward = Optimizer.step

    def interrupted(optimizer: Optimizer, *arguments: Any, **options: Any) -> None:
        backward(optimizer, *arguments, **options)
        interrupted.count += 1  # type: ignore[attr-defined]
        if interrupted.count == step:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    interrupted.count = 0  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(Optimizer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            charnn.train(text_file, out=tmp_path / "cut", steps=220, **tiny)
    progress = checkpoint.load(tmp_path / "cut" / "last.safetensors").progress
    assert progress is not None
    assert progress.step == resumed
    cut = charnn.resume(tmp_path / "cut")
    for name in ("best.safetensors", "last.safetensors"):
        assert whole.with_name(name).read_bytes() == cut.with_name(name).read_bytes()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_generates_the_same_text_used_or_not(
    run_folder: Path, copied: Callable[[charnn.LanguageModel], charnn.LanguageModel]
) -> None:
    model = charnn.load(run_folder)
    unused = copied(model)
    texts = [sample.text for sample in model.samples(3, "st", length=9, seed=1)]
    text = model.sample("st", length=9, seed=1)
    for other in (unused, copied(model), copied(model.with_clamps())):
        assert other.sample("st", length=9, seed=1) == text
        assert [sample.text for sample in other.samples(3, "st", length=9, seed=1)] == texts


@pytest.mark.parametrize(
    "use", [charnn.curves, charnn.resume, lambda run: charnn.train(init_from=run)]
)
def test_a_run_that_does_not_exist_is_named_and_a_near_miss_suggested(
    use: Callable[[str], object], run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "checkpoints/corpus")
    with pytest.raises(CharnnError, match=r"(no run named zzz|zzz: no such run to resume); check"):
        use("zzz")
    with pytest.raises(MissingCheckpointError, match=r"no run named corpsu; did you mean corpus\?"):
        use("corpsu")


@pytest.mark.parametrize("endless", [None, math.inf, "inf"])
def test_no_limit_has_each_of_its_names(endless: Any) -> None:
    assert SampleConfig(length=endless).length is None


def test_an_unknown_setting_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(SettingError, match=r"^no setting called 'lenght'; did you mean `length`\?"):
        SampleConfig.from_json({"lenght": 3})


def test_a_text_in_place_of_a_path_is_not_printed_as_a_whole() -> None:
    with pytest.raises(CharnnError) as error:
        charnn.train("a text\n" * 500, steps=1)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "ours"), [("lr", "learning_rate"), ("bptt", "seq_len"), ("hidden", "hidden_size")]
)
def test_the_name_that_another_tool_has_for_a_setting_finds_its_own(word: str, ours: str) -> None:
    with pytest.raises(SettingError, match=f"no setting called {word}; did you mean `{ours}`"):
        charnn.train(steps=1, **{word: 1})  # type: ignore[arg-type]
