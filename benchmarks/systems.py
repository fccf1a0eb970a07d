"""Measure size, training step and prediction of each system's networks.

python -m benchmarks.systems [--rounds N]

Networks are untrained and for 12 leads, as far as the system uses these. Signals are noise of the length that the
system uses, or 10 s if any length is possible. Steps and predictions are timed in turns, after a warm-up round.
"""

import argparse
import statistics
import time

import numpy as np

from ecg.runtime.keras_startup import start_keras

RATE, SECONDS = 250, 10  # signals of networks for any length
BATCH = 16  # maximum number of recordings in a step


def iter_networks():
    """Yield the title of each network, its Stage, and the recordings in a step.

    A system with the network and the signals of an earlier one is excluded.
    """
    from ecg.data.wave_peaks import WavePeaks
    from ecg.models.network_settings import AttentionSettings, RhythmSettings
    from ecg.systems.recipes import SYSTEMS
    from ecg.systems.stage import Stage

    no_peaks = WavePeaks(np.zeros(2, int), np.zeros(0, int), np.zeros(0, int))
    first = {(recipe.network, recipe.views): name for name, recipe in reversed(SYSTEMS.items())}
    for name, recipe in SYSTEMS.items():
        if first[recipe.network, recipe.views] != name:
            continue
        variants = {name: recipe.network}
        if isinstance(recipe.network, RhythmSettings):
            variants = {f"{name}, {depth} layers": RhythmSettings(depth=depth) for depth in (18, 152)}
        elif isinstance(recipe.network, AttentionSettings):
            variants[f"{name}, no attention"] = AttentionSettings(attention=False)
        for title, network in variants.items():
            labels = np.zeros((1, len(recipe.classes)), np.float32)
            rows = np.zeros(1, int)
            loss = recipe.make_loss(recipe.classes, labels, labels)
            stage = Stage(title, title, recipe.leads_of(12), loss, rows, labels, labels, rows, rows, rows, network,
                          recipe.training, recipe.views[0], recipe.output_activation,
                          peaks=no_peaks if recipe.peaks else None,
                          loss_weights=(1.0, recipe.peaks or 0.0))  # fmt: skip
            yield title, stage, min(recipe.training.batch, BATCH)


def make_functions(stage, batch):
    """Return the number of weights, and functions of a step and a prediction."""
    from ecg.data.preprocessing import N_DEMOGRAPHICS
    from ecg.models.numpy_translation import translate_for_numpy
    from ecg.systems.stage import build_network, prediction_part, stage_loss
    from ecg.training.backend import step_runner
    from ecg.training.trainer import compile_network

    network = build_network(stage, "float32")
    loss = stage_loss(stage, network)
    compile_network(network, loss, stage.learning.make_optimizer())
    predictor = translate_for_numpy(prediction_part(stage, network))
    rng, length = np.random.default_rng(0), stage.view.window.length or RATE * SECONDS

    def inputs(count):
        signals = rng.normal(size=(count, length, len(stage.leads))).astype(np.float32)
        return (signals, np.zeros((count, N_DEMOGRAPHICS), np.float32)) if len(network.inputs) > 1 else signals

    n_targets = network.output_shape[-1] // getattr(loss, "outputs_per_label", 1)
    targets = (rng.random((batch, n_targets)) < 0.1).astype(np.float32)
    batch_inputs, inputs_of_one = inputs(batch), inputs(1)
    inputs_of_one = inputs_of_one if isinstance(inputs_of_one, tuple) else (inputs_of_one,)

    def step():
        with step_runner(network) as runner:
            float(runner.train(batch_inputs, targets, np.ones_like(targets)))

    n_weights = sum(weights.size for weights in predictor.weights)
    return n_weights, step, lambda: predictor.predict(*inputs_of_one)


def seconds_of(function):
    """Return the duration of a function in s."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def format_lines(rounds):
    """Yield the lines of the table in Markdown."""
    yield "| network | weights | recordings in a step | a step, median (minimum) | one prediction, median |"
    yield "|---" * 5 + "|"
    for title, stage, batch in iter_networks():
        weights, step, predict = make_functions(stage, batch)
        steps, predictions = [], []
        for _ in range(1 + rounds):
            for run, seconds in ((step, steps), (predict, predictions)):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
        steps, predictions = steps[1:], predictions[1:]
        yield (f"| {title} | {weights:,} | {batch} | {statistics.median(steps):.2f} s ({min(steps):.2f} s) "
               f"| {1000 * statistics.median(predictions):.0f} ms |")  # fmt: skip


def main(arguments=None):
    """Time the networks, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.systems", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    start_keras()
    from ecg.models.numpy_network import use_one_thread_per_network

    use_one_thread_per_network()
    for line in format_lines(options.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
