import base64

from helpers import ParsedPage

from ecg.reports.html_page import Cell, build_page, bullet_list, details, embed_figure, html_table

BAD = '<script>alert("1 & 2")</script>'


def test_markup_in_any_string_is_shown_as_text(tmp_path):
    path = tmp_path / "one.svg"
    path.write_text("<svg/>")
    parts = [
        bullet_list([BAD]),
        details(BAD, "<p>text</p>"),
        embed_figure(path, BAD, BAD, BAD),
        html_table((BAD, "b"), {BAD: [[Cell(BAD), Cell(BAD, BAD)]]}, BAD),
    ]
    read = ParsedPage(build_page(BAD, [BAD], {BAD: parts}))
    assert not read.wrong and not read.attributes_of("script")
    for tag in ("title", "h1", "h2", "p", "li", "figcaption", "b", "caption", "summary", "th", "td", "small", "a"):
        assert any(BAD in text for text in read.text_in(tag)), tag
    assert read.attributes_of("img")[0]["alt"] == f"{BAD}; {BAD}"


def test_figures_are_embedded(tmp_path):
    for name, kind in (("one.svg", "image/svg+xml"), ("one.png", "image/png")):
        (tmp_path / name).write_bytes(b"\x89 data of an image")
        start, data = ParsedPage(embed_figure(tmp_path / name, "", "", "")).attributes_of("img")[0]["src"].split(",")
        assert start == f"data:{kind};base64" and base64.b64decode(data) == b"\x89 data of an image"


def test_a_table_names_its_columns_rows_and_groups():
    groups = {
        "first": [[Cell("a"), Cell("1", "of 2"), Cell("3", strong=True)]],
        "": [[Cell("b"), Cell("4"), Cell("5")]],
    }
    read = ParsedPage(html_table(("name", "x", "y"), groups, "What it is"))
    assert not read.wrong
    assert [attributes["scope"] for attributes in read.attributes_of("th")] == ["col"] * 3 + ["rowgroup", "row", "row"]
    assert read.text_in("th") == ["name", "x", "y", "first", "a", "b"] and read.text_in("td") == ["1", "4", "5"]
    assert (read.text_in("small"), read.text_in("strong")) == (["of 2"], ["3"])
    assert not ParsedPage(html_table((), {"": [[Cell("a"), Cell("b")]]}, "")).attributes_of("thead")


def test_details_are_in_the_page_and_closed():
    read = ParsedPage(details("more", bullet_list(["inside"])))
    assert not read.wrong and read.attributes_of("details") == [{}]
    assert (read.text_in("summary"), read.text_in("li")) == (["more"], ["inside"])


def test_the_contents_link_to_the_sections():
    read = ParsedPage(build_page("Title", [], {"One": [], "Two & more": ["<p>text</p>"]}))
    assert (
        [f"#{section['id']}" for section in read.attributes_of("section")]
        == [link["href"] for link in read.attributes_of("a")][:2]
        == ["#one", "#two---more"]
    )
    assert read.text_in("a") == ["One", "Two & more", "#", "#"] and list(map(str.strip, read.text_in("h2"))) == [
        "One",
        "Two & more",
    ]
    assert read.attributes_of("html")[0]["lang"] == "en" and {"charset": "utf-8"} in read.attributes_of("meta")
