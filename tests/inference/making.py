"""Small networks with random weights and plausible statistics, for tests."""

import torch

from dasr_arch.archs.dasr_arch import DASR

TINY = {'num_feat': 8, 'num_groups': 1, 'num_blocks': 1, 'representation_dim': 12, 'encoder_feat': 4}


def make_network(scale: int = 2, **options: object) -> DASR:
    """A DASR with weights from a seed, in evaluation mode; tiny unless the options say otherwise."""
    torch.manual_seed(0)
    network = DASR(scale=scale, **{**TINY, **options})  # type: ignore[arg-type]
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith('running_mean'):
                buffer.normal_(0, 0.2)
            if name.endswith('running_var'):  # what images in 0..255 and then normalised features have
                buffer.uniform_(1000, 3000) if name == 'encoder.body.1.running_var' else buffer.uniform_(0.05, 0.2)
    return network.eval()


def make_faithful(scale: int = 2) -> DASR:
    """A DASR whose output is close to bicubic upsampling, so that values can be predicted."""
    network = make_network(scale, upsampler='direct', skip='bicubic')
    with torch.no_grad():
        network.last_conv.weight.mul_(0.01)
        network.last_conv.bias.zero_()
    return network
