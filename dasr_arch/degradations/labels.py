"""Old labels of degradations, in option files and stored results."""

import re

_NUMBER = r'[\d.]+(?:-[\d.]+)?'  # or a range
_AXES = re.compile(rf'axes ({_NUMBER})(?: x ({_NUMBER}))? at (-?{_NUMBER})')
_WIDTH = re.compile(rf'width (?={_NUMBER})')


def update_label(label: str) -> str:
    """Converts an old label of a degradation to the current form; all others are returned unchanged.

    'width 1.2, noise 5' becomes 'sigma 1.2, noise 5', and 'axes 2 x 0.5 at 10' becomes 'lambda 2 0.5, theta 10'.
    """
    found = _AXES.match(label)
    if found is not None:
        axes = ' '.join(filter(None, found.group(1, 2)))
        return f'lambda {axes}, theta {found[3]}{label[found.end() :]}'
    return _WIDTH.sub('sigma ', label, count=1) if label.startswith('width') else label
