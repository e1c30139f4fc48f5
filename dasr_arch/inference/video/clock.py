"""Time stamps of recordings that were joined, so that their clock starts anew or jumps: `cat a.ts b.ts`."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

FORMATS = ('mpeg', 'mpegts', 'ogg')  # whose clocks may start anew; elsewhere a gap is a pause
_KINDS = ('audio', 'video')
_BACK = Fraction(1, 10)  # seconds, as in ffmpeg; packets of one recording are never further out of order
_GAP = Fraction(10)  # seconds, as in ffmpeg; a longer gap counts as a new clock


class Clock:
    """Moves the packets of each joined recording, audio and video alike, to the end of the one before."""

    def __init__(self) -> None:
        self._offsets = [Fraction(0)]  # of each recording, seconds
        self._recording: dict[int, int] = {}  # that each stream has reached; they do not change at the same packet
        self._last: dict[int, Fraction] = {}  # by stream, the time of its last packet as stored
        self._step: dict[int, Fraction] = {}  # by stream, from its last packet to the next

    @property
    def jumps(self) -> int:
        """Number of new clocks so far."""
        return len(self._offsets) - 1

    def mend(self, packets: 'Iterable[av.Packet[av.stream.Stream]]') -> 'Iterator[av.Packet[av.stream.Stream]]':
        """The packets with times that go on; streams other than sound and video follow these."""
        for packet in packets:
            stamp, base = packet.dts if packet.dts is not None else packet.pts, packet.time_base
            if stamp is None or base is None:
                yield packet
                continue
            offset = self._offsets[-1]
            if packet.stream.type in _KINDS:
                offset = self._find_offset(packet.stream.index, stamp * base)
            shift = round(offset / base)
            if packet.pts is not None:
                packet.pts += shift
            if packet.dts is not None:
                packet.dts += shift
            yield packet

    def _find_offset(self, stream: int, time: Fraction) -> Fraction:
        last = self._last.get(stream, time)
        self._last[stream] = time
        recording = self._recording.get(stream, 0)
        if not -_BACK < time - last < _GAP:
            due = last + self._offsets[recording] + self._step.get(stream, 0)
            recording += 1
            self._recording[stream] = recording
            if recording == len(self._offsets):
                self._offsets.append(due - time)
        elif time > last:
            self._step[stream] = time - last
        return self._offsets[recording]
