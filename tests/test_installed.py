"""The wheel in a fresh environment, beside a project that has packages of the same names as ours."""

import importlib
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import PROJECT, Command

ROOMS = ("lightning_app", "datamodules", "modules", "callbacks")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_not_imported_under_a_second_name(room: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(PROJECT))
    with pytest.raises(ImportError, match=f"'{room}' is a part of Labelbridge; import it as 'labelbridge.{room}'"):
        importlib.import_module(room)


def test_the_old_class_path_is_refused_in_one_line(cli: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(PROJECT))
    outcome = cli("fit", "--config", "teacher.yaml", "--model=modules.TeacherModule", "--print_config")
    assert outcome.code == 2
    assert "'modules' is a part of Labelbridge; import it as 'labelbridge.modules'" in outcome.err
    assert outcome.err.count("\n") == 1


def copy_of_the_checkout(folder: Path) -> Path:
    """What git tracks, its links as links: a build must not write into the checkout."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / name).is_symlink():
            target.symlink_to((PROJECT / name).readlink())
        elif (PROJECT / name).is_file():
            target.write_bytes((PROJECT / name).read_bytes())
    return folder


def plain_environment() -> dict[str, str]:
    """No PYTHONPATH: tests/warm.py sets one to the checkout, where pip would find Labelbridge installed already."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the wheel; its dependencies are borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    checkout = copy_of_the_checkout(folder / "checkout")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(checkout)]
    subprocess.run(build, check=True, capture_output=True, env=plain_environment())
    (wheel,) = folder.glob("labelbridge-*.whl")
    venv.create(folder / "env")
    python = folder / "env/bin/python"
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, env=plain_environment())
    # Only now, so that pip does not see what is installed there. Its .pth files, an editable install's, do not count.
    (site,) = (folder / "env").glob("lib/python3*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a `modules`, a `callbacks` and a `lightning_app` (the old package of that name) of its own."""
    folder = tmp_path_factory.mktemp("project")
    for room in ROOMS:
        (folder / room).mkdir()
        (folder / room / "__init__.py").write_text(f"OWN = 'the {room} of this project'\n")
    with (folder / "modules/__init__.py").open("a") as stream:
        stream.write("import labelbridge\n\n\nclass MyTeacher(labelbridge.TeacherModule):\n    '''A teacher.'''\n")
    return folder


def run(project: Path, *command: object) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=project, capture_output=True, text=True, env=plain_environment())


def code_block(page: Path, word: str) -> str:
    """The Python block of a page that holds a word."""
    blocks = [block.partition("\n```")[0] for block in page.read_text(encoding="utf-8").split("```python\n")[1:]]
    (block,) = [block for block in blocks if word in block]
    return block


BEFORE = """
import sys, callbacks, modules, datamodules, lightning_app
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, default_collate
import labelbridge, labelbridge.lightning_app

for own in (callbacks, modules, datamodules, lightning_app):
    assert own.OWN == f"the {own.__name__} of this project"
assert labelbridge.__file__.startswith(sys.prefix), labelbridge.__file__
assert labelbridge.lightning_app is not lightning_app
assert issubclass(modules.MyTeacher, labelbridge.modules.TeacherModule)

class Mine(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch["x"]), batch["y"])
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)

rows = [{"row": n, "x": torch.randn(4), "y": n % 2} for n in range(20)]
loader = train_loader = DataLoader(rows, batch_size=5)
ids, gold_label_numbers, module = [f"row{n}" for n in range(20)], torch.tensor([row["y"] for row in rows]).numpy(), Mine()
Trainer_, Trainer = Trainer, lambda **settings: Trainer_(accelerator="cpu", max_epochs=2, logger=False, **settings)
"""
AFTER = """
read = labelbridge.lightning_app.dynamics.store.read_dynamics
from pathlib import Path
found = read(Path("runs/mine/dynamics-train"), labelbridge.Task("mine", ["text"], ["negative", "positive"]))
assert found.log_probs_ENC.shape == (2, 20, 2), found.log_probs_ENC.shape
"""
SELECT = """
import labelbridge
selection = labelbridge.select("samples/sentiment/pool/train.jsonl", "samples/sentiment/pseudolabels", quota=5)
assert len(selection) == 15
try:
    labelbridge.read("runs/select")
except labelbridge.InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_the_readmes_callback_works_beside_packages_of_the_same_names(installed: Path, project: Path):
    block = code_block(PROJECT / "README.md", "CartographyCallback(")
    (project / "train.py").write_text(BEFORE + block + AFTER)
    told = run(project, installed / "python", "train.py")
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_labelbridge_fit_trains_a_module_of_the_projects_own(installed: Path, project: Path, tiny_bert: Path):
    quiet = ("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
    words = ("--model=modules.MyTeacher", f"--model.model={tiny_bert}", "--trainer.logger=false", *quiet)
    told = run(project, installed / "labelbridge", "fit", "--config", "teacher.yaml", *words)
    assert told.returncode == 0, told.stderr
    assert (project / "runs/teacher/model/model.safetensors").is_file()
    assert "main.py" not in told.stderr
    manifest = (project / "runs/teacher/_manifest.json").read_text()
    assert '"command": "labelbridge fit --config teacher.yaml' in manifest


@pytest.mark.slow
def test_a_selection_from_python_finds_the_packaged_sample(installed: Path, project: Path):
    (project / "choose.py").write_text(SELECT)
    told = run(project, installed / "python", "choose.py")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("runs/select: no such artifact")
    (package,) = (installed.parent / "lib").glob("python3*/site-packages/labelbridge")
    assert (package / "py.typed").is_file()  # type checkers read the annotations


@pytest.mark.slow
def test_messages_name_the_installed_program(installed: Path, project: Path):
    told = run(project, installed / "labelbridge", "--help")
    assert told.stdout.startswith("usage: labelbridge COMMAND")
    mistake = run(project, installed / "labelbridge", "selct")
    assert mistake.stderr == "error: 'selct' is not a command, did you mean 'select'?; see labelbridge --help\n"
    missing = run(project, installed / "labelbridge", "select", "--config", "select.yaml", "--pseudolabels=none")
    assert missing.returncode == 2
    assert '"labelbridge predict --config pseudolabel.yaml"' in missing.stderr
    for line in (*told.stdout.splitlines(), missing.stderr):
        assert "main.py" not in line
