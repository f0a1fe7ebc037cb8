"""What is wrong with hostile bodies, and where: made by rule, the same in every run.

A place is written as problems write it, such as ``targets[1].path``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from batches.api.parsing import DEEPEST
from batches.registry import Kind

JSON: TypeAlias = dict[str, Any]
Values: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Place → values of the field it begins with, each of which is wrong there and nowhere else."""

MISSING: Any = object()
NO_TEXT = (None, True, 0, 1.5, 10**30, ["a"], {"a": "b"})
NO_OBJECT = (None, True, 0, 1.5, "", "x", [], [[]])
UNKNOWN_BATCH = "01a2047a-598e-748e-8557-861393c503e0"
PATHS = (
    "/etc/passwd", "..", "../x", "a/../../b", "./..", "a\\b", "C:\\x", "a\0b", "a\nb", "\x1b[2J",
    "", " ", "\t", "\ud800", "x" * 256, "y/" * 3000, "//x", "\x7f", *NO_TEXT,
)  # fmt: skip
COMMANDS = ("", " ", "rm -rf /", "pytest;id", "'", "a\0b", "\udfff", "x" * 4001, *NO_TEXT)
NO_NUMBER = (1.5, "5", "x", [], {}, True, 10**30)

UNKNOWN: Values = dict.fromkeys(
    (
        "nmae", "__proto__", "non_field_errors", '[""]', '["a.b"]', '["path[0]"]', '[" "]',
        '["\\u0000"]', '["\\ud800"]',
    ),
    (1,),
)  # fmt: skip
OPTIONS: Values = UNKNOWN | {
    "name": ("x" * 201, "a\0b", "\udfff", *NO_TEXT),
    "backend": ("sqs", "", "a\0b", *NO_TEXT),
    "workspace": ("nowhere", "../red", "red\0", "RED", "", "x" * 65, *NO_TEXT[1:]),
    "priority": (-1, 11, *NO_NUMBER),
    "queue": ("nowhere", "tests\0", "../tests", "", "x" * 41, *NO_TEXT[1:]),
    "parallel": (0, -1, 10**12, *NO_NUMBER),
    "max_attempts": (None, 0, -1, 101, *NO_NUMBER),
    "timeout": (0, -1, 3301, *NO_NUMBER),
    "run_at": ("yesterday", "2026-13-01T00:00:00Z", "9" * 50, "0000-00-00", *NO_TEXT[1:]),
    "deadline": ("soon", "2020-01-01T00:00:00Z", "2026-02-30T00:00:00Z", *NO_TEXT[1:]),
    "after": (None, 1, "x", {}, [UNKNOWN_BATCH] * 1001),
    "after[0]": ([1], ["x"], [None], ["a\0"], [[]], [UNKNOWN_BATCH]),
    "labels": (None, 1, "x", {}, ["l"] * 101),
    "labels[0]": ([1], [None], [[]], ["x" * 101], ["a\0"], [""]),
    "labels[2]": (["a", "b", 7],),
    "on_failure": ("explode", "", *NO_TEXT),
    "variants": (None, True, 1, "x", {}, [], [{"name": "a"}] * 9),
    "variants[0]": ([1], ["x"], [None], [[]]),
    "variants[0].name": (
        [{}], [{"name": ""}], [{"name": "x" * 65}], [{"name": "a\0"}], [{"name": "\ud800"}],
        *([{"name": value}] for value in NO_TEXT),
    ),
    "variants[0].nmae": ([{"name": "a", "nmae": 1}],),
    "variants[0].queue": ([{"name": "a", "queue": 1}], [{"name": "a", "queue": "a\0"}]),
    "variants[1].queue": ([{"name": "a"}, {"name": "b", "queue": "nowhere"}],),
    "variants[0].parallel": ([{"name": "a", "parallel": 1}],),  # of the batch, not of a variant
    "variants[1].name": ([{"name": "a"}, {"name": "a"}],),
    "resume": (1, "x", "a\0", [], {}, UNKNOWN_BATCH),
    "depends_on": ([], ["0"]),  # of an item, not of a batch
    "kind": ("test",),  # the address says it
}  # fmt: skip
ITEM_FIELDS: Values = UNKNOWN | {
    "id": ("", "x" * 129, "a\0b", "\ud800", *NO_TEXT),
    "priority": (-1, 11, *NO_NUMBER),
    "timeout": (0, -1, 3301, *NO_NUMBER),
    "depends_on": (None, 1, "x", {}),
    "depends_on[0]": ([1], [None], ["nobody"], [""], ["a\0"], [[]]),
    "depends_on[1]": (["0", "2"],),
    "on_failure": ("stop",),  # of a batch, not of an item
}


@dataclass(frozen=True)
class Hostile:
    """What is wrong for one kind: for each good item, what can be wrong in one like it."""

    items: tuple[tuple[JSON, Values], ...]
    options: Values = field(default_factory=dict)
    clashes: tuple[tuple[str, JSON], ...] = ()
    """Place → options that are wrong together."""


def nested(name: str, levels: int) -> JSON:
    return {name: nested(name, levels - 1)} if levels else {}


MODELS = ("", " ", "a\0b", "\ud800", "x" * 191, *NO_TEXT[1:])
NO_FLAG = (None, 0, 1, "true", "yes", [], {})

KINDS = {
    "agent": Hostile(
        items=(
            (
                {"description": "Make the tests pass."},
                {"description": (MISSING, "", " ", "a\0b", "\ud800", "x" * 20_001, *NO_TEXT)},
            ),
        ),
        options={
            "coder_model": (None, *MODELS),
            "reviewer_model": MODELS,
            "check_command": ("", "rm -rf /", "pytest;id", "'", "a\0b", "x" * 4001, *NO_TEXT[1:]),
            "max_loops": (None, 0, -1, 101, *NO_NUMBER),
            "apply_changes": NO_FLAG,
        },
    ),
    "validation": Hostile(
        items=(({"path": "a.py"}, {"path": (MISSING, *PATHS)}),),
        options={
            "checks": ([], "lint", *NO_TEXT[:5], {}, ["lint"] * 101),
            "checks[0]": ([1], [None], [""], ["nope"], ["a\0"], ["x" * 41], [[]], ["LINT"]),
            "checks[1]": (["lint", "nope"],),
            "check_command": COMMANDS,
        },
        clashes=(("check_command", {"checks": ["lint"], "check_command": "ruff check"}),),
    ),
    "test": Hostile(
        items=(({"path": "t.py"}, {"path": (MISSING, *PATHS)}),),
        options={"test_command": COMMANDS},
    ),
    "mcp": Hostile(
        items=(
            (
                {"type": "read", "path": "a"},
                {
                    "path": (MISSING, *PATHS),
                    "type": ("explode", "", "READ", *NO_TEXT),
                    "server": ("filesystem",),
                    "content": ("x",),
                },
            ),
            (
                {"type": "write", "path": "a", "content": "x"},
                {"path": (MISSING, *PATHS), "content": ("a\0b", "\ud800", MISSING, *NO_TEXT)},
            ),
            ({"type": "list"}, {"path": PATHS, "command": ("ls",)}),
            ({"type": "command", "command": "pytest"}, {"command": (MISSING, *COMMANDS)}),
            (
                {"server": "filesystem", "tool": "read_file", "arguments": {}},
                {
                    "server": ("", " ", "nowhere", "x" * 65, "a\0", MISSING, *NO_TEXT),
                    "tool": ("", " ", "x" * 129, "a\0", MISSING, *NO_TEXT),
                    "arguments": (None, True, 1, 1.5, "x", []),
                    "arguments.a": ({"a": "\0"}, {"b": 1, "a": "\ud800"}),
                    "arguments.a[1].b": ({"a": [1, {"b": "\0"}]},),
                    'arguments.a["\\u0000"]': ({"a": {"\0": 1}},),
                    "arguments" + ".a" * 32: (nested("a", 40), nested("a", 300)),
                    "path": ("a",),
                },
            ),
            ({"type": "list_tools", "server": "filesystem"}, {"tool": ("read_file",)}),
            (
                {"type": "read_resource", "server": "filesystem", "uri": "file:///a"},
                {"uri": ("", " ", "x" * 4001, "a\0", MISSING, *NO_TEXT), "arguments": ({},)},
            ),
        ),
    ),
}
"""Each shipped kind: the tests hold it to the registry and to the fields of each kind's body."""


def name_at(place: str) -> str:
    """The name of the field that a place begins with."""
    if place.startswith("["):
        name: str = json.loads(place[1:-1])
        return name
    return place.partition("[")[0].partition(".")[0]


def below(at: str, place: str) -> str:
    return at + place if place.startswith("[") else f"{at}.{place}"


def with_value(good: JSON, place: str, value: Any) -> JSON:
    changed = good | {name_at(place): value}
    return {name: value for name, value in changed.items() if value is not MISSING}


def bodies(kind: Kind) -> Iterator[tuple[str, JSON]]:
    """The one place that is wrong, and the body."""
    hostile = KINDS[kind.name]
    good = hostile.items[0][0]
    fine = {"workspace": "red", kind.items: [good, good]}
    for place, values in (OPTIONS | hostile.options).items():
        for value in values:
            yield place, fine | {name_at(place): value}
    for place, options in hostile.clashes:
        yield place, fine | options
    for like, own in (*hostile.items, (good, ITEM_FIELDS)):
        for place, values in own.items():
            for value in values:
                item = with_value(like, place, value)
                yield below(f"{kind.items}[1]", place), fine | {kind.items: [good, item]}
    for value in (*NO_OBJECT[:-1], -1, 10**30, {}, {"0": good}):
        yield kind.items, fine | {kind.items: value}
    for value in NO_OBJECT:
        yield f"{kind.items}[1]", fine | {kind.items: [good, value, good]}
    yield kind.items, {"workspace": "red"}
    yield "workspace", {kind.items: [good, good]}
    yield f"{kind.items}[1999].id", fine | {kind.items: [good] * 1999 + [good | {"id": 1}]}
    yield from graphs(kind, good, fine)


def graphs(kind: Kind, good: JSON, fine: JSON) -> Iterator[tuple[str, JSON]]:
    """Ids given twice, and circles: told at the first item that is on them."""
    yield f"{kind.items}[1].id", fine | {kind.items: [good | {"id": "a"}] * 2}
    yield f"{kind.items}[1].id", fine | {kind.items: [good | {"id": "1"}, good]}
    for before in (0, 3):
        for length in (1, 2, 3, 10, 50):
            circle = [
                good | {"id": f"n{n}", "depends_on": [f"n{(n + 1) % length}"]}
                for n in range(length)
            ]
            led_to = good | {"depends_on": [f"n{length - 1}"]}
            place = f"{kind.items}[{before}].depends_on"
            yield place, fine | {kind.items: [led_to] * before + circle}


HERE = b"<here>"
NO_NUMBERS = (
    "<here>NaN", "<here>Infinity", "<here>-Infinity", "<here>1e999", "<here>-1e999",
    "<here>" + "9" * 5000, "0<here>1", "0<here>x1", "1<here>.", "<here>.5", "<here>+1", "<here>-",
    "<here>nan", "<here>True", "<here>undefined", "1<here>_000",
)  # fmt: skip
"""In the place of a value."""


def texts(kind: Kind) -> Iterator[bytes]:
    """What no reader takes for JSON in UTF-8, with ``HERE`` at the place from which on."""
    item = json.dumps(KINDS[kind.name].items[0][0])
    start = f'{{"workspace": "red", "{kind.items}": [{item}'
    whole = f"{start}]}}"
    for text in (
        "{<here>", "<here>}", "<here>'x'", "<here>x", f"{start}<here>", f"{whole}<here>x",
        f"{whole}<here>{whole}", f"{start},<here>,{item}]}}", f"{start}]<here>]",
        '{"workspace" <here>"red"}', "{<here>'workspace': \"red\"}", "{<here>workspace: 1}",
        '{"workspace": <here>"red}', '{"workspace": "r<here>\0ed"}', f"{whole}<here>\0",
        "{<here>\0}", "<here>" + "\0" * 100, '{"workspace": "r<here>\ted"}',
        '{"workspace": "r<here>\x1fed"}', '{"workspace": <here>//red\n}', "{<here>/* */}",
        '{"röt": "é", <here>é}',
        f'{{"workspace": "red", <here>"workspace": "red", "{kind.items}": [{item}]}}',
        f'{{"workspace": "red", "{kind.items}": [{item[:-1]}, "id": "a", <here>"id": "b"}}]}}',
        f'{start[:-1]}, "a": [{{"\\u0069d": 1}}, {{"id": "}}", <here>"\\u0069d": 1}}]}}]}}',
        "[" * DEEPEST + "<here>" + "[" * 100_000,
        f'{{"{kind.items}": ' + '{"a":' * (DEEPEST - 1) + "<here>" + '{"a":' * 50_000,
        '{\n  "workspace": "red",\n  <here>oops\n}', '{"workspace":\r\n\r\n "r<here>\ned"}',
        '{\n"a": 1,\n\n<here>"a": 2}',
    ):  # fmt: skip
        yield text.encode()
    for number in NO_NUMBERS:
        yield f'{{"workspace": "red", "priority": {number}, "{kind.items}": [{item}]}}'.encode()
    yield from (
        HERE + b"\xff\xfe", HERE + whole.encode("utf-16"), HERE + b"\xed\xa0\x80",
        b'{"workspace": "r' + HERE + b'\xe9d"}', b'{"workspace": "' + HERE + b'\xc0\x80"}',
        b'{"workspace": "' + HERE + b'\xf5"}', start.encode() + HERE + b"\xe2\x82",
        '{"workspace": "röd€'.encode() + HERE + b'\x80"}', b'{\n "a":\n "' + HERE + b'\xff"}',
        b"{" + HERE + whole.encode("utf-16-le")[1:], b"{" + HERE + whole.encode("utf-32-le")[1:],
    )  # fmt: skip


NO_OBJECTS = {
    "null": "null", "true": "a boolean", "0": "a number", "-1e5": "a number", '"x"': "a string",
    "[]": "an array", "[{}]": "an array",
}  # fmt: skip
"""JSON that is no object, and what it is called."""


def marked(text: bytes) -> tuple[bytes, int, int]:
    """The text without its mark, and the line and the column, in characters, where that was."""
    before, mark, after = text.partition(HERE)
    assert mark, text
    *lines, last = before.decode().split("\n")
    return before + after, len(lines) + 1, len(last) + 1


def as_lines(body: JSON, items: str) -> bytes:
    """The same as JSON Lines."""
    options = {name: value for name, value in body.items() if name != items}
    return "\n".join(json.dumps(part) for part in (options, *body[items])).encode()
