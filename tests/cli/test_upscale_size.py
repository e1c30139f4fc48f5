"""Sizes, masks and the line about the model of `dasr upscale`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dasr_arch.checkpoints.packaged import DEFAULT_SETTING
from dasr_cli.main import main
from tests.inference.making import make_faithful

FIXED = ['--model', 'net.pth', '--device', 'cpu']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with two images of different sizes in `in`, and weights for x2."""
    monkeypatch.chdir(tmp_path)
    Path('in').mkdir()
    for index, (name, size) in enumerate((('a.png', (24, 20)), ('b.jpg', (16, 30)))):
        pixels = np.random.default_rng(index).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path('in', name))
    torch.save({'params': make_faithful().state_dict()}, 'net.pth')
    return tmp_path


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_size_names_the_results_and_is_told(folder, capsys):
    assert main(['upscale', 'in', '--to', '40x40', *FIXED]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ['in_to40x40/a.png', 'in_to40x40/b.jpg']
    assert 'dasr: in/a.png: model net.pth x2, reduced to 40 x 33 pixels: given by --model' in printed.err
    assert [size_of(f'in_to40x40/{name}') for name in ('a.png', 'b.jpg')] == [(40, 33), (21, 40)]


@pytest.mark.parametrize(
    ('option', 'name', 'size'),
    [
        ('--to=30x99', 'a_to30x99.png', (30, 25)),
        ('--long-side=30', 'a_long30.png', (30, 25)),
        ('--short-side=30', 'a_short30.png', (36, 30)),
        ('--scale=1', 'a_x1.png', (24, 20)),
    ],
)
def test_second_run_resumes_and_takes_no_result_as_input(folder, capsys, option, name, size):
    assert main(['upscale', 'in/a.png', option, *FIXED]) == 0
    assert size_of(f'in/{name}') == size
    assert main(['upscale', 'in/a.png', option, *FIXED]) == 2
    assert 'exists already' in capsys.readouterr().err
    assert main(['upscale', 'in/a*.png', option, *FIXED, '--resume']) == 0
    printed = capsys.readouterr()
    assert printed.out == 'already done: 1\n'
    assert '1 left out' in printed.err
    Image.new('RGB', (9, 9)).save(f'in/{name}')
    assert main(['upscale', 'in/a.png', option, *FIXED, '--resume']) == 2
    assert 'exists but is not' in capsys.readouterr().err
    assert main(['upscale', 'in/a.png', option, *FIXED, '--force']) == 0
    assert size_of(f'in/{name}') == size


def test_result_of_the_same_size_is_no_input_of_another_scale(folder, capsys):
    assert main(['upscale', 'in/a.png', '--scale', '1', *FIXED]) == 0
    assert main(['upscale', 'in/a*.png', *FIXED]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ['in/a_x1.png', 'in/a_x2.png']
    assert '1 left out' in printed.err


def test_turned_image_fits_as_it_is_shown(folder):
    exif = Image.Exif()
    exif[274] = 6
    Image.new('RGB', (24, 10), 'red').save('in/turned.jpg', exif=exif)
    arguments = ['upscale', 'in/turned.jpg', '--to', '15x99', *FIXED]
    assert main(arguments) == 0
    assert size_of('in/turned_to15x99.jpg') == (15, 36)
    assert main([*arguments, '--resume']) == 0


@pytest.mark.parametrize('name', ['exif', 'APP1'])
def test_image_turned_by_a_text_entry_fits_as_it_is_shown(folder, name):
    exif = Image.Exif()
    exif[274] = 6
    text = PngInfo()
    text.add_text(f'Raw profile type {name}', f'\n{name}\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n')
    Image.new('RGB', (24, 10), 'red').save('in/turned.png', pnginfo=text)
    assert main(['upscale', 'in/turned.png', '--to', '15x99', *FIXED]) == 0
    assert size_of('in/turned_to15x99.png') == (15, 36)


def test_animation_pages_and_sixteen_bits_have_the_size(folder):
    frames = [Image.new('RGB', (20, 12), colour) for colour in ('red', 'blue')]
    frames[0].save('in/moving.gif', save_all=True, append_images=frames[1:], duration=50)
    Image.fromarray(np.arange(240, dtype=np.uint16).reshape(12, 20) * 200).save('in/deep.png')
    assert main(['upscale', 'in/moving.gif', 'in/deep.png', '--long-side', '35', '-o', 'out/', *FIXED]) == 0
    with Image.open('out/moving.gif') as image:
        assert (image.size, image.n_frames) == ((35, 21), 2)
    with Image.open('out/deep.png') as image:
        assert (image.size, image.mode) == ((35, 21), 'I;16')


def test_image_that_needs_no_network_is_named_and_the_rest_goes_on(folder, capsys):
    assert main(['upscale', 'in', '--long-side', '30', *FIXED]) == 2
    printed = capsys.readouterr()
    assert printed.out == 'in_long30/a.png\n'
    assert 'dasr: error: in/b.jpg: 16 x 30 pixels would become 16 x 30, which is no enlargement' in printed.err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('in/a.png --to 3840', "--to must be width and height such as 3840x2160, got '3840'"),
        ('in/a.png --to 40x40 --long-side 40', 'give one of --to, --long-side and --short-side'),
        ('in/a.png --to 40x40 --scale 1', 'the scale 1 keeps the size; give another scale, or none'),
        ('in/a.png --short-side 41', 'x2 is the largest factor of the model; ask for at most 48 x 40'),
        ('in --mask mask.png', 'in/b.jpg: the mask has 24 x 20 pixels; it needs 16 x 30 as the image'),
        ('clip.mp4 --mask mask.png', '--mask is for images, not for videos'),
        ('in/a.png --mask none.png', 'none.png: cannot be read'),
    ],
)
def test_what_cannot_be_done_is_one_line_before_the_work(folder, capsys, arguments, message):
    Image.new('L', (24, 20)).save('mask.png')
    before = sorted(folder.rglob('*'))
    assert main(['upscale', *arguments.split(), *FIXED]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr')]
    assert line.startswith('dasr: error: ')
    assert message in line
    assert sorted(folder.rglob('*')) == before


def test_mask_of_either_size_is_taken(folder):
    for name, size in (('small', (24, 20)), ('large', (48, 40))):
        Image.new('L', size, 255).save(f'{name}.png')
        assert main(['upscale', 'in/a.png', f'{name}_out.png', '--mask', f'{name}.png', *FIXED]) == 0
    assert main(['upscale', 'in/a.png', 'plain.png', *FIXED]) == 0
    assert len({Path(name).read_bytes() for name in ('small_out.png', 'large_out.png', 'plain.png')}) == 1


def test_model_and_reason_are_told(folder, capsys):
    assert main(['upscale', 'in/a.png', '--device', 'cpu', '--scale', '2']) == 0
    assert f'dasr: model {DEFAULT_SETTING} x2: default for photographs' in capsys.readouterr().err.splitlines()
    assert main(['upscale', 'in/a.png', '--device', 'cpu', '--model', 'iso', '--long-side', '30', '--scale', '3']) == 0
    told = 'dasr: in/a.png: model iso x3, reduced to 30 x 25 pixels: given by --model'
    assert told in capsys.readouterr().err


def test_size_takes_the_smallest_installed_factor(folder, capsys):
    for side, factor in ((48, 2), (49, 3), (90, 4)):
        assert main(['upscale', 'in/a.png', '--device', 'cpu', '--model', 'iso', '--long-side', str(side)]) == 0
        assert f'model iso x{factor}, reduced to {side} x' in capsys.readouterr().err
