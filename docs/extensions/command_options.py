"""A directive that lists the options of a command as its parser has them: {command-options} train."""

import argparse

from sphinx.util.docutils import SphinxDirective

from ecg.__main__ import COMMANDS


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command of `ecg` by its name."""
    commands = argparse.ArgumentParser("ecg").add_subparsers()
    for command in COMMANDS:
        command(commands)
    return commands.choices


def describe_command(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the arguments and options of a command as MyST Markdown."""
    lines = [f"```{{program}} ecg {name}", "```", ""]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        metavar = "" if action.nargs == 0 else " ".join(filter(None, [str(action.metavar or action.dest.upper())]))
        more = " ..." if action.nargs == "+" else ""
        signatures = [f"{option} {metavar}{more}".strip() for option in action.option_strings] or [metavar]
        lines += [f"```{{option}} {', '.join(signatures)}", escape(action.help or ""), "```", ""]
    if parser.epilog:
        lines += [escape(parser.epilog), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return a string with the characters escaped that Markdown would read as markup."""
    return "".join(f"\\{character}" if character in r"\`*_[]<>$" else character for character in text)


class CommandOptions(SphinxDirective):
    """Insert the options of the command that the argument names."""

    required_arguments = 1

    def run(self) -> list:
        """Return the nodes of the list."""
        name = self.arguments[0]
        return self.parse_text_to_nodes(describe_command(name, command_parsers()[name]))


def setup(app) -> dict[str, bool]:
    """Add the directive to Sphinx."""
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True}
