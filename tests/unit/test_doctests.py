"""The examples in the documentation of the Python interface and in its docstrings."""

import doctest
import re
from pathlib import Path

import pytest
from result_helpers import save_untrained_models

import ecg.api
import ecg.classifier
from ecg.data.synthetic import SyntheticSettings, synthesize

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
FENCE = re.compile(r"^```.*$", re.MULTILINE)  # would end no output


def collect_examples():
    """The examples of the page and of each docstring."""
    finder, parser = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestParser()
    page = FENCE.sub("", PAGE.read_text("utf-8"))
    examples = [test for module in (ecg.api, ecg.classifier) for test in finder.find(module) if test.examples]
    return [*examples, parser.get_doctest(page, {}, PAGE.name, str(PAGE), 0)]


EXAMPLES = collect_examples()


@pytest.fixture(scope="module")
def workspace(small_network, tmp_path_factory):
    """A folder with untrained models for 12 and 2 leads, and 24 recordings without defects."""
    folder = tmp_path_factory.mktemp("workspace")
    save_untrained_models(folder / "model", small_network)
    synthesize(folder / "data", 24, seed=5, settings=SyntheticSettings(clean=True))
    return folder


def test_the_public_names_have_examples():
    names = [example.name for example in EXAMPLES]
    assert names == [
        "ecg.api.embed",
        "ecg.api.load",
        "ecg.api.predict",
        "ecg.classifier.ECGClassifier",
        "python.md",
    ]
    assert len(EXAMPLES[-1].examples) > 25


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_does_what_it_shows(example, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    report, runner = [], doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    example.globs.clear()
    runner.run(example, out=report.append)
    result = runner.summarize(verbose=False) if not report else None
    assert not report, "".join(report)
    assert result.attempted == len(example.examples)
