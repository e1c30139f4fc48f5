"""Evaluation after the trainings of a race: its tests, and probes of representations."""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from dasr_arch.config.yaml_reader import read_yaml
from dasr_cli.main import INTERRUPTED_CODE
from race.cores import list_cores, thread_environment
from race.options import Race
from race.state import State

PROBES_NAME = 'probes'
DASR_COMMAND = (sys.executable, '-m', 'dasr_cli')

_LOGGER = logging.getLogger(__name__)


def run_tests(
    race: Race,
    state: State,
    overrides: Sequence[str] = (),
    command: Sequence[str] = DASR_COMMAND,
    lock: IO[str] | None = None,
) -> int:
    """Runs the test files of a race, on all cores; stored evaluations are not repeated.

    Args:
        race: the race.
        state: of the race; networks whose training is not done are left out.
        overrides: `key=value`, laid over the test files.
        command: the command line before `test -opt FILE --set KEY=VALUE`.
        lock: of the race; a test inherits it, because it may outlive this process.

    Returns:
        The number of tests that failed.

    Raises:
        KeyboardInterrupt: if a test was interrupted.
    """
    failures = 0
    for path in race.tests:
        line = [*command, 'test', '-opt', str(path)]
        line += [part for override in (*point_test(race, path, state), *overrides) for part in ('--set', override)]
        _LOGGER.info('testing: %s', path)
        failures += _run(line, lock) != 0
    return failures


def run_probes(race: Race, state: State, command: Sequence[str] = DASR_COMMAND, lock: IO[str] | None = None) -> int:
    """Probes the representations that the race file names; reports newer than the weights are kept.

    Args:
        race: the race.
        state: of the race; trainings that are not done are left out.
        command: the command line before `probe WEIGHTS`.
        lock: of the race; a probe inherits it, because it may outlive this process.

    Returns:
        The number of probes that failed. Reports are in ``results/<race>/probes/<training>/``.

    Raises:
        KeyboardInterrupt: if one was interrupted.
    """
    failures = 0
    entry = race.probe
    for name in entry.trainings if entry else ():
        assert entry is not None
        if name not in state.trainings or state.trainings[name].status != 'done':
            continue
        folder = race.folder / PROBES_NAME / name
        folder.mkdir(parents=True, exist_ok=True)
        report, arguments_file = folder / 'report.md', folder / 'asked.json'
        arguments = json.dumps([entry.images, entry.test, entry.limit])
        same = arguments_file.is_file() and arguments_file.read_text(encoding='utf-8') == arguments
        if same and report.is_file() and report.stat().st_mtime >= race.weights(name).stat().st_mtime:
            continue
        _LOGGER.info('probing: %s', name)
        line = [*command, 'probe', str(race.weights(name)), '--setting', 'iso', '--images', entry.images]
        line += ['--test', entry.test, '--report', str(folder), '--force', '-o', str(folder / 'probe.safetensors')]
        line += [] if entry.limit is None else ['--limit', str(entry.limit)]
        if _run(line, lock) == 0:
            arguments_file.write_text(arguments, encoding='utf-8')
        else:
            failures += 1
    return failures


def point_test(race: Race, path: Path, state: State) -> list[str]:
    """Overrides that point a test file to the weights of this race.

    Args:
        race: the race.
        path: the test file.
        state: of the race.

    Returns:
        `networks=...`: paths into this race's experiments, without the networks whose training is not done, even if
        there are weights; and the test's name, if the race has another name than its file.
    """
    networks = read_networks(path)
    kept = {}
    for label, block in networks.items():
        used = list_trainings(race, block)
        if all(name in state.trainings and state.trainings[name].status == 'done' for name in used):
            kept[label] = _replace_paths(race, block)
        else:
            _LOGGER.warning('%s is left out of %s: a training of it is not done', label, path)
    out = [f'networks={json.dumps(kept)}']
    if race.name != race.file_name:
        out.append(f'name={name_test(race, path)}')
    return out


def name_test(race: Race, path: Path) -> str:
    """The folder below ``results/`` that a test of a race writes to."""
    name = str(read_yaml(path)['name'])
    return name if race.name == race.file_name else f'{race.name}_{name}'


def read_networks(path: Path) -> Mapping[str, object]:
    """The networks of a test file by label."""
    networks = read_yaml(path).get('networks')
    return networks if isinstance(networks, Mapping) else {}


def list_trainings(race: Race, block: object) -> set[str]:
    """The trainings whose weights a network's entry names, including trainings that the race does not have."""
    start = _start_of_paths(race.file_name)
    return {text.removeprefix(start).split('/')[0] for text in _list_texts(block) if text.startswith(start)}


def _start_of_paths(name: str) -> str:
    return f'experiments/{name}_'


def _list_texts(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _list_texts(item)]
    return [value] if isinstance(value, str) else []


def _replace_paths(race: Race, value: object) -> object:
    """The same entry with paths into this race's experiments."""
    if isinstance(value, Mapping):
        return {key: _replace_paths(race, item) for key, item in value.items()}
    start = _start_of_paths(race.file_name)
    if isinstance(value, str) and value.startswith(start):
        return _start_of_paths(race.name) + value.removeprefix(start)
    return value


def _run(line: Sequence[str], lock: IO[str] | None) -> int:
    """Runs a command in this terminal; returns its exit code."""
    kept = () if lock is None else (lock.fileno(),)
    code = subprocess.run(line, env=thread_environment(len(list_cores())), pass_fds=kept, check=False).returncode
    if code == INTERRUPTED_CODE:
        raise KeyboardInterrupt
    return code
