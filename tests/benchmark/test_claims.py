"""Claims on evaluations: several processes, also killed ones, work on one results folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dasr_arch.benchmark import claims
from dasr_arch.benchmark.claims import Claims
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.pipelines.testing import run_test
from tests.benchmark.making import make_options, write_images

PROJECT = Path(__file__).parents[2]
DRIVER = """
import os, sys, time
from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.benchmark import claims, runner
from dasr_cli.main import main

claims.LEASE, claims.POLL, delay = float(sys.argv[1]), 0.05, float(sys.argv[2])
evaluate = runner.Runner._evaluate

def slow(self, evaluation, facts, method):
    with open('computed.txt', 'a') as log:
        log.write(f'{evaluation.fingerprint} {facts.name} {os.getpid()}\\n')
    while 'together' in sys.argv and len({line.split()[2] for line in open('computed.txt')}) < 2:
        time.sleep(0.02)
    time.sleep(delay)
    return evaluate(self, evaluation, facts, method)

runner.Runner._evaluate = slow
if 'fail' in sys.argv:
    forward = Bicubic.forward
    def fail(self, lq):
        if lq.shape[-1] == 16:
            raise ValueError('too large')
        return forward(self, lq)
    Bicubic.forward = fail
sys.exit(main(['test', '-opt', 'trial.yml']))
"""
"""`dasr test` with a record of all images that are computed.

Arguments: the lease, the seconds that each image takes longer, 'together' to go on only when two processes compute, and
'fail' to fail on large images.
"""

Start = Callable[..., 'subprocess.Popen[str]']


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A function that starts a process on the test of this folder; none outlives the test function."""
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, 'PYTHONPATH': str(PROJECT), 'OMP_NUM_THREADS': '1', 'TQDM_MININTERVAL': '0'}
    started = []

    def begin(lease: float = 60, delay: float = 0.2, *more: str) -> 'subprocess.Popen[str]':
        command = [sys.executable, '-c', DRIVER, str(lease), str(delay), *more]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=tmp_path)
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def write_options(**changes: Any) -> dict[str, Any]:
    """A test of five evaluations of two images."""
    widths = [{'type': 'IsotropicGaussian', 'sigma': [0, 0.6, 1.2, 1.8, 2.4]}]
    options = make_options(write_images(Path('own')), degradations=widths, **changes)
    Path('trial.yml').write_text(yaml.safe_dump(options))
    return options


def finish(process: 'subprocess.Popen[str]', code: int = 0) -> tuple[str, str]:
    """What a process that ends with this exit code prints to stdout and stderr."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


def computed() -> list[tuple[str, str, int]]:
    """Evaluation, image and process of everything that was computed."""
    path = Path('computed.txt')
    lines = path.read_text().splitlines() if path.exists() else []
    return [(cell, image, int(process)) for cell, image, process in map(str.split, lines)]


def wait_until(is_reached: Callable[[], object]) -> None:
    ends = time.monotonic() + 120
    while not is_reached():
        assert time.monotonic() < ends
        time.sleep(0.02)


def numbers(name: str = 'trial') -> list[dict[str, Any]]:
    """The rows of a table without those that tell when and by whom they were computed."""
    rows = read_results(Path('results') / name / 'table.json')['rows']
    return [{key: row[key] for key in row.keys() - {'date', 'seconds', 'environment'}} for row in rows]


def check_table(options: dict[str, Any]) -> None:
    """Checks that the table is that of one process alone, and that cached results are all that is left."""
    run_test({**options, 'name': 'alone'})
    assert numbers() == numbers('alone')
    left = [sorted(path.name for path in Path('results', name, 'cells').iterdir()) for name in ('trial', 'alone')]
    assert left[0] == left[1]
    assert all(name.endswith('.json') for name in left[0])


def own_lock(process: 'subprocess.Popen[str]') -> list[Path]:
    """The lock that a process holds."""
    return [path for path in Path('results').rglob('*.lock') if path.read_text().startswith(f'{process.pid} ')]


def test_two_processes_compute_each_image_once_and_write_the_table_of_one(start: Start) -> None:
    options = write_options(save_img=True)
    first, second = start(60, 0.1, 'together'), start(60, 0.1, 'together')
    (tables, bar), (other_tables, other_bar) = finish(first), finish(second)
    done = computed()
    assert len(done) == len({(cell, image) for cell, image, _ in done}) == 10
    assert {process for *_, process in done} == {first.pid, second.pid}
    assert tables == other_tables != ''
    assert '10/10' in bar and '10/10' in other_bar  # each counts the images of the other
    check_table(options)
    images = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.png')}
        for folder in (Path('results/trial/visualization'), Path('results/alone/visualization'))
    ]
    assert images[0] == images[1]
    assert len(images[0]) == 10


@pytest.mark.slow
def test_times_beside_another_process_are_not_reported(start: Start) -> None:
    write_options(report=True)
    first, second = start(60, 0.1, 'together'), start(60, 0.1, 'together')
    finish(first)
    finish(second)
    record = read_results(Path('results/trial/table.json'))
    shared = [row for row in record['rows'] if row['seconds'] is None]
    assert len(shared) >= 3  # at its beginning and end one process may be alone
    own = [row['seconds'] for row in record['rows'] if row['seconds'] is not None]
    mean = record['systems']['Bicubic']['seconds_per_picture']
    assert mean == (pytest.approx(sum(own) / len(own) / 2) if own else None)
    lines = Path('results/trial/table.csv').read_text().splitlines()
    column = lines[0].split(',').index('seconds')
    assert sum(line.split(',')[column] == '' for line in lines[1:]) == len(shared)


def test_evaluation_of_a_killed_process_is_taken_over_with_its_images(start: Start) -> None:
    options = write_options()
    first, second = start(60, 3, 'together'), start(60, 0.2, 'together')
    partial = Path('results/trial/cells')
    wait_until(
        lambda: (locks := own_lock(first)) and (partial / f'{locks[0].name.split(".")[0]}.images.jsonl').exists()
    )
    cell = own_lock(first)[0].name.split('.')[0]
    first.kill()
    assert first.wait() == -signal.SIGKILL
    finish(second)
    done = [(one, image) for one, image, _ in computed()]
    assert len(set(done)) == 10
    assert len(done) - 10 <= 1  # the image that was being computed
    assert done.count((cell, 'p0')) == 1
    check_table(options)


def test_killed_process_that_starts_again_waits_for_nothing(start: Start) -> None:
    options = write_options()
    first = start(delay=1)
    wait_until(lambda: own_lock(first))
    first.kill()
    first.wait()
    assert list(Path('results/trial/cells').glob('*.0.lock'))
    began = time.monotonic()
    finish(start(lease=1000, delay=0))
    assert time.monotonic() - began < 100
    check_table(options)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_process_gives_its_claim_back(start: Start, number: signal.Signals) -> None:
    write_options()
    process = start(delay=60)
    wait_until(computed)
    process.send_signal(number)
    assert finish(process, code=130)[1].endswith('dasr: interrupted\n')
    assert not list(Path('results').rglob('*.lock'))


@pytest.mark.slow
def test_suspended_process_loses_its_claim_and_does_no_harm_when_it_wakes(start: Start) -> None:
    options = write_options()
    first = start(lease=1, delay=0.3)
    wait_until(computed)
    first.send_signal(signal.SIGSTOP)
    second = start(lease=1, delay=0.1)
    finish(second)
    assert all(row['means'] for row in numbers())
    first.send_signal(signal.SIGCONT)
    finish(first)
    check_table(options)


def test_claim_from_another_machine_is_taken_over_after_its_lease(start: Start) -> None:
    """Whatever the clocks say: its time lies in the future, and long ago."""
    options = write_options()
    run_test(options)
    folder = Path('results/trial/cells')
    for path, when in zip(sorted(folder.glob('*.json'))[:2], (time.time() + 1e6, 0), strict=True):
        path.unlink()
        lock = path.with_suffix('.0.lock')
        lock.write_text(f'{os.getpid()} elsewhere pid:[1]')
        os.utime(lock, (when, when))
    began = time.monotonic()
    finish(start(lease=3, delay=0))
    assert time.monotonic() - began > 3
    assert len({cell for cell, *_ in computed()}) == 2
    check_table(options)


@pytest.mark.slow
def test_claim_that_is_renewed_is_respected(start: Start) -> None:
    options = write_options()
    first, second = start(1, 4, 'together'), start(1, 0, 'together')
    finish(second)  # waits for the first one's evaluation, which takes eight leases
    finish(first)
    done = computed()
    assert len({(cell, image) for cell, image, _ in done}) == len(done) == 10
    assert {process for *_, process in done} == {first.pid, second.pid}
    check_table(options)


@pytest.mark.slow
def test_failures_are_in_the_tables_of_all_processes(start: Start) -> None:
    options = write_options()
    options['datasets']['Large'] = {'dataroot_gt': str(write_images(Path('large'), count=1, width=64))}
    Path('trial.yml').write_text(yaml.safe_dump(options))
    processes = [start(60, 0.1, 'fail'), start(60, 0.1, 'fail')]
    assert all('5 evaluations failed' in finish(process, code=1)[0] for process in processes)
    assert sum(bool(row['failure']) for row in numbers()) == 5
    assert not list(Path('results').rglob('*.lock'))


@pytest.mark.slow
def test_costs_are_measured_once_and_by_an_only_process(start: Start) -> None:
    """Both processes report the same costs, measured while the other one waited."""
    write_options(costs={'size': 16, 'repeats': 1})
    processes = [start(), start()]
    for process in processes:
        finish(process)
    (stored,) = Path('results/trial/costs').iterdir()
    costs = read_results(Path('results/trial/table.json'))['systems']['Bicubic']['costs']
    assert costs == json.loads(stored.read_text())


@pytest.mark.slow
def test_of_many_that_see_a_void_claim_one_gets_it(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from dasr_arch.benchmark import claims
claims.LEASE = 1.0
mine = claims.Claims(Path(sys.argv[1]))
sys.stdin.readline()
while not Path(sys.argv[1], 'ended').exists():
    with mine.claim('cell') as claimed:
        if claimed:
            print('claimed', flush=True)
            sys.stdin.readline()
            break
    time.sleep(0.01)
"""
    (tmp_path / 'cell.0.lock').write_text('1 elsewhere')
    command = [sys.executable, '-c', code, str(tmp_path)]
    env = {**os.environ, 'PYTHONPATH': str(PROJECT)}
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write('go\n')
        process.stdin.flush()
    wait_until((tmp_path / 'cell.1.lock').exists)
    time.sleep(2.5)  # more than a lease: the new claim is renewed
    (tmp_path / 'ended').touch()
    told = [process.communicate('\n', timeout=60)[0] for process in processes]
    assert sorted(told) == ['', '', '', 'claimed\n']
    assert [path.name for path in tmp_path.iterdir()] == ['ended']


def test_waiting_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim of another machine, which ends by its lease."""
    monkeypatch.setattr(claims, 'LEASE', 1.0)
    monkeypatch.setattr(claims, 'POLL', 0.05)
    (tmp_path / 'other.0.lock').write_text('1 elsewhere')
    own = Claims(tmp_path)
    with own.wait_for('table', alone=False):
        assert own.has_others()
    began = time.monotonic()
    with own.wait_for('table', alone=True):
        assert not own.has_others()
    assert time.monotonic() - began > 0.5


def test_folder_that_cannot_be_written_is_one_line(start: Start) -> None:
    write_options()
    Path('results/trial').mkdir(parents=True)
    Path('results/trial/cells').write_text('a file')
    lines = finish(start(), code=2)[1].splitlines()
    assert lines[-1].startswith('dasr: error: ')
    assert 'results/trial/cells' in lines[-1]
