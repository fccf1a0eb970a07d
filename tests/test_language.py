"""The language: names are words of the field, public names are unique, and summaries fit their line."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Participles, adverbs and function words. They do not say what a thing is.
DENIED = set(
    "absent ahead among answered answering apart as_one aside at_work averaged_by_weight believed beside built "
    "by_the_method carried_out claim claimed each earnings end_of even first_of fitted found gated_where_told "
    "habit in_all lacking limited listed misleading named no_home numbered of one only_for_any_shape other others "
    "out_of_memory_told over_all own parted persons planned put_away said see_that_free see_that_none "
    "see_that_there see_that_told sees_persons settle some staged standing take_part there together told tried "
    "truth undone whole with_right_gains worth_of_answers".split()
)
MOST_PARAMETERS, LONGEST_SUMMARY = 7, 80
# What JavaScript declares: variables, functions and classes; unpacked variables; parameters; methods; fields.
SCRIPT_DECLARATIONS = re.compile(
    r"\b(?:const|let|function|class)\s+(\w+)|\b(?:const|let)\s+[\[{]([^=]*?)[\]}]\s*(?:=|of)"
    r"|\((?!const|let)([\w\s,={}\[\]]*)\)\s*(?:=>|\{)|\b(\w+) =>|^  (?:async |get |\*)?(\w+)(?=\()|\bthis\.(\w+) = ",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def trees():
    """Syntax trees of all Python files by path."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for folder in ("ecg", "tests", "benchmarks", ".")
        for path in sorted((ROOT / folder).glob("*.py" if folder == "." else "**/*.py"))
    }


@pytest.fixture(scope="module")
def package(trees):
    """Syntax trees of the package by path."""
    return {path: tree for path, tree in trees.items() if path.startswith("ecg/")}


def functions_of(tree):
    """Return the functions and methods of a syntax tree, nested ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def parameters_of(function):
    """Return the names of a function's parameters, without self and cls."""
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument.arg for argument in parameters if argument and argument.arg not in ("self", "cls")]


def names_of(tree):
    """Yield line and name of all functions, classes, parameters, variables and fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def test_no_name_is_a_function_word(trees):
    denied = [
        f"{path}:{line}: {name}"
        for path, tree in trees.items()
        for line, name in sorted(names_of(tree))
        if name.strip("_") in DENIED
    ]
    assert not denied, "\n".join(denied)


def script_names_of(script):
    """Yield line and name of what a script declares, the name as Python would spell it."""
    script = re.sub(r"^\s*/?\*.*$|//.*$", "", script, flags=re.MULTILINE)  # without comments
    for match in SCRIPT_DECLARATIONS.finditer(script):
        for name in re.findall(r"[A-Za-z]\w*", " ".join(filter(None, match.groups()))):
            yield script.count("\n", 0, match.start()) + 1, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_names_of_scripts_are_found():
    script = """/** A class of scripts. */
const { one: two, ...three } = four;
for (const five of six) {
class Seven {
  eightNine(ten, { eleven }) {
    this.twelve = (thirteen) => 1;
"""
    names = {name for _, name in script_names_of(script)}
    assert names == {"one", "two", "three", "five", "seven", "eight_nine", "ten", "eleven", "twelve", "thirteen"}


def test_no_name_of_a_script_is_a_function_word():
    scripts = sorted((ROOT / "ecg" / "web" / "static").glob("*.js"))
    denied = [
        f"{path.name}:{line}: {name}"
        for path in scripts
        for line, name in sorted(script_names_of(path.read_text()))
        if name in DENIED
    ]
    assert scripts and not denied, "\n".join(denied)


def test_public_names_are_unique(package):
    paths = defaultdict(list)
    for path, tree in package.items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if "overload" not in [getattr(decorator, "id", "") for decorator in node.decorator_list]:
                    paths[node.name].append(path)
    assert not {name: several for name, several in paths.items() if len(several) > 1}


def test_a_summary_line_fits(package):
    long = []
    for path, tree in package.items():
        for node in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)), *functions_of(tree)]:
            summary = (ast.get_docstring(node) or "").split("\n")[0]
            if len(summary) > LONGEST_SUMMARY:
                long.append(f"{path}:{getattr(node, 'lineno', 1)}: {len(summary)} characters: {summary}")
    assert not long, "\n".join(long)


def test_no_function_has_more_than_seven_parameters(package):
    """The constructor of an estimator may have more, because scikit-learn reads its parameters there."""
    estimators = {"ecg/classifier.py": "__init__"}
    many = {
        f"{path}:{function.lineno}: {function.name}": len(parameters_of(function))
        for path, tree in package.items()
        for function in functions_of(tree)
        if len(parameters_of(function)) > MOST_PARAMETERS and function.name != estimators.get(path)
    }
    assert not many
