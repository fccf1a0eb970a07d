"""The documentation: every option and folder is in it, its commands exist, its links lead somewhere."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from test_layout import FOLDERS

from ecg.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "benchmarks" / "README.md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def command_parsers():
    """The parser of each command by its name."""
    commands = argparse.ArgumentParser("ecg").add_subparsers()
    for command in COMMANDS:
        command(commands)
    return commands.choices


PARSERS = command_parsers()


def anchors(page):
    """The anchors of a page's headings, as Markdown gives them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown_commands(page):
    """The commands of `ecg` in a page's blocks, without their comments."""
    for block in FENCE.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("ecg ") and not line.startswith("ecg COMMAND"):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(page):
    # benchmarks.md shows another file; its headings are those of that file
    shown = {
        DOCS / "benchmarks.md": ROOT / "benchmarks" / "README.md",
        DOCS / "contributing.md": ROOT / "CONTRIBUTING.md",
    }
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(shown.get(file, file)), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_have_only_options_that_exist(page, monkeypatch):
    for command, *words in shown_commands(page):
        options = {option for action in PARSERS[command]._actions for option in action.option_strings}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options, (command, words)


@pytest.mark.parametrize("command", PARSERS)
def test_the_page_of_the_command_line_has_every_option_of_a_command(command, monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    from command_options import describe_command

    page = (DOCS / "command-line.md").read_text("utf-8")
    assert f"## ecg {command}\n" in page
    assert f"```{{command-options}} {command}\n" in page
    text = describe_command(command, PARSERS[command])
    for action in PARSERS[command]._actions:
        if not isinstance(action, argparse._HelpAction):
            assert action.help, f"{command} {action.dest} has no help"
            for name in action.option_strings or [action.metavar]:
                assert re.search(rf"\{{option\}}.*{re.escape(name)}\b", text), name


def test_the_readme_is_short_and_names_every_folder_of_the_package():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    architecture = (DOCS / "architecture.md").read_text("utf-8")
    for folder in FOLDERS:
        assert f"| `ecg/{folder}/` |" in text
        assert f"| `{folder}` |" in architecture


def test_files_that_the_pages_name_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]:
        text = page.read_text("utf-8")
        folder = r"(?:runtime|data|evaluation|models|training|systems|reports|web|commands)"
        for name in re.findall(rf"`(?:ecg/)?({folder}/\w+\.\w+)`", text):
            assert (ROOT / "ecg" / name).exists(), f"{page.name}: {name}"
    rows = re.findall(r"^\| `(ecg/\w+/)` \|(.*)\|$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    for folder, row in rows:
        for name in re.findall(r"`(\w+\.py)`", row):
            assert (ROOT / folder / name).exists(), f"{folder}{name}"


def test_pages_that_load_from_other_sites_are_found(tmp_path, monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "extensions"))
    from local_resources import foreign_resources

    (tmp_path / "good.html").write_text('<a href="https://example.org">a link</a><script src="local.js"></script>')
    assert foreign_resources(tmp_path) == []
    for number, text in enumerate((
        '<script async src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css">',
        '<link href="https://example.org/a.css" rel=stylesheet>',
        '<img alt="" src=https://example.org/a.png>',
        "<style>@import 'https://example.org/a.css'</style>",
        "<style>a { background: url(https://example.org/a.png) }</style>",
    )):  # fmt: skip
        (tmp_path / "bad.html").write_text(text)
        assert len(foreign_resources(tmp_path)) == 1, number


def test_tables_that_the_page_of_saved_models_names_are_written():
    modules = (ROOT / "ecg" / "reports" / f"{name}_tables.py" for name in ("training", "card"))
    source = "".join(module.read_text("utf-8") for module in modules)
    text = (DOCS / "saved-models.md").read_text("utf-8")
    names = re.findall(r"`(\w+)`", text[text.index("- tables as CSV") : text.index("- figures as PNG")])
    assert len(names) > 10
    for name in names:
        assert f'"{name.replace("_N_", "_{leads}_")}"' in source, name
