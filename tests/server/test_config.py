"""gridpost.toml: what is written reads back, and what is mistyped is refused by name."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from gridpost.server import config

from gridpost.errors import ConfigInvalid, NotFound


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "gridpost.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_empty_file_is_all_defaults(tmp_path):
    loaded = config.load(written(tmp_path, ""))
    assert loaded == config.Config(tmp_path.resolve())
    assert loaded.path(loaded.bus.database) == tmp_path.resolve() / "gridpost.db"


def test_paths_are_relative_to_the_file_not_to_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    loaded = config.load(written(tmp_path, '[bus]\ndatabase = "data/x.db"\naudit = "/var/log/gridpost.jsonl"\n'))
    assert loaded.path(loaded.bus.database) == tmp_path.resolve() / "data" / "x.db"
    assert loaded.path(loaded.bus.audit) == Path("/var/log/gridpost.jsonl")


def test_the_rendered_file_is_toml_and_shows_every_setting_with_its_meaning(tmp_path):
    given = {"bus": {"id": "north"}, "listen": {"http": "127.0.0.1:0", "connections": 7}, "mv90": {"enabled": False}}
    text = config.render(given)
    assert tomllib.loads(text) == {
        "identity": {},
        "trust": {},
        "log": {},
        "metrics": {},
        "commands": {},
        "office": {},
        "tariffs": {},
        "choice": {},
        "reports": {},
        "quality": {},
        **given,
    }
    for kind in config.SECTIONS.values():
        for item in fields(kind):
            assert f"# {item.metadata['meaning']}\n" in text
            assert f"{item.name} = " in text
    loaded = config.load(written(tmp_path, text))
    assert (loaded.bus.id, loaded.listen.connections, loaded.mv90.enabled) == ("north", 7, False)


def test_a_commented_default_is_the_default(tmp_path):
    """Taking the comment signs away changes nothing."""
    lines = []
    for line in config.render({}).splitlines():
        bare = line.removeprefix("# ")
        name = bare.partition(" = ")[0]
        lines.append(bare if " = " in bare and name.isidentifier() else line)
    tables = tomllib.loads("\n".join(lines))
    assert tables["listen"]["body_limit"] == 1_048_576
    loaded = config.load(written(tmp_path, "\n".join(lines)))
    assert loaded == config.Config(tmp_path.resolve())


@pytest.mark.parametrize("value", ['plain "quoted"', "back\\slash", "C:\\new\\table", "ünï", "a\tb", "a\nb\x7f\x00"])
def test_text_survives_rendering(tmp_path, value):
    loaded = config.load(written(tmp_path, config.render({"mv90": {"directory": value}})))
    assert loaded.mv90.directory == value


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[listn]\n", "unknown section [listn]"),
        ("[listen]\nbody_limt = 5\n", "unknown key body_limt"),
        ("id = 'top level'\n", "unknown section [id]"),
        ("bus = 5\n", "[bus] is not a section"),
        ("[listen]\nbody_limit = '1 MiB'\n", "body_limit"),
        ("[listen]\nbody_limit = 1.5\n", "body_limit"),
        ("[listen]\nbody_limit = true\n", "body_limit"),
        ("[listen]\nbody_limit = 0\n", "listen.body_limit must be at least 1"),
        ("[listen]\nconnections = -1\n", "listen.connections must be at least 1"),
        ("[listen]\nconnections_per_peer = 0\n", "listen.connections_per_peer must be at least 1"),
        ("[mv90]\npoll_s = 0\n", "mv90.poll_s must be at least 1"),
        ("[mv90]\ngrace_h = -1\n", "mv90.grace_h must be at least 0"),
        ("[mv90]\nenabled = 1\n", "enabled"),
        ("[listen]\nhttp = ''\n", "neither listen.http nor listen.https"),
        ("[listen]\nhttps = '127.0.0.1:443'\n", "listen.tls_certificate"),
        ("[listen]\nhttp = '80'\n", "'80' is not address:port"),
        ("[listen]\nhttp = ':80'\n", "':80' is not address:port"),
        ("[listen]\nhttp = '127.0.0.1:65536'\n", "is not address:port"),
        ("[listen]\nhttp = '127.0.0.1:-1'\n", "is not address:port"),
        ("[listen]\nhttp = '127.0.0.1:٣'\n", "is not address:port"),
        ("[bus]\nid = ''\n", "bus.id"),
        (f"[bus]\nid = '{'x' * 65}'\n", "bus.id"),
        ("[bus]\nid = 'bus\\u0007'\n".replace("'", '"'), "bus.id"),
        ("[bus]\nid = 'büs'\n", "bus.id"),
        ("[bus\n", "gridpost.toml"),
        ("[bus]\nid = 'a'\nid = 'b'\n", "gridpost.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    with pytest.raises(ConfigInvalid) as refused:
        config.load(written(tmp_path, text))
    assert named in refused.value.reason


def test_a_file_that_is_not_utf_8_is_invalid(tmp_path):
    file = tmp_path / "gridpost.toml"
    file.write_bytes(b"[bus]\nid = '\xff'\n")
    with pytest.raises(ConfigInvalid):
        config.load(file)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(NotFound, match="gridpost init"):
        config.load(tmp_path / "gridpost.toml")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("meters.example:443", ("meters.example", 443)),
    ],
)
def test_addresses_are_split(address, parts):
    assert config.host_port(address) == parts


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("most = { shedd = 5 }", "shedd"),
        ("most = { shed = -1 }", "commands.most"),
        ("persons = { shed = true }", "commands.persons"),
        ('value = { reduce = "1e9" }', "commands.value"),
        ("value_all = { reduce = 5 }", "commands.value_all"),
        ('may = { supplier = ["trip", "explode"] }', "explode"),
        ('may = { king = ["trip"] }', "king"),
        ('clock_gap = "ignore"', "commands.clock_gap"),
    ],
)
def test_a_mistyped_rule_about_commands_is_no_rule_at_all_and_is_refused(tmp_path, line, named):
    with pytest.raises(ConfigInvalid, match=named):
        config.load(written(tmp_path, f"[commands]\n{line}\n"))


def test_what_switches_something_is_bounded_from_the_start(tmp_path):
    most = config.load(written(tmp_path, "")).commands.most
    assert most == dict.fromkeys(
        ("shed", "restore", "reduce", "start-generator", "disconnect-generator", "trip", "inhibit"), 500
    )
