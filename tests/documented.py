"""The commands in the documents, shortened so that tests can run them."""

import re
import shlex
from pathlib import Path

from tests.conftest import TINY

ROOT = Path(__file__).parent.parent
# Options that are removed together with their values.
LONG = (
    "--minutes", "--epochs", "--steps", "--hidden-size", "--precision", "--seed", "--distance",
    "--positions",
)  # fmt: skip


def document(path: str) -> str:
    """Return the text of a document in the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the language and the content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def charnn_lines(text: str) -> list[list[str]]:
    """Return the arguments of every `charnn …` command in the shell blocks, in order."""
    lines = []
    for kind, block in blocks(text):
        if kind in ("sh", "console"):
            for part in re.split(r"&&|\n", block):
                match = re.match(r"^\s*(?:\$ )?(?:\.venv/bin/)?charnn (.*)$", part)
                if match:
                    lines.append(shlex.split(match[1].split(" | ")[0]))
    return lines


def images(text: str) -> list[str]:
    """Return the paths of the images in a document."""
    return re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)


def shortened(arguments: list[str]) -> list[str]:
    """Return the command with a budget of a few steps, and a tiny model if it starts a run."""
    if arguments[0] == "gradients":
        less = ["--distance", "9", "--positions", "3"]
        compared = ["--minutes", "0.001", "--seed", "1"] if "--compare" in arguments else []
        return [*_without(arguments, LONG), *less, *compared]
    if arguments[0] == "inspect" or "--clamp" in arguments:
        return [re.sub(r"^(\d+:)(\d+)", _tiny_unit, word) for word in arguments]
    if arguments[0] != "train":
        return arguments
    if "--resume" in arguments:
        return ["9" if word.isdigit() else word for word in arguments]
    sizes = TINY[6:] if "--init-from" in arguments else TINY
    return [*_without(arguments, LONG), "--steps", "2", *sizes]


def _without(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    kept, skip = [], False
    for word in arguments:
        if word in options:
            skip = True
        elif skip:
            skip = False
        else:
            kept.append(word)
    return kept


def _tiny_unit(match: "re.Match[str]") -> str:
    """Replace a unit by one in the only layer of the tiny model."""
    return f"0:{int(match[2]) % int(TINY[1])}"
