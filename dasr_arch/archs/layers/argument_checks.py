"""Checks of constructor arguments; messages name the network, the argument and the valid values."""


def check_counts(network: str, **counts: int) -> None:
    """Raises ValueError unless every argument is a whole number of at least 1."""
    for name, value in counts.items():
        if not _is_positive(value):
            raise ValueError(f'{name} must be a whole number of at least 1 for {network}, got {value!r}')


def check_kernel_size(network: str, **sizes: int) -> None:
    """Raises ValueError unless every argument is a kernel size, odd and positive."""
    for name, value in sizes.items():
        if not _is_positive(value) or value % 2 == 0:
            raise ValueError(f'{name} must be odd and positive for {network}, got {value!r}')


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
