"""`dasr download`: downloads public data sets to the folders of the option files."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = (
        'Download public data sets and verify them. The same command continues an interrupted download. '
        'Sets: DIV2K, Flickr2K, Set5, Set14, B100, Urban100, Manga109 (needs --url), '
        'benchmark (Set5, Set14, B100 and Urban100).'
    )
    parser.add_argument('names', nargs='+', metavar='SET', help='name of a data set')
    parser.add_argument('--root', type=Path, default=Path('datasets'), help='data root (default: datasets)')
    parser.add_argument('--url', default='', help='download the archive from this address instead; it is not verified')
    parser.add_argument('--keep-archive', action='store_true', help='keep the archive in ROOT/.downloads')


def run(args: argparse.Namespace) -> int:
    """Downloads the data sets and prints their folders."""
    from dasr_arch._errors import InputError
    from dasr_arch.data.public.public_datasets import download_set, find_public_set

    public_sets = [find_public_set(name) for name in args.names]
    if args.url and len(public_sets) > 1:
        raise InputError(f'--url gives the archive of one data set, got {len(public_sets)} names; run it once for each')
    for public_set in public_sets:
        for folder, images in download_set(public_set, args.root, args.url, args.keep_archive).items():
            print(f'{folder}: {images} images')
    return 0
