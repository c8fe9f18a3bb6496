"""Let every toolkit load our WSDLs and call, every signer sign and verify; write docs/interop.md from what was seen.

In: the toolkits of the machine and of this environment (`toolkits.py`), a bus of its own (`bench_world.py`). Out: the
table in docs/interop.md, exit 0. A toolkit that is missing is a failure, as is one that can less than the table in the
repository says: the new table is then written beside, and the difference shown. Versions may differ.

    run.py [--only NAME ...] [--write] [--json]
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "campaigns")]

from bench_world import BenchWorld, Forger  # noqa: E402
from interop_table import differs, renewed  # noqa: E402
from toolkits import PLACES, SIGNERS, TOOLKITS, Signer, Toolkit  # noqa: E402

ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "interop.md"
FAMILIES = ("RSA", "EC")
# Operation -> what a client must have read out of the answer.
EXPECTED: Mapping[str, str] = {
    "QueryMeterReadings": r"101\.250*",
    "RequestMeterReadings": "OK",
    "WithdrawMeterReadings": "OK",
    "QueryEndDeviceEvents": r"3\.26\.0\.85",
    "RequestEndDeviceControls": "proposed",
    "QueryEndDeviceControls": "proposed",
    "ReplaceEndDeviceControls": "proposed",
    "WithdrawEndDeviceControls": "canceled",
    "EnrolMeterConfig": "OK",
    "AmendMeterConfig": "OK",
    "QueryMeterConfig": "kWh",
    "ReadMailbox": "[0-9]+",
    "CommitMailbox": "OK",
    "fault": "not-granted",
}


class Workshop:
    """A folder of one toolkit, with the words its commands may use."""

    def __init__(self, folder: Path, words: Mapping[str, str], env: Mapping[str, str]) -> None:
        """The folder is made."""
        folder.mkdir(parents=True)
        self.folder, self.env = folder, {**env, "PATH": f"{PLACES['bin']}:{env['PATH']}"}
        self.words = {**PLACES, **words, "work": str(folder)}

    def run(self, command: Sequence[str], **words: str) -> tuple[int, str, str]:
        """Run a command; return its exit status and what it wrote."""
        full = [word.format(**self.words, **words) for word in command]
        done = subprocess.run(
            full,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=900,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def built(self, commands: Sequence[Sequence[str]]) -> str:
        """Run what builds a client; return the first failure's words, empty when there is none."""
        for command in commands:
            status, out, err = self.run(command)
            if status:
                return told(out + err)
        return ""


def told(text: str) -> str:
    """The line of an output that says what is wrong, without places of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Traceback (most recent call last):" in lines:
        lines = lines[-1:]
    marked = [
        line for line in lines if re.search(r"error|fault|exception|warn|violation|fail|refused", line, re.IGNORECASE)
    ]
    line = (marked or lines or ["no word"])[0]
    return re.sub(r"(file://)?/(tmp|work|root|home|usr)\S*/", "", line)[:160]


def missing(rows: Sequence[Toolkit | Signer]) -> list[str]:
    """What is wanted and is not there, with what installs it."""
    found = []
    for one in rows:
        lacks = [need for need in one.needs if not (shutil.which(need) or Path(need).exists())]
        found += [f"{one.name}: no {need} ({one.install})" for need in lacks]
        status = subprocess.run(
            [word.format(**PLACES) for word in one.version], capture_output=True, text=True, check=False
        ) if not lacks else None  # fmt: skip
        if status is not None and status.returncode:
            found.append(f"{one.name}: not installed ({one.install})")
    return found


def version(one: Toolkit | Signer) -> str:
    """What it says of itself."""
    done = subprocess.run([word.format(**PLACES) for word in one.version], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def wsdls(world: BenchWorld) -> dict[str, str]:
    """Name -> address or file of each WSDL that is to be loaded."""
    found = {"utility": world.office.plain.address + "/utility?wsdl", "metering": world.metering + "?wsdl"}
    return found | {file.stem: str(file) for file in sorted((ROOT / "wsdl").glob("multispeak*.wsdl"))}


def tried(one: Toolkit, world: BenchWorld) -> dict[str, Any]:
    """Let a toolkit load, be built and call."""
    slug = re.sub(r"[^a-z0-9]+", "-", one.name.lower()).strip("-")
    env = world.client(slug)
    words = {"utility": env["GRIDPOST_WSDL"], "ca": env["GRIDPOST_CA"], "ca_store": env["GRIDPOST_CA_STORE"]}
    shop = Workshop(world.folder / f"work-{slug}", words, env)
    loaded = {}
    for name, place in wsdls(world).items():
        status, out, err = shop.run(one.load, wsdl=place)
        warned = re.search(r"warn|violation", out + err, re.IGNORECASE)
        loaded[name] = told(out + err) if status or warned else "ok"
    failure = shop.built(one.build)
    status, out, err = (1, "", failure) if failure else shop.run(one.call)
    read = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    right = [name for name, pattern in EXPECTED.items() if re.fullmatch(pattern, read.get(name, ""))]
    wrong = [name for name in EXPECTED if name not in right]
    said = ""
    if wrong:
        said = f"{wrong[0]}: {read.get(wrong[0]) or told(err or out)}"
    elif re.search(r"warn|violation", err, re.IGNORECASE):
        said = told(err)
    cannot = ""
    if one.cannot:
        status, out, err = shop.run(one.cannot)
        cannot = told(out + err)
    return {
        "name": one.name, "install": one.install, "version": version(one), "way": one.way, "loaded": loaded,
        "called": [name for name in right if name != "fault"], "fault": "fault" in right, "said": said,
        "remark": one.remark, "cannot": cannot,
    }  # fmt: skip


def signed(one: Signer, world: BenchWorld, forger: Forger) -> dict[str, Any]:
    """Let a signer push with each family, straight and through the forger."""
    slug = re.sub(r"[^a-z0-9]+", "-", one.name.lower()).strip("-")
    families: dict[str, Any] = {}
    shop = None
    for family in FAMILIES:
        env = world.signer(slug, family)
        if shop is None:
            shop = Workshop(world.folder / f"work-{slug}", {"metering": world.metering + "?wsdl"}, env)
            failure = shop.built(one.build)
        shop.env = env
        straight = failure or _line(shop, one)
        before = forger.forged
        shop.env = {**env, "GRIDPOST_METERING": forger.address}
        through = _line(shop, one)
        families[family] = {
            "taken": straight.startswith("receipt "),
            "verified": straight.startswith("receipt verified: "),
            "forgery refused": forger.forged > before and not through.startswith("receipt verified"),
            "said": "" if straight.startswith("receipt verified: ") else straight,
        }
    return {
        "name": one.name,
        "install": one.install,
        "version": version(one),
        "remark": one.remark,
        "families": families,
    }


def _line(shop: Workshop, one: Signer) -> str:
    _, out, err = shop.run(one.push)
    lines = [line for line in out.splitlines() if line.startswith(("receipt ", "refused "))]
    return lines[-1] if lines else told(err or out)


def chosen(rows: Sequence[Any], only: Sequence[str]) -> list[Any]:
    """The rows named; all when none is."""
    return [one for one in rows if not only or one.name in only]


def run(only: Sequence[str]) -> dict[str, Any]:
    """Run all that is chosen against one bus."""
    with tempfile.TemporaryDirectory(prefix="gridpost-interop-") as folder:
        world = BenchWorld.make(Path(folder))
        forger = Forger(world.office.bus.addresses[0])
        results: dict[str, Any] = {"operations": [name for name in EXPECTED if name != "fault"]}
        try:
            for kind, rows, work in (("toolkits", TOOLKITS, lambda one: tried(one, world)),
                                     ("signers", SIGNERS, lambda one: signed(one, world, forger))):  # fmt: skip
                results[kind] = []
                for one in chosen(rows, only):
                    print(f"{one.name} ...", file=sys.stderr, flush=True)
                    results[kind].append(work(one))
        finally:
            forger.close()
            world.close()
    return results


def main() -> int:
    """Run; hold the page against what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=(), help="names of the rows to run; the page is left alone")
    parser.add_argument("--write", action="store_true", help="write docs/interop.md, whatever it said")
    parser.add_argument("--json", action="store_true", help="print all that was seen")
    options = parser.parse_args()
    lacking = missing(chosen((*TOOLKITS, *SIGNERS), options.only))
    if lacking:
        print("missing on this machine:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 2
    results = run(options.only)
    if options.json:
        print(json.dumps(results, indent=1))
    if options.only:
        return 0
    old = PAGE.read_text(encoding="utf-8")
    new = renewed(old, results)
    if options.write or not differs(old, new):
        PAGE.write_text(new, encoding="utf-8")
        return 0
    print("docs/interop.md says other than what was seen (--write puts it there):", file=sys.stderr)
    sys.stderr.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "docs/interop.md", "seen"))
    return 1


if __name__ == "__main__":
    sys.exit(main())
