"""The mutation campaign in short: a handful of damages to one file; and its judges judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mutants
import mutate

COMMAND = [sys.executable, str(Path(__file__).parent / "mutate.py"), "--json"]
FILE, SAMPLED = "gridpost/exchange.py", "adapters/mv90/render.py"
SOURCE = '''
"""A docstring."""
LIMIT: int = 5

def judge(value, items, name="x"):
    """Another."""
    if value < LIMIT and not items:
        raise ValueError(f"{value} is too little")
    call(items[:value], detail="for people")
    return value + 1
'''
# By hand, of the operators that mutants.py lists.
DAMAGES = {
    "<module>: 5 -> 6",
    "<module>: 'x' -> 'xXX'",
    "judge: if value < LIMIT and (not items) -> if not (value < LIMIT and (not items))",
    "judge: value < LIMIT and (not items) -> value < LIMIT or not items",
    "judge: value < LIMIT and (not items) -> not items",
    "judge: value < LIMIT and (not items) -> value < LIMIT",
    "judge: value < LIMIT -> value <= LIMIT",
    "judge: not items -> items",
    "judge: raise ValueError(f'{value} is too little') -> pass",
    "judge: call(items[:value], detail='for people') -> pass",
    "judge: :value -> :value + 1",
    "judge: return value + 1 -> return None",
    "judge: value + 1 -> value - 1",
    "judge: 1 -> 2",
}


def run(*options: str) -> tuple[int, dict]:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=500, env=os.environ)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def whole():
    """The command on a few mutants, as it is."""
    return run(SAMPLED, "--sample", "8", "--seed", "3")


def test_a_handful_of_damages_is_noticed(whole):
    code, told = whole
    (found,) = told["files"]
    assert (code, told["ok"], found["problems"]) == (0, True, [])
    assert found["tried"] == 8
    assert found["killed"] + found["accepted"] == 8
    assert found["mutants"] > 200


def test_without_its_tests_they_survive(whole):
    """The sabotage: the same mutants, the score falls."""
    code, told = run(SAMPLED, "--sample", "8", "--seed", "3", "--sabotage", "tests-off test_m")
    assert (code, told["ok"]) == (1, False)
    assert told["files"][0]["score"] < whole[1]["files"][0]["score"]
    assert any("survived, not listed" in problem for problem in told["files"][0]["problems"])


def test_the_damages_are_those_listed(tmp_path):
    (tmp_path / "module.py").write_text(SOURCE)
    made = mutants.of_file(tmp_path, "module.py").mutants
    assert {f"{one.function}: {one.what}" for one in made} == DAMAGES


@pytest.mark.parametrize("place", range(len(DAMAGES)))
def test_each_damage_is_another_program(tmp_path, place):
    (tmp_path / "module.py").write_text(SOURCE)
    whole, damaged = mutants.of_file(tmp_path, "module.py"), mutants.of_file(tmp_path, "module.py")
    code = damaged.code(damaged.mutants[place])
    assert code != compile(whole.tree, damaged.path, "exec", dont_inherit=True)


def listed(tmp_path: Path, function: str, mutation: str, reason: str = "because") -> Path:
    path = tmp_path / "accepted.toml"
    path.write_text(
        f'[[survivor]]\nfile = "{FILE}"\nfunction = "{function}"\nmutations = ["{mutation}"]\nreason = "{reason}"\n'
    )
    return path


def judged(path: Path, *trials: mutate.Trial) -> mutate.OfFile:
    found = mutate.OfFile(FILE)
    mutate._judge_outcomes(found, trials, mutants.of_file(mutate.ROOT, FILE), mutate.Accepted.of(FILE, path))
    return found


def trial(what: str, by: str) -> mutate.Trial:
    made = mutants.of_file(mutate.ROOT, FILE).mutants
    return mutate.Trial(next(one for one in made if one.what == what), by)


def test_survivors_must_be_listed_and_the_list_must_be_true(tmp_path):
    what, where = "last + 999 -> last - 999", "valid_at"
    accepted = listed(tmp_path, where, what)
    noticed = [trial("999 -> 1000", "tests/a.py::test")] * 9
    assert judged(accepted, trial(what, "survived"), *noticed).problems == []
    assert "survived, not listed" in judged(listed(tmp_path, "other", what), trial(what, "survived")).problems[1]
    assert "no such mutant" in judged(listed(tmp_path, where, "a -> b"), *noticed).problems[0]
    assert "noticed by" in judged(listed(tmp_path, where, what), trial(what, "tests/a.py::test")).problems[0]
    assert "score 0.0 %, under 90 %" in judged(listed(tmp_path, where, what), trial(what, "survived")).problems
    with pytest.raises(SystemExit, match="no reason"):
        judged(listed(tmp_path, where, what, reason=" "))


def test_what_is_accepted_names_targets_that_are():
    text = mutate.ACCEPTED.read_text()
    assert text.count("\nfile = ") == sum(text.count(f'file = "{file}"') for file in mutate.TARGETS)
    assert all((mutate.ROOT / test).is_file() for target in mutate.TARGETS.values() for test in target.tests)


def test_changed_files_are_found_by_git(tmp_path, monkeypatch):
    """A repository with two targets, of which one was changed since its first commit."""
    names = list(mutate.TARGETS)[:2]
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    assert mutate.changed("HEAD") == []
    (tmp_path / names[1]).write_text("1")
    assert mutate.changed("HEAD") == [names[1]]
