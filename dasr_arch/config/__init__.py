"""Option files: reading YAML, typed options with their defaults, and checks before anything is created.

``train_checks.load_training_options`` reads a training file. Its steps, each of which refuses what it cannot use:

1. ``yaml_reader``: the text with ``--set`` and ``--smoke``, as plain dictionaries.
2. ``typed`` converts them to the structures of ``train_schema``: unknown keys, types, ranges, defaults.
3. ``registry_checks`` builds what a ``type`` names: network, losses, metrics, optimiser.
4. ``fit_checks.check_fit`` compares the network with the losses and stages, then weights to start from are read.
5. ``dataset_checks`` opens every data set and reads an image; ``fit_checks.check_data`` compares them with the network.

``foreign`` in these modules marks models of BasicSR: unknown keys of theirs are kept. ``zero_shot_schema`` has the
options of ZSSR and MZSR in test files, whose other keys are in ``benchmark/config.py`` and ``pipelines/testing.py``.
"""
