"""Old public names keep working and warn."""

import importlib
import sys
import warnings

import numpy as np
import pytest

import dasr_arch
from dasr_arch import _renamed, degradations
from dasr_arch.data import prepare
from dasr_arch.data.image_io import FailedImage
from dasr_arch.inference.images.image_modes import decompose
from tests.inference.making import make_network


@pytest.mark.parametrize(('module', 'old'), [(dasr_arch, 'degrade_picture'), (degradations, 'degrade_picture')])
def test_old_name_is_the_new_function(module, old):
    with pytest.warns(DeprecationWarning, match='is now degrade_image'):
        assert getattr(module, old) is degradations.degrade_image


def test_old_generator_is_the_new_one():
    with pytest.warns(DeprecationWarning, match='is now image_generator'):
        assert degradations.picture_generator is degradations.image_generator


def test_old_options_class_takes_and_gives_its_old_fields():
    with pytest.warns(DeprecationWarning, match='is now AdaptationOptions'):
        look = dasr_arch.Look
    assert look is dasr_arch.AdaptationOptions
    with pytest.warns(DeprecationWarning, match="the argument 'like' of AdaptationOptions.__init__ is now 'reference'"):
        options = look(like='image', strength=0.5)
    assert options == dasr_arch.AdaptationOptions('image', 0.5)
    with pytest.warns(DeprecationWarning, match='AdaptationOptions.like is now reference'):
        assert options.like == 'image'


def test_new_names_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert dasr_arch.AdaptationOptions(reference='image').reference == 'image'


def test_both_names_of_an_argument_are_an_error():
    with pytest.raises(TypeError, match="'like' is the old name of 'reference'"):
        dasr_arch.AdaptationOptions(like='image', reference='image')


def test_upscaler_takes_old_arguments_and_methods(demo_image):
    upscaler = dasr_arch.Upscaler(2, make_network(2), device='cpu', precision='fp32')
    image, options = demo_image[:16, :16], dasr_arch.AdaptationOptions(ensemble=True)
    with pytest.warns(DeprecationWarning, match="'look' of Upscaler.__call__ is now 'adaptation'"):
        assert np.array_equal(upscaler(image, look=options), upscaler(image, options))
    with pytest.warns(DeprecationWarning, match="'look' of Upscaler.represent is now 'adaptation'"):
        representations = upscaler.represent([image], look=options)
    with pytest.warns(DeprecationWarning, match='is now upscale_decomposed'):
        out = upscaler.upscale_layered(decompose(image), codes=representations).assemble()
    assert np.array_equal(out, upscaler(image, options))


@pytest.mark.parametrize('old', _renamed.MODULES)
def test_old_module_is_the_new_one(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match='is now dasr_arch'):
        module = importlib.import_module(old)
    assert module is importlib.import_module(_renamed.MODULES[old])
    assert module.__spec__ is not None and module.__spec__.name == _renamed.MODULES[old]


def test_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="'dasr_arch' has no attribute 'degrade_pictures'"):
        _ = dasr_arch.degrade_pictures


@pytest.mark.parametrize(
    ('module', 'old', 'new'),
    [
        ('dasr_arch.archs.layers.wiener_skip', 'WienerEnlargement', 'WienerUpsampler'),
        ('dasr_arch.losses.degradation_regression', 'CodeTarget', 'DegradationRegression'),
    ],
)
def test_old_class_is_the_new_one(module, old, new):
    loaded = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f'is now {new}'):
        assert getattr(loaded, old) is getattr(loaded, new)


def test_old_names_of_the_preparation_are_the_new_ones():
    with pytest.warns(DeprecationWarning, match='is now FailedImage'):
        assert prepare.SkippedImage is FailedImage
    with pytest.warns(DeprecationWarning, match="'min_pictures' of RunSettings.__init__ is now 'min_images'"):
        assert prepare.RunSettings(min_pictures=3).min_images == 3
