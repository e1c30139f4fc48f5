"""Effect of the degradation representation on the output: `python tools/swap_representations.py MODEL ...`.

Each test image is super-resolved with its own representation, and with the mean representation of other images with a
known degradation. A network that does not lose PSNR with a wrong representation does not use it.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.benchmark.config import MetricPlan
from dasr_arch.benchmark.image_metrics import measure_image
from dasr_arch.checkpoints.io import load_network
from dasr_arch.data.image_source import ImageSource, open_source
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.degradations.whole_image import crop_to_multiple
from dasr_arch.inference.load_model import find_scale, locate_weights
from dasr_arch.probe.fit import encode_image
from dasr_cli.main import run_guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the arguments, prints a table in Markdown; 2 for bad input."""
    parser = argparse.ArgumentParser(
        description='PSNR of luma (dB) with the own representation of each image, and with the mean representation of '
        'other images for each kernel width.'
    )
    parser.add_argument('models', nargs='+', metavar='MODEL', help='general, iso, photo, or a weights file of a DASR')
    parser.add_argument('--scale', type=int, help='factor (4, or that of the named weights or file)')
    parser.add_argument('--test', required=True, metavar='DATA', help='folder or LMDB of HR images to super-resolve')
    parser.add_argument('--others', required=True, metavar='DATA', help='HR images for the mean representations')
    parser.add_argument('--limit', type=int, default=24, help='number of the others (24)')
    parser.add_argument(
        '--sigma',
        '--widths',
        dest='sigmas',
        type=float,
        nargs='+',
        default=[0, 1.2, 2.4, 3.6],
        help='kernel widths in HR pixels (0 1.2 2.4 3.6)',
    )
    parser.add_argument('--noise', type=float, default=0, help='standard deviation in grey levels (0)')
    args = parser.parse_args(argv)

    def work() -> int:
        if args.limit < 1:
            raise InputError(f'--limit must be at least 1, got {args.limit}')
        networks = [(model, load(model, args.scale)) for model in args.models]
        test, others = open_source(args.test), open_source(args.others)
        sys.stdout.write('| | sigma | own | ' + ' | '.join(f'{sigma:g}' for sigma in args.sigmas) + ' |\n')
        sys.stdout.write('| --- | ---: | ---: |' + ' ---: |' * len(args.sigmas) + '\n')
        for model, network in networks:
            means = [average(network, others, sigma, args.noise, args.limit) for sigma in args.sigmas]
            for sigma in args.sigmas:
                values = measure(network, test, sigma, args.noise, [None, *means])
                texts = ' | '.join(f'{value:.2f}' for value in values)
                sys.stdout.write(f'| {model} | {sigma:g} | {texts} |\n')
                sys.stdout.flush()
        return 0

    return run_guarded(work)


def load(model: str, scale: int | None) -> DASR:
    """The network, in evaluation mode.

    Raises:
        InputError: if there is no such model, or it has no representation of images.
    """
    factor = find_scale(model, scale)
    network = load_network(locate_weights(model, factor), factor).eval()
    if not network.blind:
        raise InputError(f'{model}: is non-blind and has no representation of images')
    return network


def average(network: DASR, source: ImageSource, sigma: float, noise: float, limit: int) -> Tensor:
    """Mean representation (1, D) of images at one kernel width."""
    representations = [encode_image(network, lq) for _, lq in degrade(network, source, sigma, noise, limit)]
    return torch.stack(representations).mean(0, keepdim=True)


def measure(
    network: DASR, source: ImageSource, sigma: float, noise: float, representations: Sequence[Tensor | None]
) -> list[float]:
    """Mean PSNR with each representation; None is the own one of each image."""
    metric = MetricPlan('PSNR', 'calculate_psnr', {'crop_border': network.scale, 'test_y_channel': True})
    sums, count = [0.0] * len(representations), 0
    for truth, lq in degrade(network, source, sigma, noise, len(source)):
        if min(truth.shape[:2]) < 2 * network.scale + 1:
            raise InputError(f'a test image of {truth.shape[1]} x {truth.shape[0]} pixels is too small to measure')
        x = torch.from_numpy(lq).permute(2, 0, 1).unsqueeze(0).float() / 255
        for number, representation in enumerate(representations):
            with torch.inference_mode():
                sr = network(x, representation=representation)[0]
            pixels = (sr.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            sums[number] += measure_image(metric, pixels, truth)
        count += 1
    return [value / count for value in sums]


def degrade(
    network: DASR, source: ImageSource, sigma: float, noise: float, limit: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """HR and LR images, degraded as in `dasr test`."""
    scale = network.scale
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': sigma, 'noise': noise}, scale)
    for index in range(min(limit, len(source))):
        name = Path(source.names[index]).stem
        truth = crop_to_multiple(source.read(index), scale, name)
        yield truth, degrade_image(degradation, truth, name=name)


if __name__ == '__main__':
    sys.exit(main())
