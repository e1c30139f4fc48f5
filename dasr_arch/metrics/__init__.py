"""Image quality metrics that BasicSR lacks; modules ending in ``_metric`` register themselves."""
