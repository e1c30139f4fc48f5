"""Upscaled videos keep time, sound, text, colour and rotation, and are written atomically."""

import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dasr_arch import AdaptationOptions, InputError, Upscaler
from dasr_arch.inference.output_paths import PathSettings, is_video, plan_videos
from dasr_arch.inference.video.reader import ENCODERS, VideoSettings
from dasr_arch.inference.video.upscale_video import upscale_video
from dasr_arch.inference.video.writer import VideoWriter
from tests.inference.making import make_faithful, make_network
from tests.inference.making_video import make_scene, read_packets, read_video, write_video

av = pytest.importorskip('av', reason="PyAV is not installed (extra 'video')")


@pytest.fixture(scope='module')
def upscaler():
    """An upscaler close to bicubic upsampling, so that values can be predicted."""
    return Upscaler(2, make_faithful(2), device='cpu', precision='fp32')


def upscale(upscaler, source, target, adaptation=None, **settings):
    return upscale_video(upscaler, source, target, VideoSettings(**settings), adaptation, progress=False)


def times(path):
    return [Fraction(frame.pts) * frame.time_base for frame in read_video(path)]


def luma(frame):
    return planes(frame)[0].astype(float)


def planes(frame):
    return [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width] for plane in frame.planes]


def shrink(plane):
    return plane.reshape(plane.shape[0] // 2, 2, -1, 2).mean((1, 3))


@pytest.mark.parametrize('ending', ['.mp4', '.mkv', '.mov', '.webm'])
def test_images_sound_and_time_are_kept(tmp_path, upscaler, ending):
    codec = {'codec': 'libvpx-vp9', 'codec_options': {'lossless': '1'}} if ending == '.webm' else {}
    source = write_video(tmp_path / f'in{ending}', make_scene(0, 8) + make_scene(5, 6), **codec)
    report = upscale(upscaler, source, tmp_path / f'out{ending}')
    assert (report.frames, report.shots, report.notes) == (14, 2, [])
    before, after = read_video(source), read_video(report.path)
    assert len(after) == 14
    assert {(frame.width, frame.height) for frame in after} == {(80, 64)}
    assert times(report.path) == times(source)
    assert read_packets(report.path) == read_packets(source) != []
    for one, other in zip(before, after, strict=True):
        difference = np.abs(shrink(luma(other)) - luma(one))
        assert difference.max() < 12  # of 255: crf 17, and bicubic there and averages back
        assert difference.mean() < 2
    with av.open(str(source)) as old, av.open(str(report.path)) as new:
        assert abs(old.duration - new.duration) <= 20_000  # microseconds; Matroska counts what encoders put before 0
        assert new.streams.video[0].average_rate == old.streams.video[0].average_rate


def test_format_may_change_on_the_way(tmp_path, upscaler):
    source = write_video(tmp_path / 'in.mkv', make_scene(0, 5))
    report = upscale(upscaler, source, tmp_path / 'out.mp4', codec='h265', crf=28)
    with av.open(str(report.path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.codec_tag) == ('hevc', 'hvc1')
    assert times(report.path) == times(source)
    assert read_packets(report.path) == read_packets(source)


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_variable_frame_rate_is_kept(tmp_path, upscaler, ending):
    stamps = [0, 40, 47, 120, 400, 401, 1000, 1033]
    source = write_video(tmp_path / f'in{ending}', make_scene(0, 8), stamps=stamps)
    report = upscale(upscaler, source, tmp_path / f'out{ending}')
    assert times(report.path) == times(source) == [Fraction(stamp, 1000) for stamp in stamps]
    if ending == '.mkv':  # the other one stores no lengths, only times in the order of decoding
        lengths = [frame.duration * frame.time_base for frame in read_video(report.path)]
        assert lengths == [frame.duration * frame.time_base for frame in read_video(source)]


def test_clock_that_starts_late_starts_at_nought(tmp_path, upscaler):
    """MPEG transport streams begin at 1.4 seconds or anywhere; sound and images move together."""
    source = write_video(tmp_path / 'in.ts', make_scene(0, 10), delay=1400)
    first = times(source)[0]
    assert first > 1
    (job,) = plan_videos([str(source)], None, PathSettings(2)).jobs
    assert job.target.name == 'in_x2.mkv'
    upscale(upscaler, source, job.target)
    with av.open(str(source)) as old, av.open(str(job.target)) as new:
        gaps = []
        for container in (old, new):
            starts = {stream.type: stream.start_time * stream.time_base for stream in container.streams}
            gaps.append(starts['video'] - starts['audio'])
        assert 0 <= new.start_time < 100_000
        assert abs(gaps[0] - gaps[1]) <= Fraction(2, 1000)
    found = [stamp - times(job.target)[0] for stamp in times(job.target)]
    assert max(abs(new - (old - first)) for new, old in zip(found, times(source), strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize('rotation', [90, -90, 180])
@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_rotation_is_kept(tmp_path, upscaler, rotation, ending):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 3), sound=False, rotation=rotation)
    report = upscale(upscaler, source, tmp_path / f'out{ending}')
    expected = read_video(source)[0].rotation
    assert abs(expected) == abs(rotation)
    frame = read_video(report.path)[0]
    assert (frame.rotation, frame.width, frame.height) == (expected, 80, 64)


@pytest.mark.parametrize('matrix', [1, 6])
@pytest.mark.parametrize('color_range', [1, 2])
def test_colours_mean_the_same(tmp_path, upscaler, matrix, color_range):
    frame = np.full((32, 40, 3), (200, 60, 30), np.uint8)
    tags = {'colorspace': matrix, 'color_range': color_range, 'color_primaries': 6, 'color_trc': 6}
    source = write_video(tmp_path / 'in.mp4', [frame] * 3, sound=False, **tags)
    report = upscale(upscaler, source, tmp_path / 'out.mp4', crf=1)
    before, after = read_video(source)[0], read_video(report.path)[0]
    assert (after.colorspace, after.color_range, after.color_primaries, after.color_trc) == (matrix, color_range, 6, 6)
    for old, new in zip(planes(before), planes(after), strict=True):
        assert abs(old.mean() - new.mean()) <= 1


def test_untagged_colours_are_tagged_as_they_were_read(tmp_path, upscaler):
    """Players take small videos for BT.601 and large ones for BT.709: what grows across the line must say so."""
    source = write_video(tmp_path / 'in.mp4', [np.zeros((480, 640, 3), np.uint8)], sound=False)
    report = upscale(upscaler, source, tmp_path / 'out.mp4')
    assert read_video(source)[0].colorspace == 2
    assert (read_video(report.path)[0].width, read_video(report.path)[0].colorspace) == (1280, 6)


def test_ten_bits_stay_ten_bits(tmp_path, upscaler):
    ramp = np.repeat(np.linspace(100, 110, 40).astype(np.uint8)[None, :, None], 32, 0).repeat(3, 2)
    source = write_video(
        tmp_path / 'in.mkv', [ramp] * 3, sound=False, codec='libx265', pix_fmt='yuv420p10le', colorspace=9,
        color_trc=16, codec_options={'x265-params': 'log-level=error:lossless=1:cutree=0'},
    )  # fmt: skip
    report = upscale(upscaler, source, tmp_path / 'out.mp4')
    after = read_video(report.path)[0]
    assert (after.format.name, after.colorspace, after.color_trc) == ('yuv420p10le', 9, 16)
    with av.open(str(report.path)) as container:
        assert container.streams.video[0].codec_context.name == 'hevc'
    values = np.frombuffer(after.planes[0], '<u2').reshape(-1, after.planes[0].line_size // 2)[:64, :80]
    assert len(np.unique(values[32])) > 20  # 8 bits have nine levels between these two


@pytest.mark.parametrize('codec', ENCODERS)
def test_every_codec_writes(tmp_path, upscaler, codec):
    if ENCODERS[codec].name not in av.codecs_available:
        pytest.skip(f'this PyAV has no {ENCODERS[codec].name}')
    frames = make_scene(0, 4, (64, 64))
    source = write_video(tmp_path / 'in.mkv', frames, sound=False, pix_fmt='yuv444p', codec='ffv1', codec_options={})
    report = upscale(upscaler, source, tmp_path / 'out.mkv', codec=codec)
    after = read_video(report.path)
    assert times(report.path) == times(source)
    full = ENCODERS[codec].full_chroma
    assert after[0].format.name == ('yuv444p' if full else 'yuv420p')
    assert np.abs(shrink(luma(after[0])) - luma(read_video(source)[0])).mean() < 2


@pytest.mark.skipif(not sys.platform.startswith('linux') or os.geteuid() != 0, reason='only root on Linux is affected')
def test_av1_gives_no_thread_a_real_time_priority(tmp_path, upscaler, monkeypatch):
    """SVT-AV1 does, to the calling thread as well; a computer whose two cores are both taken hardly answers."""
    if ENCODERS['av1'].name not in av.codecs_available:
        pytest.skip('this PyAV has no SVT-AV1')
    policies = []
    finish = VideoWriter.finish

    def look(writer):
        policies.extend(os.sched_getscheduler(int(thread)) for thread in os.listdir('/proc/self/task'))
        finish(writer)

    monkeypatch.setattr(VideoWriter, 'finish', look)
    source = write_video(tmp_path / 'in.mkv', make_scene(0, 4, (64, 64)), sound=False)
    upscale(upscaler, source, tmp_path / 'out.mkv', codec='av1')
    assert len(policies) > 3
    assert set(policies) == {os.SCHED_OTHER}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_mixed_up_stamps_are_put_in_order(tmp_path, upscaler):
    """AVI stores no times of display, so that those of its frames come in the order of decoding."""
    source = write_video(tmp_path / 'in.avi', make_scene(0, 20), sound=False, codec_options={'bf': '2'})
    raw = [frame.pts for frame in read_video(source)]
    assert raw != sorted(raw)
    report = upscale(upscaler, source, tmp_path / 'out.mp4')
    assert report.frames == 20
    found = times(report.path)
    steps = [round(1000 * (later - sooner)) for sooner, later in pairwise(found[:-1])]
    assert steps == [40] * 18
    for one, other in zip(read_video(source), read_video(report.path), strict=True):
        assert np.abs(shrink(luma(other)) - luma(one)).mean() < 2


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, upscaler):
    """A limit on the size of files is the nearest thing that a test can have."""
    resource = pytest.importorskip('resource', reason='this system has no limits')
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (32, 40, 3), dtype=np.uint8) for _ in range(60)]
    source = write_video(tmp_path / 'in.mp4', frames, sound=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r'out.mp4: cannot be written \(.*\); is the disk full'):
            upscale(upscaler, source, tmp_path / 'out.mp4')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ['in.mp4']


def test_sound_that_begins_before_the_images_stays_with_them(tmp_path, upscaler):
    """Matroska knows no time before 0: from MP4, all streams move by what the sound's encoder put there."""
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 10))
    report = upscale(upscaler, source, tmp_path / 'out.mkv')
    firsts = []
    for path in (source, report.path):
        with av.open(str(path)) as container:
            sound = min(packet.pts * packet.time_base for packet in container.demux(audio=0) if packet.size)
        firsts.append((times(path)[0], sound))
    assert abs((firsts[0][0] - firsts[0][1]) - (firsts[1][0] - firsts[1][1])) <= Fraction(1, 1000)
    assert firsts[1][0] <= Fraction(22, 1000)


@pytest.mark.parametrize('codec', ['h264', 'h265'])
@pytest.mark.parametrize('count', [1, 2, 3, 4, 5])
def test_few_frames_are_a_video_too(tmp_path, upscaler, codec, count):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, count), sound=False)
    report = upscale(upscaler, source, tmp_path / 'out.mkv', codec=codec)
    assert times(report.path) == times(source)
    assert len(times(source)) == count


_NARROW = """
import sys
from pathlib import Path
from dasr_arch import Upscaler
from dasr_arch.inference.video.reader import VideoSettings
from dasr_arch.inference.video.upscale_video import upscale_video
from dasr_arch.inference.video.writer import VideoWriter
from tests.inference.making import make_faithful
from tests.inference.making_video import make_scene, write_video
folder = Path(sys.argv[1])
source = write_video(folder / 'in.mkv', make_scene(0, 6, (24, 16)), sound=False)
upscaler = Upscaler(2, make_faithful(), device='cpu')
for index in range(20):
    upscale_video(upscaler, source, folder / f'{index}.mkv', VideoSettings(codec='h265'), progress=False)
"""


def test_narrow_h265_leaves_the_heap_whole(tmp_path):
    """x265's cuTree writes past its rows below 56 pixels, which ends the process sooner or later."""
    environment = {**os.environ, 'MALLOC_PERTURB_': '165', 'PYTHONPATH': str(Path(__file__).parents[3])}
    run = subprocess.run(
        [sys.executable, '-c', _NARROW, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, '')
    assert len(times(tmp_path / '19.mkv')) == 6


def test_odd_sides_become_even(tmp_path):
    upscaler = Upscaler(3, make_faithful(3), device='cpu', precision='fp32')
    frames = make_scene(0, 3, (41, 33))
    source = write_video(tmp_path / 'in.mkv', frames, sound=False, codec='ffv1', pix_fmt='yuv444p', codec_options={})
    after = read_video(upscale(upscaler, source, tmp_path / 'out.mp4').path)[0]
    assert (after.width, after.height) == (124, 100)
    whole = read_video(upscale(upscaler, source, tmp_path / 'out.mkv', codec='ffv1').path)[0]
    assert (whole.width, whole.height) == (123, 99)


def write_with_text(path, codec, count=25):
    """A video with two lines of text, chapters and tags."""
    plain = write_video(path.with_name(f'plain{path.suffix}'), make_scene(0, count), tags={'title': 'A clip'})
    with av.open(str(plain)) as source, av.open(str(path), 'w') as container:
        container.metadata.update(source.metadata)
        copies = [container.add_stream_from_template(stream) for stream in source.streams]
        copies[1].metadata['language'] = 'fin'
        text = container.add_mux_stream(codec)
        text.metadata['language'] = 'swe'
        container.set_chapters(
            [{'id': 1, 'start': 0, 'end': 500, 'time_base': Fraction(1, 1000), 'metadata': {'title': 'One'}}]
        )
        content = [b'first', b'second'] if codec != 'mov_text' else [b'\0\5first', b'\0\6second']
        packets = [(copies[packet.stream.index], packet) for packet in source.demux() if packet.size]
        for index, data in enumerate(content):
            packet = av.Packet(data)
            packet.time_base, packet.pts, packet.dts, packet.duration = Fraction(1, 1000), *[300 * index] * 2, 200
            packets.append((text, packet))
        for stream, packet in sorted(packets, key=lambda pair: pair[1].dts * pair[1].time_base):
            packet.stream = stream
            container.mux(packet)
    plain.unlink()
    return path


@pytest.mark.parametrize(('ending', 'codec'), [('.mkv', 'srt'), ('.mp4', 'mov_text')])
def test_text_chapters_and_tags_are_kept(tmp_path, upscaler, ending, codec):
    source = write_with_text(tmp_path / f'in{ending}', codec)
    report = upscale(upscaler, source, tmp_path / f'out{ending}')
    assert report.notes == []
    texts = [text for text in read_packets(source, 'subtitle') if len(text) > 2]  # mp4 fills gaps with empty ones
    assert [text for text in read_packets(report.path, 'subtitle') if len(text) > 2] == texts
    assert [text[-5:] for text in texts] == [b'first', b'econd']
    with av.open(str(source)) as old, av.open(str(report.path)) as new:
        assert new.metadata['title'] == old.metadata['title'] == 'A clip'
        assert [stream.language for stream in new.streams if stream.type in ('audio', 'subtitle')] == ['fin', 'swe']
        assert [chapter['metadata'] for chapter in new.chapters()] == [{'title': 'One'}]
    assert 'chapters left out' in upscale(upscaler, source, tmp_path / f'part{ending}', duration=0.2).notes


def test_text_that_does_not_fit_is_left_out_and_named(tmp_path, upscaler):
    source = write_with_text(tmp_path / 'in.mkv', 'srt')
    report = upscale(upscaler, source, tmp_path / 'out.mp4')
    (note,) = report.notes
    assert note in [f'subtitle {name} left out, .mp4 cannot hold it; .mkv may' for name in ('srt', 'subrip')]
    assert read_packets(report.path) == read_packets(source)
    assert read_packets(report.path, 'subtitle') == []


def test_sound_that_does_not_fit_is_refused(tmp_path, upscaler):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 3))
    with pytest.raises(InputError, match=r'sound of kind aac cannot be copied into .webm; name an .mkv file'):
        upscale(upscaler, source, tmp_path / 'out.webm')
    assert [path.name for path in tmp_path.iterdir()] == ['in.mp4']


def test_part_is_cut_out_with_its_sound(tmp_path, upscaler):
    frames = make_scene(0, 50)
    source = write_video(tmp_path / 'in.mp4', frames, codec_options={'qp': '0', 'g': '10'})
    report = upscale(upscaler, source, tmp_path / 'out.mp4', start=0.5, duration=0.6)
    assert report.frames == 15
    assert times(report.path)[0] == Fraction(20, 1000)  # the first frame after half a second is that of 0.52
    assert [stamp + Fraction(1, 2) for stamp in times(report.path)] == times(source)[13:28]
    for one, other in zip(read_video(source)[13:28], read_video(report.path), strict=True):
        assert np.abs(shrink(luma(other)) - luma(one)).mean() < 2
    sound, whole = read_packets(report.path), read_packets(source)
    start = whole.index(sound[0])
    assert whole[start : start + len(sound)] == sound
    assert abs(len(sound) * 1024 / 48000 - 0.6) < 0.05
    assert abs(start * 1024 / 48000 - 0.5) < 0.05


def test_representation_begins_anew_at_a_cut(tmp_path):
    """Frames after the cut are what the second scene alone would become; without the reset they would not be."""
    network = make_network(2, skip='bicubic', upsampler='direct')
    upscaler = Upscaler(2, network, device='cpu', precision='fp32')
    lossless = {'codec': 'ffv1', 'pix_fmt': 'yuv444p', 'codec_options': {}, 'sound': False}
    both = write_video(tmp_path / 'both.mkv', make_scene(0, 6) + make_scene(5, 4), **lossless)
    second = write_video(tmp_path / 'second.mkv', make_scene(5, 4), **lossless)
    found = upscale(upscaler, both, tmp_path / 'out_both.mkv', codec='ffv1')
    alone = upscale(upscaler, second, tmp_path / 'out_second.mkv', codec='ffv1')
    assert (found.shots, alone.shots) == (2, 1)
    for one, other in zip(read_video(found.path)[6:], read_video(alone.path), strict=True):
        assert np.array_equal(one.to_ndarray(), other.to_ndarray())


def test_adaptation_options_are_used(tmp_path, upscaler):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 4))
    report = upscale(upscaler, source, tmp_path / 'out.mp4', AdaptationOptions(make_scene(5, 1)[0], 0.5, True))
    assert report.frames == 4


@pytest.mark.parametrize('ending', ['.mkv', '.mp4'])
def test_truncated_file_is_refused_before_the_work(tmp_path, upscaler, monkeypatch, ending):
    source = write_video(tmp_path / f'in{ending}', make_scene(0, 150), codec_options={'qp': '0', 'g': '25'})
    if ending == '.mp4':
        source = upscale(upscaler, source, tmp_path / 'front.mp4').path  # its table of contents is in front
    data = source.read_bytes()
    cut = tmp_path / f'cut{ending}'
    cut.write_bytes(data[: len(data) * 6 // 10])
    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as context:
        context.setattr(upscaler, 'upscale_decomposed', None)  # the work would fail
        with pytest.raises(InputError, match=r'is truncated, \d\.\d of 6\.0 seconds are there') as raised:
            upscale(upscaler, cut, tmp_path / 'out.mkv')
    assert sorted(tmp_path.iterdir()) == before
    seconds = float(str(raised.value).rpartition(' ')[2])
    assert 1 < seconds < 5
    report = upscale(upscaler, cut, tmp_path / 'out.mkv', duration=1.0)
    assert report.frames == 25


def damage(source, target, where):
    """A copy whose packets at some places are zeros."""
    with av.open(str(source)) as old, av.open(str(target), 'w') as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for index, packet in enumerate(old.demux(video=0)):
            if not packet.size:
                continue
            written = packet
            if index in where:
                written = av.Packet(bytes(16))
                written.pts, written.dts, written.time_base = packet.pts, packet.dts, packet.time_base
            written.stream = copy
            new.mux(written)


def test_damage_on_the_way_is_refused_and_leaves_nothing(tmp_path, upscaler):
    source = write_video(tmp_path / 'in.mkv', make_scene(0, 40), codec='ffv1', codec_options={}, sound=False)
    damage(source, tmp_path / 'bad.mkv', {20})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r'bad.mkv: is damaged near 0\.[89] seconds'):
        upscale(upscaler, tmp_path / 'bad.mkv', tmp_path / 'out.mkv')
    assert sorted(tmp_path.iterdir()) == before
    assert upscale(upscaler, tmp_path / 'bad.mkv', tmp_path / 'out.mkv', duration=0.5).frames == 13


def test_damage_before_the_first_image_is_skipped(tmp_path, upscaler):
    source = write_video(tmp_path / 'in.mkv', make_scene(0, 10), codec='mjpeg', pix_fmt='yuvj420p', sound=False)
    damage(source, tmp_path / 'bad.mkv', {0, 1})
    assert upscale(upscaler, tmp_path / 'bad.mkv', tmp_path / 'out.mkv').frames == 8
    damage(source, tmp_path / 'worse.mkv', range(10))
    with pytest.raises(InputError, match=r'worse\.mkv: no frame can be decoded; the file is damaged, or of a codec'):
        upscale(upscaler, tmp_path / 'worse.mkv', tmp_path / 'none.mkv')
    assert not (tmp_path / 'none.mkv').exists()


def test_file_that_cannot_be_read_to_its_end_is_refused(tmp_path, upscaler, monkeypatch):
    def fail(*_):
        raise av.error.OSError(5, 'Input/output error')

    source = write_video(tmp_path / 'in.mp4', make_scene(0, 3))
    monkeypatch.setattr('dasr_arch.inference.video.reader.Clock.mend', fail)
    monkeypatch.setattr('dasr_arch.inference.video.reader.FORMATS', ('mov,mp4,m4a,3gp,3g2,mj2',))
    with pytest.raises(InputError, match=r'in\.mp4: is damaged \(Input/output error\); copy it again'):
        upscale(upscaler, source, tmp_path / 'out.mp4')


def test_transparency_is_named(tmp_path, upscaler):
    clear = {'codec': 'ffv1', 'codec_options': {}, 'pix_fmt': 'yuva420p', 'sound': False}
    source = write_video(tmp_path / 'in.mkv', make_scene(0, 3), **clear)
    assert upscale(upscaler, source, tmp_path / 'out.mkv').notes == ['transparency left out']


def test_frames_that_are_too_large_are_refused(tmp_path, upscaler, monkeypatch):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 3), sound=False)
    monkeypatch.setattr('dasr_arch.inference.video.reader.MAX_PIXELS', 1000)
    with pytest.raises(InputError, match=r'in\.mp4: 40 x 32 pixels are more than 1000; cut it'):
        upscale(upscaler, source, tmp_path / 'out.mp4')


def test_encoder_that_pyav_lacks_is_named(tmp_path, upscaler, monkeypatch):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 3), sound=False)
    monkeypatch.setattr(av, 'codecs_available', {'libx264'})
    with pytest.raises(InputError, match='PyAV has no encoder libx265 here; choose another --codec'):
        upscale(upscaler, source, tmp_path / 'out.mp4', codec='h265')
    assert upscale(upscaler, source, tmp_path / 'out.mp4').frames == 3


@pytest.mark.parametrize(
    ('error', 'expected', 'message'),
    [
        (MemoryError(), InputError, r'in\.mp4: not enough memory; close other programs or cut the video'),
        (RuntimeError('a bug'), RuntimeError, '^a bug$'),
    ],
)
def test_failure_of_a_frame_leaves_nothing(tmp_path, upscaler, monkeypatch, error, expected, message):
    def fail(*_):
        raise error

    source = write_video(tmp_path / 'in.mp4', make_scene(0, 3), sound=False)
    monkeypatch.setattr(Upscaler, 'upscale_decomposed', fail)
    with pytest.raises(expected, match=message):
        upscale(upscaler, source, tmp_path / 'out.mp4')
    assert [path.name for path in tmp_path.iterdir()] == ['in.mp4']


def test_file_without_video_is_refused(tmp_path, upscaler):
    whole = write_video(tmp_path / 'in.mp4', make_scene(0, 3))
    with av.open(str(whole)) as old, av.open(str(tmp_path / 'sound.mp4'), 'w') as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(audio=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    with pytest.raises(InputError, match=r'sound.mp4: holds no video; check the file'):
        upscale(upscaler, tmp_path / 'sound.mp4', tmp_path / 'out.mp4')
    assert not (tmp_path / 'out.mp4').exists()


PLAYLIST = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n'
CONCAT = 'ffconcat version 1.0\nfile {}\n'


@pytest.mark.parametrize('content', [b'', b'text', PLAYLIST, CONCAT], ids=['empty', 'text', 'playlist', 'script'])
def test_what_is_no_video_is_refused(tmp_path, upscaler, content):
    """A playlist may name any file of the user, so that it is not followed even to a good one."""
    write_video(tmp_path / 'good.ts', make_scene(0, 3), sound=False)
    data = content if isinstance(content, bytes) else content.format('good.ts').encode()
    (tmp_path / 'in.mp4').write_bytes(data)
    with pytest.raises(InputError, match=r'in.mp4: cannot be read as a video'):
        upscale(upscaler, tmp_path / 'in.mp4', tmp_path / 'out.mp4')
    with pytest.raises(InputError, match=r'none.mp4: expected a video, found no file there'):
        upscale(upscaler, tmp_path / 'none.mp4', tmp_path / 'out.mp4')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['good.ts', 'in.mp4']


def test_change_of_size_is_refused(tmp_path, upscaler):
    parts = []
    for index, size in enumerate([(64, 48), (48, 64)]):
        path = write_video(tmp_path / f'{index}.ts', make_scene(index, 10, size), sound=False)
        parts.append(path.read_bytes())
    (tmp_path / 'in.ts').write_bytes(b''.join(parts))
    with pytest.raises(InputError, match='changes its size from 64 x 48 to 48 x 64'):
        upscale(upscaler, tmp_path / 'in.ts', tmp_path / 'out.mkv')
    assert not (tmp_path / 'out.mkv').exists()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'codec': 'h263'}, "--codec: unknown codec 'h263'; did you mean 'h26"),
        ({'codec': 'h264', 'crf': 52}, r'--crf must be a whole number in \[0, 51\] for h264, got 52'),
        ({'crf': -1}, r'--crf must be a whole number in \[0, 51\] for h264, got -1'),
        ({'codec': 'ffv1', 'crf': 5}, '--crf: ffv1 is lossless'),
        ({'start': -1.0}, '--start must be 0 or more seconds'),
        ({'start': float('nan')}, '--start must be 0 or more seconds'),
        ({'duration': 0.0}, '--duration must be more than 0 seconds'),
        ({'start': 9.0}, 'no frames in the part that was asked for; it has 0.[0-9] seconds'),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, upscaler, settings, message):
    source = write_video(tmp_path / 'in.mp4', make_scene(0, 10))
    with pytest.raises(InputError, match=message):
        upscale(upscaler, source, tmp_path / 'out.mp4', **settings)
    assert [path.name for path in tmp_path.iterdir()] == ['in.mp4']


def test_results_are_named_and_nothing_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.mp4', 'b.avi', 'c.webm'):
        Path(name).touch()
    plan = plan_videos(['*.mp4', 'b.avi', 'c.webm'], None, PathSettings(4))
    assert [job.target.name for job in plan.jobs] == ['a_x4.mp4', 'b_x4.mkv', 'c_x4.webm']
    assert [job.target for job in plan_videos(['a.mp4', 'b.avi'], 'out/', PathSettings(4)).jobs] == [
        Path('out/a.mp4'),
        Path('out/b.mkv'),
    ]
    assert plan_videos(['a.mp4'], '.', PathSettings(4)).jobs[0].target == Path('a_x4.mp4')
    Path('a_x4.mp4').touch()
    assert plan_videos(['a.mp4'], None, PathSettings(4, resume=True)) == ([], [Path('a_x4.mp4')], [], [])
    assert plan_videos(['a.mp4'], None, PathSettings(4, force=True)).jobs
    for sources, target, naming, message in (
        (['a.mp4'], None, PathSettings(4), 'exists already'),
        (['a.mp4'], 'a.mp4', PathSettings(4, force=True), 'is one of the originals'),
        (['a.mp4'], 'out.avi', PathSettings(4), "videos are not written as '.avi'; use one of .mp4"),
        (['a.mp4', 'b.avi'], 'out.mp4', PathSettings(4), 'expected a folder for several videos'),
        (['*.flv'], None, PathSettings(4), 'matches no video'),
        (['b.avi', 'b.mpg'], None, PathSettings(4), 'b_x4.mkv: two videos would get this name; give them one by one'),
    ):
        with pytest.raises(InputError, match=message):
            plan_videos(sources, target, naming)


def test_videos_are_recognised_by_name():
    assert is_video('a/clip.MP4')
    assert is_video('clips/*.mkv')
    assert not is_video('photo.jpg')
    assert not is_video('mp4')


MEASURE = """
import resource, sys
from pathlib import Path
from dasr_arch import Upscaler
from dasr_arch.inference.video.upscale_video import upscale_video
from dasr_arch.inference.video.writer import VideoWriter
from tests.inference.making import make_faithful
upscaler = Upscaler(2, make_faithful(2), device='cpu', precision='fp32')
upscale_video(upscaler, Path(sys.argv[1]), Path(sys.argv[2]), progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tmp_path):
    """A tenth of what the frames of the longer one would take, decoded or upscaled."""
    pytest.importorskip('resource', reason='this system does not tell the memory of a process')
    peaks = []
    root = Path(__file__).parents[3]
    for count in (100, 700):
        source = write_video(tmp_path / f'{count}.mp4', make_scene(0, 25, (160, 120)) * (count // 25))
        command = [sys.executable, '-c', MEASURE, source, tmp_path / f'{count}_x2.mp4']
        env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
        result = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True, env=env, cwd=root)
        peaks.append(int(result.stdout.split()[-1]) * 1024)
    assert peaks[1] - peaks[0] < 600 * 320 * 240 * 3 // 10 * 2


def test_transparency_that_decoders_leave_out_is_named(tmp_path, upscaler):
    source = tmp_path / 'in.webm'
    with av.open(str(source), 'w') as container:
        stream = container.add_stream('libvpx-vp9', rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, 'yuva420p'
        stream.metadata['alpha_mode'] = '1'
        for shade in (0, 40, 80):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 4), shade, np.uint8), 'rgba').reformat(
                format='yuva420p'
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert upscale(upscaler, source, tmp_path / 'out.mkv').notes == ['transparency left out']
