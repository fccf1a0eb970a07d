"""The house's language: names are words of the field, public names are unique, and a summary line fits its line."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for folder in ("ecg", "tests", "benchmarks", ".")
    for path in sorted((ROOT / folder).glob("*.py" if folder == "." else "**/*.py"))
}
PACKAGE = {path: tree for path, tree in TREES.items() if path.startswith("ecg/")}
# Participles, adverbs and function words, which name nothing; each had to be decoded once.
DENIED = set(
    "absent ahead among answered answering apart as_one aside at_work beside built by_the_method carried_out claim "
    "claimed each earnings end_of even first_of fitted found gated_where_told habit in_all lacking listed "
    "misleading named no_home numbered of one only_for_any_shape other others out_of_memory_told over_all own parted "
    "persons planned put_away said sees_persons see_that_free see_that_none see_that_there see_that_told settle some "
    "staged standing take_part there together told tried truth undone whole with_right_gains worth_of_answers".split()
)
MOST_PARAMETERS, LONGEST_SUMMARY = 7, 80


def functions_of(tree):
    """Return the functions and methods of a syntax tree, nested ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters_of(function):
    """Return the names of a function's parameters, without self and cls."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument.arg for argument in parameters if argument and argument.arg not in ("self", "cls")]


def names_of(tree):
    """Yield what a syntax tree gives names to: functions, classes, parameters, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("path", TREES)
def test_no_name_is_a_function_word(path):
    denied = sorted((line, name) for line, name in names_of(TREES[path]) if name.strip("_") in DENIED)
    assert not denied, "\n".join(f"{path}:{line}: {name}" for line, name in denied)


def test_public_names_are_unique():
    places = defaultdict(list)
    for path, tree in PACKAGE.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


@pytest.mark.parametrize("path", PACKAGE)
def test_a_summary_line_fits(path):
    nodes = [PACKAGE[path], *(node for node in ast.walk(PACKAGE[path]) if isinstance(node, ast.ClassDef))]
    long = []
    for node in [*nodes, *functions_of(PACKAGE[path])]:
        summary = (ast.get_docstring(node) or "").split("\n")[0]
        if len(summary) > LONGEST_SUMMARY:
            long.append(f"{path}:{getattr(node, 'lineno', 1)}: {len(summary)} characters: {summary}")
    assert not long, "\n".join(long)


@pytest.mark.parametrize("path", PACKAGE)
def test_no_function_has_more_than_seven_parameters(path):
    many = {
        f"{path}:{function.lineno}: {function.name}": len(parameters_of(function))
        for function in functions_of(PACKAGE[path])
        if len(parameters_of(function)) > MOST_PARAMETERS
    }
    assert not many
