"""Race files, plans and timing: the iterations that fit into the minutes, and the overrides of the training files."""

from dataclasses import replace
from pathlib import Path

import pytest

from dasr_arch import InputError
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.config.yaml_reader import read_yaml
from race.cores import share_cores
from race.options import Race, Training, read_race
from race.plan import (
    StageTime,
    digest_options,
    fit_iterations,
    list_overrides,
    list_stages,
    make_plan,
    read_plan,
    write_plan,
)
from race.timing import MeasureSettings, measure_race, measure_task, run_workers
from tests.option_files import OPTIONS, stand_in

RACES = sorted(path for path in (OPTIONS / 'race').glob('*.yml') if 'trainings' in read_yaml(path))


def make_race(*trainings: Training, name: str = 'own', minutes: float = 1.0) -> Race:
    return Race(name, name, minutes, trainings)


def stand_in_training(name: str, file: Path, folder: Path, **facts) -> Training:
    return Training(name, file, overrides=tuple(stand_in(file, folder)), **facts)


def write_race(folder: Path, text: str) -> Path:
    path = folder / 'own.yml'
    path.write_text(text)
    return path


# --- race files ---


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(OPTIONS.parent)


@pytest.mark.parametrize('path', RACES, ids=lambda path: path.stem)
def test_shipped_race_names_files_that_are_there(path, at_root):
    race = read_race(path)
    assert race.name == race.file_name == path.stem
    assert race.minutes >= 45
    for test in race.tests:
        assert read_yaml(test)['name'] == test.stem


@pytest.mark.parametrize('path', RACES, ids=lambda path: path.stem)
def test_tests_of_a_shipped_race_name_its_trainings_and_all_of_them(path, at_root):
    race = read_race(path)
    texts = [text for test in race.tests for text in test.read_text().split()]
    named = {text.split('/')[1] for text in texts if text.startswith('experiments/')}
    starting_points = {training.after for training in race.trainings}
    wanted = {race.experiment(one.name) for one in race.trainings if one.name not in starting_points}
    assert named == wanted


def test_every_option_file_of_the_race_takes_part_with_the_same_data(at_root):
    race = read_race(OPTIONS / 'race' / 'race.yml')
    files = {training.options.name for training in race.trainings}
    own = {path.name for path in (OPTIONS / 'race').glob('*_x4.yml')}
    assert files == own | {f'model_{number}_x4.yml' for number in (1, 2, 3, 5)}
    for training in race.trainings:
        options = read_yaml(training.options, training.overrides)
        data = options['datasets']['train']
        assert data['dataroot_gt'] == 'datasets/BSDS400_T91_256.lmdb'
        assert data['degradation']['noise_range'] == [0, 15]
        assert options['train']['ema_decay'] == 0.999
        assert list_stages(training)
    widths = {
        tuple(read_yaml(one.options)['datasets']['train']['degradation'].get('sigma_range', ()))
        for one in race.trainings
        if one.name not in {'dncnn', 'mzsr_large'}
    }
    assert widths == {(0.2, 4.0)}


def test_pixels_of_an_iteration_are_about_the_same_for_all_that_enlarge():
    pixels = {}
    for path in (OPTIONS / 'race').glob('*_x4.yml'):
        data = read_yaml(path)['datasets']['train']
        pixels[path.stem] = data['gt_size'] ** 2 * data['batch_size_per_gpu']
    del pixels['dncnn_x4'], pixels['mzsr_x4']  # at LR size; five inner steps in each iteration
    del pixels['dasr_64_x4'], pixels['dasr_target_64_x4']  # the same minutes for fewer iterations
    assert max(pixels.values()) <= 1.12 * min(pixels.values())


def test_seeds_are_trainings_of_one_group(tmp_path):
    file = OPTIONS / 'race' / 'dasr_x4.yml'
    path = write_race(
        tmp_path, f'name: own\nminutes: 1\ntrainings: {{a: {{options: {file}, seeds: [0, 7], set: [scale=4]}}}}\n'
    )
    race = read_race(path)
    assert [training.name for training in race.trainings] == ['a_seed_0', 'a_seed_7']
    assert {training.group for training in race.trainings} == {'a'}
    assert race.trainings[1].overrides == ('scale=4', 'manual_seed=7')
    assert [training.like for training in race.trainings] == [None, 'a_seed_0']


def test_what_is_like_another_takes_its_time(tmp_path):
    file = OPTIONS / 'race' / 'dasr_x4.yml'
    path = write_race(
        tmp_path,
        'name: own\nminutes: 1\ntrainings:\n'
        f'  a: {{options: {file}, seeds: [3, 4]}}\n'
        f'  b: {{options: {file}, like: a, share: 0.5, set: [scale=4]}}\n'
        f'  c: {{options: {file}, like: b, seeds: [0]}}\n',
    )
    race = read_race(path)
    assert [training.like for training in race.trainings] == [None, 'a_seed_3', 'a_seed_3', 'a_seed_3']

    def measure(tasks, settings, jobs):
        assert [task['name'] for task in tasks] == ['a_seed_3']
        return {'a_seed_3': {'stage_1': [1.0], 'stage_2': [2.0 + jobs]}}

    stages = measure_race(race, MeasureSettings((1, 2), rounds=1), measure)
    assert all(one == stages['a_seed_3'] for one in stages.values())
    iterations = make_plan(race, stages, 2, {}).iterations
    assert iterations['a_seed_3'] == iterations['a_seed_4'] == iterations['c_seed_0']
    for jobs in (1, 2):
        for stage, count in iterations['b'][jobs].items():
            assert count == pytest.approx(iterations['a_seed_3'][jobs][stage] / 2, abs=1)


def test_like_one_without_its_stages_is_refused(at_root):
    race = make_race(
        Training('a', OPTIONS / 'race' / 'edsr_x4.yml'), Training('b', OPTIONS / 'race' / 'dasr_x4.yml', like='a')
    )
    with pytest.raises(InputError, match=r'a has no train\.stage_1; measure what has one by itself'):
        measure_race(race, MeasureSettings(rounds=1), lambda *_: {'a': {'schedule': [1.0]}})


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{name: a, minutes: 0, trainings: {a: {options: FILE}}}', 'minutes'),
        ('{name: a, minutes: 1, trainings: {}}', 'trainings'),
        ('{name: a, minutes: 1, trainings: {a/b: {options: FILE}}}', "letters, digits and .*got 'a/b'"),
        ('{name: a, minutes: 1, trainings: {a: {options: FILE, seeds: []}}}', 'seeds'),
        ('{name: a, minutes: 1, trainings: {a: {options: FILE, share: 2}}}', 'share'),
        ('{name: a, minutes: 1, trainings: {a: {options: FILE, shares: 1}}}', "unknown key 'shares'"),
        ('{name: a, minutes: 1, trainings: {a: {options: absent.yml}}}', "'absent.yml' does not exist"),
        ('{name: a, minutes: 1, trainings: {a: {options: FILE, after: b}, b: {options: FILE}}}', "is called 'b'"),
        ('{name: a, minutes: 1, trainings: {a: {options: FILE, like: b}, b: {options: FILE}}}', "is called 'b'"),
        ('{name: a, minutes: 1, trainings: {a: {options: FILE}}, tests: [absent.yml]}', "'absent.yml' does not exist"),
        (
            '{name: a, minutes: 1, trainings: {a: {options: FILE, seeds: [0]}, a_seed_0: {options: FILE}}}',
            "'a_seed_0' comes twice",
        ),
        (
            '{name: a, minutes: 1, trainings: {a: {options: FILE}}, probe: {trainings: [b], images: p, test: t}}',
            "is called 'b'",
        ),
    ],
)
def test_wrong_race_file_is_refused_in_one_line(tmp_path, text, message):
    path = write_race(tmp_path, text.replace('FILE', str(OPTIONS / 'race' / 'dasr_x4.yml')))
    with pytest.raises(InputError, match=message) as caught:
        read_race(path)
    assert '\n' not in str(caught.value)


def test_selection_takes_what_a_training_starts_from_along():
    race = make_race(Training('a', Path('a')), Training('b', Path('b'), after='a'), Training('c', Path('c')))
    assert [training.name for training in race.select(['b']).trainings] == ['a', 'b']
    with pytest.raises(InputError, match="no training is called 'd'"):
        race.select(['d'])


# --- iterations ---


def test_iterations_fill_the_minutes_and_keep_the_proportions_of_stages():
    stages = [StageTime('stage_1', 1000, {1: 0.1}), StageTime('stage_2', 3000, {1: 0.5})]
    counts = fit_iterations(stages, 16, 1)
    assert counts == {'stage_1': 600, 'stage_2': 1800}
    assert pytest.approx(16 * 60) == 0.1 * 600 + 0.5 * 1800


def test_a_stage_has_one_iteration_at_least_and_budgets_are_not_exceeded_otherwise():
    assert fit_iterations([StageTime('schedule', 10, {1: 100.0})], 0.1, 1) == {'schedule': 1}
    assert fit_iterations([StageTime('schedule', 10, {1: 0.7})], 1, 1) == {'schedule': 85}


def test_trainings_at_once_have_as_many_times_the_minutes():
    race = make_race(Training('a', Path('a')), Training('b', Path('b'), share=0.5), minutes=10)
    stages = {name: [StageTime('schedule', 10, {1: 1.0, 2: 1.5})] for name in 'ab'}
    plan = make_plan(race, stages, 2, {})
    assert plan.iterations['a'] == {1: {'schedule': 600}, 2: {'schedule': 800}}
    assert plan.iterations['b'] == {1: {'schedule': 300}, 2: {'schedule': 400}}
    assert plan.budget(race.trainings[1], 2) == 10


def test_plan_is_read_as_written_and_its_digest_tells_plans_apart(tmp_path):
    race = make_race(Training('a', Path('a')), minutes=10)
    stages = {'a': [StageTime('schedule', 10, {1: 1.0, 2: 1.5})]}
    plan = make_plan(race, stages, 2, {'load': 0.1})
    write_plan(tmp_path / 'plan.json', plan)
    again = read_plan(tmp_path / 'plan.json')
    assert again == plan
    assert again.digest == plan.digest
    text = (tmp_path / 'plan.json').read_text()
    (tmp_path / 'plan.json').write_text(text.replace('600', '601'))
    assert read_plan(tmp_path / 'plan.json').digest != plan.digest


@pytest.mark.parametrize('text', ['', '[]', '{"race": "own"}', '{"trainings": 3}'])
def test_what_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / 'plan.json').write_text(text)
    with pytest.raises(InputError, match=r'is no plan of a race'):
        read_plan(tmp_path / 'plan.json')
    with pytest.raises(InputError, match=r'does not exist; make it with tools/race.py plan'):
        read_plan(tmp_path / 'absent.json')


@pytest.mark.parametrize(
    ('file', 'names'),
    [
        ('race/dasr_x4', ['stage_1', 'stage_2']),
        ('race/ikc_x4', ['stage_1', 'stage_2', 'stage_3']),
        ('race/mzsr_x4', ['schedule']),
        ('ablation/model_1_x4', ['stage_2']),
    ],
)
def test_overrides_give_a_valid_file_of_any_length(file, names, tmp_path):
    path = OPTIONS / f'{file}.yml'
    training = stand_in_training('a', path, tmp_path)
    race = make_race(training)
    assert [stage.name for stage in list_stages(training)] == names
    for count in (1, 37, 5000):
        overrides = list_overrides(race, training, dict.fromkeys(names, count))
        options = load_training_options(path, overrides, root=tmp_path)
        train, total = options['train'], count * len(names)
        assert options['name'] == 'own_a'
        assert train['total_iter'] == total
        assert all(train[name]['warmup_iter'] <= count / 10 for name in names)
        assert train['ema_decay'] <= max(0, 1 - 5 / count) + 1e-6
        if 'meta_opt' in train:
            assert train['meta_opt']['anneal_iter'] == max(1, round(total / 30))
    assert train['ema_decay'] == 0.999 or count < 5000


def test_number_format_and_place_are_those_of_the_plan(tmp_path):
    path = OPTIONS / 'race' / 'rcan_x4.yml'
    training = stand_in_training('a', path, tmp_path)
    overrides = list_overrides(make_race(training), training, {'schedule': 9}, 'bf16')
    assert {'num_gpu=0', 'train.precision=bf16'} <= set(overrides)
    on_gpu = list_overrides(make_race(training), training, {'schedule': 9}, 'fp32', on_gpu=True)
    assert {'num_gpu=1', 'train.precision=tf32', 'train.schedule.total_iter=9'} <= set(on_gpu)
    fixed = stand_in_training('b', path, tmp_path)
    fixed = replace(fixed, overrides=(*fixed.overrides, 'train.precision=fp32'))
    assert 'train.precision=bf16' not in list_overrides(make_race(fixed), fixed, {'schedule': 9}, 'bf16')


@pytest.mark.parametrize(
    ('file', 'stage', 'given'), [('ablation/model_1_x4', 'stage_2', True), ('race/mzsr_x4', 'schedule', False)]
)
def test_a_file_without_a_precision_trains_in_that_of_the_plan_if_it_can(file, stage, given, tmp_path):
    training = stand_in_training('a', OPTIONS / f'{file}.yml', tmp_path)
    overrides = list_overrides(make_race(training), training, {stage: 9}, 'bf16')
    assert ('train.precision=bf16' in overrides) == given
    load_training_options(OPTIONS / f'{file}.yml', overrides, root=tmp_path)


def test_comments_do_not_change_the_digest_of_an_option_file(tmp_path):
    path = tmp_path / 'a.yml'
    digests = []
    for text in ('scale: 4', 'scale: 4  # factor', 'scale: 3'):
        path.write_text(text)
        digests.append(digest_options(Training('a', path)))
    assert digests[0] == digests[1] != digests[2]
    assert digest_options(Training('a', path, overrides=('scale=4',))) == digests[0]


def test_training_starts_from_the_weights_of_the_one_before(tmp_path):
    path = OPTIONS / 'train_dasr_s_x4.yml'
    first = stand_in_training('first', path, tmp_path)
    second = stand_in_training('second', path, tmp_path, after='first')
    race = make_race(first, second)
    overrides = list_overrides(race, second, {'stage_1': 1, 'stage_2': 1})
    assert 'path.pretrain_network_g=experiments/own_first/models/net_g_latest.pth' in overrides


def test_schedule_that_does_not_end_with_the_budget_is_refused(tmp_path):
    path = OPTIONS / 'train_srcnn_x4.yml'
    with pytest.raises(InputError, match=r'train\.schedule\.schedule: expected cosine'):
        list_stages(stand_in_training('a', path, tmp_path))


# --- measuring ---


def test_medians_are_taken_over_rounds_in_which_every_training_has_its_turn_first(tmp_path):
    path = OPTIONS / 'race' / 'dasr_x4.yml'
    trainings = [stand_in_training(name, path, tmp_path) for name in 'ab']
    firsts = []

    def measure(tasks, settings, jobs):
        firsts.append((jobs, tasks[0]['name']))
        times = [float(len(firsts))] * settings.steps
        return {task['name']: dict.fromkeys(task['stages'], times) for task in tasks}

    settings = MeasureSettings(jobs=(1, 2), rounds=3, steps=2, cores=(0, 1))
    stages = measure_race(make_race(*trainings), settings, measure)
    assert firsts == [(1, 'a'), (2, 'a'), (1, 'b'), (2, 'b'), (1, 'a'), (2, 'a')]
    assert [stage.seconds for stage in stages['b']] == [{1: 3.0, 2: 4.0}] * 2


def test_steps_of_every_stage_are_measured(tmp_path):
    path = OPTIONS / 'train_ikc_x4.yml'
    overrides = [*stand_in(path, tmp_path), 'network_g.num_feat=8', 'datasets.train.gt_size=32']
    seconds = measure_task({'options': str(path), 'overrides': overrides, 'stages': {'stage_1': 4, 'stage_3': 2}}, 2)
    assert {stage: len(times) for stage, times in seconds.items()} == {'stage_1': 2, 'stage_3': 2}
    assert all(time > 0 for times in seconds.values() for time in times)


def test_training_that_cannot_be_measured_is_named(tmp_path):
    task = {'name': 'broken', 'options': str(tmp_path / 'absent.yml'), 'overrides': [], 'stages': {'schedule': 1}}
    with pytest.raises(InputError, match=r'measuring failed: broken: .*absent\.yml: the option file does not exist'):
        run_workers([task], MeasureSettings(steps=1), 1)


def test_cores_are_shared_equally():
    assert share_cores([0, 1, 4, 5, 6], 2) == [[0, 1], [4, 5]]
    assert share_cores([3], 1) == [[3]]
    with pytest.raises(InputError, match='jobs must be from 1 to 2'):
        share_cores([0, 1], 3)
