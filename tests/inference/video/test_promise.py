"""The table of docs/upscaler.md: what each container keeps of a video, leaves out with a note, or refuses."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dasr_arch import InputError, Upscaler
from dasr_arch.inference.video.upscale_video import upscale_video
from tests.inference.making import make_faithful
from tests.inference.making_video import make_scene

av = pytest.importorskip('av', reason='the extra video is not installed')

DOCS = Path(__file__).parents[3] / 'docs' / 'upscaler.md'
ENDINGS = ('.mp4', '.mov', '.mkv', '.webm')
STAMPS = (0, 40, 90, 200, 240)  # milliseconds
CODES = {'colorspace': 9, 'color_primaries': 9, 'color_trc': 14}


def read_table() -> dict[str, dict[str, str]]:
    """The rows of the table by property, with a cell for each ending."""
    lines = DOCS.read_text(encoding='utf-8').splitlines()
    start = lines.index('| Property | .mp4 | .mov | .mkv | .webm |')
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith('|'):
            break
        name, *cells = (cell.strip() for cell in line.strip('|').split('|'))
        rows[name] = dict(zip(ENDINGS, cells, strict=True))
    return rows


def write(path: Path, add: Callable[[Any], Any] | None = None, packets: tuple[bytes, ...] = (), **options: Any) -> Path:
    """A video with one property more, which ``add`` adds to the container and the packets fill; options of encoder."""
    with av.open(str(path), 'w') as container:
        stream: Any = container.add_stream('libx264', rate=25, options={'qp': '10'})
        stream.width, stream.height, stream.pix_fmt = 32, 24, options.pop('pix_fmt', 'yuv420p')
        stream.codec_context.time_base = Fraction(1, 1000)
        if 'rotation' in options:
            stream.set_display_rotation(options.pop('rotation'))
        for key, value in options.items():
            setattr(stream.codec_context, key, value)
        added = add(container) if add is not None else None
        for pixels, stamp in zip(make_scene(0, len(STAMPS), (32, 24)), STAMPS, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24').reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if added is not None and added.type == 'audio':
            wave = av.AudioFrame.from_ndarray(np.zeros((2, 960), np.float32), format='fltp', layout='stereo')
            packed = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format='flt', layout='stereo')
            for index in range(12):
                sound = packed if added.format.name == 'flt' else wave
                sound.sample_rate, sound.pts, sound.time_base = 48000, 960 * index, Fraction(1, 48000)
                container.mux(added.encode(sound))
            container.mux(added.encode(None))
        for index, content in enumerate(packets):
            packet = av.Packet(content)
            packet.time_base, packet.pts, packet.dts, packet.duration = Fraction(1, 1000), *[100 * index] * 2, 90
            packet.stream = added
            container.mux(packet)
    return path


def add_chapters(container: Any) -> None:
    times = {'start': 0, 'end': 100, 'time_base': Fraction(1, 1000)}
    container.set_chapters([{'id': 1, **times, 'metadata': {'title': 'One'}}])


def count(kind: str) -> Callable[[Any], Any]:
    """The number of streams of a kind that hold packets."""

    def look(container: Any) -> int:
        streams = [stream for stream in container.streams if stream.type == kind]
        if kind == 'attachment':
            return len(streams)
        return len({packet.stream.index for packet in container.demux(streams) if packet.size}) if streams else 0

    return look


def first_frame(*names: str) -> Callable[[Any], Any]:
    def look(container: Any) -> list[Any]:
        frame = next(container.decode(video=0))
        return [int(getattr(frame, name)) for name in names]

    return look


PROPERTIES: dict[str, tuple[Callable[[Path], Path], Callable[[Any], Any]]] = {
    'colour tags': (lambda path: write(path.with_suffix('.mkv'), **CODES), first_frame(*CODES)),
    'range': (lambda path: write(path.with_suffix('.mkv'), color_range=2), first_frame('color_range')),
    'rotation': (lambda path: write(path.with_suffix('.mp4'), rotation=90), first_frame('rotation')),
    'frame times': (
        lambda path: write(path.with_suffix('.mkv')),
        lambda container: [round(1000 * frame.time) for frame in container.decode(video=0)],
    ),
    'sound: AAC': (
        lambda path: write(path.with_suffix('.mkv'), lambda container: container.add_stream('aac', rate=48000)),
        count('audio'),
    ),
    'sound: Opus': (
        lambda path: write(path.with_suffix('.mkv'), lambda container: container.add_stream('libopus', rate=48000)),
        count('audio'),
    ),
    'subtitles: SubRip': (
        lambda path: write(path.with_suffix('.mkv'), lambda one: one.add_mux_stream('srt'), (b'one', b'two')),
        count('subtitle'),
    ),
    'subtitles: WebVTT': (
        lambda path: write(path.with_suffix('.webm.mkv'), lambda one: one.add_mux_stream('webvtt'), (b'one', b'two')),
        count('subtitle'),
    ),
    'subtitles: MP4 text': (
        lambda path: write(
            path.with_suffix('.mp4'), lambda one: one.add_mux_stream('mov_text'), (b'\0\3one', b'\0\3two')
        ),
        count('subtitle'),
    ),
    'chapters': (
        lambda path: write(path.with_suffix('.mkv'), add_chapters),
        lambda container: [chapter['metadata']['title'] for chapter in container.chapters()],
    ),
    'attachments': (
        lambda path: write(
            path.with_suffix('.mkv'),
            lambda container: container.add_attachment('font.ttf', 'application/x-truetype-font', b'font' * 20),
        ),
        count('attachment'),
    ),
    'data': (
        lambda path: write(
            path.with_suffix('.mp4'), lambda container: container.add_data_stream('bin_data'), (b'one', b'two')
        ),
        count('data'),
    ),
    'tags': (
        lambda path: write(
            path.with_suffix('.mkv'), lambda container: container.metadata.update({'title': 'A clip', 'artist': 'Me'})
        ),
        lambda container: {key.lower(): value for key, value in container.metadata.items()}.get('artist'),
    ),
}


@pytest.fixture(scope='module')
def upscaler() -> Upscaler:
    return Upscaler(2, make_faithful(), device='cpu')


def test_table_has_these_rows() -> None:
    assert list(read_table()) == list(PROPERTIES)


@pytest.mark.parametrize('ending', ENDINGS)
@pytest.mark.parametrize('name', PROPERTIES)
def test_cell(tmp_path: Path, upscaler: Upscaler, capsys: Any, name: str, ending: str) -> None:
    make, look = PROPERTIES[name]
    source, target = make(tmp_path / 'source'), tmp_path / f'large{ending}'
    with av.open(str(source)) as container:
        expected = look(container)
    assert expected
    try:
        report = upscale_video(upscaler, source, target)
    except InputError:
        assert not target.exists()
        outcome = 'refused'
    else:
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: ')]
        assert told == [f'dasr: {source}: {note}' for note in report.notes]
        with av.open(str(target)) as container:
            outcome = 'kept' if look(container) == expected else 'left out' if report.notes else 'lost'
        assert outcome != 'kept' or report.notes == []
    assert outcome == read_table()[name][ending]
