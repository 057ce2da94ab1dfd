"""Layers of 3D nets that do what torch's do, several times faster on a CPU.

Weights, names and answers are those of the torch layers; answers differ by rounding. Elsewhere
than on a CPU the torch layers run.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALL = 20480
"""Torch leaves a convolution of one sample to its slow kernel where channels x z x y is at most
this (`use_mkldnn` in its Convolution.cpp); with two samples it never does."""


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that never takes torch's slow kernel where it can be helped.

    A convolution in the plane takes slices as samples. One through the volume takes two halves,
    each with the margin that its kernel reaches into; either way forward and gradient are by
    oneDNN, four times as fast.

    Example
    -------
    >>> net, image = Conv3d(1, 1, 3, padding=1), torch.rand(1, 1, 4, 6, 8)
    >>> bool(torch.allclose(net(image), nn.Conv3d.forward(net, image), atol=1e-6))
    True
    """

    def forward(self, values: Tensor) -> Tensor:
        """As `nn.Conv3d`."""
        reach = [k // 2 for k in self.kernel_size]
        plain = (
            values.device.type != "cpu"
            or values.dim() != 5
            or len(values) != 1
            or values.shape[1] * values.shape[2] * values.shape[3] > SMALL
            or self.groups != 1
            or self.padding_mode != "zeros"
            or tuple(self.padding) != tuple(reach)
            or {*self.stride, *self.dilation} != {1}
            or max(self.kernel_size) == 1
        )
        if plain:
            return super().forward(values)
        if self.kernel_size[0] == 1:
            slices, weight = values[0].transpose(0, 1), self.weight.squeeze(2)
            answer = F.conv2d(slices, weight, self.bias, padding=reach[1:])
            return answer.transpose(0, 1).unsqueeze(0)
        even = [a for a in range(3) if values.shape[2 + a] % 2 == 0 and values.shape[2 + a] > 2]
        if not even:
            return super().forward(values)
        axis = even[0]
        half, margin = values.shape[2 + axis] // 2, reach[axis]
        if half < margin:
            return super().forward(values)
        front, back = [0] * 6, [0] * 6
        front[4 - 2 * axis], back[5 - 2 * axis] = margin, margin
        halves = (
            F.pad(values.narrow(2 + axis, 0, half + margin), front),
            F.pad(values.narrow(2 + axis, half - margin, half + margin), back),
        )
        reach[axis] = 0
        answer = F.conv3d(torch.cat(halves), self.weight, self.bias, padding=reach)
        return torch.cat(answer.split(1), 2 + axis)


class InstanceNorm3d(nn.InstanceNorm3d):
    """`nn.InstanceNorm3d`: of one sample, batch normalisation is the same and keeps its layout.

    Example
    -------
    >>> net, image = InstanceNorm3d(3, affine=True), torch.rand(2, 3, 4, 4, 4)
    >>> bool(torch.allclose(net(image), nn.InstanceNorm3d.forward(net, image), atol=1e-5))
    True
    """

    def forward(self, values: Tensor) -> Tensor:
        """As `nn.InstanceNorm3d`."""
        if values.device.type != "cpu" or values.dim() != 5 or self.track_running_stats:
            return super().forward(values)
        parts = [
            F.batch_norm(one, None, None, self.weight, self.bias, True, 0.0, self.eps)
            for one in values.split(1)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        answer = values.clamp_max(0).exp_().sub_(1)
        torch.maximum(answer, values, out=answer)
        ctx.save_for_backward(answer)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (answer,) = ctx.saved_tensors
        return answer.clamp_max(0).add_(1).mul_(gradient)


class ELU(nn.Module):
    """`nn.ELU` with a vectorised exponential; its gradient cannot be differentiated again.

    Example
    -------
    >>> values = torch.tensor([-1.0, 0.0, 2.0])
    >>> bool(torch.allclose(ELU()(values), nn.ELU()(values)))
    True
    """

    def forward(self, values: Tensor) -> Tensor:
        """As `nn.ELU`."""
        return _Elu.apply(values) if values.device.type == "cpu" else F.elu(values)
