"""The package: versions, dependencies, lock files, and what a wheel contains."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from lock_files import PIN, read_lock
from packaging.requirements import Requirement
from packaging.version import Version

import ecg
from ecg.commands.options import program_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("cpu", "cuda", "dev")
PYTHONS = ("3.11.7", "3.12.1", "3.13.0")


def read_requirements(path):
    """Read the versions of the packages in a requirements file, and in those that it includes."""
    versions = {}
    for line in path.read_text().split("\n"):
        if line.startswith("-r "):
            versions |= read_requirements(path.parent / line.removeprefix("-r "))
        elif line:
            name, _, version = line.partition("==")
            versions[name] = version
    return versions


RUNTIME = read_requirements(ROOT / "requirements.txt")
DEVELOPMENT = read_requirements(ROOT / "requirements-dev.txt")


def test_the_challenges_table_of_weights_is_the_packages():
    assert (ROOT / "weights.csv").read_bytes() == (ROOT / "ecg/data/weights.csv").read_bytes()


def test_the_version_is_the_same_everywhere():
    citation = dict(re.findall(r"^([a-z-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.M))
    releases = re.findall(r"^## \[([0-9.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert "version" in PROJECT["dynamic"]
    assert releases[0] == (ecg.__version__, citation["date-released"])
    assert citation["version"] == ecg.__version__
    assert citation["license"] == PROJECT["license"]


def test_requirements_hold_the_packages_direct_dependencies_within_their_ranges():
    requirements = [Requirement(line) for line in PROJECT["dependencies"]]
    assert {requirement.name: RUNTIME[requirement.name] for requirement in requirements} == RUNTIME
    for requirement in requirements:
        assert requirement.specifier.contains(RUNTIME[requirement.name]), requirement


def test_development_requirements_hold_all_extras_within_their_ranges():
    extras = PROJECT["optional-dependencies"]
    used = ("distributed", "formats", "litert", "onnx", "peaks", "web", "dev", "docs")
    assert set(used) <= set(extras)
    requirements = [Requirement(line) for extra in used for line in extras[extra]]
    assert {requirement.name for requirement in requirements} == DEVELOPMENT.keys() - RUNTIME.keys()
    for requirement in requirements:
        assert requirement.specifier.contains(DEVELOPMENT[requirement.name]), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_pins_and_hashes_every_package(name):
    text = (ROOT / f"locks/{name}.txt").read_text()
    assert not PIN.sub("", re.sub(r"^ *#.*\n", "", text, flags=re.M)), "a line is no pinned and hashed package"
    assert not re.search(r"://|--index|--find-links|@ ", text), "PyPI is the only source"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_has_the_versions_of_the_requirements(name, python):
    requirements = DEVELOPMENT if name == "dev" else RUNTIME
    assert read_lock(name, python).items() >= requirements.items(), "run make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_tested_is_what_is_installed(python):
    development = read_lock("dev", python)
    assert read_lock("cpu", python).items() <= development.items()
    different = {
        package for package, version in read_lock("cuda", python).items() if development.get(package) != version
    }
    assert different and all(package.startswith("nvidia-") for package in different)


def test_the_pythons_are_those_of_the_lock_files():
    supported = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert [supported.contains(python) for python in ("3.10.9", *PYTHONS, "3.14.0")] == [False, True, True, True, False]


def test_commits_are_checked_by_the_ruff_of_the_tests():
    versions = re.findall(r"ruff==([0-9.]+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert len(versions) == 2 and set(versions) == {DEVELOPMENT["ruff"]}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/local/bin/ecg", "ecg"),
        ("ecg.exe", "ecg"),
        ("/venv/lib/ecg/__main__.py", "python -m ecg"),
        ("-c", "python -m ecg"),
        ("", "python -m ecg"),
    ],
)
def test_usage_names_the_command_that_was_started(path, name):
    assert program_name(path) == name


def test_a_wheel_holds_the_modules_tables_and_texts_alone(wheel):
    assert wheel.name == f"reduced_lead_ecg-{Version(ecg.__version__)}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ecg").rglob("*.py")}
    texts = {"ecg/reports/page.html", "ecg/reports/comparison_notes.txt"}
    texts |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "ecg/web/static").iterdir()}
    tables = {f"ecg/data/{name}.csv" for name in ("ptb_xl", "scored", "sources", "statements", "unscored", "weights")}
    assert names == modules | texts | tables | {"ecg/py.typed"}


@pytest.mark.slow
def test_an_installed_package_works_in_any_folder(wheel, tmp_path):
    packages = tmp_path / "packages"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        packages,
        wheel,
    ]
    subprocess.run(command, check=True, capture_output=True)

    def run(*arguments):
        return subprocess.run(
            [packages / "bin/ecg", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
        )

    assert run("--version").stdout == f"reduced-lead-ecg {ecg.__version__}\n"
    assert run("train", "--help").stdout.startswith("usage: ecg train DATA MODEL ")
    assert run("synthesize", "data", "--records", "2", "--clean").stdout == "data: 2 synthetic recordings\n"
    assert run("audit", "data").returncode == 0
    failed = run("audit", "nowhere")
    assert (failed.returncode, failed.stderr) == (1, "ecg: error: nowhere: No such file or directory\n")
