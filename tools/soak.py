"""Long tests of reliability: `python tools/soak.py kills|damage|server|load|all`, or `make soak` (hours; not in CI).

kills: a training that is killed with SIGKILL at random moments ends, bit for bit, as an undisturbed one.
damage: damaged images, option files, weights files and LMDBs end with exit code 0 or 2, and nothing half written.
server: a server under mixed requests, of which a third are wrong or cancelled, keeps its memory.
load: a server whose queue is full refuses clearly, answers each client with its own image, and tells its health soon.

Each part prints a line of a table in Markdown; docs/results/reliability.md holds such a table.
"""

import argparse
import ast
import contextlib
import io
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import requests
import tifffile
import torch
import yaml
from PIL import Image

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.config.train_checks import load_training_options
from dasr_arch.data.image_source import open_source
from dasr_arch.data.sample_images import find_sample_images
from dasr_arch.pipelines.training_log import read_history
from dasr_cli.main import main as dasr
from dasr_cli.main import run_guarded

PROJECT = Path(__file__).resolve().parents[1]
TINY = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 16, 'encoder_feat': 4}
IMAGE_FORMATS = ('png', 'jpg', 'webp', 'tif', 'gif', 'bmp')
STARTUP = 60  # seconds that a training or server may take until it works
MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one part or all; returns 0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('part', choices=('kills', 'damage', 'server', 'load', 'all'))
    parser.add_argument('--kills', type=int, default=200, help='kills of trainings (200)')
    parser.add_argument('--files', type=int, default=2000, help='damaged files (2000)')
    parser.add_argument('--hours', type=float, default=2.0, help='hours of requests (2)')
    parser.add_argument('--minutes', type=float, default=2.0, help='minutes of load (2)')
    parser.add_argument('--clients', type=int, default=20, help='clients at once under load (20)')
    parser.add_argument('--seed', type=int, default=0, help='of all random choices (0)')
    args = parser.parse_args(argv)
    parts: dict[str, Callable[[Path, random.Random], tuple[bool, str]]] = {
        'kills': lambda folder, choose: soak_kills(folder, choose, args.kills),
        'damage': lambda folder, choose: soak_damage(folder, choose, args.files),
        'server': lambda folder, choose: soak_server(folder, choose, args.hours),
        'load': lambda folder, choose: soak_load(args.clients, 60 * args.minutes),
    }
    held = True
    for name in parts if args.part == 'all' else (args.part,):
        with tempfile.TemporaryDirectory(prefix='dasr-soak-') as folder:
            passed, text = parts[name](Path(folder), random.Random(args.seed))
        held &= passed
        print(f'| {name} | {"held" if passed else "FAILED"} | {text} |', flush=True)
    return 0 if held else 1


# --- trainings that are killed ---


def soak_kills(folder: Path, choose: random.Random, kills: int) -> tuple[bool, str]:
    """Kills trainings of a tiny DASR until there were that many kills; compares every finished one with the first."""
    undisturbed = _read_result(_finish_training(folder / 'undisturbed'))
    done = runs = different = 0
    while done < kills:
        here = folder / f'run_{runs}'
        while done < kills:
            process = _start_training(here)
            _wait_for_iteration(here, process)
            time.sleep(choose.uniform(0, 1.5))
            if process.poll() is not None:
                break
            process.kill()
            process.communicate()
            done += 1
        different += _read_result(_finish_training(here)) != undisturbed
        runs += 1
        shutil.rmtree(here)
    return different == 0, f'{done} kills in {runs} trainings; {different} ended differently'


def _training_options() -> dict[str, Any]:
    stages = {f'stage_{stage}': {'total_iter': 300, 'lr': 1e-3} for stage in (1, 2)}
    return {
        'name': 'soak',
        'model_type': 'DASRModel',
        'scale': 4,
        'num_gpu': 0,
        'manual_seed': 0,
        'datasets': {
            'train': {
                'name': 'demo',
                'type': 'DegradationDataset',
                'dataroot_gt': str(PROJECT / 'datasets' / 'demo'),
                'gt_size': 64,
                'degradation': {'type': 'IsotropicGaussian', 'sigma_range': [0.2, 4.0], 'noise_range': [0, 25]},
                'batch_size_per_gpu': 2,
            }
        },
        'network_g': {'type': 'DASR', 'scale': 4, **TINY},
        'train': {
            'total_iter': 600,
            **stages,
            'precision': 'fp32',
            'ema_decay': 0.99,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 255.0},
            'contrast_opt': {'queue_length': 64},
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 5, 'keep_checkpoints': 2},
    }


def _start_training(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    options = folder / 'soak.yml'
    options.write_text(yaml.safe_dump(_training_options(), sort_keys=False), encoding='utf-8')
    command = [sys.executable, str(PROJECT / 'train.py'), '-opt', str(options), '--auto_resume']
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _finish_training(folder: Path) -> Path:
    process = _start_training(folder)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f'a training ended with code {process.returncode}:\n{output[-3000:]}')
    return folder


def _wait_for_iteration(folder: Path, process: subprocess.Popen[str]) -> None:
    """Returns when the training has written a line of its history, or has ended."""
    history = folder / 'experiments' / 'soak' / 'history.jsonl'
    before = history.stat().st_mtime_ns if history.exists() else 0
    deadline = time.monotonic() + STARTUP
    while process.poll() is None and time.monotonic() < deadline:
        if history.exists() and history.stat().st_mtime_ns != before:
            return
        time.sleep(0.01)


def _read_result(folder: Path) -> tuple[Any, ...]:
    """Losses and final state of a training, without times."""
    experiment = folder / 'experiments' / 'soak'
    losses = [
        {key: value for key, value in line.items() if 'time' not in key}
        for line in read_history(experiment / 'history.jsonl')
    ]
    state = torch.load(experiment / 'training_states' / '600.state', weights_only=True)
    networks = state['networks'].values()
    return losses, [tensor.numpy().tobytes() for network in networks for tensor in network.values()]


# --- damaged files ---


def soak_damage(folder: Path, choose: random.Random, count: int) -> tuple[bool, str]:
    """Gives damaged files to the commands, in a process for every fifty files, which a crash would end."""
    cases = _make_cases(folder)
    faults: list[str] = []
    codes: Counter[int] = Counter()
    for first in range(0, count, 50):
        names = [choose.choice(sorted(cases)) for _ in range(min(50, count - first))]
        script = [(name, choose.randrange(1 << 31)) for name in names]
        command = [sys.executable, __file__, 'damaged', str(folder), repr(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            if line.startswith('code '):
                codes[int(line.split()[1])] += 1
            elif line.startswith('fault '):
                faults.append(line)
        if done.returncode:
            faults.append(f'fault: a process ended with {done.returncode}: {done.stderr[-500:]}')
    for fault in faults:
        print(fault, file=sys.stderr)
    outcomes = ', '.join(f'{number} with exit code {code}' for code, number in sorted(codes.items()))
    return not faults, f'{sum(codes.values())} damaged files: {outcomes}; {len(faults)} faults'


def _make_cases(folder: Path) -> dict[str, Path]:
    """Whole files of every kind, by name."""
    image = Image.open(find_sample_images('test')[1]).convert('RGB').resize((48, 40))
    for suffix in IMAGE_FORMATS:
        image.save(folder / f'image.{suffix}')
    frames = [image.rotate(angle) for angle in (0, 90)]
    frames[0].save(folder / 'animated.png', save_all=True, append_images=frames[1:])
    deep = np.moveaxis(np.asarray(image).astype(np.uint16) * 257, 2, 0)
    tifffile.imwrite(folder / 'deep.tif', deep, photometric='rgb', planarconfig='separate', compression='lzw')
    torch.manual_seed(0)
    torch.save({'params': DASR(scale=2, **TINY).state_dict()}, folder / 'weights.pth')
    options = yaml.safe_dump(_training_options(), sort_keys=False)
    (folder / 'options.yml').write_text(options, encoding='utf-8')
    images = folder / 'images'
    images.mkdir()
    image.resize((160, 160)).save(images / 'a.png')
    _run_dasr('prepare', images, '--min-size', 64, '--whole', '-o', folder / 'set.lmdb')
    return {path.name: path for path in folder.iterdir() if path.name != 'images'}


def _run_dasr(*arguments: object) -> None:
    subprocess.run([sys.executable, '-m', 'dasr_cli', *map(str, arguments)], check=True, capture_output=True)


def try_damaged(folder: Path, script: list[tuple[str, int]]) -> None:
    """Damages files and gives them to the commands in this process; prints a code or a fault for each."""
    for name, seed in script:
        here = Path(tempfile.mkdtemp(dir=folder))
        damaged = here / name
        if (folder / name).is_dir():
            shutil.copytree(folder / name, damaged)
            _damage(damaged / 'data.mdb', seed)
        else:
            shutil.copy(folder / name, damaged)
            _damage(damaged, seed)
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                code = _use(damaged, folder, here)
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:  # noqa: BLE001 (each is a fault to be reported)
            print(f'fault {name} {seed}: {type(error).__name__}: {error}')
            continue
        finally:
            leftovers = [path.name for path in here.rglob('.*') if path.name != damaged.name]
        if code not in (0, 2):
            print(f'fault {name} {seed}: exit code {code}')
        elif leftovers:
            print(f'fault {name} {seed}: left {leftovers}')
        else:
            print(f'code {code}', flush=True)
        shutil.rmtree(here)


def _use(damaged: Path, folder: Path, here: Path) -> int:
    """Gives a damaged file to what reads it; returns the exit code."""
    if damaged.suffix == '.yml':
        return run_guarded(lambda: bool(load_training_options(damaged, root=here)) - 1)
    if damaged.suffix == '.lmdb':
        return run_guarded(lambda: _read_all(damaged))
    image, weights = (folder / 'image.png', damaged) if damaged.suffix == '.pth' else (damaged, folder / 'weights.pth')
    words = ['upscale', image, '-o', here / f'out{image.suffix}', '--model', weights]
    return dasr([str(word) for word in words])


def _read_all(root: Path) -> int:
    source = open_source(root)
    for index in range(len(source)):
        source.read(index)
    return 0


def _damage(path: Path, seed: int) -> None:
    """Flips bytes, cuts, repeats or zeroes a part of a file."""
    choose = random.Random(seed)
    data = bytearray(path.read_bytes())
    kind = choose.choice(('flip', 'flip', 'cut', 'repeat', 'zero'))
    start = choose.randrange(len(data))
    length = choose.randrange(1, 200)
    if kind == 'flip':
        for _ in range(choose.randrange(1, 9)):
            data[choose.randrange(len(data))] = choose.randrange(256)
    elif kind == 'cut':
        del data[start:]
    elif kind == 'repeat':
        data[start:start] = data[start : start + length]
    else:
        data[start : start + length] = bytes(len(data[start : start + length]))
    path.write_bytes(data)


# --- a server ---


def soak_server(folder: Path, choose: random.Random, hours: float) -> tuple[bool, str]:
    """Sends requests of three clients for hours; the last quarter takes at most 5 % more memory than the second."""
    cases = [path.read_bytes() for path in sorted(_make_cases(folder).values()) if path.is_file()]
    counts: Counter[str] = Counter()
    memory: list[float] = []
    end = time.monotonic() + 3600 * hours
    with _serving('--model', str(folder / 'weights.pth'), '--keep', '1') as (address, process):

        def work(seed: int) -> None:
            own = random.Random(seed)
            while time.monotonic() < end:
                try:
                    counts[str(_request(address, own, cases))] += 1
                except requests.RequestException as error:
                    counts[type(error).__name__] += 1

        clients = [threading.Thread(target=work, args=(choose.randrange(1 << 31),)) for _ in range(3)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            memory.append(_resident_mib(process.pid))
            time.sleep(5)
    quarter = max(1, len(memory) // 4)
    before, after = float(np.mean(memory[quarter : 2 * quarter])), float(np.mean(memory[-quarter:]))
    served = ', '.join(f'{number} x {code}' for code, number in sorted(counts.items()))
    bugs = sum(number for code, number in counts.items() if code.startswith('5') and code != '503')
    text = f'{hours:g} h, answers {served}; {before:.0f} MiB in the second quarter, {after:.0f} MiB in the last'
    return bugs == 0 and after < 1.05 * before, text


@contextlib.contextmanager
def _serving(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, '-m', 'dasr_cli', 'serve', '--port', '0', *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        found = next(match for line in process.stdout if (match := re.search(r'http://[\d.]+:\d+', line)))
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield found[0], process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STARTUP)


def _request(address: str, choose: random.Random, cases: list[bytes]) -> int:
    """One of: an upscaling, one of a damaged file, a wrong parameter, a cancelled job, an experiment, a page."""
    data = choose.choice(cases)
    api = f'{address}/api/v1'
    kind = choose.choice(('whole', 'whole', 'damaged', 'wrong', 'cancelled', 'experiment', 'pages'))
    options = {'model': 'weights', 'scale': '2'}
    if kind == 'damaged':
        changed = bytearray(data)
        changed[choose.randrange(len(changed))] = choose.randrange(256)
        data = bytes(changed[: choose.randrange(1, len(changed) + 1)])
    if kind == 'wrong':
        options['format'] = 'docx'
    if kind == 'pages':
        return requests.get(
            f'{address}/{choose.choice(("", "playground", "docs", "openapi.json", "no"))}', timeout=60
        ).status_code
    if kind in ('cancelled', 'experiment'):
        path = 'jobs' if kind == 'cancelled' else 'playground'
        form = {'sample': 'chelsea', **options} if kind == 'experiment' else options
        files = {'image': data} if kind == 'cancelled' else {'unused': b''}
        answer = requests.post(f'{api}/{path}', data=form, files=files, timeout=60)
        if answer.status_code == 202:
            time.sleep(choose.uniform(0, 0.5))
            return requests.delete(f'{api}/jobs/{answer.json()["id"]}', timeout=60).status_code
        return answer.status_code
    return requests.post(f'{api}/upscale', data=options, files={'image': data}, timeout=60).status_code


# --- a server under load ---


def soak_load(clients: int, seconds: float) -> tuple[bool, str]:
    """Clients that all want an image upscaled at once, again and again; each has a colour and a size of its own.

    A full queue must answer 503 with Retry-After, each result be that of its client's image, no accepted job be lost,
    95 % of the answers about the health come within 100 ms, and the last quarter take at most 5 % more memory than the
    second.
    """
    counts: Counter[str] = Counter()
    health: list[float] = []
    memory: list[float] = []
    end = time.monotonic() + seconds
    with _serving() as (address, process):

        def work(number: int) -> None:
            while time.monotonic() < end:
                try:
                    found = _upscale_own(f'{address}/api/v1', number, whole=bool(counts.total() % 2))
                except requests.RequestException as error:
                    found = type(error).__name__
                counts[found] += 1
                if found == 'refused':
                    time.sleep(0.5)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        with requests.Session() as session:
            while any(thread.is_alive() for thread in threads):
                begun = time.monotonic()
                counts['unhealthy'] += session.get(f'{address}/healthz', timeout=60).status_code != 200
                health.append(time.monotonic() - begun)
                memory.append(_resident_mib(process.pid))
                time.sleep(0.02)
    quarter = max(1, len(memory) // 4)
    before, after = float(np.mean(memory[quarter : 2 * quarter])), float(np.mean(memory[-quarter:]))
    slowest = 1000 * float(np.percentile(health, 95))
    listed = ', '.join(f'{number} {name}' for name, number in sorted(counts.items()) if number)
    text = (
        f'{clients} clients, {seconds:.0f} s: {listed}; health of {len(health)} answers: 95 % within {slowest:.0f} ms; '
        f'{before:.0f} MiB in the second quarter, {after:.0f} MiB in the last'
    )
    wanted = {'own image', 'refused', 'unhealthy'}
    fine = not (counts.keys() - wanted) and counts['own image'] > 0 and counts['refused'] > 0
    return fine and not counts['unhealthy'] and slowest < 100 and after < 1.05 * before, text


def _upscale_own(api: str, number: int, whole: bool) -> str:
    """What came of the request of one client: 'own image', 'refused' with a time to wait, or what was wrong.

    Args:
        api: address.
        number: of the client, which decides colour and size of its image.
        whole: waits for the answer of one request; else starts a job and asks for it.
    """
    colour = tuple(int(level) for level in np.random.default_rng(number).integers(40, 216, 3))
    size = (64 + number, 48)
    Image.new('RGB', size, colour).save(buffer := io.BytesIO(), 'PNG')
    files = {'image': (f'client{number}.png', buffer.getvalue())}
    answer = requests.post(f'{api}/{"upscale" if whole else "jobs"}', files=files, timeout=300)
    if answer.status_code in (429, 503):
        return 'refused' if answer.headers.get('Retry-After', '').isdigit() else 'refused without Retry-After'
    if answer.status_code != (200 if whole else 202):
        return f'answer {answer.status_code}'
    if not whole:
        job = f'{api}/jobs/{answer.json()["id"]}'
        while (state := requests.get(job, timeout=60).json().get('state')) in ('queued', 'running'):
            time.sleep(0.1)
        if state != 'done':
            return f'job {state}'
        answer = requests.get(f'{job}/result', timeout=60)
        requests.delete(job, timeout=60)
    with Image.open(io.BytesIO(answer.content)) as image:
        middle = np.asarray(image)[32:-32, 32:-32].mean((0, 1))
        own = image.size == (4 * size[0], 4 * size[1]) and np.abs(middle - colour).max() < 4
    return 'own image' if own else "another client's image"


def _resident_mib(pid: int) -> float:
    status = Path(f'/proc/{pid}/status').read_text(encoding='ascii')
    found = re.search(r'VmRSS:\s+(\d+) kB', status)
    return int(found[1]) * 1024 / MIB if found else 0.0


if __name__ == '__main__':
    if sys.argv[1:2] == ['damaged']:
        try_damaged(Path(sys.argv[2]), ast.literal_eval(sys.argv[3]))
        sys.exit(0)
    sys.exit(main())
