"""The peers of bench/peers/ that want other tools than Python: what is missing, and each one built and started."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import servers

PEERS = servers.HERE / "peers"
GSOAP = Path("/usr/share/gsoap")
WINTER, SUMMER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
JAVA_HEAP = ("-Xms1g", "-Xmx4g", "-Xmn512m")  # room enough: collecting is to cost little
NO_DELAY = "-Dsun.net.httpserver.nodelay=true"  # without it each answer waits 40 ms for the client's acknowledgement
WANTED = {
    "javac": "JDK 17: apt-get install openjdk-17-jdk-headless, or set JAVA_HOME",
    "gcc": "a C compiler: apt-get install gcc libc6-dev",
    "soapcpp2": "gSOAP 2.8: apt-get install gsoap libgsoap-dev",
    "wsdl2h": "gSOAP 2.8: apt-get install gsoap libgsoap-dev",
    "pkg-config": "pkg-config: apt-get install pkg-config",
}
HEADERS = {
    "stdsoap2.h": "gSOAP 2.8's library: apt-get install libgsoap-dev",
    "sqlite3.h": "SQLite's library: apt-get install libsqlite3-dev",
    "openssl/evp.h": "OpenSSL's library: apt-get install libssl-dev",
    "zlib.h": "zlib: apt-get install zlib1g-dev",
}


def missing(names):
    """Return what must be installed for the peers named `jdk` and `gsoap`, a line each; nothing when all is there."""
    wanted = []
    if "jdk" in names and not _java():
        wanted.append(WANTED["javac"])
    if "gsoap" in names:
        tools = ("gcc", "soapcpp2", "wsdl2h", "pkg-config")
        wanted += [WANTED[tool] for tool in tools if not shutil.which(tool)]
        if not (GSOAP / "plugin" / "wsseapi.c").exists():
            wanted.append(f"gSOAP's plugins, {GSOAP}/plugin: apt-get install gsoap libgsoap-dev")
        if shutil.which("gcc"):
            wanted += [how for header, how in HEADERS.items() if not _has_header(header)]
    return list(dict.fromkeys(wanted))


def versions(names):
    """Return the versions of the tools used, for the result."""
    found = {}
    if "jdk" in names:
        found["jdk"] = _first_line(_java() / "bin" / "javac", "-version")
    if "gsoap" in names:
        found["gcc"] = _first_line("gcc", "--version")
        found["gsoap"] = _first_line("soapcpp2", "-V")
    return found


def start_jdk(folder, devices, core):
    """Compile and start the JDK peer."""
    _fill(folder, devices)
    classes = folder / "classes"
    sources = sorted((PEERS / "jdk").glob("*.java"))
    _run(_java() / "bin" / "javac", "-d", classes, *sources, cwd=folder)
    command = [_java() / "bin" / "java", *JAVA_HEAP, NO_DELAY, "-cp", classes, "Peer", folder, servers.ROOT / "xsd"]
    return servers.Server("jdk", command, core)


def start_gsoap(folder, devices, core):
    """Generate, compile and start the gSOAP peer."""
    _fill(folder, devices)
    made = folder / "made"
    made.mkdir()
    for file in (*(servers.ROOT / "xsd").glob("*.xsd"), *(servers.ROOT / "wsdl").glob("*.wsdl")):
        shutil.copy(file, made)
    _run("wsdl2h", "-c", "-t", PEERS / "gsoap" / "typemap.dat", "-o", "metering.h", "metering.wsdl", cwd=made)
    header = made / "metering.h"
    header.write_text(f'#import "wsse.h"\n{header.read_text()}')
    _run("soapcpp2", "-c", "-S", "-L", "-x", f"-I{GSOAP / 'import'}:{GSOAP}", "metering.h", cwd=made)
    flags = ["-O2", "-march=native", *_pkg_config("--cflags"), f"-I{made}", f"-I{GSOAP}", f"-I{PEERS / 'gsoap'}"]
    plugins = [GSOAP / "plugin" / f"{name}.c" for name in ("smdevp", "mecevp", "threads")]
    foreign = ["soapC.c", "soapServer.c", GSOAP / "custom" / "struct_timeval.c", *plugins]
    _run("gcc", *flags, "-w", "-c", *foreign, cwd=made)
    cached = PEERS / "gsoap" / "cached_certificates.h"
    _run("gcc", *flags, "-w", "-include", cached, "-c", GSOAP / "plugin" / "wsseapi.c", cwd=made)
    _run("gcc", *flags, "-Wall", "-Wextra", "-c", *sorted((PEERS / "gsoap").glob("*.c")), cwd=made)
    libraries = (*_pkg_config("--libs"), "-lssl", "-lcrypto", "-lsqlite3", "-lz", "-lpthread")
    _run("gcc", "-o", "peer", *sorted(made.glob("*.o")), *libraries, cwd=made)
    return servers.Server("gsoap", [made / "peer", folder], core)


def _fill(folder, devices):
    """Make the peer's folder; enrolled.tsv is what these peers read: no JSON, the zone's standard offset worked out."""
    servers.fill_peer_folder(folder, devices)
    (folder / "enrolled.tsv").write_text("".join(f"{line}\n" for line in enrolled_lines(devices)))


def enrolled_lines(devices):
    """Yield enrolled.tsv's lines: `device serial certificate`, and each channel's key, interval, offset, start."""
    for device in devices:
        yield f"device\t{device.serial}\t{servers.base64_text(device.signer.certificate)}"
        for one in device.channels:
            rules = (one.interval_s, standard_offset_s(one.zone), one.valid_from_utc)
            yield "\t".join(("channel", device.serial, *one.key, *map(str, rules)))


def standard_offset_s(zone):
    """Return the zone's standard offset from UTC in seconds, for zones whose standard time does not change."""
    at = [moment.astimezone(ZoneInfo(zone)) for moment in (WINTER, SUMMER)]
    return min(int((one.utcoffset() - (one.dst() or timedelta())).total_seconds()) for one in at)


def _java():
    """Return the home of a JDK 17 or later, 17 if there is one; None without."""
    homes = [Path(home) for home in (os.environ.get("JAVA_HOME"),) if home]
    homes += sorted(Path("/usr/lib/jvm").glob("*17*"))
    if found := shutil.which("javac"):
        homes.append(Path(found).resolve().parent.parent)
    for home in homes:
        if (home / "bin" / "javac").exists():
            version = re.search(r"javac (\d+)", _first_line(home / "bin" / "javac", "-version"))
            if version and int(version[1]) >= 17:
                return home
    return None


def _has_header(header):
    text = f"#include <stdio.h>\n#include <{header}>\n"
    done = subprocess.run(["gcc", "-E", "-"], input=text, text=True, capture_output=True, check=False)
    return done.returncode == 0


def _pkg_config(what):
    return subprocess.run(["pkg-config", what, "gsoapssl"], capture_output=True, text=True, check=True).stdout.split()


def _first_line(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return next((line for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def _run(*command, cwd):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
