"""Learning rates, optimizers and loss against their formulas in NumPy, on one replica and on two."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from cnnlab.nets.families.lenet5 import LeNet5
from cnnlab.params import Optimizer, Recipe, Schedule
from cnnlab.train import optimizers as recipe

CLASSES = 4
STEPS = 6
NAMES = ["sgd", "adam", "rmsprop", "muon"]
HIDDEN = [0, 4]  # places of the convolution's kernel and the hidden dense one; the classifier's is 6


# Learning rates


def rates(knobs: Schedule, steps: int, peak: float = 1.0) -> np.ndarray:
    """The rate of each step."""
    rate = recipe.schedule(knobs, peak, steps)
    return np.full(steps, rate) if isinstance(rate, float) else rate(tf.range(steps, dtype=tf.int64)).numpy()


@pytest.mark.parametrize(
    ("knobs", "table"),
    [
        (Schedule(), [1, 1, 1, 1]),
        (Schedule(warm_up=0.5), [1 / 2, 1, 1, 1]),
        (Schedule(warm_up=0.25), [1, 1, 1, 1]),  # of one step, which has the peak
        (Schedule(name="inverse_time", decay=0.5), [1, 1 / 1.5, 1 / 2, 1 / 2.5]),
        (Schedule(name="inverse_time", decay=1, warm_up=0.5), [1 / 2, 1, 1 / 2, 1 / 3]),
        (Schedule(name="cosine"), [1, (2 + math.sqrt(2)) / 4, 1 / 2, (2 - math.sqrt(2)) / 4, 0]),
        (Schedule(name="cosine", warm_up=0.5, final=0.2), [1 / 3, 2 / 3, 1, 0.8, 0.4, 0.2]),
        (Schedule(name="linear"), [1, 3 / 4, 1 / 2, 1 / 4, 0]),
        (Schedule(name="linear", warm_up=0.4, final=0.4), [1 / 2, 1, 0.8, 0.6, 0.4]),
        (Schedule(name="one_cycle", warm_up=0.6), [1 / 25, 13 / 25, 1, (1 + 1 / 25e4) / 2, 1 / 25e4]),
    ],
)
def test_rates_worked_by_hand(knobs: Schedule, table: list[float]) -> None:
    np.testing.assert_allclose(rates(knobs, len(table), peak=0.3), 0.3 * np.array(table), rtol=1e-6, atol=1e-8)


shares = st.floats(0, 0.99)
lengths = st.integers(1, 400)


@given(steps=lengths, warm_up=shares, name=st.sampled_from(["cosine", "linear"]), final=shares)
def test_rates_rise_to_the_peak_and_fall_to_their_end(steps: int, warm_up: float, name: Any, final: float) -> None:
    got = rates(Schedule(name=name, warm_up=warm_up, final=final), steps)
    n = max(round(warm_up * steps), 1)
    np.testing.assert_allclose(got[:n], np.arange(1, n + 1) / n, rtol=1e-5)
    way = np.linspace(0, 1, steps - n + 1)
    shape = (1 + np.cos(np.pi * way)) / 2 if name == "cosine" else 1 - way
    np.testing.assert_allclose(got[n - 1 :], final + (1 - final) * shape, atol=1e-5)
    assert (np.diff(got[n - 1 :]) <= 1e-6).all()
    assert (got >= 0).all()


@given(steps=lengths, warm_up=shares, decay=st.floats(0, 2))
def test_rates_of_inverse_time(steps: int, warm_up: float, decay: float) -> None:
    top = max(round(warm_up * steps), 1) - 1
    got = rates(Schedule(name="inverse_time", warm_up=warm_up, decay=decay), steps)
    np.testing.assert_allclose(got[top:], 1 / (1 + decay * np.arange(steps - top)), rtol=1e-5)
    np.testing.assert_allclose(got[: top + 1], np.arange(1, top + 2) / (top + 1), rtol=1e-5)


def one_cycle_of_pytorch(step: int, steps: int, pct_start: float, peak: float) -> float:
    """OneCycleLR.get_lr of PyTorch 2 with its defaults: two phases, annealed along a cosine."""
    first, last = peak / 25, peak / 25 / 1e4
    phases = [(pct_start * steps - 1, first, peak), (steps - 1, peak, last)]
    begin = 0.0
    for end, low, high in phases:
        if step <= end or end == steps - 1:
            share = (step - begin) / (end - begin)
            return high + (low - high) / 2.0 * (1 + math.cos(math.pi * share))
        begin = end
    raise AssertionError


@given(data=st.data(), steps=st.integers(3, 400))
def test_rates_of_one_cycle_are_those_of_pytorch(data: st.DataObject, steps: int) -> None:
    rising = data.draw(st.integers(2, steps - 1))
    got = rates(Schedule(name="one_cycle", warm_up=rising / steps), steps, peak=0.5)
    expected = [one_cycle_of_pytorch(step, steps, rising / steps, 0.5) for step in range(steps)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.argmax() == rising - 1


@given(steps=lengths, warm_up=st.floats(1e-3, 0.99))
def test_rates_of_one_cycle_at_any_length(steps: int, warm_up: float) -> None:
    got = rates(Schedule(name="one_cycle", warm_up=warm_up), steps)
    top = max(round(warm_up * steps) - 1, 0)
    assert np.isfinite(got).all()
    assert got[top] == got.max() == pytest.approx(1)
    assert (np.diff(got[: top + 1]) >= 0).all()
    assert (np.diff(got[top:]) <= 0).all()


def test_only_a_constant_rate_can_be_set_by_callbacks() -> None:
    constant = recipe.optimizer(Optimizer(name="sgd", learning_rate=0.5), 10)
    constant.learning_rate = 0.25
    assert float(constant.learning_rate.numpy()) == 0.25
    falling = recipe.optimizer(Optimizer(name="sgd", learning_rate=0.5, schedule=Schedule(name="linear")), 10)
    with pytest.raises(TypeError, match="not settable"):
        falling.learning_rate = 0.25


# Optimizers


def network() -> keras.Model:
    """Every kind of variable: kernels of a convolution, a hidden dense layer and the classifier, biases and norms."""
    return keras.Sequential(
        [
            keras.Input((3, 3, 3)),
            layers.Conv2D(5, 2),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(7, use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.Dense(CLASSES),
        ]
    )


def prepared(strategy: tf.distribute.Strategy, knobs: Optimizer, label_smoothing: float = 0.0) -> keras.Model:
    training = Recipe(
        data="mnist",
        network=LeNet5(name="lenet5"),
        epochs=1,
        batch_size=1,
        optimizer=knobs,
        label_smoothing=label_smoothing,
    )
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network()
        recipe.prepare(model, training, STEPS)
    return model


def gradients_of(model: keras.Model) -> list[list[np.ndarray]]:
    """Random gradients for every step, of very different lengths."""
    random = np.random.default_rng(3)
    return [[random.normal(0, 0.1 * 3**step, v.shape) for v in model.trainable_variables] for step in range(STEPS)]


def apply(strategy: tf.distribute.Strategy, model: keras.Model, gradients: list[list[np.ndarray]]) -> None:
    """Step with the sum over replicas of their shares of the gradients, as the loop does."""
    variables = model.trainable_variables
    shares = [0.25, 0.75] if strategy.num_replicas_in_sync == 2 else [1.0]

    @tf.function
    def step(*parts: Any) -> None:
        on_devices = strategy.run(lambda *share: [tf.identity(gradient) for gradient in share], parts)
        pairs = [(gradient, variable.value) for gradient, variable in zip(on_devices, variables, strict=True)]
        model.optimizer.apply(strategy.extended.batch_reduce_to("SUM", pairs), variables)

    def distribute(whole: np.ndarray) -> Any:
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(shares[context.replica_id_in_sync_group] * whole, keras.config.floatx())
        )

    for step_gradients in gradients:
        step(*map(distribute, step_gradients))


def replicas_agree(strategy: tf.distribute.Strategy, model: keras.Model) -> bool:
    copies = [strategy.experimental_local_results(v.value) for v in model.variables + model.optimizer.variables]
    return all(np.array_equal(first.numpy(), other.numpy()) for first, *others in copies for other in others)


Step = Callable[[np.ndarray, float], np.ndarray]  # gradient and rate to what is subtracted from the weights


def sgd(momentum: float) -> Step:
    """Nesterov's momentum as in Sutskever et al. 2013 (equations 3 and 4), seen from the point looked ahead to."""
    velocity: Any = 0.0

    def step(gradient: np.ndarray, rate: float) -> np.ndarray:
        nonlocal velocity
        velocity = momentum * velocity - rate * gradient
        return rate * gradient - momentum * velocity

    return step


def adam() -> Step:
    """Kingma & Ba 2015, section 2, last paragraph: with ε̂ beside the root of the moment that is not corrected."""
    first: Any = 0.0
    second: Any = 0.0
    t = 0
    b1, b2 = float(np.float32(0.9)), float(np.float32(0.999))  # as Keras rounds them where it corrects the start

    def step(gradient: np.ndarray, rate: float) -> np.ndarray:
        nonlocal first, second, t
        t += 1
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        return rate * math.sqrt(1 - b2**t) / (1 - b1**t) * first / (np.sqrt(second) + 1e-7)

    return step


def rmsprop() -> Step:
    """Hinton's lecture 6e, with Keras's ε under the root."""
    second: Any = 0.0

    def step(gradient: np.ndarray, rate: float) -> np.ndarray:
        nonlocal second
        second = 0.9 * second + 0.1 * gradient**2
        return rate * gradient / np.sqrt(second + 1e-7)

    return step


def muon(momentum: float) -> Step:
    """Jordan et al. 2024, a kernel as a matrix with a row an output channel, at the scale of Liu et al. 2025."""
    buffer: Any = 0.0

    def step(gradient: np.ndarray, rate: float) -> np.ndarray:
        nonlocal buffer
        buffer = momentum * buffer + gradient
        rows = np.moveaxis(gradient + momentum * buffer, -1, 0)
        x = rows.reshape(len(rows), -1)
        scale = 0.2 * math.sqrt(max(x.shape))
        x = x / (np.linalg.norm(x) + 1e-7)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return rate * scale * np.moveaxis(x.reshape(rows.shape), 0, -1)

    return step


def steps_for(knobs: Optimizer, variables: int) -> list[Step]:
    make = {"sgd": lambda: sgd(knobs.momentum), "adam": adam, "rmsprop": rmsprop, "muon": adam}[knobs.name]
    steps = [make() for _ in range(variables)]
    if knobs.name == "muon":
        for place in HIDDEN:
            steps[place] = muon(knobs.momentum)
    return steps


def expected(
    knobs: Optimizer, weights: list[np.ndarray], gradients: list[list[np.ndarray]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The weights after the gradients' steps and their running average."""
    steps = steps_for(knobs, len(weights))
    average: list[np.ndarray] = []
    for i, rate in enumerate(rates(knobs.schedule, STEPS, knobs.learning_rate).astype(np.float64)):
        norm = math.sqrt(sum((g**2).sum() for g in gradients[i]))
        scale = min(1, knobs.clip_norm / norm) if knobs.clip_norm else 1
        weights = [w * (1 - rate * knobs.weight_decay) if w.ndim > 1 else w for w in weights]
        moves = [step(scale * g, rate) for step, g in zip(steps, gradients[i], strict=True)]
        weights = [w - move for w, move in zip(weights, moves, strict=True)]
        average = [
            knobs.ema * a + (1 - knobs.ema) * w for a, w in zip(average or weights, weights, strict=True)
        ]  # it starts at the weights after the first step
    return weights, average


def with_knobs(name: Any, **knobs: Any) -> Optimizer:
    """Numbers that Keras's rounding to float32 leaves alone."""
    momentum = 0.875 if name in ("sgd", "muon") else 0.0
    return Optimizer(**{"name": name, "learning_rate": 1 / 64, "momentum": momentum, **knobs})


ALL = {"weight_decay": 0.5, "clip_norm": 2.0, "ema": 0.75}
PLANS = [Schedule(), Schedule(name="cosine", warm_up=0.5)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "knobs",
    [with_knobs(name, **knobs, schedule=plan) for name in NAMES for knobs in ({}, ALL) for plan in PLANS]
    + [with_knobs(name, momentum=0.0) for name in ("sgd", "muon")],
    ids=lambda knobs: f"{knobs.name}-{knobs.momentum}-{knobs.weight_decay}-{knobs.schedule.name}",
)
def test_steps_equal_the_formulas(knobs: Optimizer, replicas: tf.distribute.Strategy) -> None:
    model = prepared(replicas, knobs)
    start, gradients = [v.numpy() for v in model.trainable_variables], gradients_of(model)
    apply(replicas, model, gradients)
    weights, average = expected(knobs, start, gradients)
    for variable, its, before in zip(model.trainable_variables, weights, start, strict=True):
        np.testing.assert_allclose(variable.numpy(), its, rtol=1e-11, atol=1e-13)
        assert not np.allclose(its, before, atol=1e-4)
    assert replicas_agree(replicas, model)
    if knobs.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        for variable, its, last in zip(model.trainable_variables, average, weights, strict=True):
            np.testing.assert_allclose(variable.numpy(), its, rtol=1e-11, atol=1e-13)
            assert not np.allclose(its, last, atol=1e-4)
        assert replicas_agree(replicas, model)


@pytest.mark.parametrize("name", NAMES)
def test_decay_shrinks_kernels_alone(name: str, replicas: tf.distribute.Strategy) -> None:
    model = prepared(replicas, with_knobs(name, weight_decay=2.0))
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable))
    apply(replicas, model, [[np.zeros(v.shape, np.float32) for v in model.trainable_variables]] * 3)
    for variable in model.trainable_variables:
        left = (1 - 2 / 64) ** 3 if variable.path.endswith("/kernel") else 1
        np.testing.assert_allclose(variable.numpy(), left, rtol=1e-6)


@pytest.mark.parametrize("length", [0.5, 2.0, 100.0])
def test_a_long_gradient_is_cut_to_the_norm(length: float, one_replica: tf.distribute.Strategy) -> None:
    model = prepared(one_replica, Optimizer(name="sgd", learning_rate=1.0, clip_norm=2.0))
    start = [v.numpy() for v in model.trainable_variables]
    raw = [np.ones(v.shape, np.float32) for v in start]
    count = sum(g.size for g in raw)
    apply(one_replica, model, [[length / math.sqrt(count) * g for g in raw]])
    moves = [before - v.numpy() for before, v in zip(start, model.trainable_variables, strict=True)]
    np.testing.assert_allclose(math.sqrt(sum((m**2).sum() for m in moves)), min(length, 2.0), rtol=1e-5)


def test_all_state_exists_before_the_first_step(two_replicas: tf.distribute.Strategy) -> None:
    model = prepared(two_replicas, with_knobs("muon", **ALL))
    before = [v.path for v in model.optimizer.variables]
    apply(two_replicas, model, gradients_of(model)[:1])
    assert [v.path for v in model.optimizer.variables] == before
    assert int(model.optimizer.iterations.numpy()) == 1


# The loss


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_with_smoothed_targets(
    smoothing: float, one_replica: tf.distribute.Strategy
) -> None:
    model = prepared(one_replica, with_knobs("sgd"), smoothing)
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (9, CLASSES))
    targets = random.dirichlet(np.ones(CLASSES), 9)  # soft, as mixed pictures have
    targets[:3] = np.eye(CLASSES)[:3]
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    smoothed = (1 - smoothing) * targets + smoothing / CLASSES  # Szegedy et al. 2016, section 7
    losses = model.loss(targets, logits).numpy()
    np.testing.assert_allclose(losses, -(smoothed * log_shares).sum(axis=1), rtol=1e-12)
