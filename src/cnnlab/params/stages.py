"""The sections of params.yaml for the stages of the pipeline."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from cnnlab.files import languages
from cnnlab.params.recipe import Count, Name, Positive, Section, Seed


def _check_devices(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Raise one error where pydantic would raise one per member of the union."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("all, one, or a list of GPUs as in [GPU:0, GPU:2]") from error


def _check_number(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number")
    return check(value)


def _check_choice(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, int | float | str | bool | None):
        raise ValueError("a number, a word, true, false or null")
    return check(value)


def _known_language(value: Any) -> Any:
    if value not in (known := languages()):
        raise ValueError(f"one of {', '.join(known)}")
    return value


BudgetName = Literal["smoke", "laptop", "full"]
Number = Annotated[int | float, WrapValidator(_check_number)]
Choice = Annotated[int | float | str | bool | None, WrapValidator(_check_choice)]
Changes = dict[str, Choice]  # of a variant, by dotted keys
GPUs = Annotated[list[Annotated[str, Field(pattern=r"^GPU:\d+$")]], Field(min_length=1)]
Devices = Annotated[Literal["all", "one"] | GPUs, WrapValidator(_check_devices)]


class Budget(Section):
    """The scale of trainings; None keeps the value of the variant.

    With `folds`, each seed sets aside other images for validation, so that intervals over seeds cover the choice of
    training data, too (Bouthillier et al. 2021, arXiv:2103.03098). Ablations and transfers follow it, sweeps do not.
    """

    epochs: Count | None
    train_images: Count | None
    seeds: Count
    folds: bool = False

    def fold(self, seed: int) -> int:
        """The fold of a training with `seed`."""
        return seed if self.folds else 0


class DataSource(Section):
    """A data set. If `optional`, the pipeline continues without it when it cannot be fetched.

    The other keys are for image folders. `path` is a folder with train/<class>/ and val/<class>/, None for one that is
    downloaded. Images are resized to `size`×`size` pixels. Up to `broken` files may be unreadable. `mirrored` says
    whether a mirrored image still belongs to its class. `validation` overrides preprocess.validation.
    """

    optional: bool = False
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
    """The devices that train together: "all" (every GPU, else the CPU), "one", or GPUs by name, as in [GPU:0, GPU:2].

    `replicas` is the number of logical devices of a CPU. Hosts are configured by TF_CONFIG or Slurm.
    """

    devices: Devices = "all"
    replicas: Count = 1


class Train(Section):
    """Stage train: settings that affect speed and safety, but not results."""

    feeding: Literal["auto", "resident", "streamed"]
    checkpoint_minutes: Positive


class Searched(Section):
    """The search space of a key: `choices`, or the range from `low` to `high`, both included.

    A range between integers contains integers. `log` searches on a logarithmic scale, `step` in multiples above `low`.
    The key is searched only if the keys in `when` have one of the given values.
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
            raise ValueError("a step above 0, and an integer between integers")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range contains only integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class SweepBudget(Section):
    """The size of a sweep: trials, and epochs, training and validation images per trial; None uses all images."""

    trials: Count
    epochs: Count
    train_images: Count | None
    validation: Count | None


class Sweep(Section):
    """Stage sweep: trial 0 is the variant `base`; other trials change the keys in `space`.

    `data` must equal the base's: DVC needs it to name the folders of variant `tuned`. `minimise` adds a second
    objective and disables pruning. `workers` is the number of parallel trials, by default one per `gpus_per_trial`
    GPUs, or one per CPU core, up to 8, without GPUs.
    """

    base: str
    data: str
    minimise: Literal["flop", "parameters"] | None
    pruner: Literal["halving", "hyperband", "none"]
    seed: Seed
    workers: Count | None
    gpus_per_trial: Count
    budgets: dict[BudgetName, SweepBudget]
    space: dict[str, Searched] = Field(min_length=1)


def _check_names(changes: Iterable[str]) -> None:
    for change in changes:
        if set(change) & set(",:;|\n"):  # separators in the reports
            raise ValueError(f"names of changes without , : ; | and line breaks, not {change!r}")


class AblationBudget(Section):
    """The size of an ablation: seeds, and epochs, training and validation images per training; None uses all images.

    `changes` are made to the base, so that it learns in as few steps, and to the steps of the ladder that have its
    value. `factors` and `leave_one_out` list those to try, None for all.
    """

    seeds: Count
    epochs: Count
    train_images: Count | None
    validation: Count | None
    changes: Changes = Field(default_factory=dict)
    factors: list[str] | None
    leave_one_out: list[str] | None


class Ablation(Section):
    """Stage ablate: trainings with the same seeds, epochs and images.

    Each of `factors` is applied by itself to the variant `base`. `ladder` lists variants, each of which is compared
    with its predecessor. `leave_one_out` has the ingredients of the last of them: the changes that take each away.
    Changes map keys of a variant, such as network.padding, to new values.
    """

    base: str
    data: str
    budgets: dict[BudgetName, AblationBudget]
    ladder: list[str]
    leave_one_out: dict[str, Annotated[Changes, Field(min_length=1)]] = Field(default_factory=dict)
    factors: dict[str, Annotated[Changes, Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        for name, budget in self.budgets.items():
            for section, known, listed in (
                ("factors", self.factors, budget.factors),
                ("leave_one_out", self.leave_one_out, budget.leave_one_out),
            ):
                for one in listed or ():
                    if one not in known:
                        raise ValueError(f"names of ablation.{section} in budgets.{name}.{section}, not {one!r}")
        _check_names((*self.factors, *self.leave_one_out))
        for variant in (self.base, *self.ladder):
            if variant in self.factors:
                raise ValueError(f"no factor named like variant {variant}")
        if len(set(self.ladder)) < len(self.ladder):
            raise ValueError("each variant once in ladder")
        if self.leave_one_out and not self.ladder:
            raise ValueError("a ladder, whose last variant has the ingredients in leave_one_out")
        return self


class Target(Section):
    """A data set to transfer to: `steps` of a training, but at least one epoch, and `shares` of the training images."""

    steps: Count
    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)


class TransferBudget(Section):
    """The size of the transfer study: `targets` and seeds.

    `variants` lists, for each network, the trained variants to initialise it with, in addition to random weights.
    `validation` is the number of validation images, None for all. `tried` lists the changes to try, None for all.
    """

    targets: dict[Name, Target] = Field(min_length=1)
    seeds: Count
    validation: Count | None
    variants: dict[Name, list[Name]] = Field(min_length=1)
    tried: list[str] | None


class Transfer(Section):
    """Stage transfer: adapted variants trained from scratch, with frozen features of others, and fine-tuned.

    Fine-tuning uses `tuning_rate` times the learning rate of the variant. `tried` are single changes of the adapted
    variants, trained from scratch.
    """

    tuning_rate: Positive
    tried: dict[str, Annotated[Changes, Field(min_length=1)]] = Field(default_factory=dict)
    budgets: dict[BudgetName, TransferBudget]

    @model_validator(mode="after")
    def _names_known(self) -> Self:
        for name, budget in self.budgets.items():
            for one in budget.tried or ():
                if one not in self.tried:
                    raise ValueError(f"names of transfer.tried in budgets.{name}.tried, not {one!r}")
        _check_names(self.tried)
        return self


class Report(Section):
    """Stage report: the language of the reports, English or one that has a catalogue."""

    language: Annotated[str, BeforeValidator(_known_language)]
