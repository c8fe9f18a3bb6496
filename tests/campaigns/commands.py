"""Commands of two partners to many devices under `kill -9` and cut lines: each done at most once, each told once.

    tests/campaigns/commands.py [--commands 1000] [--ieds 50] [--processes 50] [--kills 40] [--seed N]
                                [--sabotage NAME] [--keep DIR] [--json]

A utility and a supplier ask a real bus for sheds and restores, by signed messages to its office listener, some for a
group at once; each IED is an agent with a spool of its own, whose output is a program that adds a line to a file. With
as many processes as IEDs each is the installed `gridpost-ied run`; with fewer, each runs several of the product's
agents (`changed_ied.py`). Between all of them and the bus stands a proxy that cuts requests and answers, and this
campaign fetches in the devices' names once more. Kills are, a quarter each:

- bus: the bus, started again at once;
- agents: processes of devices, at any moment, started again within a second, sometimes killed while they start;
- acting: a process of devices while one of their outputs' programs runs;
- outage: commands that begin later are fetched, then their devices are killed and stay down until these and others,
  asked for meanwhile, have expired.

Judged from outside (`commands_judge.py`): none done twice, expired ones never done, every outcome signed by its device
and in its issuer's mailbox exactly once, `unknown` where and only where a kill fell between intent and outcome, every
command in a final state, none lost and none made up.

Exit status: 0 everything holds, 1 something does not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import changed_bus
import changed_ied
import commands_site as site
from commands_found import CommandsFound
from commands_judge import Judge, on_file
from commands_offices import Order, Partner
from commands_site import Host, Ied
from cutting_proxy import CuttingProxy
from live_bus import LiveBus, Wire, now_utc_ms
from live_office import TENANT, Office, fetch
from traffic import free_port, told

from gridpost import exchange
from gridpost.controls import Role

OF_BUS = ("outcome-lost", "outcome-twice")
OF_IEDS = tuple(changed_ied.DAMAGES)
KINDS = ("acting", "bus", "outage", "agents")
GROUP_SIZE = 5
AT_ONCE = 5  # processes that start
UNDER_WAY = 3  # commands not over, for each IED, from which on partners wait before they ask for more
CUT = 0.06  # of the answers
BEGINS_MS, LASTS_MS, LATE_MS = 2_500, 3_500, 1_200  # of commands that an outage is to outlast
SHORT_MS = 2_500  # of some commands: done in time, or not at all
LONGEST_S = 240  # without any command coming to its end
MOST = 10_000


class Plan(NamedTuple):
    """What the campaign is asked to do."""

    commands: int = 1000
    ieds: int = 50
    processes: int = 50
    kills: int = 40
    seed: int = 1
    sabotage: str = ""

    @property
    def down(self) -> int:
        """How many processes are killed together at most: those of five devices, but never all."""
        return max(1, min(self.processes // 2, 5 * self.processes // self.ieds))

    @property
    def doomed(self) -> int:
        """How many commands outages are to outlast: two for each device that is down."""
        return 2 * kinds(self).count("outage") * self.down * self.ieds // self.processes

    @property
    def regular(self) -> int:
        """How many commands partners ask for by themselves; one more goes along with each kill while acting."""
        return self.commands - self.doomed - kinds(self).count("acting")


def kinds(plan: Plan) -> list[str]:
    """What is killed, in what order."""
    chosen = [KINDS[number % len(KINDS)] for number in range(plan.kills)]
    random.Random(f"{plan.seed}-kinds").shuffle(chosen)
    return chosen


def orders(plan: Plan, serials: Sequence[str], count: int) -> list[Order]:
    """What partners ask for, `count` commands in all: for one IED or a group, some of them short-lived."""
    chance = random.Random(f"{plan.seed}-orders")
    groups = list(groups_of(serials).items())
    made: list[Order] = []
    while count:
        name, members = chance.choice(groups)
        if len(members) > count or chance.randrange(10):
            name, members = "", (chance.choice(serials),)
        lasts_ms = SHORT_MS if chance.randrange(20) == 0 else 3_600_000
        action, priority = chance.choice(("shed", "restore")), chance.randrange(10)
        made.append(Order(f"order-{len(made)}", action, members, name, priority, lasts_ms=lasts_ms))
        count -= len(members)
    return made


def groups_of(serials: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Groups across the processes, which hold neighbours."""
    number = max(1, len(serials) // GROUP_SIZE)
    return {f"feeder {one}": tuple(serials[one::number]) for one in range(number)}


# --- the parts -------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """All that runs, and what was found."""

    bus: LiveBus
    hosts: list[Host]
    partners: list[Partner]
    proxies: list[CuttingProxy]
    found: CommandsFound

    @classmethod
    def make(cls, folder: Path, plan: Plan, found: CommandsFound, initialised: LiveBus | None = None) -> World:
        ports = free_port(), free_port()
        sections = {
            "listen": {"http": f"127.0.0.1:{ports[0]}", "connections_per_peer": 5000},
            "office": {"http": f"127.0.0.1:{ports[1]}"},
            "commands": {name: {"shed": MOST, "restore": MOST} for name in ("most", "most_all")},
            "mv90": {"enabled": False},
        }
        bus = initialised or LiveBus.make(folder / "bus")
        bus.configure(**sections)
        if plan.sabotage in OF_BUS:
            bus.command = changed_bus.command(damage=plan.sabotage)
        offices = [Office.make(bus, "NORTH", Role.UTILITY), Office.make(bus, "POWER", Role.SUPPLIER)]
        ieds = site.enrolled(folder, bus, offices[0], plan.ieds)
        serials = [one.serial for one in ieds]
        for office in offices:
            office.take_in(*serials)
        for name, members in groups_of(serials).items():
            offices[0].store.set_group(TENANT, name, members)
        proxies = [CuttingProxy(port, CUT, f"{plan.seed}-{port_of}") for port_of, port in enumerate(ports)]
        site.configure(ieds, proxies[0].address, offices)
        wire, ca = Wire(proxies[1].address, timeout=20), ieds[0].device.ca
        partners = [Partner(office, wire, ca, found, plan.seed) for office in offices]
        damage = plan.sabotage if plan.sabotage in OF_IEDS else ""
        hosts = [Host(ieds[number :: plan.processes], damage) for number in range(plan.processes)]
        return cls(bus, hosts, partners, proxies, found)

    @property
    def database(self) -> Path:
        return self.bus.folder / "gridpost.db"

    def start(self) -> None:
        self.bus.start()
        for first in range(0, len(self.hosts), AT_ONCE):
            some = self.hosts[first : first + AT_ONCE]
            for host in some:
                host.start()
            for host in some:
                host.wait_until_started()

    def over(self) -> int:
        """How many commands have come to an end."""
        return self._count("SELECT count(*) FROM control_now WHERE closed_at_utc_ms IS NOT NULL")

    def under_way(self) -> int:
        return self._count("SELECT count(*) FROM control_now WHERE closed_at_utc_ms IS NULL")

    def not_fetched(self, names: Sequence[str]) -> int:
        marks = ", ".join("?" * len(names))
        text = "SELECT count(*) FROM control JOIN control_now n USING (partition, seq, line) WHERE n.state = 'waiting'"
        return self._count(f"{text} AND tracking_id IN ({marks})", names)

    def mrids(self, name: str) -> list[str]:
        """The bus's mRIDs of what a partner calls so."""
        text = "SELECT partition || '-' || seq || '-' || line FROM control WHERE tracking_id = ?"
        return [row[0] for row in self._rows(text, (name,))]

    def _count(self, text: str, values: Sequence[str] = ()) -> int:
        return int(self._rows(text, values)[0][0])

    def _rows(self, text: str, values: Sequence[str] = ()) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(text, tuple(values)).fetchall()

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        if self.bus.process is not None:
            self.bus.kill()
        for proxy in self.proxies:
            proxy.close()
        for partner in self.partners:
            partner.office.close()


class Again:
    """Fetches in devices' names, past the proxy, and throws the answers away: but the same counter, the same bytes."""

    PAUSE_S = 0.3

    def __init__(self, world: World, seed: int) -> None:
        self._world, self._chance = world, random.Random(f"{seed}-again")
        self._ieds = [ied for host in world.hosts for ied in host.ieds]
        self._sealed: dict[tuple[str, int], bytes] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self.PAUSE_S):
            ied = self._chance.choice(self._ieds)
            known = max((counter for serial, counter in self._sealed if serial == ied.serial), default=0)
            with contextlib.suppress(OSError, http.client.HTTPException, IndexError):  # the bus may be down
                self._fetch(ied, self._chance.choice((0, max(0, known - 1), known)))

    def _fetch(self, ied: Ied, after: int) -> None:
        status, raw = self._world.bus.wire.post(fetch(ied.device, after))
        if status != 200:
            return
        found = self._world.found
        found.repeated_fetches += 1
        control = exchange.open_control(raw, exchange.Trust(ied.device.ca)).control
        if control is not None and self._sealed.setdefault((ied.serial, control.counter), raw) != raw:
            found.problem(f"{ied.serial}: counter {control.counter} came as other bytes", "controls_changed")

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class Killer:
    """Kills what the seed says, when it says so, and starts it again."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world, self._plan = world, plan
        self._chance = random.Random(f"{plan.seed}-kills")
        self._numbers = 0

    def kill(self, kind: str) -> None:
        getattr(self, f"_{kind}")()
        self._world.found.kills[kind] = self._world.found.kills.get(kind, 0) + 1

    def _bus(self) -> None:
        time.sleep(self._chance.random() * 0.2)  # the moment is the seed's
        self._world.bus.kill()
        self._world.bus.start()

    def _agents(self) -> None:
        hosts = self._chance.sample(self._world.hosts, self._chance.randint(1, self._plan.down))
        time.sleep(self._chance.random() * 0.2)
        self._killed(hosts)
        time.sleep(self._chance.random())
        self._started(hosts)
        if self._chance.randrange(3) == 0:
            time.sleep(self._chance.random())
            self._killed(hosts)
            self._started(hosts)
        self._settled(hosts)

    def _killed(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            host.kill()
        self._world.found.processes_killed += len(hosts)

    def _started(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            host.start()

    def _settled(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            host.wait_until_started()

    def _acting(self) -> None:
        """While the program of a command's output runs."""
        host, partner = self._chance.choice(self._world.hosts), self._chance.choice(self._world.partners)
        ied = self._chance.choice(host.ieds)
        self._numbers += 1
        partner.ask(Order(f"acting-{self._numbers}", "shed", (ied.serial,), priority=0))
        (mrid,) = self._world.mrids(f"acting-{self._numbers}")
        until(lambda: any(act.mrid == mrid for act in ied.acts()), "act")
        time.sleep(self._chance.random() * 0.2)
        self._killed([host])
        self._started([host])
        self._settled([host])

    def _outage(self) -> None:
        """Let commands expire on devices that are down, and others before they fetch them."""
        self._numbers += 1
        hosts = self._chance.sample(self._world.hosts, self._plan.down)
        serials = tuple(one.serial for host in hosts for one in host.ieds)
        one, other = self._chance.sample(self._world.partners, 2)
        early = Order(f"outage-{self._numbers}-early", "shed", serials, "", 0, BEGINS_MS, LASTS_MS)
        wanted = one.ask(early)
        begins = wanted.not_before_utc_ms / 1000
        until(lambda: not self._world.not_fetched([early.name]) or time.time() > begins - 0.4, "fetches")
        self._killed(hosts)
        late = other.ask(Order(f"outage-{self._numbers}-late", "restore", serials, "", 0, 0, LATE_MS))
        ends = max(wanted.expires_utc_ms, late.expires_utc_ms)
        until(lambda: now_utc_ms() > ends, "the end of an outage")
        self._started(hosts)
        self._settled(hosts)
        self._world.found.doomed += 2 * len(serials)


def until(condition: Callable[[], object], what: str, seconds: float = LONGEST_S) -> None:
    """Look again until it holds."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"no {what} for {seconds} s")
        time.sleep(0.02)


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(folder: Path, plan: Plan, initialised: LiveBus | None = None) -> CommandsFound:
    """Run it in a folder of its own; `initialised`: a bus that spares a run of `gridpost init`."""
    found = CommandsFound(plan.seed, plan.commands, plan.ieds, plan.processes, plan.sabotage)
    began = time.monotonic()
    world = World.make(folder, plan, found, initialised)
    try:
        world.start()
        _run(world, plan)
        _judge(world, plan)
    finally:
        world.close()
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _run(world: World, plan: Plan) -> None:
    """Commands, and the kills among them; then every device and mailbox to its end."""
    serials = [ied.serial for host in world.hosts for ied in host.ieds]
    wanted = orders(plan, serials, plan.regular)
    killer, again = Killer(world, plan), Again(world, plan.seed)
    for number, partner in enumerate(world.partners):
        partner.may_ask = lambda: world.under_way() < UNDER_WAY * plan.ieds
        partner.start(wanted[number :: len(world.partners)])
    for number, (place, kind) in enumerate(schedule(plan), 1):
        _wait(world, lambda place=place: world.over() >= place)
        killer.kill(kind)
        print(f"kill {number} of {plan.kills}, {kind}: {world.over()} commands are over", file=sys.stderr)
    _wait(world, lambda: all(one.has_asked for one in world.partners))
    again.stop()
    _wait(world, lambda: not world.under_way())
    _end(world)
    world.found.cuts = dict(sum((proxy.cuts for proxy in world.proxies), Counter()))


def schedule(plan: Plan) -> Iterator[tuple[int, str]]:
    """Yield (commands to wait for, what to kill)."""
    places = random.Random(f"{plan.seed}-places").sample(range(plan.regular * 9 // 10), plan.kills)
    yield from zip(sorted(places), kinds(plan), strict=True)


def _wait(world: World, condition: Callable[[], bool]) -> None:
    """Until it holds; give up when no command comes to its end any more."""
    last, ends = -1, 0.0
    while not condition():
        if (now := world.over()) != last:
            last, ends = now, time.monotonic() + LONGEST_S
        if time.monotonic() > ends:
            return  # what is not over is judged
        for partner in world.partners:
            _ = partner.has_asked  # what stopped it is raised here
        time.sleep(0.05)


def _end(world: World) -> None:
    """Stop the devices, read the mailboxes to their end, stop the bus."""
    for host in world.hosts:
        if host.stop() != 0:
            world.found.problem(f"devices did not end well: {host.errors()[-300:]}")
    for partner in world.partners:
        partner.stop()
    if world.bus.stop() != 0:
        world.found.problem(f"the bus did not end well: {world.bus.errors()[-300:]}")
    for errors in (world.bus.errors(), *(host.errors() for host in world.hosts)):
        if "Traceback" in errors:
            world.found.problem(f"a surprise: {errors[-900:]}")


def _judge(world: World, plan: Plan) -> None:
    controls = {one.mrid: one for one in on_file(world.database)}
    if len(controls) != plan.commands:
        world.found.problem(f"{len(controls)} commands are on file, not {plan.commands}")
    Judge(controls, world.hosts, world.partners, world.found).everything(world.partners[0].office.store)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    usual = Plan()
    parser.add_argument("--commands", type=int, default=usual.commands)
    parser.add_argument("--ieds", type=int, default=usual.ieds)
    parser.add_argument("--processes", type=int, default=usual.processes, help="that the IEDs' agents run in")
    parser.add_argument("--kills", type=int, default=usual.kills, help="a quarter each of the four kinds")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--sabotage", choices=(*OF_IEDS, *OF_BUS), default="")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    plan = Plan(asked.commands, asked.ieds, asked.processes, asked.kills, asked.seed, asked.sabotage)
    if plan.ieds % plan.processes:
        parser.error("every process runs as many IEDs")
    if plan.regular < 2 * plan.kills:
        parser.error("too many kills for so few commands")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = campaign(folder, plan)
    return told({**asdict(found), "ok": found.ok}, asked.json)


if __name__ == "__main__":
    sys.exit(main())
