"""`charnn inspect --find`: which units track a property of a text?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.terminal import show, status

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.insight.properties import Values
    from charnn.insight.units import Found
    from charnn.model.network import CharNetwork
    from charnn.text.records import Text
    from charnn.text.tokenizer import Indices

# The names of `charnn.insight.properties.PROPERTIES`, known without numpy.
TRACKED = ("quotes", "brackets", "line", "newline", "capital", "digit", "space")
MOST = 100_000  # characters of a text that are read
BEST, BEST_OF_ALL = 10, 3  # units that are told of one property, and of each of all


def show_found(
    path: Path, loaded: "Checkpoint", network: "CharNetwork", text: str | None,
    options: dict[str, Any],
) -> None:  # fmt: skip
    """The best units of the properties that were asked for, as a table or as JSON."""
    from charnn.errors import TextError
    from charnn.insight.units import Layout, find, trouble
    from charnn.text.records import indices_of

    quiet = options["quiet"]
    read = _text(path, loaded, text, quiet)
    layout = Layout.of(len(read))
    wanted = _properties(loaded, indices_of(read), options)
    absent = {name: said for name, values in wanted.items() if (said := trouble(values, layout))}
    if len(absent) == len(wanted) == 1:
        (name,) = wanted
        raise TextError(f"{name} {absent[name]}; give another text with --file")
    for name, said in absent.items():
        status(f"note: {name} {said}", quiet)
    wanted = {name: values for name, values in wanted.items() if name not in absent}
    if not wanted:
        raise TextError("no property changes in this text; give another text with --file")
    best = BEST if len(wanted) + len(absent) == 1 else BEST_OF_ALL
    found = dict(zip(wanted, find(network, read, list(wanted.values()), best), strict=True))
    means = {name: float(layout.halves(values).mean()) for name, values in wanted.items()}
    if options["as_json"]:
        about = {
            "checkpoint": str(path),
            "characters": layout.counted,
            "properties": [
                {"property": name, "mean": means[name], "units": [asdict(one) for one in units]}
                for name, units in found.items()
            ],
            "absent": absent,
        }
        click.echo(json.dumps(about))
        return
    for row in _table(found, means):
        show(row)
    status(_hint(path, found, loaded.model.cell), quiet)


def _text(path: Path, loaded: "Checkpoint", text: str | None, quiet: bool) -> "Text":
    """The symbols to read."""
    from charnn.errors import TextError
    from charnn.runs.info import reopen_corpus
    from charnn.text.records import Records, indices_of

    tokenizer = loaded.tokenizer
    newline = tokenizer.newline_index if loaded.text.lines else None
    if text is not None:
        whole = tokenizer.fold(text[:MOST])
        if len(text) > MOST:
            status(f"the first {MOST:,} of {len(text):,} characters are read", quiet)
        return whole if newline is None else Records(whole, newline)
    indices = indices_of(reopen_corpus(path.parent, loaded).validation)[:MOST]
    if len(indices) == 0:
        raise TextError(f"{path}: the run has no validation part; name a text with --file")
    status(f"{len(indices):,} characters of the run's validation part are read", quiet)
    return indices if newline is None else Records(indices, newline)


def _properties(
    loaded: "Checkpoint", indices: "Indices", options: dict[str, Any]
) -> dict[str, "Values"]:
    """By name, a number for each symbol: those of a character's bytes are its own."""
    import numpy as np

    from charnn.insight.properties import PROPERTIES, pattern
    from charnn.insight.units import characters

    functions = {name: PROPERTIES[name] for name in TRACKED if options["find"] in (name, "all")}
    if options["pattern"] is not None:
        functions = {"pattern": pattern(options["pattern"])}
    text, sizes = characters(loaded.tokenizer, indices)
    return {name: np.repeat(function(text), sizes) for name, function in functions.items()}


def _table(found: dict[str, list["Found"]], means: dict[str, float]) -> list[str]:
    rows = [
        "Correlation with a unit's state after each character; the first half of the text",
        "ranks the units, the second one checks.",
        f"{'property':<18}{'unit':<22}{'first half':>12}{'second half':>14}",
    ]
    for name, units in found.items():
        mean = f"mean {means[name]:.1f}" if name == "line" else f"{means[name]:.1%}"
        for number, one in enumerate(units):
            start = f"{name} ({mean})" if number == 0 else ""
            unit = f"{one.state} {one.layer}:{one.unit}"
            rows.append(f"{start:<18}{unit:<22}{one.ranked:>+12.3f}{one.checked:>+14.3f}")
    return rows


def _hint(path: Path, found: dict[str, list["Found"]], cell: str) -> str:
    """What to type next about the unit that tracks its property best."""
    units = [units[0] for units in found.values()]
    best = max(units, key=lambda one: min(abs(one.ranked), abs(one.checked)))
    unit, value = f"{best.layer}:{best.unit}", "2" if cell == "lstm" else "0.9"
    return (
        f"next: charnn inspect {path} --unit {unit} --file TEXT\n"
        f"      charnn sample {path} --clamp {unit}={value}"
    )
