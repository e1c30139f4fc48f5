"""Files that are no training states, and which of an experiment's files are removed."""

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dasr_arch._errors import InputError
from dasr_arch.pipelines.checkpoints import _lock, prune, read_state, write_degradations


def test_missing_state_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"4\.state' does not exist; check path\.resume_state"):
        read_state(tmp_path / '4.state')


def test_weights_are_no_state(tmp_path: Path) -> None:
    torch.save({'params': {}}, tmp_path / 'net_g_4.pth')
    with pytest.raises(InputError, match=r"net_g_4\.pth' is no training state; weights go to"):
        read_state(tmp_path / 'net_g_4.pth')


@pytest.mark.parametrize(('keep', 'left'), [(0, [4, 8, 12]), (1, [12]), (2, [8, 12]), (5, [4, 8, 12])])
def test_newest_files_are_kept_and_those_without_a_number(tmp_path: Path, keep: int, left: list[int]) -> None:
    paths = {key: str(tmp_path / key) for key in ('models', 'training_states')}
    names = {'models': ['net_g_best.pth', 'net_g_latest.pth'], 'training_states': ['notes.state']}
    for key, folder in paths.items():
        Path(folder).mkdir()
        form = 'net_g_{}.pth' if key == 'models' else '{}.state'
        for name in [*names[key], *map(form.format, (4, 8, 12))]:
            (Path(folder) / name).touch()
        names[key] += map(form.format, left)
    prune({'path': paths}, keep)
    for key, folder in paths.items():
        assert {path.name for path in Path(folder).iterdir()} == set(names[key])


def test_data_set_of_ready_images_has_no_degradation_to_describe(tmp_path: Path) -> None:
    options: dict[str, Any] = {'scale': 4, 'datasets': {'train': {'name': 'pairs', 'type': 'PairedImageDataset'}}}
    write_degradations(options, tmp_path / 'degradations.json')
    assert (tmp_path / 'degradations.json').read_text() == '{\n  "scale": 4,\n  "datasets": {}\n}\n'


@pytest.mark.skipif(sys.platform == 'win32', reason='no fcntl')
def test_file_systems_without_locks_are_trained_on(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('fcntl.lockf', fail)
    _lock(tmp_path).close()
