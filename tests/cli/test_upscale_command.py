"""Output, exit codes, pipes and files of `dasr upscale`."""

import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_cli.main import main
from dasr_cli.messages import show
from tests.inference.making import make_faithful, make_network

ROOT = Path(__file__).parents[2]
FIXED = ['--scale', '2', '--model', 'net.pth', '--device', 'cpu']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with two images in `in`, and weights."""
    monkeypatch.chdir(tmp_path)
    Path('in').mkdir()
    for index, name in enumerate(('a.png', 'b.png')):
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path('in', name))
    torch.save({'params': make_faithful().state_dict()}, 'net.pth')
    return tmp_path


def run_dasr(*arguments, **options):
    command = [sys.executable, '-m', 'dasr_cli', *arguments]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.run(command, capture_output=True, timeout=120, check=False, env=env, **options)


def test_folder_is_upscaled_with_a_progress_bar(folder, capsys):
    assert main(['upscale', 'in', *FIXED]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ['in_x2/a.png', 'in_x2/b.png']
    assert '960/960' in printed.err
    assert Image.open('in_x2/a.png').size == (48, 40)


def test_names_do_not_control_the_terminal(folder, capsys):
    Path('in/\x1b[2Jbad.png').write_bytes(b'not an image')
    assert main(['upscale', 'in', *FIXED]) == 2
    printed = capsys.readouterr()
    assert 'dasr: error: in/?[2Jbad.png: cannot be read' in printed.err
    assert main(['upscale', 'in/\x1b[2Jbad.png', *FIXED]) == 2
    assert '\x1b' not in printed.err + capsys.readouterr().err
    assert show('Screenshot 3.45.12\u202fPM \u3000.png') == 'Screenshot 3.45.12\u202fPM \u3000.png'


@pytest.mark.parametrize('model', ['net.pth', 'dasr_s_x2_iso'])
def test_scale_is_that_of_the_model_unless_it_is_given(folder, capsys, model):
    assert main(['upscale', 'in/a.png', '--model', model, '--device', 'cpu']) == 0
    assert Image.open('in/a_x2.png').size == (48, 40)
    assert main(['upscale', 'in/a.png', '--model', model, '--scale', '3']) == 2
    assert 'x3' in capsys.readouterr().err


def test_progress_bar_ends_at_its_end_with_strength(folder, capsys):
    """Pages and animations, too: the work on the clean representation is known before it is done."""
    pages = [Image.fromarray(np.full((12, 16, 3), value, np.uint8)) for value in (50, 99, 200)]
    pages[0].save('in/pages.tiff', save_all=True, append_images=pages[1:])
    pages[0].save('in/moving.gif', save_all=True, append_images=pages[1:], duration=50)
    assert main(['upscale', 'in', '--strength', '0.5', *FIXED]) == 0
    total = 2 * 2 * 20 * 24 + 2 * 2 * 3 * 12 * 16
    printed = capsys.readouterr().err
    assert f'{total / 1000:.2f}k/{total / 1000:.2f}k' in printed
    assert f'| 0.00/{total / 1000:.2f}k' in printed


def test_every_control_is_taken(folder):
    line = 'upscale in/a.png out.webp --reference in/b.png --strength 0.5 --ensemble --quality 80 --tile 16 --exact'
    assert main([*line.split(), '--precision', 'fp32', *FIXED]) == 0
    assert Image.open('out.webp').size == (48, 40)


def test_like_is_the_old_name_of_reference(folder, capsys):
    assert main(['upscale', 'in/a.png', 'new.png', '--reference', 'in/b.png', *FIXED]) == 0
    assert 'warning' not in capsys.readouterr().err
    assert main(['upscale', 'in/a.png', 'old.png', '--like', 'in/b.png', *FIXED]) == 0
    warning = 'dasr: warning: --like is now --reference; the old name will be removed'
    assert capsys.readouterr().err.splitlines()[0] == warning
    assert Path('old.png').read_bytes() == Path('new.png').read_bytes()


def test_second_run_resumes(folder, capsys):
    assert main(['upscale', 'in', *FIXED]) == 0
    assert main(['upscale', 'in', *FIXED]) == 2
    assert 'in_x2/a.png: exists already' in capsys.readouterr().err
    assert main(['upscale', 'in', *FIXED, '--resume']) == 0
    assert capsys.readouterr().out == 'already done: 2\n'


def test_bad_image_is_named_and_the_rest_goes_on(folder, capsys):
    Path('in/bad.jpg').write_bytes(b'\xff\xd8\xff')
    assert main(['upscale', 'in', *FIXED]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error: ')]
    assert len(errors) == 1
    assert errors[0].startswith('dasr: error: in/bad.jpg: cannot be read as an image')
    assert sorted(path.name for path in Path('in_x2').iterdir()) == ['a.png', 'b.png']


def test_list_of_results_is_cut_and_every_failure_named(folder, capsys):
    for index in range(22):
        Image.new('RGB', (4, 4)).save(f'in/{index}.png')
        Path(f'in/bad{index}.png').write_bytes(b'not an image')
    assert main(['upscale', 'in', *FIXED]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[20:] == ['and 4 more in in_x2']
    errors = [line for line in printed.err.splitlines() if line.startswith('dasr: error: ')]
    assert len(errors) == 22
    assert printed.err.splitlines()[-1] == '24 upscaled; 22 failed'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('none.png', 'none.png: expected an image or a folder'),
        ('in --scale 3', "'net.pth' is for x2, not for x3"),
        ('in --model none', "model 'none' is neither a file nor the name of installed weights; known: "),
        ('in --model none.pth', "weights file 'none.pth' does not exist"),
        ('in --strength 3', 'strength must be a number in [0, 2], got 3.0'),
        ('in --strength nan', 'strength must be a number in [0, 2], got nan'),
        ('in --tile 3', 'tile must be at least 16 LR pixels, got 3'),
        ('in --device gpu', "device 'gpu' does not exist here"),
        ('in --precision fp16', "precision must be auto, fp32 or bf16, got 'fp16'"),
        ('in --format xcf', "--format: unknown format 'xcf'; use one of"),
        ('in --quality 0', 'quality must be a whole number in [1, 100], got 0'),
        ('in --reference none.png', 'none.png: cannot be read'),
        ('in --reference net.pth', 'net.pth: cannot be read as an image'),
        ('in --force --resume', '--force replaces what --resume leaves out'),
        ('in/a.png in/b.png', 'in/b.png: is there already'),
        ('- --recursive', 'a pipe carries one image'),
    ],
)
def test_wrong_arguments_get_one_line(folder, capsys, arguments, message):
    before = sorted(folder.rglob('*'))
    words = arguments.split()
    rest = [word for pair in zip(FIXED[::2], FIXED[1::2], strict=True) if pair[0] not in words for word in pair]
    assert main(['upscale', *words, *rest]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr')]
    assert len(errors) == 1
    assert errors[0].startswith('dasr: error: ')
    assert message in errors[0]
    assert sorted(folder.rglob('*')) == before


def test_pipe_carries_a_image(folder):
    data = Path('in/a.png').read_bytes()
    result = run_dasr('upscale', '-', '-', *FIXED, input=data)
    assert (result.returncode, result.stderr) == (0, b'')
    with Image.open(BytesIO(result.stdout)) as image:
        assert (image.format, image.size) == ('PNG', (48, 40))


def test_pipe_into_a_file_takes_its_format_and_replaces_nothing(folder, monkeypatch, capsys):
    arguments = ['upscale', '-', 'out.jpg', *FIXED]
    with open('in/a.png', encoding='utf-8') as stream:
        monkeypatch.setattr(sys, 'stdin', stream)
        assert main(arguments) == 0
    assert Image.open('out.jpg').format == 'JPEG'
    assert main(arguments) == 2
    assert capsys.readouterr().err == 'dasr: error: out.jpg: exists already; --force replaces it\n'


def test_terminal_gets_no_image(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    assert main(['upscale', 'in/a.png', '-', *FIXED]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith('dasr: error: an image would fill the terminal; name a file')
    assert printed.out == ''


def test_pipe_that_carries_no_image_is_one_line(folder, monkeypatch, capsys):
    with open('net.pth', encoding='utf-8') as stream:
        monkeypatch.setattr(sys, 'stdin', stream)
        assert main(['upscale', '-', 'out.png', *FIXED]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dasr: error: stdin: cannot be read as an image')
    assert not Path('out.png').exists()


LIMITED = """
import resource, sys
import dasr_arch
from dasr_cli.main import main
(size,) = [int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmSize')]
resource.setrlimit(resource.RLIMIT_AS, (size * 1024 + int(sys.argv[1]) * 2**20,) * 2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(('megabytes', 'code'), [(450, 0), (30, 2)])
def test_running_out_of_memory_takes_smaller_tiles_or_one_line(folder, megabytes, code):
    """A real limit on what the process may take after loading everything; the image as one tile takes 700 MB."""
    torch.save({'params': make_network(2, num_feat=64).state_dict()}, 'wide.pth')
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save('in/large.png')
    line = 'upscale in/large.png --scale 2 --model wide.pth --device cpu --precision fp32 --tile 400'
    command = [sys.executable, '-c', LIMITED, str(megabytes), *line.split()]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, env=env)
    assert 'Traceback' not in result.stderr
    assert result.returncode == code, result.stderr
    assert Path('in/large_x2.png').exists() is (code == 0)
    if code:
        assert 'memory' in result.stderr.splitlines()[-1]


def test_resume_knows_results_that_are_too_large_to_be_upscaled(folder, monkeypatch, capsys):
    assert main(['upscale', 'in', *FIXED]) == 0
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 400)  # twice as many are refused: 480 are not, 1920 are
    assert main(['upscale', 'in', *FIXED, '--resume']) == 0
    assert 'already done: 2' in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != 'linux', reason='file names that are no text are of Linux')
def test_names_that_are_no_text_are_printed(folder):
    os.rename(b'in/a.png', b'in/caf\xe9.png')
    done = run_dasr('upscale', 'in', *FIXED)
    assert (done.returncode, done.stderr.count(b'Traceback')) == (0, 0)
    assert b'caf' in done.stdout


@pytest.mark.skipif(not hasattr(os, 'link'), reason='no hard links here')
def test_original_under_another_name_is_not_replaced(folder, capsys):
    os.link('in/a.png', 'other.png')
    before = Path('in/a.png').read_bytes()
    assert main(['upscale', 'in/a.png', '-o', 'other.png', '--force', *FIXED]) == 2
    assert 'is one of the originals' in capsys.readouterr().err
    assert Path('in/a.png').read_bytes() == before


@pytest.mark.parametrize('first', ['cam1', 'cam2'])
def test_resume_does_not_take_the_result_of_one_image_for_that_of_another(folder, capsys, first):
    for name in ('cam1', 'cam2'):
        Path(name).mkdir()
        shutil.copy(f'in/{"ab"[name == "cam2"]}.png', f'{name}/IMG_1.png')
    assert main(['upscale', f'{first}/IMG_1.png', '-o', 'out/', *FIXED]) == 0
    before = Path('out/IMG_1.png').read_bytes()
    assert main(['upscale', 'cam*/*.png', '-o', 'out/', *FIXED, '--resume']) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error: ')]
    assert len(errors) == 2
    assert all('out/IMG_1.png, that of another image too, which --resume cannot tell apart' in line for line in errors)
    assert [path.name for path in Path('out').iterdir()] == ['IMG_1.png']
    assert Path('out/IMG_1.png').read_bytes() == before
