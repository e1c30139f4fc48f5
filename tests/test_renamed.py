"""Old public names keep working and warn."""

import importlib
import sys

import pytest

import dasr_arch
from dasr_arch import _renamed, degradations


@pytest.mark.parametrize(('module', 'old'), [(dasr_arch, 'degrade_picture'), (degradations, 'degrade_picture')])
def test_old_name_is_the_new_function(module, old):
    with pytest.warns(DeprecationWarning, match='is now degrade_image'):
        assert getattr(module, old) is degradations.degrade_image


def test_old_generator_is_the_new_one():
    with pytest.warns(DeprecationWarning, match='is now image_generator'):
        assert degradations.picture_generator is degradations.image_generator


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
