"""Small video files for tests, made by PyAV."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels8 = NDArray[np.uint8]


def make_scene(seed: int, count: int, size: tuple[int, int] = (40, 32)) -> list[Pixels8]:
    """Frames of one shot, RGB (H, W, 3): soft blobs of the seed's colours that drift by a pixel each frame."""
    width, height = size
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(float)
    colours, phases = rng.uniform(0.15, 0.85, 3), rng.uniform(0, 6, (3, 2))
    frames = []
    for index in range(count):
        waves = [
            np.sin((columns + index) / 5 + phases[channel, 0]) * np.cos(rows / 4 + phases[channel, 1])
            for channel in range(3)
        ]
        frames.append(((np.stack(waves, 2) * 0.12 + colours) * 255).round().clip(0, 255).astype(np.uint8))
    return frames


def write_video(path: Path, frames: list[Pixels8], *, sound: bool = True, **options: Any) -> Path:
    """A video of given frames.

    Args:
        path: its ending chooses the format.
        frames: RGB, of equal size.
        sound: add a tone of AAC, Opus in WebM.
        options: codec, pix_fmt, rate, stamps and delay (in milliseconds), colorspace, color_range, color_primaries,
            color_trc, rotation, tags, codec_options, overhang (seconds by which the tone is longer).
    """
    import av

    rate = options.get('rate', 25)
    with av.open(str(path), 'w') as container:
        container.metadata.update(options.get('tags', {}))
        stream: Any = container.add_stream(
            options.get('codec', 'libx264'), rate=rate, options=options.get('codec_options', {'qp': '0'})
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = options.get('pix_fmt', 'yuv420p')
        stream.codec_context.time_base = Fraction(1, 1000)
        for key in ('colorspace', 'color_range', 'color_primaries', 'color_trc'):
            if key in options:
                setattr(stream.codec_context, key, options[key])
        if 'rotation' in options:
            stream.set_display_rotation(options['rotation'])
        tone = _add_tone(container, path) if sound else None
        stamps = options.get('stamps') or [round(index * 1000 / rate) for index in range(len(frames))]
        delay = options.get('delay', 0)
        for pixels, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24').reformat(
                format=stream.pix_fmt,
                dst_colorspace=_SWS.get(options.get('colorspace', 6), 5),
                dst_color_range=options.get('color_range', 1),
            )
            frame.pts, frame.time_base = stamp + delay, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            seconds = stamps[-1] / 1000 + 1 / rate + options.get('overhang', 0)
            _write_tone(container, tone, seconds, delay * 48)
    return path


_SWS = {1: 1, 5: 5, 6: 5, 9: 9}  # matrices of H.273 as swscale numbers them


def _add_tone(container: Any, path: Path) -> Any:
    codec = 'libopus' if path.suffix == '.webm' else 'aac'
    return container.add_stream(codec, rate=48000)


def _write_tone(container: Any, stream: Any, seconds: float, delay: int) -> None:
    import av

    count = round(48000 * seconds)
    wave = (0.3 * np.sin(np.arange(count) * 2 * np.pi * 440 / 48000)).astype(np.float32)
    layout = 'stereo'
    for start in range(0, count, 960):
        part = wave[start : start + 960]
        planes = np.stack([part, part])
        packed = stream.format.name == 'flt'
        frame = av.AudioFrame.from_ndarray(
            planes.T.reshape(1, -1).copy() if packed else planes, format='flt' if packed else 'fltp', layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, start + delay, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def read_video(path: Path) -> list[Any]:
    """Its frames, in the order of display."""
    import av

    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def read_packets(path: Path, kind: str = 'audio') -> list[bytes]:
    """The content of the packets of the first stream of a kind."""
    import av

    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [bytes(packet) for packet in container.demux(streams[:1]) if packet.size] if streams else []
