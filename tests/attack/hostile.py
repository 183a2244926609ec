"""Hypothesis strategies for checkpoint files damaged by a failing disk or made by an attacker.

An attacker knows the format and makes the checksum fit again, so these files test the checks of the
single fields.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from charnn.checkpoint import FIELDS, _crc32
from charnn.model.network import arrays_of
from charnn.tensor_file import MAX_HEADER

Table = list[tuple[str, str]]  # names and JSON texts in order; a name may come twice


@dataclass(frozen=True)
class Hostile:
    """The bytes of a file, and what was done to it."""

    what: str
    data: bytes = field(repr=False)


# JSON numbers, and texts that are none: some are valid in one field and absurd in another.
NUMBERS = [
    "0", "1", "-1", "2", "3", "7", "64", "65", "100", "1000", "65536", "1114113", "1000000000000",
    "1.0", "1.5", "-0.0", "0.5", "0.999999", "1e-300", "1e308", "1e999", "NaN", "Infinity",
    "-Infinity", str(2**31), str(2**62), str(2**63 - 1), str(2**63), str(2**64 - 1), str(2**64),
    str(-(2**63)), "9" * 400, "9" * 4299, "9" * 5000,
]  # fmt: skip
WORDS = [
    "", "x", "lstm", "gru", "rnn", "char", "byte", "bf16", "fp16", "utf-16", "rot13", "idna",
    "F32", "U8", "F64", "I64", "BF16", "F8_E4M3", "F4", "C64", "BOOL", "0.1.0", "9.9.9",
    "../../etc/passwd", "/dev/zero", "%s%n{0}", "a\0b", "line\nline", "\x1b[2J", "\u202e", "\ud800",
    "x" * 100_000,
]  # fmt: skip
NESTED = [
    "[]", "{}", "[1]", '{"a": null}', "[" * 90 + "]" * 90, "[" * 900 + "]" * 900,
    "[" * 100_000 + "]" * 100_000, '{"a":' * 500 + "1" + "}" * 500, '{"a":' * 50_000,
    "[" + "1," * 50_000 + "1]",
]  # fmt: skip
NAMES = [
    "", "model.", "training.", "model.x", "model.\n\x1b[2J", "model." + "x" * 100_000,
    "model.head.bias", "model.layers.9.weight_ih_l0", "training.recurrent", "training.random.cuda",
    "records.known", "records.x",
    "training.snapshot.recurrent", "training.random.cpu", "training.\u2028", "../../x", "\ud800",
    "__metadata__",
]  # fmt: skip
WORDS_JSON = [json.dumps(word) for word in WORDS]
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
texts: SearchStrategy[str] = st.one_of(
    st.sampled_from(["null", "true", "false", *NUMBERS]),
    st.sampled_from(WORDS_JSON),
    st.sampled_from(NESTED),
    any_json.map(json.dumps),
)


def like(text: str) -> SearchStrategy[str]:
    """Draw values that mostly have the type of `text`, so that they pass the first checks."""
    same = WORDS_JSON if text.startswith('"') else [*NUMBERS, "true", "false"]
    return st.sampled_from(same) | texts


def joined(table: Table) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in table) + "}"


def tabled(text: str) -> Table:
    """Return the names and JSON texts of an object, or nothing if `text` is not an object."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        return [(name, json.dumps(value)) for name, value in json.loads(text).items()]
    return []


def short(text: str) -> str:
    return text if len(text) < 60 else f"{text[:60]}… ({len(text):,} characters)"


def parts(data: bytes) -> tuple[Table, bytes]:
    """Return the header as a table, and the bytes after the header."""
    end = 8 + int.from_bytes(data[:8], "little")
    return tabled(data[8:end].decode()), data[end:]


def packed(header: str, body: bytes) -> bytes:
    encoded = header.encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


def charnn_text(header: Table) -> str:
    return json.loads(dict(header)["__metadata__"])["charnn"]


def holding(text: str) -> str:
    """Return the JSON of a `__metadata__` with `text` as charnn's metadata."""
    return json.dumps({"charnn": text})


def with_crc(about: Table, tensors: dict[str, Tensor]) -> str:
    """Return the JSON text of `about` with a matching checksum, if one can be computed."""
    with contextlib.suppress(Exception):
        others = json.loads(joined([pair for pair in about if pair[0] != "crc32"]))
        crc = _crc32(others, arrays_of(tensors))
        about = [(name, str(crc) if name == "crc32" else text) for name, text in about]
    return joined(about)


def sealed(header: Table, body: bytes) -> bytes:
    """Return the file with a checksum that matches its tensors, if they can be read at all."""
    with contextlib.suppress(Exception):
        tensors = safetensors.torch.load(packed(joined(header), body))
        about = holding(with_crc(tabled(charnn_text(header)), tensors))
        header = [(name, about if name == "__metadata__" else text) for name, text in header]
    return packed(joined(header), body)


def places(data: bytes) -> SearchStrategy[int]:
    """Draw positions, half of them in the header, which is the smaller part."""
    end = 8 + int.from_bytes(data[:8], "little")
    return st.integers(0, min(end, len(data) - 1)) | st.integers(0, len(data) - 1)


def _flip(draw: DrawFn, data: bytes) -> Hostile:
    at, bit = draw(places(data)), draw(st.integers(0, 7))
    new = bytes([data[at] ^ 1 << bit])
    return Hostile(f"bit {bit} of byte {at} flipped", data[:at] + new + data[at + 1 :])


def _cut(draw: DrawFn, data: bytes) -> Hostile:
    at = draw(places(data))
    return Hostile(f"cut at {at}", data[:at])


def _insert(draw: DrawFn, data: bytes) -> Hostile:
    at, new = draw(places(data)), draw(st.binary(min_size=1, max_size=40))
    return Hostile(f"{new!r} put in at {at}", data[:at] + new + data[at:])


def _delete(draw: DrawFn, data: bytes) -> Hostile:
    at, count = draw(places(data)), draw(st.integers(1, 600))
    return Hostile(f"{count} bytes gone at {at}", data[:at] + data[at + count :])


def _zero(draw: DrawFn, data: bytes) -> Hostile:
    at, count = draw(places(data)), draw(st.sampled_from([1, 8, 512, 4096]))
    count = min(count, len(data) - at)
    return Hostile(f"{count} zeros at {at}", data[:at] + bytes(count) + data[at + count :])


def _swap(draw: DrawFn, data: bytes) -> Hostile:
    a, b, c = sorted(draw(st.tuples(places(data), places(data), places(data))))
    return Hostile(f"{a}:{b} and {b}:{c} swapped", data[:a] + data[b:c] + data[a:b] + data[c:])


def _append(draw: DrawFn, data: bytes) -> Hostile:
    new = draw(st.binary(min_size=1, max_size=40) | st.just(bytes(1 << 16)))
    return Hostile(f"{len(new)} bytes appended", data + new)


@st.composite
def damaged(draw: DrawFn, data: bytes) -> Hostile:
    """Damage a few bytes, and leave the checksum as it was."""
    done = Hostile("", data)
    for _ in range(draw(st.integers(1, 3))):
        edit = draw(st.sampled_from([_flip, _cut, _insert, _delete, _zero, _swap, _append]))
        step = edit(draw, done.data)
        done = Hostile(f"{done.what}; {step.what}", step.data or b"\0")
    return done


LENGTHS = [0, 1, 7, MAX_HEADER, MAX_HEADER + 1, 2**31, 2**63, 2**64 - 1]
SHAPES = [
    "[]", "[0]", "[1]", "[2]", "[-1]", "[1.5]", "[null]", "[0, 4611686018427387904]",
    "[18446744073709551615]", "[18446744073709551616]", "[0, 18446744073709551615]",
    "[4611686018427387904, 4611686018427387904, 0]", "[4294967296, 4294967296]",
    "[1, 1, 1, 1, 1]", "[" + "1," * 100 + "1]", "[" + "1," * 50_000 + "1]",
]  # fmt: skip
OFFSETS = [
    "[]", "[0]", "[0, 0]", "[4, 0]", "[-4, 4]", "[0, 4, 8]", "[0, 18446744073709551615]",
    "[18446744073709551615, 18446744073709551615]", "[9223372036854775807, 9223372036854775808]",
]  # fmt: skip
METADATA = [
    "{}", "[]", "null", '{"charnn": null}', '{"charnn": {}}', '{"charnn": 1}', '{"charnn": ""}',
    '{"charnn": "{}"}', '{"charnn": "[]"}', '{"charnn": "{\\"format\\": 1}"}', '{"format": "pt"}',
    '{"charnn": "NaN"}', '{"charnn": "\\"x\\""}', '{"charnn": "nothing"}',
]  # fmt: skip


def _entry(draw: DrawFn, header: Table) -> str:
    """Replace one field of one tensor's entry."""
    index = draw(st.integers(0, len(header) - 1))
    name, text = header[index]
    if name == "__metadata__":
        text = draw(st.sampled_from(METADATA) | texts)
        header[index] = (name, text)
        return f"{name} is {short(text)}"
    entry = dict(tabled(text))
    key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
    typical = {"dtype": WORDS_JSON, "shape": SHAPES, "data_offsets": OFFSETS}
    other = st.sampled_from([dict(tabled(t)).get(key, "null") for _, t in header])
    entry[key] = draw(st.sampled_from(typical.get(key, ["1"])) | other | texts)
    header[index] = (name, joined(list(entry.items())))
    return f"{key} of {name} is {short(entry[key])}"


def _name(draw: DrawFn, header: Table) -> str:
    index = draw(st.integers(0, len(header) - 1))
    name, text = header[index]
    new = draw(st.sampled_from([*NAMES, *(name for name, _ in header)]) | st.text())
    header[index] = (new, text)
    return f"{name} is called {short(new)!r}"


def _entries(draw: DrawFn, header: Table) -> str:
    """Repeat an entry, remove one, or add an empty one."""
    index = draw(st.integers(0, len(header) - 1))
    name, text = header[index]
    what = draw(st.sampled_from(["twice", "gone", "new"]))
    if what == "gone":
        del header[index]
    elif what == "twice":
        header.insert(draw(st.integers(0, len(header))), (name, text))
    else:
        name, shape = draw(st.sampled_from(NAMES)), draw(st.sampled_from(SHAPES))
        entry = [("dtype", '"F32"'), ("shape", shape), ("data_offsets", "[0, 0]")]
        header.insert(0, (name, joined(entry)))
    return f"{short(name)!r} is {what}"


@st.composite
def with_other_header(draw: DrawFn, data: bytes) -> Hostile:
    """Change the table of tensors that safetensors reads, or replace it by something else."""
    header, body = parts(data)
    if draw(st.integers(0, 4)) == 0:
        if draw(st.booleans()):
            length = draw(st.sampled_from(LENGTHS) | st.integers(0, 2 * len(data)))
            return Hostile(f"a header of {length}", length.to_bytes(8, "little") + data[8:])
        text = draw(st.sampled_from([joined(header) + " " * 1_000_000, "\ufeff{}"]) | texts)
        return Hostile(f"the header is {short(text)}", packed(text, body))
    done = []
    for _ in range(draw(st.integers(1, 2))):
        if header:
            done.append(draw(st.sampled_from([_entry, _name, _entries]))(draw, header))
    return Hostile("; ".join(done), sealed(header, body))


def _vocabulary(draw: DrawFn, characters: str) -> str:
    """Draw a vocabulary of the same size, an invalid one, or one with repeated symbols."""
    count = min(len(characters), 300)  # as hypothesis lists go
    others = st.lists(st.characters(), min_size=count, max_size=count, unique=True)
    typical = [
        "", characters[::-1], characters[:-1], characters + "\U0010ffff", characters[:1] * count,
        characters[:-1] + "\ud800", characters[:-1] + "\udfff", "\0" + characters[1:],
        "e\u0301" * count, "".join(map(chr, range(0x20000))),
    ]  # fmt: skip
    made = draw(st.sampled_from(typical) | others.map(lambda symbols: "".join(sorted(symbols))))
    return json.dumps(made)


def _changed(draw: DrawFn, table: Table) -> str:
    """Replace, remove, repeat or rename one entry of a table."""
    if not table:
        return "nothing left"
    index = draw(st.integers(0, len(table) - 1))
    name, text = table[index]
    what = draw(st.sampled_from(["is", "is", "is", "is", "is", "gone", "twice", "renamed"]))
    new = draw(like(text))
    if what == "gone":
        del table[index]
    elif what == "twice":
        table.append((name, new))
    elif what == "renamed":
        table[index] = (draw(st.sampled_from([*WORDS, *NAMES]) | st.text()), text)
    elif name == "characters" and text.startswith('"'):
        table[index] = (name, _vocabulary(draw, json.loads(text)))
    else:
        table[index] = (name, new)
    return f"{name} {what} {short(table[index][1]) if index < len(table) else ''}"


@st.composite
def with_other_metadata(draw: DrawFn, data: bytes) -> Hostile:
    """Change one or two fields of charnn's metadata."""
    header, body = parts(data)
    about, tensors = tabled(charnn_text(header)), safetensors.torch.load(data)
    done = []
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from([*sorted(FIELDS - {"format", "version", "crc32"}), "itself"]))
        inner = next((text for n, text in about if n == name), "null")
        fields = tabled(inner)
        if fields:
            done.append(f"{name}: {_changed(draw, fields)}")
            about = [(n, joined(fields) if n == name else text) for n, text in about]
        else:  # `about` itself, or a field that is not a table, perhaps no longer
            done.append(_changed(draw, about))
    header = [(n, t) for n, t in header if n != "__metadata__"]
    header.append(("__metadata__", holding(with_crc(about, tensors))))
    return Hostile("; ".join(done), packed(joined(header), body))


def _filled(draw: DrawFn, tensor: Tensor) -> Tensor:
    """Set all numbers or a single one to an unusual value."""
    if not tensor.numel():
        return tensor
    if tensor.dtype != torch.float32:
        numbers = [0.0, 1.0]
    else:
        numbers = [float("nan"), float("inf"), float("-inf"), 3e38, -3e38, -1.0, 0.0, 1e-45, 1e9]
    number, everywhere = draw(st.sampled_from(numbers)), draw(st.booleans())
    made = tensor.clone()
    made.view(-1)[slice(None) if everywhere else draw(st.integers(0, made.numel() - 1))] = number
    return made


def _retyped(draw: DrawFn, tensor: Tensor) -> Tensor:
    valid = [torch.uint8, torch.float32] * 2  # these pass the first checks
    others = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
    return torch.zeros_like(tensor, dtype=draw(st.sampled_from(valid + others)))


def _reshaped(draw: DrawFn, tensor: Tensor) -> Tensor:
    shapes: list[Callable[[Tensor], Tensor]] = [
        lambda t: t.reshape(-1),
        lambda t: t[None],
        lambda t: t.reshape(-1)[:-1],
        lambda t: t.reshape(-1)[:0],
        lambda t: torch.cat([t.reshape(-1), t.reshape(-1)]),
        lambda t: t.reshape(t.shape[::-1]),
        lambda t: t.reshape(-1).sum(dtype=t.dtype),
    ]
    return draw(st.sampled_from(shapes))(tensor).clone()


@st.composite
def with_other_tensors(draw: DrawFn, data: bytes) -> Hostile:
    """Change the numbers, type, shape or name of one or two tensors."""
    tensors, done = safetensors.torch.load(data), []
    for _ in range(draw(st.integers(1, 2))):
        part = draw(st.sampled_from(["", "model.", "random", "recurrent", ".step", "exp_avg"]))
        name = draw(st.sampled_from([n for n in sorted(tensors) if part in n] or sorted(tensors)))
        what = draw(st.sampled_from(["filled", "retyped", "reshaped", "renamed", "gone", "copied"]))
        edits = {"filled": _filled, "retyped": _retyped, "reshaped": _reshaped}
        if what in edits:
            tensors[name] = edits[what](draw, tensors[name])
        elif what == "gone":
            del tensors[name]
        elif what == "copied":  # over another, whose shape and type may differ
            tensors[draw(st.sampled_from(sorted(tensors)))] = tensors[name].clone()
        else:
            encodable = NAMES[:-2]
            tensors[draw(st.sampled_from([*encodable, *sorted(tensors)]))] = tensors.pop(name)
        done.append(f"{name} {what}")
    return Hostile("; ".join(done), with_tensors(data, tensors))


ATTACKS: dict[str, Callable[[bytes], SearchStrategy[Hostile]]] = {
    "bytes": damaged,
    "header": with_other_header,
    "metadata": with_other_metadata,
    "tensors": with_other_tensors,
}


def with_fields(data: bytes, changes: dict[str, dict[str, Any]], **others: Any) -> bytes:
    """Return the file with fields of charnn's tables, and other values, replaced."""
    header, body = parts(data)
    about = json.loads(charnn_text(header))
    about |= {name: about[name] | values for name, values in changes.items()} | others
    text = holding(json.dumps(about))
    return sealed([(n, text if n == "__metadata__" else t) for n, t in header], body)


def with_tensors(data: bytes, tensors: dict[str, Tensor]) -> bytes:
    """Return the file with these tensors instead of its own."""
    about = with_crc(tabled(charnn_text(parts(data)[0])), tensors)
    return safetensors.torch.save(tensors, {"charnn": about})


@st.composite
def with_other_json(draw: DrawFn, data: bytes) -> Hostile:
    """Change one or two fields of a JSON object, or of an object in it."""
    table, done = tabled(data.decode()), list[str]()
    for _ in range(draw(st.integers(1, 2))):
        index = draw(st.integers(0, max(0, len(table) - 1)))
        inner = tabled(table[index][1]) if table else []
        if draw(st.booleans()) and inner:
            done.append(f"{table[index][0]}: {_changed(draw, inner)}")
            table[index] = (table[index][0], joined(inner))
        else:
            done.append(_changed(draw, table))
    return Hostile("; ".join(done), joined(table).encode("utf-8", "surrogatepass"))
