"""The examples of the page on exported models predict as the models, in Python."""

import io
import re
import shlex
import subprocess
import sys
import tokenize
from dataclasses import replace

import numpy as np
import pytest
from export_helpers import (
    EXAMPLES,
    SHALLOW,
    check_prediction,
    make_exported_bundle,
    make_member,
    run_example,
    write_examples,
    write_longer,
)

from ecg.data.labels import TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.evaluation.calibration import Calibration
from ecg.models.decision import EXPECTED_CREDIT
from ecg.models.ensemble import Ensemble, Group
from ecg.models.export import export_bundle
from ecg.models.export_contract import describe_contract
from ecg.models.onnx_export import ONNX_PACKAGES

PAGE = EXAMPLES.parent / "export.md"
NOT_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
            tokenize.ENCODING)  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Recordings without faults of 10 and of 23.4 s, as the paths of their headers."""
    return write_examples(tmp_path_factory.mktemp("records"), 3, 23.4)


@pytest.fixture(scope="module")
def bundles():
    """Models of 12 and of 2 leads."""
    return {n_leads: make_exported_bundle(n_leads, SHALLOW) for n_leads in (12, 2)}


@pytest.fixture(scope="module")
def onnx_files(bundles, tmp_path_factory):
    paths = {n_leads: tmp_path_factory.mktemp("onnx") / "model.onnx" for n_leads in bundles}
    for n_leads, path in paths.items():
        export_bundle(bundles[n_leads], path)
    return paths


@pytest.mark.parametrize("n_leads", [12, 2])
def test_python_predicts_with_an_onnx_file_alone(n_leads, bundles, onnx_files, records):
    for record in records:
        check_prediction(bundles[n_leads], record, *run_example("predict_onnx.py", onnx_files[n_leads], record))


@pytest.mark.slow
@pytest.mark.parametrize("n_leads", [12, 2])
def test_python_predicts_with_a_litert_file_alone(n_leads, bundles, records, tmp_path):
    path = tmp_path / "model.tflite"
    export_bundle(bundles[n_leads], path)
    for record in records:
        check_prediction(bundles[n_leads], record, *run_example("predict_litert.py", path, record))


def test_the_readers_of_the_package_predict_long_recordings_and_other_rules(bundles, records, tmp_path):
    """Two networks, whose expected credit decides, see a recording of two segments."""
    (member,) = bundles[2].ensemble.general.members
    second = make_member(member.settings, LEAD_SETS[2], 1, len(TRAINED_CLASSES))
    calibration = Calibration(8.0, tuple(np.linspace(-8, 3, 26).tolist()))
    rule = replace(bundles[2].rule, decision=EXPECTED_CREDIT, calibration=calibration)
    bundle = replace(bundles[2], ensemble=Ensemble(Group(TRAINED_CLASSES, (member, second))), rule=rule)
    model, long = tmp_path / "model.onnx", write_longer(records[0], 150, tmp_path / "long")
    export_bundle(bundle, model)
    predicted = run_example("predict_with_readers.py", model, long, ("keras", "tensorflow"))
    check_prediction(bundle, long, *predicted)
    short = run_example("predict_with_readers.py", model, records[0], ("keras", "tensorflow"))
    check_prediction(bundle, records[0], *short)
    assert abs(short[0] - predicted[0]).max() > 1e-5


def test_the_commands_of_the_page_write_the_description(bundles, onnx_files, tmp_path):
    [command] = re.findall(r"^python -c \"import onnx.*$", PAGE.read_text("utf-8"), re.MULTILINE)
    code = shlex.split(command)[2].replace("model.onnx", str(onnx_files[2]))
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == describe_contract(bundles[2], ONNX_PACKAGES) + "\n"


def count_code_lines(path):
    """The number of lines of an example that are neither empty nor comments nor docstrings."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return len([line for line in text.splitlines() if line.strip() and not re.match(r" *(//|/\*| \*)", line)])
    text = re.sub(r'^ *""".*?"""$', "", text, flags=re.MULTILINE | re.DOTALL)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type not in NOT_CODE})


def test_the_page_includes_each_example_and_none_is_long():
    included = re.findall(r"^```\{literalinclude\} examples/(\S+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    examples = [path for path in EXAMPLES.iterdir() if path.suffix in (".py", ".mjs")]
    assert sorted(included) == sorted(path.name for path in examples) and len(examples) == 7
    lengths = {path.name: count_code_lines(path) for path in examples}
    assert all(10 < length <= 25 for length in lengths.values()), lengths
    widths = {path.name: max(map(len, path.read_text("utf-8").splitlines())) for path in examples}
    assert np.all(np.array([*widths.values()]) <= 120), widths
