# SPDX-License-Identifier: GPL-2.0-only
"""Records: strict parsing, and the comparison that determinism is tested with."""

from __future__ import annotations

import json

import pytest
from schedlab import records
from schedlab.records import RecordError
from tests import synthetic

HELLO = json.dumps(synthetic.HELLO)
END = '{"r":"end","errors":0}'
USE = '{"name":"a","domid":1,"cpu_ns":5,"state":"running","guest":[]}'
SAMPLE = (
    '{"r":"sample","i":0,"label":"x","due_ns":1,"t_ns":1,"span_ns":0,"domains":['
    + USE
    + '],"groups":[]}'
)

BAD = [
    (["{"], "record 1: not JSON"),
    (["[]"], "record 1: not an object"),
    (['{"r":"hallo"}'], "record 1: unknown record 'hallo'"),
    ([HELLO.replace('"pcpus": 4', '"pcpus": -4')], "record 1: pcpus is -4"),
    ([HELLO.replace('"pcpus": 4', '"pcpus": true')], "record 1: pcpus is True"),
    ([HELLO.replace('"pcpus": 4', '"pcpus": 4.5')], "record 1: pcpus is 4.5"),
    ([HELLO.replace('"pcpus"', '"cpus"')], "record 1: pcpus is missing"),
    ([HELLO[:-1] + ', "more": 1}'], "record 1: unknown key more"),
    ([SAMPLE.replace('"cpu_ns":5,', "")], r"record 1.domains\[0\]: cpu_ns is missing"),
    ([SAMPLE, SAMPLE], "record 2: a second sample x"),
    (['{"r":"op","i":0,"op":"join","t_ns":0,"done_ns":0,"errno":16}'], "errno is 16"),
    ([END, END], "record 2: follows the end record"),
    (['{"r":"end","errors":1}'], "errors does not count"),
]


@pytest.mark.parametrize(("lines", "words"), BAD)
def test_refused(lines: list[str], words: str) -> None:
    """What is not in the contract is refused, with record and key."""
    with pytest.raises(RecordError, match=words):
        records.parse(lines)


def test_good() -> None:
    """All that the controller may write, typed."""
    lines = [
        HELLO,
        '{"r":"ready","t_ns":5}',
        '{"r":"op","i":3,"op":"join","t_ns":1,"done_ns":2,"errno":"EBUSY"}',
        SAMPLE.replace('"cpu_ns":5,"state":"running"', '"cpu_ns":null,"state":"gone"'),
        '{"r":"error","what":"w","errno":0}',
        '{"r":"end","errors":1}',
    ]
    found = records.parse(lines)
    assert found.hello is not None and found.hello.pcpus == 4
    assert found.ops[0].errno == "EBUSY"
    assert found.samples["x"].domains["a"].cpu_ns is None
    assert found.errors[0].what == "w" and found.ended


def test_first_difference() -> None:
    """None for the same bytes; else the first record that differs."""
    assert records.first_difference(b"a\nb\n", b"a\nb\n") is None
    difference = records.first_difference(b"a\nb\nc\n", b"a\nx\ny\n")
    assert difference is not None and difference.startswith("record 2 differs")
    longer = records.first_difference(b"a\nb\n", b"a\n")
    assert longer is not None and longer.startswith("record 2 is in one of them only")
