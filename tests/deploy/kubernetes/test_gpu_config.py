"""The strict check of what the DRA driver reads."""

from typing import Any

import pytest

from igniter_opt.deploy.kubernetes.gpu_config import gpu_config_problems

RIGHT: dict[str, Any] = {"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"}


def mps(**config: Any) -> dict[str, Any]:
    return {**RIGHT, "sharing": {"strategy": "MPS", "mpsConfig": config}}


@pytest.mark.parametrize(
    "parameters",
    [
        RIGHT,
        mps(),
        {**mps(), "kind": "MigDeviceConfig"},
        mps(defaultActiveThreadPercentage=0, defaultPinnedDeviceMemoryLimit="1Mi", multiUser=True),
        mps(defaultPerDevicePinnedMemoryLimit={"0": "2Gi", "GPU-8a4d5f2e-0000-1111-2222-0123456789ab": "4096M"}),
        {**RIGHT, "sharing": {"strategy": "TimeSlicing", "timeSlicingConfig": {"interval": "Long"}}},
    ],
)
def test_what_the_driver_takes_passes(parameters: dict[str, Any]) -> None:
    assert gpu_config_problems(parameters) == []


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (None, "must be an object"),
        ({}, "apiVersion"),
        ({**RIGHT, "kind": "ComputeDomainConfig"}, "kind"),
        (
            {**RIGHT, "kind": "MigDeviceConfig", "sharing": {"strategy": "TimeSlicing", "timeSlicingConfig": {}}},
            "have none",
        ),
        ({**RIGHT, "share": {}}, "unknown field 'share'"),
        ({**RIGHT, "sharing": {}}, "strategy"),
        ({**RIGHT, "sharing": []}, "sharing: must be an object"),
        ({**RIGHT, "sharing": {"strategy": "TimeSlicing", "mpsConfig": {}}}, "goes with strategy MPS"),
        ({**RIGHT, "sharing": {"strategy": "MPS", "timeSlicingConfig": {}}}, "goes with strategy TimeSlicing"),
        (mps(defaultActiveThreadPercentage=101), "0 to 100"),
        (mps(defaultActiveThreadPercentage=-1), "0 to 100"),
        (mps(defaultActiveThreadPercentage=12.5), "whole number"),
        (mps(defaultActiveThreadPercentage=True), "whole number"),
        (mps(defaultActiveThreadPercentage="50"), "whole number"),
        (mps(activeThreadPercentage=50), "unknown field"),
        (mps(defaultPinnedDeviceMemoryLimit="1023Ki"), "at least 1Mi"),
        (mps(defaultPinnedDeviceMemoryLimit=2**20), "quantity"),
        (mps(defaultPerDevicePinnedMemoryLimit={"gpu0": "2Gi"}), "index or a UUID"),
        (mps(defaultPerDevicePinnedMemoryLimit={"0": "-1Gi"}), "at least 1Mi"),
        (mps(defaultPerDevicePinnedMemoryLimit=[]), "must be an object"),
        (mps(multiUser="yes"), "true or false"),
    ],
)
def test_what_it_would_refuse_is_told(parameters: Any, said: str) -> None:
    problems = gpu_config_problems(parameters)
    assert any(said in problem for problem in problems), problems
