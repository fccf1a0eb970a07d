"""The house: which folder imports from which, what is loaded when, and that the README names every folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up; a folder imports from those before it alone.
FOLDERS = ["runtime", "data", "evaluation", "models", "training", "systems", "reports", "web", "commands"]


@pytest.fixture(scope="module")
def trees():
    """Syntax trees of the package by module."""
    return {
        path.relative_to(ROOT).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in sorted((ROOT / "ecg").rglob("*.py"))
    }


def imported_names(tree):
    """Yield all that a syntax tree imports anywhere, by full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_package_has_nine_folders_and_at_most_170_modules(trees):
    assert sorted({module.split("/")[1] for module in trees if module.count("/") == 2}) == sorted(FOLDERS)
    assert len([module for module in trees if not module.endswith("__init__")]) <= 170


def test_folders_import_only_from_lower_ones(trees):
    wrong = {}
    for module in (module for module in trees if module.count("/") == 2):
        allowed = FOLDERS[: FOLDERS.index(module.split("/")[1]) + 1]
        folders = {name.split(".")[1] for name in imported_names(trees[module]) if name.startswith("ecg.")}
        wrong[module] = folders.difference(allowed)
    assert len(wrong) > 50 and not {module: folders for module, folders in wrong.items() if folders}


def test_the_public_modules_are_above_the_folders(trees):
    above = [module for module in trees if module.count("/") == 1]
    assert above == ["ecg/__init__", "ecg/__main__", "ecg/api", "ecg/classifier"]


def test_data_and_evaluation_import_neither_keras_nor_matplotlib(trees):
    for module, tree in trees.items():
        if module.split("/")[1] in ("data", "evaluation"):
            packages = {name.split(".")[0] for name in imported_names(tree)}
            assert not packages & {"keras", "tensorflow", "jax", "torch", "matplotlib"}, module


def test_only_two_modules_import_tensorflow_or_jax(trees):
    for module, tree in trees.items():
        packages = {name.split(".")[0] for name in imported_names(tree)}
        backends = ("ecg/training/backend", "ecg/training/distribution")
        allowed = {"tensorflow", "jax"} if module in backends else set()
        assert not (packages - allowed) & {"tensorflow", "jax", "torch"}, module


def test_preprocess_is_called_from_two_modules(trees):
    callers = {
        module
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "preprocess"
    }
    assert callers == {"ecg/models/bundle", "ecg/data/loading"}


def test_importing_the_package_loads_nothing_else():
    code = "import ecg, team_code, sys; print([m for m in ('numpy', 'keras', 'tensorflow') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_the_public_functions_load_keras_only_when_they_are_called():
    code = "from ecg import Recording, embed, load, predict; import sys; "
    code += "print([m for m in ('keras', 'tensorflow', 'sklearn', 'matplotlib', 'pandas') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_the_public_names_are_those_that_can_be_imported():
    import ecg

    assert set(ecg.__all__) == set(ecg.MODULES) <= set(dir(ecg))
    assert all(getattr(ecg, name).__name__ == name for name in ecg.__all__)
    with pytest.raises(AttributeError, match="module 'ecg' has no attribute 'nothing'"):
        ecg.nothing  # noqa: B018


def test_the_server_itself_loads_no_keras():
    modules = "ecg.commands.serve, ecg.web.app, ecg.web.predictor, ecg.__main__"
    code = f"import {modules}, sys; ecg.commands.serve.serve = lambda settings: None; "
    code += "ecg.__main__.main(['serve', 'model', 'data', '--sample', 'LAD', '1', '1']); "
    code += "print([m for m in ('keras', 'tensorflow', 'matplotlib') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_what_only_predicts_loads_no_keras():
    modules = "team_code, ecg.api, ecg.models.bundle, ecg.commands.predict, ecg.commands.sample, ecg.commands.agreement"
    code = f"import {modules}, sys; print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_team_code_and_the_package_import_none_of_the_scripts(trees):
    packages = {name.split(".")[0] for name in imported_names(ast.parse((ROOT / "team_code.py").read_text()))}
    for tree in trees.values():
        packages |= {name.split(".")[0] for name in imported_names(tree)}
    assert not packages & {"helper_code", "train_model", "test_model", "evaluate_model"}
