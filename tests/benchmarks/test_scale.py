import os
import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import scale, scale_client
from benchmarks.scale import Measured
from ecg.data.shards import PREFIX
from ecg.runtime.locks import lock_folder


def test_what_has_been_measured_is_kept_and_not_measured_again(tmp_path):
    path, calls = tmp_path / "measured.json", []
    for _ in range(2):
        measured = Measured(path)
        assert measured.get("one", lambda: calls.append(1) or {"seconds": 2.5}) == {"seconds": 2.5}
    assert calls == [1] and measured.has(["one"]) and not measured.has(["one", "two"])


def test_the_overhead_is_the_median_of_the_ratios_of_all_rounds():
    def reading(seconds, processors, digest="d"):
        return {"recordings": 5000, "digest": digest, "seconds": seconds, "processors": processors}

    rounds = [{"local": reading(10, 20), "cluster": reading(cluster, 22)} for cluster in (9, 11, 30)]
    clock, processors = list(scale.format_overhead(rounds))[2:]
    assert "read 5,000 recordings" in clock and "3 ratios from 0.90 to 3.00 | 1.10 | at most 1.2 | yes |" in clock
    assert "| 1.10 |" in processors
    rounds[0]["local"] = reading(10, 20, "other")
    with pytest.raises(AssertionError, match="the stores differ"):
        list(scale.format_overhead(rounds))


def outcome(recordings, client, traced, worker=60):
    """What `watch_steps` returns if a step takes 2 ms a recording by the clock and 3 ms of the processors."""
    step = {"client": client, "worker": worker, "seconds": 0.002 * recordings, "processors": 0.001 * recordings,
            "workers' processors": 0.002 * recordings, "traced peak": traced, "traced": traced / 2}  # fmt: skip
    reading = step | {"recordings": recordings, "arrays": {"names": 40 * recordings}}
    return {"steps": {"reading": reading, "split": step}, "files": {"samples": 60_000 * recordings}}


def test_growth_is_given_for_a_recording_and_compared_with_the_fewest():
    lines = list(scale_client.format_growth({1000: outcome(990, 300, 1e6), 10_000: outcome(9990, 330, 10e6)}))
    assert lines[0] == "| | 1,000 | 10,000 | 10,000 against 1,000 |"
    for line in ("| client, reading: peak MB | 300 | 330 | 1.10 |",
                 "| largest worker, reading: peak MB | 60 | 60 | 1.00 |",
                 "| split: ms a recording, by the clock | 2.00 | 2.00 | 1.00 |",
                 "| reading: ms a recording, the processors' | 3.00 | 3.00 | 1.00 |",
                 "| split: ms a recording, the processors' | 1.00 | 1.00 | 1.00 |",
                 "| samples, on the disk | 60,000 |", "| `names`, in memory | 40 |",
                 "| client, split, at most | 1,000 |", "| client, split, at its end | 500 |"):  # fmt: skip
        assert line in lines


def test_a_worker_that_writes_a_shard_is_found(tmp_path):
    finished, unfinished = tmp_path / f"{PREFIX}1.int16", tmp_path / f".part.x.{PREFIX}1.int16"
    for path, is_found in ((finished, False), (unfinished, True)):
        command = ["sh", "-c", "sleep 60 & echo; wait"]  # the shell stands for the process that keeps a worker alive
        with (
            open(path, "w") as file,
            subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[file.fileno()]) as shell,
        ):
            shell.stdout.readline()
            (worker,) = scale.children_of(shell.pid)
            writers = scale.find_writers(SimpleNamespace(workers=[shell]), tmp_path)
            assert writers == ([worker] if is_found else [])
            os.kill(worker, 9)


def test_a_wrong_figure_and_a_second_run_in_the_folder_are_reported(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["scale", str(tmp_path), "overheat"])
    with pytest.raises(SystemExit):
        scale.main()
    assert "no figure is called overheat" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["scale", str(tmp_path), "kills"])
    with lock_folder(tmp_path), pytest.raises(BlockingIOError, match="another process is at work"):
        scale.main()


@pytest.mark.slow
def test_scale_is_measured_from_end_to_end_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "DISTINCT", 40)
    sizes = ["--records", "640", "--sizes", "60", "120", "--rounds", "1", "--kills", "1"]
    monkeypatch.setattr("sys.argv", ["scale", str(tmp_path), *sizes])
    scale.main()
    printed = capsys.readouterr().out
    assert "| two workers read 6" in printed and "| 640 | 10 | 1 | " in printed and "| yes | yes |" in printed
    assert "| client, thresholds: peak MB |" in printed and "| 120 against 60 |" in printed
    assert not {"data", "store", "expected"} & {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(scale, "start_cluster", None)  # nothing is measured anew
    scale.main()
    assert capsys.readouterr().out == printed
