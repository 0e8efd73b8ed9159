"""OTLP/JSON straight to protobuf's bytes, beside protobuf's own mapping."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from layerline_api.doors.otlp.decode import DECODERS
from layerline_api.doors.otlp.json_form import by_mapping, document_of
from layerline_api.doors.otlp.json_items import UNREADABLE
from layerline_api.doors.otlp.json_wire import Unusual, to_wire
from tests.profiles import examples

ODD = st.sampled_from(
    [None, True, 0, 7, -1, 2**31, 2**63 - 1, 2**63, 2**64, 1.5, 5.0, 1e300, "", "x", "é", "5", "-5", " 5", "1e3", "5.0",
     "9" * 19, "9" * 25, "ab" * 8, "ab" * 16, "abc", "NaN", [], {}, [[]], 10**400]
)  # fmt: skip
INTEGERS = st.integers(0, 2**63 - 1) | st.integers(0, 2**63 - 1).map(str)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What belongs there, and now and then something else."""
    return st.integers(0, 19).flatmap(lambda draw: ODD if draw == 0 else strategy)


def some_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields; some names are those of older senders, or nobody's."""
    names = {"unknown": ODD, "trace_id": ODD, "@type": ODD, "spanId": mostly(st.just("ab" * 8))}
    return st.fixed_dictionaries({}, optional={name: mostly(values) for name, values in fields.items()}) | (
        st.fixed_dictionaries({}, optional={name: mostly(values) for name, values in {**fields, **names}.items()})
    )


def lists(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=2)


VALUE = st.recursive(
    st.builds(lambda text: {"stringValue": text}, mostly(st.text(max_size=3)))
    | some_of(intValue=INTEGERS)
    | some_of(doubleValue=st.floats(allow_nan=False, allow_infinity=False))
    | some_of(boolValue=st.booleans(), bytesValue=st.just("AAAA")),
    lambda inner: (
        some_of(arrayValue=some_of(values=lists(inner)))
        | some_of(kvlistValue=some_of(values=lists(some_of(key=st.text(max_size=3), value=inner))))
    ),
    max_leaves=3,
)
ATTRIBUTES = lists(some_of(key=st.text(max_size=3), value=VALUE))
RESOURCE = some_of(attributes=ATTRIBUTES)
POINT = some_of(
    timeUnixNano=INTEGERS, asInt=INTEGERS, asDouble=st.floats(allow_nan=False), attributes=ATTRIBUTES, flags=st.just(1)
)
NUMBERS = some_of(
    dataPoints=lists(POINT), aggregationTemporality=st.sampled_from([0, 2, "2", 99]), isMonotonic=st.booleans()
)
BUCKETS = some_of(count=INTEGERS, sum=st.just(1.5), bucketCounts=lists(INTEGERS), explicitBounds=lists(st.just(2.5)))
HISTOGRAM = some_of(dataPoints=lists(BUCKETS), aggregationTemporality=st.just("AGGREGATION_TEMPORALITY_DELTA"))
ITEMS = {
    "traces": ("Spans", "spans", some_of(
        traceId=st.sampled_from(["ab" * 16, "AB" * 16]), spanId=st.just("cd" * 8), name=st.text(max_size=3),
        kind=st.sampled_from([1, 2, "SPAN_KIND_SERVER"]), startTimeUnixNano=INTEGERS, attributes=ATTRIBUTES,
        status=some_of(code=st.just(2), message=st.just("m")), droppedAttributesCount=st.just(2),
        events=lists(some_of(name=st.just("exception"), attributes=ATTRIBUTES)),
        links=lists(some_of(traceId=st.just("ab" * 16), spanId=st.just("cd" * 8))),
    )),
    "metrics": ("Metrics", "metrics", some_of(name=st.just("m"), unit=st.just("s"), gauge=NUMBERS, sum=NUMBERS)
                | some_of(name=st.just("h"), histogram=HISTOGRAM)),
    "logs": ("Logs", "logRecords", some_of(timeUnixNano=INTEGERS, body=VALUE, severityNumber=st.just(9),
                                           attributes=ATTRIBUTES, traceId=st.just("ab" * 16))),
}  # fmt: skip


@pytest.mark.parametrize("signal", ITEMS)
@given(data=st.data())
@settings(max_examples=examples(60, 3000), deadline=None)
def test_it_is_read_as_the_mapping_reads_it(signal: str, data: st.DataObject) -> None:
    """Whatever is sent, it is the same request as protobuf's own mapping makes of it, or left to that."""
    word, items, item = ITEMS[signal]
    group = some_of(**{"resource": RESOURCE, f"scope{word}": lists(some_of(**{items: lists(item)}))})
    document = data.draw(some_of(**{f"resource{word}": lists(group)}))
    request = DECODERS[signal].request
    text = json.dumps(document)
    try:
        found = to_wire(request.DESCRIPTOR, json.loads(text))
    except Unusual:
        return
    try:
        expected = by_mapping(request, document_of(text))
    except UNREADABLE as problem:
        raise AssertionError(f"the mapping refuses {text}: {problem}") from None
    assert read(request, found) == read(request, expected), text


def read(request: type[Message], raw: bytes) -> Message:
    return request.FromString(raw)


def test_what_everybody_sends_is_not_left_to_the_mapping() -> None:
    """A span as SDKs and the Collector write it is read the fast way."""
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "parentSpanId": "",
        "name": "I\u00e9",
        "kind": 2, "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": 1544712661000000000,
        "attributes": [{"key": "a", "value": {"stringValue": "x"}}, {"key": "n", "value": {"intValue": "-5"}},
                       {"key": "l", "value": {"arrayValue": {"values": [{"doubleValue": 1}, {"boolValue": False}]}}}],
        "status": {}, "flags": 257,
    }  # fmt: skip
    document = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    request = DECODERS["traces"].request

    assert read(request, to_wire(request.DESCRIPTOR, document)) == read(
        request, by_mapping(request, document_of(json.dumps(document)))
    )
