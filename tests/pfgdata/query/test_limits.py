"""What an expression may take: each hostile one is refused or ended, in a child whose memory is measured."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pfgdata.errors import QueryError
from pfgdata.query import Limits, Thresholds, count, run_query, select, unfinished
from pfgdata.store import Store
from tests.pfgdata.query.rows import VOCABULARY, row, store_of

MOST_MEMORY = 700  # MiB that the child may have grown by after all of them
LETTERS = "ab," * 500
NUMBERS = ",".join(map(str, range(3000)))
NAMES = ",".join(f"'{number}.jpg'" for number in range(60_000))


def nested(before: str, inner: str, after: str, depth: int) -> str:
    return before * depth + inner + after * depth


def lambdas(make: str, inner: str, depth: int) -> str:
    """Lambdas in each other; in `make`, V is the own variable, X what stands inside."""
    for level in range(depth):
        inner = make.replace("X", inner).replace("V", f"v{level}")
    return inner


HOSTILE = {
    # memory: values that grow
    "replace in replace": f"length({nested('replace(', 'path', ', $$a$$, path || path)', 9)}) > 3",
    "replace by a literal": f"length(replace(replace(path, 'a', '{LETTERS}'), 'a', '{LETTERS}')) > 3",
    "replace of nothing": f"length(replace(replace('{LETTERS}', 'a', path), 'b', '{LETTERS}')) > 3",
    "regexp_replace": f"length({nested('regexp_replace(', 'path', ', $$.$$, path || path, $$g$$)', 6)}) > 3",
    "a reference taken often": rf"length(regexp_replace(path || '{LETTERS}', '.+', '\\0\\0' || path)) > 3",
    "concat_ws": f"length({nested('concat_ws(', 'path', ', 1, 2, 3, 4, 5, 6, 7, 8, 9)', 12)}) > 3",
    "a quoted list in a list": f"length({nested('[', repr(LETTERS), ']::varchar', 30)}) > 3",
    "a struct in a text": f"length({nested('concat(row(', repr(LETTERS), '), $$x$$)', 30)}) > 3",
    "v || v in lambdas": f"length({lambdas('(list_transform([X], lambda V: V || V))[1]', 'path', 30)}) > 3",
    "v || v inside": f"len({lambdas('list_transform([p || p], lambda p: X)', 'p', 30)}) > 3",
    "lists of lists": f"len({lambdas('list_transform([' + NUMBERS + '], lambda V: X)', 'path', 3)}) > 3",
    "lists of columns": "len(list_transform(string_split(path, ''), lambda a: list_transform("
    "string_split(path || path, ''), lambda b: a || b || path))) > 3",
    "list_concat": f"len({lambdas('list_transform([X], lambda V: list_concat([V], [V]))', 'path', 30)}) > 3",
    "a list plus a list": f"len({lambdas('list_transform([X], lambda V: [V] + [V])', 'path', 30)}) > 3",
    "split, one picked, doubled": "length("
    + lambdas("list_transform(string_split(X, '#'), lambda V: V || V)[1]", "path", 30)
    + ") > 3",
    "a long literal a row": f"path || '{'x' * 900_000}' > 'a'",
    "strftime": f"length(strftime(to_timestamp(size), '{'%c' * 20_000}')) > 3",
    # functions that make a value of any length
    **{
        name: f"{name} is not null"
        for name in (
            "repeat('x', 1000000000)",
            "lpad(path, 1000000000, 'x')",
            "rpad(path, 1000000000, 'x')",
            "format('{:>1000000000}', path)",
            "printf('%1000000000d', width)",
            "list_resize(tags, 1000000000)",
            "range(10000000000)",
            "generate_series(1, 10000000000)",
            "array_to_string(tags, repeat('x', 100000000))",
            "bitstring('1', 1000000000)",
        )
    },
    # time
    "three lambdas": f"len({lambdas('list_filter(split(path, $$$$), lambda V: len(X) > 0)', 'tags', 3)}) > 3",
    "of literals": f"len({lambdas(f'list_filter([{NUMBERS}], lambda V: len(X) > 0)', '[1]', 3)}) > 3",
    "forty lambdas": f"len({lambdas('list_filter([1, 2], lambda V: len(X) > 0)', 'tags', 40)}) > 3",
    "a distance of long texts": f"levenshtein(path || '{LETTERS * 9}', path || '{LETTERS * 9}') > 3",
    "wildcards": f"path || '{LETTERS * 20}' like '{'%a' * 4000}#'",
    "globs": f"path || '{LETTERS * 20}' glob '{'*a' * 4000}#'",
    "a pattern a row": f"'{LETTERS * 9}' ~ (path || '{'(a|b*)*' * 900}')",
    "a pattern written out": f"path || '{LETTERS * 9}' ~ '(((a|b|,){{10}}){{10}}){{10}}(x{{900}}y?){{1,1}}#'",
    # trees and texts
    "open brackets": "(" * 100_000,
    "brackets": nested("(", "true", ")", 100_000),
    "brackets behind a comment": "true -- '\n and " + nested("(", "true", ")", 100_000),
    "lists": f"len({nested('[', '1', ']', 100_000)}) > 3",
    "cases": nested("case when ", "true", " then true end", 40_000),
    "nots": "not " * 100_000 + "true",
    "minuses": "- " * 100_000 + "1 > 0",
    "casts": f"1{'::int' * 100_000} > 0",
    "indices": f"tags{'[1]' * 100_000} = 'a'",
    "functions": nested("lower(", "path", ")", 100_000) + " = 'a'",
    "structs": nested("{'a': ", "1", "}", 100_000) + " is not null",
    "a long sum": f"1{' + 1' * 100_000} > 0",
    "conditions": "true" + " and width > 3" * 60_000,
    "names of lists": f"list_has_any(tags, [{', '.join(['$$smile$$'] * 50_000)}])".replace("$$", "'"),
    "has": "has('smile')" + " or has('smile')" * 50_000,
    "has(3)": "has('smile')" + " or has('smile')" * 2500,
    "values to compare": f"path in ({NAMES})",
    "values that are computed": "'x' in (" + ",".join(["path || 'a'"] * 50_000) + ")",
    "a long literal": f"path = '{'x' * 20_000_000}'",
    "a long number": f"width = {'9' * 1_000_000}",
    "a long name": f"{'x' * 1_000_000} = 3",
}

CHILD = """
import json, resource, sys, time
from pathlib import Path
from pfgdata.errors import QueryError
from pfgdata.query import Limits, Session
from pfgdata.store import Store

session = Session(Store.open(Path(sys.argv[1])).snapshot(), limits=Limits(seconds=5))
session.count("width > 3")
first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, expression in json.load(sys.stdin).items():
    start = time.monotonic()
    try:
        said = str(session.count(expression))
    except QueryError as problem:
        said = str(problem)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first) / 1024
    print(json.dumps([name, said, grown, time.monotonic() - start]), flush=True)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two vectors of rows with long paths."""
    tags = dict.fromkeys(VOCABULARY.names[4:], 0.9)
    rows = [row(f"{'a/b' * 60}/{number:06}.jpg", tags) for number in range(4096)]
    return store_of(tmp_path_factory.mktemp("limits") / "feats", rows)


def test_no_hostile_expression_takes_much_memory_or_time(store: Store) -> None:
    assert len(HOSTILE) >= 45
    child = subprocess.run(
        [sys.executable, "-c", CHILD, store.path],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    # DuckDB's progress bar may stand before one
    answers = [json.loads(line[line.index("[") :]) for line in child.stdout.splitlines() if "[" in line]
    assert [name for name, *_ in answers] == list(HOSTILE), child.stderr[-2000:]
    for name, said, grown, seconds in answers:
        assert grown < MOST_MEMORY, (name, said, grown)
        assert seconds < 9, (name, said, seconds)  # 5 and the time to end, on a busy machine
        assert "\n" not in said


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (
            HOSTILE["replace in replace"],
            ["bytes of values for each image", "put less into each other", "character"],
        ),
        (HOSTILE["three lambdas"], ["steps for each image, more than 200,000", "put less into each other"]),
        (HOSTILE["forty lambdas"], ["lambdas stand in each other 4 deep at most"]),
        (HOSTILE["brackets"], ["has 100,000 opened brackets; at most 4,096", "ask in parts"]),
        (HOSTILE["brackets behind a comment"], ["has 100,000 opened brackets"]),
        (HOSTILE["conditions"], ["120,001 words beside its literals; at most 10,000", "ask in parts"]),
        (HOSTILE["has(3)"], ["columns, functions and operators; at most 2,000", "ask in parts"]),
        (HOSTILE["a long number"], ["a word of 1,000,000 letters (99999999999999999999...); at most 1,000"]),
        (HOSTILE["names of lists"], ["columns, functions and operators; at most 2,000"]),
        (HOSTILE["values to compare"], ["60,000 literals; at most 50,000", "ask in parts"]),
        (HOSTILE["a long literal"], ["has 20,000,009 bytes; at most 1,048,576", "ask in parts"]),
    ],
)
def test_a_limit_of_the_expression_names_itself(store: Store, expression: str, words: list[str]) -> None:
    with pytest.raises(QueryError) as caught:
        count(store.snapshot(), expression, Thresholds())
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.parametrize(
    "expression",
    [
        "path in (" + ",".join(f"'{number:090}.jpg'" for number in range(10_000)) + ")",
        "character in (" + ",".join(["'hatsune_miku', 'special_week'"] * 5000) + ")",
        "path in (" + ",".join(f"'saber_(fate)_{number}'" for number in range(10_000)) + ") -- it's all",
        " or ".join(["has('smile')"] * 200),
        "list_has_any(tags, [" + ",".join(["'smile'"] * 200) + "])",
        "len(list_filter(tags, lambda t: t in (" + ",".join(f"'{n}'" for n in range(60)) + "))) >= 2",
        "len(list_filter(tags, lambda a: len(list_filter(tags, lambda b: a = b)) > 0)) > 0",
        "len(list_transform(string_split(path, '/'), lambda part: lower(part))) > 3",
        "replace(replace(lower(path), '/', ' and '), '_', ' ') like '%a%b%.jpg'",
        "regexp_replace(path, '.*/', '') ~ '^[a-z0-9]{1,40}\\.jpg$'",
        "len([t for t in tags if levenshtein(t, 'smile') < 3]) > 0",
        "levenshtein(path, root) < 3",
        "concat_ws(' ', tags, characters, path) ilike '%smile%'",
        "list_has_any(list_transform(tags, lambda t: split_part(t, '_', 1)), ['red', 'blue'])",
        "strftime(to_timestamp(mtime_ns / 1e9), '%Y-%m-%d') > '2020-01-01'",
        " and ".join(["true", *(f"width <> {number}" for number in range(300))]),
        nested("(", "width > 3", ")", 200),
    ],
)
def test_what_people_ask_goes_through(store: Store, expression: str) -> None:
    assert count(store.snapshot(), expression, Thresholds()) in range(4097)


SLOW = lambdas(f"len(list_filter([{NUMBERS[:360]}], lambda V: X = V))", "width", 2) + " > 3"


@pytest.fixture(scope="module")
def large_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """So many rows that SLOW takes a minute over them, and each vector of it well under a second."""
    rows = [row(f"{number:06}{'a/b' * 20}.jpg") for number in range(65_536)]
    return store_of(tmp_path_factory.mktemp("large") / "feats", rows)


def test_a_query_ends_when_its_seconds_are_over(large_store: Store) -> None:
    snapshot, start = large_store.snapshot(), time.monotonic()
    for ask in (
        lambda: count(snapshot, SLOW, Thresholds(), limits=Limits(seconds=0.5)),
        lambda: select(snapshot, SLOW, Thresholds(), limits=Limits(seconds=0.5)),
        lambda: run_query(snapshot, SLOW, thresholds=Thresholds(), roots={}, limits=Limits(seconds=0.5)),
    ):
        with pytest.raises(QueryError, match=r"took longer than 0\.5 s; .* pfgdata query --seconds"):
            ask()
        while unfinished():
            time.sleep(0.01)
    assert time.monotonic() - start < 10


def test_a_query_ends_when_it_needs_more_memory_than_it_may(large_store: Store) -> None:
    snapshot, limits = large_store.snapshot(), Limits(memory=24 * 2**20)
    with pytest.raises(QueryError, match=r"needs more than 24 MiB of memory; .* fewer rows or columns"):
        run_query(snapshot, None, thresholds=Thresholds(), roots={}, limits=limits, columns=["file"] * 9)


def test_no_time_at_all_is_refused() -> None:
    for seconds in (0, -1, float("nan")):
        with pytest.raises(QueryError, match="more than 0"):
            Limits(seconds=seconds)


@pytest.mark.parametrize(
    "expression",
    [SLOW, " or ".join(f"score('smile') > 0.5{number}" for number in range(900))],
    ids=["while it runs", "while it is planned"],
)
def test_ctrl_c_ends_a_query_within_a_second(large_store: Store, expression: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STARTED, "query", expression, "--count", "--store", large_store.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    time.sleep(0.2)
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=20)
    assert time.monotonic() - start < 4  # one, where seven processes share two cores
    assert child.returncode == 130
    assert said == "interrupted\n"


STARTED = """
import sys, threading, time
from pfgdata.cli import main

def tell():
    while not any(thread.name == "pfgdata-query" for thread in threading.enumerate()):
        time.sleep(0.01)
    print("running", flush=True)

threading.Thread(target=tell, daemon=True).start()
main()
"""


def test_seconds_are_an_option_of_the_command(large_store: Store) -> None:
    start = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-m", "pfgdata", "query", SLOW, "--seconds", "0.3", "--store", large_store.path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (child.returncode, child.stdout) == (1, "")
    assert child.stderr.startswith("error: the query took longer than 0.3 s")
    assert child.stderr.count("\n") == 1
    assert time.monotonic() - start < 15


def test_a_library_that_asks_from_another_thread_is_limited_too(large_store: Store) -> None:
    said: list[str] = []

    def ask() -> None:
        try:
            count(large_store.snapshot(), SLOW, Thresholds(), limits=Limits(seconds=0.3))
        except QueryError as problem:
            said.append(str(problem))

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(timeout=20)
    assert "took longer" in said[0]


def test_a_store_can_be_asked_again_after_a_query_that_was_given_up(
    large_store: Store, tmp_path: Path
) -> None:
    with pytest.raises(QueryError):
        count(large_store.snapshot(), SLOW, Thresholds(), limits=Limits(seconds=0.2))
    assert count(large_store.snapshot(), "width > 3", Thresholds()) == 65_536


def test_few_open_files_are_named_and_no_shard_is_blamed(tmp_path: Path) -> None:
    store = store_of(tmp_path / "feats", *([row(f"{number}.png")] for number in range(70)))

    def ask(files: str) -> tuple[int, str]:
        child = subprocess.run(
            [
                "bash",
                "-c",
                f'{files}; exec "$0" -m pfgdata query true --count --store "$1"',
                sys.executable,
                store.path,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return child.returncode, child.stdout + child.stderr

    code, said = ask("ulimit -n 40")
    assert code == 1
    assert "too many open files; allow more (ulimit -n)" in said
    assert "repair" not in said
    assert ask("ulimit -Sn 40") == (0, "70\n")  # a limit that may be raised is
