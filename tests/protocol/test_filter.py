"""Filters: what is read and refused, and the match against a slow, obvious oracle."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import InvalidFilter
from pennypost.protocol.event import Event
from pennypost.protocol.filter import Filter, FilterBounds, compile_filter, filter_json, matches, parse_filter

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({}, Filter()),
        ({"ids": [A]}, Filter(ids=(A,))),
        ({"ids": []}, Filter(ids=())),
        ({"authors": [A, B, A]}, Filter(authors=(A, B))),
        ({"kinds": [0, 65_535, 0]}, Filter(kinds=(0, 65_535))),
        ({"since": 0, "until": 5}, Filter(since=0, until=5)),
        ({"since": 5, "until": 0}, Filter(since=5, until=0)),
        ({"since": 2**80}, Filter(since=2**53 - 1)),
        ({"limit": 0}, Filter(limit=0)),
        ({"limit": 10**18}, Filter(limit=5_000)),
        ({"#p": [A], "#t": ["x", ""]}, Filter(tags={"p": (A,), "t": ("x", "")})),
        ({"#P": ["any"], "#d": ["é\u2028"]}, Filter(tags={"P": ("any",), "d": ("é\u2028",)})),
        ({"#e": []}, Filter(tags={"e": ()})),
    ],
)
def test_reads(value: Any, wanted: Filter) -> None:
    found = parse_filter(value)
    assert found == wanted
    assert parse_filter(filter_json(found)) == found


NOT_LISTS = ('"x"', "null", "{}", "1", "[1]", "[null]", "[[]]")
NO_KEYS = (*NOT_LISTS, '["x"]', f'["{A.upper()}"]', f'["{A}a"]', f'["{A[:-1]}"]', f'["{A[:-1]} "]', f'["{A}\\n"]')
NO_KINDS = ("1", "null", '["1"]', "[true]", "[1.0]", "[-1]", "[65536]", "[null]", "[1e2]")
NO_NUMBERS = ("-1", "true", "1.5", "1.0", "1e18", '"1"', "null", "[1]", "{}")
NO_TEXTS = (*NOT_LISTS, '["\\u0000"]', '["\\ud800"]', json.dumps(["x" * 1_025]))


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        '"x"',
        "1",
        '{"x":1}',
        '{"search":"x"}',
        '{"#":["x"]}',
        '{"#ab":["x"]}',
        '{"#1":["x"]}',
        '{"#é":["x"]}',
        '{"":1}',
        '{"IDS":[]}',
        *(f'{{"{key}":{value}}}' for key in ("ids", "authors", "#e", "#p") for value in NO_KEYS),
        *(f'{{"kinds":{value}}}' for value in NO_KINDS),
        *(f'{{"{key}":{value}}}' for key in ("since", "until", "limit") for value in NO_NUMBERS),
        *(f'{{"#t":{value}}}' for value in NO_TEXTS),
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(json.loads(text))


BOUNDS = FilterBounds(ids=2, authors=2, kinds=2, tag_values=3, tag_value=4, limit=10)


@pytest.mark.parametrize(
    ("most", "too_many"),
    [
        ({"ids": [A, B]}, {"ids": [A, B, C]}),
        ({"ids": [A, A]}, {"ids": [A, A, A]}),
        ({"authors": [A, B]}, {"authors": [A, B, C]}),
        ({"kinds": [1, 2]}, {"kinds": [1, 2, 3]}),
        ({"#t": ["x", "y", "z"]}, {"#t": ["x", "y", "z", ""]}),
        ({"#t": ["x", "y"], "#p": [A]}, {"#t": ["x", "y"], "#p": [A, B]}),
        ({"#t": ["xxxx"]}, {"#t": ["xxxxx"]}),
    ],
)
def test_bounds(most: Any, too_many: Any) -> None:
    parse_filter(most, BOUNDS)
    with pytest.raises(InvalidFilter):
        parse_filter(too_many, BOUNDS)


def test_the_limit_is_lowered() -> None:
    assert parse_filter({"limit": 11}, BOUNDS).limit == 10
    assert parse_filter({}, BOUNDS).limit is None


def test_what_keychat_sends() -> None:
    keys = [f"{number:064x}" for number in range(1_500)]
    assert parse_filter({"kinds": [4, 1059], "#p": keys, "since": 1_700_000_000}).tags["p"] == tuple(keys)


def matches_slowly(wanted: Filter, event: Event) -> bool:
    """NIP-01's sentences, one by one, on the JSON form."""
    conditions = filter_json(wanted)
    met = []
    for name, value in conditions.items():
        assert isinstance(value, (list, int))
        if name == "since":
            met.append(value <= event.created_at)
        elif name == "until":
            met.append(event.created_at <= value)
        elif name == "ids":
            met.append(event.id in value)
        elif name == "authors":
            met.append(event.pubkey in value)
        elif name == "kinds":
            met.append(event.kind in value)
        elif name.startswith("#"):
            first_values = {tag[1] for tag in event.tags if tag[0] == name[1] and tag[1:]}
            met.append(bool(first_values & set(value)))
    return all(met)


ids, times, kinds = st.sampled_from([A, B, C]), st.integers(0, 4), st.sampled_from([1, 4, 1_059])
values = st.sampled_from(["x", "y", "", A])


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(strategy, max_size=2, unique=True).map(tuple)


filters = st.builds(
    Filter,
    some(ids),
    some(ids),
    some(kinds),
    st.none() | times,
    st.none() | times,
    st.none() | st.integers(0, 3),
    st.dictionaries(st.sampled_from("pte"), st.lists(values, max_size=2, unique=True).map(tuple), max_size=2),
)
tags = st.lists(st.lists(st.sampled_from(["p", "t", "e", "x", "y", A]), min_size=1, max_size=3), max_size=3)
events = st.builds(Event, ids, ids, times, kinds, tags, st.just(""), st.just(""))


@given(wanted=filters, event=events)
@settings(max_examples=500, deadline=None)
def test_matches(wanted: Filter, event: Event) -> None:
    expected = matches_slowly(wanted, event)
    assert matches(wanted, event) is expected
    assert compile_filter(wanted)(event) is expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4) | ids,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
fields = st.sampled_from(["ids", "authors", "kinds", "since", "until", "limit", "#p", "#t", "#", "x"])


@given(value=st.dictionaries(fields, json_values, max_size=5) | json_values)
@settings(max_examples=300, deadline=None)
def test_no_value_breaks_it(value: object) -> None:
    try:
        found = parse_filter(value)
    except InvalidFilter:
        return
    assert parse_filter(filter_json(found)) == found
