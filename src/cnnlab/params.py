"""params.yaml as strict typed objects: unknown keys and impossible values are errors that say what is valid."""

import difflib
import math
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cnnlab.data.catalog import CATALOG
from cnnlab.errors import UserError, run
from cnnlab.files import REPORTS

PARAMS = Path("params.yaml")
TUNED, BEST = "tuned", REPORTS / "sweep/best.yaml"  # the variant that a sweep found, and where it stands

Count = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _known_data_set(name: str) -> str:
    if name not in CATALOG:
        raise ValueError(f"one of: {', '.join(CATALOG)}")
    return name


DataSetName = Annotated[str, AfterValidator(_known_data_set)]
VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


def _one_line_of_devices(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One mistake where pydantic would tell one for each member of the union."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("all, one, or a list of GPUs as in [GPU:0, GPU:2]") from error


def _one_line_of_numbers(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number")
    return check(value)


def _one_line_of_choices(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, int | float | str | bool | None):
        raise ValueError("a number, a word, true, false or null")
    return check(value)


Number = Annotated[int | float, WrapValidator(_one_line_of_numbers)]
Choice = Annotated[int | float | str | bool | None, WrapValidator(_one_line_of_choices)]
GPUs = Annotated[list[Annotated[str, Field(pattern=r"^GPU:\d+$")]], Field(min_length=1)]
Devices = Annotated[Literal["all", "one"] | GPUs, WrapValidator(_one_line_of_devices)]


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no silent conversion, no change after reading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Budget(Section):
    """What a budget scales; None leaves the variant's own value."""

    epochs: Count | None
    train_images: Count | None
    seeds: Count


class Fetch(Section):
    """Stage fetch."""

    sets: list[DataSetName] = Field(min_length=1)
    timeout_s: Positive


class Preprocess(Section):
    """Stage preprocess."""

    validation: Count
    seed: Seed


class Strategy(Section):
    """Which devices train together: "all" (every GPU, else the CPU), "one", or GPUs by name, as in [GPU:0, GPU:2].

    `replicas` is the number of logical devices a CPU is split into. Several hosts come from TF_CONFIG or Slurm.
    """

    devices: Devices = "all"
    replicas: Count = 1


class Train(Section):
    """Stage train: what decides its speed and safety, not its result."""

    feeding: Literal["auto", "resident", "streamed"]
    checkpoint_minutes: Positive


class Searched(Section):
    """What a key is searched over: `choices`, or a range from `low` to `high`, both included.

    A range between whole numbers is one of whole numbers; `log` searches its logarithm, `step` multiples of it above
    `low`. The key is searched only where the keys that `when` names have one of the values it names.
    """

    choices: list[Choice] = []
    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    when: dict[str, Annotated[list[Choice], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounds = (self.low, self.high)
        if self.choices:
            if any(bound is not None for bound in bounds) or self.log or self.step is not None:
                raise ValueError("either choices, or low and high")
            if len({(isinstance(choice, bool), choice) for choice in self.choices}) < max(2, len(self.choices)):
                raise ValueError("two choices or more, all different")
            return self
        if self.low is None or self.high is None:
            raise ValueError("choices, or low and high")
        if not self.low < self.high:
            raise ValueError("low below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log with a low above 0 and without step")
        if self.step is not None and (self.step <= 0 or (self.whole and not isinstance(self.step, int))):
            raise ValueError("a step above 0, and whole between whole numbers")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class SweepBudget(Section):
    """How far a sweep goes: trials, and for each of them epochs, training and validation images; None takes all."""

    trials: Count
    epochs: Count
    train_images: Count | None
    validation: Count | None


class Sweep(Section):
    """Stage sweep: a search around the variant `base`, trial 0, by changing the keys of `space`.

    `data` repeats the base's, because DVC names the folders of variant `tuned` by it.
    `minimise` adds a second objective, without pruning. `workers` trials run at a time, by default one for each
    `gpus_per_trial` GPUs, without any one for each core up to 8.
    """

    base: str
    data: DataSetName
    minimise: Literal["flop", "parameters"] | None
    pruner: Literal["halving", "hyperband", "none"]
    seed: Seed
    workers: Count | None
    gpus_per_trial: Count
    budgets: dict[Literal["smoke", "laptop", "full"], SweepBudget]
    space: dict[str, Searched] = Field(min_length=1)


class AblationBudget(Section):
    """How far an ablation goes: seeds, and for each training epochs, training and validation images; None takes all.

    `factors` names those that are tried, None for all. The rungs of the ladder have `ladder_seeds`.
    """

    seeds: Count
    ladder_seeds: Count
    epochs: Count
    train_images: Count | None
    validation: Count | None
    factors: list[str] | None


class Ablation(Section):
    """Stage ablate: each of `factors` alone changes the variant `base`, with the same seeds and on the same images.

    A factor is the keys of the variant that it changes, as in sections network.padding or optimizer.name. `ladder`
    names variants, each of which is compared with the one before.
    """

    base: str
    data: DataSetName
    budgets: dict[Literal["smoke", "laptop", "full"], AblationBudget]
    ladder: list[str]
    factors: dict[str, Annotated[dict[str, Choice], Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _factors_known(self) -> Self:
        for name, budget in self.budgets.items():
            for factor in budget.factors or ():
                if factor not in self.factors:
                    raise ValueError(f"in budgets.{name}.factors names of ablation.factors, not {factor!r}")
        for variant in (self.base, *self.ladder):
            if variant in self.factors:
                raise ValueError(f"no factor with the name of variant {variant}")
        if len(set(self.ladder)) < len(self.ladder):
            raise ValueError("each variant once in ladder")
        return self


class Report(Section):
    """Stage report: the language of the homework's answer."""

    language: Literal["en", "ru"]


class LessonNetwork(Section):
    """A network of the course without knobs."""

    name: Literal["lenet5", "slides"]


class HomeworkNetwork(Section):
    """The configurable CIFAR-10 network; the defaults are the lesson's.

    `filters`, `blocks` (number of convolutions) and `conv_dropout` (after the pool) have one entry a stage. `kernel` is
    the side of every convolution. `padding` is that of a stage's last one; the others are same. `batch_norm` puts a
    normalisation between each hidden layer and its `activation`. `pooling` stride is a 2×2 convolution with stride 2.
    `dense_units` 0 is no hidden dense layer after the `head`, and no `dense_dropout`. `inputs` are pixels in [0, 1], in
    [0, 255], or with mean 0 and deviation 1 in each channel of the training images.
    """

    name: Literal["homework"]
    filters: list[Count] = Field(min_length=1)
    blocks: list[Count]
    conv_dropout: list[Fraction]
    kernel: Count = 3
    padding: Literal["valid", "same"] = "valid"
    activation: Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "softsign"] = "relu"
    batch_norm: bool = False
    pooling: Literal["max", "average", "stride"] = "max"
    head: Literal["flatten", "global_average", "global_max"] = "flatten"
    dense_units: Annotated[int, Field(ge=0, lt=2**31)] = 512
    dense_dropout: Fraction = 0.5
    inputs: Literal["unit", "bytes", "standardised"] = "unit"

    @model_validator(mode="after")
    def _one_entry_a_stage(self) -> Self:
        for name, entries in (("blocks", self.blocks), ("conv_dropout", self.conv_dropout)):
            if len(entries) != len(self.filters):
                raise ValueError(f"{name} with one entry a stage, as filters has: {len(self.filters)}")
        return self


class SpeedrunNetwork(Section):
    """The network of the speedrun; `filters` has one entry a stage of two convolutions.

    `norm_momentum` is what a normalisation's running mean and variance keep at a step.
    """

    name: Literal["speedrun"]
    filters: list[Count] = Field(min_length=1)
    norm_momentum: Fraction


NETWORKS = (LessonNetwork, HomeworkNetwork, SpeedrunNetwork)
Network = Annotated[LessonNetwork | HomeworkNetwork | SpeedrunNetwork, Field(discriminator="name")]


class Schedule(Section):
    """The learning rate of each step as a share of its peak; `warm_up` is a share of all steps.

    `decay` belongs to inverse_time, the lesson's; `final`, the share left at the last step, to cosine and linear;
    one_cycle rises over its warm_up and falls over the rest.
    """

    name: Literal["constant", "inverse_time", "cosine", "linear", "one_cycle"] = "constant"
    warm_up: Fraction = 0.0
    decay: NonNegative = 0.0
    final: Fraction = 0.0

    @model_validator(mode="after")
    def _knobs_belong(self) -> Self:
        if self.decay and self.name != "inverse_time":
            raise ValueError("no decay, which belongs to schedule inverse_time")
        if self.final and self.name not in ("cosine", "linear"):
            raise ValueError("no final, which belongs to schedules cosine and linear")
        if self.name == "one_cycle" and not self.warm_up:
            raise ValueError("a warm_up above 0, because one_cycle rises before it falls")
        return self


class Optimizer(Section):
    """An optimizer and how its learning rate moves.

    `momentum` is Nesterov's (sgd, muon); `weight_decay` is decoupled and skips biases and norms (adam with it is
    AdamW); `clip_norm` bounds the norm of the whole gradient; `ema` is the momentum of the weights' running average,
    0 for none. `adam_share` is muon's: the rate of what it leaves to Adam, as a share of its own.
    """

    name: Literal["sgd", "adam", "rmsprop", "muon"]
    learning_rate: Positive
    schedule: Schedule = Schedule()
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    ema: Fraction = 0.0
    adam_share: Positive = 1.0

    @model_validator(mode="after")
    def _knobs_belong(self) -> Self:
        if self.momentum and self.name not in ("sgd", "muon"):
            raise ValueError("no momentum, which belongs to optimizers sgd and muon")
        if self.adam_share != 1 and self.name != "muon":
            raise ValueError("no adam_share, which belongs to optimizer muon")
        return self


class Augment(Section):
    """Random changes of each training image.

    `shift` is the largest shift as a share of height and width, fractions of a pixel included unless `whole_pixels`;
    what it uncovers is filled by the `fill`. `flip` mirrors left to right: by chance, or every other epoch.
    `rotation` is the largest angle in degrees. `brightness` is the largest change of every pixel (white is 1),
    `contrast` the largest relative change of the distance to the image's mean. `cutout` is the side of a square set to
    the image's mean, as a share of the height. `mixup` and `cutmix` are the α of their Beta(α, α), 0 for none.
    """

    shift: Fraction = 0.0
    whole_pixels: bool = False
    fill: Literal["nearest", "reflect"] = "nearest"
    flip: Literal["random", "alternating"] | None = None
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    cutout: Fraction = 0.0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0


class Views(Section):
    """Test-time views whose logits are averaged: mirrored, and shifted by `shift` pixels along both diagonals' ends."""

    flip: bool = False
    shift: Annotated[int, Field(ge=0)] = 0


class Recipe(Section):
    """What is trained on which data, and how."""

    data: DataSetName
    network: Network
    epochs: Count
    batch_size: Count
    optimizer: Optimizer
    augment: Augment = Augment()
    label_smoothing: Fraction = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    early_stopping: Count | None = None  # epochs without a better validation loss
    views: Views = Views()


class Variant(Recipe):
    """An entry of `variants`, which the pipeline trains, or of `on_demand`, which `make train VARIANT=…` does."""

    validation: Count | None = None


class Params(Section):
    """The whole of params.yaml."""

    budget: Literal["smoke", "laptop", "full"]
    budgets: dict[Literal["smoke", "laptop", "full"], Budget]
    fetch: Fetch
    preprocess: Preprocess
    strategy: Strategy
    train: Train
    sweep: Sweep
    ablation: Ablation
    report: Report
    variants: dict[VariantName, Variant] = Field(min_length=1)
    on_demand: dict[VariantName, Variant] = {}

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.budget not in self.budgets:
            raise ValueError(f"a section budgets.{self.budget}, because budget is {self.budget}")
        for name, stage in (("sweep", self.sweep), ("ablation", self.ablation)):
            if self.budget not in stage.budgets:
                raise ValueError(f"a section {name}.budgets.{self.budget}, because budget is {self.budget}")
            if stage.base not in self.variants:
                raise ValueError(f"one of {', '.join(self.variants)} in {name}.base")
            if stage.data != (data := self.variants[stage.base].data):
                raise ValueError(f"{data} in {name}.data, because {name}.base trains on it")
        known = {**self.variants, **self.on_demand}
        for rung in self.ablation.ladder:
            if rung not in known or known[rung].data != self.ablation.data:
                raise ValueError(f"variants on {self.ablation.data} in ablation.ladder, not {rung!r}")
        if twice := self.variants.keys() & self.on_demand.keys():
            raise ValueError(f"{min(twice)} in either variants or on_demand")
        for section, entries in (("variants", self.variants), ("on_demand", self.on_demand)):
            if TUNED in entries:
                raise ValueError(f"no variant {TUNED}, which is the name of the one that the sweep finds")
            for name, variant in entries.items():
                if variant.data not in self.fetch.sets:
                    raise ValueError(f"{variant.data} in fetch.sets, because {section}.{name} trains on it")
        return self


class Run(Recipe):
    """One training: a variant under a budget with a seed, everything that decides its result."""

    variant: str
    seed: Seed
    validation: Count
    train_images: Count | None


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises UserError: one line for each mistake, naming the key, what is valid and what was received.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} not found. Run from the top of the checkout.") from error
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {_explain(e, tree)}" for e in error.errors())) from error


def variants(params: Params) -> dict[str, Variant]:
    """The pipeline's variants by name: those of section `variants`, and `tuned` once a sweep has found it."""
    return {**params.variants, **({TUNED: _tuned()} if BEST.exists() else {})}


def variant(params: Params, name: str) -> Variant:
    """The variant called `name`; UserError with the known names if there is none."""
    known = {**variants(params), **params.on_demand}
    if name not in known:
        raise UserError(f"Unknown variant. Expected one of: {', '.join(known)}. Received: {name!r}.")
    return known[name]


def _tuned() -> Variant:
    try:
        return Variant.model_validate(YAML(typ="safe", pure=True).load(BEST))
    except (YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"Invalid {BEST}. Expected a variant that a sweep wrote. Received: {reason}. Sweep again."
        ) from error


def runs(params: Params, name: str, seeds: int | None = None) -> list[Run]:
    """The runs of variant `name` under the chosen budget: seeds 0, 1, … of one recipe, the budget's number of them.

    The budget caps epochs and training images; it never raises them. `seeds` is a number of seeds in place of its own.
    Raises UserError where there is no such variant, or the number is below 1.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"Invalid number of seeds. Expected 1 or more. Received: {seeds}.")
    chosen, budget = variant(params, name), params.budgets[params.budget]
    epochs = chosen.epochs if budget.epochs is None else min(chosen.epochs, budget.epochs)
    recipe = {name: getattr(chosen, name) for name in Recipe.model_fields} | {"epochs": epochs}
    validation = chosen.validation or params.preprocess.validation
    return [
        Run(**recipe, variant=name, seed=seed, validation=validation, train_images=budget.train_images)
        for seed in range(seeds or budget.seeds)
    ]


def _explain(error: Any, tree: Any) -> str:
    """One line for one pydantic error: key, what is invalid, what is valid, what was received."""
    key, received, valid_keys, optional = _locate(error["loc"], tree)
    match error["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(key.rpartition(".")[2], valid_keys, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            return f"Unknown key {key}. Expected one of: {', '.join(valid_keys)}. Received: {received!r}.{hint}"
        case "missing":
            return f"Missing key {key}. Expected a value. Received: nothing."
        case "union_tag_invalid" | "union_tag_not_found":
            networks = [name for k in NETWORKS for name in typing.get_args(k.model_fields["name"].annotation)]
            name = received.get("name") if isinstance(received, dict) else received
            return f"Invalid {key}.name. Expected one of: {', '.join(networks)}. Received: {name!r}."
        case "value_error":
            return f"Invalid {key or 'file'}. Expected {error['ctx']['error']}." + (
                f" Received: {received!r}." if key else ""
            )
        case _:
            expected = re.sub(r"^\w+ should (be )?", "", error["msg"]) + (", or null" if optional else "")
            return f"Invalid {key or 'file'}. Expected: {expected}. Received: {received!r}."


def _locate(location: tuple[Any, ...], tree: Any) -> tuple[str, Any, list[str], bool]:
    """The dotted key of an error, the value received there, the keys valid in the innermost section around it, and
    whether the value may be null."""
    kind: Any = Params
    keys: list[str] = []
    valid: list[str] = []
    for part in location:
        if isinstance(kind, types.UnionType):
            pass  # the union's tag: the network's name, no key of the file
        elif isinstance(tree, list) or (isinstance(tree, dict) and part in tree):
            tree = tree[part]
            keys.append(str(part))
        elif part != "[key]":  # pydantic's mark of a wrong mapping key; anything else is a missing key
            keys.append(str(part))
        if isinstance(kind, type) and issubclass(kind, Section):
            valid = list(kind.model_fields)
        kind = _member(kind, part)
    if location and location[-1] == "[key]":  # the mapping's key is wrong, not what stands under it
        return ".".join(keys[:-1]), keys[-1], valid, False
    return ".".join(keys), tree, valid, type(None) in typing.get_args(kind)


def _member(kind: Any, part: str | int) -> Any:
    """The type found at `part` of a section, mapping, list or union of networks; None where there is none."""
    if isinstance(kind, types.UnionType):
        return next((k for k in kind.__args__ if part in k.model_fields["name"].annotation.__args__), None)
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind.model_fields[str(part)].annotation if part in kind.model_fields else None
    arguments = typing.get_args(kind)
    return arguments[-1] if arguments else None


if __name__ == "__main__":  # `make repro` checks the file before DVC reads it
    run(load)
