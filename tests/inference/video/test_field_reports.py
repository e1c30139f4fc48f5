"""Videos of phones, cameras and recorders: colour, tags of the container, and streams that the target cannot hold."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dasr_arch import InputError, Upscaler
from dasr_arch.inference.video.colour import read_colour, read_pixels
from dasr_arch.inference.video.reader import VideoSettings, scan_video
from dasr_arch.inference.video.upscale_video import upscale_video
from tests.inference.making import make_faithful
from tests.inference.making_video import make_scene, write_video

av = pytest.importorskip('av', reason='the extra video is not installed')


@pytest.fixture(scope='module')
def upscaler() -> Upscaler:
    return Upscaler(2, make_faithful(), device='cpu')


@pytest.mark.parametrize(
    ('tag', 'codec', 'black', 'white'),
    [
        (1, 'rawvideo', 16, 235),
        (2, 'h264', 0, 255),
        (0, 'h264', 16, 235),
        (0, 'ffv1', 0, 255),
    ],
)
@pytest.mark.parametrize('form', ['gray', 'gray10le'])
def test_range_of_grey_video(tag: int, codec: str, black: int, white: int, form: str) -> None:
    unit = 4 if form == 'gray10le' else 1
    dtype: Any = np.uint16 if unit == 4 else np.uint8
    most = 1023 if unit == 4 else 255
    top = most if white == 255 else white * unit
    pixels = np.tile(np.array([[black * unit, top]], dtype), (16, 8))
    frame = av.VideoFrame.from_ndarray(pixels, format=form)
    frame.color_range = tag
    read = read_pixels(frame, read_colour(frame, codec))
    np.testing.assert_allclose(read[0, :2, 0], [0, 1], atol=1e-6)


def test_a_matroska_that_starts_late_is_whole(tmp_path: Path) -> None:
    source = write_video(tmp_path / 'a.mp4', make_scene(5, 12), sound=False)
    late = tmp_path / 'late.mkv'
    with av.open(str(source)) as old, av.open(str(late), 'w') as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                shift = round(5 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                new.mux(packet)
    assert scan_video(late, VideoSettings()).frames == 12


@pytest.mark.parametrize('matrix', [0, 3, 15, 200])
def test_a_reserved_matrix_reads_as_untagged(matrix: int) -> None:
    frame = av.VideoFrame(16, 16, 'yuv420p')
    untagged = read_colour(frame)
    frame.colorspace = matrix
    assert read_colour(frame) == untagged


def test_a_colour_matrix_without_meaning_is_named(tmp_path: Path, upscaler: Upscaler) -> None:
    source = write_video(tmp_path / 'a.mkv', make_scene(1, 5), codec='ffv1', codec_options={}, colorspace=0)
    facts = scan_video(source, VideoSettings())
    plain = scan_video(
        write_video(tmp_path / 'b.mkv', make_scene(1, 5), codec='ffv1', codec_options={}), VideoSettings()
    )
    assert facts.colour == plain.colour
    assert [note for note in facts.notes if 'colour matrix 0 has no meaning' in note]
    assert upscale_video(upscaler, source, tmp_path / 'out.mkv', progress=False).frames == 5


def test_an_unsupported_matrix_names_the_video(tmp_path: Path) -> None:
    source = write_video(tmp_path / 'a.mkv', make_scene(1, 5), codec='ffv1', codec_options={}, colorspace=8)
    with pytest.raises(InputError, match=r'a\.mkv: colour matrix 8'):
        scan_video(source, VideoSettings())


def write_phone_video(folder: Path, tags: dict[str, str], flags: dict[str, str]) -> Path:
    """A .mov of five frames with tags of the container."""
    path = folder / 'phone.mov'
    with av.open(str(path), 'w', options=flags) as container:
        container.metadata.update(tags)
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, 'yuv420p'
        for pixels in make_scene(1, 5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize('ending', ['.mov', '.mp4', '.mkv'])
def test_place_and_make_of_a_phone_are_kept(tmp_path: Path, upscaler: Upscaler, ending: str) -> None:
    tags = {
        'com.apple.quicktime.location.ISO6709': '+48.1372+011.5755+515.000/',
        'com.apple.quicktime.make': 'Maker',
        'com.apple.quicktime.creationdate': '2026-01-02T03:04:05+0100',
    }
    source = write_phone_video(tmp_path, tags, {'movflags': 'use_metadata_tags'})
    target = tmp_path / f'large{ending}'
    upscale_video(upscaler, source, target, progress=False)
    with av.open(str(target)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
    assert {key: found.get(key.lower()) for key in tags} == tags


@pytest.mark.parametrize('ending', ['.mov', '.mp4', '.mkv'])
@pytest.mark.parametrize('key', ['make', 'album_artist', 'director', 'artist'])
def test_a_tag_is_kept_in_every_container(tmp_path: Path, upscaler: Upscaler, ending: str, key: str) -> None:
    flags = {'movflags': 'use_metadata_tags'} if key not in ('make', 'artist') else {}
    source = write_phone_video(tmp_path, {key: 'Maker', 'location': '+48.1372+011.5755/'}, flags)
    target = tmp_path / f'large{ending}'
    upscale_video(upscaler, source, target, progress=False)
    with av.open(str(target)) as container:
        found = {name.lower(): value for name, value in container.metadata.items()}
    assert (found.get(key), found.get('location')) == ('Maker', '+48.1372+011.5755/')
    if key == 'artist' and ending == '.mp4':  # under the name that every player knows
        assert b'\xa9ART' in target.read_bytes()


@pytest.mark.parametrize('ending', ['.mkv', '.mp4', '.mov', '.webm'])
def test_an_attached_font_is_kept_or_named(tmp_path: Path, upscaler: Upscaler, ending: str) -> None:
    source = tmp_path / 'anime.mkv'
    with av.open(str(source), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, 'yuv420p'
        container.add_attachment('font.ttf', 'application/x-truetype-font', b'font' * 20)
        for pixels in make_scene(1, 5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode(None))
    target = tmp_path / f'large{ending}'
    report = upscale_video(upscaler, source, target, progress=False)
    with av.open(str(target)) as container:
        kept = [stream for stream in container.streams if stream.type == 'attachment']
    if ending == '.mkv':
        assert len(kept) == 1 and report.notes == []
    else:
        assert kept == []
        assert [note for note in report.notes if note.startswith('attachment') and note.endswith('.mkv may')]


def write_flac(path: Path) -> Path:
    """A video with sound of FLAC, which MP4 holds and MOV does not."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, 'yuv420p'
        sound = container.add_stream('flac', rate=48000)
        for pixels in make_scene(1, 5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 9600), np.int16), format='s16', layout='stereo')
        frame.sample_rate, frame.pts = 48000, 0
        container.mux([*sound.encode(frame), *sound.encode(None), *stream.encode(None)])
    return path


def test_sound_that_the_muxer_refuses_is_to_blame(tmp_path: Path, upscaler: Upscaler) -> None:
    source = write_flac(tmp_path / 'flac.mkv')
    with pytest.raises(InputError) as raised:
        upscale_video(upscaler, source, tmp_path / 'large.mov', progress=False)
    assert 'sound of kind flac cannot be copied into .mov; name an .mkv file' in str(raised.value)
    assert 'libx264' not in str(raised.value) and '.tmp' not in str(raised.value)
    assert upscale_video(upscaler, source, tmp_path / 'large.mp4', progress=False).notes == []


@pytest.mark.parametrize('ending', ['.mov', '.MP4', '.mkv'])
def test_a_timecode_is_kept_or_named(tmp_path: Path, upscaler: Upscaler, ending: str) -> None:
    tags = {'timecode': '01:00:00:00'}
    source = write_video(tmp_path / 'a.mov', make_scene(1, 5), sound=False, tags=tags)
    report = upscale_video(upscaler, source, tmp_path / f'large{ending}', progress=False)
    with av.open(str(report.path)) as container:
        kept = [stream.metadata['timecode'] for stream in container.streams if stream.type == 'data']
    wanted = ([], ['data of unknown kind left out']) if ending == '.mkv' else (['01:00:00:00'], [])
    assert (kept, report.notes) == wanted


def test_further_video_streams_are_named(tmp_path: Path, upscaler: Upscaler) -> None:
    source = tmp_path / 'two.mkv'
    with av.open(str(source), 'w') as container:
        streams = []
        for size in ((40, 32), (20, 16)):
            stream = container.add_stream('libx264', rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, 'yuv420p'
            streams.append((stream, size))
        for stream, size in streams:
            for pixels in make_scene(1, 5, size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
            container.mux(stream.encode(None))
    report = upscale_video(upscaler, source, tmp_path / 'large.mkv', progress=False)
    assert report.notes == ['video h264 left out']
    assert Fraction(report.frames) == 5


def join(folder: Path, delays: tuple[int, int] = (0, 0), **options: Any) -> Path:
    """Two recordings in one file, the second with its own clock, which begins `delays` milliseconds after 0."""
    parts = []
    for index, delay in enumerate(delays):
        stamps = [40 * frame for frame in range(25)]
        part = write_video(folder / f'{index}.ts', make_scene(index, 25), stamps=stamps, delay=delay, **options)
        parts.append(part.read_bytes())
    joined = folder / 'joined.ts'
    joined.write_bytes(b''.join(parts))
    return joined


@pytest.mark.parametrize('delays', [(0, 0), (5000, 0), (0, 3_600_000)], ids=['anew', 'back', 'an hour later'])
def test_joined_recordings_keep_length_and_sound(tmp_path: Path, upscaler: Upscaler, delays: tuple[int, int]) -> None:
    source = join(tmp_path, delays)
    target = tmp_path / 'large.mkv'
    report = upscale_video(upscaler, source, target, progress=False)
    assert report.frames == 50
    with av.open(str(target)) as container:
        frames = [float(frame.time) for frame in container.decode(video=0)]
    with av.open(str(target)) as container:
        sound = [float(frame.time) for frame in container.decode(audio=0)]
    steps = np.diff(frames)
    assert steps.min() > 0.02 and steps.max() < 0.2
    assert 1.9 < frames[-1] - frames[0] < 2.3
    assert 1.8 < sound[-1] - sound[0] < 2.4
    assert abs(sound[-1] - frames[-1]) < 0.3


@pytest.mark.parametrize(('ending', 'overhang'), [('.mkv', 0), ('.mp4', 0.5)])
def test_joined_recordings_whose_sound_is_longer(
    tmp_path: Path, upscaler: Upscaler, ending: str, overhang: float
) -> None:
    source = join(tmp_path, overhang=overhang, codec_options={'crf': '20', 'bf': '2'})
    report = upscale_video(upscaler, source, tmp_path / f'large{ending}', progress=False)
    assert report.frames == 50
    with av.open(str(report.path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.dts is not None]
        times = [float(packet.dts * packet.time_base) for packet in packets]
    assert len(times) == sum(map(count_sound, (tmp_path / '0.ts', tmp_path / '1.ts')))
    assert times == sorted(times)
    assert 1.9 + overhang < times[-1] - times[0] < 2.1 + 2 * overhang


def count_sound(path: Path) -> int:
    return sum(packet.dts is not None for packet in av.open(str(path)).demux(audio=0))


def test_a_part_of_joined_recordings(tmp_path: Path, upscaler: Upscaler) -> None:
    source = join(tmp_path)
    settings = VideoSettings(start=1.5, duration=0.25)
    report = upscale_video(upscaler, source, tmp_path / 'large.mkv', settings, progress=False)
    assert 5 <= report.frames <= 8


def test_mastering_metadata_of_hdr_is_named(tmp_path: Path, upscaler: Upscaler) -> None:
    master = 'master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400'
    source = write_video(
        tmp_path / 'hdr.mkv',
        make_scene(1, 5),
        sound=False,
        codec='libx265',
        pix_fmt='yuv420p10le',
        colorspace=9,
        color_primaries=9,
        color_trc=16,
        codec_options={'x265-params': f'log-level=error:cutree=0:hdr10=1:{master}'},
    )
    report = upscale_video(upscaler, source, tmp_path / 'large.mkv', progress=False)
    assert report.notes == ['mastering metadata of HDR left out']
    with av.open(str(report.path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.color_trc, frame.color_primaries, frame.format.name) == (16, 9, 'yuv420p10le')


@pytest.mark.parametrize('ending', ['.mkv', '.mp4'])
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, upscaler: Upscaler, ending: str) -> None:
    source = tmp_path / 'dvd.mkv'
    with av.open(str(source), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options={'flags': '+ildct+ilme', 'x264-params': 'tff=1'})
        stream.width, stream.height, stream.pix_fmt = 40, 32, 'yuv420p'
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for pixels in make_scene(1, 5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode(None))
    report = upscale_video(upscaler, source, tmp_path / f'large{ending}', progress=False)
    assert report.notes == ['is interlaced, which is upscaled as it is; better deinterlace it first']
    with av.open(str(report.path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
