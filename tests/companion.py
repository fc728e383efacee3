"""The whole companion in this process: what the runner does, without a kernel for each notebook."""

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from tiny import silent
from traitlets.config import Config

import runner
from ldatlib.study.run import open_run

# As little of everything as there can be, so that the notebooks take seconds.
LEAST = {
    "epochs": 1,
    "plane_epochs": 1,
    "width": 4,
    "surrogate_width": 4,
    "steps": 2,
    "attack_steps": 1,
    "eval_images": 6,
    "saved_images": 6,
    "sweep_images": 2,
    "sweep_eps": (1.0, 1.5),
    "sweep_steps": (1, 2),
    "sweep_cw_steps": (1,),
    "scrutiny_images": 2,
    "scrutiny_norms": ("linf",),
    "masking_restarts": 1,
    "masking_queries": 2,
    "adaptive_steps": 1,
    "betas": (0.5,),
    "tsne_images": 20,
    "defences": ("standard", "ldat"),
}
# The smallest network; without it the profile's own.
SHALLOW = {"depth": 4, "stages": 1, "surrogate_depth": 4, "surrogate_stages": 1}


def whole_run(folder, overrides):
    """Everything computed, every notebook executed, the report written; its text.

    What a cell raises is raised here.
    """
    run = open_run("folder", overrides, folder, jobs=1)
    plans = {path: run.plan(path.name[:2]) for path in runner.notebooks()}
    run.complete([job for jobs in plans.values() for job in jobs], silent)
    parameters = {"profile": "folder", "overrides": overrides, "out": str(folder), "jobs": 1}
    for path in plans:
        _execute(path, parameters)
    return runner.write_report(run).read_text(encoding="utf-8")


def _execute(path, parameters):
    notebook = nbformat.read(path, 4)
    # The one of the process: what cells display asks for it. It leaves no history.
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.reset()
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        source = cell.source
        if "parameters" in cell.metadata.get("tags", []):
            source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        # Nothing is drawn by pyplot: figures are shown as what they are.
        source = source.replace("%matplotlib inline\n", "")
        with capture_output():
            result = shell.run_cell(source)
        try:
            result.raise_error()
        except Exception as error:
            error.add_note(f"in {path.name}:\n{source}")
            raise
    InteractiveShell.clear_instance()
