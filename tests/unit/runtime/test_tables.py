import pytest

from ecg.runtime.tables import read_named_columns


def test_columns_are_read_by_name_in_any_order_and_case(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("Further;B;a\nx;2;1\n\ny;4;3\n")
    assert read_named_columns(path, ("a", "b"), ("c",), 100) == [
        (2, {"a": "1", "b": "2", "c": ""}), (4, {"a": "3", "b": "4", "c": ""})]  # fmt: skip


@pytest.mark.parametrize("text", ["a\n1\n", "a,b,A\n1,2,3\n", "a,b,c,C\n1,2,3,4\n"])
def test_a_column_that_is_missing_or_there_twice_is_an_error(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(LookupError, match="table.csv, line 1: expected the columns a and b, each once, received '"):
        read_named_columns(path, ("a", "b"), ("c",), 100, LookupError)
