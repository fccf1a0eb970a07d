"""Read tables of classes, and their weights, from CSV files."""

import math
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ecg.data.class_tables import MAX_WEIGHT, ClassTable, Diagnosis, WeightTable
from ecg.runtime.files import DELIMITERS, TableRow, read_table
from ecg.runtime.tables import read_named_columns

WEIGHTS = Path(__file__).with_name("weights.csv")  # of the Challenge
MAX_CLASSES_BYTES = 2**20  # of a table of classes
MAX_WEIGHTS_BYTES = 2**24  # of a file of weights
SAME_ORDER = "rows and columns have the same classes in the same order"
COLUMNS = ("abbreviation", "code")  # of a table of classes
OPTIONAL_COLUMNS = ("name", "equivalents")


def read_class_table(path: Path) -> ClassTable:
    """Read the scored classes of a table; see `read_diagnoses`.

    Raises:
        ValueError: The file cannot be read, or is no table of classes. The message names the file and the line.
    """
    lines, diagnoses = zip(*read_diagnoses(path), strict=True)
    try:
        return ClassTable(diagnoses)
    except ValueError:
        for number, line in enumerate(lines, 1):  # find the first row that does not fit those before it
            try:
                ClassTable(diagnoses[:number])
            except ValueError as error:
                raise ValueError(f"{path}, line {line}: {error}") from None
        raise


def read_diagnoses(path: Path) -> list[tuple[int, Diagnosis]]:
    """Read the diagnoses of a table, with the numbers of their lines.

    Args:
        path: CSV file, see `read_named_columns`, with the columns `abbreviation` and `code`. The columns `name` and
            `equivalents` may be missing. '|' separates several codes.

    Raises:
        ValueError: The file cannot be read or has no such columns or no rows.
    """
    diagnoses = []
    for line, row in read_named_columns(path, COLUMNS, OPTIONAL_COLUMNS, MAX_CLASSES_BYTES):
        codes = [code.strip() for cell in (row["code"], row["equivalents"]) for code in cell.split("|") if code.strip()]
        name = row["name"] or row["abbreviation"]
        diagnoses.append((line, Diagnosis(row["abbreviation"], tuple(dict.fromkeys(codes)), name)))
    if not diagnoses:
        raise ValueError(f"{path}: no class in this table")
    return diagnoses


def load_weights(path: Path = WEIGHTS) -> tuple[tuple[str, ...], np.ndarray]:
    """Read a table of weights, the Challenge's by default.

    Args:
        path: CSV file, see `read_table`; the first row and the first column hold the classes.

    Returns:
        The classes as written ('A|B' for several codes) and the weights (C, C) float64. Row j, column k is the credit
        for predicting class k if class j is true.

    Raises:
        ValueError: The file cannot be read, rows and columns are not the same classes in the same order, or an entry
            is not a number. The message names the line.
    """

    def has_columns(cells: list[str]) -> bool:
        return len(cells) > 1 and not any(delimiter in name for name in cells[1:] for delimiter in DELIMITERS)

    header, *rows = read_table(path, has_columns, "codes of classes", MAX_WEIGHTS_BYTES, ValueError)
    names = tuple(header.cells[1:])
    for name, row in zip_longest(names, rows):
        if row is None:
            raise ValueError(f"{path}: no row of {name!r}; {SAME_ORDER}")
        if row.cells[0] != name:
            expected = "no further row" if name is None else f"the row of {name!r}"
            raise ValueError(f"{path}, line {row.line}: expected {expected}, received {row.cells[0]!r}; {SAME_ORDER}")
    return names, np.array([_parse_numbers(path, row) for row in rows])


def _parse_numbers(path: Path, row: TableRow) -> list[float]:
    """Parse the numbers of a row, within MAX_WEIGHT."""
    values = []
    for cell in row.cells[1:]:
        try:
            values.append(float(cell))
        except ValueError:
            values.append(math.nan)
        if not abs(values[-1]) <= MAX_WEIGHT:
            limits = f"a number from {-MAX_WEIGHT:,.0f} to {MAX_WEIGHT:,.0f}"
            raise ValueError(f"{path}, line {row.line}: expected {limits}, received {cell!r}")
    return values


def load_class_weights(path: Path, classes: ClassTable) -> WeightTable:
    """Read weights for a table of classes.

    The classes may be in any order. A class is named by one of its codes, by several, separated by '|', or by its
    abbreviation.

    Args:
        path: CSV file, see `load_weights`.
        classes: The table.

    Returns:
        The weights in the order of the scored classes, C rows of C.

    Raises:
        ValueError: A class is unknown, missing or there twice; or see `load_weights`.
    """
    names, weights = load_weights(path)
    columns: dict[int, int] = {}  # by index of the class
    for column, name in enumerate(names):
        indices = {classes.evaluated_class_of_code.get(code.strip()) for code in name.split("|")}
        index = indices.pop()
        if index is None or indices:
            index = classes.index.get(name)
        if index is None:
            raise ValueError(f"{path}, first row: {name!r} is not a code of a scored class, nor several codes of one")
        if columns.setdefault(index, column) != column:
            raise ValueError(f"{path}, first row: {classes.abbreviations[index]} is there twice, as {name!r} and "
                             f"{names[columns[index]]!r}")  # fmt: skip
    if missing := [name for index, name in enumerate(classes.abbreviations) if index not in columns]:
        raise ValueError(f"{path}, first row: no column for {', '.join(missing)}")
    order = [columns[index] for index in range(len(classes))]
    return tuple(map(tuple, weights[np.ix_(order, order)].tolist()))
