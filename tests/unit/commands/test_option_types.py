import argparse
from pathlib import Path

import pytest

from ecg.commands.options import (
    diagnosis,
    given,
    lead_count,
    number,
    pair,
    path_name,
    picture,
    precision,
    share,
    source,
    source_classes,
)
from ecg.data.labels import ABBREVIATIONS


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (number("resamples"), "0", 0),
        (number("jobs"), "12", 12),
        (number("seed"), "4294967295", 2**32 - 1),
        (number("hours"), "0.5", 0.5),
        (number("hours"), "48", 48.0),
        (number("averaging"), "0", 0.0),
        (number("averaging"), "0.999", 0.999),
        (number("wrong_labels"), "0", 0.0),
        (number("wrong_labels"), "1", 1.0),
        (lead_count, "12", 12),
        (path_name, "a/b", Path("a/b")),
        (precision, "BFloat16", "bfloat16"),
        (source, " georgia", "Georgia"),
        (source, "Mine", "Mine"),
        (share, "CPSC", ("CPSC", 1.0)),
        (share, "cpsc=3", ("CPSC", 3.0)),
        (source_classes, "Mine=AFL,AF", ("Mine", ("AFL", "AF"))),
        (source_classes, " Mine = af, nsr ", ("Mine", ("AF", "NSR"))),
        (source_classes, "cpsc=STD", ("CPSC", ("STD",))),
        (source_classes, "cpsc=std", ("CPSC", ("STD",))),
        (source_classes, "cpsc=vgg", ("CPSC", ("vgg",))),  # whatever uses the classes says which ones it knows
        (pair, "TInv=tab", ("TInv", "TAb")),
        (diagnosis, "nsr", "NSR"),
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
        (number("resamples"), ["-1", "1.5", "x", "", "nan", "inf", "1e9"]),
        (number("jobs"), ["0", "1025"]),
        (number("seed"), ["-1", "4294967296"]),
        (number("hours"), ["0", "-1", "inf", "nan", "x", "", "1e9"]),
        (number("averaging"), ["1", "-0.1", "nan", "x"]),
        (number("wrong_labels"), ["1.1", "-0.1", "nan", "x"]),
        (lead_count, ["5", "twelve", "", "12.0"]),
        (path_name, [""]),
        (precision, ["half", ""]),
        (source, ["", " "]),
        (share, ["CPSC=0", "CPSC=-1", "CPSC=nan", "CPSC=inf", "CPSC=1e9", "CPSC=x", "CPSC=", "=1", ""]),
        (source_classes, ["Mine", "Mine=", "=AF", "Mine=AF,,NSR"]),
        (pair, ["", "TInv", "TInv=", "TInv=STD"]),
        (diagnosis, ["", "164889003", "LVH", "STD"]),
        (picture, ["page", "page.txt", "png", "page.PNGX", "page.", ".PNG"]),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected_and_received(reader, bad):
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=r"^expected .*, received ") as refused:
            reader(text)
        assert str(refused.value).endswith(f"received {text!r}")


def test_every_class_that_settings_take_can_be_named_and_a_refusal_names_them_all():
    assert tuple(diagnosis(name) for name in ABBREVIATIONS) == ABBREVIATIONS
    assert tuple(diagnosis(name.upper()) for name in ABBREVIATIONS) == ABBREVIATIONS
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected one of {', '.join(ABBREVIATIONS)}, received 'LVH'"):
        diagnosis("LVH")


def test_what_was_not_given_is_left_out_and_zero_and_false_are_not():
    assert given(seed=0, width=None, masks=False, name="") == {"seed": 0, "masks": False, "name": ""}
