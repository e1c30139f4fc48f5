"""SR images of one evaluation, tagged with its fingerprint."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dasr_arch._files import atomic_write
from dasr_arch.benchmark.config import folder_name
from dasr_arch.benchmark.result_cache import Evaluation
from dasr_arch.data.image_io import write_image

_MARKER = 'cell.txt'


class SRImageFolder:
    """SR images of one evaluation, ``<root>/<network>/<dataset>/<degradation>/<image>.png``.

    A file beside them holds the fingerprint of the evaluation, so that images of older weights are never reused.
    """

    def __init__(self, root: Path, evaluation: Evaluation) -> None:
        labels = (evaluation.network.label, evaluation.suite.dataset.name, evaluation.suite.degradation.label)
        self.folder = root.joinpath(*map(folder_name, labels))
        self._fingerprint = evaluation.fingerprint

    def holds(self, name: str) -> bool:
        """True if this evaluation has already written the image."""
        return self._is_ours() and self._path(name).is_file()

    def write(self, name: str, image: NDArray[np.uint8]) -> None:
        """Writes an RGB image (H, W, 3); the first one removes the images of another evaluation."""
        if not self._is_ours():
            for stale in self.folder.glob('*.png'):
                stale.unlink()
            with atomic_write(self.folder / _MARKER) as temporary:
                temporary.write_text(f'{self._fingerprint}\n', encoding='ascii')
        write_image(self._path(name), image)

    def _is_ours(self) -> bool:
        try:
            return (self.folder / _MARKER).read_text(encoding='ascii').strip() == self._fingerprint
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    @staticmethod
    def file_name(name: str) -> str:
        """The file name of an image, always inside the folder."""
        return f'{name if Path(name).name == name else folder_name(name)}.png'

    def _path(self, name: str) -> Path:
        return self.folder / self.file_name(name)
