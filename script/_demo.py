"""The demonstration behind script/demo: drives the installed commands, as a person would type them.

In: the installed `gridpost` and `gridpost-ied` beside this Python. Out: stages on the terminal as they happen, and a
folder under demo-data/ that holds everything. It imports nothing of Gridpost and knows only what the commands say.

Two devices: DEMO-CSV pushes yesterday from a file, so its billing file appears at once, and the month before, which is
billed, proved and compared (`_demo_value.py`) while DEMO-SUNSPEC, which reads a simulated meter each minute, waits for
its first whole one.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import re
import signal
import socket
import subprocess
import sys
import time
from calendar import monthrange
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from _demo_run import GRIDPOST, IED, Process, Trouble, command, process, stage, until
from _demo_value import Value, contracted, value_side, watched

CSV_DEVICE, LIVE_DEVICE = "DEMO-CSV", "DEMO-SUNSPEC"
WAIT_S = 150  # an interval of a minute is whole at the second full minute at the latest
ZONE = "Etc/UTC"
CHANNELS = {
    CSV_DEVICE: (
        ("delivered", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "kWh", 900),
        ("reactive", "0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.73.0", "kvarh", 900),
    ),
    LIVE_DEVICE: (
        ("delivered", "0.0.3.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0", "kWh", 60),
        ("received", "0.0.3.4.19.1.12.0.0.0.0.0.0.0.0.3.72.0", "kWh", 60),
    ),
}


def main() -> int:
    """Run it; return the exit code."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):  # both end it the same way, so nothing it started is left behind
        signal.signal(number, signal.default_int_handler)
    folder = _fresh(Path("demo-data"))
    try:
        with ExitStack() as running:
            _show(folder, running, options)
    except Trouble as trouble:
        print(f"\ndemo stopped: {trouble}\nLogs are in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; everything it made stays in", folder)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/demo")
    parser.add_argument("--once", action="store_true", help="stop everything at the end")
    parser.add_argument("--began", type=int, default=int(time.time()), help=argparse.SUPPRESS)
    return parser.parse_args()


def _show(folder: Path, running: ExitStack, options: argparse.Namespace) -> None:
    stage("bus", f"making a bus in {folder / 'bus'}: settings, device CA, keys, database")
    port = _port()
    command(GRIDPOST, "init", folder / "bus", "--http", f"127.0.0.1:{port}")
    watched(folder, CSV_DEVICE)
    bus = running.enter_context(
        process(folder / "bus.log", GRIDPOST, "serve", "--config", folder / "bus/gridpost.toml")
    )
    url = bus.wait_for("address", lambda said: said.get("addresses"), 30)["addresses"][0]
    stage("bus", f"listening on {url}")

    agent = _live(folder, running, url)
    _enrol(folder, CSV_DEVICE, url)
    files = [_push_yesterday(folder)]
    month = (_today().replace(day=1) - timedelta(days=1)).replace(day=1)
    contracted(folder, month, f"UP-{CSV_DEVICE}")
    _push_month(folder, month)
    value = value_side(folder, month)
    _wait_for_live(folder, agent)
    files += _export_live(folder)
    receipts = {device: _receipts(folder, device) for device in CHANNELS}
    _summary(folder, files, receipts)
    _value_summary(value)
    print(f"\nTook {int(time.time()) - options.began} s, installation included.")
    _next(folder, files, receipts, value)
    if not options.once:
        print(f"\nThe bus and {LIVE_DEVICE} stay up. WSDL: {url}/metering?wsdl\nCtrl-C stops them.", flush=True)
        bus.wait()


# --- the stages ------------------------------------------------------------------------------------------------------


def _live(folder: Path, running: ExitStack, url: str) -> Process:
    """Start the simulated meter and its agent first: the minute they need passes while the rest is shown."""
    simulator = running.enter_context(process(folder / "simulator.log", IED, "simulate", "--meters", "1"))
    meter = simulator.wait_for("meter", lambda said: said.get("ready"), 30)["meters"][0]
    stage("meter", f"a simulated SunSpec meter answers Modbus TCP at 127.0.0.1:{meter['port']}")
    _enrol(folder, LIVE_DEVICE, url, "--modbus", f"127.0.0.1:{meter['port']}")
    settings = folder / LIVE_DEVICE / "ied.toml"
    text = settings.read_text(encoding="utf-8")
    for name, value in (("every_s", 5), ("spread_s", 0)):  # a demonstration does not wait for the quarter hour
        text = re.sub(rf"(?m)^# {name} = .*$", f"{name} = {value}", text)
    settings.write_text(text, encoding="utf-8")
    return running.enter_context(process(folder / f"{LIVE_DEVICE}.log", IED, "run", "--config", settings))


def _enrol(folder: Path, device: str, url: str, *extra: str) -> None:
    table = folder / f"{device}-channels.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["usage_point", "meter", "channel", "reading_type", "unit", "interval_s", "zone", "valid_from"])
        for name, reading_type, unit, interval_s in CHANNELS[device]:
            rows.writerow([f"UP-{device}", device, name, reading_type, unit, interval_s, ZONE, "2020-01-01T00:00:00Z"])
    config = folder / "bus/gridpost.toml"
    code = command(GRIDPOST, "ied", "add", device, "--channels", table, "--config", config)["code"]
    command(IED, "init", "--bus", url, "--code", code, "--channels", table, *extra, folder / device)
    stage("enrolled", f"{device}: made its key, proved its one-time code, got its certificate")


def _push_yesterday(folder: Path) -> Path:
    readings = folder / "yesterday.csv"
    _write_days(readings, [_today() - timedelta(days=1)])
    stage("measured", f"{CSV_DEVICE}: yesterday, 96 quarter hours of 2 channels, in {readings}")
    _push(folder, readings)
    _stored(folder)
    place = until(lambda: _delivered(folder), 30, "the billing file of yesterday")
    stage("file written", f"{CSV_DEVICE}: its day is complete, so its MV-90 file is there: {place}")
    return place


def _push_month(folder: Path, first: date) -> None:
    """Push a whole month, which is then billed."""
    readings = folder / "last-month.csv"
    _write_days(readings, [first + timedelta(days=number) for number in range(monthrange(first.year, first.month)[1])])
    stage("measured", f"{CSV_DEVICE}: {first:%B %Y}, in {readings}")
    _push(folder, readings)


def _push(folder: Path, readings: Path) -> None:
    done = command(IED, "push", readings, "--config", folder / CSV_DEVICE / "ied.toml")
    stage("pushed", f"{CSV_DEVICE}: {done['readings']} readings, signed")
    stage("receipt", f"{CSV_DEVICE}: {done['receipted']} signed receipt(s): what was sent is on the bus's disk")


def _today() -> date:
    return datetime.now(UTC).date()


def _write_days(file: Path, days: list[date]) -> None:
    """96 quarter hours a day of a small workshop: a working day's hump, and reactive energy that follows it."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["channel", "interval_end_utc", "value", "quality"])
        for day in days:
            midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
            noise = random.Random(day.toordinal())  # a day has its values, in whichever file it is
            hump = 4200 if day.weekday() < 5 else 1800
            for number in range(1, 97):
                end = (midnight + timedelta(minutes=15 * number)).strftime("%Y-%m-%dT%H:%M:%SZ")
                watt_hours = 900 + round(hump * math.exp(-(((number - 50) / 18) ** 2))) + noise.randrange(60)
                for channel, amount in (("delivered", watt_hours), ("reactive", watt_hours * 33 // 100)):
                    rows.writerow([channel, end, f"{amount // 1000}.{amount % 1000:03d}", ""])


def _delivered(folder: Path) -> Path | None:
    return next((folder / "bus/mv90").glob(f"{CSV_DEVICE}_*.mde"), None)


def _wait_for_live(folder: Path, agent: Process) -> None:
    """Tell what the agent tells, until a whole minute is stored."""
    stage("waiting", f"{LIVE_DEVICE}: for its first whole minute, two minutes at most")
    limit = time.monotonic() + WAIT_S
    stored = False
    while not stored:
        left = max(1, int(limit - time.monotonic()))
        said = agent.wait_for("receipt of a minute", lambda said: said["event"] in ("measured", "receipted"), left)
        if said["event"] == "measured":
            stage("measured", f"{LIVE_DEVICE}: {said['values']} values at the boundary {said['interval_end']}")
            continue
        stage("pushed", f"{LIVE_DEVICE}: message {said['message_id']}, {said['size']} bytes, signed")
        stage("receipt", f"{LIVE_DEVICE}: stored as entry {said['partition']}:{said['seq']}; the agent forgets it")
        stored = bool(_live_files(folder))
    _stored(folder)


def _stored(folder: Path) -> None:
    status = command(GRIDPOST, "status", "--config", folder / "bus/gridpost.toml")
    stage("stored", f"the bus holds {status['entries']} entries with {status['interval_values']} interval values")


def _live_files(folder: Path) -> list[Path]:
    today = datetime.now(UTC)
    days = ["--from", f"{today - timedelta(days=1):%Y-%m-%d}", "--to", f"{today:%Y-%m-%d}"]
    done = command(
        GRIDPOST, "export", "mv90", *days, "--meter", LIVE_DEVICE, "--out", folder / "export",
        "--config", folder / "bus/gridpost.toml",
    )  # fmt: skip
    return [Path(item["file"]) for item in done["files"]]


def _export_live(folder: Path) -> list[Path]:
    files = _live_files(folder)
    for file in files:
        stage("file written", f"{LIVE_DEVICE}: exported on demand, its day so far: {file}")
    return files


def _receipts(folder: Path, device: str) -> Path:
    out = folder / "receipts" / device
    command(IED, "receipts", "--out", out, "--config", folder / device / "ied.toml")
    return out


def _summary(folder: Path, files: list[Path], receipts: dict[str, Path]) -> None:
    rows = [("device", "receipts", "in", "billing file")]
    for device, place in receipts.items():
        written = [str(file) for file in files if file.name.startswith(f"{device}_")]
        rows.append((device, str(len(list(place.glob("*.xml")))), str(place), ", ".join(written)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\ngridpost status --config {folder}/bus/gridpost.toml says:", flush=True)
    subprocess.run([GRIDPOST, "status", "--config", str(folder / "bus/gridpost.toml")], check=False)


def _value_summary(value: Value) -> None:
    print("\nFrom signed readings to a bill that anybody can check, and to the cheapest supplier:")
    for told, file in value.files.items():
        print(f"  {told:<34} {file}")


def _next(folder: Path, files: list[Path], receipts: dict[str, Path], value: Value) -> None:
    receipt = next(receipts[CSV_DEVICE].glob("*.xml"))
    print(f"""
Try next (with .venv/bin on the PATH: . .venv/bin/activate):
  gridpost validate --signature --trust {folder}/bus/ca.pem {receipt}
  gridpost convert {files[0]} --from mdef --to csv --zone {ZONE} --out yesterday.csv
  gridpost bill show {value.bill} --config {folder}/bus/gridpost.toml
  gridpost verify --trust {folder}/bus/ca.pem {value.proof}
  script/server, and the tour in README.md""")


# --- small things ----------------------------------------------------------------------------------------------------


def _fresh(parent: Path) -> Path:
    """Make a new folder, so that no earlier or other demonstration is touched."""
    folder = parent / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    return folder


def _port() -> int:
    """8080, or a free one when something else has it."""
    for wanted in (8080, 0):
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # an earlier run's closed connections do not count
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port
    raise Trouble("no free port on 127.0.0.1")


if __name__ == "__main__":
    sys.exit(main())
