"""Checkpoints from outside: nothing in them is run, and what is no network says so. The key map: tests/peers."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from gmsdi.cli import main
from gmsdi.errors import UserError
from gmsdi.models.adapters.adp import convert, import_msdm, read_checkpoint


class Attack:
    """Unpickled with `pickle`, this calls `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Foreign:
    """A class that the reader does not have, with state."""

    def __init__(self):
        self.mean = -3.0


def checkpoint(path: Path, **hyper_parameters) -> Path:
    torch.save({"state_dict": {"w": torch.ones(2)}, "hyper_parameters": hyper_parameters}, path)
    return path


@pytest.mark.parametrize("function", [eval, os.system, os.mkdir], ids=lambda f: f.__name__)
def test_nothing_in_a_checkpoint_is_run(tmp_path, function):
    mark = tmp_path / "ran"
    argument = {eval: f"__import__('os').mkdir({str(mark)!r})", os.system: f"mkdir {mark}", os.mkdir: str(mark)}[
        function
    ]
    path = checkpoint(tmp_path / "a.ckpt", sampler=Attack(function, argument))
    with pytest.raises(UserError, match=r"a\.ckpt: (not a checkpoint that can be read safely|no UNet1d)"):
        import_msdm(path, tmp_path / "out")
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    torch.load(path, weights_only=False)  # with which it does run
    assert mark.exists()


def test_foreign_classes_are_passed_over(tmp_path):
    path = checkpoint(tmp_path / "a.ckpt", distribution=Foreign(), sigma_data=0.2, name="x", heads=8)
    weights, settings = read_checkpoint(path)
    assert torch.equal(weights["w"], torch.ones(2))
    assert settings == {"sigma_data": 0.2, "heads": 8}


def _pickled(path):
    path.write_bytes(pickle.dumps({"state_dict": {}}))


def _cut_short(path):
    checkpoint(path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("<html>"), "not a checkpoint that can be read safely"),
        (_pickled, "not a checkpoint that can be read safely"),
        (_cut_short, "not a checkpoint that can be read safely"),
        (lambda path: torch.save([1, 2], path), "neither a Lightning checkpoint nor a state dict"),
        (lambda path: torch.save({"state_dict": 3}, path), "its state_dict is not a dictionary"),
        (checkpoint, "no UNet1d of audio-diffusion-pytorch"),
    ],
)
def test_other_files_end_in_one_clear_line(tmp_path, write, message):
    path = tmp_path / "a.ckpt"
    write(path)
    with pytest.raises(UserError, match=message) as raised:
        import_msdm(path, tmp_path / "out")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_fragment_of_a_network_names_what_is_missing():
    with pytest.raises(UserError, match=r"'to_time\.0\.1\.weight' is missing"):
        convert({"unet.to_in.module_list.0.block.block1.project.weight": torch.zeros(2, 1, 3)})


def test_command_ends_in_one_clear_line(tmp_path, capsys):
    path = checkpoint(tmp_path / "a.ckpt")
    assert main(["import-msdm", str(path), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"gmsdi: {path}: no UNet1d of audio-diffusion-pytorch 0.0.43 in it\n"
