"""The notebook for Colab runs from top to bottom, here with a training of a few steps."""

import pathlib
import re
import tomllib

import nbclient
import nbformat
import pytest

from dcrl_jax import checkpoints

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "colab.ipynb"
# Required packages that every Colab machine has.
IN_COLAB = ["jax", "numpy", "absl-py", "etils", "pillow", "matplotlib", "psutil", "tqdm", "pyyaml"]


def test_packages_that_colab_may_lack_are_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = project["dependencies"] + project["optional-dependencies"]["train"]
    names = {re.split(r"[\[<>=,]", requirement)[0] for requirement in required}
    code = nbformat.read(NOTEBOOK, as_version=4).cells[3].source
    wanted = re.findall(r'"[\w.]+": "([\w-]+)"', code)
    assert sorted(wanted) == sorted(names.difference(IN_COLAB))


@pytest.mark.slow
def test_every_cell_runs_and_the_last_checkpoint_detects(tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    settings = notebook.cells[1]
    sizes = "SCENES, STEPS = 1200, 600"
    assert sizes in settings.source
    settings.source = settings.source.replace(sizes, "SCENES, STEPS = 40, 4")
    (work,) = [cell for cell in notebook.cells if 'WORK = Path("runs/colab").resolve()' in cell.source]
    work.source = work.source.replace('Path("runs/colab").resolve()', f"Path({str(tmp_path)!r})")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in code]
    assert "added: nothing; jax" in printed[1]
    assert "step 2 of 2: " in printed[2]
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    assert "boxes in the first scene" in printed[-1]
    assert checkpoints.newest_step(tmp_path / "tuned" / "checkpoints") == 2
