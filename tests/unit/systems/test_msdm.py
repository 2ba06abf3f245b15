"""MSDM against Gaussian stems, whose joint density gives every derivative, and against GMSDI of the same denoisers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, save_model
from gmsdi.sampling.noise import sample_seeds
from gmsdi.sampling.samplers import euler, heun
from gmsdi.sampling.schedules import karras
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.systems import msdm
from gmsdi.systems.msdm import JointMSDM, load_joint
from gmsdi.systems.weak_msdm import WeakMSDM, load_weak
from tests.helpers.closed_form import Responses, gaussian_log_density, linear, probe
from tests.helpers.gaussians import Bank, GaussianDenoiser, guide
from tests.helpers.pipes import pipe_of
from tests.helpers.tiny import CONFIG

T = 2
LABELS = ["Bass", "Drums", "Guitar", "Piano"]
SOLVER = Solver("euler", steps=6, sigma_min=0.02, sigma_max=2.0, s_churn=3.0)


class JointWorld:
    """K correlated zero-mean Gaussian stems; D(x, σ) = C·(C + σ²I)⁻¹·x over all stems and samples."""

    def __init__(self, count: int, length: int = T) -> None:
        root = np.random.default_rng(count).normal(size=(count * length,) * 2)
        self.count, self.length = count, length
        self.covariance = torch.from_numpy(root @ root.T / count + 0.05 * np.eye(count * length))
        self.forwards: list[int] = []

    def log_density(self, stems: torch.Tensor, sigma: float) -> torch.Tensor:
        flat = stems.reshape(-1)
        return -flat @ torch.linalg.inv(self.covariance + sigma**2 * torch.eye(len(flat), dtype=flat.dtype)) @ flat / 2

    def embed(self, texts):
        return Bank(tuple(texts))

    def denoise(self, x, sigma, cond):
        return self(x, sigma, cond)

    def __call__(self, x, sigma, cond):
        assert x.shape[1:] == (self.count, self.length)
        self.forwards.append(len(x))
        noisy = self.covariance + sigma[0].double() ** 2 * torch.eye(self.count * self.length, dtype=torch.float64)
        gain = torch.linalg.solve(noisy, self.covariance, left=False).to(x.dtype)
        return (x.flatten(1) @ gain.T).reshape(x.shape)

    @property
    def model(self):
        model = guide(self, 0.0)
        return lambda x, sigma: model(x, sigma, [""] * len(x))

    def baseline(self, **options) -> JointMSDM:
        config = {"sample_rate": 8000, "window": self.length, "labels": LABELS[: self.count]}
        return JointMSDM(self, config, **options)


def signals(*shape, seed=0, dtype=torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


def check(build, energies, rows, items=1):
    """The derivative of every item is −σ times the gradient of its energy, as matrices in float64."""
    for sigma in (0.05, 0.7, 3.0):
        matrices, offsets = probe(build, items, rows, T, sigma)
        for item in range(items):
            A, b = linear(energies(item), rows, T)(sigma)
            np.testing.assert_allclose(matrices[item], A, atol=1e-10 * np.abs(A).max())
            np.testing.assert_allclose(offsets[item], b, atol=1e-10 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("K", [2, 3, 4])
def test_total_generation_follows_the_joint_score(K):
    world = JointWorld(K)
    check(lambda n: msdm.total(world.model, K), lambda item: lambda x, s: [world.log_density(x, s)] * K, K)


@pytest.mark.parametrize(("K", "places"), [(2, [1]), (3, [0]), (3, [2, 0]), (4, [3, 1])])
def test_partial_generation_follows_the_joint_score_with_noised_given_stems(K, places):
    world = JointWorld(K)
    given, noise = signals(2, len(places), 1, T, seed=1), signals(2, len(places), 1, T, seed=2)
    free = [k for k in range(K) if k not in places]

    def energies(item):
        def of(x, sigma):
            stems = [None] * K
            for i, place in enumerate(places):
                stems[place] = given[item, i, 0] + sigma * noise[item, i, 0]
            for j, place in enumerate(free):
                stems[place] = x[j]
            return [world.log_density(torch.stack(stems), sigma)] * len(free)

        return of

    def build(n):
        repeated = given.repeat_interleave(n, 0)
        return msdm.partial(world.model, K, repeated, places, noise=noise.repeat_interleave(n, 0))

    check(build, energies, len(free), items=2)


@pytest.mark.parametrize(("K", "constrained"), [(2, 0), (2, 1), (3, 0), (3, 1), (4, 2), (4, 3)])
def test_contextual_dirac_separator_follows_the_density_on_the_constraint(K, constrained):
    """Eq. 13 on the joint model is the gradient of log p(x_1, ..., y − Σx, ...) along the free stems."""
    world, y = JointWorld(K), signals(2, 1, T)

    def energies(item):
        def of(x, sigma):
            rest = (y[item, 0] - x.sum(0)).unsqueeze(0)
            stems = torch.cat([x[:constrained], rest, x[constrained:]])
            return [world.log_density(stems, sigma)] * (K - 1)

        return of

    def build(n):
        return msdm.contextual(world.model, y.repeat_interleave(n, 0), LABELS[:K], LABELS[constrained])

    check(build, energies, K - 1, items=2)
    stems = build(1).stems(signals(2, K - 1, 1, T))
    np.testing.assert_allclose(stems.sum(1), y, atol=1e-12)


@pytest.mark.parametrize("gamma", [msdm.gaussian_gamma, 0.4])
def test_gaussian_separator_adds_half_of_the_likelihood(gamma):
    world, y = JointWorld(3), signals(2, 1, T)

    def energies(item):
        def of(x, sigma):
            likelihood = gaussian_log_density(y[item, 0] - x.sum(0), gamma, sigma)
            return [world.log_density(x, sigma) + likelihood / 2] * 3

        return of

    check(lambda n: msdm.gaussian(world.model, y.repeat_interleave(n, 0), 3, gamma=gamma), energies, 3, items=2)
    assert msdm.gaussian(world.model, y, 3).coupling(0.5) == pytest.approx(3 * 0.5 / (2 * 0.375**2))


def test_total_generation_ends_at_the_joint_distribution():
    world = JointWorld(3)
    noise = Responses(3, T, 0)
    x = heun(msdm.total(world.model, 3), noise.start(50.0), karras(200, 1e-3, 50.0, 7))
    np.testing.assert_allclose(noise.moments(x).covariance, world.covariance, atol=0.01 * world.covariance.max())


def test_imputation_misses_the_conditional_distribution_and_resampling_leads_to_it():
    """Two stems of variance 1 and correlation 0.9, the first given as 2: the second is N(1.8, 0.19)."""
    C = torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64)

    def model(x, sigma):
        return torch.einsum("kl,nlt->nkt", C @ torch.linalg.inv(C + sigma**2 * torch.eye(2, dtype=C.dtype)), x)

    given = torch.full((10_000, 1, 1, 1), 2.0, dtype=torch.float64)
    gaps = {}
    for resamples in (1, 5, 20):
        generator = torch.Generator().manual_seed(0)

        def noise(x, generator=generator):
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)

        derivative = msdm.partial(model, 2, given, [0], noise=noise)
        x = euler(derivative, 10 * noise(given), karras(60, 1e-3, 10.0, 7), resamples=resamples, noise=noise)
        gaps[resamples] = abs(x.mean().item() - 1.8), abs(x.var().item() - 0.19)
    assert gaps[1][0] > 0.8 > 0.3 > gaps[5][0] > 0.1 > gaps[20][0]
    assert gaps[1][1] > 0.2 > 0.05 > gaps[20][1]


class StemDenoiser(GaussianDenoiser):
    """A model of one stem: refuses every other prompt."""

    def __init__(self, label: str) -> None:
        super().__init__(length=8)
        self.label = label

    def __call__(self, x, sigma, cond):
        assert set(cond.texts) == {self.label}
        return super().__call__(x, sigma, cond)


def weak(labels=LABELS, **options) -> WeakMSDM:
    return WeakMSDM({label: StemDenoiser(label) for label in labels}, {"sample_rate": 8000, "window": 8}, **options)


@pytest.mark.parametrize("constrained", [0, "Guitar", 3])
def test_weak_separator_is_the_gmsdi_separator_of_its_denoisers(constrained):
    baseline = weak()
    gmsdi = pipe_of(GaussianDenoiser(length=8), {"sample_rate": 8000, "window": 8, "labels": LABELS})
    y = signals(2, 1, 8, dtype=torch.float32)
    stems = ["Piano", "Guitar", "Bass", "Drums"]
    options = {"constrained": constrained, "solver": SOLVER, "seeds": [5, 6]}
    ours = baseline.separate(y, stems, **options)
    torch.testing.assert_close(ours, gmsdi.separate_windows(y, stems, guidance=Guidance(), **options))
    np.testing.assert_allclose(ours.sum(1), y, atol=1e-5)
    for denoiser in baseline.denoisers.values():
        assert denoiser.rows == [2] * SOLVER.steps  # one batched forward per step and model
    assert baseline.evaluations == 2 * 4 * SOLVER.steps


def test_weak_models_generate_the_stem_that_each_item_asks_for():
    stems = ["Drums", "Bass", "Drums"]
    generated = weak().sample(stems, solver=SOLVER, seeds=[1, 2, 3])
    gmsdi = pipe_of(GaussianDenoiser(length=8), {"sample_rate": 8000, "window": 8, "labels": LABELS})
    expected = gmsdi.sample_windows(stems, solver=SOLVER, guidance=Guidance(), seeds=[1, 2, 3])
    torch.testing.assert_close(generated, expected)
    with pytest.raises(UserError, match="stem 'Flute' is unknown to the model; it has Bass, Drums, Guitar, Piano"):
        weak().sample(["Flute"], solver=SOLVER, seeds=[1])


def test_joint_separation_sums_to_the_mixture_in_one_forward_per_step():
    world, y = JointWorld(3), signals(2, 1, T, dtype=torch.float32)
    for constrained in ("Bass", 1, "Guitar"):
        world.forwards.clear()
        stems = world.baseline().separate(y, constrained=constrained, solver=SOLVER, seeds=[1, 2])
        assert stems.shape == (2, 3, 1, T)
        np.testing.assert_allclose(stems.sum(1), y, atol=1e-5)
        assert world.forwards == [2] * SOLVER.steps


@pytest.mark.parametrize("given_noise", ["fixed", "redrawn"])
def test_the_mixture_has_the_given_stems_and_the_others(given_noise):
    given = signals(2, 2, 1, T, dtype=torch.float32)
    baseline = JointWorld(4).baseline()
    others, mixture = baseline.accompany(
        given, ["Piano", "Drums"], solver=SOLVER, seeds=[1, 2], best_of=3, given_noise=given_noise
    )
    assert others.shape == (2, 2, 1, T)
    torch.testing.assert_close(mixture, given.sum(dim=1) + others.sum(dim=1))


@pytest.mark.parametrize("max_batch", [1, 6, 64])
def test_best_of_n_is_the_sample_of_the_largest_norm(max_batch):
    n, seeds, given = 7, [3, 4], signals(2, 1, 1, T, dtype=torch.float32)
    baseline = JointWorld(3).baseline(max_batch=max_batch)

    def accompany(seeds, **options):
        return baseline.accompany(given, ["Drums"], solver=SOLVER, seeds=seeds, **options)[0]

    told: list[tuple[int, int]] = []
    best = accompany(seeds, best_of=n, callback=lambda step, steps: told.append((step, steps)))
    samples = torch.stack([accompany([sample_seeds([s], n)[i] for s in seeds]) for i in range(n)])
    norms = samples.flatten(2).norm(dim=2)
    expected = torch.stack([samples[norms[:, item].argmax(), item] for item in range(2)])
    torch.testing.assert_close(best, expected)
    assert len(set(norms[:, 0].tolist())) == n
    torch.testing.assert_close(accompany(seeds), samples[0])
    assert told == [(i + 1, told[-1][1]) for i in range(told[-1][1])]


@pytest.mark.parametrize("task", ["generate", "accompany", "dirac", "gaussian", "weak"])
def test_an_item_depends_on_its_own_seed_alone(task):
    y, given = signals(3, 1, 8, dtype=torch.float32), signals(3, 1, 1, 8, dtype=torch.float32)
    joint, stems = JointWorld(3, length=8).baseline(max_batch=1), weak(LABELS[:3], max_batch=1)

    def run(items):
        settings = {"solver": SOLVER, "seeds": [10 + item for item in items]}
        return {
            "generate": lambda: joint.generate(**settings)[0],
            "accompany": lambda: joint.accompany(given[items], ["Drums"], best_of=3, **settings)[0],
            "dirac": lambda: joint.separate(y[items], constrained=1, **settings),
            "gaussian": lambda: joint.separate_gaussian(y[items], **{**settings, "solver": replace(SOLVER, steps=12)}),
            "weak": lambda: stems.separate(y[items], constrained=1, **settings),
        }[task]()

    together = run([0, 1, 2])
    assert torch.equal(run([2, 0]), together[[2, 0]])
    assert not torch.equal(together[0], together[1])


def test_unstable_likelihoods_and_wrong_input_are_refused_in_one_line():
    joint, y = JointWorld(3).baseline(), signals(2, 1, T, dtype=torch.float32)
    settings = {"solver": SOLVER, "seeds": [1, 2]}
    with pytest.raises(UserError, match="unstable; raise gamma"):
        joint.separate_gaussian(y, gamma=0.05, **settings)
    with pytest.raises(UserError, match="constrained source 'Piano' is not among the stems Bass, Drums, Guitar"):
        joint.separate(y, constrained="Piano", **settings)
    with pytest.raises(UserError, match="leave one to generate"):
        joint.accompany(signals(2, 3, 1, T), LABELS[:3], **settings)
    with pytest.raises(UserError, match="holds NaN or infinite samples"):
        joint.separate(y * torch.nan, constrained=0, **settings)
    with pytest.raises(UserError, match="the last two are 1 channel and 2 samples"):
        joint.separate(y[..., :1], constrained=0, **settings)
    with pytest.raises(UserError, match="2 seeds for 1 items"):
        joint.separate(y[:1], constrained=0, **settings)
    with pytest.raises(UserError, match="best_of is 0"):
        joint.accompany(y[:, None], ["Bass"], best_of=0, **settings)


def write(folder, target, **changes):
    unet = {**CONFIG["unet"], "in_channels": 3 if target == "stems" else 1}
    config = {**CONFIG, "text": {"kind": "none"}, "unet": unet, "target": target, **changes}
    torch.manual_seed(len(target))
    save_model(folder, build_model(config))
    return folder


def test_models_load_from_folders(tmp_path):
    joint = load_joint(write(tmp_path / "joint", "stems"), device="cpu", precision="float32")
    assert joint.labels == ["Bass", "Drums", "Piano"]
    y = 0.1 * signals(2, 1, 256, dtype=torch.float32)
    settings = {"constrained": "Drums", "solver": SOLVER, "seeds": [1, 2]}
    np.testing.assert_allclose(joint.separate(y, **settings).sum(1), y, atol=1e-5)
    for label in ("Piano", "Bass", "Drums"):
        write(tmp_path / "weak" / f"model_of_{label.lower()}", label)
    stems = load_weak(tmp_path / "weak", device="cpu", precision="float32")
    assert stems.labels == ["Bass", "Drums", "Piano"]
    separated = stems.separate(y, **settings)
    np.testing.assert_allclose(separated.sum(1), y, atol=1e-5)
    named = {label: tmp_path / "weak" / f"model_of_{label.lower()}" for label in stems.labels}
    again = load_weak(named, device="cpu", precision="float32").separate(y, **settings)
    assert torch.equal(again, separated)


def test_models_of_another_kind_are_refused_in_one_line(tmp_path):
    joint, bass = write(tmp_path / "joint", "stems"), write(tmp_path / "bass", "Bass")
    with pytest.raises(UserError, match=r"bass: this model has target 'Bass'; joint MSDM needs one .* target stems"):
        load_joint(bass, device="cpu")
    with pytest.raises(UserError, match="joint: this model has target 'stems', but is given for 'Drums'"):
        load_weak({"Bass": bass, "Drums": joint}, device="cpu")
    with pytest.raises(UserError, match="joint: this model has target 'stems'; weak MSDM needs one model per label"):
        load_weak(tmp_path, device="cpu")
    with pytest.raises(UserError, match="nothing: no models found"):
        load_weak(tmp_path / "nothing", device="cpu")
    drums = write(tmp_path / "drums", "Drums", window=512)
    with pytest.raises(UserError, match="Drums and Bass do not belong together: window is 512 and 256"):
        load_weak({"Bass": bass, "Drums": drums}, device="cpu")
    with pytest.raises(UserError, match=r"so unet\.in_channels must be 3 \(Bass, Drums, Piano\), not 1"):
        build_model({**CONFIG, "target": "stems"})
    with pytest.raises(UserError, match="model target is 'Flute'; choose mixture, stems, or a label"):
        build_model({**CONFIG, "target": "Flute"})
    with pytest.raises(UserError, match=r"model kind is 'gan'; known here are clap, .*diffusion"):
        build_model({**CONFIG, "kind": "gan"})
