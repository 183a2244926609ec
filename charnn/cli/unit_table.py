"""The output of `charnn inspect --find`: units that track a property of a text."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charnn.cli.checkpoints import run_argument
from charnn.cli.terminal import LOGGER, show, status
from charnn.errors import text_named_by
from charnn.words import plural

if TYPE_CHECKING:
    from charnn.checkpoint import Checkpoint
    from charnn.insight.units import UnitSearch
    from charnn.model.network import CharNetwork

# The names of `charnn.insight.properties.PROPERTIES`, so that `--help` need not import numpy.
TRACKED = ("quotes", "brackets", "line", "newline", "capital", "digit", "space")
BEST, BEST_OF_ALL = 10, 3  # units shown for a single property, and for each of several


def show_found(
    path: Path, loaded: "Checkpoint", network: "CharNetwork", text: str | None,
    options: dict[str, Any],
) -> None:  # fmt: skip
    """Find the best units for the requested properties and print them as a table or as JSON."""
    from charnn.insight.properties import PROPERTIES, pattern
    from charnn.insight.units import MAX_CHARACTERS, find_units, text_to_search

    with text_named_by(f"`charnn inspect {run_argument(path)} --find --file TEXT`"):
        searched = text_to_search(loaded, path.parent, text)
    if text is None:
        status(f"reading {plural(len(searched), 'character')} of the run's validation part")
    elif len(text) > MAX_CHARACTERS:
        status(f"reading the first {MAX_CHARACTERS:,} characters")
    if options["pattern"] is not None:
        properties = {"pattern": pattern(options["pattern"])}
    else:
        properties = {n: of for n, of in PROPERTIES.items() if options["find"] in (n, "all")}
    best = BEST if len(properties) == 1 else BEST_OF_ALL
    found = find_units(network, loaded.tokenizer, searched, properties, best)
    for name, reason in found.not_ranked.items():
        LOGGER.warning(f"{name}: {reason}; not ranked")
    if options["as_json"]:
        click.echo(json.dumps({"checkpoint": str(path), **found.to_json()}))
        return
    for row in _table(found):
        show(row)
    for line in _next_commands(path, found, loaded.model.cell):
        status(line)


def _table(found: "UnitSearch") -> list[str]:
    rows = [
        "Correlation of a unit's state with a property after each character. Units are",
        "ranked by the first half of the text and checked on the second half.",
        f"{'property':<18}{'unit':<22}{'first half':>12}{'second half':>14}",
    ]
    for one in found.properties:
        mean = f"mean {one.mean:.1f}" if one.property == "line" else f"{one.mean:.1%}"
        for number, match in enumerate(one.units):
            start = f"{one.property} ({mean})" if number == 0 else ""
            unit = f"{match.state} {match.layer}:{match.unit}"
            r = f"{match.r_first_half:>+12.3f}{match.r_second_half:>+14.3f}"
            rows.append(f"{start:<18}{unit:<22}{r}")
    return rows


def _next_commands(path: Path, found: "UnitSearch", cell: str) -> tuple[str, str]:
    """Return commands to look further at the unit that tracks its property best."""
    matches = [one.units[0] for one in found.properties]
    best = max(matches, key=lambda m: min(abs(m.r_first_half), abs(m.r_second_half)))
    unit, value = f"{best.layer}:{best.unit}", "2" if cell == "lstm" else "0.9"
    return (
        f"next: charnn inspect {path} --unit {unit} --file TEXT",
        f"      charnn sample {path} --clamp {unit}={value}",
    )
