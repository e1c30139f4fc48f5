"""Test files: every mistake is one line that names it, before anything is computed or written."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from basicsr.utils.registry import ARCH_REGISTRY
from safetensors.torch import save_file

from dasr_arch._errors import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.checkpoints.packaged import read_manifest
from dasr_arch.config.yaml_reader import read_yaml
from dasr_arch.pipelines.testing import choose_device, run_test
from dasr_cli.main import main
from tests.benchmark.making import make_options, save_weights, small_dasr, write_images

OPTION_FILES = sorted((Path(__file__).parents[2] / 'options').glob('test_dasr*.yml'))


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A test that runs: Bicubic and a small DASR on two images, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    save_weights(DASR(**small_dasr()), Path('net.pth'))
    made = make_options(write_images(Path('own')))
    made['networks']['Ours'] = {'type': 'DASR', 'path': 'net.pth'}
    return made


def change(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    """A change that sets (or with None removes) a dotted key."""

    def apply(options: dict[str, Any]) -> None:
        *parents, last = key.split('.')
        for parent in parents:
            options = options[parent]
        if value is None:
            del options[last]
        else:
            options[last] = value

    return apply


MISTAKES = [
    (change('nmae', 'x'), "unknown key 'nmae'; did you mean 'name'"),
    (change('name', None), "the key 'name' is missing"),
    (change('name', '../x'), 'name: expected a name of letters'),
    (change('scale', None), "the key 'scale' is missing"),
    (change('scale', '4'), "scale: expected a whole number of at least 1, got the text '4'"),
    (change('scale', 0), 'scale: expected a whole number of at least 1'),
    (change('seed', -1), 'seed: expected a whole number'),
    (change('num_gpu', 'all'), 'num_gpu: expected'),
    (change('num_gpu', 999), 'num_gpu: expected at most'),
    (change('missing', 'ignore'), "missing: expected one of 'skip', 'error'"),
    (change('save_img', 'yes'), 'save_img: expected true or false'),
    (change('datasets', {}), 'datasets: expected'),
    (change('datasets.Own.dataroot', 'x'), "datasets.Own: unknown key 'dataroot'; did you mean 'dataroot_gt'"),
    (change('datasets.Own.dataroot_gt', 'nowhere'), r'datasets: none of Own \(nowhere\) exists here'),
    (change('networks.Ours.datasets', []), 'networks.Ours: datasets: expected a list'),
    (change('datasets.Empty', {'dataroot_gt': 'empty'}), 'empty: holds no images'),
    (change('datasets.Odd', {'dataroot_gt': 'odd'}), 'odd.p0.png'),
    (
        change('datasets.Tiny', {'dataroot_gt': 'tiny'}),
        'tiny: no image of Tiny is large enough; sides need at least 19',
    ),
    (change('datasets.own', {'dataroot_gt': 'own'}), "datasets: 'Own' and 'own' would be written to one folder"),
    (change('degradations', []), 'degradations: expected'),
    (change('networks', {'Ours': None}), 'networks: expected at least one entry'),
    (change('degradations', [{'type': 'Isotropic', 'sigma': 0}]), 'degradations, entry 1: .*IsotropicGaussian'),
    (change('degradations', [{'type': 'IsotropicGaussian', 'sigma': float('nan')}]), 'expected a finite number'),
    (change('networks.Ours.type', 'DASRR'), "networks.Ours: no arch is called 'DASRR'; did you mean 'DASR'"),
    (change('networks.Ours.type', None), 'networks.Ours: expected the name of a registered arch'),
    (
        change('networks.Ours.num_blcoks', 3),
        "networks.Ours: DASR takes no argument 'num_blcoks'; did you mean 'num_blocks'",
    ),
    (change('networks.Ours.scale', 2), 'networks.Ours: scale is 2, but the test has scale 4'),
    (change('networks.Ours.path', 'none.pth'), r'networks.Ours: .*none\.pth.* does not exist'),
    (change('networks.Ours.path', 5), 'networks.Ours: path: expected text .*, got 5'),
    (change('networks.Ours.path', None), "networks.Ours: DASR has learnable weights; give 'path'"),
    (change('networks.Ours.path', 'x2.pth'), 'networks.Ours: .*is for x2, not for x4'),
    (change('networks.Ours.path', 'cut.pth'), r'networks.Ours: .*cut\.pth.* damaged or truncated'),
    (change('networks.Ours.kernel', 'lies'), "networks.Ours: kernel: expected one of 'true', 'predicted', 'none'"),
    (change('networks.Ours.kernel', 'predicted'), 'networks.Ours: DASR takes no kernel; remove `kernel'),
    (change('networks.Ours.adapt', {'steps': 1}), 'networks.Ours: DASR has no test-time training'),
    (change('networks.Ours.tile', 4), 'networks.Ours: tile: expected a whole number of at least 16'),
    (change('networks.Ours.datasets', ['Onw']), r"networks.Ours.datasets: .*'Onw'; did you mean 'Own'"),
    (change('networks.Ours.denoiser', {'path': 'none.pth'}), r'networks.Ours: .*none\.pth.* does not exist'),
    (change('networks.Ours.denoiser', {}), "networks.Ours.denoiser: the key 'path' is missing"),
    (change('networks.Ours.denoiser', {'path': 'a.pth', 'nmu': 1}), "networks.Ours.denoiser: DnCNN takes no .*'nmu'"),
    (change('networks.Ours.type', 'Predictor'), r"networks.Ours: weights file 'net\.pth' does not fit this Predictor"),
    (change('averages', {'mean': ['sigma 9']}), "averages.mean: no degradation is called 'sigma 9'"),
    (change('averages', {'sigma 0': 'all'}), "averages: 'sigma 0' is a degradation already"),
    (change('averages', {'mean': []}), 'averages.mean: expected at least one degradation'),
    (change('published', ['dasr_table_2']), "published: no figures .*did you mean 'dasr_table2'"),
    (change('published', ['dasr_table2', 'dasr_table3', 'gaussian']), "published: .*'gaussian'"),
    (change('crops', {'size': 3}), 'crops.size: expected a whole number of at least 16'),
    (change('costs', {'sise': 3}), "costs: unknown key 'sise'; did you mean 'size'"),
    (change('networks.Ours.num_groups', 2), r"networks.Ours: .*'groups\.1\..* is missing"),
    (
        change('networks.bicubic', {'type': 'Bicubic'}),
        "networks: 'Bicubic' and 'bicubic' would be written to one folder",
    ),
    (change('metrics.psnr.type', 'calculate_pnsr'), "metrics.psnr: .*did you mean 'calculate_psnr'"),
    (change('metrics.psnr.crop_boarder', 4), "metrics.psnr: .*did you mean 'crop_border'"),
    (change('metrics.psnr.type', None), "metrics.psnr: expected 'type'"),
]


@pytest.mark.parametrize(('mistake', 'message'), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistake_is_one_line_and_nothing_is_written(
    options: dict[str, Any], mistake: Callable[[dict[str, Any]], None], message: str
) -> None:
    Path('empty').mkdir()
    Path('odd').mkdir()
    Path('odd/p0.png').write_bytes(b'not an image')
    write_images(Path('tiny'), height=19)
    save_weights(DASR(**small_dasr(scale=2)), Path('x2.pth'))
    Path('cut.pth').write_bytes(Path('net.pth').read_bytes()[:-2000])
    mistake(options)
    with pytest.raises(InputError, match=message) as caught:
        run_test(options, 'options/mine.yml')
    assert str(caught.value).startswith('options/mine.yml: ')
    assert '\n' not in str(caught.value)
    assert not Path('results').exists()


def test_checkpoint_with_code_is_refused_and_not_run(options: dict[str, Any]) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (Path('ran'),)

    torch.save({'params': Code()}, 'net.pth')
    with pytest.raises(InputError, match=r'networks.Ours: .*net\.pth.* was not run'):
        run_test(options)
    assert not Path('ran').exists()


def test_missing_data_set_is_skipped_and_reported(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    options['datasets']['Urban100'] = {'dataroot_gt': 'nowhere'}
    report = run_test(options)
    assert report.failures == 0
    assert "skipped: Urban100: 'nowhere' does not exist" in report.console
    assert 'skipped: Urban100' in caplog.text
    assert {row['dataset'] for row in read_results(report.folder / 'table.json')['rows']} == {'Own'}


@pytest.mark.parametrize('where', ['missing', 'datasets.Urban100.missing'])
def test_missing_data_set_is_fatal_if_the_file_says_so(options: dict[str, Any], where: str) -> None:
    options['datasets']['Urban100'] = {'dataroot_gt': 'nowhere'}
    change(where, 'error')(options)
    with pytest.raises(InputError, match=r"datasets\.Urban100\.dataroot_gt: 'nowhere' does not exist"):
        run_test(options)


def test_options_are_left_as_they_were(options: dict[str, Any]) -> None:
    before = copy.deepcopy(options)
    run_test(options)
    assert options == before


def test_network_set_to_nothing_is_left_out(options: dict[str, Any]) -> None:
    options['networks']['Ours'] = None
    record = read_results(run_test(options).folder / 'table.json')
    assert {row['network'] for row in record['rows']} == {'Bicubic'}


def test_table_records_date_versions_hardware_and_options(options: dict[str, Any]) -> None:
    record = read_results(run_test(options).folder / 'table.json')
    assert record['options'] == options
    assert record['date'].startswith('20')
    assert record['environment']['torch'] == torch.__version__.split('+')[0]
    assert record['environment']['device']
    assert {row['environment']['device'] for row in record['rows']} == {record['environment']['device']}


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')
def test_cpu_is_taken_where_there_is_no_gpu() -> None:
    assert choose_device('auto', '') == torch.device('cpu')
    assert choose_device(0, '') == torch.device('cpu')
    with pytest.raises(InputError, match=r'num_gpu: expected at most 0 \(GPUs here\), got 1; 0 runs on the CPU'):
        choose_device(1, 'x')


def test_further_gpus_are_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert choose_device(2, '') == torch.device('cuda')
    assert 'num_gpu is 2; a test uses one GPU' in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gpu_gives_the_numbers_of_the_cpu(options: dict[str, Any]) -> None:
    rows = {}
    for name, num_gpu in (('cpu', 0), ('gpu', 1)):
        report = run_test({**options, 'name': name, 'num_gpu': num_gpu})
        rows[name] = read_results(report.folder / 'table.json')['rows']
    for cpu, gpu in zip(rows['cpu'], rows['gpu'], strict=True):
        assert gpu['means']['psnr'] == pytest.approx(cpu['means']['psnr'], abs=0.01)


def test_command_prints_the_table_and_where_the_files_are(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path('trial.yml').write_text(yaml.safe_dump(options))
    assert main(['test', '-opt', 'trial.yml', '--set', 'degradations.0.sigma=1.2']) == 0
    out = capsys.readouterr().out
    assert 'Own x4, 2 images, psnr/ssim' in out
    assert 'sigma 0 ' not in out
    assert out.splitlines()[-1].endswith('results/trial')


def test_command_exits_with_1_after_a_failure(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    broken = DASR(**small_dasr())
    for parameter in broken.upsampler.parameters():
        torch.nn.init.constant_(parameter, 1e30)  # overflows; weights that are not finite are refused before
    save_weights(broken, Path('net.pth'))
    Path('trial.yml').write_text(yaml.safe_dump(options))
    assert main(['test', '-opt', 'trial.yml']) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith('2 evaluations failed')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['-opt', 'none.yml'], 'none.yml: the option file does not exist'),
        (['-opt', 'trial.yml', '--set', 'sede=1'], "trial.yml: unknown key 'sede'; did you mean 'seed'"),
        (['-opt', 'trial.yml', '--set', 'name=taken'], 'taken: '),
    ],
)
def test_command_exits_with_2_and_one_line(
    options: dict[str, Any], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path('trial.yml').write_text(yaml.safe_dump(options))
    Path('results').mkdir()
    Path('results/taken').write_text('a file where the folder should be')
    assert main(['test', *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('dasr: error: ')]
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize('path', OPTION_FILES, ids=lambda path: path.stem)
def test_shipped_test_file_runs_on_small_images(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = read_yaml(path)
    assert options['name'] == path.stem
    for entry in options['datasets'].values():
        write_images(Path(entry['dataroot_gt']), count=1, height=24, width=24)
    checkpoint = Path(options['networks']['DASR']['path'])
    checkpoint.parent.mkdir(parents=True)
    save_weights(DASR(**small_dasr(scale=options['scale'])), checkpoint)
    report = run_test(options, str(path))
    assert report.failures == 0
    record = read_results(report.folder / 'table.json')
    settings = 27 if path.stem.endswith('aniso') else 4
    assert len(record['rows']) == 2 * settings * len(options['datasets'])
    assert {metric['crop_border'] for metric in record['metrics'].values()} == {options['scale']}


def test_there_is_a_test_file_for_every_table() -> None:
    assert [path.stem for path in OPTION_FILES] == ['test_dasr', 'test_dasr_x2', 'test_dasr_x3', 'test_dasr_x4_aniso']


COMPARE_FILES = sorted((Path(__file__).parents[2] / 'options/compare').glob('*_x?.yml'))
OWN_FILES = [path for path in COMPARE_FILES if path.stem in {'race_x4', 'ablation_x4', 'beyond_x4'}]  # docs/race.md
PACKAGED_FILES = [path for path in COMPARE_FILES if path.stem.startswith('packaged_')]
PAPER_FILES = [path for path in COMPARE_FILES if path not in OWN_FILES + PACKAGED_FILES]
SMALL: dict[str, dict[str, Any]] = {
    'SRCNN': {'num_feat': 8, 'num_map': 4},
    'EDSR': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1},
    'RCAN': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_group': 1, 'num_block': 1},
    'SAN': {'num_feat': 16, 'num_groups': 1, 'num_blocks': 1},
    'ZSSR': {'num_feat': 8, 'num_layers': 3},
    'MZSR': {'num_feat': 8, 'num_layers': 3},
    'SRMD': {'num_feat': 8, 'num_layers': 3},
    'SRMDNF': {'num_feat': 8, 'num_layers': 3},
    'UDVD': {'num_feat': 8, 'num_blocks': 1},
    'IKC': {'num_feat': 8, 'num_blocks': 1},
    'DnCNN': {'num_feat': 8, 'num_layers': 3},
    'DASR': {key: value for key, value in small_dasr().items() if key != 'scale'},
}
OWN = {'type', 'path', 'kernel', 'noise_level', 'predictor', 'denoiser', 'adapt', 'datasets'}


def make_smaller(block: dict[str, Any], kind: str, scale: int) -> dict[str, Any]:
    """A block of a comparison with a network of few parameters, whose weights are written where the block says."""
    if kind not in SMALL:
        return block
    arguments = SMALL[kind]
    if 'path' in block:
        factor = {} if kind == 'DnCNN' else {'upscale' if kind in {'EDSR', 'RCAN'} else 'scale': scale}
        path = Path(block['path'])
        path.parent.mkdir(parents=True, exist_ok=True)
        network = ARCH_REGISTRY.get(kind)(**arguments, **factor)
        if path.suffix == '.safetensors':
            save_file(network.state_dict(), path)
        else:
            save_weights(network, path)
    return {**{key: value for key, value in block.items() if key in OWN}, **arguments}


def make_comparison_smaller(options: dict[str, Any]) -> None:
    """Makes every network of a comparison small and writes images where its first data set is."""
    scale = options['scale']
    for label, block in options['networks'].items():
        small = make_smaller(block, block['type'], scale)
        for key, kind in (('denoiser', 'DnCNN'), ('predictor', 'IKC')):
            if key in block:
                small[key] = make_smaller(block[key], kind, scale)
        if block['type'] in {'ZSSR', 'MZSR'}:
            small['adapt'] = {'steps': 1} if block['type'] == 'MZSR' else {'max_steps': 1, 'crop_size': 12}
        options['networks'][label] = small
    folder = write_images(Path(next(iter(options['datasets'].values()))['dataroot_gt']), 1, 12 * scale, 12 * scale)
    (folder / 'p0.png').rename(folder / 'butterfly.png')


@pytest.mark.parametrize(
    'path',
    [pytest.param(path, marks=[] if path.stem.endswith('x4') else [pytest.mark.slow]) for path in PAPER_FILES],
    ids=lambda path: path.stem,
)
def test_shipped_comparison_runs_with_small_networks(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = read_yaml(path)
    assert options['name'] == path.stem
    assert options.pop('costs') == {'size': 180, 'repeats': 3}  # tests/benchmark/test_complexity.py measures them
    torch.manual_seed(0)
    make_comparison_smaller(options)
    if 'Set14' in options['datasets'] and len(options['datasets']) == 1:
        options['crops']['images'] = {'Set14': ['butterfly']}
    report = run_test(options, str(path))
    assert report.failures == 0
    record = read_results(report.folder / 'table.json')
    systems = {row['network'] for row in record['rows']}
    assert systems == set(options['networks'])
    assert {metric['crop_border'] for metric in record['metrics'].values()} == {options['scale']}
    bounds = {label for label, system in record['systems'].items() if system['upper_bound']}
    assert bounds == {'Wiener', 'UDVD', 'SRMD' if path.stem == 'table3_x4' else 'SRMDNF'}
    published = record['published']['rows']
    assert {entry['column'] for entry in published if entry['metric'] == 'psnr'} == (
        {'mean'} if path.stem.startswith('gaussian8') else {row['degradation'] for row in record['rows']}
    )
    assert len(record['crops']) == 1
    page = (report.folder / 'comparison.html').read_text(encoding='utf-8')
    assert page.count('<figure class="truth">') == len({row['degradation'] for row in record['rows']})


def test_there_is_a_comparison_for_every_table_of_the_paper() -> None:
    expected = {'table2_x2', 'table2_x3', 'table2_x4', 'table3_x4', 'gaussian8_x2', 'gaussian8_x3', 'gaussian8_x4'}
    assert {path.stem for path in PAPER_FILES} == expected


@pytest.mark.parametrize('path', PACKAGED_FILES, ids=lambda path: path.stem)
def test_comparison_of_packaged_weights_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = read_yaml(path)
    assert options['name'] == path.stem
    scale = options['scale']
    installed = {entry.setting for entry in read_manifest().files if entry.scale == scale}
    networks = set(options['networks'])
    assert networks == {'Bicubic', *(f'DASR-S {setting}' for setting in installed)}
    for network in options['networks'].values():
        assert 'path' not in network or (path.parents[2] / network['path']).is_file()
    monkeypatch.chdir(tmp_path)
    options.pop('costs')
    torch.manual_seed(0)
    make_comparison_smaller(options)
    report = run_test({**options, 'crops': None}, str(path))
    assert report.failures == 0
    record = read_results(report.folder / 'table.json')
    assert {row['network'] for row in record['rows']} == networks


def test_comparison_of_a_race_runs_with_small_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [path.stem for path in OWN_FILES] == ['ablation_x4', 'beyond_x4', 'race_x4']
    for path in OWN_FILES:
        options: dict[str, Any] = read_yaml(path)
        assert options['name'] == path.stem
        options.pop('costs', None)
        torch.manual_seed(0)
        make_comparison_smaller(options)
        if path.stem == 'beyond_x4':  # trainings of one network
            options['networks'] = dict(list(options['networks'].items())[:2])
        report = run_test({**options, 'datasets': {'Set5': options['datasets']['Set5']}}, str(path))
        assert report.failures == 0
        record = read_results(report.folder / 'table.json')
        assert {row['network'] for row in record['rows']} == set(options['networks'])
    assert {row['degradation'] for row in record['rows']} == {
        label for sigma in (0, 1.2, 2.4, 3.6) for label in (f'sigma {sigma}', f'sigma {sigma}, noise 10')
    }
    bounds = {label for label, system in record['systems'].items() if system['upper_bound']}
    assert bounds == {'MZSR', 'Wiener', 'SRMDNF', 'SRMD', 'UDVD'}


def test_method_without_weights_is_skipped_where_the_file_says_so(options: dict[str, Any]) -> None:
    options['networks']['Absent'] = {'type': 'SRCNN', 'path': 'absent.pth'}
    with pytest.raises(InputError, match=r'networks\.Absent: .*absent\.pth'):
        run_test(options)
    report = run_test({**options, 'missing_weights': 'skip'})
    assert report.failures == 0
    assert "skipped: Absent: 'absent.pth' does not exist; train it, or give its path" in report.console
    options['networks']['Absent']['missing'] = 'skip'
    assert run_test(options).failures == 0
    alone = {**options, 'networks': {'Absent': options['networks']['Absent']}}
    with pytest.raises(InputError, match='networks: no weights of Absent exist here'):
        run_test(alone)


def test_method_can_be_limited_to_some_data_sets(options: dict[str, Any]) -> None:
    options['datasets']['Other'] = {'dataroot_gt': str(write_images(Path('other')))}
    options['networks']['Ours']['datasets'] = ['Other']
    report = run_test(options)
    record = read_results(report.folder / 'table.json')
    assert {(row['network'], row['dataset']) for row in record['rows']} == {
        ('Bicubic', 'Own'),
        ('Bicubic', 'Other'),
        ('Ours', 'Other'),
    }
    assert 'Ours' not in report.console.split('Other')[0]


def test_yaml_true_is_taken_for_the_word(options: dict[str, Any]) -> None:
    options['networks']['Ours']['kernel'] = True
    assert run_test(options).failures == 0


def test_costs_stand_in_the_record_or_why_they_were_not_measured(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(module: str, request: str) -> dict[str, float]:
        if '"Bicubic"' not in request:
            raise RuntimeError('Killed')
        return {'multiply_adds': 0, 'milliseconds': 1.5, 'peak_mib': 300.0, 'base_mib': 200.0}

    monkeypatch.setattr('dasr_arch.benchmark.complexity.run_in_own_process', measure)
    report = run_test({**options, 'costs': {'size': 16, 'repeats': 1}})
    systems = read_results(report.folder / 'table.json')['systems']
    assert {label: system['costs']['milliseconds'] for label, system in systems.items()} == {
        'Bicubic': 1.5,
        'Ours': None,
    }
    assert systems['Ours']['costs']['parameters'] == sum(p.numel() for p in DASR(**small_dasr()).parameters())
    assert len(list((report.folder / 'costs').iterdir())) == 1
    assert 'costs of Ours were not measured: Killed' in report.console
    assert 'costs of Bicubic' not in report.console
