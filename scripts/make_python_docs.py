"""What can Python do with charnn? Writes docs/python.md from the docstrings.

python scripts/make_python_docs.py
"""

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import charnn
import charnn.settings
from charnn.cli.options import CHOSEN
from charnn.config import (
    ModelConfig,
    SampleConfig,
    Settings,
    TextConfig,
    TrainConfig,
    ValidationConfig,
)

DOCUMENT = Path(__file__).parent.parent / "docs" / "python.md"
INTRODUCTION = """\
# charnn from Python

Written by `scripts/make_python_docs.py` from the docstrings, whose examples the tests run.

Everything that a command can do is a function or a method here. Settings are keyword arguments with
the names of the command line's options (`--hidden-size 256` is `hidden_size=256`), typed, so that a
type checker refuses a misspelt one. Errors that a user can fix are `charnn.CharnnError`s; a missing
file is also a `FileNotFoundError`. What is chosen or notable while a run starts is logged by the
logger `charnn`: `logging.basicConfig(level=logging.INFO)` shows all of it.

Import charnn before torch where you can: beside other busy programs it then keeps OpenMP's threads
from spinning in vain. Threads may share a model, and a model can be copied and pickled.

Do not fork a process that has used torch: its thread pools do not survive that, and the child waits
for ever. Start other processes with "spawn", each with a model of its own:

```python
import multiprocessing

import charnn


def write(seed):
    return charnn.load("checkpoints/corpus").sample("st", length=20, seed=seed)


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(write, range(4)))
```
"""
SETTINGS = {
    "TrainSettings": (TextConfig, ModelConfig, TrainConfig, ValidationConfig),
    "SampleSettings": (SampleConfig,),
}
FUNCTIONS = ("train", "resume", "load", "curves")
CLASSES = ("LanguageModel",)


def document() -> str:
    """Return the document as Markdown."""
    parts = [INTRODUCTION]
    for name in FUNCTIONS:
        parts.append(_entry(f"charnn.{name}", getattr(charnn, name), "##"))
    for name in CLASSES:
        kind = getattr(charnn, name)
        parts.append(f"## `charnn.{name}`\n\n{_text(kind)}\n")
        for method, function in vars(kind).items():
            if not method.startswith("_") and callable(function):
                parts.append(_entry(method, function, "###"))
    parts += [_table(name, kinds) for name, kinds in SETTINGS.items()]
    return "\n".join(parts)


def _table(name: str, configs: tuple[type[Settings], ...]) -> str:
    """Return the settings of a `TypedDict` with their types, defaults and help."""
    rows = [f"## `{name}`", "", "| setting | type | default | meaning |", "|---|---|---|---|"]
    allowed = get_type_hints(getattr(charnn.settings, name))
    for config in configs:
        for field in fields(config):  # type: ignore[arg-type]
            if field.name in allowed:
                kind = getattr(allowed[field.name], "__name__", str(allowed[field.name]))
                chosen = name == "TrainSettings" and (
                    field.default is MISSING or field.name in CHOSEN
                )
                default = "chosen" if chosen else f"`{field.default!r}`"
                meaning = field.metadata["help"].replace("|", "\\|")
                kind = kind.replace("|", "\\|")
                rows.append(f"| `{field.name}` | {kind} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _entry(name: str, function: Any, level: str) -> str:
    """Return a heading, the signature and the docstring of a function."""
    signature = str(inspect.signature(function)).replace("self, ", "").replace("(self)", "()")
    signature = re.sub(r"(?:[a-z_]+\.)+([A-Za-z])", r"\1", signature)
    signature = re.sub(r"\*<class '(\w+)'>", r"Unpack[\1]", signature)
    return f"{level} `{name}`\n\n```\n{name}{_wrapped(signature)}\n```\n\n{_text(function)}\n"


def _wrapped(signature: str) -> str:
    """Return a signature, with one parameter per line if it is long."""
    if len(signature) < 80:
        return signature
    inside, _, result = signature.rpartition(")")
    parameters = re.split(r", (?![^\[]*\])", inside.removeprefix("("))
    return "(\n    " + ",\n    ".join(parameters) + ",\n)" + result


def _text(documented: Any) -> str:
    """Return a docstring as Markdown: sections in bold, arguments as a list, examples as code."""
    lines, code = [], False
    for line in (inspect.getdoc(documented) or "").splitlines():
        example = line.startswith(("    >>>", "    ...")) or (code and line.startswith("    "))
        if example and not code:
            lines.append("```python")
        elif code and not example:
            lines.append("```")
        code = example
        if example:
            lines.append(line.removeprefix("    "))
        elif re.fullmatch(r"(Args|Raises|Example):", line):
            lines += [f"**{line[:-1]}**", ""]
        elif match := re.match(r"    ((?:[A-Za-z_]+, )*[A-Za-z_]+): (.*)", line):
            lines.append(f"- `{match[1]}`: {match[2]}")
        else:
            lines.append(re.sub(r"^ {8}", "  ", line))
    return "\n".join([*lines, "```"] if code else lines)


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
