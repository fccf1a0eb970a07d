"""The page in a browser: what a reviewer sees and does."""

import csv
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest
import scipy.io

from ecg.data.headers import read_header
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEADS
from ecg.data.patients import record_names
from ecg.data.record_names import escape_name
from ecg.data.records import find_records

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.web

SERVER = Path(__file__).with_name("page_server.py")
START_SECONDS = 60
MARKUP = "<img src=x onerror=alert(1)>"
RHYTHM, LONG, TWO_LEADS, GAPS, DAMAGED = "B0075", "B0600", "B0002", "B0009", "B0010"
TALL, DELAYED, WANDER, DAY = "B0003", "B0004", "B0005", "B8640"
NAMED, BREAK, FOLDERS = "B0006", "Z\tline\nbreak", ("one/B0007", "two/B0007", "two/b0007")
LONG_NAMES = [f"electrode {'of the left hand ' * count}{side}" for count in (1, 20) for side in ("above", "below")]
DAY_SECONDS = 24 * 3600
# Fields of the server's answers that a blinded reviewer must not get.
HIDDEN = ("labels", "predicted", "probabilities", "suspected", "suspicion", "thresholds", "calibrated")
PAINT_LIMIT, FRAME_LIMIT, OPENINGS = 150, 30, 7  # ms, ms, and openings of which the median counts
TIME_FACTOR = float(os.environ.get("ECG_TIME_FACTOR", "1"))  # larger on a machine that does other things


def beat(time):
    """A beat with P, QRS and T waves in mV, whose R wave peaks at time 0."""
    waves = [(-0.17, 0.022, 0.12), (-0.03, 0.008, -0.1), (0, 0.011, 1.1), (0.03, 0.01, -0.25), (0.27, 0.05, 0.3)]
    return sum(height * np.exp(-0.5 * ((time - centre) / width) ** 2) for centre, width, height in waves)


def write_recording(folder, name, seconds, leads=LEADS, frequency=500, period=0.8):
    """Write beats at a constant rate, the first one 0.4 s after the beginning; the signal is returned in microvolts."""
    times = np.arange(int(seconds * frequency)) / frequency
    trace = 1000 * beat((times + period / 2 - 0.4) % period - period / 2)
    signal = np.stack([trace * (0.5 + 0.1 * row) for row in range(len(leads))]).astype(np.int16)
    save_recording(folder, name, signal, leads, frequency)
    return signal


def save_recording(folder, name, signal, leads=LEADS, frequency=500):
    """Write samples in microvolts as a recording."""
    scipy.io.savemat(folder / f"{name}.mat", {"val": signal}, format="4")
    record = "_".join(name.split("/")[-1].split())
    lines = [f"{record} {len(leads)} {frequency} {signal.shape[1]}"]
    lines += [f"{record}.mat 16+24 1000/mV 16 0 {row[0]} 0 0 {lead}" for row, lead in zip(signal, leads, strict=True)]
    text = "\n".join([*lines, "#Age: 60", "#Sex: Female", "#Dx: 426783006"])
    (folder / f"{name}.hea").write_text(text + "\n")


def write_day(folder, name):
    """Write 24 h of twelve leads at 500 Hz, with beats in the first, the middle and the last three minutes.

    The other samples are 0, and take no space on the disk.
    """
    samples, part = 500 * DAY_SECONDS, 500 * 180
    write_recording(folder, name, 180)
    beats = scipy.io.loadmat(folder / f"{name}.mat")["val"].T.astype("<i2")
    header = (folder / f"{name}.hea").read_text()
    (folder / f"{name}.hea").write_text(header.replace(f"500 {part}", f"500 {samples}"))
    with open(folder / f"{name}.mat", "wb") as file:
        file.write(struct.pack("<5i", 30, 12, samples, 0, 4) + b"val\0")
        for first in (0, samples // 2, samples - part):
            file.seek(24 + 24 * first)
            file.write(beats.tobytes())


@pytest.fixture(scope="module")
def data(synthetic_recordings, tmp_path_factory):
    """A folder of recordings: the synthetic ones, and some with properties that the tests need."""
    folder = tmp_path_factory.mktemp("page_data")
    for path in synthetic_recordings.iterdir():
        shutil.copy(path, folder)
    write_recording(folder, RHYTHM, 10)
    write_recording(folder, LONG, 600, frequency=250)
    write_recording(folder, TWO_LEADS, 10, ("I", "II"))
    write_recording(folder, MARKUP, 10)
    signal = write_recording(folder, GAPS, 10)
    signal[:, 2000:3000] = -(2**15)
    save_recording(folder, GAPS, signal)
    signal = write_recording(folder, TALL, 10)
    signal = (3000 / signal.max(1, keepdims=True) * signal).astype(np.int16)
    signal[LEADS.index("II")] *= -1  # the rhythm strip, which has S waves of 3 mV now
    save_recording(folder, TALL, signal)
    signal = write_recording(folder, DELAYED, 10)
    signal[1:] = np.roll(signal[1:], 20, axis=1)  # all leads but I are 40 ms late
    save_recording(folder, DELAYED, signal)
    signal = write_recording(folder, WANDER, 10)
    signal += (800 * np.sin(2 * np.pi * 0.2 * np.arange(5000) / 500)).astype(np.int16)
    save_recording(folder, WANDER, signal)
    write_day(folder, DAY)
    write_recording(folder, NAMED, 10, LONG_NAMES)
    write_recording(folder, BREAK, 10)
    for name in FOLDERS:
        (folder / name).parent.mkdir(exist_ok=True)
        write_recording(folder, name, 10)
    write_recording(folder, DAMAGED, 10)
    (folder / f"{DAMAGED}.mat").write_bytes(b"damaged")
    return folder


class PageServer:
    """A server in a subprocess, which a test may kill and start again."""

    def __init__(self, data, reviews, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.reviews, self.url = reviews, f"http://127.0.0.1:{self.port}/"
        self.command = [sys.executable, str(SERVER), str(data), str(reviews), str(self.port), *options]
        self.process = None

    def start(self):
        environment = os.environ | {"PYTHONPATH": str(SERVER.parents[2])}
        self.process = subprocess.Popen(self.command, env=environment)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urlopen(f"{self.url}api/session"):
                    return self
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def saved(self, reviewer):
        """Return the saved reviews of a reviewer: record, class, verdict, comment."""
        path = self.reviews / f"{reviewer}.csv"
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return [(row["record"], row["class"], row["verdict"], row["comment"]) for row in csv.DictReader(file)]


@pytest.fixture
def make_server(data, tmp_path):
    """A function that starts a server with options; it ends with the test."""
    servers = []

    def make(*options):
        servers.append(PageServer(data, tmp_path / "reviews", *options))
        return servers[-1].start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def server(data, tmp_path_factory):
    """A server that tests share, each with a reviewer of its own."""
    server = PageServer(data, tmp_path_factory.mktemp("reviews"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def open_page(browser):
    """A function that opens the list as a reviewer, in a browser of its own.

    After the test no page may have reported an error, a dialog, or something that the policy of its content forbids.
    """
    contexts, errors = [], []

    def note_message(message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    def answer_dialog(dialog):
        if dialog.type != "beforeunload":  # the browser asks this if reviews are not saved
            errors.append(f"dialog: {dialog.message}")
        dialog.accept()

    def open_list(server, reviewer="Ann", size=(1280, 800), **options):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", note_message)
        page.on("dialog", answer_dialog)
        page.goto(server.url)
        page.get_by_label("Name").fill(reviewer)
        page.keyboard.press("Enter")
        page.wait_for_selector(".recordings tbody tr")
        return page

    yield open_list
    for context in contexts:
        context.close()
    assert not errors


def open_recording(page, name):
    """Open a recording by its address, and wait until its trace and its classes are shown."""
    page.goto(f"{page.url.partition('#')[0]}#/recording/{quote(name, safe='')}")
    page.wait_for_function("name => document.querySelector('.record-title')?.title === name", arg=name)
    label = "document.getElementById('paper').getAttribute('aria-label')"
    page.wait_for_function(f"start => {label}.startsWith(start) && {label}.includes('leads')", arg=f"ECG of {name}: ")
    page.wait_for_selector(".class-row[aria-selected=true]")


def rows(page):
    """Return the names of the recordings on a page of the list."""
    return page.eval_on_selector_all(".recordings tbody tr", "rows => rows.map(row => row.dataset.record)")


def wait_for_rows(page, count):
    page.wait_for_function("count => document.querySelectorAll('.recordings tbody tr').length === count", arg=count)


def read_time(page):
    """Return the time below the mouse in s, as the page says."""
    *hours, minutes, rest = page.locator(".readout").inner_text().split(" · ")[-2].split(":")
    return 3600 * sum(map(int, hours)) + 60 * int(minutes) + float(rest)


def locate_middle(page):
    """Return the time in the middle of the paper in s."""
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 90)
    return read_time(page)


def locate_time(page, seconds):
    """Return where on the screen the rhythm strip has a point of time, from the times that the page says."""
    box = page.locator("#paper").bounding_box()
    y = box["y"] + box["height"] - 90
    times = {}
    for x in (box["x"] + 200, box["x"] + 700):
        page.mouse.move(x, y)
        times[x] = read_time(page)
    (left, first), (right, last) = times.items()
    return left + (seconds - first) * (right - left) / (last - first), y


def read_lead(page, x, y):
    """Return the lead at a point of the paper, given by its shares of width and height, as the page says."""
    box = page.locator("#paper").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    return page.locator(".readout").inner_text().split("   ")[-1].split(" · ")[0]


def read_zoom(page):
    """Return the magnification in percent, as the page says."""
    page.wait_for_timeout(100)
    return int(page.locator(".readout").inner_text().split("   ")[0].split(" · ")[2].removesuffix(" %"))


def count_pixels(page, condition, left=0.0, right=1.0):
    """Count the pixels of the paper, between two shares of its width, for which an expression of r, g, b holds."""
    code = f"""([left, right]) => {{
        const canvas = document.querySelector('canvas.paper');
        const [start, width] = [Math.round(left * canvas.width), Math.round((right - left) * canvas.width)];
        const {{ data }} = canvas.getContext('2d').getImageData(start, 0, width, canvas.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4) {{
            const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
            if ({condition}) count++;
        }}
        return count;
    }}"""
    return page.evaluate(code, [left, right])


def press_choice(page, group, name):
    """Press a button of a group in the toolbar, and wait for the next frame."""
    page.get_by_role("group", name=group).get_by_role("button", name=name, exact=True).click()
    page.wait_for_timeout(100)


def wait_until_saved(page):
    playwright.expect(page.locator(".saving")).to_have_text("All reviews saved", timeout=30_000)


def test_one_key_accepts_the_default_reviewer(make_server, browser):
    server = make_server("--reviewer", "Dr. Ada")
    page = browser.new_page()
    page.goto(server.url)
    playwright.expect(page.get_by_label("Name")).to_have_value("Dr. Ada")
    playwright.expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector(".recordings tbody tr")
    assert page.locator(".reviewer").inner_text() == "Dr. Ada"
    page.close()


def test_the_list_is_paged_searched_and_filtered(server, open_page, data):
    page = open_page(server)
    headers = {escape_name(name): read_header(data / f"{name}.hea") for name in record_names(data, find_records(data))}
    assert len(rows(page)) == 50 and f"of {len(headers)} recordings" in page.locator(".pages").inner_text()
    first = rows(page)
    page.keyboard.press("n")
    wait_for_rows(page, len(headers) - 50)
    assert sorted(first + rows(page)) == sorted(headers)
    page.keyboard.press("b")
    wait_for_rows(page, 50)
    assert rows(page) == first

    labelled = [name for name, header in headers.items() if CHALLENGE_CLASSES.encode(header.codes)[0]]
    page.get_by_label("Label", exact=True).select_option("AF")
    wait_for_rows(page, len(labelled))
    assert sorted(rows(page)) == sorted(labelled)
    page.get_by_role("button", name="Clear").click()
    wait_for_rows(page, 50)
    page.keyboard.press("/")
    page.keyboard.type(RHYTHM, delay=250)  # slower than the search: the field keeps the focus
    wait_for_rows(page, 1)
    assert rows(page) == [RHYTHM]
    page.get_by_label("Search").fill("nothing like this")
    page.wait_for_selector("text=No recording fits these filters.")


def test_the_most_suspected_recordings_come_first_and_reviewed_ones_can_be_left_out(server, open_page):
    page = open_page(server, "Filter")
    assert "LAD label missing? 0.97" in page.locator("tbody tr").first.inner_text()
    name = rows(page)[0]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".class-row[aria-selected=true][data-class=LAD]")
    page.keyboard.press("a")
    wait_until_saved(page)
    page.keyboard.press("Escape")
    page.wait_for_selector(f"tr[data-record='{name}'] >> text=1 verdict")
    page.get_by_label("Not reviewed by me").check()
    page.wait_for_function("name => document.querySelector('tbody tr')?.dataset.record !== name", arg=name)
    assert name not in rows(page)


def test_one_goes_through_the_recordings_in_the_order_of_the_list(server, open_page, data):
    page = open_page(server)
    names = rows(page)
    page.locator("tbody tr").first.click()
    for name in names[:3]:
        page.wait_for_selector(f".record-title[title='{name}']")
        page.wait_for_selector(".class-row[aria-selected=true]")
        page.keyboard.press("n")
    page.keyboard.press("b")
    page.wait_for_selector(f".record-title[title='{names[2]}']")
    assert page.locator(".position").inner_text() == f"3 of {len(list(find_records(data)))}"
    page.keyboard.press("Escape")
    page.wait_for_selector(f"tr[data-record='{names[2]}'][aria-selected=true]")


def test_a_recording_is_the_last_one_only_at_the_end_of_the_list(server, open_page):
    """The order of the list changes while predictions come in: pages repeat recordings, or have moved ones."""
    page = open_page(server)
    code = """async (order) => {
        const { Queue } = await import('/static/queue.js');
        const listed = Array.from({ length: 350 }, (_, index) => ({ record: `R${index}`, reviewed_by_me: 0 }));
        const changed = order === 'rotated' ? [...listed.slice(50), ...listed.slice(0, 50)] : [...listed].reverse();
        window.fetch = async (url) => {
            const values = new URLSearchParams(url.split('?')[1]);
            const [offset, limit] = ['offset', 'limit'].map((name) => Number(values.get(name)));
            return new Response(JSON.stringify({ total: 350, offset, items: changed.slice(offset, offset + limit) }));
        };
        const queue = new Queue();
        queue.take({ total: 350, items: listed.slice(0, 200) });
        const records = ['R0'];
        while (records.at(-1)) records.push(await queue.neighbour(records.at(-1), 1));
        return records;
    }"""
    for order in ("reversed", "rotated"):
        *records, end = page.evaluate(code, order)
        assert end is None and len(records) == 350
        assert set(records) == {f"R{index}" for index in range(350)}


def test_label_prediction_and_facts_stand_beside_the_trace(server, open_page, data):
    page = open_page(server)
    open_recording(page, RHYTHM)
    assert page.locator(".record-details").inner_text() == "B · female, 60 y · 10 s · 500 Hz · 12 leads"
    row = page.locator(".class-row[data-class=NSR]")
    assert row.locator(".mark.on").count() == 1 and row.locator(".number").inner_text() == "0.90"
    row.click()
    statement = page.locator(".statement")
    assert statement.inner_text().split("\n") == ["Labelled · predicted", "Probability 0.90 · predicted from 0.60 on"]
    page.locator(".class-row[data-class=AF]").click()
    assert statement.inner_text().startswith("Not labelled · not predicted\nProbability 0.10")


def test_the_rule_of_the_model_is_said_for_each_decision(server, open_page):
    page = open_page(server)
    code = """async (facts) => {
        const { describeDecision } = await import('/static/decision.js');
        const shown = { labels: new Set(), ...facts, predicted: new Set(facts.predicted) };
        return describeDecision(shown, 'AF').map((part) => part.textContent ?? part).join('');
    }"""

    def describe(decision, probability=0.4, predicted=(), **facts):
        facts |= {"decision": decision, "probabilities": {"AF": probability}, "predicted": list(predicted)}
        return page.evaluate(code, facts)

    assert all(number in describe("thresholds", thresholds={"AF": 0.6}) for number in ("0.40", "0.60"))
    assert "implied" in describe("thresholds", predicted=["AF"], thresholds={"AF": 0.6})
    assert "implied" not in describe("thresholds", 0.7, ["AF"], thresholds={"AF": 0.6})
    assert "calibrated 0.30" in describe("expected_credit", calibrated={"AF": 0.3})
    rules = {describe(decision) for decision in ("argmax", "expected_credit", "vote")}
    assert len(rules) == 3 and not any("calibrated" in rule or "undefined" in rule for rule in rules)


def test_calipers_measure_a_rhythm_of_75_beats_per_minute(server, open_page):
    page = open_page(server)
    open_recording(page, RHYTHM)
    page.keyboard.press("c")
    (start, y), (end, _) = locate_time(page, 2.0), locate_time(page, 2.8)
    pixel = 800 / (end - start)
    page.mouse.move(start, y)
    page.mouse.down()
    page.mouse.move(end, y, steps=4)
    page.mouse.up()
    page.wait_for_timeout(100)
    measured = page.locator(".measure").inner_text().split()
    assert measured[1] == "ms" and abs(int(measured[0]) - 800) <= 2 * pixel and abs(int(measured[3]) - 75) <= 2

    page.keyboard.press("Escape")
    page.keyboard.press("k")  # snap to peaks: the R waves are 400 samples apart
    page.mouse.move(start + 3, y)
    page.mouse.down()
    page.mouse.move(end - 3, y - 20, steps=4)
    page.mouse.up()
    measure = playwright.expect(page.locator(".measure"))
    measure.to_contain_text("800 ms · 75 bpm")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    measure.to_contain_text("804 ms")  # two samples
    page.keyboard.press("Escape")
    measure.to_be_empty()


def test_calipers_snap_to_the_lead_in_which_they_begin(server, open_page):
    page = open_page(server)
    open_recording(page, DELAYED)
    page.keyboard.press("k")
    (start, y), (end, _) = locate_time(page, 0.4), locate_time(page, 1.2)
    box = page.locator("#paper").bounding_box()
    page.mouse.move(start, box["y"] + 0.12 * box["height"])
    assert " I · " in f" {page.locator('.readout').inner_text()}"
    page.mouse.down()
    page.mouse.move(end, y, steps=4)  # down to the rhythm strip, whose beats are late
    page.mouse.up()
    playwright.expect(page.locator(".measure")).to_contain_text("800 ms · 75 bpm · +0.00 mV")


def test_calipers_measure_the_calibrated_voltage(server, open_page):
    page = open_page(server)
    open_recording(page, RHYTHM)
    for gain in (10, 20, 5):
        page.get_by_role("group", name="Gain").get_by_role("button", name=str(gain), exact=True).click()
        if gain == 10:
            page.keyboard.press("k")
        box = page.locator("#paper").bounding_box()
        (x, y), (end, _) = locate_time(page, 2.0), locate_time(page, 2.4)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(end, min(y, box["y"] + box["height"] - 40), steps=3)
        page.mouse.up()
        page.wait_for_timeout(100)
        # Snapped to the R wave of lead II, 0.6 x 1.1 mV high, and to the baseline or the end of the T wave.
        voltage = float(page.locator(".measure").inner_text().split()[-2].replace("−", "-"))
        assert abs(voltage + 0.66) < 0.1
        page.keyboard.press("Escape")


def test_march_repeats_the_interval_over_the_whole_width(server, open_page):
    page = open_page(server)
    open_recording(page, RHYTHM)
    page.keyboard.press("c")
    (start, y), (end, _) = locate_time(page, 4.0), locate_time(page, 4.8)
    page.mouse.move(start, y)
    page.mouse.down()
    page.mouse.move(end, y, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)

    def find_lines():
        """Return the distances of upright lines from the first line of the calipers, in intervals."""
        page.wait_for_timeout(100)
        columns = page.evaluate("""() => {
            const canvas = document.querySelector('canvas.overlay');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const columns = new Array(canvas.width).fill(0);
            for (let i = 0; i < data.length; i += 4) columns[(i / 4) % canvas.width] += data[i + 3] > 100;
            return columns.map((count, x) => [count, x]).filter(([count]) => count > canvas.height / 4);
        }""")
        left = page.locator("#paper").bounding_box()["x"]
        return np.array([(left + x - start) / (end - start) for _, x in columns])

    assert set(np.round(find_lines())) == {0, 1}
    page.keyboard.press("m")
    lines = find_lines()
    assert set(np.round(lines)) == set(range(-5, 8)) and np.abs(lines - np.round(lines)).max() < 0.05


def test_the_leads_of_each_layout_are_in_their_rows_and_columns(server, open_page):
    page = open_page(server)
    open_recording(page, RHYTHM)
    expected = {
        "3×4": [[*LEADS[row::3]] for row in range(3)] + [["II"] * 4],
        "6×2": [[*LEADS[row::6]] for row in range(6)],
        "12×1": [[lead] for lead in LEADS],
    }
    for layout, leads in expected.items():
        press_choice(page, "Layout", layout)
        shown = [
            [read_lead(page, 0.04 + 0.95 * (column + 0.5) / len(row), 0.95 * (index + 0.6) / len(leads))
             for column in range(len(row))]
            for index, row in enumerate(leads)
        ]  # fmt: skip
        assert shown == leads


def test_the_filtered_signal_has_no_wandering_baseline(server, open_page):
    page = open_page(server)
    open_recording(page, WANDER)
    page.keyboard.press("k")

    def measure_wander():
        """Return the difference in mV of two R waves, at the top and at the bottom of the wandering baseline."""
        (start, y), (end, _) = locate_time(page, 1.2), locate_time(page, 3.6)
        page.mouse.move(start, y)
        page.mouse.down()
        page.mouse.move(end, y, steps=3)
        page.mouse.up()
        page.wait_for_timeout(100)
        difference = float(page.locator(".measure").inner_text().split()[-2].replace("−", "-"))
        page.keyboard.press("Escape")
        return difference

    raw = measure_wander()
    assert raw < -1.4
    press_choice(page, "Signal", "Filtered")
    page.wait_for_function("() => document.getElementById('paper').ariaLabel.includes('filtered signal')")
    assert abs(measure_wander()) < 0.3
    page.keyboard.press("f")
    page.wait_for_function("() => document.getElementById('paper').ariaLabel.includes('raw signal')")
    assert measure_wander() == raw


def test_two_fingers_zoom_and_one_moves_the_paper(server, open_page):
    page = open_page(server, has_touch=True)
    open_recording(page, LONG)
    box = page.locator("#paper").bounding_box()
    y = box["y"] + box["height"] / 2
    tools = page.context.new_cdp_session(page)

    def touch(*steps):
        """Put fingers on the paper, move them, and take them away; each step has the x of each finger."""
        for index, step in enumerate(steps):
            points = [{"x": box["x"] + x, "y": y, "id": finger} for finger, x in enumerate(step)]
            kind = "touchMove" if index else "touchStart"
            tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        tools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    touch((300, 500), (280, 520), (250, 550), (200, 600))
    assert abs(read_zoom(page) - 200) <= 6
    touch((200, 600), (300, 500))
    assert abs(read_zoom(page) - 100) <= 3
    page.keyboard.press("Home")
    page.wait_for_timeout(100)
    before = locate_time(page, 8.0)[0]
    touch((600,), (500,), (400,))
    page.wait_for_timeout(100)
    assert abs(before - locate_time(page, 8.0)[0] - 200) < 2


def test_the_paper_is_true_to_scale(server, open_page):
    page = open_page(server)
    open_recording(page, RHYTHM)
    for pixels in (3.0, 4.5):
        page.keyboard.press(";")
        page.get_by_label("Width of the bar").fill(str(pixels))
        bar = page.locator(".card-bar").bounding_box()
        assert abs(bar["width"] - 85.6 * pixels) < 1
        page.keyboard.press("Escape")
        page.get_by_role("button", name="True size").click()
        for speed in (25, 50):
            page.get_by_role("group", name="Speed").get_by_role("button", name=str(speed), exact=True).click()
            distance = locate_time(page, 3.0)[0] - locate_time(page, 2.0)[0]
            assert abs(distance - speed * pixels) < 2
    page.reload()
    page.wait_for_selector(".class-row[aria-selected=true]")
    assert abs(locate_time(page, 3.0)[0] - locate_time(page, 2.0)[0] - 50 * 4.5) < 2  # remembered


def test_recordings_of_two_leads_and_of_ten_minutes_are_shown(server, open_page):
    page = open_page(server)
    open_recording(page, TWO_LEADS)
    assert "leads I, II," in page.locator("#paper").get_attribute("aria-label")
    assert count_pixels(page, "r < 60 && g < 60 && b < 60", 0.1, 0.9) > 1000
    open_recording(page, LONG)
    page.keyboard.press("End")
    page.wait_for_timeout(100)
    left, right = (locate_time(page, seconds)[0] for seconds in (590, 600))
    box = page.locator("#paper").bounding_box()
    assert box["x"] <= left < right <= box["x"] + box["width"]
    for _ in range(40):
        page.keyboard.press("-")
    page.wait_for_timeout(100)
    assert "0.4 mm/s" in page.locator(".readout").inner_text()
    page.keyboard.press("0")
    page.wait_for_timeout(100)
    assert "25 mm/s" in page.locator(".readout").inner_text()


def test_a_recording_of_24_hours_is_moved_through_and_measured(server, open_page):
    page = open_page(server)
    page.set_default_timeout(120_000)  # 1 GB is read once
    sizes = []
    page.on("response", lambda response: "/api/signal" in response.url
            and sizes.append(int(response.headers["content-length"])))  # fmt: skip
    open_recording(page, DAY)
    assert "24:00:00 h" in page.locator(".record-details").inner_text()
    dark = "r < 60 && g < 60 && b < 60"

    def wait_for_samples():
        page.wait_for_function("""() => {
            const canvas = document.querySelector('canvas.paper');
            const { data } = canvas.getContext('2d').getImageData(0, 40, canvas.width, 1);
            for (let i = 0; i < data.length; i += 4)  // the grey of what is not loaded has little red
                if (data[i] < 243 && data[i] > 235 && data[i] - data[i + 1] < 12) return false;
            return true;
        }""")
        page.wait_for_timeout(200)

    def measure(begin, snaps):
        """Return what calipers measure between two beats, the first one at a time."""
        if snaps:
            page.keyboard.press("k")
        (start, y), (end, _) = locate_time(page, begin), locate_time(page, begin + 0.8)
        page.mouse.move(start + 3, y)
        page.mouse.down()
        page.mouse.move(end - 3, y, steps=4)
        page.mouse.up()
        page.wait_for_timeout(100)
        return page.locator(".measure").inner_text()

    wait_for_samples()
    assert "25 mm/s" in page.locator(".readout").inner_text()
    assert "800 ms · 75 bpm" in measure(2.0, snaps=True)
    page.keyboard.press("Escape")
    overview = page.locator(".overview").bounding_box()
    page.mouse.click(overview["x"] + overview["width"] / 2, overview["y"] + overview["height"] / 2)
    wait_for_samples()
    begin = int(locate_middle(page))
    assert abs(begin - DAY_SECONDS / 2) < 120
    page.keyboard.press("End")
    wait_for_samples()
    assert count_pixels(page, dark, 0.1, 0.9) > 1000
    assert "800 ms · 75 bpm" in measure(DAY_SECONDS - 180 + 0.4 + 0.8 * 220, snaps=False)
    page.keyboard.press("Escape")
    for _ in range(60):
        page.keyboard.press("-")
        page.wait_for_timeout(20)
    wait_for_samples()
    assert "0.003 mm/s" in page.locator(".readout").inner_text()
    assert count_pixels(page, dark, 0.1, 0.9) > 1000
    assert len(sizes) > 5 and sum(sizes) < 60e6 and max(sizes) < 10e6  # all samples are 1 GB
    press_choice(page, "Signal", "Filtered")
    page.wait_for_selector("text=Long recordings are shown as recorded, not filtered.")
    assert "raw signal" in page.locator("#paper").get_attribute("aria-label")
    press_choice(page, "Signal", "Raw")


@pytest.mark.parametrize("size", [(1280, 800), (3840, 2160)])
def test_large_deflections_are_not_cut_off_at_the_edges_of_the_paper(server, open_page, size):
    page = open_page(server, size=size)
    open_recording(page, TALL)
    for layout, gain in (("3×4", 10), ("6×2", 10), ("12×1", 10), ("3×4", 20)):
        press_choice(page, "Layout", layout)
        press_choice(page, "Gain", str(gain))
        top, bottom = page.evaluate("""() => {
            const canvas = document.querySelector('canvas.paper');
            const context = canvas.getContext('2d');
            const countInk = (y) => {
                const { data } = context.getImageData(0, y, canvas.width, 2);
                let count = 0;
                for (let i = 0; i < data.length; i += 4) count += data[i] < 60 && data[i + 1] < 60;
                return count;
            };
            const size = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
            return [countInk(0), countInk(canvas.height - Math.round(1.3 * size) - 3)];
        }""")
        assert top == 0 and (bottom == 0 or (layout, gain) != ("3×4", 10))  # the other ones are scrolled


def test_invalid_samples_are_a_gap(server, open_page):
    page = open_page(server)
    open_recording(page, GAPS)
    box = page.locator("#paper").bounding_box()
    (begin, _), (end, _) = locate_time(page, 4.1), locate_time(page, 4.9)
    shares = [(x - box["x"]) / box["width"] for x in (begin, end)]
    dark = "r < 60 && g < 60 && b < 60"
    before = count_pixels(page, dark, 0.1, 0.1 + shares[1] - shares[0])
    assert before > 200 and count_pixels(page, dark, *shares) < before / 4


def test_evidence_is_shaded_where_it_lies(server, open_page):
    page = open_page(server)
    open_recording(page, RHYTHM)
    page.locator(".class-row[data-class=NSR]").click()
    amber = "r > 225 && g > 150 && g < 240 && b < 120"
    assert count_pixels(page, amber) == 0
    box = page.locator("#paper").bounding_box()
    shares = [(locate_time(page, seconds)[0] - box["x"]) / box["width"] for seconds in (5.9, 6.1, 6.9, 7.1)]
    page.keyboard.press("e")
    page.wait_for_selector("text=for NSR")
    page.wait_for_timeout(100)
    inside, outside = count_pixels(page, amber, shares[1], shares[2]), count_pixels(page, amber, shares[3], 1)
    assert inside > 10_000 and outside == 0 and count_pixels(page, amber, 0.2, shares[0]) == 0
    page.keyboard.press("d")
    playwright.expect(page.get_by_label("Method of the evidence")).to_have_value("occlusion")
    page.locator(".class-row[data-class=AF]").click()
    page.wait_for_selector("text=No method has proved itself for this class.")
    page.wait_for_timeout(100)
    assert count_pixels(page, amber) == 0


def test_evidence_is_no_longer_awaited_if_the_reviewer_moves_on(server, open_page):
    page = open_page(server)
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.route("**/api/explanation*", lambda route: None)  # never answered
    open_recording(page, RHYTHM)
    page.locator(".class-row[data-class=NSR]").click()
    page.keyboard.press("e")
    page.wait_for_selector("text=Computing")
    page.keyboard.press("n")
    page.wait_for_function("name => document.querySelector('.record-title').title !== name", arg=RHYTHM)
    page.wait_for_timeout(100)
    assert len(failed) == 1 and "/api/explanation" in failed[0] and RHYTHM in failed[0]


def test_a_slow_server_is_said_to_be_slow(server, open_page):
    page = open_page(server)
    message = page.evaluate("""async () => {
        const { getExplanation } = await import('/static/api.js');
        AbortSignal.timeout = () => AbortSignal.abort(new DOMException('late', 'TimeoutError'));
        return getExplanation('record', 'AF', 'occlusion').catch((error) => error.message);
    }""")
    assert "did not answer within 60 s" in message


def test_the_agreement_of_two_reviewers_is_measured(make_server, open_page):
    server = make_server()
    for name, keys in (("Ann", "papa"), ("Bea", "paaa")):
        page = open_page(server, name)
        page.locator("tbody tr").first.click()
        for key in keys:
            page.wait_for_selector(".class-row[aria-selected=true][data-class=LAD]")
            page.keyboard.press(key)
            wait_until_saved(page)
            title = page.locator(".record-title").get_attribute("title")
            page.keyboard.press("n")
            page.wait_for_function("title => document.querySelector('.record-title').title !== title", arg=title)
    page.get_by_role("link", name="Agreement").click()
    cell = page.locator(".matrix tbody tr", has=page.locator("th", has_text="Ann")).locator("td").nth(1)
    assert "3 of 4 the same" in cell.inner_text()
    assert "0.50" in cell.inner_text()
    link = page.locator(".plain a")
    name = link.inner_text()
    link.click()
    page.wait_for_selector(f".record-title[title='{name}']")


def test_names_with_markup_are_shown_literally(server, open_page):
    page = open_page(server)
    assert MARKUP in page.locator("tbody").inner_text() or MARKUP in rows(page)
    open_recording(page, MARKUP)
    assert page.locator(".record-title").inner_text() == MARKUP
    assert page.locator("main img").count() == 0


def test_lead_names_are_whole_if_there_is_space_and_else_cut_in_the_middle(server, open_page):
    page = open_page(server)
    page.evaluate("""() => {
        window.drawn = new Set();
        const draw = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, x, ...rest) {
            window.drawn.add(JSON.stringify([text, x + this.measureText(text).width]));
            return draw.call(this, text, x, ...rest);
        };
    }""")
    open_recording(page, NAMED)
    page.wait_for_timeout(100)
    drawn = [json.loads(text) for text in page.evaluate("() => [...window.drawn]")]
    names = {text for text, _ in drawn if text.startswith("electrode")}
    assert set(LONG_NAMES[:2]) <= names
    cut = names - set(LONG_NAMES[:2])
    assert len(cut) == 2 and all("…" in name and name.endswith(("above", "below")) for name in cut)
    assert all(end <= page.locator("#paper").bounding_box()["width"] for text, end in drawn if text in names)


def test_recordings_of_one_name_in_other_folders_or_another_case_are_not_mixed(server, open_page):
    page = open_page(server, "Folders")
    for name, key in zip(FOLDERS, "pau", strict=True):
        open_recording(page, name)
        assert page.locator(".record-title").inner_text() == name
        page.keyboard.press(key)
        wait_until_saved(page)
    assert [(review[0], review[2]) for review in server.saved("Folders")] == list(
        zip(FOLDERS, ("present", "absent", "unsure"), strict=True)
    )
    open_recording(page, FOLDERS[0])
    assert page.locator(".verdict.present").count() == 1 and page.locator(".verdict.absent").count() == 0


def test_a_name_with_a_line_break_is_listed_and_reviewed(server, open_page):
    page = open_page(server, "Breaks")
    key = escape_name(BREAK)
    page.get_by_label("Search").fill("break")
    wait_for_rows(page, 1)
    assert rows(page) == [key] and key.isprintable() and "\\u000a" in page.locator("tbody").inner_text()
    open_recording(page, key)
    page.keyboard.press("p")
    wait_until_saved(page)
    assert [review[:3:2] for review in server.saved("Breaks")] == [(key, "present")]
    page.reload()
    page.wait_for_selector(".class-row .verdict.present")


def test_errors_are_said_in_words(server, open_page):
    page = open_page(server)
    page.goto(f"{server.url}#/recording/{DAMAGED}")
    page.wait_for_selector("text=This recording cannot be shown.")
    page.goto(f"{server.url}#/recording/nothing")
    page.wait_for_selector("text=There is no recording of this name.")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").get_by_text("Present", exact=True).is_visible()


def test_a_recording_is_reviewed_by_the_keyboard(server, open_page):
    page = open_page(server, "Keyboard")
    open_recording(page, RHYTHM)
    first = page.locator(".class-row[aria-selected=true]").get_attribute("data-class")
    page.keyboard.press("t")
    page.keyboard.type('P waves: x, "y" <b>')
    page.keyboard.press("Enter")
    page.keyboard.press("p")
    page.keyboard.press("ArrowDown")
    second = page.locator(".class-row[aria-selected=true]").get_attribute("data-class")
    page.keyboard.press("u")
    page.keyboard.press("a")  # changes the last verdict
    wait_until_saved(page)
    expected = [(first, "present", 'P waves: x, "y" <b>'), (second, "unsure", ""), (second, "absent", "")]
    assert server.saved("Keyboard") == [(RHYTHM, *review) for review in expected]
    page.reload()
    page.wait_for_selector(f".class-row[data-class={first}] .verdict.present")
    page.locator(f".class-row[data-class={first}]").click()
    assert page.get_by_label("Comment").input_value() == 'P waves: x, "y" <b>'


def test_no_review_is_lost_if_the_server_is_killed(make_server, open_page):
    server = make_server()
    page = open_page(server)
    page.locator("tbody tr").first.click()
    page.wait_for_selector(".class-row[aria-selected=true]")
    expected = []

    def answer(key, verdict):
        row = page.locator(".class-row[aria-selected=true]")
        expected.append(
            (page.locator(".record-title").get_attribute("title"), row.get_attribute("data-class"), verdict)
        )
        page.keyboard.press(key)

    answer("p", "present")
    wait_until_saved(page)
    server.kill()
    answer("a", "absent")
    page.keyboard.press("ArrowDown")
    answer("u", "unsure")
    page.wait_for_selector("text=2 reviews not saved yet.")
    assert [review[:3] for review in server.saved("Ann")] == expected[:1]
    server.start()
    wait_until_saved(page)
    assert [review[:3] for review in server.saved("Ann")] == expected
    assert page.locator(".alert").count() == 0

    server.kill()
    answer("p", "present")
    page.wait_for_selector("text=1 review not saved yet.")
    server.start()
    page.reload()  # whether it is sent before or after, it is not lost
    wait_until_saved(page)
    assert {review[:3] for review in server.saved("Ann")} == set(expected)


def test_a_second_tab_loses_no_review_of_the_first(make_server, open_page):
    server = make_server()
    first = open_page(server)
    second = first.context.new_page()
    second.goto(server.url)
    second.wait_for_selector(".recordings tbody tr")
    for page in (first, second):
        open_recording(page, RHYTHM)
    server.kill()
    chosen = first.locator(".class-row[aria-selected=true]").get_attribute("data-class")
    first.keyboard.press("p")
    second.keyboard.press("ArrowDown")
    below = second.locator(".class-row[aria-selected=true]").get_attribute("data-class")
    second.keyboard.press("a")
    for page in (first, second):
        page.wait_for_selector("text=not saved yet.")
    second.close()
    server.start()
    wait_until_saved(first)
    first.reload()
    wait_until_saved(first)
    assert {review[1:3] for review in server.saved("Ann")} == {(chosen, "present"), (below, "absent")}


def test_two_reviewers_in_two_browsers_review_at_once(server, open_page):
    pages = {name: open_page(server, name) for name in ("Ann", "Błażej")}
    for page in pages.values():
        open_recording(page, RHYTHM)
    keys = {"Ann": "p", "Błażej": "a"}
    for _ in range(10):
        for name, page in pages.items():
            page.keyboard.press(keys[name])
            page.keyboard.press("ArrowDown")
    for name, verdict in (("Ann", "present"), ("Błażej", "absent")):
        wait_until_saved(pages[name])
        reviews = server.saved(name)
        assert len({review[1] for review in reviews}) == len(reviews) == 10
        assert {review[2] for review in reviews} == {verdict}


def test_a_blinded_reviewer_sees_nothing_before_the_answer(make_server, open_page):
    server = make_server("--blinded")
    page = open_page(server)
    answers = []
    page.on("response", lambda response: "/api/record" in response.url and answers.append(response.json()))
    page.reload()
    page.wait_for_selector(".recordings tbody tr")
    open_recording(page, RHYTHM)
    page.wait_for_timeout(500)

    def find_hidden(value):
        """Yield what the answers of the server tell of labels and predictions."""
        if isinstance(value, list):
            for item in value:
                yield from find_hidden(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                if key in HIDDEN:
                    yield item
                else:
                    yield from find_hidden(item)

    assert len(answers) >= 2 and all(value is None for value in find_hidden(answers))
    panel = page.locator(".panel")
    assert panel.locator(".mark.on, .number, .suspected").count() == 0
    assert "hidden until you have answered" in panel.inner_text()
    order = panel.locator(".class-row[data-class]").evaluate_all("rows => rows.map(row => row.dataset.class)")
    open_recording(page, TWO_LEADS)
    assert panel.locator(".class-row[data-class]").evaluate_all("rows => rows.map(row => row.dataset.class)") == order
    page.keyboard.press("v")
    page.wait_for_selector("text=Answer first")  # the server's reply, which could otherwise come after the answer
    assert panel.locator(".mark.on, .number").count() == 0
    page.keyboard.press("a")
    wait_until_saved(page)
    assert panel.locator(".mark.on, .number").count() == 0
    page.keyboard.press("v")
    page.wait_for_selector(".class-row[data-class=NSR] .mark.on")
    assert "yes" in (server.reviews / "Ann.csv").read_text()


def test_a_blinded_review_list_is_answered_by_one_key_a_recording(make_server, open_page):
    server = make_server("--blinded", "--ask", "PVC")
    page = open_page(server)
    names = rows(page)
    assert len(names) == 5
    page.locator("tbody tr").first.click()
    for name in names:
        page.wait_for_selector(f".record-title[title='{name}']")
        page.wait_for_selector(".class-row[aria-selected=true][data-class=PVC]")
        assert page.locator(".panel .mark.on, .panel .number").count() == 0
        page.keyboard.press("a")
        page.wait_for_selector(".class-row[data-class=PVC] .number")  # shown without asking for it
        page.keyboard.press("n")
    assert [review[:3] for review in server.saved("Ann")] == [(name, "PVC", "absent") for name in names]


def test_the_list_fills_while_recordings_are_predicted(make_server, open_page):
    page = open_page(make_server("--rate", "10"))
    page.wait_for_selector("text=Predicting")
    assert page.get_by_text("not yet").count() > 0
    page.wait_for_function("() => !document.querySelector('.predicting').textContent", timeout=30_000)
    page.wait_for_function("() => !document.querySelector('tbody').textContent.includes('not yet')")


def test_a_recording_is_painted_without_delay(server, open_page, capsys):
    """From the click until the trace is on the screen, and from the last byte of the signal until then."""
    page = open_page(server)
    open_row = """(name) => new Promise((resolve) => {
        const start = performance.now();
        const finish = () => {
            const end = performance.now();
            const [{ responseEnd }] = performance.getEntriesByType('resource').filter((entry) =>
                entry.name.includes('/api/signal') && entry.startTime >= start && entry.name.includes(name));
            resolve([end - start, end - responseEnd]);
        };
        new MutationObserver((changes, observer) => {
            if (!changes.some(({ target }) => target.id === 'paper' && target.ariaLabel.includes(name))) return;
            observer.disconnect();
            requestAnimationFrame(() => setTimeout(finish));  // the frame after the drawing is on the screen
        }).observe(document, { subtree: true, attributeFilter: ['aria-label'] });
        document.querySelector(`tr[data-record='${name}']`).click();
    })"""
    durations = []
    for _ in range(OPENINGS):
        page.goto(f"{server.url}#/?search={RHYTHM}")
        page.reload()  # nothing is loaded ahead
        wait_for_rows(page, 1)
        page.wait_for_timeout(200)
        durations.append(page.evaluate(open_row, RHYTHM))
    opening, painting = np.median(durations, axis=0)
    with capsys.disabled():
        print(f"\npainted {opening:.0f} ms after the click, {painting:.0f} ms after the last byte")
    assert opening < TIME_FACTOR * PAINT_LIMIT


def test_a_recording_is_zoomed_and_moved_without_delay(server, open_page, capsys):
    page = open_page(server)
    open_recording(page, RHYTHM)
    frames, drawn = page.evaluate("""async () => {
        const canvas = document.getElementById('paper');
        const box = canvas.getBoundingClientRect();
        const [times, drawn] = [[], []];
        for (let i = 0; i < 90; i++) {
            const [x, y] = [box.left + 400, box.top + 250];
            canvas.dispatchEvent(new WheelEvent('wheel', { deltaY: i < 45 ? -60 : 60, clientX: x, clientY: y,
                shiftKey: i % 3 === 0, cancelable: true }));
            times.push(await new Promise(requestAnimationFrame));
            drawn.push(document.querySelector('.readout').textContent);
        }
        return [times, new Set(drawn).size];
    }""")
    intervals = np.diff(frames)
    with capsys.disabled():
        print(f"\na frame every {np.median(intervals):.1f} ms (95 %: {np.quantile(intervals, 0.95):.1f})")
    assert np.median(intervals) < TIME_FACTOR * FRAME_LIMIT
    assert drawn > 40  # each turn of the wheel draws another view


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080), (3840, 2160)])
def test_everything_fits_on_the_screen(server, open_page, size):
    page = open_page(server, size=size)
    overflow = (
        "document.documentElement.scrollWidth > innerWidth || document.documentElement.scrollHeight > innerHeight"
    )
    assert not page.evaluate(overflow)
    open_recording(page, RHYTHM)
    assert not page.evaluate(overflow)
    boxes = [
        page.locator(selector).bounding_box() for selector in (".stage", ".panel", ".panel-footer", ".status-line")
    ]
    assert all(box["x"] + box["width"] <= size[0] and box["y"] + box["height"] <= size[1] for box in boxes)
    paper = page.locator("#paper").bounding_box()
    assert paper["width"] * paper["height"] > 0.5 * size[0] * size[1]
