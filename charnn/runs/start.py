"""How a run begins, and how it goes on: the folder, the plan, the first or the last checkpoint."""

import contextlib
import functools
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from charnn.checkpoint import Checkpoint
from charnn.config import ModelConfig, TextConfig, TrainConfig, ValidationConfig
from charnn.device import fast_bfloat16, has_bfloat16_lstm
from charnn.errors import SettingError, TextError
from charnn.files import explained
from charnn.runs.folder import (
    LAST,
    LOCK,
    METRICS,
    PREVIOUS,
    RUN_INFO,
    is_unstarted,
    lock_run,
    newest,
    read_run_info,
)
from charnn.runs.info import reopen_corpus, update_run_info, write_run_info
from charnn.runs.opening import load_or_previous
from charnn.runs.run import Run
from charnn.text.corpus import Corpus
from charnn.text.records import mean_record_length
from charnn.training.distributed import SINGLE_PROCESS, World, local_world_size
from charnn.training.init_from import adapt_weights
from charnn.training.memory import available, memory_explained, refuse_too_large
from charnn.training.optimizer import learning_rate
from charnn.training.plan import Budget, Facts, Plan, epoch_steps, make_plan, plan_validation
from charnn.training.speed import SpeedTest

# What may be given instead of chosen; the rest follows from corpus and budget.
PLANNED = {*ModelConfig.names(), *TrainConfig.names(), *ValidationConfig.names()} - {
    "vocabulary_size", "steps", "seed", "val_characters",
}  # fmt: skip
SHAPE = ("cell", "hidden_size", "num_layers", "embedding_size")


def plan_run(
    corpus: Corpus,
    budget: Budget,
    given: Mapping[str, Any],
    seed: int | None,
    device: torch.device,
    init_from: Checkpoint | None = None,
    force: bool = False,
    world: World = SINGLE_PROCESS,
    threads: int = 0,
) -> Plan:
    """What a run on the corpus will be like; the shape is that of `init_from`, if any. Of a world,
    all ask together, so that each measures its own speed; that of the first counts.

    `SettingError` when it would need more memory than there is, unless `force` is set.
    """
    if init_from is not None:
        shape = {name: getattr(init_from.model, name) for name in SHAPE}
        for name in SHAPE:
            if given.get(name, shape[name]) != shape[name]:
                raise SettingError(
                    f"{name} {given[name]} does not fit the weights ({shape[name]}); leave it out"
                )
        given = {**given, **shape}
    _check_precision(given.get("precision", ""), device)
    lstm = given.get("cell", "lstm") == "lstm"
    if given.get("precision") == "bf16" and lstm and not has_bfloat16_lstm(device):
        raise SettingError(
            "precision bf16: this CPU has no LSTM in bfloat16 (it needs AVX-512); train in fp32"
        )
    seed = secrets.randbits(32) if seed is None else seed
    memory = math.inf if force else memory_of_one(device)
    symbols = corpus.tokenizer.vocabulary_size
    on_cpu = device.type == "cpu"
    facts = Facts(
        len(corpus.train), len(corpus.validation), symbols, seed, memory, on_cpu,
        fast_bfloat16(device), mean_record_length(corpus.train), init_from is not None,
        world.size, device.type == "cuda", threads,
        on_cpu and world.size == 1 and not threads and torch.get_num_threads() > 1,
    )  # fmt: skip
    speed_test = SpeedTest(corpus.train, device, world.size)
    plan = make_plan(facts, budget, given, speed_test)
    return world.broadcast(lambda: plan)


def check_same_text(corpus: Corpus, world: World) -> None:
    """`TextError` when the processes of a world read different texts."""
    if len(set(world.all_gather(corpus.sha256))) > 1:
        raise TextError(
            "the processes read different texts; the same file must lie under the same path on "
            "each machine"
        )


@contextlib.contextmanager
def create_run_folder(folder: Path, world: World = SINGLE_PROCESS) -> Iterator[None]:
    """Make the run folder, and hold it; undo it if the block fails before anything is saved.

    A folder of a run that was killed before its first save is begun again. Of a world, only the
    first does so.
    """
    if not world.is_main:
        yield
        return
    made = not folder.exists()
    with explained(f"making the run folder {folder}", "name another --out"):
        folder.mkdir(parents=True, exist_ok=True)
    refuse_existing(folder)
    with lock_run(folder):
        refuse_existing(folder)
        _empty(folder)
        try:
            yield
        except BaseException:
            if is_unstarted(folder):
                _empty(folder, LOCK)
                with contextlib.suppress(OSError):
                    if made:
                        folder.rmdir()
            raise


def refuse_existing(folder: Path) -> None:
    """`SettingError` when there is something that a new run would overwrite."""
    if folder.exists() and not (folder.is_dir() and is_unstarted(folder)):
        raise SettingError(
            f"{folder}: exists already; --resume goes on with it, another --out begins anew"
        )


def _empty(folder: Path, *others: str) -> None:
    with contextlib.suppress(OSError):
        for name in (RUN_INFO, METRICS, *others):
            (folder / name).unlink(missing_ok=True)


def begin(
    folder: Path,
    corpus: Corpus,
    text: TextConfig,
    plan: Plan,
    budget: Budget,
    device: torch.device,
    command: str,
    save_every: float | None = None,
    init_from: Checkpoint | None = None,
    world: World = SINGLE_PROCESS,
) -> Run:
    """A new run in its folder, which the caller holds; with the weights of `init_from`, if any, for
    the symbols of the corpus."""
    weights = None
    if init_from is not None:
        weights = adapt_weights(init_from.weights, init_from.tokenizer, corpus.tokenizer)
    with (
        explained(f"writing to the run folder {folder}", "name another --out"),
        memory_explained(plan.model, plan.train),
    ):
        run = Run.start(
            folder, corpus, text, plan.model, plan.train, plan.validation, device,
            save_every, weights, world,
        )  # fmt: skip
        run.threads = plan.threads
        if world.is_main:
            write_run_info(
                folder, corpus, command, _as_json(budget, plan.train), plan.validation, device,
                world.size, plan.threads,
            )  # fmt: skip
    return run


@contextlib.contextmanager
def resumed(
    folder: Path,
    device: torch.device,
    *,
    texts: Sequence[str] = (),
    val: Sequence[str] = (),
    budget: Budget | None = None,
    patience: int | None = None,
    save_every: float | None = None,
    force: bool = False,
    world: World = SINGLE_PROCESS,
    threads: int = 0,
) -> Iterator[tuple[Run, list[str]]]:
    """The run in a folder, held within the block, where it stopped; and what there is to know.

    A larger `budget` makes the run longer; the same one changes nothing.
    """
    newest(folder)  # says so if there is none, before a lock file is made in somebody's folder
    with lock_run(folder) if world.is_main else contextlib.nullcontext():
        last, notes = world.broadcast(lambda: _open_last(folder))
        reopen = functools.partial(reopen_corpus, folder, last, texts, val)
        corpus = world.local_main_first(reopen)
        del reopen
        about = read_run_info(folder)
        _check_precision(last.train.precision, device)
        validation = _validation(about, last.train, len(corpus.validation))
        if patience is not None:
            validation = replace(validation, patience=patience)
        threads = threads or _threads_before(about)
        notes += _differences(about, device, last.train, world, threads)
        train = last.train if budget is None else _longer(last, about, budget, corpus)
        longer = train != last.train
        if longer:
            notes.append(_stretched(last, train))
            last = replace(last, train=train)
        if not force:
            share = replace(train, batch_size=max(1, train.batch_size // world.size))
            refuse_too_large(last.model, share, memory_of_one(device), device.type == "cpu")
        with memory_explained(last.model, train):
            run = Run.resume(folder, last, corpus, validation, device, save_every, world)
        run.threads = threads
        del last  # its tensors, which would stay while the run trains
        if longer and run.finished:
            more = 2 * validation.patience
            notes.append(f"it ended for want of a better validation; --patience {more} goes on")
        changed: dict[str, Any] = {}
        if longer and budget is not None:
            run.save()  # with the longer schedule, before the budget is written down
            changed["budget"] = _as_json(budget, train)
        if texts:
            changed |= {"corpus": corpus.sources, "val": corpus.val_sources}
        if patience is not None:
            changed["validation"] = validation.to_json()
        if changed and world.is_main:
            update_run_info(folder, **changed)
        yield run, notes


def _open_last(folder: Path) -> tuple[Checkpoint, list[str]]:
    """What a run goes on from, and a note if it is not the newest; then `last` is whole, and there
    is no other."""
    path, notes = newest(folder), []
    last, read = load_or_previous(path)
    with explained(f"tidying up {folder}", "check the run folder"):
        if read != path:
            notes.append(f"{path} could not be read; going on from the one before it")
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, path.with_name(f"{LAST}.damaged"))
            os.replace(read, path)
        path.with_name(PREVIOUS).unlink(missing_ok=True)
    return last, notes


def memory_of_one(device: torch.device) -> float:
    """Bytes that this process may take: a card is its own, the machine's memory is shared."""
    return available(device) / (local_world_size() if device.type == "cpu" else 1)


def _check_precision(precision: str, device: torch.device) -> None:
    """oneDNN has no LSTM in float16, and a CPU would gain nothing from it."""
    if precision == "fp16" and device.type != "cuda":
        raise SettingError(f"precision fp16 needs CUDA, not {device}; train in bf16 or fp32")


def _as_json(budget: Budget, train: TrainConfig) -> dict[str, float]:
    """The budget, and the steps that it became."""
    return {k: v for k, v in vars(budget).items() if v is not None} | {"steps": train.steps}


def _validation(about: Mapping[str, Any], train: TrainConfig, symbols: int) -> ValidationConfig:
    """As run.json says, or as a new run would be judged."""
    if "validation" in about:
        return ValidationConfig.from_json(about["validation"])
    return plan_validation(train, symbols, {})


def _longer(
    last: Checkpoint, about: Mapping[str, Any], budget: Budget, corpus: Corpus
) -> TrainConfig:
    symbols, record = len(corpus.train), mean_record_length(corpus.train)
    if budget.steps is not None:
        steps = budget.steps
    elif budget.epochs is not None:
        steps = epoch_steps(budget.epochs, last.train, symbols, record)
    else:
        before = about.get("budget")
        minutes = before.get("minutes") if isinstance(before, dict) else None
        known = before.get("steps") if isinstance(before, dict) else None
        if not (isinstance(minutes, int | float) and minutes > 0 and isinstance(known, int)):
            raise SettingError(
                f"this run's budget is {last.train.steps:,} steps, not minutes; make it longer "
                "with --steps or --epochs"
            )
        steps = round(min(known, 10**12) * min((budget.minutes or 0) / minutes, 1e6))
    if steps < last.train.steps:
        raise SettingError(
            f"this run has {last.train.steps:,} steps and can be made longer, not shorter "
            f"({steps:,}); begin a new run with another --out"
        )
    return replace(last.train, steps=steps)


def _stretched(last: Checkpoint, train: TrainConfig) -> str:
    step = 0 if last.progress is None else last.progress.step
    before, after = (
        learning_rate(min(step, config.steps - 1), config) for config in (last.train, train)
    )
    return (
        f"{last.train.steps:,} steps become {train.steps:,}: the schedule is stretched over them, "
        f"so that the learning rate goes from {before:.2g} to {after:.2g} here; the result is not "
        "that of a run that was so long from its beginning"
    )


def _threads_before(about: Mapping[str, Any]) -> int:
    """Return the thread count that the run had, or 0 where this machine should not use it."""
    machine = about.get("machine")
    before = machine.get("threads") if isinstance(machine, dict) else None
    if not isinstance(before, int) or "OMP_NUM_THREADS" in os.environ:
        return 0
    return before if 1 <= before <= (os.cpu_count() or 1) else 0


def _differences(
    about: Mapping[str, Any], device: torch.device, train: TrainConfig, world: World, now: int = 0
) -> list[str]:
    """What keeps the rest of the run from being bit for bit what it would have been, or as fast."""
    found = []
    machine, versions = (
        part if isinstance(part := about.get(name), dict) else {}
        for name in ("machine", "versions")
    )
    threads, fast = machine.get("threads"), machine.get("bfloat16")
    now = now or torch.get_num_threads()
    if device.type == "cpu" and isinstance(threads, int) and threads != now:
        found.append(
            f"{threads} threads then, {now} now: the last bits will differ (--threads {threads} "
            "keeps them)"
        )
    processes = machine.get("processes", 1)
    if isinstance(processes, int) and processes != world.size:
        found.append(
            f"{processes} processes then, {world.size} now: it goes on from the same weights, but "
            "not bit for bit as before"
        )
    if train.optimizer == "muon" and isinstance(fast, bool) and fast != fast_bfloat16(device):
        kinds = ("bfloat16", "float32") if fast else ("float32", "bfloat16")
        found.append(f"muon in {kinds[0]} then, in {kinds[1]} now: the result will differ a little")
    if train.precision == "bf16" and not has_bfloat16_lstm(device):
        found.append(
            "precision bf16, which this CPU has no LSTM in: it is computed in fp32, and the result "
            "will differ a little"
        )
    elif train.precision == "bf16" and fast is True and not fast_bfloat16(device):
        found.append("precision bf16, which is slow on this machine")
    was = machine.get("device")
    if isinstance(was, str) and (was == "cpu") != (device.type == "cpu"):
        found.append(f"on {was} then, on {device} now: the last bits will differ")
    version = versions.get("torch")
    if isinstance(version, str) and version != torch.__version__:
        found.append(f"PyTorch {version} then, {torch.__version__} now: the last bits may differ")
    return found
