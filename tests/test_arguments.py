import argparse
from pathlib import Path

import pytest

from ecg.arguments import LARGEST_SEED, diagnosis, given, habit, momentum, picture, positive, proportion, share, whole
from ecg.labels import ABBREVIATIONS


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (whole(0), "0", 0),
        (whole(1), "12", 12),
        (whole(0, LARGEST_SEED), "4294967295", 2**32 - 1),
        (positive, "0.5", 0.5),
        (positive, "48", 48.0),
        (momentum, "0", 0.0),
        (momentum, "0.999", 0.999),
        (proportion, "0", 0.0),
        (proportion, "1", 1.0),
        (share, "CPSC", ("CPSC", 1.0)),
        (share, "CPSC=3", ("CPSC", 3.0)),
        (habit, "Mine=AFL,AF", ("Mine", ("AFL", "AF"))),
        (habit, " Mine = AF, NSR ", ("Mine", ("AF", "NSR"))),
        (habit, "cpsc=AF", ("CPSC", ("AF",))),
        (picture, "a/b.png", Path("a/b.png")),
        (picture, "b.svg", Path("b.svg")),
        (picture, "b.PNG", Path("b.PNG")),
        (picture, "a.b.Pdf", Path("a.b.Pdf")),
    ],
)
def test_a_good_value_is_read_as_what_it_means(reader, text, value):
    read = reader(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("reader", "bad"),
    [
        (whole(0), ["-1", "1.5", "x", ""]),
        (whole(1), ["0"]),
        (whole(0, LARGEST_SEED), ["-1", "4294967296"]),
        (positive, ["0", "-1", "inf", "nan", "x", ""]),
        (momentum, ["1", "-0.1", "nan", "x"]),
        (proportion, ["1.1", "-0.1", "nan", "x"]),
        (share, ["CPSC=0", "CPSC=-1", "CPSC=nan", "CPSC=x"]),
        (habit, ["Mine", "Mine=", "=AF", "Mine=AF,,NSR"]),
        (diagnosis, ["", "nsr", "164889003", "LVH", "STD"]),
        (picture, ["page", "page.txt", "png", "page.PNGX", "page.", ".PNG"]),
    ],
)
def test_a_bad_value_is_refused_in_a_way_that_argparse_makes_a_usage_error_of(reader, bad):
    for text in bad:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            reader(text)


def test_every_class_that_settings_take_can_be_named_and_a_refusal_names_them_all():
    assert tuple(diagnosis(name) for name in ABBREVIATIONS) == ABBREVIATIONS
    with pytest.raises(argparse.ArgumentTypeError, match=f"LVH is none of {', '.join(ABBREVIATIONS)}$"):
        diagnosis("LVH")


def test_what_was_not_given_is_left_out_and_zero_and_false_are_not():
    assert given(seed=0, width=None, masks=False, name="") == {"seed": 0, "masks": False, "name": ""}
