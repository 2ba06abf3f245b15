"""diffusers' schedulers, given the same noise, visit the states that our samplers visit."""

import pytest

from tests.peers.oracles import edm_euler, edm_multistep, second_order


@pytest.mark.parametrize("s_churn", [0.0, 3.0, 30.0])
def test_euler_with_churn(s_churn):
    assert edm_euler(s_churn) < 1e-5


def test_diffusers_evaluates_the_network_before_the_churn():
    """A difference on purpose: Karras et al. 2022, Algorithm 2, and MSDM evaluate at the churned state."""
    assert edm_euler(0.0, evaluated_after_churn=False) < 1e-5
    assert edm_euler(3.0, evaluated_after_churn=False) > 0.1


def test_heun():
    assert second_order("heun") < 1e-4


def test_ancestral_midpoint_is_geometric_there():
    """Its σ start at 14.6, hence the absolute tolerance; the paper's arithmetic midpoint is another sampler."""
    assert second_order("adpm2") < 2e-4
    assert second_order("adpm2", midpoint="power") > 0.1


def test_dpmpp_2m():
    assert edm_multistep() < 1e-4
