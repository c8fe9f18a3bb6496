"""Every command of `gridpost` as a user runs it: the installed program in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from functools import partial

import pytest
from live_bus import BIN, HEADER, LiveBus, channel_table, enrol, run

KWH = "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A bus that is not running."""
    return LiveBus.make(tmp_path_factory.mktemp("idle") / "bus")


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A running bus with IED-1 of meter M1 enrolled and a complete day of it stored."""
    bus = LiveBus.make(tmp_path_factory.mktemp("busy") / "bus", mv90={"poll_s": 1, "enabled": False}).start()
    table = channel_table("M1")
    device = enrol(bus.wire, bus.add("IED-1", table), table)
    payload = device.payload("m-1", ["1.5"] * 96, first_end=1767225600 + 900)
    status, body = bus.wire.post(device.seal(payload))
    assert status == 200
    device.receipt(body, payload)
    yield bus
    bus.kill()


def failed(done: subprocess.CompletedProcess, code: str) -> str:
    """A failure of ours: exit 1, one line with the code, no traceback, nothing on standard output."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error[{code}]: "), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def misused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Usage: gridpost")
    assert done.stdout == ""
    return done.stderr


# --- init ------------------------------------------------------------------------------------------------------------


def test_init_makes_a_bus_whose_secrets_are_its_owners_alone(tmp_path):
    done = run("init", tmp_path / "new" / "bus", "--id", "north")
    assert done.returncode == 0
    folder = tmp_path / "new" / "bus"
    assert sorted(path.name for path in folder.iterdir()) == [
        "bus-rsa.key", "bus-rsa.pem", "bus.key", "bus.pem", "ca.key", "ca.pem", "gridpost.db", "gridpost.toml", "mv90",
    ]  # fmt: skip
    for secret in ("bus-rsa.key", "bus.key", "ca.key", "gridpost.db"):
        assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600
    assert 'id = "north"' in (folder / "gridpost.toml").read_text()
    assert "gridpost serve" in done.stdout
    assert [path.name for path in folder.parent.iterdir()] == ["bus"], "nothing is left beside it"


def test_init_speaks_json(tmp_path):
    done = run("init", tmp_path / "bus", "--json")
    assert json.loads(done.stdout) == {
        "config": str(tmp_path / "bus" / "gridpost.toml"),
        "ca_certificate": str(tmp_path / "bus" / "ca.pem"),
    }


def test_init_takes_an_empty_folder_and_the_longest_id(tmp_path):
    assert run("init", tmp_path, "--id", "x" * 64).returncode == 0


def test_init_twice_changes_nothing(tmp_path):
    run("init", tmp_path / "bus")
    before = {path.name: path.read_bytes() for path in (tmp_path / "bus").iterdir() if path.is_file()}
    failed(run("init", tmp_path / "bus"), "already-exists")
    assert {path.name: path.read_bytes() for path in (tmp_path / "bus").iterdir() if path.is_file()} == before


def test_init_into_a_folder_of_somebodys_leaves_it_alone(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    failed(run("init", tmp_path), "already-exists")
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_init_onto_a_file_is_refused(tmp_path):
    (tmp_path / "bus").write_text("a file")
    failed(run("init", tmp_path / "bus"), "already-exists")
    failed(run("init", tmp_path / "bus" / "below"), "file-unwritable")
    assert (tmp_path / "bus").read_text() == "a file"


@pytest.mark.parametrize("bus_id", ["", "x" * 65, "a\nb"])
def test_init_refuses_an_id_that_cannot_be(tmp_path, bus_id):
    assert "'--id'" in misused(run("init", tmp_path / "bus", "--id", bus_id))
    assert list(tmp_path.iterdir()) == []


def test_init_refuses_an_address_that_is_none(tmp_path):
    assert "'--http'" in misused(run("init", tmp_path / "bus", "--http", "80"))
    assert list(tmp_path.iterdir()) == []


def test_init_killed_at_any_moment_leaves_a_whole_bus_or_none(tmp_path):
    """Five kills over its run; what is there afterwards serves, or can be made."""
    whole = 0
    for attempt in range(5):
        folder = tmp_path / str(attempt) / "bus"
        process = subprocess.Popen([BIN / "gridpost", "init", folder], stdout=subprocess.DEVNULL)
        try:
            process.wait(0.2 + 0.1 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if folder.exists() and any(folder.iterdir()):
            whole += 1
            assert run("status", "--json", "--config", folder / "gridpost.toml").returncode == 0
        else:
            assert run("init", folder).returncode == 0
    assert whole < 5, "no kill came early enough to mean anything"


# --- ied -------------------------------------------------------------------------------------------------------------


def csv(tmp_path, text: str):
    file = tmp_path / "channels.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_ied_add_prints_a_code_once_and_show_does_not(idle, tmp_path):
    added = idle.json("ied", "add", "A-1", "--channels", csv(tmp_path, channel_table("MA", ("E1", "B1"))))
    assert added["serial"] == "A-1"
    assert added["channels"] == 2
    serial, _, coded = added["code"].partition(".")
    assert serial == "A-1"
    assert len(coded) == 42  # 26 octets in base32: 80 bits of secret, 128 of fingerprint
    shown = idle.run("ied", "show", "A-1", "--json").stdout
    assert coded not in shown
    assert json.loads(shown)["state"] == "waiting"
    assert [one["stream"] for one in json.loads(shown)["channel_list"]] == ["E1", "B1"]
    listed = idle.json("ied", "list")["ieds"]
    assert "A-1" in [ied["serial"] for ied in listed]
    text = idle.run("ied", "list").stdout
    assert "A-1" in text
    assert "waiting" in text


def test_two_codes_are_never_the_same(idle, tmp_path):
    codes = {idle.add(f"C-{number}", channel_table(f"MC{number}")).partition(".")[2] for number in range(2)}
    assert len(codes) == 2


def test_ied_add_twice_is_refused_until_it_is_revoked(idle, tmp_path):
    file = csv(tmp_path, channel_table("MB"))
    first = idle.json("ied", "add", "B-1", "--channels", file)
    failed(idle.run("ied", "add", "B-1", "--channels", file), "already-exists")
    assert idle.json("ied", "revoke", "B-1")["serial"] == "B-1"
    assert idle.json("ied", "show", "B-1")["state"] == "revoked"
    again = idle.json("ied", "add", "B-1", "--channels", file)
    assert again["code"] != first["code"]
    assert again["channels"] == 1


def test_a_channel_of_another_ied_is_refused(idle, tmp_path):
    file = csv(tmp_path, channel_table("MD"))
    idle.json("ied", "add", "D-1", "--channels", file)
    said = failed(idle.run("ied", "add", "D-2", "--channels", file), "already-exists")
    assert "D-1" in said
    failed(idle.run("ied", "show", "D-2"), "not-found")


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["UP,M,E1,1.2.3,kWh,900,Etc/UTC,2020-01-01T00:00:00Z"], "line 2"),
        ([f"UP,M,E1,{KWH},kWh,900,Mars/Olympus,2020-01-01T00:00:00Z"], "Mars/Olympus"),
        ([f"UP,M,E1,{KWH},kWh,900,Etc/UTC,yesterday"], "line 2"),
        ([f"UP,M,E1,{KWH},kWh,1800,Etc/UTC,2020-01-01T00:00:00Z"], "900"),
        ([f"UP,M,E1,{KWH},kVAh,900,Etc/UTC,2020-01-01T00:00:00Z"], "kVAh"),
        ([f"UP,M,E1,{KWH},kWh,900,Etc/UTC,2020-01-01T00:00:00Z"] * 2, "line 3"),
        ([f"UP,M,,{KWH},kWh,900,Etc/UTC,2020-01-01T00:00:00Z", f"UP,M,E1,{KWH},kWh,900,Etc/UTC,2020-01-01T00:00:00Z"],
         "no stream name"),
        ([f",M,E1,{KWH},kWh,900,Etc/UTC,2020-01-01T00:00:00Z"], "usage_point"),
    ],
    ids=["type", "zone", "time", "length", "unit", "twice", "ambiguous", "no usage point"],
)  # fmt: skip
def test_a_bad_channel_table_is_refused_by_line_and_enrols_nobody(idle, tmp_path, rows, named):
    file = csv(tmp_path, "\n".join([HEADER, *rows]) + "\n")
    done = idle.run("ied", "add", "BAD-1", "--channels", file)
    assert done.returncode == 1
    assert done.stderr.startswith(("error[file-invalid]", "error[not-found]"))
    assert named in done.stderr
    assert "BAD-1" not in [ied["serial"] for ied in idle.json("ied", "list")["ieds"]]


def test_an_ied_that_only_sends_events_needs_no_channels(idle, tmp_path):
    file = csv(tmp_path, HEADER + "\n")
    assert idle.json("ied", "add", "RELAY-1", "--kind", "protective relay", "--channels", file)["channels"] == 0


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\xfe", b"PK\x03\x04", "naïve;table\n".encode("latin-1"), b"a" * 100_000]
)
def test_a_file_that_is_no_table_is_refused(idle, tmp_path, content):
    file = tmp_path / "channels.csv"
    file.write_bytes(content)
    failed(idle.run("ied", "add", "BAD-1", "--channels", file), "file-invalid")


@pytest.mark.parametrize("serial", ["", "x" * 65, "../x", "=cmd|' /C calc'!A0"])
def test_a_serial_that_cannot_be_one_is_refused(idle, tmp_path, serial):
    assert "'SERIAL'" in misused(idle.run("ied", "add", serial, "--channels", csv(tmp_path, channel_table("MX"))))


def test_what_is_not_there_is_not_found(idle, tmp_path):
    failed(idle.run("ied", "show", "NOBODY"), "not-found")
    failed(idle.run("ied", "revoke", "NOBODY"), "not-found")
    failed(run("status", "--config", tmp_path / "gridpost.toml"), "not-found")
    failed(run("status", "--config", tmp_path), "not-found")


def test_with_json_a_failure_is_an_object_for_machines_too(idle, tmp_path):
    taken = tmp_path / "channels.csv"
    taken.write_text(channel_table("M-JSON"))
    idle.json("ied", "add", "JSON-1", "--channels", taken)
    done = idle.run("ied", "add", "JSON-2", "--channels", taken, "--json")
    assert (done.returncode, done.stderr[:21]) == (1, "error[already-exists]")
    error = json.loads(done.stdout)["error"]
    assert (error["code"], [item["code"] for item in error["items"]]) == ("already-exists", ["channel-taken"])
    assert "JSON-1" in error["reason"] + error["items"][0]["reason"]
    assert done.stderr.count("JSON-1") == 1, "nothing is said twice"
    absent = run("status", "--json", "--config", tmp_path / "gridpost.toml")
    assert (absent.returncode, json.loads(absent.stdout)["error"]["code"]) == (1, "not-found")


def test_wrong_command_lines_are_usage(idle, tmp_path):
    misused(run("frobnicate"))
    misused(run("init"))
    misused(run("ied", "add", "X"))
    misused(idle.run("ied", "add", "X", "--channels", tmp_path / "absent.csv"))
    misused(idle.run("ied", "add", "X", "--kind", "toaster", "--channels", csv(tmp_path, channel_table("M"))))
    misused(idle.run("export", "mv90", "--from", "yesterday", "--to", "2026-01-01", "--out", tmp_path / "out"))
    misused(idle.run("export", "mv90", "--from", "2026-01-02", "--to", "2026-01-01", "--out", tmp_path / "out"))
    misused(idle.run("status", "--jsn"))
    assert not (tmp_path / "out").exists()


def test_help_and_version_need_nothing():
    assert "serve" in run("--help").stdout
    assert run("--version").stdout.startswith("gridpost, version ")


def test_help_starts_without_twisted_or_the_store():
    code = "import sys; sys.argv = ['gridpost', '--help']\ntry:\n    from gridpost.server.cli import main; main()\n"
    code += "finally:\n    print([name for name in ('twisted', 'sqlalchemy', 'zeep') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("[]\n")


# --- configuration ---------------------------------------------------------------------------------------------------


def test_a_mistyped_key_stops_every_command_that_reads_it(make_bus):
    bus = make_bus()
    bus.config.write_text(bus.config.read_text() + "\n[limits]\nbody = 1\n")
    for command in (["serve"], ["status"], ["ied", "list"]):
        assert "limits" in failed(bus.run(*command), "config-invalid")


# --- status and export -----------------------------------------------------------------------------------------------


def test_status_counts_what_is_there(busy):
    status = busy.json("status")
    assert (status["entries"], status["interval_values"], status["conflicts"]) == (1, 96, 0)
    assert status["missing_intervals"] == 0
    assert busy.run("status").returncode == 0
    assert busy.json("ied", "show", "IED-1")["last_entry"] == "0:0"


def test_dead_letters_are_listed_and_asked_for_again_beside_the_running_bus(make_bus):
    bus = make_bus(mv90={"poll_s": 1}).start()
    assert bus.json("dead-letters") == {"dead_letters": [], "retried": 0}
    (bus.folder / "mv90").mkdir(exist_ok=True)
    taken = bus.folder / "mv90" / "M1_20260101_r01.mde"
    taken.write_bytes(b"somebody's")
    device = bus.enrol("IED-1", channel_table("M1"))
    bus.wire.post(device.seal(device.payload("m-1", ["1.5"] * 96, first_end=1767225600 + 900)))
    end = time.monotonic() + 20
    while not (letters := bus.json("dead-letters")["dead_letters"]) and time.monotonic() < end:
        time.sleep(0.1)
    assert [(one["reader"], one["subject"], one["reason"][:14]) for one in letters] == [
        ("mv90", taken.name, "already-exists")
    ]
    assert taken.name in bus.run("dead-letters").stdout
    taken.unlink()
    assert bus.json("dead-letters", "--retry")["retried"] == 1
    while not taken.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert taken.read_bytes() != b"somebody's"
    assert bus.json("dead-letters")["dead_letters"] == []


def test_a_second_serve_on_one_store_is_refused_and_the_first_goes_on(busy):
    said = failed(busy.run("serve"), "store-unavailable")
    assert str(busy.process.pid) in said
    assert busy.wire.get("/health")[0] == 200


def test_serve_on_a_taken_port_says_so(make_bus):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        bus = make_bus(listen={"http": f"127.0.0.1:{port}"})
        assert str(port) in failed(bus.run("serve"), "config-invalid")
    assert bus.start().wire.get("/health")[0] == 200, "and starts once it is free"


@pytest.mark.parametrize("missing", ["ca.key", "bus.key"])
def test_serve_without_one_of_its_files_says_which(make_bus, missing):
    bus = make_bus()
    (bus.folder / missing).unlink()
    assert missing in failed(bus.run("serve"), "not-found")


@pytest.mark.parametrize("broken", ["bus.key", "ca.pem"])
def test_serve_with_a_damaged_key_says_so(make_bus, broken):
    bus = make_bus()
    (bus.folder / broken).write_bytes(b"-----BEGIN NOTHING-----\n")
    failed(bus.run("serve"), "config-invalid")


def test_serve_with_a_store_that_is_none_says_so(make_bus):
    bus = make_bus()
    (bus.folder / "gridpost.db").write_bytes(b"not a database at all" * 1000)
    failed(bus.run("serve"), "store-unavailable")
    failed(bus.run("status"), "store-unavailable")


def test_serve_without_its_database_makes_none(make_bus):
    """An empty store in the place of a lost one would number from 0 again."""
    bus = make_bus()
    (bus.folder / "gridpost.db").unlink()
    failed(bus.run("serve"), "not-found")
    assert not (bus.folder / "gridpost.db").exists()


def test_serve_prints_its_addresses_for_people_too(make_bus):
    bus = make_bus()
    process = subprocess.Popen(
        [BIN / "gridpost", "serve", "--config", bus.config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert line.startswith("listening on http://127.0.0.1:")
    assert line.rstrip().endswith("/metering?wsdl")
    assert (process.returncode, errors) == (0, "")


def test_serve_killed_while_it_starts_starts_the_next_time(make_bus):
    bus = make_bus()
    for attempt in range(4):
        process = subprocess.Popen([BIN / "gridpost", "serve", "--config", bus.config], stdout=subprocess.DEVNULL)
        time.sleep(0.25 * attempt)  # the moment of the kill, not a wait for anything
        process.kill()
        process.wait()
    assert bus.start().started_s < 5
    assert bus.stop() == 0


def test_ied_add_killed_at_any_moment_adds_it_whole_or_not_at_all(make_bus):
    bus = make_bus()
    streams = tuple(f"E{number}" for number in range(200))
    outcomes = set()
    for attempt in range(5):
        serial = f"IED-{attempt}"
        file = bus.folder / "channels.csv"
        file.write_text(channel_table(f"M{attempt}", streams))
        command = [BIN / "gridpost", "ied", "add", serial, "--channels", file, "--config", bus.config]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            process.wait(0.2 + 0.1 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shown = bus.run("ied", "show", serial, "--json")
        if shown.returncode == 0:
            assert len(json.loads(shown.stdout)["channel_list"]) == 200
        outcomes.add(shown.returncode)
    assert 1 in outcomes, "no kill came early enough to mean anything"


def test_export_writes_the_day_and_the_same_bytes_again(busy, tmp_path):
    arguments = ("export", "mv90", "--from", "2026-01-01", "--to", "2026-01-03", "--out")
    (first,) = busy.json(*arguments, tmp_path / "one")["files"]
    assert first["file"] == str(tmp_path / "one" / "M1_20260101.mde")
    assert first["complete"] is True
    busy.json(*arguments, tmp_path / "two")
    one, two = ((tmp_path / name / "M1_20260101.mde").read_bytes() for name in ("one", "two"))
    assert one == two
    assert busy.run(*arguments, tmp_path / "three", "--meter", "M1").stdout.strip().endswith("M1_20260101.mde")


def test_export_of_nothing_says_so(busy, tmp_path):
    arguments = ("export", "mv90", "--from", "2025-01-01", "--to", "2025-01-02", "--out", tmp_path / "none")
    assert busy.json(*arguments) == {"files": []}
    assert "no readings" in busy.run(*arguments).stdout
    failed(busy.run(*arguments, "--meter", "NOBODY"), "not-found")


def test_export_onto_a_file_says_so(busy, tmp_path):
    (tmp_path / "file").write_text("x")
    arguments = ("export", "mv90", "--from", "2026-01-01", "--to", "2026-01-01", "--out")
    failed(busy.run(*arguments, tmp_path / "file" / "below"), "file-unwritable")
    misused(busy.run(*arguments, tmp_path / "file"))


def test_output_into_a_closed_pipe_is_no_traceback(busy):
    command = f"{BIN / 'gridpost'} ied list --json --config {busy.config} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert "Traceback" not in done.stderr
