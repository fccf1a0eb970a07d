import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ecg.data.wave_peaks import PEAKS_PER_CELL, VALUES_PER_PEAK, WavePeaks, decode_peaks, encode_peaks

P, Q, R, S, T = range(5)


@given(st.data())
def test_decoding_inverts_encoding(data):
    length = data.draw(st.integers(8, 5000))
    cells = data.draw(st.integers(1, min(length, 50)))
    batch, start = 3, 17
    times = st.lists(st.tuples(st.integers(-start, length + 9), st.integers(0, 4)), max_size=40, unique=True)
    all_peaks = [sorted(data.draw(times)) for _ in range(batch)]
    flat = np.array([peak for peaks in all_peaks for peak in peaks], int).reshape(-1, 2)
    stored = WavePeaks(
        np.cumsum([0, *map(len, all_peaks)]), (flat[:, 0] + start).astype(np.int32), flat[:, 1].astype(np.int8)
    )
    records = np.array([2, 0, 1])
    targets, weights = encode_peaks(stored, records, np.full(batch, start), length, cells)
    assert targets.shape == weights.shape == (batch, cells, PEAKS_PER_CELL, VALUES_PER_PEAK)
    assert targets.dtype == weights.dtype == np.float32
    for row, record in enumerate(records):
        expected, counts = [], np.zeros(cells, int)
        for sample, wave in all_peaks[record]:
            cell = sample * cells // length
            if 0 <= sample < length and counts[cell] < PEAKS_PER_CELL:
                counts[cell] += 1
                expected.append((sample, wave))
        assert list(zip(*decode_peaks(targets[row], length), strict=True)) == expected


def test_a_cell_holds_confidence_position_and_wave_with_the_papers_weights():
    stored = WavePeaks(np.array([0, 1, 4]), np.array([999, 100, 125, 300]), np.array([T, P, R, S], np.int8))
    targets, weights = encode_peaks(stored, [1], [100], 200, 2)  # the last comes just after the end
    expected, expected_weights = np.zeros((2, 3, 7)), np.zeros((2, 3, 7))
    expected[0, 0], expected[0, 1] = (1, 0, 1, 0, 0, 0, 0), (1, 0.25, 0, 0, 1, 0, 0)
    expected_weights[:, :, 0] = 0.2
    expected_weights[0, :2] = (1, 5, 1, 1, 1, 1, 1)
    np.testing.assert_array_equal(targets[0], expected)
    np.testing.assert_array_equal(weights[0], expected_weights.astype(np.float32))


def test_peaks_below_the_threshold_are_dropped_and_none_lies_outside_its_cell():
    outputs = np.zeros((4, 3, 7))
    outputs[0, 0] = 0.49, 0.5, 1, 0, 0, 0, 0
    outputs[1, 2] = 0.7, 0.5, 0.1, -1, 0.3, 0.2, 0
    outputs[1, 0] = 0.9, 0.8, 0, 0, 0, 0, 0.1
    outputs[3, 1] = 1.2, 1.4, 0.9, 0, 0, 0, 0
    samples, waves = decode_peaks(outputs, 400)
    assert (samples.tolist(), waves.tolist()) == ([150, 180, 399], [R, T, P])
    assert decode_peaks(outputs, 400, threshold=0.4).samples.tolist() == [50, 150, 180, 399]
