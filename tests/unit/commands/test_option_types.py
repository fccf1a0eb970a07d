import argparse
from pathlib import Path

import pytest

from ecg.commands.option_types import (
    number_parser,
    parse_class,
    parse_class_pair,
    parse_figure_path,
    parse_lead_count,
    parse_path,
    parse_precision,
    parse_share,
    parse_source,
    parse_source_classes,
)
from ecg.commands.options import find_class, without_none
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (number_parser("resamples"), "0", 0),
        (number_parser("jobs"), "12", 12),
        (number_parser("seed"), "4294967295", 2**32 - 1),
        (number_parser("hours"), "0.5", 0.5),
        (number_parser("hours"), "48", 48.0),
        (number_parser("averaging"), "0", 0.0),
        (number_parser("averaging"), "0.999", 0.999),
        (number_parser("wrong_labels"), "0", 0.0),
        (number_parser("wrong_labels"), "1", 1.0),
        (parse_lead_count, "12", 12),
        (parse_path, "a/b", Path("a/b")),
        (parse_precision, "BFloat16", "bfloat16"),
        (parse_source, " georgia", "Georgia"),
        (parse_source, "Mine", "Mine"),
        (parse_share, "CPSC", ("CPSC", 1.0)),
        (parse_share, "cpsc=3", ("CPSC", 3.0)),
        (parse_source_classes, "Mine=AFL,AF", ("Mine", ("AFL", "AF"))),
        (parse_source_classes, " Mine = af, nsr ", ("Mine", ("AF", "NSR"))),
        (parse_source_classes, "cpsc=STD", ("CPSC", ("STD",))),
        (parse_source_classes, "cpsc=std", ("CPSC", ("STD",))),
        (parse_source_classes, "cpsc=vgg", ("CPSC", ("vgg",))),  # whatever uses the classes says which ones it knows
        (parse_class_pair, " TInv=tab ", ("TInv", "tab")),
        (parse_class, " nsr ", "nsr"),
        (parse_figure_path, "a/b.png", Path("a/b.png")),
        (parse_figure_path, "b.svg", Path("b.svg")),
        (parse_figure_path, "b.PNG", Path("b.PNG")),
        (parse_figure_path, "a.b.Pdf", Path("a.b.Pdf")),
    ],
)
def test_a_good_value_is_read_as_what_it_means(reader, text, value):
    read = reader(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("reader", "bad"),
    [
        (number_parser("resamples"), ["-1", "1.5", "x", "", "nan", "inf", "1e9"]),
        (number_parser("jobs"), ["0", "1025"]),
        (number_parser("seed"), ["-1", "4294967296"]),
        (number_parser("hours"), ["0", "-1", "inf", "nan", "x", "", "1e9"]),
        (number_parser("averaging"), ["1", "-0.1", "nan", "x"]),
        (number_parser("wrong_labels"), ["1.1", "-0.1", "nan", "x"]),
        (parse_lead_count, ["5", "twelve", "", "12.0"]),
        (parse_path, [""]),
        (parse_precision, ["half", ""]),
        (parse_source, ["", " "]),
        (parse_share, ["CPSC=0", "CPSC=-1", "CPSC=nan", "CPSC=inf", "CPSC=1e9", "CPSC=x", "CPSC=", "=1", ""]),
        (parse_source_classes, ["Mine", "Mine=", "=AF", "Mine=AF,,NSR"]),
        (parse_class_pair, ["", "TInv", "TInv=", "=TInv"]),
        (parse_class, ["", " "]),
        (parse_figure_path, ["page", "page.txt", "png", "page.PNGX", "page.", ".PNG"]),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected_and_received(reader, bad):
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=r"^expected .*, received ") as refused:
            reader(text)
        assert str(refused.value).endswith(f"received {text!r}")


def test_a_class_is_found_in_any_case_and_a_refusal_names_them_all():
    upper = tuple(name.upper() for name in ABBREVIATIONS)
    assert tuple(find_class("--fallback", name, CHALLENGE_CLASSES) for name in upper) == ABBREVIATIONS
    for text in ("LVH", "STD", "164889003"):
        refusal = f"argument --fallback: expected one of {', '.join(ABBREVIATIONS)}, received {text!r}"
        with pytest.raises(ValueError, match=refusal):
            find_class("--fallback", text, CHALLENGE_CLASSES)


def test_options_not_given_are_omitted_and_zero_and_false_are_kept():
    assert without_none(seed=0, width=None, masks=False, name="") == {"seed": 0, "masks": False, "name": ""}
