"""Checks of the arguments that networks have in common; each names the network, the argument and what was expected."""


def check_choice(name: str, value: object, known: tuple[object, ...], network: str) -> None:
    """Raises ValueError unless the value is one of the known ones.

    Args:
        name: the argument.
        value: what it was given.
        known: what it may be.
        network: whose argument it is.

    Raises:
        ValueError: if the value is another one.
    """
    if value not in known:
        raise ValueError(f'{name} must be one of {", ".join(map(str, known))} for {network}, got {value!r}')


def check_counts(network: str, **counts: int) -> None:
    """Raises ValueError unless every count is a whole number of at least one.

    Args:
        network: whose arguments they are.
        **counts: the arguments by name.

    Raises:
        ValueError: naming the first that is none.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} must be a whole number of at least 1 for {network}, got {value!r}')


def check_kernel_size(network: str, **sizes: int) -> None:
    """Raises ValueError unless every side of a kernel is odd and positive.

    Args:
        network: whose arguments they are.
        **sizes: the arguments by name.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value % 2 == 0:
            raise ValueError(f'{name} must be odd and positive for {network}, got {value!r}')
