"""What is installed: each folder is named, the data is in the wheel, entry points load, the tools start light."""

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLACES = {"server", "ied_soap_client", "adapters", "xsd", "wsdl"}
DATA = (".xsd", ".wsdl", ".typed", ".md", ".csv")


def _folders() -> set[str]:
    """Every folder of the house that holds Python files, by its installed name."""
    found = {"gridpost"}
    for top in PLACES:
        for file in (ROOT / top).rglob("*.py"):
            found.add("gridpost." + file.parent.relative_to(ROOT).as_posix().replace("/", "."))
    return found | {
        file.parent.relative_to(ROOT).as_posix().replace("/", ".") for file in (ROOT / "gridpost").rglob("*.py")
    }


def test_the_package_list_is_the_folders():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == _folders()


def test_every_package_is_a_package():
    top = PROJECT["tool"]["setuptools"]["package-dir"]
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        known = max((name for name in top if package == name or package.startswith(f"{name}.")), key=len)
        folder = ROOT / top[known] / package.removeprefix(known).replace(".", "/").lstrip("/")
        assert (folder / "__init__.py").is_file(), package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built from a copy so that nothing is left behind here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout.decode().split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check",
         "--wheel-dir", str(out), str(source)],
        check=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_house(wheel):
    inside = set(wheel.namelist())
    expected = set()
    for top in ("gridpost", *PLACES):
        for file in (ROOT / top).rglob("*"):
            if file.suffix == ".py" or (file.suffix in DATA and file.is_file()):
                path = file.relative_to(ROOT).as_posix()
                expected.add(path if top == "gridpost" else f"gridpost/{path}")
    assert len(expected) > 80
    assert expected - inside == set()


@pytest.mark.parametrize(
    "name",
    [
        "gridpost/xsd/receipt.xsd",
        "gridpost/wsdl/metering.wsdl",
        "gridpost/py.typed",
        "gridpost/server/store/migrations/versions/0001_readings.py",
    ],
)
def test_the_wheel_holds_the_contract_and_the_migrations(wheel, name):
    assert name in wheel.namelist()


def test_the_wheel_holds_no_tests_and_the_licence(wheel):
    names = wheel.namelist()
    assert not [name for name in names if name.split("/")[0] in {"tests", "bench", "script", *PLACES}]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_both_programs_are_installed():
    own = {point.name: point.value for point in entry_points(group="console_scripts")}
    assert own["gridpost"] == "gridpost.server.cli:main"
    assert own["gridpost-ied"] == "gridpost.ied_soap_client.cli:main"


@pytest.mark.parametrize("group", ["gridpost.adapters", "gridpost.deliveries"])
def test_the_entry_points_load(group):
    declared = PROJECT["project"]["entry-points"][group]
    found = {point.name: point for point in entry_points(group=group)}
    assert set(declared) <= set(found)
    for name in declared:
        assert isinstance(found[name].load(), type), name


LIGHT = """
import sys
sys.argv = ["gridpost", {command!r}, "--help"]
try:
    from gridpost.server.cli import main
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
loaded = {{name.split(".")[0] for name in sys.modules}}
print("HEAVY", sorted(loaded & {{"twisted", "spyne", "sqlalchemy", "zeep", "pymodbus"}}))
"""


def test_the_tariff_formats_load():
    """Each is a module: `parse`, `render` and the options of `parse`."""
    found = {point.name: point.load() for point in entry_points(group="gridpost.tariffs")}
    assert set(PROJECT["project"]["entry-points"]["gridpost.tariffs"]) <= set(found)
    assert callable(found["urdb"].parse)


@pytest.mark.parametrize("command", ["convert", "validate", "verify"])
def test_tools_start_without_twisted_spyne_and_the_store(command):
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIGHT.format(command=command)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_a_bus_without_an_office_loads_no_spyne():
    """A third of a second at each start, of each process."""
    program = "import sys, gridpost.server.app; print('spyne' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_versions_agree():
    assert version("gridpost") == PROJECT["project"]["version"]
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
