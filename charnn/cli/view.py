"""What a terminal shows of a trace: a row for each character, or the text coloured by one unit."""

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from charnn.cli.terminal import use_color, visible

if TYPE_CHECKING:
    from charnn.insight.trace import Trace
    from charnn.text.tokenizer import Tokenizer

COLUMNS = 80
SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥"}
BARS = "▁▂▃▄▅▆▇█"
MOVED, NEXT = 2, 3  # units and characters that a row shows at most
# ANSI's 256 colours, from nearly none to 1; black is read on all but the last blue.
BLUES, REDS = (189, 147, 105, 63, 21), (224, 217, 210, 203, 196)


def sign(tokenizer: "Tokenizer", symbol: int) -> str:
    """A symbol in a few columns; a byte that is no printable character by its number."""
    if tokenizer.kind == "byte" and not 0x20 <= symbol < 0x7F and symbol not in (9, 10):
        return f"\\x{symbol:02x}"
    character = tokenizer.decode([symbol])
    return SIGNS.get(character) or visible(character)


def table(traced: "Trace", layer: int, symbols: Sequence[int], tokenizer: "Tokenizer") -> list[str]:
    """A heading of two lines, and a row for each character, 80 columns wide."""
    units = f"the {traced.before.shape[1]} units of layer {layer}"
    gates = traced.gates or ("hidden",)
    if traced.gates:
        heading = f"Means of {units}: gates 0 shut, 1 open; candidate its size."
    else:
        heading = f"This cell has no gates: mean size of the hidden state of {units}."
    means = [_means(traced, name, layer) for name in gates]
    moved = list(_moved(traced, layer))
    width = max(len(one) for row in moved for one in row) + 1
    first = 5 + 7 * len(gates)
    count = MOVED if COLUMNS - first - MOVED * width >= 15 else 1
    titles = "".join(f"{name[:6]:<7}" for name in gates)
    title = f"{traced.memory} units that moved most"
    rows = [heading, f"{'':5}{titles}{title:<{count * width}}next, %"]
    for place, symbol in enumerate(symbols):
        start = padded(sign(tokenizer, symbol), 5) + "".join(mean[place] for mean in means)
        start += "".join(f"{one:<{width}}" for one in moved[place][:count])
        rows.append(start + _next(traced, place, tokenizer, COLUMNS - columns(start)))
    return rows


def _means(traced: "Trace", name: str, layer: int) -> list[str]:
    """A gate's mean as a bar and a number, for each character; of what has a sign the mean size."""
    means = traced.values[name][:, layer].abs().mean(-1).tolist()
    return [f"{BARS[min(7, int(8 * mean))]} {mean:.2f} " for mean in means]


def _moved(traced: "Trace", layer: int) -> Iterator[list[str]]:
    """The units that each character moved most: from what to what."""
    after, moves = traced.values[traced.memory][:, layer], traced.moves[:, layer]
    for now, moved in zip(after, moves, strict=True):
        most = moved.abs().topk(min(MOVED, len(moved))).indices.tolist()
        yield [
            f"{layer}:{unit} {_short(float(now[unit] - moved[unit]))}→{_short(float(now[unit]))}"
            for unit in most
        ]


def _short(value: float) -> str:
    """A number in four columns: +.25, -1.5, +12."""
    if abs(value) < 0.995:
        return f"{value:+.2f}".replace("0.", ".", 1)
    return f"{value:+.1f}" if abs(value) < 9.95 else f"{value:+.0f}"


def _next(traced: "Trace", place: int, tokenizer: "Tokenizer", room: int) -> str:
    """The likeliest next characters, as many as there is room for, in percent."""
    text = ""
    for probability, symbol in likeliest(traced, place, NEXT):
        more = f"{sign(tokenizer, symbol)} {100 * probability:>2.0f} "
        if columns(text + more.rstrip()) > room:
            break
        text += more
    return text.rstrip()


def likeliest(traced: "Trace", place: int, count: int) -> list[tuple[float, int]]:
    """Probabilities of the likeliest next symbols after a place, and those."""
    best = traced.probabilities[place].topk(min(count, traced.logits.shape[1]))
    return list(zip(best.values.tolist(), best.indices.tolist(), strict=True))


def colours() -> bool:
    """Whether stdout takes colour."""
    return use_color(sys.stdout)


def coloured(text: str, values: Iterable[float], name: str) -> str:
    """A text by a unit's values from -1 to 1 in colour, below a legend; what is in the text itself
    cannot move the cursor."""
    legend = "".join(_painted(f"{fifth / 5:+.1f}", fifth / 5) for fifth in range(-5, 6))
    written = []
    for character, value in zip(text, values, strict=True):
        shown = " " if character == "\n" else visible(character)
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
    """The same without colour: tenths of a positive value stand above its character, of a negative
    one below it; 9 is the most."""
    lines: list[list[tuple[str, float]]] = [[]]
    for character, value in zip(text, values, strict=True):
        shown = " " if character == " " else SIGNS.get(character) or visible(character)
        if sum(columns(before) for before, _ in lines[-1]) + columns(shown) > COLUMNS - 2:
            lines.append([])
        lines[-1].append((shown, value))
        if character == "\n":
            lines.append([])
    heading = f"{name}: tenths, above the text of what is positive, below it of what is negative"
    return [heading, *(row for line in lines if line for row in _marked(line))]


def _marked(line: Sequence[tuple[str, float]]) -> Iterator[str]:
    text = "".join(shown for shown, _ in line)
    for mark, row in (("+", _tenths(line, 1)), (" ", text), ("-", _tenths(line, -1))):
        if row.strip() or mark == " ":
            yield f"{mark} {row}".rstrip()


def _tenths(line: Iterable[tuple[str, float]], direction: int) -> str:
    """A digit over the first column of each character whose value has this direction."""
    row = ""
    for shown, value in line:
        tenths = min(9, round(10 * direction * value))
        row += f"{tenths if tenths > 0 else '':<{columns(shown)}}"[: columns(shown)]
    return row


def columns(text: str) -> int:
    """How wide a terminal shows a text of visible characters."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def padded(text: str, width: int) -> str:
    """A text with spaces after it."""
    return text + " " * (width - columns(text))
