"""Advice in messages: find it in the source, in what was printed, and follow it."""

import ast
import functools
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from charnn.cli.main import options_by_setting
from charnn.cli.terminal import settings_as_options
from tests.attack.checks import no_traceback
from tests.conftest import TINY, words

PACKAGE = Path(__file__).parents[2] / "charnn"
VERBS = (
    "add|change|check|choose|convert|create|did|download|extend|give|install|keep|leave|load|make|"
    "move|name|pip|pipe|quote|redirect|remove|rename|restore|resume|save|saving it|see|select|set|"
    "start|train|try|Try|type|unset|use|wait"
)
ADVICE = re.compile(rf"(or |Otherwise )?({VERBS}) |`")
FACT = re.compile(r" must (be|have) | has no effect| is for | is not ")
REQUIREMENT = re.compile(
    r"\bneeds? (--|`)|^… needs …$|cannot be combined|\bor (use )?`|\((try |`.*=)"
)
NO_MESSAGES = {"synonyms.py", "facts.py"}


def template(node: ast.AST) -> str:
    """Return a string of the source, with an ellipsis for each value in an f-string."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(template, parts))
        case ast.FormattedValue():
            return "…"
    return ""


def strings(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module that are neither docstrings nor help texts."""
    left_out: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()):
                left_out.add(node.value)
            case ast.keyword(arg="help"):
                left_out.update(ast.walk(node.value))
            case ast.JoinedStr(values=parts):
                left_out.update(part for part in parts if isinstance(part, ast.Constant))
    yield from (template(node) for node in ast.walk(tree) if node not in left_out)


@functools.cache
def advice_in_source() -> dict[str, list[str]]:
    """Return each advice of the messages of charnn, as a template, with the modules that give it.

    A message says what was met, and after a semicolon or a colon what to do.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name in NO_MESSAGES:
            continue
        for text in strings(ast.parse(path.read_text(encoding="utf-8"))):
            for clause in re.split(r"[;:] |\? ", text):
                clause = clause.strip(" ;?")
                is_text = " " in clause and not clause.endswith(".")
                gives = ADVICE.match(clause) or REQUIREMENT.search(clause)
                if is_text and gives and not FACT.search(clause):
                    found.setdefault(clause, []).append(str(path.relative_to(PACKAGE)))
    return found


TEXT = words(600)
SMALL = shlex.join([*TINY, "--steps", "2"])
# A function that a table holds: it prepares or changes files.
Step = Callable[..., object]


@dataclass(frozen=True)
class Row:
    """A message that gives advice: a command line that is answered with it, and ways to follow it.

    `advice` is a template as `advice_in_source` finds it. A way is a function that changes files,
    called with what stands in the message for the ellipses, after which the command line is given
    again; or steps, separated by ` & `, that change the command line before it is given again:

        add text.txt       adds a word
        --out new          gives an option that the message names; `{}` is a value in the message
        without --seed     leaves one out
        drop --resume      leaves out one that the message does not name
        a.txt -> b.txt     replaces a word
        charnn …           gives another command line, which the message names, first
        advised option     gives the first option that the message names with a value
        as advised         gives, instead, the command line in the message, with TEXT replaced
    """

    advice: str
    line: str
    ways: tuple[str | Step, ...]
    given: Step | None = None  # prepares the folder; called with a MonkeyPatch


def row(advice: str, line: str, *ways: str | Step, given: Step | None = None) -> Row:
    """Return a row of a table of advice."""
    return Row(advice, line, ways, given)


def pattern(advice: str) -> re.Pattern[str]:
    """Return what an advice looks like when the command line has printed it."""
    printed = settings_as_options(advice.replace("`…`", "…"), options_by_setting)
    parts = map(re.escape, printed.split("…"))
    return re.compile("(.+?)".join(parts) + r"(?=[;:?)]|\.? |$)", re.MULTILINE)


def is_named(option: str, message: str) -> bool:
    """Return True if the message names the option."""
    return bool(re.search(rf"{re.escape(option)}(?![a-z-])", message))


def with_option(words: list[str], option: str, *value: str) -> list[str]:
    """Return a command line with an option, in place of its earlier value."""
    return [*without_option(words, option), option, *value]


def without_option(words: list[str], option: str) -> list[str]:
    """Return a command line without an option and its value."""
    if option not in words:
        return words
    at = words.index(option)
    has_value = at + 1 < len(words) and not words[at + 1].startswith("--") and option not in FLAGS
    return words[:at] + words[at + 1 + has_value :]


FLAGS = ("--resume", "--lines", "--force", "--skip-unknown", "--int8", "--fp16", "--compare",
         "--text", "--json", "--keep-stop", "--unique", "--novel", "--deterministic")  # fmt: skip


def changed(words: list[str], step: str, message: str) -> list[str]:
    """Return the command line after one step of an advice."""
    if step == "advised option":
        option, value = re.findall(r"(--[a-z-]+) ([\w.-]+)", message)[0]
        return with_option(words, option, value)
    if step == "as advised":
        (line,) = re.findall(r"`charnn ([^`]*)`", message)
        return [{"TEXT": "text.txt", "FILE": "text.txt"}.get(w, w) for w in shlex.split(line)]
    if " -> " in step:
        old, new = step.split(" -> ")
        assert old in words
        return [new if word == old else word for word in words if new or word != old]
    first, *rest = shlex.split(step)
    if first == "drop":
        return without_option(words, rest[0])
    if first == "without":
        assert is_named(rest[0], message), (rest[0], message)
        return without_option(words, rest[0])
    if first == "add":
        return [*words, *rest]
    if first == "charnn":
        assert f"charnn {rest[0]}" in message or any(is_named(o, message) for o in rest[1:])
        result = no_traceback(*rest)
        assert result.exit_code == 0, result.stderr
        return words
    assert is_named(first, message), (first, message)
    return with_option(words, first, *rest)


def follow(row: Row, way: str | Step) -> None:
    """Give a command line, follow the advice that it is answered with, and see that it works."""
    words = shlex.split(row.line)
    before = no_traceback(*words, stdin=TEXT)
    said = before.stderr + before.stdout
    found = pattern(row.advice).search(said)
    assert found, (row.advice, said)
    if callable(way):
        way(*found.groups())
    else:
        message = next(line for line in said.splitlines() if found[0] in line)
        for step in way.replace("SMALL", SMALL).split(" & "):
            words = changed(words, step.format(*found.groups()), message)
    shutil.rmtree("new", ignore_errors=True)  # the run that was only warned of something
    after = no_traceback(*words, stdin=TEXT)
    assert after.exit_code == 0, (words, after.stderr)
    assert found[0] not in after.stderr + after.stdout, (words, after.stderr)
