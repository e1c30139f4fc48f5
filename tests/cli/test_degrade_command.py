"""Output, exit codes and files of `dasr degrade`."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from dasr_arch.data.image_io import read_image, write_image
from dasr_cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two images in `in`."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ('a', 'b'):
        write_image(Path('in') / f'{name}.png', generator.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    return tmp_path


def specification(path: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(Path(path).read_text())['specification']
    return content


def test_folder_is_degraded_with_a_progress_bar(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['degrade', 'in', 'low', '--scale', '2', '--sigma', '2.4', '--noise', '10']) == 0
    printed = capsys.readouterr()
    assert printed.out == '2 LR images, x2, sigma 2.4, noise 10; see low/degradation.json\n'
    assert '2/2' in printed.err
    assert read_image('low/b.png').shape == (20, 24, 3)
    assert specification('low/degradation.json') == {'type': 'IsotropicGaussian', 'sigma': 2.4, 'noise': 10.0}


def test_what_a_folder_run_leaves_out_is_counted_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ('a.gif', 'b.gif', 'notes.txt', '.hidden'):
        Path('in', name).write_bytes(b'x')
    assert main(['degrade', 'in', 'low', '--sigma', '2']) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == '3 left out (2 .gif, 1 .txt): not PNG, JPEG, BMP, TIFF or WebP'


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no named pipes')
def test_image_of_a_pipe_is_degraded_to_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo('pipe')
    assert main(['degrade', 'pipe', 'in', '--sigma', '2']) == 2
    assert 'pipe: is a pipe, which has no name for its result; give an output file' in capsys.readouterr().err
    data = Path('in/a.png').read_bytes()
    writer = threading.Thread(target=Path('pipe').write_bytes, args=(data,), daemon=True)
    writer.start()
    Path('a.png').write_bytes(data)
    assert main(['degrade', 'pipe', 'low/a.png', '--sigma', '2', '--noise', '5']) == 0
    assert main(['degrade', 'a.png', 'plain.png', '--sigma', '2', '--noise', '5']) == 0
    np.testing.assert_array_equal(read_image('low/a.png'), read_image('plain.png'))


def test_every_option_reaches_the_specification(folder: Path) -> None:
    line = 'degrade in/a.png low.png --lambda 3.2 1.0 --theta 45 --jpeg 60 --downsample s_fold --border mirror'
    assert main([*line.split(), '--kernel-size', '15', '--seed', '7']) == 0
    assert specification('low.json') == {
        'type': 'AnisotropicGaussian',
        'lambda_1': 3.2,
        'lambda_2': 1.0,
        'theta_deg': 45.0,
        'jpeg': 60,
        'downsample': 's_fold',
        'border': 'mirror',
        'kernel_size': 15,
    }
    assert json.loads(Path('low.json').read_text())['seed'] == 7
    assert read_image('low.png').shape == (10, 12, 3)


@pytest.mark.parametrize(
    ('strength', 'given'),
    [('mixed', {}), ('severe', {'level_probabilities': [0, 0, 1]}), ('clean', {'level_probabilities': [0, 0, 0]})],
)
def test_photographs_are_degraded_and_the_record_tells_how(
    folder: Path, strength: str, given: dict[str, object]
) -> None:
    assert main(['degrade', 'in', 'low', '--photographic', strength]) == 0
    assert specification('low/degradation.json') == {'type': 'Photographic', **given}
    record = json.loads(Path('low/degradation.json').read_text())['pictures']
    for entry in record.values():
        assert strength in ('mixed', entry['level'])
        assert entry['resize']['filter'] in ('bicubic', 'bilinear', 'area', 'lanczos')
        assert entry['codec'] == 'none' or 'quality' in entry['codec']
    assert main(['degrade', 'in', 'again', '--record', 'low/degradation.json']) == 0
    assert Path('again/a.png').read_bytes() == Path('low/a.png').read_bytes()


def test_strength_that_decides_the_noise_refuses_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['degrade', 'in', 'low', '--photographic', 'weak', '--noise', '5']) == 2
    assert '--noise is no parameter of Photographic' in capsys.readouterr().err
    assert not Path('low').exists()


def test_record_makes_the_same_images_again(folder: Path) -> None:
    assert main(['degrade', 'in', 'low', '--lambda', '3', '1', '--noise', '10', '--seed', '5']) == 0
    assert main(['degrade', 'in', 'again', '--record', 'low/degradation.json']) == 0
    for name in ('a.png', 'b.png', 'degradation.json'):
        assert Path('again', name).read_bytes() == Path('low', name).read_bytes()


def test_bad_image_is_named_and_the_rest_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path('in/bad.jpg').write_bytes(b'\xff\xd8\xff')
    assert main(['degrade', 'in', 'low', '--sigma', '0']) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error: ')]
    assert len(errors) == 1
    assert errors[0].startswith('dasr: error: in/bad.jpg: cannot be read as an image')
    assert sorted(path.name for path in Path('low').iterdir()) == ['a.png', 'b.png', 'degradation.json']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--sigma -1', '--sigma must be a number in [0, 100], got -1.0'),
        ('--sigma nan', '--sigma must be a number in [0, 100], got nan'),
        ('--sigma inf', '--sigma must be a number in [0, 100], got inf'),
        ('--sigma wide', "argument --sigma: invalid float value: 'wide'"),
        ('--sigma 1 --noise -5', '--noise must be a number in [0, 255], got -5.0'),
        ('--sigma 1 --noise nan', '--noise must be a number in [0, 255], got nan'),
        ('--sigma 1 --kernel-size 20', '--kernel-size: kernel_size must be odd, 1 to 1001, got 20'),
        ('--sigma 1 --scale 0', '--scale must be a whole number of 1 or more, got 0'),
        ('--sigma 1 --jpeg 0', '--jpeg must be'),
        ('--sigma 1 --theta 3', '--theta rotates an anisotropic kernel; give --lambda L1 L2'),
        ('--lambda 0 1', '--lambda: lambda_1 must be a number in (0, 100], got 0.0'),
        ('--lambda 1 1 --theta nan', '--theta: theta_deg must be a number in [-360, 360], got nan'),
        ('--lambda 1', 'argument --lambda: expected 2 arguments'),
        ('--sigma 1 --lambda 1 1', 'not allowed with argument'),
        ('', 'one of the arguments --sigma --lambda --photographic --record is required'),
        ('--record none.json', 'none.json: no such file'),
        ('--record none.json --noise 3', '--noise contradicts --record'),
    ],
)
def test_wrong_parameters_get_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    try:
        code = main(['degrade', 'in', 'low', *arguments.split()])
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: ')
    assert message in line
    assert [path.name for path in folder.iterdir()] == ['in']


def test_second_run_needs_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['degrade', 'in', 'low', '--sigma', '1']) == 0
    assert main(['degrade', 'in', 'low', '--sigma', '2']) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        'dasr: error: low/a.png: exists already; choose another name, or replace it with --force'
    )
    assert main(['degrade', 'in', 'low', '--sigma', '2', '--force']) == 0
    assert specification('low/degradation.json')['sigma'] == 2.0


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('--width 2.4', '--sigma 2.4'),
        ('--axes 3.2 1.0 --theta 45', '--lambda 3.2 1.0 --theta 45'),
        ('--like first/degradation.json', '--record first/degradation.json'),
    ],
)
def test_old_options_do_the_same_with_one_warning(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    assert main(['degrade', 'in', 'first', '--sigma', '1', '--noise', '5', '--seed', '3']) == 0
    assert main(['degrade', 'in', 'low', *new.split()]) == 0
    capsys.readouterr()
    assert main(['degrade', 'in', 'again', *old.split()]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: ')]
    assert lines == [
        f'dasr: warning: {old.split(maxsplit=1)[0]} is now {new.split(maxsplit=1)[0]}; the old name will be removed'
    ]
    assert specification('again/degradation.json') == specification('low/degradation.json')
    assert Path('again/a.png').read_bytes() == Path('low/a.png').read_bytes()


def test_help_names_the_new_options_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['degrade', '--help'])
    printed = capsys.readouterr().out
    assert '--sigma' in printed and '--lambda L1 L2' in printed
    assert not any(old in printed for old in ('--width', '--axes', '--like'))


BLUR = ['--scale', '2', '--sigma', '2.4', '--noise', '10']


@pytest.fixture
def many(folder: Path) -> Path:
    """The current folder with nine images in `in`, two of one stem."""
    generator = np.random.default_rng(1)
    for name in ('a.bmp', 'c.png', 'g.png', 'h.png', 'a-2.png', '1.png', 'ü.png'):
        write_image(Path('in') / name, generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return folder


def images(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).glob('*.png')}


def test_shards_together_make_what_one_run_makes(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['degrade', 'in', 'whole', *BLUR]) == 0
    capsys.readouterr()
    for number in (1, 2, 3):
        assert main(['degrade', 'in', 'low', *BLUR, '--shard', f'{number}/3']) == 0
    assert images('low') == images('whole')
    records = [json.loads(path.read_text()) for path in sorted(Path('low').glob('degradation-*-of-3.json'))]
    assert not Path('low/degradation.json').exists()
    whole = json.loads(Path('whole/degradation.json').read_text())
    entries = {name: entry for record in records for name, entry in record['pictures'].items()}
    assert entries == whole['pictures']
    assert sum(len(record['pictures']) for record in records) == 9
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == ['shard 1/3', 'shard 2/3', 'shard 3/3']
    assert lines[0].endswith('LR images, x2, sigma 2.4, noise 10; see low/degradation-1-of-3.json')


def test_shard_without_images_is_a_success(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ('in', 'in/a.png'):
        for number in range(1, 5):
            assert main(['degrade', source, f'low of {Path(source).name}', *BLUR, '--shard', f'{number}/4']) == 0
    assert capsys.readouterr().out.count(': none of the inputs, nothing to do\n') == 2 + 3
    assert set(images('low of in')) == {'a.png', 'b.png'}


def test_manifest_lists_images(many: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path('list.txt').write_text('in/b.png\nin/none.png\nin/c.png\nin/g.png\n')
    assert main(['degrade', 'in', 'whole', *BLUR]) == 0
    assert main(['degrade', '--manifest', 'list.txt', 'low', *BLUR]) == 2
    assert 'in/none.png: expected a file, found nothing there; line 2 of list.txt' in capsys.readouterr().err
    assert images('low') == {name: images('whole')[name] for name in ('b.png', 'c.png', 'g.png')}
    for number in (1, 2):
        main(['degrade', 'parts', *BLUR, '--shard', f'{number}/2', '--manifest', 'list.txt'])
    assert images('parts') == images('low')
    assert capsys.readouterr().err.count('none.png') == 1


@pytest.mark.parametrize(
    ('arguments', 'rows', 'message'),
    [
        ('in low --shard 3/2', '', 'shard 3/2: N of N/M must be 1 to M; the first shard is 1/2'),
        ('in low --manifest list.csv', 'path\nin/a.png', '--manifest lists the inputs; leave in out'),
        ('--manifest list.csv', 'path\nin/a.png', 'the following arguments are required: OUT'),
        ('in', '', 'the following arguments are required: OUT'),
        ('', '', 'the following arguments are required: IN, OUT'),
        ('low --manifest list.csv', 'path\nin/a.png\nin/a.bmp', 'line 3: a.png is the result of an earlier line, too'),
        (
            'low --manifest list.csv',
            'path,out\nin/a.png,x.png',
            'list.csv, line 2: only `dasr upscale` takes the column out',
        ),
        (
            'low --manifest list.csv',
            'path\nnone.png',
            'none.png: expected a file, found nothing there; line 2 of list.csv',
        ),
        ('low.png --manifest list.csv', 'path\nin/a.png', 'low.png: looks like an image, expected a folder'),
        ('in/a.png --manifest list.csv', 'path\nin/a.png', 'in/a.png: is a file, expected a folder'),
        ('in --manifest list.csv --force', 'path\nin/a.png', 'in/a.png: is one of the originals'),
    ],
)
def test_wrong_lists_are_one_line(
    many: Path, capsys: pytest.CaptureFixture[str], arguments: str, rows: str, message: str
) -> None:
    Path('list.csv').write_text(rows)
    before = images('in')
    assert main(['degrade', *arguments.split(), *BLUR]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if 'error' in line]
    assert message in line
    assert not Path('low').exists()
    assert images('in') == before


def test_arguments_may_stand_apart(folder: Path) -> None:
    assert main(['degrade', 'in', *BLUR, 'low']) == 0
    assert set(images('low')) == {'a.png', 'b.png'}
