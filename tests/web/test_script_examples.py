"""The examples in JavaScript predict as the models, in Node and in a browser."""

import json
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import wfdb
from export_helpers import EXAMPLES, SHALLOW, check_prediction, make_exported_bundle, write_examples

from ecg.data.leads import LEADS
from ecg.models.export import export_bundle
from ecg.models.export_contract import describe_contract
from ecg.models.onnx_export import ONNX_PACKAGES

pytestmark = pytest.mark.web

PACKAGES = Path(__file__).parents[2] / "build" / "node" / "node_modules"  # by make test-web
LEAD_COUNTS = (12, 2)
# Predicts all recordings with all models; `read` returns the content of a file.
PREDICT_ALL = """
import * as ort from "onnxruntime-web";
import { predict } from "./predict_onnx.mjs";

export async function predictAll(read) {
  const parse = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
  const predictions = {};
  for (const count of await parse("counts.json")) {
    const session = await ort.InferenceSession.create(await read(`${count}.onnx`));
    const model = await parse(`${count}.json`);
    predictions[count] = [];
    for (const { leads, frequency } of await parse("recordings.json")) {
      predictions[count].push(await predict(session, model, leads, frequency));
    }
  }
  return predictions;
}
"""
IN_NODE = """
import { readFileSync } from "node:fs";
import { predictAll } from "./predict_all.mjs";

console.log(JSON.stringify(await predictAll(async (name) => new Uint8Array(readFileSync(name)))));
"""
IN_BROWSER = """<!doctype html>
<link rel="icon" href="data:,">
<script type="importmap">
{"imports": {"onnxruntime-web": "./node_modules/onnxruntime-web/dist/ort.bundle.min.mjs"}}
</script>
<script type="module">
import { predictAll } from "./predict_all.mjs";
window.predictAll = () => predictAll(async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer()));
</script>
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Recordings without faults of 10 and of 17.3 s, as the paths of their headers."""
    return write_examples(tmp_path_factory.mktemp("records"), 4, 17.3)


@pytest.fixture(scope="module")
def bundles():
    return {n_leads: make_exported_bundle(n_leads, SHALLOW) for n_leads in LEAD_COUNTS}


@pytest.fixture(scope="module")
def folder(bundles, records, tmp_path_factory):
    """A folder with the examples, onnxruntime-web, the recordings, and an ONNX file and its description by leads."""
    if not (PACKAGES / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is missing: make test-web installs it if npm is there")
    folder = tmp_path_factory.mktemp("site")
    (folder / "node_modules").symlink_to(PACKAGES)
    for path in EXAMPLES.glob("*.mjs"):
        shutil.copy(path, folder)
    for n_leads, bundle in bundles.items():
        export_bundle(bundle, folder / f"{n_leads}.onnx")
        (folder / f"{n_leads}.json").write_text(describe_contract(bundle, ONNX_PACKAGES))
    signals = [wfdb.rdrecord(str(header.with_suffix(""))) for header in records]
    recordings = [
        {"frequency": signal.fs, "leads": dict(zip(signal.sig_name, signal.p_signal.T.tolist(), strict=True))}
        for signal in signals
    ]
    assert all(recording["leads"].keys() == {*LEADS} for recording in recordings)
    (folder / "recordings.json").write_text(json.dumps(recordings))
    (folder / "counts.json").write_text(json.dumps(LEAD_COUNTS))
    (folder / "predict_all.mjs").write_text(PREDICT_ALL)
    return folder


def check_predictions(predictions, bundles, records):
    """Check that the predictions by number of leads and recording are those of the models."""
    assert [*predictions] == sorted(map(str, LEAD_COUNTS), key=int)
    for n_leads, bundle in bundles.items():
        for record, classes in zip(records, predictions[str(n_leads)], strict=True):
            probabilities = np.array([entry["probability"] for entry in classes])
            check_prediction(bundle, record, probabilities, np.array([entry["predicted"] for entry in classes]))


@pytest.mark.skipif(not shutil.which("node"), reason="node is missing")
def test_node_predicts_with_an_onnx_file(folder, bundles, records):
    (folder / "main.mjs").write_text(IN_NODE)
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_predictions(json.loads(done.stdout), bundles, records)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def log_message(self, format, *arguments):
        pass


@pytest.fixture(scope="module")
def address(folder):
    """The address of a server of the folder."""
    (folder / "index.html").write_text(IN_BROWSER)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_browser_predicts_with_an_onnx_file(browser, address, bundles, records):
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("window.predictAll")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    predictions = page.evaluate("window.predictAll()")
    page.close()
    check_predictions(predictions, bundles, records)
    assert requests and all(url.startswith((address, "blob:", "data:")) for url in requests), requests
