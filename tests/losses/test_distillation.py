"""The teacher sees what the LR patch does not show, and is copied by distributions."""

import pytest
import torch

from dasr_arch.losses.distillation import DistillationTeacher


def make_teacher() -> DistillationTeacher:
    torch.manual_seed(0)
    return DistillationTeacher(2, num_feat=4, representation_dim=8).eval()


def test_teacher_sees_the_hr_patch():
    teacher = make_teacher()
    lq, gt = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        seen, other = teacher(lq, gt), teacher(lq, gt.flip(-1))
    assert seen.shape == (2, 8)
    assert not torch.allclose(seen, other)


def test_distance_is_the_divergence_of_both_softmaxes_at_the_temperature():
    teacher = make_teacher()
    own, of_teacher = torch.randn(3, 8, requires_grad=True), torch.randn(3, 8)
    p, q = (of_teacher / 0.15).softmax(1), (own / 0.15).softmax(1)
    expected = (p * (p.log() - q.log())).sum(1).mean()
    distance = teacher.distillation_loss(own, of_teacher)
    assert distance.item() == pytest.approx(expected.item(), rel=1e-4)
    distance.backward()
    assert own.grad is not None
    assert teacher.distillation_loss(of_teacher, of_teacher).item() == pytest.approx(0, abs=1e-6)
