"""`dasr bench`: measures time and memory of inference and training."""

import argparse
import json
from pathlib import Path
from typing import Any

QUICK = {'operations': ('inference', 'stage_1', 'stage_2'), 'scales': (4,), 'size': 48, 'patch': 24, 'batch': 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Measure time and peak memory of inference and of training steps of both stages, and the share of '
        'data loading and degradation. Prints a table and writes JSON.'
    )
    parser.add_argument('--quick', action='store_true', help='small images at x4, networks only; takes a minute')
    choices = {
        '--networks': 'Bicubic, DASR-S, DASR, RCAN (all but RCAN)',
        '--implementations': 'auto, reference, fast, ncnn, openvino, compiled '
        '(reference, fast; where installed ncnn, with AMX openvino)',
        '--precisions': 'fp32, bf16 (bf16 only with hardware support)',
        '--operations': 'inference, stage_1, stage_2, components (all)',
    }
    for option, text in choices.items():
        parser.add_argument(option, nargs='+', metavar='NAME', help=text)
    parser.add_argument('--scales', nargs='+', type=int, metavar='N', help='2, 3, 4 (all); training uses the largest')
    parser.add_argument('--size', type=int, metavar='N', help='side of the LR image, pixels (180)')
    parser.add_argument('--patch', type=int, metavar='N', help='side of the LR patches of training, pixels (48)')
    parser.add_argument('--batch', type=int, metavar='N', help='LR-HR pairs in a training step (8)')
    parser.add_argument('--repeats', type=int, metavar='N', help='interleaved repeats, at least 3 (3)')
    parser.add_argument('--baseline', metavar='NAME', help="row to compare the others with ('DASR reference fp32')")
    parser.add_argument('--device', metavar='NAME', help='cpu or cuda (cpu)')
    parser.add_argument(
        '--out', type=Path, default=Path('results/bench/bench.json'), help='JSON file (results/bench/bench.json)'
    )


def run(args: argparse.Namespace) -> int:
    """Measures, writes the JSON file and prints the table."""
    from dataclasses import fields

    from dasr_arch._files import check_replaceable, write_whole
    from dasr_arch.benchmark.timing.run import SpeedSettings, check_speed_file, format_speed, measure_speed

    check_replaceable(args.out)
    check_speed_file(args.out)

    chosen: dict[str, Any] = dict(QUICK) if args.quick else {}
    for item in fields(SpeedSettings):
        value = getattr(args, item.name)
        if value is not None:
            chosen[item.name] = tuple(value) if isinstance(value, list) else value
    record = measure_speed(SpeedSettings(**chosen))
    print(format_speed(record), end='')
    write_whole(args.out, json.dumps(record, indent=1) + '\n')
    print(f'numbers: {args.out}')
    return 0
