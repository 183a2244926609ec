"""The facts in a checkpoint beside its settings: about its corpus, its results and its run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from charnn.config import Settings, ValidationConfig, setting
from charnn.errors import SettingError
from charnn.text.records import RECORD_RULES


def _count(help: str) -> Any:
    return setting(help, low=0, high=2**63 - 1)


@dataclass(frozen=True)
class CorpusFacts(Settings):
    """Facts about the corpus that identify it without saying where it was stored."""

    sha256: str = setting("SHA-256 of the text.")
    characters: int = _count("Characters of the whole text.")
    train_characters: int = _count("Characters of the training part.")
    records: int | None = setting(
        "Training records, if the text consists of records.", default=None, low=1, high=2**63 - 1
    )
    known_records: int | None = setting(
        "Records in the filter of known ones, if these are not the training records.",
        default=None,
        low=1,
        high=2**63 - 1,
    )
    record_rules: int = setting(
        "Version of the rules by which the text became records.",
        default=1,
        low=1,
        high=RECORD_RULES,
    )

    bytes_per_char: float | None = setting(
        "Mean number of bytes of a character of the validation part, if the symbols are bytes of "
        "UTF-8.",
        default=None,
        low=1.0,
        high=4.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise SettingError("sha256 is not 64 hexadecimal digits")

    @property
    def num_known(self) -> int | None:
        """The number of records in the filter of known ones; None without one."""
        return self.records if self.known_records is None else self.known_records


@dataclass(frozen=True)
class Figures(Settings):
    """The results of training."""

    step: int = _count("Updates made.")
    parameters: int = _count("Weights of the network.")
    val_nats_per_char: float | None = setting(
        "Loss of the best validation, which may have read only a part of the text.", default=None
    )
    full_val_nats_per_char: float | None = setting(
        "Loss on the whole validation part.", default=None
    )

    @property
    def nats_per_char(self) -> float | None:
        """Loss on the whole validation part if it is known, else that of the best validation."""
        full = self.full_val_nats_per_char
        return self.val_nats_per_char if full is None else full


@dataclass(frozen=True)
class Progress(Settings):
    """The position of a run in its training, and of the snapshot it would roll back to."""

    step: int = _count("Updates made.")
    epoch: int = _count("Complete passes over the text.")
    window: int = _count("Windows read of the present pass.")
    rollbacks: int = setting("Rollbacks so far.", low=0, high=1000)
    snapshot_step: int = _count("Updates made when the snapshot was taken.")
    snapshot_epoch: int = _count("Complete passes when the snapshot was taken.")
    snapshot_window: int = _count("Windows read when the snapshot was taken.")


@dataclass(frozen=True)
class Validations(Settings):
    """The validations of a run so far."""

    step: int = _count("Updates made at the newest one.")
    best_step: int = _count("Updates made at the best one.")
    stale: int = _count("Validations since the best one.")
    best_nats: float | None = setting("Loss of the best one.", default=None)


@dataclass(frozen=True)
class Machine(Settings):
    """The machine and the software that a run is computed with, by which the last bits differ."""

    device: str = setting("Name of the GPU, or cpu.")
    processor: str = setting("Processor.")
    instructions: str = setting("Instruction set that PyTorch uses on the CPU.")
    variables: str = setting("Environment variables that restrict the instruction set.")
    threads: int = setting("CPU threads.", low=1)
    processes: int = setting("Number of processes.", low=1)
    bfloat16: bool = setting("The device multiplies bfloat16 matrices quickly.")
    torch: str = setting("Version of PyTorch.")

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = (self.device, self.processor, self.instructions, self.variables, self.torch)
        if not all(map(str.isprintable, texts)):  # messages of one line show them
            raise SettingError("the description of the machine is not printable")


@dataclass(frozen=True)
class RunFacts:
    """All that a resumed run needs to know beside its training state and its text."""

    validation: ValidationConfig
    validations: Validations
    machine: Machine
    unsaved_best: Figures | None = None  # of a best model that could not be saved so far
    unsynced_metrics: tuple[str, ...] = ()  # lines that could not be written so far

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return {
            "validation": self.validation.to_json(),
            "validations": self.validations.to_json(),
            "machine": self.machine.to_json(),
            "unsaved_best": self.unsaved_best and self.unsaved_best.to_json(),
            "unsynced_metrics": list(self.unsynced_metrics),
        }

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Rebuild the facts from what `to_json` returned; raise `SettingError` if they are not."""
        if not isinstance(values, Mapping) or values.keys() != cls.__dataclass_fields__.keys():
            raise SettingError("the facts about the run are incomplete")
        unsaved, lines = values["unsaved_best"], values["unsynced_metrics"]
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise SettingError("the lines of the metrics are not texts")
        return cls(
            ValidationConfig.from_json(values["validation"]),
            Validations.from_json(values["validations"]),
            Machine.from_json(values["machine"]),
            None if unsaved is None else Figures.from_json(unsaved),
            tuple(lines),
        )
