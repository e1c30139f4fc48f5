"""Image quality metrics that BasicSR lacks; modules ending in ``_metric`` register themselves."""

import basicsr  # noqa: F401  (first: it has every module here imported, none of which may be half imported then)
