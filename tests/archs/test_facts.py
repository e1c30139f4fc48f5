"""Facts that networks declare, and the one place that reads them."""

import ast
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from basicsr.archs.rrdbnet_arch import RRDBNet
from torch import nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import NetworkFacts, SRNetwork, facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.archs.srmd_arch import SRMD
from dasr_arch.archs.zssr_arch import ZSSR

ROOT = Path(__file__).parents[2]
FACTS = {item.name for item in fields(NetworkFacts)} | {'missing_in_released'}
OURS = sorted(name for name, arch in ARCH_REGISTRY if arch.__module__.startswith('dasr_arch.'))


@pytest.mark.parametrize('name', OURS)
def test_every_arch_of_ours_has_the_base_class(name):
    assert issubclass(ARCH_REGISTRY.get(name), SRNetwork)


def test_record_and_base_class_have_the_same_fields_and_types():
    declared = get_type_hints(NetworkFacts, localns={'KeyMap': object})
    assert set(declared) == {item.name for item in fields(NetworkFacts)}
    assert {name: getattr(SRNetwork, name) for name in declared} == vars(NetworkFacts())
    assert issubclass(SRNetwork, NetworkFacts) and not vars(SRNetwork).get('__annotations__')


def test_declared_facts_are_found_on_classes_and_networks():
    assert facts_of(SRMD).needs == facts_of(SRMD(2, num_feat=4, num_layers=2)).needs == ('kernel', 'noise_level')
    assert facts_of(IKC).parts == ('sftmd', 'predictor', 'corrector')
    assert facts_of(MZSR).conditions == ('kernel',)
    assert facts_of(ZSSR).trains_per_image
    assert not facts_of(MZSR).trains_per_image


def test_an_argument_may_decide_a_fact():
    sizes = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 8, 'encoder_feat': 4}
    assert facts_of(DASR(**sizes)).blind
    non_blind = facts_of(DASR(**sizes, condition='kernel'))
    assert not non_blind.blind
    assert non_blind.needs == ('kernel',)


def test_networks_of_basicsr_have_the_defaults():
    assert facts_of(RRDBNet(3, 3, num_feat=4, num_block=1, num_grow_ch=2)) == facts_of(RRDBNet) == NetworkFacts()


def test_foreign_networks_may_declare_facts():
    class Foreign(nn.Module):
        needs = ('kernel',)

    assert facts_of(Foreign) == NetworkFacts(needs=('kernel',))


def test_facts_are_read_in_one_place():
    found = []
    for path in sorted((ROOT / 'dasr_arch').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            asked = node.args[1] if node.func.id in {'getattr', 'hasattr'} else None
            if isinstance(asked, ast.Constant) and asked.value in FACTS:
                found.append(f'{path.relative_to(ROOT)}:{node.lineno}: {asked.value}')
    assert found == []
