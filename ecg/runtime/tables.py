"""Read the named columns of tables."""

import os
from collections.abc import Sequence

from ecg.runtime.files import read_table


def read_named_columns(
    path: str | os.PathLike,
    required: Sequence[str],
    optional: Sequence[str],
    most: int,
    error: type[Exception] = ValueError,
) -> list[tuple[int, dict[str, str]]]:
    """Read the named columns of a table, which are in any order and case.

    Further columns are ignored.

    Args:
        path: CSV file, see `read_table`.
        required: Names of columns that are there once.
        optional: Names of columns that may be missing.
        most: The largest size in bytes.
        error: What is raised if the file cannot be read, or has no such columns.

    Returns:
        For each row its line and its cells by name, empty for a missing column.
    """

    def has_columns(cells: list[str]) -> bool:
        names = [cell.casefold() for cell in cells]
        return all(names.count(name) == 1 for name in required) and all(names.count(name) <= 1 for name in optional)

    expected = f"the columns {' and '.join(required)}, each once"
    header, *table = read_table(path, has_columns, expected, most, error)
    places = {name.casefold(): index for index, name in enumerate(header.cells)}
    names = (*required, *optional)
    return [(row.line, {name: row.cells[places[name]] if name in places else "" for name in names}) for row in table]
