"""The direction of imports: every import goes down the table, or stays within its package."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# From bottom to top; entries of one line know nothing of each other.
FLOORS = [
    ["errors", "homography", "opening"],
    [
        "signals",
        "disk_errors",
        "peers",
        "files",
        "progress",
        "devices",
        "jax_errors",
        "hub",
        "tables",
        "annotations",
        "decoding",
        "registration",
    ],
    ["command_line", "config", "structures", "pairs", "roll_call"],
    ["ops", "processes"],
    ["losses", "models", "published", "parallel", "param_trees"],
    ["data", "checkpoints"],
    ["evaluation"],
    ["reports"],
    ["scorers", "training", "inference"],
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# Their commands keep the names that users know.
SHIMS = {f"dcrl_jax/evaluation/{name}.py" for name in ("kaist", "caltech", "nightowls", "coco")}
# The folders beside the package, and what they may import of it.
BESIDE = {
    "datasets": {*FLOORS[0], *FLOORS[1], "command_line", "structures", "pairs"} - {"hub", "jax_errors"},
    "configs": {"config", "command_line"},
}


def modules(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports_of(path):
    """The dotted names that a file imports, at its top or within its functions, but not for types only."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "dcrl_jax":
                yield from (f"dcrl_jax.{alias.name}" for alias in node.names)
            else:
                yield node.module


def room_of(path):
    return path.relative_to(ROOT / "dcrl_jax").parts[0].removesuffix(".py")


def is_text(call, name, flags):
    """Whether a call reads or writes text in the encoding of the locale."""
    if "encoding" in flags:
        return False
    if name == "open":
        positional = call.args if isinstance(call.func, ast.Attribute) else call.args[1:]
        mode = flags.get("mode") or (positional[0] if positional else ast.Constant("r"))
        return isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rwaxt+")
    counts = {"read_text": 0, "write_text": 1}  # the next positional argument is the encoding
    return len(call.args) <= counts[name] if name in counts else "text" in flags and name in ("run", "Popen")


def test_text_files_name_their_encoding():
    calls = []
    for path in [ROOT / "main.py", *(path for name in ("dcrl_jax", "benchmarks", *BESIDE) for path in modules(name))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if is_text(node, name, {keyword.arg: keyword.value for keyword in node.keywords}):
                    calls.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert calls == []


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in modules("dcrl_jax")} - {"__init__"}
    assert rooms == FLOOR_OF.keys()


@pytest.mark.parametrize("room", FLOOR_OF)
def test_imports_go_down(room):
    upward = []
    for path in modules("dcrl_jax"):
        if room_of(path) != room or str(path.relative_to(ROOT)) in SHIMS:
            continue
        for name in imports_of(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            is_above = package in ("configs", "datasets", "benchmarks", "main") or (
                package == "dcrl_jax" and other in FLOOR_OF and other != room and FLOOR_OF[other] >= FLOOR_OF[room]
            )
            if is_above:
                upward.append(f"{path.relative_to(ROOT)}: {name}")
    assert upward == []


@pytest.mark.parametrize("folder", BESIDE)
def test_folders_beside_the_package_import_little_of_it(folder):
    names = {name for path in modules(folder) for name in imports_of(path) if name.startswith("dcrl_jax.")}
    assert {name.split(".")[1] for name in names} <= BESIDE[folder]
