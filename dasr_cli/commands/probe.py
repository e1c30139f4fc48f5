"""`dasr probe`: fits a linear probe on the representation and tests its accuracy on degradations."""

import argparse

from dasr_cli.arguments import add_force, add_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Degrade images with known parameters, fit a linear layer that classifies the degradation by the '
        'representation, test it on other images, and save it for `dasr inspect`.'
    )
    add_model(parser, positional=True)
    parser.add_argument(
        '--images', nargs='+', required=True, metavar='DATA', help='folders or LMDBs of HR images for training'
    )
    parser.add_argument('--test', required=True, metavar='DATA', help='folder or LMDB of other HR images for testing')
    parser.add_argument(
        '--setting',
        choices=('general', 'iso', 'photo'),
        help="classes of degradations (the model's; general for a file)",
    )
    parser.add_argument('--limit', type=int, metavar='N', help='use N of the training images')
    parser.add_argument(
        '-o', '--out', metavar='FILE', help='output file (MODEL.probe.safetensors next to a weights file)'
    )
    parser.add_argument('--report', metavar='FOLDER', help='folder for report.md, report.json and t-SNE maps')
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    """Fits, tests, writes and prints the accuracies."""
    import sys
    from pathlib import Path

    from dasr_arch._errors import InputError
    from dasr_arch._files import check_free
    from dasr_arch.checkpoints.io import load_network
    from dasr_arch.checkpoints.packaged import find_packaged
    from dasr_arch.inference.load_model import find_scale, locate_weights
    from dasr_arch.probe.command import ProbeSettings, run_probing, write_report
    from dasr_arch.probe.model import probe_path

    scale = find_scale(args.model, args.scale)
    weights = locate_weights(args.model, scale)
    is_file = Path(args.model) == weights
    setting = args.setting or ('general' if is_file else find_packaged(args.model, scale).setting)
    if args.out is None and not is_file:
        raise InputError('name the file to write with -o; the folder of the installed weights is left alone')
    out = probe_path(weights) if args.out is None else Path(args.out)
    if out.exists() and out.samefile(weights):
        raise InputError(f'{out}: is the weights file itself; choose another name for the probe')
    check_free(out, args.force)
    for name in ('report.md', 'report.json') if args.report is not None else ():
        check_free(Path(args.report, name), args.force)
    network = load_network(weights, scale).eval()
    settings = ProbeSettings(args.images, args.test, setting, args.limit, sys.stderr.isatty())
    report = run_probing(network, settings, out, with_maps=args.report is not None)
    if args.report is not None:
        about = {'weights': args.model, 'fitted to': ', '.join(map(str, args.images)), 'tested on': args.test}
        write_report(Path(args.report), report, about)
    for quantity, confusion in report.confusions.items():
        print(
            f'{quantity}: {100 * confusion.accuracy:.1f} % of {report.test_images} images classified correctly; '
            f'{len(confusion.labels)} classes, {100 / len(confusion.labels):.1f} % by chance'
        )
    print(f'{out}: for `dasr inspect`')
    return 0
