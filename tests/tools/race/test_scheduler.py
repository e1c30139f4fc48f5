"""Trainings of a race as processes: a failure does not stop the rest, and a stopped race goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dasr_arch import InputError
from race import scheduler
from race.cores import list_cores, pin, share_cores
from race.evaluation import point_test, run_probes, run_tests
from race.options import ProbeEntry, Race, Training
from race.plan import Plan, StageTime
from race.report import minutes_used, summarise, write_race_report
from race.scheduler import run_trainings
from race.state import LOCK_NAME, Progress, State, lock_race, read_state, write_state_file

FAKE_TRAINING = """
import json, os, pathlib, signal, sys, time
values = dict(v.split('=', 1) for k, v in zip(sys.argv, sys.argv[1:]) if k == '--set')
name = values['name']
place = pathlib.Path('experiments') / name
(place / 'models').mkdir(parents=True, exist_ok=True)
with open('calls.txt', 'a') as file:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    file.write(json.dumps([name, os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'], cores]) + chr(10))
if pathlib.Path('slow.txt').exists():
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    pathlib.Path('ready.txt').write_text('')
    for _ in range(1000):
        time.sleep(0.02)
        if stopped:
            sys.exit(130)
if pathlib.Path(f'broken_{name}.txt').exists():
    print('dasr: error: no luck')
    sys.exit(2)
(place / 'models' / 'net_g_latest.pth').write_text('')
"""
"""Stands for `dasr train`: notes that it was called, obeys SIGTERM, fails on request, and leaves weights."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scheduler, 'POLL', 0.01)
    monkeypatch.setattr(scheduler, 'list_overrides', lambda race, one, *_, **__: [f'name={race.experiment(one.name)}'])
    (tmp_path / 'fake_training.py').write_text(FAKE_TRAINING)
    (tmp_path / 'x.yml').write_text('scale: 4\n')  # the option file of every training
    return tmp_path


def make_race(*names: str, after: dict[str, str] | None = None, **facts) -> Race:
    trainings = tuple(Training(name, Path('x.yml'), after=(after or {}).get(name), group=name) for name in names)
    return Race('own', 'own', 10.0, trainings, **facts)


def make_plan(race: Race, count: int = 600) -> Plan:
    jobs = (1, 2)
    stages = {one.name: [StageTime('schedule', 10, dict.fromkeys(jobs, 1.0))] for one in race.trainings}
    counts = {one.name: {job: {'schedule': count * job} for job in jobs} for one in race.trainings}
    return Plan('own', 10.0, 2, stages, counts, {'date': 'today'})


def run(race: Race, plan: Plan | None = None, jobs: int = 1) -> State:
    cores = sorted(os.sched_getaffinity(0))[:1] * 2 if hasattr(os, 'sched_getaffinity') else [0, 1]
    return run_trainings(race, plan or make_plan(race), jobs, cores, [sys.executable, 'fake_training.py'])


def list_calls() -> list[str]:
    return [json.loads(line)[0] for line in Path('calls.txt').read_text().splitlines()]


def test_trainings_run_in_order_with_all_threads_and_leave_logs():
    state = run(make_race('a', 'b'))
    assert list_calls() == ['own_a', 'own_b']
    assert {name: one.status for name, one in state.trainings.items()} == {'a': 'done', 'b': 'done'}
    assert Path('results/own/logs/a.txt').exists()
    assert read_state(Path('results/own/state.json')) == state
    assert json.loads(Path('calls.txt').read_text().splitlines()[0])[1:3] == ['2', 'passive']


def test_two_at_once_have_a_thread_each():
    run(make_race('a', 'b', 'c'), jobs=2)
    calls = [json.loads(line) for line in Path('calls.txt').read_text().splitlines()]
    assert sorted(call[0] for call in calls) == ['own_a', 'own_b', 'own_c']
    assert {call[1] for call in calls} == {'1'}


def test_gpu_carries_out_as_many_as_asked_and_the_report_says_so(monkeypatch):
    monkeypatch.setattr(scheduler.torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(scheduler, 'name_device', lambda device: f'some {device.type}')
    given = []
    monkeypatch.setattr(
        scheduler, 'list_overrides', lambda race, one, *_, on_gpu: given.append(on_gpu) or [f'name=own_{one.name}']
    )
    race, cores = make_race('a', 'b', 'c'), list_cores() * 6
    plan = make_plan(race)
    state = run_trainings(race, plan, 2, cores, [sys.executable, 'fake_training.py'], gpu_jobs=3)
    assert given == [True] * 3
    assert {one.status for one in state.trainings.values()} == {'done'}
    assert [one.places for one in state.trainings.values()] == [['some cuda']] * 3
    threads = {json.loads(line)[1] for line in Path('calls.txt').read_text().splitlines()}
    assert threads == {str(len(cores) // 3)}
    text = write_race_report(race, plan, state).read_text()
    assert 'They were carried out elsewhere: some cuda.' in text
    assert state.jobs == 2  # whose iterations they are


def test_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(scheduler.torch.cuda, 'is_available', lambda: False)
    race = make_race('a')
    with pytest.raises(InputError, match='there is no GPU here; leave --gpu out'):
        run_trainings(race, make_plan(race), 1, list_cores(), [sys.executable, 'fake_training.py'], gpu_jobs=4)
    assert not Path('results').exists()


def test_failure_of_one_is_reported_and_does_not_stop_the_rest():
    Path('broken_own_a.txt').touch()
    race = make_race('a', 'b', 'c', after={'b': 'a'})
    state = run(race)
    assert {name: one.status for name, one in state.trainings.items()} == {'a': 'failed', 'b': 'failed', 'c': 'done'}
    assert state.trainings['a'].reason == 'exit code 2: dasr: error: no luck'
    assert state.trainings['b'].reason == 'a, which it starts from, failed'
    assert list_calls() == ['own_a', 'own_c']


def test_second_run_tries_again_what_failed_and_leaves_what_is_done():
    race = make_race('a', 'b', 'c', after={'b': 'a'})
    Path('broken_own_a.txt').touch()
    run(race)
    Path('broken_own_a.txt').unlink()
    state = run(race)
    assert list_calls() == ['own_a', 'own_c', 'own_a', 'own_b']
    assert all(one.status == 'done' for one in state.trainings.values())
    assert {name: one.attempts for name, one in state.trainings.items()} == {'a': 2, 'b': 1, 'c': 1}


def test_what_was_running_when_the_race_was_killed_runs_again():
    race = make_race('a', 'b')
    run(race)
    state = read_state(Path('results/own/state.json'))
    state.trainings['b'].status = 'running'  # as a killed race leaves it
    write_state_file(Path('results/own/state.json'), state)
    run(race)
    assert list_calls() == ['own_a', 'own_b', 'own_b']


def test_training_whose_weights_are_gone_runs_again():
    race = make_race('a')
    run(race)
    race.weights('a').unlink()
    run(race)
    assert list_calls() == ['own_a', 'own_a']


@pytest.mark.skipif(not hasattr(signal, 'SIGTERM') or os.name == 'nt', reason='needs signals of POSIX')
def test_interrupt_is_passed_on_and_the_race_goes_on_later():
    race = make_race('a', 'b')
    Path('slow.txt').touch()

    def interrupt() -> None:
        while not Path('ready.txt').exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(race)
    thread.join()
    state = read_state(Path('results/own/state.json'))
    assert {name: one.status for name, one in state.trainings.items()} == {'a': 'stopped', 'b': 'waiting'}
    Path('slow.txt').unlink()
    state = run(race)
    assert list_calls() == ['own_a', 'own_a', 'own_b']
    assert {name: one.status for name, one in state.trainings.items()} == {'a': 'done', 'b': 'done'}


def test_race_that_was_begun_with_another_plan_is_refused():
    race = make_race('a')
    run(race)
    with pytest.raises(InputError, match='begun with another plan; go on with that, or give a new --name'):
        run(race, make_plan(race, 700))
    with pytest.raises(InputError, match='begun with 1 trainings at once'):
        run(race, jobs=2)


def test_option_file_that_changed_after_the_start_is_refused_unless_in_its_comments():
    race = make_race('a', 'b')
    run(race)
    states = race.experiment_folder('a') / 'training_states'
    states.mkdir(parents=True)
    (states / '5.state').touch()
    Path('x.yml').write_text('scale: 4  # still\n')
    race.weights('a').unlink()
    assert run(race).trainings['a'].attempts == 2
    Path('x.yml').write_text('scale: 3\n')
    with pytest.raises(InputError, match=r'x\.yml: changed since a was begun'):
        run(race)


def test_experiments_of_something_else_are_not_continued():
    Path('experiments/own_a/training_states').mkdir(parents=True)
    Path('experiments/own_a/training_states/100.state').touch()
    with pytest.raises(InputError, match='own_a: is of something else than this race; move it away'):
        run(make_race('a'))
    assert not Path('calls.txt').exists()


def test_fewer_cores_than_planned_run_fewer_at_once():
    assert share_cores([0, 1], 2, 2) == [[0], [1]]
    assert share_cores([1], 2, 2) == [[1]]
    assert share_cores([0, 1, 2, 3], 2, 2) == [[0], [1]]
    assert share_cores([0, 1, 2, 3], 1, 2) == [[0, 1]]
    with pytest.raises(InputError, match='the plan gives every training 2 cores, but 1 of this machine'):
        share_cores([1], 1, 2)
    with pytest.raises(InputError, match='jobs must be from 1 to 2'):
        share_cores([0, 1, 2], 3, 2)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda race: (make_race('a', 'b'), 1), "the plan knows no training 'b'"),
        (lambda race: (Race('other', 'own', 1.0, race.trainings), 1), "the plan is of the race 'own', not of 'other'"),
        (lambda race: (race, 3), 'the plan is measured for 1, 2 at once, not for 3'),
    ],
)
def test_plan_that_does_not_fit_is_refused(change, message):
    plan = make_plan(make_race('a'))
    race, jobs = change(make_race('a'))
    with pytest.raises(InputError, match=message):
        run(race, plan, jobs)
    assert not Path('results').exists()


def test_second_race_of_a_name_is_refused_also_while_a_training_outlives_the_first(tmp_path):
    pytest.importorskip('fcntl')
    with lock_race(tmp_path / LOCK_NAME) as lock:
        line = [sys.executable, '-c', 'import sys; sys.stdin.read()']
        child = subprocess.Popen(line, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))
        with pytest.raises(InputError, match='is still running; wait for it'), lock_race(tmp_path / LOCK_NAME):
            pass
    with pytest.raises(InputError, match='is still running'), lock_race(tmp_path / LOCK_NAME):
        pass
    child.communicate(b'')
    with lock_race(tmp_path / LOCK_NAME):
        pass


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='only Linux keeps processes on cores')
def test_process_is_kept_on_its_cores():
    core = min(os.sched_getaffinity(0))
    child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)
    assert pin(child.pid, [core])
    assert os.sched_getaffinity(child.pid) == {core}
    child.communicate(b'')


def test_pinning_does_nothing_where_it_cannot(monkeypatch):
    monkeypatch.delattr(os, 'sched_setaffinity', raising=False)
    assert not pin(os.getpid(), [0])


# --- what follows ---

TEST_FILE = """
name: table
networks:
  Bicubic: {type: Bicubic}
  A: {type: DASR, path: experiments/own_a/models/net_g_latest.pth}
  B: {type: DASR, path: experiments/own_b/models/net_g_latest.pth}
  Both: {type: SRMDNF, path: experiments/own_a/x.pth, predictor: {path: experiments/own_b/x.pth}}
  Packaged: {type: DASR, path: dasr_arch/assets/weights/dasr_s_x4_iso.safetensors}
"""


@pytest.fixture
def test_file():
    Path('table.yml').write_text(TEST_FILE)
    return Path('table.yml')


def test_networks_whose_training_is_not_done_are_left_out_although_weights_are_there(test_file):
    race = make_race('a', 'b', tests=(test_file,))
    state = State('', 1, {'a': Progress('done'), 'b': Progress('failed')})
    (override,) = point_test(race, test_file, state)
    networks = json.loads(override.removeprefix('networks='))
    assert list(networks) == ['Bicubic', 'A', 'Packaged']


def test_race_of_another_name_tests_its_own_weights_into_its_own_folder(test_file):
    race = Race('trial', 'own', 1.0, make_race('a', 'b').trainings, (test_file,))
    state = State('', 1, {'a': Progress('done'), 'b': Progress('done')})
    networks, name = point_test(race, test_file, state)
    assert name == 'name=trial_table'
    blocks = json.loads(networks.removeprefix('networks='))
    assert blocks['Both']['predictor']['path'] == 'experiments/trial_b/x.pth'
    assert blocks['Packaged']['path'] == 'dasr_arch/assets/weights/dasr_s_x4_iso.safetensors'


def test_tests_and_probes_that_fail_are_counted(test_file):
    probe = ProbeEntry(trainings=['a', 'b'], images='p', test='t')
    race = make_race('a', 'b', tests=(test_file,), probe=probe)
    state = State('', 1, {'a': Progress('done'), 'b': Progress('failed')})
    Path('fake_training.py').write_text(
        "import sys; open('line.txt', 'a').write(' '.join(sys.argv[1:]) + chr(10)); sys.exit(1)"
    )
    command = [sys.executable, 'fake_training.py']
    assert run_tests(race, state, ['seed=1'], command) == 1
    assert run_probes(race, state, command) == 1
    test, probe_line = Path('line.txt').read_text().splitlines()
    assert test.startswith('test -opt table.yml --set networks=')
    assert test.endswith('--set seed=1')
    assert probe_line.split()[:4] == ['probe', 'experiments/own_a/models/net_g_latest.pth', '--setting', 'iso']


def test_probe_is_not_repeated_while_its_report_is_newer_than_the_weights(test_file):
    race = make_race('a', probe=ProbeEntry(trainings=['a'], images='p', test='t'))
    state = State('', 1, {'a': Progress('done')})
    report = race.folder / 'probes' / 'a' / 'report.md'
    for path in (race.weights('a'), report):
        path.parent.mkdir(parents=True)
        path.touch()
    Path('fake_training.py').write_text('import sys; sys.exit(1)')
    asked = report.with_name('asked.json')
    asked.write_text('["p", "other", null]')
    os.utime(report, (2e9, 2e9))
    assert run_probes(race, state, [sys.executable, 'fake_training.py']) == 1
    asked.write_text('["p", "t", null]')
    assert run_probes(race, state, [sys.executable, 'fake_training.py']) == 0
    os.utime(race.weights('a'), (2.1e9, 2.1e9))
    assert run_probes(race, state, [sys.executable, 'fake_training.py']) == 1


def write_history(race: Race, name: str, lines: list[dict]) -> None:
    folder = Path('experiments') / race.experiment(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'history.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_minutes_used_are_those_of_iterations_alone():
    race = make_race('a')
    validation = {'iter': 100, 'validation': {}}
    write_history(race, 'a', [{'iter': 100, 'time': 0.3}, validation, {'iter': 250, 'time': 0.6}])
    assert minutes_used(race, 'a') == (250, pytest.approx((100 * 0.3 + 150 * 0.6) / 60))
    assert minutes_used(race, 'absent') == (0, 0.0)


def make_record(values: dict[str, list[float]]) -> dict:
    rows = [
        {
            'network': label, 'dataset': 'Set5', 'degradation': column, 'failure': '', 'pictures': [1],
            'means': {'psnr': value}, 'environment': {}, 'date': '',
        }
        for label, numbers in values.items()
        for column, value in zip(('width 0', 'width 1.2'), numbers, strict=True)
    ]  # fmt: skip
    return {
        'rows': rows, 'metrics': {'psnr': {'type': 'calculate_psnr'}}, 'scale': 4, 'options': {},
        'averages': {'mean': ['width 0', 'width 1.2']}, 'systems': {},
    }  # fmt: skip


def test_summary_gives_means_and_spreads_over_seeds():
    trainings = tuple(Training(f'a_seed_{seed}', Path('x.yml'), group='a') for seed in (0, 1))
    race = Race('own', 'own', 1.0, trainings)
    networks = {
        'Bicubic': {'type': 'Bicubic'},
        **{f'A {seed}': {'type': 'DASR', 'path': f'experiments/own_a_seed_{seed}/x.pth'} for seed in (0, 1)},
    }
    record = make_record({'Bicubic': [1.0, 2.0], 'A 0': [30.0, 28.0], 'A 1': [31.0, 28.5]})
    summary = summarise(race, record, networks)
    assert list(summary['Set5']) == ['a']
    mean = summary['Set5']['a']['mean']['psnr']
    assert (mean.mean, mean.low, mean.high, mean.count) == (29.375, 29.0, 29.75, 2)


def test_report_says_minutes_planned_and_used_and_why_one_failed(test_file):
    race = make_race('a', 'b', tests=(test_file,))
    write_history(race, 'a', [{'iter': 1200, 'time': 0.9}])
    state = State('', 2, {'a': Progress('done', 2, 1300.0), 'b': Progress('failed', 1, 5.0, 'exit code 2: no luck')})
    folder = Path('results/table')
    folder.mkdir(parents=True)
    (folder / 'table.json').write_text(json.dumps(make_record({'A': [30.0, 28.0]})))
    text = write_race_report(race, make_plan(race), state).read_text()
    assert '2 ran at once, each in 1 thread on cores of its own and for 2 times the minutes' in text
    assert '| a | 1.000 | 1200 | 20.0 | 18.0 | 21.7 | done, 2 attempts |' in text
    assert '| b | 1.000 | 0 of 1200 | 20.0 | 0.0 | 0.1 | failed: exit code 2: no luck |' in text
    assert '(largest minus smallest)' not in text  # of one training each, the tables say it all
    content = json.loads(Path('results/own/race.json').read_text())
    assert content['summaries']['table']['Set5']['a']['mean']['psnr']['mean'] == 29.0


def test_report_of_seeds_shows_means_and_spreads():
    networks = ''.join(f'  A {seed}: {{type: DASR, path: experiments/own_a_seed_{seed}/x.pth}}\n' for seed in (0, 1))
    Path('table.yml').write_text(f'name: table\nnetworks:\n{networks}')
    trainings = tuple(Training(f'a_seed_{seed}', Path('x.yml'), group='a') for seed in (0, 1))
    race = Race('own', 'own', 10.0, trainings, (Path('table.yml'),))
    folder = Path('results/table')
    folder.mkdir(parents=True)
    (folder / 'table.json').write_text(json.dumps(make_record({'A 0': [30.0, 28.0], 'A 1': [31.0, 28.5]})))
    state = State('', 1, {one.name: Progress('done', 1) for one in trainings})
    text = write_race_report(race, make_plan(race), state).read_text()
    assert '| a | 2 | 30.50 (1.00) | 28.25 (0.50) | 29.38 (0.75) |' in text
