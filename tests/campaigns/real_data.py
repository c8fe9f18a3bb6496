"""Real interval data through the whole house, and every digit and quality looked for at its end.

    tests/campaigns/real_data.py --data ../shared/data [--seed N] [--ied-per-meter] [--keep DIR] [--json]

NEM12 files others made -> `gridpost convert` -> CSV -> enrolled IEDs -> `gridpost-ied push`, signed, over HTTP ->
`gridpost serve` -> the store -> the MV-90 reader's folder, `gridpost export mv90`, `nem12` and `csv`. The file with the
most meters goes through a second time, a day later, its values replaced by seeded decimals of up to 15 digits.

What comes out is judged by nemreader, and by `nem12_mdef_oracles`, which knows nothing of Gridpost.

Exit status: 0 everything holds, 1 something does not, 2 the data are not there.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import nem12_mdef_oracles as oracles

# What must be in the folder, as the issue has it.
SHAPE = ("meters", "streams", "values")
REAL = {"Example_NEM12_ManyNMIs.zip": (99, 198, 198 * 288)}
AT_ONCE = 2  # processes; the campaign is for two cores
NEM = timedelta(hours=10)
Row = dict[str, str]


class Input(NamedTuple):
    """A NEM12 file: its name, its text, and whose it is (the market participant, an IED each)."""

    name: str
    text: str
    owner: str


class Options(NamedTuple):
    seed: int = 1
    meters_per_ied: int = 10


class Problems(list[str]):
    """Everything that does not hold; empty at the end of a good run."""

    def want(self, holds: bool, what: str) -> None:
        if not holds:
            self.append(what)

    def want_equal(self, what: str, found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> dict[str, int]:
        """Compare two mappings key by key and count."""
        wrong = [key for key in wanted if found.get(key) != wanted[key]]
        extra = [key for key in found if key not in wanted]
        for key in wrong[:3]:
            self.append(f"{what}: {key} is {found.get(key)!r}, should be {wanted[key]!r}")
        for key in extra[:3]:
            self.append(f"{what}: {key} was never put in")
        return {"wanted": len(wanted), "equal": len(wanted) - len(wrong), "wrong": len(wrong), "extra": len(extra)}


# --- the programs ----------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A program ended otherwise than it should."""


def program(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an installed program to its end."""
    name, *arguments = map(str, command)
    return subprocess.run([str(Path(sys.executable).parent / name), *arguments], capture_output=True, text=True)


def answer(*command: str | Path) -> dict[str, Any]:
    """Run a program with --json and return its object."""
    done = program(*command, "--json")
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-800:]}{done.stdout}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def together(work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))


class Bus(NamedTuple):
    config: Path
    url: str


@contextmanager
def served(folder: Path) -> Iterator[Bus]:
    """Make a bus and serve it on a free port of this machine until the end of the block."""
    config = folder / "bus" / "gridpost.toml"
    answer("gridpost", "init", folder / "bus", "--http", "127.0.0.1:0")
    config.write_text(re.sub(r"# poll_s = \d+", "poll_s = 1", config.read_text()))
    command = [str(Path(sys.executable).parent / "gridpost"), "serve", "--config", str(config), "--json"]
    with (folder / "serve.stderr").open("wb") as trouble:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=trouble)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Failed(f"gridpost serve ended: {(folder / 'serve.stderr').read_text()[-800:]}")
        yield Bus(config, json.loads(line)["addresses"][0])
        process.send_signal(signal.SIGTERM)
        if process.wait(30):
            raise Failed(f"gridpost serve ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


# --- in --------------------------------------------------------------------------------------------------------------


def inputs_of(folder: Path, seed: int) -> list[Input]:
    """Return the files in the folder's zips, and the largest again with decimals."""
    found = []
    for file in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(file) as archive:
            text = archive.read(archive.namelist()[0]).decode("utf-8")
        parts = file.stem.split("#")
        found.append(Input(file.name, text, parts[2] if len(parts) > 3 else parts[0]))
    most = max(found, key=lambda one: len(meters(one.text)))
    return [*found, Input("decimals", with_decimals(most.text, seed), most.owner)]


def meters(text: str) -> set[tuple[str, str]]:
    return {(key.nmi, key.meter) for key in oracles.split(text)}


def with_decimals(text: str, seed: int) -> str:
    """Return the file a day later, each value another of 1 to 15 digits, the point anywhere in it."""
    chance = random.Random(seed)

    def value() -> str:
        digits = chance.randint(1, 15)
        behind = chance.randint(0, digits - 1) if chance.random() < 0.9 else digits
        whole = str(chance.randrange(10 ** (digits - behind - 1), 10 ** (digits - behind))) if behind < digits else "0"
        return whole + (f".{chance.randrange(10**behind):0{behind}d}" if behind else "")

    lines = []
    for line in text.splitlines():
        fields = line.split(",")
        if fields[0] == "300":
            day = datetime.strptime(fields[1], "%Y%m%d") + timedelta(days=1)
            fields[1:-5] = [day.strftime("%Y%m%d"), *(value() for _ in fields[2:-5])]
        lines.append(",".join(fields))
    return "\r\n".join([*lines, ""])


def converted(one: Input, folder: Path) -> list[Row]:
    """Convert a file to CSV and return its rows."""
    source, target = folder / f"{one.name}.nem12", folder / f"{one.name}.csv"
    source.write_bytes(one.text.encode())
    answer("gridpost", "convert", source, "--from", "nem12", "--to", "csv", "--out", target)
    with target.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def channel_table(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of a --channels file: each channel from its first interval, until another takes its name."""
    first: dict[tuple[str, ...], datetime] = {}
    names = ("usage_point", "meter", "channel", "reading_type", "unit", "interval_s")
    for row in rows:
        channel = tuple(row[name] for name in names)
        start = datetime.fromisoformat(row["interval_end_utc"]) - timedelta(seconds=int(row["interval_s"]))
        first[channel] = min(start, first.get(channel, start))
    table = []
    for channel, start in first.items():
        later = [other for same, other in first.items() if same[:3] == channel[:3] and other > start]
        until = min(later).isoformat() if later else ""
        dates = {"zone": "Etc/GMT-10", "valid_from": start.isoformat(), "valid_to": until}
        table.append(dict(zip(names, channel, strict=True)) | dates)
    return table


class Ied(NamedTuple):
    """A device and the rows of each file it has to push."""

    serial: str
    files: list[list[Row]]


def ieds_of(converted_rows: Sequence[tuple[Input, list[Row]]], at_most: int) -> list[Ied]:
    """Deal the meters of each owner out to IEDs, `at_most` to one."""
    found = []
    for owner in dict.fromkeys(one.owner for one, _ in converted_rows):
        files = [rows for one, rows in converted_rows if one.owner == owner]
        names = list(dict.fromkeys(row["meter"] for rows in files for row in rows))
        for start in range(0, len(names), at_most):
            own = set(names[start : start + at_most])
            mine = [[row for row in rows if row["meter"] in own] for rows in files]
            found.append(Ied(f"{owner[:20]}-{start // at_most + 1}", [rows for rows in mine if rows]))
    return found


def pushed(ied: Ied, bus: Bus, folder: Path) -> dict[str, int]:
    """Enrol an IED, push its files, and return how many values and receipts that made."""
    home = folder / "ieds" / ied.serial
    home.parent.mkdir(exist_ok=True)
    table = folder / "ieds" / f"{ied.serial}.channels.csv"
    write_rows(table, channel_table(row for rows in ied.files for row in rows))
    code = answer("gridpost", "ied", "add", ied.serial, "--channels", table, "--config", bus.config)["code"]
    answer("gridpost-ied", "init", "--bus", bus.url, "--code", code, "--channels", table, home)
    counts: Counter[str] = Counter()
    for number, rows in enumerate(ied.files):
        file = home / f"push{number}.csv"
        write_rows(file, rows)
        done = answer("gridpost-ied", "push", file, "--config", home / "ied.toml")
        counts.update({name: done[name] for name in ("readings", "receipted", "refused", "postponed", "waiting")})
    held = answer("gridpost-ied", "receipts", "--config", home / "ied.toml", "--out", home / "receipts")
    return counts | {"receipts": held["receipts"]}


# --- out -------------------------------------------------------------------------------------------------------------


def settled(bus: Bus) -> dict[str, Any]:
    """Return the bus's status once its reader has delivered a file of everything that is stored."""
    deadline = time.monotonic() + 120
    while True:
        status = answer("gridpost", "status", "--config", bus.config)
        readers = status["readers"]
        if readers and all(reader["lag"] == reader["waiting"] == 0 for reader in readers):
            return status
        if time.monotonic() > deadline:
            raise Failed(f"the readers do not come to their end: {readers}")
        time.sleep(0.5)


def exported(kind: str, bus: Bus, folder: Path, days: Sequence[str]) -> list[dict[str, Any]]:
    """Export from the first to the last of some days, YYYYMMDD, and return what the command says of each file."""
    first, last = (f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in (min(days), max(days)))
    place = ("--out", folder / kind, "--config", bus.config)
    files: list[dict[str, Any]] = answer("gridpost", "export", kind, "--from", first, "--to", last, *place)["files"]
    return files


def check_nem12(problems: Problems, files: Sequence[dict[str, Any]], inputs: Sequence[Input], folder: Path) -> Any:
    """nemreader and the splitter find in the files what they find in the inputs, and nothing else."""
    texts = [Path(file["file"]).read_bytes().decode() for file in files]
    problems += [f"nem12 export: {loss}" for file in files for loss in file["losses"]][:5]
    joined = [oracles.unwrapped(one.text) for one in inputs]  # nemreader passes over a record broken into lines
    seen = oracles.seen_by_nemreader(texts, folder / "seen.csv")
    text = oracles.split_all(texts)
    return {
        "files": len(files),
        "nemreader": problems.want_equal("nemreader", seen, oracles.seen_by_nemreader(joined, folder / "seen.csv")),
        "texts": problems.want_equal("NEM12 text", text, oracles.split_all(one.text for one in inputs)),
    }


def check_csv(problems: Problems, files: Sequence[dict[str, Any]], rows: Iterable[Row]) -> Any:
    found: list[Row] = []
    for file in files:
        with open(file["file"], newline="", encoding="utf-8") as stream:
            found += csv.DictReader(stream)
    pair = [{tuple(row.values())[:7]: tuple(row.values())[7:] for row in some} for some in (found, rows)]
    return {"files": len(files), "rows": problems.want_equal("CSV", *pair)}


def check_mdef(problems: Problems, files: Sequence[dict[str, Any]], inputs: Sequence[Input], reader: Path) -> Any:
    """Each value is the float32 nearest to its text, each gap is LA, and the reader wrote the same bytes."""
    wanted = oracles.mdef_days(oracles.split_all(one.text for one in inputs))
    found, delivered = {}, Counter[str]()
    for file in files:
        path = Path(file["file"])
        content = path.read_bytes()
        newest = max(reader.glob(f"{path.stem}_r[0-9][0-9].mde"), default=None)
        same = newest is not None and newest.read_bytes() == content
        delivered.update(["equal" if same else "wrong"])
        problems.want(same, f"MDEF: the reader's newest file of {path.stem} is not what export writes")
        found.update(oracles.read_mdef(content))
    values = {key: [oracles.nearest(text) for text in texts] for key, texts in wanted.items()}
    places = problems.want_equal("MDEF", {key: found[key] for key in values if key in found}, values)
    gaps = {key: held for key, held in found.items() if key not in values}
    problems.want(all(set(held) == {oracles.GAP} for held in gaps.values()), "MDEF: a value where none was put in")
    days = {(key.meter, key.date) for key in values}
    problems.want(len(files) == len(days), f"MDEF: {len(files)} files for {len(days)} days of meters")
    losses = sum("nearest 32-bit" in loss for file in files for loss in file["losses"])
    lossy = sum(oracles.is_lossy(text) for texts in wanted.values() for text in texts)
    problems.want(losses == lossy, f"MDEF: {losses} values reported as changed by float32, {lossy} are")
    counts = {"values": sum(map(len, values.values())), "gaps": sum(map(len, gaps.values())), "changed": losses}
    return {"files": len(files), "delivered": dict(delivered), "channel_days": places, **counts}


def check_invalid(problems: Problems, folder: Path, work: Path) -> dict[str, str]:
    """Each file is refused: exit 1, a code and what is wrong, nothing written."""
    found = {}
    for file in sorted(folder.iterdir()):
        out = work / f"{file.name}.out"
        done = program("gridpost", "convert", file, "--from", "nem12", "--to", "csv", "--out", out)
        first = (done.stderr.splitlines() or [""])[0]
        refused = done.returncode == 1 and first.startswith("error[file-invalid]: ") and "Traceback" not in done.stderr
        problems.want(refused, f"invalid/{file.name}: exit {done.returncode}, {done.stderr[-300:]!r}")
        problems.want(not out.exists() and not done.stdout, f"invalid/{file.name}: something was written")
        found[file.name] = first
    problems.want(bool(found), "there are no files in invalid/")
    return found


# --- the whole -------------------------------------------------------------------------------------------------------


def run(data: Path, work: Path, options: Options, shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, Any]:
    """Send the data through and return counts, with "ok" and the list of problems."""
    problems, begun = Problems(), time.monotonic()
    inputs = inputs_of(data / "nem12", options.seed)
    say(f"{len(inputs)} files; converting")
    rows = together(lambda one: (one, converted(one, work)), inputs)
    ieds = ieds_of(rows, options.meters_per_ied)
    with served(work) as bus:
        say(f"bus at {bus.url}; {len(ieds)} IEDs push")
        counts = sum((Counter(one) for one in together(lambda ied: pushed(ied, bus, work), ieds)), Counter[str]())
        say("everything is pushed; waiting for the billing files")
        status = settled(bus)
    say("exporting and comparing")
    days = sorted({key.date for one in inputs for key in oracles.split(one.text)})
    files = {kind: exported(kind, bus, work, days) for kind in ("mv90", "nem12", "csv")}
    shape = {one.name: oracles.shape(one.text) for one in inputs}
    total = sum(values for _, _, values in shape.values())
    for name, wanted in shapes.items():
        problems.want(shape.get(name) == wanted, f"{name}: {shape.get(name)} meters, streams, values, not {wanted}")
    wanted_counts = {"interval_values": total, "conflicts": 0, "refusals": {}, "entries": counts["receipts"]}
    problems.want_equal("status", {name: status[name] for name in wanted_counts}, wanted_counts)
    problems.want(counts["readings"] == total, f"{counts['readings']} values pushed of {total}")
    problems.want(counts["receipted"] == counts["receipts"] > 0, "a receipt is missing")
    problems.want(not any(reader["dead_letters"] for reader in status["readers"]), "there are dead letters")
    result = {
        "seed": options.seed,
        "inputs": {name: dict(zip(SHAPE, three, strict=True)) for name, three in shape.items()},
        "values": total, "ieds": len(ieds), "messages": status["entries"], "receipts": counts["receipts"],
        "stored": status["interval_values"], "conflicts": status["conflicts"], "refusals": status["refusals"],
        "nem12": check_nem12(problems, files["nem12"], inputs, work),
        "mdef": check_mdef(problems, files["mv90"], inputs, work / "bus" / "mv90"),
        "csv": check_csv(problems, files["csv"], [row for _, some in rows for row in some]),
        "invalid": check_invalid(problems, data / "nem12" / "invalid", work),
        "seconds": round(time.monotonic() - begun),
    }  # fmt: skip
    return {**result, "problems": list(problems), "ok": not problems}


def say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds nem12/")
    parser.add_argument("--seed", type=int, default=1, help="of the decimals")
    parser.add_argument("--ied-per-meter", action="store_true", help="one IED a meter, not ten meters to an IED")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder to work in and leave")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    missing = [name for name in (*REAL, "invalid") if not (asked.data / "nem12" / name).exists()]
    if missing:
        print(f"no data: {asked.data / 'nem12' / missing[0]} does not exist; name the data folder", file=sys.stderr)
        return 2
    options = Options(asked.seed, 1 if asked.ied_per_meter else Options().meters_per_ied)
    with tempfile.TemporaryDirectory(prefix="real-data-") as temporary:
        work = asked.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        try:
            result = run(asked.data, work, options, REAL)
        except Failed as failure:
            result = {"seed": asked.seed, "problems": [str(failure)], "ok": False}
    print(json.dumps(result) if asked.json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
