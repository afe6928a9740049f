"""The six published schedules, number by number, as the published code computes them."""

import json
from pathlib import Path

import pytest
import torch

from diffuseq.diffusion.schedule import DiscreteSchedule

RECORDED = json.loads((Path(__file__).parent / "data" / "schedules.json").read_text())
ATTRIBUTES = {
    "beta": "betas",
    "alpha_bar": "alpha_bar",
    "posterior_variance": "posterior_variance",
    "posterior_mean_coef1": "posterior_mean_coef1",
    "posterior_mean_coef2": "posterior_mean_coef2",
}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("case", RECORDED)
def test_the_published_numbers_are_reproduced(case, attribute):
    name, num_steps = case.rsplit("_", 1)
    schedule = DiscreteSchedule.named(name, int(num_steps))
    ours = getattr(schedule, ATTRIBUTES[attribute])[RECORDED[case]["index"]]
    recorded = torch.tensor(RECORDED[case][attribute], dtype=torch.float64)
    torch.testing.assert_close(ours, recorded, rtol=1e-12, atol=0)
