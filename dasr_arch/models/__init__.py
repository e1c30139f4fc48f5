"""Training procedures, in BasicSR's sense of a model: networks, losses and optimiser behind a few methods."""

import basicsr  # noqa: F401  (first: it has every module here imported, none of which may be half imported then)
