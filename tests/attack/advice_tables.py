"""Tables of the advice in messages of the command line, by what the message is about."""

import contextlib
import gzip
import math
import os
import shutil
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from charnn.checkpoint import Checkpoint, check_finite, load, save
from charnn.insight import gradients
from charnn.insight.plot import MAX_RUNS
from charnn.model.evaluate import Score
from charnn.runs import examiner
from charnn.runs.lock import lock_folder
from charnn.sampling import products
from charnn.text import cache, decoding, sources
from charnn.training import memory, plan
from charnn.training.state import TrainState
from charnn.training.update import StepStats, Update
from tests.attack.advice import SMALL, TEXT, Step, row
from tests.conftest import charnn

ONTO = "--batch-size 3 --seq-len 8 --steps 2"  # settings beside given weights
TRAIN = f"train text.txt {SMALL} --out new"


def writing(name: str, data: str | bytes) -> Step:
    """Return a function that writes a file."""
    encoded = data.encode() if isinstance(data, str) else data
    return lambda *_: Path(name).write_bytes(encoded)


def moving(source: str, target: str) -> Step:
    """Return a function that renames a file or a folder."""
    return lambda *_: Path(source).rename(target)


def removing(name: str) -> Step:
    """Return a function that removes a file or a folder."""
    return lambda *_: shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def making(name: str) -> Step:
    """Return a function that makes a folder."""
    return lambda *_: Path(name).mkdir(parents=True)


def setting(name: str, value: str) -> Step:
    """Return a function that sets an environment variable."""
    return lambda *_: os.environ.__setitem__(name, value)


def unsetting(name: str) -> Step:
    """Return a function that unsets an environment variable."""
    return lambda *_: os.environ.pop(name)


def patching(module: object, name: str, value: object) -> Step:
    """Return a function that patches a module for the test."""
    return lambda patch: patch.setattr(module, name, value)


def training(line: str) -> Step:
    """Return a function that trains a run."""

    def train(*_: object) -> None:
        result = charnn("train", *line.split(), stdin=TEXT)
        assert result.exit_code == 0, result.stderr

    return train


def both(*steps: Step) -> Step:
    """Return a function that calls several."""
    return lambda *arguments: [step(*arguments) for step in steps]


MANY = [f"run-{number}" for number in range(MAX_RUNS + 1)]


def listed(*_: object) -> None:
    """Let `run` be a run under ./checkpoints."""
    Path("checkpoints").mkdir()
    Path("run").rename("checkpoints/run")


def in_a_deleted_folder(*_: object) -> None:
    """Be in a folder that is no longer there."""
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()


def at_first(patch: pytest.MonkeyPatch, module: ModuleType, name: str, result: object) -> None:
    """Let a function of a module return `result`, but only when it is called first."""
    function, results = getattr(module, name), [result]
    patch.setattr(module, name, lambda *a, **k: results.pop() if results else function(*a, **k))


def terminal(patch: pytest.MonkeyPatch) -> None:
    """Let the standard streams be a terminal."""
    patch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)


def large_records(patch: pytest.MonkeyPatch) -> None:
    """Let the model of records be too large for the memory."""
    network = Checkpoint.network

    def large(self: Checkpoint, *arguments: Any) -> Any:
        if self.text.lines:
            raise MemoryError
        return network(self, *arguments)

    patch.setattr(Checkpoint, "network", large)


MIXED = "caf\xe9 cafe\u0301 " * 40

# fmt: off
USAGE = [
    row("leave it out", f"train text.txt {ONTO} --out new --init-from run --tokenizer byte",
        "without --tokenizer"),
    row("leave it out or start a new run", "train text.txt --resume --out run --hidden-size 7",
        "without --hidden-size"),
    row("leave it out with --tokenizer byte", f"{TRAIN} --tokenizer byte --min-count 2",
        "without --min-count"),
    row("give only one of --minutes, --epochs and --steps", f"{TRAIN} --epochs 0.1",
        "without --epochs", "without --steps"),
    row("--val on a resumed run needs the CORPUS too", "train --resume --out run --val other.txt",
        "without --val"),
    row("name its run with `out`, or start one without `resume`",
        "train other.txt --resume --steps 2", "without --resume", "--out again",
        given=both(listed, lambda *_: Path("checkpoints/run").rename("checkpoints/zzz"),
                   training(f"other.txt {SMALL} --out again"))),
    row("choose another --out, or replace it with --force", "sample run --length 5 --out text.txt",
        "--out new.txt", "--force"),
    row("choose another --out", "sample run --length 5 --out missing/text.txt", "--out new.txt"),
    row("--window needs --protocol window", "eval run --window 9", "--protocol window",
        "without --window"),
    row("--minutes and --seed need --compare", "gradients run --minutes 0.001 --distance 5",
        "--compare", "without --minutes"),
    row("--compare cannot be combined with --skip-unknown",
        "gradients --compare text.txt --minutes 0.001 --distance 5 --skip-unknown",
        "without --skip-unknown"),
    row("--compare takes either a run, to train on its corpus, or texts",
        "gradients --compare run text.txt --minutes 0.001 --distance 5", "run -> ", "text.txt -> "),
    row("--force needs --plot", "gradients run --distance 5 --force", "--plot new.png",
        "without --force"),
    row("leave one out", "sample run --length 5 --exact --fp16", "without --fp16"),
    row("… cannot be combined with …", "sample run --length 5 --best-of 2 --num-samples 2",
        "without --best-of", "without --num-samples"),
    row("--text cannot be combined with --out or --force", "plot run --text --out new.png",
        "without --text", "without --out"),
    row("leave --separator out", "sample records --num-samples 2 --length 9 --separator x",
        "without --separator"),
    row("give only one of --int8 (on a CPU) and --fp16 (on a GPU)",
        "sample run --length 5 --int8 --fp16", "without --fp16"),
    row("give only one of --prime and --prime-file",
        "sample run --length 5 --prime a --prime-file text.txt", "without --prime",
        "without --prime-file"),
    row("--logprobs needs --format jsonl", "sample run --length 5 --logprobs 2", "--format jsonl",
        "without --logprobs"),
    row("--force needs --out FILE", "sample run --length 5 --force", "--out new.txt",
        "without --force"),
    row("give a number", "sample run --length inf --num-samples 2", "--length 5"),
    row("… needs …", "sample run --length 5 --keep-stop", "--stop a", "without --keep-stop"),
    row("quote it, and leave it out with --file", "inspect run a i", "a -> a i & i -> "),
    row("--protocol is for running text", "eval records --protocol window", "without --protocol"),
    row("--separator is for several texts, -n N, that are not JSON lines",
        "sample run --length 5 --separator x", "without --separator", "-n 2"),
    row("--stop … cannot be generated", "sample run --length 5 --stop €", "without --stop"),
    row("see `… --help`", "sample run --lenth 5", "as advised"),
    row("unset it", "completion bash", unsetting("_CHARNN_COMPLETE"),
        given=setting("_CHARNN_COMPLETE", "x")),
    row("unset it", TRAIN, unsetting("WORLD_SIZE"), given=setting("WORLD_SIZE", "x")),
    row("change to another one", "completion bash", lambda *_: os.chdir("/"),
        given=in_a_deleted_folder),
    row("use … or cuda:1", "sample run --length 5 --device tpu", "tpu -> cpu", "tpu -> auto"),
    row("use …", "sample run --length 5 --device meta", "meta -> cpu"),
    row('…, or use `device="cpu"`', "sample run --length 5 --device cuda:99", "--device cpu"),
    row('use `device="cpu"`', "sample run --length 5 --device mps", "--device cpu"),
    row("use `int8` instead, or leave it out", "sample run --length 5 --fp16",
        "--int8 & without --fp16", "without --fp16"),
    row("give a command", "sample records --num-samples 2 --length 9 --validator ''",
        "--validator 'sed s/.*/1/'"),
    row("give it one value", "sample run --length 5 --clamp 0:0=0.1 --clamp 0:0=0.2",
        "0:0=0.2 -> 0:1=0.2"),
    row("train in fp32", f"{TRAIN} --precision bf16", "bf16 -> fp32", given=patching(plan,
        "has_bfloat16_lstm", lambda _: False)),
    row("leave `int8` out", "sample run --length 5 --int8", "without --int8",
        given=patching(products, "_ENGINES", ())),
    row("redirect it, or add --out FILE or --raw", "sample bytes --length 5 --format bytes",
        "--out new.txt", "--raw", given=terminal),
    row("use a smaller model, a shorter text or fewer texts at once", "eval records",
        "records -> run", given=large_records),
    row("train in bf16 or fp32", f"{TRAIN} --precision fp16", "fp16 -> fp32"),
    row("give a name, or check the variable it comes from", f"train '' {SMALL} --out new",
        " -> text.txt"),
    row("did you mean `…`", f"{TRAIN} --hidden-sise 6"),
]


# fmt: on
def spoiling(old: bytes, new: bytes) -> Step:
    """Return a function that damages the metadata of a checkpoint."""

    def spoil(*_: object) -> None:
        path, data = Path("run/last.safetensors"), Path("run/last.safetensors").read_bytes()
        old_, new_ = (part.replace(b'"', b'\\"') for part in (old, new))
        assert old_ in data, data[:3000]
        path.write_bytes(data.replace(old_, new_, 1))

    return spoil


def large_weights(*_: object) -> None:
    """Save a model whose weights are too large."""
    model = load(Path("run/best.safetensors"))
    weights = {name: weight + 1e30 for name, weight in model.weights.items()}
    save(Path("large.safetensors"), replace(model, weights=weights))


# fmt: off
CHECKPOINTS = [
    row("`charnn runs` lists the runs…", "sample zzz --length 5", "charnn runs & zzz -> run",
        given=listed),
    row("`charnn runs` lists the runs", "sample zzz.safetensors --length 5",
        "charnn runs & zzz.safetensors -> run", given=listed),
    row("`charnn runs` lists the runs", "plot zzz --text", "charnn runs & zzz -> run",
        given=listed),
    row("start with `charnn train TEXT`", "sample --length 5", f"charnn train text.txt {SMALL}"),
    row("start with `charnn train TEXT`", "runs", f"charnn train text.txt {SMALL}"),
    row("start with `charnn train TEXT`", "check", f"charnn train text.txt {SMALL}"),
    row("move … there or leave it out", "eval other.txt run", "other.txt ->  & add other.txt"),
    row("move … there or leave it out", "eval run bytes", "bytes -> "),
    row("check the name", "train --resume --out missing.safetensors", "missing.safetensors -> run"),
    row("`charnn runs` lists the runs", "train --resume --out missing",
        "charnn runs & missing -> run", given=listed),
    row("did you mean the run …", "inspect runn", "runn -> {} & add sat", given=listed),
    row("did you mean …", "eval runn", "runn -> {}", given=listed),
    row("did you mean …", "info runn", "runn -> {}", given=listed),
    row("did you mean …", "info run/bst.safetensors", "run/bst.safetensors -> {}"),
    row("did you mean …", f"train txt.txt {SMALL} --out new", "txt.txt -> {}"),
    row("did you mean …", "train --resume --out runn", "runn -> {}", given=listed),
    row("check the name", f"train missing.txt {SMALL} --out new", "missing.txt -> text.txt"),
    row("check the name", f"train {'n' * 5000} {SMALL} --out new", f"{'n' * 5000} -> text.txt"),
    row("name a run folder", "info bad.safetensors", "bad.safetensors -> run",
        given=writing("bad.safetensors", "no checkpoint")),
    row("name a run folder", "info foreign.safetensors", "foreign.safetensors -> run",
        given=lambda *_: save_file({"a": torch.zeros(2)}, "foreign.safetensors")),
    row("name one of them, such as …", "info checkpoints", "checkpoints -> {}", given=listed),
    row("name one of these", "info text.txt", "text.txt -> run", given=listed),
    *[row("use another checkpoint", "info run/last.safetensors", "run/last.safetensors -> bytes",
        given=spoil) for spoil in (spoiling(b'"format": ', b'"formal": '),
        spoiling(b'"hidden_size"', b'"hidden_sise"'), spoiling(b'"vocabulary_size": 8',
        b'"vocabulary_size": 9'))],
    row("use another checkpoint", "sample large.safetensors --length 5", "large.safetensors -> run",
        given=large_weights),
    row("try …", "sample run --length 5", "run -> {}", given=writing("run/best.safetensors",
        "damaged")),
    row("`skip_unknown=True` leaves them out", "eval run strange.txt", "--skip-unknown",
        given=writing("strange.txt", "€ anst ü")),
    row("leave … out", "sample run --prime €uro --length 5", "€uro -> sat"),
    row("train one with `charnn train --lines`, or leave it out",
        "sample run --num-samples 2 --length 9 --unique",
        "charnn train text.txt SMALL --lines --out names & run -> names", "without --unique"),
    row("try a higher …", "sample records --num-samples 9 --length 40 --unique --max-tries 3",
        "--max-tries 999"),
]

TEXTS = [
    row("name it once", f"train - {SMALL} --val - --out new", "drop --val"),
    row("name a file", f"train /dev/zero {SMALL} --out new", "/dev/zero -> text.txt"),
    row("name a file that contains text", f"train empty.txt {SMALL} --out new",
        "empty.txt -> text.txt", given=writing("empty.txt", "")),
    row("Try another `encoding`", f"train u.txt {SMALL} --out new --encoding utf-7",
        "--encoding utf-8", given=writing("u.txt", "+2AA-" * 30)),
    row("leave out `min_count`", f"train u.txt {SMALL} --out new --min-count 9",
        "without --min-count", given=writing("u.txt", "".join(map(chr, range(0x4E00, 0x4E80))))),
    row("use `min_count=…` or less", f"train u.txt {SMALL} --out new --min-count 9",
        "--min-count {}", given=writing("u.txt", "".join(map(chr, range(0x4E00, 0x4E80))) * 3)),
    row("name another text", f"train u.txt {SMALL} --out new", "u.txt -> text.txt",
        given=writing("u.txt", "a" * 200)),
    row("name another text", f"train u.txt {SMALL} --lines --out new", "u.txt -> text.txt",
        given=writing("u.txt", "\n\n\n")),
    row("leave out `lines`", f"train u.txt {SMALL} --lines --out new", "without --lines",
        given=writing("u.txt", "a b " * 50)),
    row("give more lines or a smaller `val_fraction`",
        f"train u.txt {SMALL} --seq-len 2 --lines --val-fraction 0.9 --out new",
        "u.txt -> text.txt", "--val-fraction 0", given=writing("u.txt", "aeinst\n")),
    row("`keep_newlines=True` keeps them", f"train u.txt {SMALL} --out new", "--keep-newlines",
        given=writing("u.txt", "a b\r\n" * 50)),
    row("name a shorter text", "sample run --length 5 --prime-file text.txt", "text.txt -> short",
        given=both(patching(decoding, "MAX_SMALL", 100), writing("short", "sat"))),
    row("convert it to …", "sample run --length 5 --prime-file u.txt",
        lambda encoding: Path("u.txt").write_text("sat", encoding=encoding), given=writing("u.txt",
        b"\xff")),
    row("download it again", f"train u.txt.gz {SMALL} --out new", writing("u.txt.gz",
        gzip.compress(TEXT.encode())), given=writing("u.txt.gz",
        gzip.compress(TEXT.encode())[:-20])),
    row("try utf-8, utf-16 or cp1252", f"{TRAIN} --encoding utf-9", "utf-9 -> utf-8",
        "utf-9 -> cp1252"),
    row("rename it", f"train u.txt.gz {SMALL} --out new", "u.txt.gz -> u.txt",
        given=both(writing("u.txt.gz", TEXT), writing("u.txt", TEXT))),
    row("name a text file", f"train folder {SMALL} --out new", "folder -> text.txt",
        given=making("folder")),
    row("save documents as plain text (.txt) to read them", f"train folder {SMALL} --out new",
        both(removing("folder/a.pdf"), writing("folder/a.txt", TEXT)), given=both(making("folder"),
        writing("folder/a.pdf", "%PDF"), writing("folder/b.txt", TEXT))),
    row("save it as plain text (.txt)", f"train u.pdf {SMALL} --out new",
        both(writing("u.txt", TEXT), writing("u.pdf", TEXT)), given=writing("u.pdf", "%PDF")),
    row("saving it as plain text first", "eval run u.txt", writing("u.txt", "sat in"),
        given=writing("u.txt", b"ab\0cd" * 20)),
    row("remove it, or the model learns it", f"train u.txt {SMALL} --out new", writing("u.txt",
        "a b\n" * 100), given=writing("u.txt", "a b\n" * 50 + "\ufeffab" * 50)),
    row("check `encoding`", f"train u.txt {SMALL} --out new --encoding latin-1", "--encoding utf-8",
        given=writing("u.txt", "caf\xe9 \xfcber " * 40)),
    row("convert the text to one form", f"train u.txt {SMALL} --out new",
        lambda *_: Path("u.txt").write_text(unicodedata.normalize("NFC", MIXED)),
        given=writing("u.txt", MIXED)),
    row("`min_count=…` replaces the rarest with one unknown symbol",
        f"train u.txt {SMALL} --out new", "--min-count {}", given=writing("u.txt", "".join(map(chr,
        range(0x4E00, 0x4F00))) + "sat in " * 200)),
    row("give more text or a smaller `seq_len`", f"{TRAIN} --seq-len 5000", "--seq-len 8"),
    row("set CHARNN_CACHE to another folder", TRAIN, setting("CHARNN_CACHE", "cache"),
        given=both(patching(cache, "MIN_CACHED_SYMBOLS", 1), setting("CHARNN_CACHE",
        "text.txt/cache"))),
    row("set CHARNN_CACHE to a folder on another disk", TRAIN, setting("CHARNN_CACHE", "cache"),
        given=both(patching(cache, "MIN_CACHED_SYMBOLS", 1), setting("CHARNN_CACHE", "bad"),
        lambda patch: patch.setattr(cache, "_read", forgetful))),
    row("Otherwise set CHARNN_CACHE to a folder with free space", f"train - {SMALL} --out new",
        setting("CHARNN_CACHE", "cache"), given=both(patching(sources, "IN_MEMORY", 9),
        setting("CHARNN_CACHE", "full"), lambda patch: patch.setattr(shutil, "disk_usage", usage))),
    row("name a readable file or folder", f"train {'n' * 300} {SMALL} --out new",
        f"{'n' * 300} -> text.txt"),
    row("pipe a text into it or name a file", f"train - {SMALL} --out new", "- -> text.txt",
        given=terminal),
    row("set CHARNN_CACHE to a folder", TRAIN, setting("CHARNN_CACHE", "cache"),
        given=both(patching(cache, "MIN_CACHED_SYMBOLS", 1), unsetting("CHARNN_CACHE"),
        lambda patch: patch.delenv("XDG_CACHE_HOME", raising=False),
        lambda patch: patch.setattr(Path, "home", no_home))),
    row("`chmod 700 …`, or set CHARNN_CACHE to another folder", TRAIN,
        lambda folder: Path(folder).chmod(0o700), setting("CHARNN_CACHE", "cache"),
        given=both(patching(cache, "MIN_CACHED_SYMBOLS", 1), making("open"),
        lambda *_: Path("open").chmod(0o777), setting("CHARNN_CACHE", "open"))),
    row("set CHARNN_CACHE to a folder with free space", TRAIN, setting("CHARNN_CACHE", "cache"),
        given=both(patching(cache, "MIN_CACHED_SYMBOLS", 1), setting("CHARNN_CACHE", "full"),
        lambda patch: patch.setattr(cache, "_check_free_space", full))),
]


# fmt: on
def no_home(*_: object) -> Path:
    """Raise as Python does for a user without a home."""
    raise RuntimeError("no home")


_read = cache._read


def forgetful(path: Path, *arguments: Any) -> object:
    """Read nothing back from the folder `bad`."""
    return None if path.parent.name == "bad" else _read(path, *arguments)


def usage(folder: Path) -> shutil._ntuple_diskusage:
    """Return how full a disk is: no byte is free in the folder `full`."""
    free = 0 if Path(folder).name == "full" else 1 << 40
    return shutil._ntuple_diskusage(1 << 41, (1 << 41) - free, free)


_check = cache._check_free_space


def full(folder: Path, needed: int) -> None:
    """Find no space in the folder `full`."""
    _check(folder, needed if folder.name != "full" else 10**20)


ELSEWHERE = "train --resume --out run"  # after its text has moved


def editing(name: str, old: str, new: str) -> Step:
    """Return a function that replaces a part of a file."""

    def edit(*_: object) -> None:
        text = Path(name).read_text()
        assert old in text
        Path(name).write_text(text.replace(old, new))

    return edit


def holding(patch: pytest.MonkeyPatch) -> None:
    """Lock a run folder as another process does."""
    lock = lock_folder(Path("run"))
    lock.__enter__()
    LOCKS.append(lock)


LOCKS: list[contextlib.AbstractContextManager[object]] = []


def unsigned(*_: object) -> None:
    """Let somebody else have made the run."""
    editing("run/run.json", '"signature": "', '"signature": "0')()


def diverging(patch: pytest.MonkeyPatch) -> None:
    """Let each update fail whose learning rate is too high for the model."""
    update = Update.__call__

    def call(self: Update, inputs: Tensor, targets: Tensor, rate: float) -> StepStats:
        made = update(self, inputs, targets, rate)
        return made if rate < 0.6 else made._replace(loss=torch.tensor(math.inf))

    patch.setattr(Update, "__call__", call)


# fmt: off
RUNS = [
    row("name one that holds a …", "check folder", "folder -> run", given=making("folder")),
    row("move it away", "check run", moving("run/.lock", "away"), given=both(removing("run/.lock"),
        making("run/.lock"))),
    row("check the run folder", "train --resume --out run --steps 4", moving("run/metrics.jsonl",
        "away"), given=both(removing("run/metrics.jsonl"), making("run/metrics.jsonl"))),
    *[
        row(advice, "check run", "--repair & charnn check run --repair", given=given)
        for advice, given in (
            ("`repair=True` will …", writing("run/last.previous.safetensors", "x")),
            ("rename it to ….damaged", writing("run/best.safetensors", "x")),
            ("remove it", writing("run/.last.safetensors.01234567.tmp", "x")),
            ("save it from …", removing("run/best.safetensors")),
            ("remove them, and keep a copy of the file if it is more than a half line",
                writing("run/metrics.jsonl", "damaged")),
            ("write what is known anew", removing("run/run.json")),
            ("restore it from …, of step …",
                lambda *_: Path("run/last.safetensors").rename("run/last.previous.safetensors")),
        )
    ],
    row("leave `…` out", "eval bytes other.txt --encoding latin-1", "without --encoding"),
    row("name one", "eval run --encoding latin-1", "add other.txt"),
    row("`…` is for a text that you name", "eval run --skip-unknown", "add other.txt",
        "without --skip-unknown"),
    row("give a text", "eval none", "add other.txt",
        given=training(f"text.txt {SMALL} --val-fraction 0 --out none")),
    row("start it again with the same text and `out=…`", "sample stopped --length 5",
        "charnn train text.txt SMALL --out {}", given=both(making("stopped"),
        lambda *_: shutil.copy("run/run.json", "stopped"))),
    row("check the run folder, or start a new run with another `out`", "sample odd --length 5",
        "charnn train text.txt SMALL --out other & odd -> other",
        given=both(making("odd/best.safetensors"), lambda *_: shutil.copy("run/run.json", "odd"))),
    row("start a new run with another `out`", "train --resume --out other --steps 2",
        "drop --resume & --out new & add text.txt", given=both(making("other"),
        writing("other/text.txt", TEXT))),
    row("start a new run with another `out`", "train text.txt --resume --out run --steps 1",
        "drop --resume & --out new"),
    row("name its run folder", "train --resume --out run/best.safetensors",
        "run/best.safetensors -> run"),
    row("extend it with `steps` or `epochs`", "train --resume --out run --minutes 9",
        "drop --minutes & --steps 8", "drop --minutes & --epochs 1"),
    row("use `patience=…` to continue", "train --resume --out early --steps 100", "--patience {}",
        given=training(f"text.txt {SMALL} --steps 50 --val-every 1 --patience 1 "
                       "--learning-rate 1e-9 --out early")),
    row("start a new run with `init_from`", "train --resume --out run --steps 4",
        "drop --resume & run -> new & --init-from run & add text.txt",
        given=lambda *_: shutil.copy("run/best.safetensors", "run/last.safetensors")),
    row("use `resume` to continue it or choose another `out`", "train text.txt --steps 8 --out run",
        "--resume", "--out new"),
    row("choose another `out`", f"train text.txt {SMALL} --out other.txt", "--out new"),
    row("restore it, name the original text, or start a new run with `init_from=…`",
        "train other.txt --resume --out run --steps 4", "other.txt -> text.txt",
        "drop --resume & run -> new & --init-from run",
        lambda *_: shutil.copy("text.txt", "other.txt")),
    row("`charnn train TEXT --init-from …`", "check run",
        "charnn train --init-from run text.txt --steps 1 --out next & run -> next",
        given=removing("run/last.safetensors")),
    row("`out` is the folder of the run, which will hold its checkpoints",
        f"train text.txt {SMALL} --out x.safetensors", "--out new"),
    row("use `out=…`", f"train text.txt {SMALL} --out x.safetensors", "--out {}"),
    row("choose another `out`", f"train text.txt {SMALL} --out text.txt/run", "--out new"),
    row("wait until it ends, or choose another `out`", ELSEWHERE, "--out bytes",
        lambda *_: LOCKS.pop().__exit__(None, None, None), given=holding),
    row("choose another run", "plot odd --text", "odd -> run", given=making("odd/metrics.jsonl")),
    row("wait for the run or choose another", "plot odd --text", "odd -> run",
        given=both(making("odd"), writing("odd/metrics.jsonl", ""))),
    row("the last bits will differ (`threads=…` keeps them)", f"{ELSEWHERE} --threads 2",
        "--threads {}"),
    row("name the …", "train --resume --out piped", "as advised",
        given=training(f"- {SMALL} --out piped")),
    row("name the …", "eval piped", "as advised", given=training(f"- {SMALL} --out piped")),
    row("name the text", "eval run", "as advised", given=removing("run/run.json")),
    row("check the path and name the …", "eval run", "as advised", given=unsigned),
    row("restore it as it was", "eval own", writing("text.txt", TEXT),
        given=both(training(f"text.txt {SMALL} --out own"), writing("text.txt",
        TEXT.encode() + b"\xff"))),
    row("`charnn eval … TEXT`", "eval run", "as advised", given=unsigned),
    row("`charnn gradients … TEXT`", "gradients run --distance 5", "as advised & add --distance 5",
        given=unsigned),
    row("`charnn inspect … --find --file TEXT`", "inspect run --find", "as advised",
        given=unsigned),
    row("`charnn gradients --compare TEXT`", "gradients --compare run --minutes 0.001 --distance 5",
        "as advised & add --minutes 0.001 --distance 5", given=unsigned),
    row("`charnn train TEXT ……`", ELSEWHERE, "as advised", given=unsigned),
    row("`charnn train TEXT ……`", ELSEWHERE.replace("run", "piped"), "as advised",
        given=training(f"text.txt {SMALL} --val - --out piped")),
    row("start a new run with a smaller `learning_rate`", f"{TRAIN} --learning-rate 8",
        "--learning-rate 0.01", given=lambda patch: at_first(
            patch, examiner, "evaluate", Score(math.inf, 1))),
    row("start a new run", "train --resume --out run --steps 4",
        "drop --resume & drop --out & add text.txt", given=lambda patch: patch.setattr(
            TrainState, "restore", lambda *_: check_finite({"a": np.array(math.nan)}))),
    row("start a new run with `learning_rate=…` or a smaller `clip`",
        f"{TRAIN} --learning-rate 8 --max-rollbacks 03", "--learning-rate {} & 03 -> 0",
        given=diverging),
    row("…, or `force=True` to try anyway",
        "train text.txt --batch-size 300 --hidden-size 600 --steps 1 --out new", "advised option",
        given=patching(memory, "_system_available", lambda: 2e8)),
    row("…, or `force=True` to try anyway",
        f"train text.txt {SMALL.replace('--hidden-size 6', '--hidden-size 100')} --out new",
        "--force", given=patching(memory, "_system_available", lambda: 1e5)),
]

INSIGHT = [
    row("use an earlier checkpoint", "gradients run/last.safetensors --distance 5",
        "run/last.safetensors -> run", given=lambda patch: at_first(
            patch, gradients, "gradient_norms", (torch.zeros(1), torch.full((6, 1), math.nan)))),
    row("give another text", "gradients --compare none --minutes 0.001 --distance 5",
        "none -> text.txt", given=training(f"text.txt {SMALL} --val-fraction 0 --out none")),
    row("give a longer text", "gradients --compare u.txt --minutes 0.001 --distance 5",
        "u.txt -> text.txt", given=writing("u.txt", "aba" * 11)),
    row("give another text", "inspect run --find digit --file text.txt", "digit -> space"),
    row("use a model of running text", "gradients records --distance 5", "records -> run"),
    row("or `distance=…`", "gradients run", "--distance {}"),
    row("give a longer text…", "gradients run other.txt --distance 600", "other.txt -> long.txt",
        given=writing("long.txt", TEXT * 3)),
    row("remove it", "plot run --out new.png", removing("new.png"),
        given=lambda *_: Path("new.png").symlink_to("nothing")),
    row("choose another name or give `force=True`", "plot run --out old.png", "old.png -> new.png",
        "--force", given=writing("old.png", "")),
    row("a picture's name must end in … or …", "plot run --out new.txt", "new.txt -> new{0}",
        "new.txt -> new{1}"),
    row("a … state of this model lies between … and …", "sample gru --length 5 --clamp 0:0=7",
        "0:0=7 -> 0:0={1}", "0:0=7 -> 0:0={2}",
        given=training(f"text.txt {SMALL} --cell gru --out gru")),
    row("create it first", "plot run --out folder/new.png", making("folder")),
    row("--text draws in the terminal without it", "plot run", "--text",
        given=lambda patch: patch.setitem(sys.modules, "matplotlib", None)),
    row("give … at most", f"plot {' '.join(MANY)} --out new.png", f"{MANY[-1]} -> ",
        given=lambda *_: [shutil.copytree("run", name) for name in MANY]),
    row('give one, such as "steep"', "inspect run ''", " -> sat"),
    row("give a text of one line", "inspect records 'a\nb'", "a\nb -> sat"),
    row("give … or more", "inspect run --find space --file u.txt", "u.txt -> text.txt",
        given=writing("u.txt", "sat")),
    row("give at least 2 characters, or bytes to a byte model", "eval run u.txt", writing("u.txt",
        "sa"), given=writing("u.txt", "s")),
]
TABLES = (USAGE, CHECKPOINTS, TEXTS, RUNS, INSIGHT)
