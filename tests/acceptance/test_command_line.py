"""Every option of every command, with the same wrong values."""

import argparse
from pathlib import Path

import pytest

from ecg.__main__ import COMMANDS, main
from ecg.commands.settings import find_systems

NUMBERS = {  # options that take a number, by command, and which of the values below each takes
    "train": {
        "--seed": "0", "--averaging": "0", "--hours": None, "--resamples": "0", "--folds": None, "--splits": None,
        "--jobs": None, "--width": None, "--depth": None, "--epochs": None, "--batch": None, "--leads": None,
        "--pretrain": "0", "--validation-fold": None,
    },
    "compare": {
        "--seed": "0", "--folds": None, "--hours": None, "--jobs": None, "--width": None, "--depth": None,
        "--epochs": None, "--batch": None, "--leads": None,
    },
    "plot": {"--start": "0"},
    "review": {"--figures": "0"},
    "agreement": {"--seed": "0"},
    "serve": {"--port": "0", "--seed": "0"},
    "sample": {"--false-positives": "0", "--false-negatives": "0", "--seed": "0"},
    "audit": {"--jobs": None},
    "convert": {"--jobs": None},
    "export": {"--leads": None},
    "predict": {"--jobs": None},
    "synthesize": {
        "--records": None, "--seed": "0", "--leads": None, "--noise": "0", "--wrong-labels": "0", "--jobs": None,
        "--sources": None,
    },
}  # fmt: skip
NUMBERS["estimate"] = NUMBERS["train"].copy()
NUMBERS["train"]["--processes"] = None
# Options that take names, and for each a good value in the wrong case and what is read. Names of classes keep their
# case until the classes are known, which may be your own (tests/unit/commands/test_option_types.py).
NAMES = {
    "train": {
        "--system": ("LI2021", None), "--fallback": ("nsr", "nsr"), "--imply": ("tinv=TAB", ("tinv", "TAB")),
        "--lumping": ("georgia=sb,nsr", ("Georgia", ("SB", "NSR"))),
        "--omission": ("cpsc=af,STd", ("CPSC", ("AF", "STD"))), "--precision": ("BFLOAT16", "bfloat16"),
        "--decision": ("Expected_Credit", "expected_credit"), "--weights": ("File.csv", Path("File.csv")),
        "--init": ("Folder", Path("Folder")), "--augment": ("NOISE", "noise"),
        "--groups": ("File.csv", Path("File.csv")), "--corrections": ("Folder", Path("Folder")),
    },
    "compare": {
        "--systems": ("LI2021", None), "--leave-out": ("georgia", "Georgia"),
        "--weights": ("File.csv", Path("File.csv")), "--groups": ("File.csv", Path("File.csv")),
        "--omission": ("cpsc=af,STd", ("CPSC", ("AF", "STD"))), "--precision": ("BFLOAT16", "bfloat16"),
        "--corrections": ("Folder", Path("Folder")),
    },
    "evaluate": {"--weights": ("File.csv", Path("File.csv")), "--corrections": ("Folder", Path("Folder"))},
    "review": {"--omission": ("cpsc=af,STd", ("CPSC", ("AF", "STD"))), "--output": ("Folder", Path("Folder")),
               "--corrections": ("Folder", Path("Folder"))},
    "sample": {"--class": ("lad", "lad")},
    "serve": {"--list": ("File.csv", Path("File.csv")), "--reviews": ("Folder", Path("Folder"))},
    "agreement": {
        **{option: ("Folder", Path("Folder")) for option in ("--data", "--output")},
        **{option: ("Folder", [Path("Folder")]) for option in ("--model", "--outputs")},
    },
    "plot": {"--model": ("Folder", Path("Folder")), "--output": ("Page.png", Path("Page.png")),
             "--explain": ("pvc", "pvc"), "--method": ("Occlusion", "occlusion")},
    "audit": {"--output": ("Folder", Path("Folder")), "--groups": ("File.csv", Path("File.csv"))},
    "convert": {"--output": ("Folder", Path("Folder"))},
    "export": {"--output": ("Model.onnx", Path("Model.onnx"))},
    "predict": {},
    "synthesize": {"--sources": ("georgia=2", ("Georgia", 2.0))},
}  # fmt: skip
TABLES = {"train": ("--classes", "--sources"), "compare": ("--classes", "--sources"), "evaluate": ("--classes",),
          "review": ("--sources",), "sample": ("--sources",), "serve": ("--sources",),
          "agreement": ("--classes", "--sources"), "audit": ("--classes", "--sources")}  # fmt: skip
for command, options in TABLES.items():
    NAMES[command] |= dict.fromkeys(options, ("File.csv", Path("File.csv")))
NAMES["estimate"] = NAMES["train"]
POSITIONALS = {
    "train": 2,
    "compare": 2,
    "estimate": 1,
    "evaluate": 2,
    "plot": 1,
    "review": 2,
    "sample": 3,
    "agreement": 1,
    "serve": 2,
    "audit": 1,
    "convert": 1,
    "export": 1,
    "predict": 3,
    "synthesize": 1,
}
SWITCHES = {
    "train": {"--source-masks", "--splits", "--no-source-masks", "--gate", "--no-relabel-flutter", "--no-relabel-cpsc",
              "--no-masks", "--keep-stages", "--early-gains"},
    "compare": {"--early-gains"},
    "review": {"--early-gains"},
    "plot": {"--peaks", "--early-gains"},
    "serve": {"--blinded", "--no-token"},
    "convert": {"--keep-identity"},
    "synthesize": {
        "--cpsc-omits", "--no-cpsc-omits", "--ningbo-flutter", "--no-ningbo-flutter", "--clean", "--realistic",
    },
}  # fmt: skip
SWITCHES["estimate"] = SWITCHES["train"]
TEXTS = {"serve": {"--reviewer", "--host", "--sample"}}  # options of other values, which other tests check
TEXTS |= {name: {"--cluster"} for name in ("train", "compare", "estimate", "audit", "convert", "predict", "synthesize")}


def make_parser():
    """The parser of the program."""
    parser = argparse.ArgumentParser("ecg")
    commands = parser.add_subparsers(required=True)
    for command in COMMANDS:
        command(commands)
    return parser, commands.choices


def parse(*arguments):
    """What a command line is read as."""
    return make_parser()[0].parse_args(arguments)


def command_line(command, *options):
    """The arguments of a command with its positional ones, and what it cannot do without."""
    needed = {"synthesize": ["--records", "5"], "sample": ["--class", "AF"], "convert": ["--output", "new"]}.get(
        command, []
    )
    return [command, *["folder"] * POSITIONALS[command], *needed, *options]


def test_these_are_all_options():
    for command, parser in make_parser()[1].items():
        known = {*NUMBERS.get(command, ()), *NAMES[command], *SWITCHES.get(command, ()), *TEXTS.get(command, ())}
        options = {option for action in parser._actions for option in action.option_strings}
        assert options - {"-h", "--help"} == known, command
        assert sum(not action.option_strings for action in parser._actions) == POSITIONALS[command]


def numbers():
    return [(command, option, taken) for command, options in NUMBERS.items() for option, taken in options.items()]


@pytest.mark.parametrize(("command", "option", "taken"), numbers())
def test_every_number_is_checked_alike(capsys, command, option, taken):
    prefix = "Georgia=" if option == "--sources" else ""
    for value in ("nan", "inf", "-inf", "-1", "0", "1e9", "", "x"):
        arguments = command_line(command, f"{option}={prefix}{value}")
        if value == taken:
            assert getattr(parse(*arguments), option[2:].replace("-", "_")) == 0
            continue
        with pytest.raises(SystemExit, match="^2$"):
            main(arguments)
        last = capsys.readouterr().err.splitlines()[-1]
        assert f"argument {option}: expected " in last and last.endswith(f"received {prefix + value!r}")


def names():
    return [(command, option, *case) for command, options in NAMES.items() for option, case in options.items()]


@pytest.mark.parametrize(("command", "option", "text", "read"), names())
def test_every_name_is_read_in_any_case_and_none_is_empty(capsys, command, option, text, read):
    if read is None:  # systems are looked up when the settings are made
        assert find_systems([text]) == find_systems([text.lower()])
        with pytest.raises(ValueError, match="^expected a system, one of "):
            find_systems([""])
        return
    value = getattr(parse(*command_line(command, option, text)), option[2:].replace("-", "_"))
    assert value == read or value == [read]
    with pytest.raises(SystemExit, match="^2$"):
        main(command_line(command, f"{option}="))
    assert f"argument {option}: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", POSITIONALS)
def test_an_empty_name_of_a_folder_is_not_the_current_folder(capsys, command):
    for place in range(POSITIONALS[command]):
        arguments = command_line(command)
        arguments[1 + place] = ""
        with pytest.raises(SystemExit, match="^2$"):
            main(arguments)
        assert "expected a file or folder, received ''" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "estimate"])
def test_a_model_to_start_from_that_cannot_be_used_is_reported_in_one_line(command, synthetic_recordings, tmp_path):
    """The model is missing, then damaged. Nothing is written."""
    initial, outputs = tmp_path / "initial", [tmp_path / "model"] * (command == "train")
    arguments = [*map(str, (command, synthetic_recordings, *outputs, "--leads", "2", "--init", initial))]
    missing = "initial: no model for 2 leads, 2_leads.json is missing"
    for content, message in ((None, missing), ("{}", "2_leads.json: format is None, expected [0-9]+")):
        if content:
            initial.mkdir()
            (initial / "2_leads.json").write_text(content)
        with pytest.raises(SystemExit, match=f"^python -m ecg: error: .*{message}$"):
            main(arguments)
        assert not (tmp_path / "model").exists()


def test_a_source_is_named_once(capsys):
    with pytest.raises(SystemExit, match="^2$"):
        main(command_line("synthesize", "--sources", "Georgia", "georgia=3"))
    assert "argument --sources: expected each source once, received Georgia twice" in capsys.readouterr().err
