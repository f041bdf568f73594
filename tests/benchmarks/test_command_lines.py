"""The command line of every benchmark: it has help, and refuses unknown arguments with one line."""

import importlib
import pkgutil

import pytest

import benchmarks

MODULES = [module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]
COMMANDS = [name for name in MODULES if hasattr(importlib.import_module(name), "main")]


def test_every_command_is_found():
    assert len(COMMANDS) == 17


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--unknown_argument=1", 1)])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown_and_an_unknown_argument_refused(name, argument, status, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main([argument])
    assert stopped.value.code == status
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: ") if status == 0 else printed.err.startswith("error: ")
