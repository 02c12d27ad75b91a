"""Functions that DuckDB does not have, or has otherwise, by values known from elsewhere."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import pytest

from penstock.errors import ExpressionError
from penstock.plan.expr import Schema, compile

EMPTY = Schema()
NEW_YORK = "'America/New_York'"


def value_of(text: str) -> Any:
    return compile(text, EMPTY).evaluate(pa.table({"n": [0]})).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("levenshtein('kitten', 'sitting')", 3),
        ("levenshtein('', 'é')", 1),
        ("hamming('karolin', 'kathrin')", 3),
        ("hamming('a', 'ab')", None),
        ("initcap('ab CD e1f')", "Ab Cd E1F"),
        ("is_ascii('é')", False),
        ("crc32('123456789')", 0xCBF43926),
        ("hash64('a')", int.from_bytes(hashlib.blake2b(b"ta", digest_size=8).digest(), "little", signed=True)),
        ("hash64(1) = hash64('1')", False),
        ("hash_bucket('user', 10) BETWEEN 0 AND 9", True),
        ("url_host('HTTPS://User@Example.COM:8443/a/b?q=1#top')", "example.com"),
        ("url_scheme('HTTPS://Example.COM')", "https"),
        ("url_port('https://example.com:8443/')", 8443),
        ("url_port('https://example.com:x/')", None),
        ("url_path('https://example.com/a/b?q=1')", "/a/b"),
        ("url_query('https://example.com/a?q=1&r=%20')", "q=1&r=%20"),
        ("url_fragment('https://example.com/a#top')", "top"),
        ("url_param('https://example.com/a?q=1&r=%20x', 'r')", " x"),
        ("url_param('https://example.com/a', 'r')", None),
        ("url_host('no url')", None),
        ("url_decode('a%20b%C3%A9')", "a bé"),
        ("host_suffix('a.b.Co.', 2)", "b.co"),
        ("email_domain('Me@Here.org')", "here.org"),
        ("email_domain('nobody')", None),
        ("ip_version('::1')", 6),
        ("ip_is_private('10.1.2.3')", True),
        ("ip_network('10.1.2.3', 8)", "10.0.0.0/8"),
        ("ip_network('10.1.2.3', 33)", None),
        ("geohash(42.605, -5.603, 5)", "ezs42"),
        ("geohash(57.64911, 10.40744, 11)", "u4pruydqqvj"),
        ("geohash(91.0, 0.0, 5)", None),
        ("round(bearing(0.0, 0.0, 0.0, 1.0), 6)", 90.0),
        ("round(haversine(36.12, -86.67, 33.94, -118.4), 1)", 2886.4),
        ("list_intersect([3, 1, 2, 1], [1, 3])", [3, 1]),
        ("list_jaccard(['a', 'b'], ['b', 'c', 'd'])", 0.25),
        ("list_distinct(['b', 'a', 'b'])", ["b", "a"]),
        ("map_argmax(map(['x', 'y', 'z'], [1.0, 2.0, 2.0]))", "y"),
        ("midnight(DATE '2018-11-04', 'America/Sao_Paulo') = TIMESTAMP '2018-11-04 03:00:00Z'", True),
        (
            "CAST(date_trunc('hour', TIMESTAMP '2013-11-03 06:30:00Z', 'America/New_York') AS text)",
            "2013-11-03 06:00:00+00",
        ),
        (
            "CAST(date_trunc('hour', TIMESTAMP '2013-11-03 05:30:00Z', 'America/New_York') AS text)",
            "2013-11-03 05:00:00+00",
        ),
        ("CAST(strptime('2013-11-03 01:30 -0500', '%Y-%m-%d %H:%M %z') AS text)", "2013-11-03 06:30:00+00"),
        (
            "CAST(strptime('03/Nov/13 1:30 PM', '%d/%b/%y %I:%M %p', 'America/New_York') AS text)",
            "2013-11-03 18:30:00+00",
        ),
        ("strftime(TIMESTAMP '2013-07-01 00:00:00Z', '%H%z', 'America/St_Johns')", "21-0230"),
        (f"CAST(add_months(TIMESTAMP '2013-10-03 05:30:00Z', 1, {NEW_YORK}) AS text)", "2013-11-03 05:30:00+00"),
        (f"CAST(add_days(TIMESTAMP '2013-03-09 07:30:00Z', 1, {NEW_YORK}) AS text)", "2013-03-10 07:30:00+00"),
        (f"CAST(add_days(TIMESTAMP '2013-03-10 06:00:00Z', 1, {NEW_YORK}) AS text)", "2013-03-11 05:00:00+00"),
        (f"CAST(make_timestamptz(2013, 11, 3, 1, 30, 0, {NEW_YORK}) AS text)", "2013-11-03 05:30:00+00"),
        ("CAST(90min AS text)", "90min"),
        ("CAST('-1h30min' AS interval) = -90min", True),
        ("CAST('x' AS bytes)", b"x"),
        ('json_extract(\'{"a": [1, {"b": "x\\u00e9"}]}\', \'$.a[#-1]\')', '{"b":"xé"}'),
        ("'héllo'[2]", "é"),
        ("'abc'[4]", None),
        ("EXTRACT(minute FROM TIMESTAMP '2013-11-03 05:31:00Z')", 31),
    ],
)
def test_value(text: str, expected: Any) -> None:
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("date_part('century', DATE '2013-01-01')", "is no part of a date"),
        ("date_trunc('fortnight', DATE '2013-01-01')", "is no unit"),
        ("strftime(DATE '2013-01-01', '%Q')", "is no directive"),
        ("json_extract('{}', '$.')", "is no path"),
        ("hash_bucket('a', 0)", "at least one bucket"),
        ("regexp_extract('a', '(a)', 2)", "the pattern has 1 groups"),
        ("time_bucket(-5min, TIMESTAMP '2013-01-01 00:00:00Z')", "positive width"),
        ("round(1.5, CAST('2' AS int) + length('a') * 400)", "digits are"),
        ("utc_offset(TIMESTAMP '2013-01-01 00:00:00Z', 'Mars/Base')", "is no zone"),
        ("list_sort([[1], [2]])", "do not compare"),
        ("1.5 // 2", "// does not take float and int"),
    ],
)
def test_bad_literals_are_refused_when_compiled(text: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        compile(text, EMPTY)


def test_a_literal_may_be_asked_for() -> None:
    with pytest.raises(ExpressionError, match="argument 2 of hour is a literal"):
        compile("hour(at, zone)", Schema.of(at="instant", zone="text"))
