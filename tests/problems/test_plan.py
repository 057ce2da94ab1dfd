import pytest

from brodmann.core import RecipeError
from brodmann.nets.unet import feature_map_size, plain_unet
from brodmann.problems.semantic.plan import Plan, plan_unet


def test_the_plan_of_the_prmix_paper():
    plan = plan_unet((6383, 12531), (1.0, 1.0), 119, 2)
    assert (plan.patch, plan.batch, plan.stages) == ((768, 1536), 2, 9)
    assert plan.strides == ((1, 1), *[(2, 2)] * 7, (1, 2))
    assert plan.features[0] == 32 and plan.features[-1] == 512


def test_one_class_more_and_the_patch_is_smaller():
    plan = plan_unet((6383, 12531), (1.0, 1.0), 120, 2)
    assert (plan.patch, plan.batch, plan.stages) == ((768, 1408), 2, 8)


def test_plans_that_nnunet_is_known_for():
    """Published plans: BraTS 128^3 with 2 patches, 512 x 512 slices with 12."""
    brats = plan_unet((138, 169, 138), (1, 1, 1), 4, 4)
    assert (brats.patch, brats.batch, brats.stages) == ((128, 128, 128), 2, 6)
    slices = plan_unet((512, 512), (1, 1), 3)
    assert (slices.patch, slices.batch, slices.stages) == ((512, 512), 12, 8)


def test_coarse_axes_are_halved_later():
    plan = plan_unet((40, 512, 512), (50, 10, 10), 3)
    assert plan.strides[1] == (1, 2, 2) and plan.kernels[0] == (1, 3, 3)
    assert plan.kernels[-1] == (3, 3, 3)


def test_small_data_get_small_batches_and_more_memory_larger_patches():
    small = plan_unet((256, 512), (1, 1), 12, dataset_voxels=20 * 256 * 512)
    assert small.batch == 2
    large = plan_unet((6383, 12531), (1, 1), 119, 2, memory_gb=24)
    usual = plan_unet((6383, 12531), (1, 1), 119, 2)
    assert large.patch[0] * large.patch[1] > 2 * usual.patch[0] * usual.patch[1]


def test_a_patch_by_hand_is_kept_or_refused():
    plan = plan_unet(
        (256, 512), (1, 1), 12, patch=(96, 160), batch=3, base_features=8, max_features=32
    )
    assert plan.patch == (96, 160) and plan.batch == 3 and max(plan.features) == 32
    with pytest.raises(RecipeError, match=r"use \[96, 176\]"):
        plan_unet((256, 512), (1, 1), 12, patch=(96, 161))
    with pytest.raises(RecipeError, match="2 sides"):
        plan_unet((256, 512), (1, 1), 12, patch=(96,))


def test_a_plan_survives_yaml():
    plan = plan_unet((256, 512), (25.0, 25.0), 12)
    assert Plan.from_dict(plan.to_dict()) == plan


def test_the_measure_of_memory_counts_real_feature_maps():
    """Values of every convolution's and transposed convolution's output in one forward pass."""
    import torch

    net = plain_unet(1, 5, (4, 8, 16), ((1, 1), (2, 2), (2, 2)), deep_supervision=False)
    seen = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(lambda m, i, o: seen.append(o.numel()))
    net(torch.zeros(1, 1, 32, 48))
    assert feature_map_size(net, (32, 48)) == sum(seen)
