"""Names of records are written such that all characters can be seen, and different names stay different."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg.data.record_names import escape_name, unescape_name

PARTS = st.sampled_from(["\\", "x", "u", "U", "0", "00", "5c", "ff", "\n", "\t", "\u200b", "\udcff", "é", "/", "a"])


@given(st.one_of(st.text(), st.lists(PARTS).map("".join)))
def test_every_name_is_found_again(name):
    escaped = escape_name(name)
    assert escaped.isprintable() and unescape_name(escaped) == name


@pytest.mark.parametrize("name", ["A0001", "one/two/A0001", "Błażej's recording 心", "C:\\data\\A1", "50 % <b>"])
def test_usual_names_stay_as_they_are(name):
    assert escape_name(name) == name


def test_codes_say_which_character_it_was():
    assert escape_name(os.fsdecode(b"a\nb\t\xff")) == r"a\u000ab\u0009\xff"
    assert escape_name("\u202egnp") == r"\u202egnp"


def test_names_that_look_like_codes_are_not_those_of_others():
    assert escape_name(os.fsdecode(b"E\xff")) != escape_name(r"E\xff")
