"""What bench/peers.py decides without running a server: options, aims, arithmetic, and what the peers read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import equal_work
import handshakes
import load
import peer_builds
import peers
import rounds
import two_processes
import workload

BENCH = Path(peers.__file__).parent


def measured(rate, cpu_us=1000.0):
    return {"rate": rate, "values": 4, "cpu_us": cpu_us, "busy": 1.0, "p50_ms": 1.0, "p99_ms": 2.0, "client_busy": 0.1}


def test_the_defaults_are_the_issues():
    chosen = peers.parse([])
    assert (chosen.sizes, chosen.peers) == ([1, 96], ["jdk", "gsoap", "naive"])
    assert chosen.only == ["peers", "processes", "tls"]
    assert chosen.warm_jdk >= 12
    assert equal_work.AIMS[1, "jdk"] == equal_work.AIMS[1, "gsoap"] == 1.5
    assert (equal_work.AIMS[96, "jdk"], equal_work.AIMS[96, "gsoap"]) == (2, 1)
    assert (two_processes.AIM, handshakes.WANTED_PER_S) == (1.15, 600)


@pytest.mark.parametrize("wrong", [("--only", "peer"), ("--peers", "node"), ("--sizes", "0"), ("--sizes", "x")])
def test_wrong_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        peers.parse(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_missing_tool_is_named_and_ends_it_with_2():
    program = "import sys; sys.path.insert(0, sys.argv[1]); import peers; sys.exit(peers.main(['--only', 'peers']))"
    environment = {"PATH": "/nowhere", "JAVA_HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", program, BENCH], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "missing: gSOAP 2.8: apt-get install gsoap" in done.stderr
    assert done.stdout == ""


def test_ratios_are_of_medians_and_their_spread_of_pairs():
    ours, theirs = [measured(rate) for rate in (200, 300, 240)], [measured(rate) for rate in (100, 120, 60)]
    assert rounds.ratios(ours, theirs) == {"ratio": 2.4, "ratio_min": 2.0, "ratio_max": 4.0}
    result = {"1": equal_work.summary({"gridpost": ours, "jdk": theirs})}
    assert (result["1"]["jdk"]["messages_per_s"], result["1"]["jdk"]["messages_per_s_max"]) == (100, 120)
    row = equal_work.rows(result)[2]
    assert (row[1], row[2], row[-2:]) == ("jdk", "100.0", ("2.40x", "2.00 - 4.00"))


def test_an_aim_holds_at_its_figure_and_not_below_nor_unmeasured():
    def sides(jdk, gsoap):
        return {"jdk": {"ratio": jdk}, "gsoap": {"ratio": gsoap}, "naive": {"ratio": 99.0}}

    held = {aim: holds for aim, _, _, holds in equal_work.reached({"1": sides(1.5, 1.49), "96": sides(2.0, 1.0)})}
    assert [aim for aim, holds in held.items() if not holds] == ["1 intervals over gsoap"]
    assert not all(holds for *_, holds in equal_work.reached({"1": sides(9, 9)}))
    assert [
        holds for *_, holds in two_processes.reached({"1": {"cpu": {"ratio": 1.15}}, "96": {"cpu": {"ratio": 1.16}}})
    ] == [
        True,
        False,
    ]
    assert [holds for *_, holds in handshakes.reached({"per_s": 599.9})] == [False]


@pytest.mark.parametrize("spoiled", [{"problems": ["jdk: no Receipt"]}, {"tls": None}, {"aims": [{"holds": False}]}])
def test_ok_wants_every_section_every_aim_and_no_wrong_answer(spoiled):
    whole = {"peers": {}, "processes": {}, "tls": {}, "problems": [], "aims": [{"holds": True}]}
    assert peers.is_ok(whole)
    result = {name: value for name, value in (whole | spoiled).items() if value is not None}
    assert not peers.is_ok(result)


def test_the_peers_read_each_device_and_channel_with_its_zones_offset():
    (device,) = workload.make_devices(1)
    device.signer = SimpleNamespace(certificate=b"\x30\x00")
    lines = [line.split("\t") for line in peer_builds.enrolled_lines([device])]
    assert lines[0] == ["device", "BENCH-001", "MAA="]
    assert len(lines) == 5
    assert lines[1] == [
        "channel", "BENCH-001", "UP00001", "M00001", "E1", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0",
        "900", "36000", "0",
    ]  # fmt: skip
    assert peer_builds.standard_offset_s("Europe/Berlin") == 3600  # summer time is not standard time
    assert peer_builds.standard_offset_s("Australia/Adelaide") == 34_200


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", (200, b"ab")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", None),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", (500, b"abc")),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
    ],
)
def test_an_answer_counts_when_it_is_whole(received, answer):
    assert load.answer(bytearray(received)) == answer
