"""Output, exit codes and interruption of `dasr upscale` for video."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dasr_cli.main import main
from tests.inference.making import make_faithful, make_network
from tests.inference.making_video import make_scene, read_packets, read_video, write_video

av = pytest.importorskip('av', reason="PyAV is not installed (extra 'video')")
ROOT = Path(__file__).parents[2]
FIXED = ['--scale', '2', '--model', 'net.pth', '--device', 'cpu', '--precision', 'fp32']


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A current folder with two clips and weights."""
    monkeypatch.chdir(tmp_path)
    write_video(Path('a.mp4'), make_scene(0, 5))
    write_video(Path('b.mkv'), make_scene(5, 4), sound=False)
    torch.save({'params': make_faithful().state_dict()}, 'net.pth')
    return tmp_path


def test_clip_is_upscaled_with_a_progress_bar(capsys):
    assert main(['upscale', 'a.mp4', *FIXED]) == 0
    printed = capsys.readouterr()
    assert printed.out == 'a_x2.mp4\n'
    assert 'a.mp4: 100%' in printed.err
    assert '5/5 [' in printed.err
    frames = read_video(Path('a_x2.mp4'))
    assert (len(frames), frames[0].width, frames[0].height) == (5, 80, 64)
    assert read_packets(Path('a_x2.mp4')) == read_packets(Path('a.mp4'))


def test_every_control_is_taken():
    Image.fromarray(make_scene(9, 1)[0]).save('ref.png')
    line = 'upscale a.mp4 out.mkv --codec h265 --crf 30 --start 0.04 --duration 0.08 --reference ref.png --strength 0.5'
    assert main([*line.split(), '--tile', '16', *FIXED]) == 0
    assert len(read_video(Path('out.mkv'))) == 2


def test_clip_gets_a_size_as_it_is_shown(capsys):
    write_video(Path('turned.mp4'), make_scene(3, 2), rotation=90)
    arguments = ['upscale', 'a.mp4', 'turned.mp4', '--to', '48x64', '-o', 'out/', *FIXED]
    assert main(arguments) == 0
    assert 'dasr: a.mp4: model net.pth x2, reduced to 48 x 38 pixels: given by --model' in capsys.readouterr().err
    sizes = [
        (frame.width, frame.height) for name in ('a', 'turned') for frame in read_video(Path(f'out/{name}.mp4'))[:1]
    ]
    assert sizes == [(48, 38), (60, 48)]
    assert main([*arguments, '--resume']) == 0
    assert capsys.readouterr().out == 'already done: 2\n'
    assert main(['upscale', 'a.mp4', '--long-side', '81', *FIXED]) == 2
    assert 'a.mp4: 40 x 32 pixels would become 81 x 65, but x2 is the largest' in capsys.readouterr().err
    assert main(['upscale', 'a.mp4', '--model', 'auto']) == 2
    assert 'a.mp4: the model auto is for images' in capsys.readouterr().err
    assert not list(Path().glob('a_*'))


def test_several_clips_go_into_a_folder_and_are_resumed(capsys):
    assert main(['upscale', 'a.mp4', 'b.mkv', '-o', 'out/', *FIXED]) == 0
    assert capsys.readouterr().out.splitlines() == ['out/a.mp4', 'out/b.mkv']
    assert main(['upscale', 'a.mp4', 'b.mkv', '-o', 'out/', *FIXED]) == 2
    assert 'out/a.mp4: exists already' in capsys.readouterr().err
    assert main(['upscale', 'a.mp4', 'b.mkv', '-o', 'out/', '--resume', *FIXED]) == 0
    assert capsys.readouterr().out == 'already done: 2\n'


def test_results_among_the_inputs_are_left_out_and_counted(capsys):
    assert main(['upscale', 'a.mp4', *FIXED]) == 0
    assert main(['upscale', '*.mp4', '--force', *FIXED]) == 0
    printed = capsys.readouterr()
    assert printed.out == 'a_x2.mp4\n' * 2
    assert printed.err.splitlines()[-1] == '1 left out, results of this command'
    assert main(['upscale', '*.mp4', '--to', '60x60', *FIXED]) == 0
    printed = capsys.readouterr()
    assert printed.out == 'a_to60x60.mp4\n'
    assert printed.err.splitlines()[-1] == '1 left out, results of this command'


def test_bad_clip_is_named_and_the_rest_goes_on(capsys):
    Path('bad.mp4').write_bytes(Path('a.mp4').read_bytes()[:2000])
    assert main(['upscale', 'bad.mp4', 'b.mkv', '-o', 'out/', *FIXED]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error: ')]
    assert len(errors) == 1
    assert errors[0].startswith('dasr: error: bad.mp4: cannot be read as a video')
    assert [path.name for path in Path('out').iterdir()] == ['b.mkv']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('none.mp4', 'none.mp4: expected a video, found no file there'),
        ('a.mp4 out.avi', "videos are not written as '.avi'"),
        ('a.mp4 out.png', "videos are not written as '.png'"),
        ('a.mp4 -o a.mp4 --force', 'is one of the originals'),
        ('a.mp4 b.mkv', 'b.mkv: is there already'),
        ('a.mp4 net.png -o out', 'images and videos cannot be mixed'),
        ('a.mp4 --codec theora', "--codec: unknown codec 'theora'"),
        ('a.mp4 --crf 99', '--crf must be a whole number in [0, 51] for h264, got 99'),
        ('a.mp4 --quality 90', '--quality is for images'),
        ('a.mp4 --format png', '--format is for images'),
        ('a.mp4 --start 5', 'no frames in the part'),
        ('a.mp4 --device gpu', "device 'gpu' does not exist here"),
        ('photo.png --crf 20', '--crf is for video'),
        ('photo.png --start 1', '--start is for video'),
    ],
)
def test_wrong_arguments_get_one_line(folder, capsys, arguments, message):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save('photo.png')
    before = sorted(folder.rglob('*'))
    words = arguments.split()
    rest = [word for pair in zip(FIXED[::2], FIXED[1::2], strict=True) if pair[0] not in words for word in pair]
    assert main(['upscale', *words, *rest]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr')]
    assert len(errors) == 1
    assert errors[0].startswith('dasr: error: ')
    assert message in errors[0]
    assert sorted(folder.rglob('*')) == before


def test_missing_pyav_is_one_line_that_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'av', None)
    assert main(['upscale', 'a.mp4', *FIXED]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "dasr: error: av is not installed, it belongs to the extra 'video'; "
        "pip install 'dasr-representation-learning[video]'"
    )


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGINT for one process')
def test_interrupt_leaves_no_half_file(folder):
    """Ctrl-C when the first frames are through."""
    torch.save({'params': make_network(2, num_feat=64, num_blocks=3).state_dict()}, 'slow.pth')
    write_video(Path('long.mp4'), make_scene(0, 40) * 25)
    before = sorted(folder.rglob('*'))
    command = [sys.executable, '-m', 'dasr_cli', 'upscale', 'long.mp4', '--scale', '2', '--model', 'slow.pth']
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stderr is not None
        seen = b''
        while b'/1000 [' not in seen or b' 0/1000 [' in seen.rpartition(b'\r')[2]:
            part = process.stderr.read1(200)
            assert part, seen
            seen += part
        assert len(sorted(folder.rglob('*'))) == len(before) + 1  # the temporary file
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert rest == b''
    assert errors.decode().splitlines()[-2:] == ['stopped; nothing of long_x2.mp4 is left', 'dasr: interrupted']
    assert sorted(folder.rglob('*')) == before
