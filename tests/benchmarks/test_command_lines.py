"""The command line of every benchmark: it has help, and refuses what it does not know."""

import importlib
import pkgutil
import sys

import pytest

import benchmarks

COMMANDS = [
    f"{one.name}.__main__" if one.ispkg else one.name
    for one in pkgutil.iter_modules(benchmarks.__path__)
    if one.name != "overrides"
]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown_and_an_unknown_argument_is_refused_before_anything_is_measured(name, monkeypatch, capsys):
    command = importlib.import_module(f"benchmarks.{name}")
    for argument, status in (("--help", 0), ("--nothing_of_the_kind", 2)):
        monkeypatch.setattr(sys, "argv", [name, argument])
        with pytest.raises(SystemExit) as stopped:
            command.main()
        assert stopped.value.code == status
    shown = capsys.readouterr()
    assert shown.out.startswith("usage: ")
    assert shown.out.count("usage: ") == 1
    assert "error: " in shown.err
