"""Option files that have moved: their old paths keep working for one release and warn."""

import logging
from pathlib import Path

_logger = logging.getLogger('dasr_arch')


def find_moved(path: Path) -> tuple[Path, bool]:
    """The file that holds today what an old path named, and whether it is to be made small.

    `options/smoke/smoke_NAME.yml` is `options/train_NAME.yml` with the switch `--smoke`; earlier courses of the
    packaged weights lie in `docs/models/courses/` instead of `options/weights/`. Any other path comes back as it is.
    """
    folder = path.parent
    if folder.name == 'smoke' and path.name.startswith('smoke_'):
        moved, smoke, switch = folder.parent / f'train_{path.name.removeprefix("smoke_")}', True, ' with --smoke'
    elif folder.name == 'weights':
        moved, smoke, switch = folder.parent.parent / 'docs' / 'models' / 'courses' / path.name, False, ''
    else:
        return path, False
    if path.exists() or not moved.is_file():
        return path, False
    _logger.warning('%s is now %s%s; the old path will be removed', path, moved, switch)
    return moved, smoke
