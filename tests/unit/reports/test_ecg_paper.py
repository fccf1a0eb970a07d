import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.headers import Header, HeaderError, Lead
from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, MERGED, unscored_diagnoses
from ecg.data.leads import LEADS
from ecg.data.records import SignalError, find_records, read_record
from ecg.data.wave_peaks import WAVES, PeakList
from ecg.reports.ecg_paper import (
    COARSE,
    COLUMN_SECONDS,
    MAX_ROWS,
    SECONDS,
    ModelPanel,
    Shading,
    draw_record,
    lay_out,
    strip_signal,
)
from ecg.reports.paper_text import INCH, LABEL, PIXELS, SMALL, TITLE_STYLE, drawable, label_names, shorten, text_width

RATE = 100


def header_of(names, gain=1000.0, baseline=0, codes=("164889003",)):
    leads = tuple(Lead(name, "R.mat", "16", 24, gain, baseline, "mV") for name in names)
    return Header("R", RATE, 0, leads, 60.0, "Female", codes)


def recording_of(names, seconds=10.0, gain=1000.0, baseline=0, seed=0):
    """Each lead an own number of millivolts at every sample, around an own offset."""
    signal = np.random.default_rng(seed).normal(0, 0.3, (len(names), round(seconds * RATE)))
    return np.rint((signal + np.arange(len(names))[:, None]) * gain + baseline).astype(np.int16)


def traces(figure):
    """The lines of the signal by their lead and row on paper."""
    lines = {line.get_gid(): line for line in figure.axes[0].lines if line.get_gid()}
    return {name: line.get_xydata() for name, line in lines.items() if " row " in name}


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_second_is_25_mm_and_a_millivolt_10_mm_on_the_printed_page():
    names = ("I", "II")
    recording = recording_of(names)
    figure = draw_record(header_of(names), recording)
    line = next(line for line in figure.axes[0].lines if line.get_gid() == "I row 0")
    printed = line.get_transform().transform(line.get_xydata()) / figure.dpi * INCH
    assert np.allclose(np.diff(printed[:, 0]), 25 / RATE)
    assert np.allclose(np.diff(printed[:, 1]), 10 * np.diff(recording[0, : len(printed)] / 1000))


def test_the_calibration_pulse_is_a_millivolt_high_and_a_fifth_of_a_second_wide():
    axes = draw_record(header_of(LEADS), recording_of(LEADS)).axes[0]
    pulses = [line.get_xydata() for line in axes.lines if line.get_gid() == "pulse"]
    assert len(pulses) == 4
    for pulse in pulses:
        top = pulse[pulse[:, 1] == pulse[:, 1].max()]
        assert (np.ptp(pulse[:, 1]), np.ptp(top[:, 0])) == (10, 5)


def test_the_lines_of_the_grid_lie_five_millimetres_apart_on_whole_pixels():
    figure = draw_record(header_of(("I",)), recording_of(("I",)) * 0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3] / 255
    assert pixels.shape[:2] == tuple(round(size * INCH * PIXELS) for size in figure.get_size_inches()[::-1])
    box = figure.axes[0].get_window_extent()
    row = pixels[pixels.shape[0] - round(box.y0) - 12, round(box.x0) : round(box.x1)]  # between two level lines
    coarse = np.flatnonzero(np.abs(row - to_rgb(COARSE)).max(axis=1) < 0.01)
    places = coarse[np.flatnonzero(np.diff(coarse, prepend=-9) > 2)]
    assert len(places) >= 53
    assert set(np.diff(places[1:-1])) == {5 * PIXELS}


@pytest.mark.parametrize(("gain", "baseline"), [(1000.0, 0), (200.0, -117), (4880.0, 2048)])
def test_the_trace_shows_the_same_millivolts_in_whatever_gain_they_are_written(gain, baseline):
    signal = np.sin(np.arange(1000) / 20)
    integers = np.rint(signal[np.newaxis] * gain + baseline).astype(np.int16)
    header = header_of(("I",), gain, baseline)
    time, shown = strip_signal(header, integers, lay_out(("I",), 0.0, 10.0)[0])
    assert np.allclose(time, np.arange(1000) / RATE)
    assert np.allclose(shown, signal - np.median(signal), atol=1 / gain)


def test_a_gain_that_looks_wrong_is_drawn_as_the_header_has_it():
    recording = np.rint(np.sin(np.arange(1000) / 20)[np.newaxis] * 1000).astype(np.int16)
    figure = draw_record(replace(header_of(("I",), 4880.0), name="E00015"), recording)
    expected = draw_record(header_of(("I",), 4880.0), recording)
    assert np.array_equal(traces(figure)["I row 0"], traces(expected)["I row 0"])


def test_twelve_leads_lie_in_four_columns_above_lead_two_in_whatever_order_they_are_stored():
    recording = recording_of(LEADS)
    figure = draw_record(header_of(LEADS), recording)
    straight = traces(figure)
    assert list(straight) == [f"{lead} row {place % 3}" for place, lead in enumerate(LEADS)] + ["II row 3"]
    column = {name: round(xy[0, 0] - straight["I row 0"][0, 0], 6) for name, xy in straight.items()}
    assert [column[f"{lead} row {place % 3}"] for place, lead in enumerate(LEADS)] == [
        62.5 * (place // 3) for place in range(12)
    ]
    order = np.random.default_rng(1).permutation(12)
    shuffled = traces(draw_record(header_of([LEADS[place] for place in order]), recording[order]))
    assert shuffled.keys() == straight.keys()
    assert all(np.array_equal(shuffled[name], straight[name]) for name in straight)


def test_of_two_leads_of_one_name_the_first_is_drawn_among_the_twelve():
    names = (*LEADS, "V1")
    recording = recording_of(names)
    once, twice = (traces(draw_record(header_of(leads), recording[: len(leads)])) for leads in (LEADS, names))
    assert all(np.array_equal(once[name], twice[name]) for name in once) and once.keys() == twice.keys()


def test_fewer_leads_have_a_row_each_in_the_standard_order():
    names = ("V2", "x", "II", "I")
    assert [names[strip.lead] for strip in lay_out(names, 0.0, 10.0)] == ["I", "II", "V2", "x"]
    assert [strip.row for strip in lay_out(names, 0.0, 10.0)] == [0, 1, 2, 3]


@given(st.floats(0.02, SECONDS), st.floats(0, 100))
def test_every_column_is_as_full_as_the_recording_allows_and_shows_nothing_beyond_it(shown, start):
    *columns, rhythm = lay_out(LEADS, start, shown)
    assert (rhythm.begin, rhythm.seconds) == (start, shown)
    for strip in columns:
        assert strip.seconds == min(COLUMN_SECONDS, shown)
        assert start <= strip.begin
        assert strip.begin + strip.seconds <= start + shown + 1e-9


def test_ten_seconds_or_more_run_through_the_columns_without_a_break():
    strips = lay_out(LEADS, 3.0, SECONDS)
    assert [strip.begin for strip in strips[:12:3]] == [3.0, 5.5, 8.0, 10.5]


@pytest.mark.parametrize("seconds", [0.5, 4.0, 10.0, 17.0])
def test_what_is_drawn_ends_with_the_recording_or_after_ten_seconds(seconds):
    figure = draw_record(header_of(("I", "II")), recording_of(("I", "II"), seconds))
    for xy in traces(figure).values():
        assert np.ptp(xy[:, 0]) == pytest.approx(25 * min(SECONDS, seconds), abs=25 / RATE + 1e-6)


def test_a_recording_is_drawn_from_the_given_second():
    recording = recording_of(("I",), 20.0)
    header = header_of(("I",))
    later = traces(draw_record(header, recording, 7.0))["I row 0"]
    cut = traces(draw_record(header, recording[:, 700:]))["I row 0"]
    assert np.allclose(later, cut)


@pytest.mark.parametrize("start", [-0.1, 10.0, 99.0, math.nan])
def test_a_start_outside_the_recording_is_an_error_that_says_how_long_it_is(start):
    with pytest.raises(SignalError, match="R: no signal at .* in a recording of 10 s"):
        draw_record(header_of(("I",)), recording_of(("I",)), start)


def test_leads_that_are_no_voltage_are_an_error():
    header = header_of(("I",))
    header = replace(header, leads=(header.leads[0]._replace(units="mmHg"),))
    with pytest.raises(HeaderError, match="mmHg"):
        draw_record(header, recording_of(("I",)))


def test_invalid_samples_are_gaps_and_leave_the_others_where_they_are():
    recording = recording_of(("I", "II", "III")).astype(float)
    all_traces = traces(draw_record(header_of(("I", "II", "III")), recording))
    broken = recording.copy()
    broken[0, 100:200], broken[1, 300], broken[1, 301] = -32768, np.nan, np.inf
    holed = traces(draw_record(header_of(("I", "II", "III")), broken))
    assert np.flatnonzero(np.isnan(holed["I row 0"][:, 1])).tolist() == list(range(100, 200))
    assert np.flatnonzero(np.isnan(holed["II row 1"][:, 1])).tolist() == [300, 301]
    assert np.array_equal(holed["III row 2"], all_traces["III row 2"])
    moved = (holed["II row 1"] - all_traces["II row 1"])[:, 1]
    assert np.nanmax(np.abs(moved - moved[0])) < 1e-9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e308, -1e308, np.inf, np.nan])
def test_samples_that_are_no_measurements_are_gaps(value):
    recording = recording_of(["I"]).astype(np.float64)
    expected = strip_signal(header_of(["I"]), recording, lay_out(["I"], 0, 10)[0])[1]
    recording[0, 100:200] = value
    _, signal = strip_signal(header_of(["I"]), recording, lay_out(["I"], 0, 10)[0])
    gap = np.isnan(signal)
    assert gap[100:200].all() and gap.sum() == 100
    assert np.ptp(signal[~gap] - expected[~gap]) < 1e-9


def test_leads_without_signal_or_without_movement_say_so():
    recording = recording_of(("I", "II", "V1"))
    recording[1], recording[2] = -32768, 400
    assert {"I", "II (no signal)", "V1 (flat)"} <= set(texts(draw_record(header_of(("I", "II", "V1")), recording)))


def test_what_stands_for_no_value_depends_on_the_format():
    recording = recording_of(("I",))
    recording[0, 100:200] = -2048
    for kind, gaps in (("212", 100), ("16", 0)):
        header = header_of(("I",))
        header = replace(header, leads=(header.leads[0]._replace(format=kind),))
        (trace,) = traces(draw_record(header, recording)).values()
        assert np.isnan(trace[:, 1]).sum() == gaps


def test_what_a_header_holds_is_drawn_as_it_is_and_never_as_a_formula(tmp_path):
    header = replace(header_of(("$\\frac$",)), name="$x$", codes=("$a_b$",))
    figure = draw_record(header, recording_of(("I",)), caption="$\\frac{")
    figure.savefig(tmp_path / "page.png")
    assert {"$x$", "Labels: $a_b$", "$\\frac$", "$\\frac{"} <= set(texts(figure))


def test_the_title_has_demographics_and_labels():
    codes = ("164884008", "427172004", "164865005", "12345")
    header = replace(header_of(("I",)), codes=codes, age=math.nan, sex="Unknown")
    shown = "\n".join(texts(draw_record(header, recording_of(("I",), 12.5))))
    assert "Labels: PVC, MI, 12345" in shown  # two codes of one class are one label, an unknown code stays
    assert "age unknown, sex unknown   100 Hz   12.5 s, from 0 s to 10 s" in shown


def test_every_scored_class_is_labelled_by_its_abbreviation():
    assert label_names(["426783006", "Unknown", "426783006"]) == ["NSR", "Unknown"]


def random_panel(seed=0):
    random = np.random.default_rng(seed)
    return random.random(26), random.uniform(0.2, 0.8, 26)


def bars(figure):
    return {patch.get_gid(): patch for patch in figure.axes[-1].patches if patch.get_gid()}


@pytest.mark.parametrize("names", [LEADS, ("I", "II")])
def test_all_positive_and_all_labelled_classes_are_among_the_models_bars(names):
    probabilities, thresholds = random_panel()
    probabilities[CLASS_INDEX["AF"]] = 0.0
    figure = draw_record(header_of(names), recording_of(names), 0, ModelPanel(probabilities, thresholds))
    drawn = bars(figure)
    positive = {ABBREVIATIONS[column] for column in np.flatnonzero(probabilities >= thresholds)}
    assert positive | {"AF"} <= drawn.keys()
    colours = {drawn[name].get_facecolor() for name in positive}
    assert len(colours) == 1
    assert all((drawn[name].get_facecolor() in colours) == (name in positive) for name in drawn)
    full = max(patch.get_width() for patch in figure.axes[-1].patches if not patch.get_gid())
    lengths = [drawn[name].get_width() / full for name in drawn]
    assert lengths == pytest.approx([probabilities[CLASS_INDEX[name]] for name in drawn])
    assert lengths == sorted(lengths, reverse=True)


def test_classes_of_your_own_name_labels_and_bars_within_the_panel():
    wide = "W" * 12  # the longest and widest abbreviation
    classes = ClassTable((Diagnosis("Fib", ("164889003",), ""), Diagnosis("AF", ("own",), ""),
                          Diagnosis(wide, ("wide",), "")))  # fmt: skip
    model = ModelPanel(np.array([0.9, 0.2, 0.7]), np.full(3, 0.5), highlighted=2, classes=classes)
    header = header_of(LEADS, codes=("164889003", "wide", "426783006"))
    figure = draw_record(header, recording_of(LEADS), 0, model)
    assert f"Labels: Fib, {wide}, NSR" in texts(figure) and bars(figure).keys() == {"Fib", "AF", wide, "highlighted"}
    renderer, panel = FigureCanvasAgg(figure).get_renderer(), figure.axes[-1]
    (name,) = [text for text in panel.texts if text.get_text().startswith("WW")]
    left = panel.get_window_extent(renderer).x0
    assert name.get_text().endswith("...") and name.get_window_extent(renderer).x0 >= left


def test_the_most_probable_classes_fill_the_panel_if_few_are_positive():
    probabilities, _ = random_panel(1)
    figure = draw_record(header_of(LEADS, codes=()), recording_of(LEADS), 0, ModelPanel(probabilities, np.ones(26)))
    most_probable = [ABBREVIATIONS[column] for column in np.argsort(-probabilities)]
    assert list(bars(figure)) == most_probable[: len(bars(figure))]
    assert len(bars(figure)) >= 10


@pytest.mark.parametrize("decides", [True, False])
def test_predicted_classes_are_highlighted_and_thresholds_are_drawn_if_there_are_any(decides):
    """By a rule the prediction may be a class below its threshold, or there may be no thresholds."""
    probabilities, thresholds = np.linspace(1, 0, 26), np.where(np.arange(26) < 24, 0.5, np.nan)
    thresholds = thresholds if decides else np.full(26, np.nan)
    figure = draw_record(header_of(LEADS, codes=()), recording_of(LEADS), 0,
                         ModelPanel(probabilities, thresholds, np.arange(26) == 25))  # fmt: skip
    drawn, panel = bars(figure), figure.axes[-1]
    colours = {name: patch.get_facecolor() for name, patch in drawn.items()}
    last = colours.pop(ABBREVIATIONS[25])
    assert last == panel.patches[-1].get_facecolor() and last not in colours.values()  # as the legend has it
    lines = {line.get_gid() for line in panel.lines if (line.get_gid() or "").startswith("threshold")}
    assert lines == ({f"threshold of {name}" for name in colours} if decides else set())
    assert ("threshold" in texts(figure)) == decides


def test_the_page_has_no_panel_without_a_model():
    assert not bars(draw_record(header_of(LEADS), recording_of(LEADS)))


@pytest.mark.parametrize("names", [LEADS, ("I", "II")])
@pytest.mark.parametrize("words", [0, 9, 60])
def test_a_caption_of_any_length_lies_on_the_page_in_lines_of_its_own(names, words):
    caption = " ".join(["RBBB"] * words)
    header = header_of(names, codes=tuple(str(number) for number in range(10**8, 10**8 + 20)))
    figure, bare = (draw_record(header, recording_of(names), caption=title) for title in (caption, ""))
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    canvas, paper = figure.bbox, figure.axes[0].get_window_extent()
    boxes = {text: text.get_window_extent(renderer) for text in figure.axes[1].texts}
    lines = [text.get_text() for text in boxes if text.get_text().startswith("RBBB")]
    assert " ".join(lines) == caption
    for text, box in boxes.items():
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
        assert not box.overlaps(paper)
        assert not any(box.overlaps(other_box) for other_text, other_box in boxes.items() if other_text is not text)
    assert all(np.array_equal(xy, traces(bare)[name]) for name, xy in traces(figure).items())
    assert [text for text in texts(figure) if text not in lines] == texts(bare)


HOSTILE = {
    "long": "x" * 255,
    "wide": "W" * 255,
    "Chinese": "心电图" * 80,
    "emoji": "\N{ANATOMICAL HEART}" * 250,
    "control": "\x07\x1b\ufffe\N{RIGHT-TO-LEFT OVERRIDE}" * 60,
    "formula": "$\\frac$" * 36,
    "combining": "ä\u0308" * 120,
}


QUICK_KINDS = ("wide", "formula")


def boxes(figure):
    """All texts above and below the paper with their extents in pixels, and those of the leads on it."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [
        [(text.get_text(), text.get_window_extent(renderer)) for text in axes.texts]
        for axes in (figure.axes[1], figure.axes[0])
    ]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        *(pytest.param(kind, LEADS, marks=() if kind in QUICK_KINDS else pytest.mark.slow) for kind in HOSTILE),
        pytest.param("wide", ("I", "II"), marks=pytest.mark.slow),
    ],
)
def test_texts_of_any_length_and_script_stay_on_the_page_without_overlap(tmp_path, kind, names):
    word = HOSTILE[kind]
    header = header_of((*names, word, word), codes=("164889003", word, *(f"{word}{number}" for number in range(300))))
    header = replace(header, name=word, leads=(*header.leads[:-1], header.leads[-1]._replace(units=word)))
    model = ModelPanel(np.linspace(0, 1, 26), np.full(26, 0.5))
    for panel in (None, model):
        figure = draw_record(header, recording_of((*names, "x", "y"), 4.0), 0.0, panel, caption=f"{word} {word}")
        outside, on_paper = boxes(figure)
        paper, page = figure.axes[0].get_window_extent(), figure.bbox
        for number, (text, box) in enumerate(outside):
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text
            assert not box.overlaps(paper), text
            assert not any(box.overlaps(other_box) for _, other_box in outside[:number]), text
        for number, (text, box) in enumerate(on_paper):
            assert paper.x0 <= box.x0 and box.x1 <= paper.x1, text
            assert not any(box.overlaps(other_box) for _, other_box in on_paper[:number]), text
        shown = [text for text, _ in outside]
        assert sum(text.endswith("...") for text in shown) >= 3 and len(shown) <= 16
    figure.savefig(tmp_path / "page.svg")
    ElementTree.parse(tmp_path / "page.svg")


@pytest.mark.filterwarnings("error")
def test_a_character_that_the_font_lacks_is_drawn_as_its_code(tmp_path):
    names = ("心", "I", "ü€", "\x07", "\N{ANATOMICAL HEART}")
    header = replace(header_of(names, codes=("房颤", "164889003")), name="心电图-1")
    figure = draw_record(header, recording_of(names), caption="心 is here")
    figure.savefig(tmp_path / "page.png")
    codes = {"\\u5fc3", "I", "ü€", "\\x07", "\\U0001fac0", "Labels: \\u623f\\u98a4, AF", "\\u5fc3\\u7535\\u56fe-1"}
    assert codes | {"\\u5fc3 is here"} <= set(texts(figure))


@pytest.mark.slow
@given(st.text(max_size=80), st.floats(10, 200), st.sampled_from([TITLE_STYLE, LABEL, SMALL]))
def test_a_text_is_shortened_no_more_than_it_must(text, room, style):
    short = shorten(text, room, style)
    drawn_text = "".join(map(drawable, text))
    assert text_width(short, style) <= room
    if short != drawn_text:
        assert text_width(drawn_text, style) > room and short.endswith("...") and drawn_text.startswith(short[:-3])
        longer = "".join(map(drawable, text))[: len(short[:-3]) + 10]  # a code has ten characters at most
        assert text_width(f"{longer}...", style) > room or longer == drawn_text


def test_unscored_diagnoses_are_labelled_by_the_challenges_abbreviation():
    merged = dict(MERGED)
    for code, diagnosis in unscored_diagnoses().items():
        assert label_names([code]) == label_names([code, code]) == [merged.get(code, diagnosis.abbreviation)]
    assert label_names(["164865005", "426783006", "99", "nonsense"]) == ["MI", "NSR", "99", "nonsense"]


def with_units(header, **units):
    leads = (lead._replace(units=units.get(lead.name, lead.units)) for lead in header.leads)
    return replace(header, leads=tuple(leads))


@pytest.mark.parametrize("place", [0, 5, 12])
def test_twelve_leads_are_drawn_with_one_that_is_no_voltage(place):
    names = [*LEADS[:place], "RESP", *LEADS[place:]]
    recording = recording_of(names)
    figure = draw_record(with_units(header_of(names), RESP="ohm"), recording)
    alone = draw_record(header_of(LEADS), np.delete(recording, place, axis=0))
    assert traces(figure).keys() == traces(alone).keys()
    assert all(np.array_equal(xy, traces(alone)[name]) for name, xy in traces(figure).items())
    assert set(texts(figure)) - set(texts(alone)) == {"not drawn: RESP (ohm)"}


def test_leads_that_are_no_voltage_are_named_and_the_others_drawn_a_row_each():
    names = ("II", "RESP", "V1", "", "ABP")
    header = with_units(header_of(names), RESP="ohm", ABP="mmHg")
    header = replace(header, leads=(*header.leads[:3], header.leads[3]._replace(units="NU"), header.leads[4]))
    figure = draw_record(header, recording_of(names))
    assert list(traces(figure)) == ["II row 0", "V1 row 1"]
    assert "not drawn: RESP (ohm), without a name (NU), ABP (mmHg)" in texts(figure)
    with pytest.raises(HeaderError, match=r"^R: no lead is in mV, uV or V, but RESP \(ohm\), V1 \(ohm\)$"):
        draw_record(with_units(header_of(("RESP", "V1")), RESP="ohm", V1="ohm"), recording_of(("RESP", "V1")))


def test_a_standard_lead_that_is_no_voltage_is_missing_from_the_twelve():
    figure = draw_record(with_units(header_of(LEADS), V3="ohm"), recording_of(LEADS))
    assert list(traces(figure)) == [f"{lead} row {row}" for row, lead in enumerate([*LEADS[:8], *LEADS[9:]])]
    assert "not drawn: V3 (ohm)" in texts(figure)


def test_leads_besides_the_twelve_and_second_ones_are_named_at_the_foot():
    header = header_of((*LEADS, "MLII", "V1"))
    header = replace(header, leads=(*header.leads[:-1], header.leads[-1]._replace(written="C1")))
    figure = draw_record(header, recording_of((*LEADS, "MLII", "V1")))
    assert list(traces(figure)) == list(traces(draw_record(header_of(LEADS), recording_of(LEADS))))
    assert "not drawn: MLII, C1" in texts(figure)


def test_of_very_many_leads_the_first_are_drawn():
    names = [f"X{number}" for number in range(1000)]
    figure = draw_record(header_of(names), recording_of(names, 0.1))
    assert len(traces(figure)) == MAX_ROWS
    (line,) = [text for text in texts(figure) if text.startswith("not drawn: ")]
    assert line.startswith(f"not drawn: X{MAX_ROWS}, X{MAX_ROWS + 1}, ") and line.endswith("...")


def marks(figure):
    """The marks of peaks by their wave: (n, 2), mm on paper, and the letters beside them."""
    lines = {line.get_gid()[0]: line for line in figure.axes[0].lines if (line.get_gid() or "").endswith("peaks")}
    letters = sorted(text.get_text() for text in figure.axes[0].texts if text.get_text() in WAVES)
    return {wave: line.get_xydata() for wave, line in lines.items()}, letters


@pytest.mark.parametrize(("names", "row"), [(LEADS, "II row 3"), (("V1", "II"), "II row 0")])
@pytest.mark.parametrize("start", [0.0, 3.0])
def test_peaks_are_marked_and_named_where_lead_two_is_drawn_in_full(names, row, start):
    recording = recording_of(names, 12.0)
    peaks = PeakList(np.array([310, 400, 410, 417, 480, 1190]), np.array([0, 0, 1, 2, 3, 4]))
    figure = draw_record(header_of(names), recording, start, peaks=peaks)
    markers, letters = marks(figure)
    trace, first = traces(figure)[row], round(start * RATE)
    for number, wave in enumerate(WAVES):
        places = peaks.samples[peaks.waves == number] - first
        assert np.array_equal(markers[wave], trace[places[places < len(trace)]])
    assert letters == sorted("PPQRST" if start else "PPQRS")
    colours = {line.get_color() for line in figure.axes[0].lines if (line.get_gid() or "").endswith("peaks")}
    assert len(colours) == len(WAVES)


def test_the_letter_of_a_t_wave_that_points_down_is_below_it():
    time = np.arange(1000)
    waves = 500 * (np.exp(-0.5 * ((time - 300) / 8) ** 2) - np.exp(-0.5 * ((time - 700) / 8) ** 2))
    figure = draw_record(header_of(("II",)), waves[np.newaxis], peaks=PeakList(np.array([300, 700]), np.array([4, 4])))
    up, down = marks(figure)[0]["T"]
    above, below = (text.get_position()[1] for text in figure.axes[0].texts if text.get_text() == "T")
    assert above > up[1] > down[1] > below


def test_no_peak_is_marked_where_there_is_no_lead_two_or_no_sample():
    recording = recording_of(("I", "II"))
    recording[1, 400:500] = -32768
    peaks = PeakList(np.array([300, 450]), np.array([2, 2]))
    assert marks(draw_record(header_of(("I", "II")), recording, peaks=peaks))[1] == ["R"]
    assert marks(draw_record(header_of(("I", "V1")), recording, peaks=peaks)) == ({}, [])


@pytest.mark.parametrize("names", [LEADS, ("I", "II")])
def test_the_highlighted_class_is_always_in_the_panel(names):
    probabilities, thresholds = np.linspace(1, 0, 26), np.full(26, 0.5)
    header, last = header_of(names, codes=()), len(ABBREVIATIONS) - 1
    assert ABBREVIATIONS[last] not in bars(
        draw_record(header, recording_of(names), 0, ModelPanel(probabilities, thresholds))
    )
    figure = draw_record(header, recording_of(names), 0, ModelPanel(probabilities, thresholds, highlighted=last))
    drawn = bars(figure)
    mark, bar = drawn["highlighted"], drawn[ABBREVIATIONS[last]]
    assert mark.get_y() < bar.get_y() and bar.get_y() + bar.get_height() < mark.get_y() + mark.get_height()
    assert mark.get_x() < bar.get_x()
    other_patches = [patch for name, patch in drawn.items() if name not in ("highlighted", ABBREVIATIONS[last])]
    assert len(other_patches) >= 8
    assert all(patch.get_y() > mark.get_y() + mark.get_height() for patch in other_patches)


@pytest.mark.slow
def test_real_recordings_of_every_dialect_are_drawn_within_the_page(real_data):
    for path in find_records(real_data / "dialects"):
        header, recording = read_record(path)
        figure = draw_record(header, recording)
        heights = np.concatenate([xy[:, 1] for xy in traces(figure).values()])
        inside = (heights > 0) & (heights < figure.axes[0].get_ylim()[1])
        assert inside.mean() > 0.99


def test_why_a_recording_cannot_be_used_is_at_the_foot():
    recording = recording_of(LEADS)
    wrong = draw_record(with_units(header_of(LEADS), **dict.fromkeys(LEADS, "V")), recording)
    (note,) = set(texts(wrong)) - set(texts(draw_record(header_of(LEADS), recording)))
    assert note.startswith("cannot be used: more than 1 in 20 samples of I, II,")
    flat = draw_record(header_of(LEADS), np.full_like(recording, -32768))
    assert any(text.startswith("cannot be used: no sample was recorded") for text in texts(flat))
    assert not any("cannot be used" in text for text in texts(draw_record(header_of(("MLII",)), recording[:1])))


@pytest.mark.parametrize(("leads", "start"), [(LEADS, 0.0), (LEADS, 3.0), (("I", "II"), 0.0)])
def test_evidence_is_shaded_behind_its_lead_at_its_time(leads, start):
    values = np.zeros((1400, 2), np.float32)
    values[1000:1100, 1] = 1  # lead II from 10 to 11 s
    shading = Shading(("V6", "II"), 100, values, "evidence for AF")
    figure = draw_record(header_of(leads), recording_of(leads, 14), start, shading=shading)
    images = {image.get_gid(): image for image in figure.axes[0].images}
    strips = [name for name in images if name.startswith("evidence in II")]
    assert all(name.split()[2] in ("II", "V6") for name in images)
    full = images[f"evidence in II row {3 if leads == LEADS else 1 if len(leads) == 2 else 0}"]
    left, right, *_ = full.get_extent()
    shaded = np.flatnonzero(np.asarray(full.get_array())[0, :, 3] > 0)
    if start == 0:
        assert not len(shaded)  # the drawing ends before
    else:
        seconds = (shaded[[0, -1]] + (0, 1)) / 100
        assert seconds == pytest.approx((10 - start, 11 - start))
    assert right - left == pytest.approx(25 * 10) and full.get_zorder() < 2
    assert len(strips) == (2 if leads == LEADS else 1)
    assert any("shaded: evidence for AF" in text for text in texts(figure))
    assert not draw_record(header_of(leads), recording_of(leads, 14), start).axes[0].images
