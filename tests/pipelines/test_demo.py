"""The demo: its folder, its option files, and a whole run in small."""

import contextlib
import shutil
from pathlib import Path

import pytest

from dasr_arch._errors import InputError
from dasr_arch.benchmark.config import build_degradations
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.config.typed import convert
from dasr_arch.config.yaml_reader import read_yaml
from dasr_arch.data.degrade_files import read_degradation_record
from dasr_arch.data.image_source import open_source
from dasr_arch.pipelines.demo import OPTION_FILES, PAGE_NAME, choose_folder, run_demo, write_demo_page
from dasr_arch.pipelines.testing import TestOptions
from tests.benchmark.making import write_images

SMALL_NETWORK = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 16, 'encoder_feat': 4}
SMALL = (
    'train.total_iter=4',
    'train.stage_1.total_iter=2',
    'train.stage_2.total_iter=2',
    'datasets.train.batch_size_per_gpu=2',
    'datasets.train.gt_size=32',
    'val.val_freq=1',
    'logger.print_freq=1',
    'logger.save_checkpoint_freq=2',
    *(f'network_g.{key}={value}' for key, value in SMALL_NETWORK.items()),
)


def test_every_demo_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(choose_folder())
        folders[-1].mkdir(parents=True)
    assert list(map(str, folders)) == ['results/demo', 'results/demo-2', 'results/demo-3']


def test_folder_of_the_user_must_be_empty(tmp_path: Path) -> None:
    assert choose_folder(tmp_path / 'new') == tmp_path / 'new'
    assert choose_folder(tmp_path) == tmp_path
    (tmp_path / 'mine.txt').write_text('kept')
    for taken in (tmp_path, tmp_path / 'mine.txt'):
        with pytest.raises(InputError, match='exists already'):
            choose_folder(taken)


def test_option_files_pass_the_checks_of_training_and_test(tmp_path: Path) -> None:
    write_images(tmp_path / 'train.lmdb.source', 12, 100, 100)
    write_images(tmp_path / 'images' / 'test', 2)
    with contextlib.chdir(tmp_path):
        checked = load_training_options(
            OPTION_FILES / 'train_demo.yml', ['datasets.train.dataroot_gt=train.lmdb.source']
        )
    test = convert(read_yaml(OPTION_FILES / 'test_demo.yml'), TestOptions, 'test_demo.yml')
    assert test.name == 'test_demo'
    tested = [degradation.specification() for degradation in build_degradations(test.degradations, 4)]
    assert checked['datasets']['val_1']['degradation'] == tested


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small demo."""
    folder = tmp_path_factory.mktemp('demo') / 'out'
    report = run_demo(folder, SMALL)
    assert report.page == folder / PAGE_NAME
    assert 'Bicubic' in report.console
    return folder


@pytest.mark.slow
def test_demo_leaves_data_weights_results_and_a_page(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        'demo.json',
        'experiments',
        'images',
        'index.html',
        'lq',
        'representations.json',
        'results',
        'test_demo.yml',
        'train.lmdb',
        'train_demo.yml',
    ]
    assert (finished / 'experiments/train_demo/models/net_g_latest.pth').is_file()
    assert len(open_source(finished / 'train.lmdb')) > 20
    record = read_results(finished / 'results/test_demo/table.json')
    assert [row['network'] for row in record['rows'][::5]] == ['Bicubic', 'DASR, minutes', 'DASR-S, packaged']
    assert len(record['rows']) == 3 * 5
    assert not any(row['failure'] for row in record['rows'])


@pytest.mark.slow
def test_training_and_test_images_of_the_demo_are_disjoint(finished: Path) -> None:
    train, test = ({path.stem for path in (finished / 'images' / part).iterdir()} for part in ('train', 'test'))
    assert len(train) >= 8
    assert len(test) >= 4
    assert not train & test


@pytest.mark.slow
def test_lr_images_of_the_demo_carry_their_specification(finished: Path) -> None:
    labels = {read_degradation_record(path).degradation.label for path in finished.glob('lq/*/degradation.json')}
    record = read_results(finished / 'results/test_demo/table.json')
    assert labels == {row['degradation'] for row in record['rows']}


@pytest.mark.slow
def test_page_is_made_again_from_what_was_saved(finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / 'copy')
    (copy / PAGE_NAME).unlink()
    write_demo_page(copy)
    assert (copy / PAGE_NAME).read_bytes() == (finished / PAGE_NAME).read_bytes()
    text = (copy / PAGE_NAME).read_text(encoding='utf-8')
    for part in (
        '2 + 2 iterations',
        'contrastive loss',
        'What the degradation changes',
        'astronaut',
        'CC0',
        'DASR-S, packaged against Bicubic',
    ):
        assert part in text


@pytest.mark.slow
def test_damaged_demo_is_named(finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / 'copy')
    (copy / 'demo.json').write_text('{')
    with pytest.raises(InputError, match=r'demo\.json: missing or damaged'):
        write_demo_page(copy)
