"""What the stages of the pipeline are told: sections of params.yaml."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from cnnlab.params.recipe import Count, Name, Positive, Section, Seed


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


class Budget(Section):
    """What a budget scales; None leaves the variant's own value."""

    epochs: Count | None
    train_images: Count | None
    seeds: Count


class DataSource(Section):
    """A data set: one of the catalog has no knobs, a folder of pictures in ImageNet's format has these.

    `path` is a folder with train/<class>/ and val/<class>/, None for one that fetch gets. Pictures are trained at
    `size`×`size` pixels. Up to `broken` files may be unreadable. `mirrored` tells whether a
    picture's mirror image is one of the same class. `validation` replaces preprocess.validation.
    """

    path: str | None = None
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    broken: Annotated[int, Field(ge=0)] = 0
    mirrored: bool = True
    validation: Count | None = None


class Fetch(Section):
    """Stage fetch."""

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

    choices: list[Choice] = Field(default_factory=list)
    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    when: dict[str, Annotated[list[Choice], Field(min_length=1)]] = Field(default_factory=dict)

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
    data: str
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
    data: str
    budgets: dict[Literal["smoke", "laptop", "full"], AblationBudget]
    ladder: list[str]
    factors: dict[str, Annotated[dict[str, Choice], Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _factors_known(self) -> Self:
        for name, budget in self.budgets.items():
            for factor in budget.factors or ():
                if factor not in self.factors:
                    raise ValueError(f"in budgets.{name}.factors names of ablation.factors, not {factor!r}")
        for factor in self.factors:
            if set(factor) & set(",:;|\n"):  # part names, columns and cells in the reports
                raise ValueError(f"factors' names without , : ; | and line ends, not {factor!r}")
        for variant in (self.base, *self.ladder):
            if variant in self.factors:
                raise ValueError(f"no factor with the name of variant {variant}")
        if len(set(self.ladder)) < len(self.ladder):
            raise ValueError("each variant once in ladder")
        return self


class TransferBudget(Section):
    """How far transfers go: to each of `targets`, with so many seeds, `steps` a training, `shares` of its images.

    `variants` names, for each network, the trained variants whose features it begins with, from scratch apart.
    `validation` images decide, None takes all that are set aside. Shares have about as many steps, one
    pass at least.
    """

    targets: list[Name] = Field(min_length=1)
    seeds: Count
    steps: Count
    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    validation: Count | None
    variants: dict[Name, list[Name]] = Field(min_length=1)


class Transfer(Section):
    """Stage transfer: adapted variants from scratch, with others' features frozen, and with these fine-tuned.

    The last have `tuning_rate` times the variant's learning rate.
    """

    tuning_rate: Positive
    budgets: dict[Literal["smoke", "laptop", "full"], TransferBudget]


class Report(Section):
    """Stage report: the language of the homework's answer."""

    language: Literal["en", "ru"]
