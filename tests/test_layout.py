"""The house: who imports whom, how long a module is, what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted((ROOT / "ecg").glob("*.py"))}
# From the ground up; a module imports only from those before it.
LAYERS = {
    0: "labels leads limits progress reasons console memory parallel files folders stages budget checkpoint".split()
    + "headers matlab person records resampling signals store survey grid peaks defects audit".split()
    + "scoring rules folds measures waves heart synthetic_defects synthetic".split(),
    1: "startup layers networks resnets deformable dcnet arithmetic losses batches examples devices work".split(),
    2: "training cleaning ensemble descriptions bundle recipes plan protocol".split(),
    3: "paper charts review results tables report plots figures page scoreboard synopsis wording comparison".split()
    + "fitting method pipeline sample calibration estimate heldout compare arguments options __main__".split(),
}
ORDER = [name for names in LAYERS.values() for name in names]


def imported(tree):
    """All modules that a syntax tree imports anywhere, by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_its_place():
    assert sorted(MODULES) == sorted([*ORDER, "__init__"])


@pytest.mark.parametrize("name", ORDER)
def test_imports_go_down_only(name):
    below = set(ORDER[: ORDER.index(name)])
    ours = {full.split(".")[1] for full in imported(MODULES[name]) if full.startswith("ecg.")}
    assert ours <= below, f"{name} imports {sorted(ours - below)} from above"


@pytest.mark.parametrize("name", ORDER)
def test_a_module_can_be_read_in_one_sitting(name):
    assert len((ROOT / "ecg" / f"{name}.py").read_text().splitlines()) <= 400


@pytest.mark.parametrize("name", LAYERS[0])
def test_the_ground_floor_is_free_of_keras_and_pictures(name):
    tops = {full.split(".")[0] for full in imported(MODULES[name])}
    assert not tops & {"keras", "tensorflow", "jax", "matplotlib"}


@pytest.mark.parametrize("name", ORDER)
def test_keras_is_used_through_keras_alone(name):
    tops = {full.split(".")[0] for full in imported(MODULES[name])}
    several = {"tensorflow"} if name in ("devices", "work") else set()  # of which Keras leaves much to tf.distribute
    assert not (tops - several) & {"tensorflow", "jax", "torch"}


def test_preprocess_is_called_from_two_places():
    callers = [
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "preprocess"
    ]
    assert sorted(callers) == ["bundle", "store"]


def test_every_module_is_in_the_readme_and_says_its_job():
    readme = (ROOT / "README.md").read_text()
    for name, tree in MODULES.items():
        assert ast.get_docstring(tree)
        assert name == "__init__" or f"{name}.py" in readme, name


def test_importing_the_package_is_instant_and_loads_nothing():
    code = "import ecg, team_code, sys; print([m for m in ('numpy', 'keras', 'tensorflow') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


def test_every_module_has_its_tests():
    assert {f"test_{name.strip('_')}" for name in ORDER} <= {path.stem for path in (ROOT / "tests").glob("test_*.py")}


def test_team_code_depends_on_none_of_the_scripts():
    tops = {full.split(".")[0] for full in imported(ast.parse((ROOT / "team_code.py").read_text()))}
    for tree in MODULES.values():
        tops |= {full.split(".")[0] for full in imported(tree)}
    assert not tops & {"helper_code", "train_model", "test_model", "evaluate_model"}
