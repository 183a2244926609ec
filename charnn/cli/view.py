"""Views of a trace in a terminal: a table with a row per character, or the text coloured by one
unit."""

import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from charnn.cli.columns import columns, padded, screen_columns
from charnn.cli.terminal import escaped

if TYPE_CHECKING:
    from charnn.insight.trace import Trace
    from charnn.text.tokenizer import Tokenizer

SYMBOLS = {" ": "␣", "\n": "↵", "\t": "⇥"}
BARS = "▁▂▃▄▅▆▇█"
MOST_CHANGED, TOP_NEXT = 2, 3  # units and next characters in a row, at most
# ANSI's 256 colours, from pale to strong. Black text is readable on all but the strongest blues.
BLUES, REDS = (189, 147, 105, 63, 21), (224, 217, 210, 203, 196)


def symbol_text(tokenizer: "Tokenizer", symbol: int) -> str:
    """Return a visible form of a symbol; a byte that is not printable ASCII is \\xNN."""
    if tokenizer.kind == "byte" and not 0x20 <= symbol < 0x7F and symbol not in (9, 10):
        return f"\\x{symbol:02x}"
    character = tokenizer.decode([symbol])
    if unicodedata.category(character) in ("Mn", "Me"):
        return f"\u25cc{character}"  # a dotted circle, so that it does not combine with a space
    return SYMBOLS.get(character) or escaped(character)


def table(trace: "Trace", layer: int, tokenizer: "Tokenizer") -> list[str]:
    """Return headings and a row for each character, within the columns of the screen."""
    gates = trace.gates or ("hidden",)
    if trace.gates:
        heading = (
            f"Means over layer {layer}; gates: 0 = closed, 1 = open; candidate: mean absolute value"
        )
    else:
        heading = f"This cell has no gates; hidden state: mean absolute value over layer {layer}"
    means = [_means(trace, name, layer) for name in gates]
    changed = list(_most_changed(trace, layer))
    width = max(len(one) for row in changed for one in row) + 1
    first, across = 5 + 7 * len(gates), screen_columns()
    count = MOST_CHANGED if across - first - MOST_CHANGED * width >= 15 else 1
    count = count if across - first - count * width >= 8 else 0  # next come before changes
    titles = "".join(f"{name[:6]:<7}" for name in gates)
    room = count * width
    title = f"{trace.state} units that changed most"
    title = title if len(title) < room else "changed most"
    title = f"{title[: room - 1]:<{room}}" if count else ""
    rows = [*textwrap.wrap(heading, across), f"{'':5}{titles}{title}next, %"[:across]]
    for step, symbol in enumerate(trace.symbols):
        start = padded(symbol_text(tokenizer, symbol), 5) + "".join(mean[step] for mean in means)
        start += "".join(f"{one:<{width}}" for one in changed[step][:count])
        rows.append(start + _next(trace, step, tokenizer, across - columns(start)))
    return rows


def _means(trace: "Trace", name: str, layer: int) -> list[str]:
    """Return the mean absolute value at each step, as a bar and a number."""
    means = trace.values[name][:, layer].abs().mean(-1).tolist()
    return [f"{BARS[min(7, int(8 * mean))]} {mean:.2f} " for mean in means]


def _most_changed(trace: "Trace", layer: int) -> Iterator[list[str]]:
    """Yield for each step the units that changed most, as `layer:unit before→after`."""
    after, changes = trace.values[trace.state][:, layer], trace.changes[:, layer]
    for now, change in zip(after, changes, strict=True):
        most = change.abs().topk(min(MOST_CHANGED, len(change))).indices.tolist()
        yield [
            f"{layer}:{unit} {_short(float(now[unit] - change[unit]))}→{_short(float(now[unit]))}"
            for unit in most
        ]


def _short(value: float) -> str:
    """Return a number in four columns: +.25, -1.5, +12."""
    if abs(value) < 0.995:
        return f"{value:+.2f}".replace("0.", ".", 1)
    return f"{value:+.1f}" if abs(value) < 9.95 else f"{value:+.0f}"


def _next(trace: "Trace", step: int, tokenizer: "Tokenizer", room: int) -> str:
    """Return the likeliest next characters with their percentages, as many as fit into `room`."""
    text = ""
    for probability, symbol in trace.top_next(step, TOP_NEXT):
        more = f"{symbol_text(tokenizer, symbol)} {100 * probability:>2.0f} "
        if columns(text + more.rstrip()) > room:
            break
        text += more
    return text.rstrip()


def coloured(text: str, values: Iterable[float], name: str) -> str:
    """Return the text with backgrounds coloured by values from -1 to 1, below a legend.

    Control characters in the text are made visible, so that they cannot move the cursor.
    """
    legend = "".join(_painted(f"{fifth / 5:+.1f}", fifth / 5) for fifth in range(-5, 6))
    written = []
    for character, value in zip(text, values, strict=True):
        shown = " " if character == "\n" else escaped(character)
        written.append(_painted(shown, value) + ("\n" if character == "\n" else ""))
    return f"{name}: {legend}\n{''.join(written)}"


def _painted(text: str, value: float) -> str:
    level = round(5 * min(1.0, abs(value)))
    if level == 0:
        return text
    background = (REDS if value > 0 else BLUES)[level - 1]
    ink = 231 if background in BLUES[3:] else 16
    return f"\x1b[48;5;{background}m\x1b[38;5;{ink}m{text}\x1b[0m"


def plain(text: str, values: Iterable[float], name: str) -> list[str]:
    """Return the text without colour: digits above or below each line show the values in tenths.

    A digit above a character is a positive value, a digit below it a negative one; 9 is 0.9 or
    more, and a value below 0.05 has no digit.
    """
    lines: list[list[tuple[str, float]]] = [[]]
    across = screen_columns()
    for character, value in zip(text, values, strict=True):
        shown = " " if character == " " else SYMBOLS.get(character) or escaped(character)
        if sum(columns(before) for before, _ in lines[-1]) + columns(shown) > across - 2:
            lines.append([])
        lines[-1].append((shown, value))
        if character == "\n":
            lines.append([])
    heading = f"{name} in tenths: positive values above the text, negative ones below"
    return [
        *textwrap.wrap(heading, across),
        *(row for line in lines if line for row in _with_digits(line)),
    ]


def _with_digits(line: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Yield a line of text between its positive and its negative digits, where there are any."""
    text = "".join(shown for shown, _ in line)
    for mark, row in (("+", _digits(line, 1)), (" ", text), ("-", _digits(line, -1))):
        if row.strip() or mark == " ":
            yield f"{mark} {row}".rstrip()


def _digits(line: Iterable[tuple[str, float]], sign: int) -> str:
    """Return the digits of the values with this sign, each in the first column of its character."""
    row = ""
    for shown, value in line:
        tenths = min(9, round(10 * sign * value))
        row += f"{tenths if tenths > 0 else '':<{columns(shown)}}"[: columns(shown)]
    return row
