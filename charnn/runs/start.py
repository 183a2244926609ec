"""A new run: from a request to a run in its folder."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from charnn.checkpoint import Checkpoint
from charnn.config import TextConfig
from charnn.errors import SettingError, TextError, UnreadableTextError
from charnn.files import explained
from charnn.model.network import tensors_of
from charnn.runs.context import RunContext
from charnn.runs.folder import (
    METRICS,
    RUN_INFO,
    RUNS,
    is_resumable,
    is_unstarted,
    make_run_folder,
    run_name,
)
from charnn.runs.info import RunInfo, write_run_info
from charnn.runs.lock import LOCK, FolderLock, lock_run
from charnn.runs.opening import open_model
from charnn.runs.run import Run
from charnn.text.corpus import Corpus, open_corpus
from charnn.text.records import Records
from charnn.torch_modes import default_torch_modes
from charnn.training.cudnn import CudaDevice, unmet_conditions
from charnn.training.distributed import SINGLE_PROCESS, World
from charnn.training.init_from import adapt_weights, vocabulary_changes
from charnn.training.memory import (
    available_per_process,
    estimate_memory,
    memory_explained,
    parameter_count,
    suggest_smaller,
)
from charnn.training.plan import Plan, PlanRequest, plan_run
from charnn.training.recipe import default_batching
from charnn.training.speed import SpeedTest
from charnn.words import plural

log = logging.getLogger(__name__)

DRY_RUN_SECONDS = 1.0  # for which the planned model is trained to estimate the time


@dataclass(frozen=True)
class RunRequest:
    """Everything that a user asks of a new run."""

    plan: PlanRequest
    corpus: tuple[str, ...] = ()  # files, folders, globs, "-"; none: the built-in text
    val: tuple[str, ...] = ()  # a validation text of its own
    text: TextConfig = field(default_factory=TextConfig)
    out: Path | None = None  # the run folder; None: checkpoints/<name of the text>
    init_from: Path | None = None  # start with the weights of this run or checkpoint
    save_every: float | None = None  # seconds
    command: str = ""  # noted in run.json
    keep: int = 0  # the newest states that are kept beside `last`


@dataclass(frozen=True)
class Material:
    """The texts and the checkpoint that a request names, opened."""

    corpus: Corpus
    text: TextConfig
    init_from: Checkpoint | None


@contextlib.contextmanager
def start_run(
    request: RunRequest, device: torch.device, world: World = SINGLE_PROCESS
) -> Iterator[Run]:
    """Yield a new run, planned and saved to its locked folder's run.json, ready for `reports()`.

    If the block fails before the first save, the folder is as it was before.
    """
    if request.out is not None:
        check_out(request.out)
    material = open_material(request, world)
    with create_run_folder(request.out, run_name(request.corpus), world) as (folder, lock):
        plan = _plan(request, material, device, world)
        context = RunContext(
            folder,
            material.corpus,
            material.text,
            device,
            world,
            request.save_every,
            request.keep,
            lock,
        )
        run = _make_run(request, context, plan, material.init_from)
        _log_plan(request, run, plan)
        yield run


def open_material(request: RunRequest, world: World = SINGLE_PROCESS) -> Material:
    """Open the corpus, and the checkpoint to start from; log what is notable about them."""
    init_from, text = None, request.text
    if request.init_from is not None:
        init_from, note = open_model(request.init_from)
        text = replace(text, tokenizer=init_from.text.tokenizer)
        if note:
            log.warning(note)
    check_byte_settings(text)
    try:
        corpus = world.local_main_first(lambda: open_corpus(request.corpus, text, val=request.val))
    except UnreadableTextError as error:
        if init_from is None:
            raise
        raise error.limited_to("encoding", "encoding_errors") from error
    check_same_text(corpus, world)
    changes = vocabulary_changes(init_from.tokenizer, corpus.tokenizer) if init_from else []
    for note in (*changes, *corpus.notes):
        log.warning(note)
    unit = "byte" if text.tokenizer == "byte" else "character"
    sizes = [len(corpus.train), len(corpus.validation)]
    if isinstance(corpus.train, Records) and isinstance(corpus.validation, Records):
        unit, sizes = "record", [corpus.train.count, corpus.validation.count]
    log.info(
        f"text: {plural(sizes[0], unit)} to train on, {sizes[1]:,} to validate; "
        f"{plural(corpus.tokenizer.vocabulary_size, 'symbol')}"
    )
    return Material(corpus, text, init_from)


def check_byte_settings(text: TextConfig) -> None:
    """Raise `SettingError` if a byte model is given settings that are for characters."""
    usual = TextConfig()
    for name in ("encoding", "encoding_errors", "min_count"):
        if text.tokenizer == "byte" and getattr(text, name) != getattr(usual, name):
            raise SettingError(
                f"`{name}` is for characters; a byte model reads bytes; leave it out"
            )


def check_same_text(corpus: Corpus, world: World) -> None:
    """Raise `TextError` if the processes of a world read different texts."""
    if len(set(world.all_gather(corpus.sha256))) > 1:
        raise TextError(
            "the processes read different texts; the same file must be at the same path on every "
            "machine"
        )


@default_torch_modes()
def _plan(request: RunRequest, material: Material, device: torch.device, world: World) -> Plan:
    if request.plan.budget.minutes is not None:
        log.info(f"timing this machine ({device}) for a few seconds")
        if world.size > 1:
            log.warning("the exchange between processes is not timed; it adds to the minutes")
    return plan_run(request.plan, material.corpus, device, material.init_from, world)


@default_torch_modes()
def _make_run(
    request: RunRequest, context: RunContext, plan: Plan, init_from: Checkpoint | None
) -> Run:
    """Return the run, with run.json written."""
    weights = None
    if init_from is not None:
        weights = adapt_weights(
            tensors_of(init_from.weights), init_from.tokenizer, context.corpus.tokenizer
        )
    with (
        explained(f"writing to the run folder {context.folder}", "choose another `out`"),
        memory_explained(plan.model, plan.train),
    ):
        run = Run.start(context, plan, weights)
        if context.world.is_main:
            budget = request.plan.budget.to_json() | {"steps": plan.train.steps}
            info = RunInfo(
                request.command, budget, plan.validation, context.device, context.world.size,
                plan.threads,
            )  # fmt: skip
            context.check_folder()
            write_run_info(context.folder, info, context.corpus)
    return run


def _log_plan(request: RunRequest, run: Run, plan: Plan) -> None:
    """Log what was chosen, and which wishes could not be met."""
    asked, lanes = request.plan.given.get("batch_size"), run.batches.batch_size
    expected = asked or default_batching(len(run.corpus.train), run.train.precision).lanes
    if run.corpus.is_records and asked is None:
        expected = lanes
    if lanes < expected:
        log.warning(
            f"the text has room for {plural(lanes, 'lane')} of "
            f"{plural(run.batches.seq_len, 'character')}, not for {expected}"
        )
    if request.plan.given.get("patience") and not len(run.corpus.validation):
        log.warning("there is no validation part, so `patience` has no effect")
    if request.plan.given.get("deterministic") and run.context.device.type == "cpu":
        log.warning("`deterministic` has no effect: CPU runs are always deterministic")
    if request.plan.seed is None:
        log.info(f"seed: {run.train.seed}")
    if run.context.device.type == "cuda":
        log.info(f"device: {_describe_card(run)}")
    log.info(f"plan: {plan.why}")
    log.info(f"run: {run.folder}")


def _describe_card(run: Run) -> str:
    """Return the card, the precision, and whether cuDNN uses its persistent kernel."""
    card = CudaDevice.query(run.context.device)
    why = unmet_conditions(run.state.network.config, run.train, card, run.world.size)
    kernel = f"without its persistent kernel: {'; '.join(why)}" if why else "its persistent kernel"
    processes = f", {run.world.size} processes" if run.world.size > 1 else ""
    return f"{card.name}, {run.train.precision}, cuDNN {kernel}{processes}"


@dataclass(frozen=True)
class DryRun:
    """The plan of a run and its needs, per process."""

    plan: Plan
    parameters: int
    memory_needed: float  # bytes
    memory_available: float  # bytes; infinite where it is unknown
    seconds: float | None  # of training, without validations; None if it does not fit in memory
    advice: str  # smaller settings, if it does not fit


def dry_run(request: RunRequest, device: torch.device, world: World = SINGLE_PROCESS) -> DryRun:
    """Return what `start_run` would train, without writing anything."""
    if request.out is not None:
        check_out(request.out)
    material = open_material(request, world)
    minutes = request.plan.budget.minutes
    force = request.plan.force or minutes is None  # too large a run is reported, not refused
    request = replace(request, plan=replace(request.plan, force=force))
    plan = _plan(request, material, device, world)
    share = replace(plan.train, batch_size=max(1, plan.train.batch_size // world.size))
    needed = estimate_memory(plan.model, share, device.type == "cpu")
    available = available_per_process(device)
    seconds, smaller = None if minutes is None else 60 * minutes, ""
    if minutes is None and needed > available:
        smaller = suggest_smaller(plan.model, plan.train)
    elif minutes is None:
        speed_test = SpeedTest(material.corpus.train, device, world.size)
        speed = speed_test.measure(plan.model, plan.train, DRY_RUN_SECONDS, plan.threads)
        seconds = plan.train.steps * speed.step
    return DryRun(plan, parameter_count(plan.model), needed, available, seconds, smaller)


@contextlib.contextmanager
def create_run_folder(
    out: Path | None, name: str, world: World = SINGLE_PROCESS
) -> Iterator[tuple[Path, FolderLock | None]]:
    """Make the run folder (see `make_run_folder`), lock it and yield both; undo that if the
    block fails before anything is saved.

    A folder whose run was killed before its first save is used again. Only rank 0 does this.
    """
    with explained(f"making the run folder {out or RUNS}", "choose another `out`"):
        folder, made = world.broadcast(lambda: make_run_folder(out, name))
    if not world.is_main:
        yield folder, None
        return
    if out is None and folder.name != name:
        log.info(f"{RUNS / name} exists, so this run is {folder.name}")
    check_out(folder)
    with lock_run(folder) as lock:
        check_out(folder)
        _empty(folder)
        try:
            yield folder, lock
        except BaseException:
            if lock.is_intact() and is_unstarted(folder):
                _empty(folder, LOCK)
                with contextlib.suppress(OSError):
                    for path in made:
                        path.rmdir()
            raise


def check_out(folder: Path) -> None:
    """Raise `SettingError` if the folder holds something that a new run would overwrite, or has
    the name of a checkpoint file."""
    if os.path.lexists(folder) and not (folder.is_dir() and is_unstarted(folder)):
        if is_resumable(folder):
            raise SettingError(
                f"{folder}: already exists; use `resume` to continue it or choose another `out`"
            )
        raise SettingError(f"{folder}: already exists, and is no run; choose another `out`")
    if folder.suffix == ".safetensors":
        raise SettingError(
            f"{folder}: `out` is the folder of the run, which will hold its checkpoints; "
            f"use `out={str(folder.with_suffix(''))!r}`"
        )


def _empty(folder: Path, *others: str) -> None:
    with contextlib.suppress(OSError):
        for name in (RUN_INFO, METRICS, *others):
            (folder / name).unlink(missing_ok=True)
