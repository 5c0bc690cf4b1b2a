"""params.yaml as strictly typed objects: unknown keys and invalid values are errors that say what is valid."""

from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cnnlab.catalog import ARCHIVES, CATALOG
from cnnlab.errors import UserError
from cnnlab.files import REPORTS, verified
from cnnlab.params.mistakes import explain
from cnnlab.params.recipe import (
    TTA,
    Augment,
    InitFrom,
    Name,
    Optimizer,
    Recipe,
    Run,
    Schedule,
    Section,
    Variant,
)
from cnnlab.params.stages import (
    Ablation,
    AblationBudget,
    Budget,
    BudgetName,
    DataSource,
    Fetch,
    Preprocess,
    Report,
    Searched,
    Strategy,
    Sweep,
    SweepBudget,
    Target,
    Train,
    Transfer,
    TransferBudget,
)

__all__ = [
    "TTA", "Augment", "Budget", "DataSource", "InitFrom", "Optimizer", "Params", "Recipe", "Report", "Run", "Schedule",
    "Searched", "Section", "Strategy", "Sweep", "Target", "Train", "Transfer", "Variant", "load", "runs", "set_aside",
    "variant", "variants",
]  # fmt: skip

PARAMS = Path("params.yaml")
TUNED, BEST = "tuned", REPORTS / "sweep/best.yaml"  # the best variant of the sweep


class Scale(NamedTuple):
    """The sections of the chosen budget, for each stage."""

    training: Budget
    sweep: SweepBudget
    ablation: AblationBudget
    transfer: TransferBudget


class Params(Section):
    """All of params.yaml."""

    budget: BudgetName
    budgets: dict[BudgetName, Budget]
    data: dict[Name, DataSource] = Field(min_length=1)
    fetch: Fetch
    preprocess: Preprocess
    strategy: Strategy
    train: Train
    sweep: Sweep
    ablation: Ablation
    transfer: Transfer
    report: Report
    variants: dict[Name, Variant] = Field(min_length=1)
    on_demand: dict[Name, Variant] = Field(default_factory=dict)

    @property
    def scale(self) -> Scale:
        """The sections of the chosen budget."""
        name = self.budget
        return Scale(
            self.budgets[name], self.sweep.budgets[name], self.ablation.budgets[name], self.transfer.budgets[name]
        )

    @model_validator(mode="after")
    def _data_known(self) -> Self:
        for name, source in self.data.items():
            if name in CATALOG and source != DataSource(optional=source.optional):
                raise ValueError(f"no key but optional in data.{name}, which the catalog describes")
            if name not in (*CATALOG, *ARCHIVES) and source.path is None:
                known = ", ".join([*CATALOG, *ARCHIVES])
                raise ValueError(f"one of {known} in data, or a path to an image folder in data.{name}")
            if name not in CATALOG and source.size is None:
                raise ValueError(f"a size in data.{name}: its images are resized to size×size pixels")
        return self

    @model_validator(mode="after")
    def _budget_everywhere(self) -> Self:
        stages: dict[str, Params | Sweep | Ablation | Transfer]
        stages = {"": self, "sweep.": self.sweep, "ablation.": self.ablation, "transfer.": self.transfer}
        for prefix, stage in stages.items():
            if self.budget not in stage.budgets:
                raise ValueError(f"a section {prefix}budgets.{self.budget}, because budget is {self.budget}")
        return self

    @model_validator(mode="after")
    def _variants_agree(self) -> Self:
        known = {**self.variants, **self.on_demand}
        if twice := self.variants.keys() & self.on_demand.keys():
            raise ValueError(f"{min(twice)} in only one of variants and on_demand")
        if TUNED in known:
            raise ValueError(f"no variant {TUNED}, a name reserved for the best variant of the sweep")
        # DVC trains every entry of variants, so an unavailable data set would stop the pipeline.
        required = [name for name, source in self.data.items() if not source.optional]
        for name, variant in known.items():
            section = "variants" if name in self.variants else "on_demand"
            allowed = required if section == "variants" else [*self.data]
            if variant.data not in allowed:
                raise ValueError(f"one of {', '.join(allowed)} in {section}.{name}.data, not {variant.data!r}")
            if variant.augment.crop and variant.data in CATALOG:
                raise ValueError(f"no augment.crop in {section}.{name}, which is for image folders")
            if variant.init_from and section == "variants":  # DVC does not know which variant to train first
                raise ValueError(f"no init_from in variants.{name}, only in on_demand")
            if variant.init_from and variant.init_from.variant not in known.keys() - {name}:
                raise ValueError(f"another variant in {section}.{name}.init_from, not {variant.init_from.variant!r}")
        return self

    @model_validator(mode="after")
    def _studies_agree(self) -> Self:
        known = {**self.variants, **self.on_demand}
        for name, stage in (("sweep", self.sweep), ("ablation", self.ablation)):
            if stage.base not in self.variants:
                raise ValueError(f"one of {', '.join(self.variants)} in {name}.base")
            if stage.data != (data := self.variants[stage.base].data):
                raise ValueError(f"{data} in {name}.data, because {name}.base trains on it")
        for step in self.ablation.ladder:
            if step not in known or known[step].data != self.ablation.data:
                raise ValueError(f"variants on {self.ablation.data} in ablation.ladder, not {step!r}")
            if known[step].init_from:
                raise ValueError(f"variants without init_from in ablation.ladder, not {step!r}")
        return self

    @model_validator(mode="after")
    def _transfers_agree(self) -> Self:
        budget, where = self.scale.transfer, f"transfer.budgets.{self.budget}"
        for target in budget.targets:
            if target not in self.data:
                raise ValueError(f"data sets of section data in {where}.targets, not {target!r}")
        known = {**self.variants, **self.on_demand}
        for name in [*budget.variants, *chain.from_iterable(budget.variants.values())]:
            if name not in known:
                raise ValueError(f"variants in {where}.variants, not {name!r}")
        for name in budget.variants:
            if not known[name].network.adaptable or known[name].init_from:
                raise ValueError(
                    f"variants with network homework and without init_from in {where}.variants, not {name!r}"
                )
        return self


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml.

    Raises UserError with one line per error: the key, what is expected and what was received.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} not found. Run the command in the project folder.") from error
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {explain(e, tree, Params)}" for e in error.errors())) from error


def variants(params: Params) -> dict[str, Variant]:
    """The pipeline's variants by name: those of section `variants`, and `tuned` if a sweep has found it."""
    return {**params.variants, **({TUNED: _tuned()} if BEST.exists() else {})}


def variant(params: Params, name: str) -> Variant:
    """The variant called `name`. Raises UserError, with the known names, if there is none."""
    known = {**params.variants, **params.on_demand}
    if name not in known:
        known |= variants(params)  # reads the sweep's result, which may be damaged
    if name not in known:
        raise UserError(f"Unknown variant. Expected one of: {', '.join(known)}. Received: {name!r}.")
    return known[name]


def _tuned() -> Variant:
    command = f"rm -r {BEST.parent} && make sweep"
    try:
        return Variant.model_validate(YAML(typ="safe", pure=True).load(verified(BEST, command)))
    except (YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"Invalid {BEST}. Expected: a variant written by a sweep. Received: {reason}. To fix this, run: {command}"
        ) from error


def runs(params: Params, name: str, seeds: int | None = None) -> list[Run]:
    """The runs of variant `name` under the chosen budget: one recipe with seeds 0, 1, …

    The budget caps epochs and training images but never raises them. `seeds` overrides its number of seeds.
    Raises UserError for an unknown variant or fewer than one seed.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"Invalid number of seeds. Expected 1 or more. Received: {seeds}.")
    chosen, budget = variant(params, name), params.scale.training
    epochs = chosen.epochs if budget.epochs is None else min(chosen.epochs, budget.epochs)
    recipe = {name: getattr(chosen, name) for name in Recipe.model_fields} | {"epochs": epochs}
    origin = (
        f"{variant(params, chosen.init_from.variant).data}/{chosen.init_from.variant}" if chosen.init_from else None
    )
    return [
        Run(
            **recipe,
            variant=name,
            seed=seed,
            validation=set_aside(params, chosen.data, chosen.validation),
            train_images=budget.train_images,
            fold=budget.fold(seed),
            origin=origin,
        )
        for seed in range(seeds or budget.seeds)
    ]


def set_aside(params: Params, data: str, *preferred: int | None) -> int:
    """The number of training images of data set `data` that are set aside for validation.

    The first number in `preferred` (such as those of a budget and a variant), the data set's, preprocess.validation.
    """
    return next(filter(None, (*preferred, params.data[data].validation)), params.preprocess.validation)
