"""IKC training in three stages: SFTMD with known kernels, Predictor, Corrector.

Gu, Lu, Zuo, Dong: Blind Super-Resolution with Iterative Kernel Correction, CVPR 2019, section 3.3.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import InputError
from dasr_arch._registration import MODEL_REGISTRY
from dasr_arch.archs.ikc_arch import IKC
from dasr_arch.checkpoints.io import choose_part, read_weights
from dasr_arch.config.train_schema import IKCTrainOptions
from dasr_arch.models.supervised_model import Part, SupervisedModel

SFTMD_STAGE, PREDICTOR_STAGE, CORRECTOR_STAGE = 1, 2, 3
TRAINED = {SFTMD_STAGE: ('sftmd',), PREDICTOR_STAGE: ('predictor',), CORRECTOR_STAGE: ('predictor', 'corrector')}


@MODEL_REGISTRY.register()
class IKCModel(SupervisedModel):
    """Trains :class:`~dasr_arch.archs.ikc_arch.IKC`.

    Stage 1 trains SFTMD with the true kernels. Stage 2 trains the Predictor alone; the public code has no such stage.
    Stage 3 is that of the public code: in every iteration the Predictor takes one step, then the Corrector
    ``corrections`` steps, each on the output of the frozen SFTMD for the previous kernel code. A stage of 0 iterations
    is skipped; without stage 1, SFTMD's weights come from ``path.pretrain_network_g``, a file of SFTMD or of IKC.

    Validation uses the image of the last iteration, and never selects one by the ground truth. In stage 1 it measures
    SFTMD with the true kernels; such results do not count for the best weights.

    Args:
        opt: BasicSR's option dictionary. Of its section 'train': 'stage_1' to 'stage_3' (see Stage), 'optim_g',
            'pixel_opt' for stage 1; optional 'corrections' (7), 'precision', 'ema_decay', 'accumulate'.

    Raises:
        InputError: if an option is wrong or weights do not fit.
    """

    settings: IKCTrainOptions

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = None) -> None:
        """As in the base class; InputError also if Predictor and Corrector would be trained with an untrained SFTMD."""
        if isinstance(net, IKC) and self.opt.get('train') and self.settings.stage_1.total_iter == 0:
            part = choose_part(net, read_weights(load_path, self.opt['path'].get('param_key_g')))
            if part not in {net, net.sftmd}:
                raise InputError(
                    f"weights file '{load_path}' is of {type(part).__name__}; without stage_1 the estimators need a "
                    'trained SFTMD, alone or in a whole IKC'
                )
        super().load_network(net, load_path, strict, param_key)

    def start_stage(self, stage: int) -> None:
        """Freezes the parts that the stage does not train; gradients of processes are averaged after each step."""
        for name, parameter in self.net_g.named_parameters():
            parameter.requires_grad_(name.split('.')[0] in TRAINED[stage])

    @property
    def validates_a_part(self) -> bool:
        """True in stage 1, where validation measures SFTMD with the true kernels."""
        stage = self.stage or self.schedule.locate(self.settings.total_iter)[0]  # 0: a finished run
        return stage == SFTMD_STAGE

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Takes raw patches, or images with their true kernels."""
        self.kernel: Tensor | None = data['kernel'].to(self.device, non_blocking=True) if 'kernel' in data else None
        super().feed_data(data)

    def split_batch(self) -> list[Part]:
        """The batch with the codes of its true kernels."""
        kernel = self._true_kernel()
        with torch.no_grad():
            code = self.net_g.sftmd.kernel_code(len(self.lq), kernel, None)
        self.parts = self._split({'lq': self.lq, 'gt': self.gt, 'true': code})
        return self.parts

    def compute_losses(self, part: Part) -> dict[str, Tensor]:
        """Loss of SFTMD or of the Predictor."""
        return self._restoration_loss(part) if self.stage == SFTMD_STAGE else self._prediction_loss(part)

    def after_step(self) -> None:
        """Takes the steps of the Corrector."""
        if self.stage != CORRECTOR_STAGE:
            return
        count = self.settings.corrections
        rounds = [self.take_step(self.parts, self._correction_loss)['l_corrector'] for _ in range(count)]
        self.log_dict |= {'l_corrector': torch.stack(rounds).mean(), 'l_corrector_last': rounds[-1]}

    def _restoration_loss(self, part: Part) -> dict[str, Tensor]:
        assert self.cri_pix is not None
        with self.autocast():
            sr = self.net_g.sftmd(part['lq'], code=part['true'])
        return {'l_pix': self.cri_pix(sr.float(), part['gt'])}

    def _prediction_loss(self, part: Part) -> dict[str, Tensor]:
        """Loss of the Predictor; adds the predicted code to the part, for the first correction."""
        with self.autocast():
            code = self.net_g.predictor(part['lq']).float()
        part['code'] = code.detach()
        return {'l_predictor': functional.mse_loss(code, part['true'])}

    def _correction_loss(self, part: Part) -> dict[str, Tensor]:
        """Loss of the Corrector; replaces the code in the part, for the next correction."""
        with self.autocast():
            with torch.no_grad():
                sr = self.net_g.sftmd(part['lq'], code=part['code'])
            code = self.net_g.corrector(sr, part['code']).float()
        part['code'] = code.detach()
        return {'l_corrector': functional.mse_loss(code, part['true'])}

    @torch.no_grad()
    def test(self) -> None:
        """Super-resolves ``self.lq``: blindly, or in stage 1 with the true kernels."""
        net = self.evaluated_network
        with self.autocast():
            sr = net.sftmd(self.lq, kernel=self._true_kernel()) if self.validates_a_part else net(self.lq)
        self.output = sr.float()

    def _true_kernel(self) -> Tensor:
        if self.kernel is None:
            raise InputError('IKCModel needs the true kernels of its images; use DegradationDataset')
        return self.kernel
