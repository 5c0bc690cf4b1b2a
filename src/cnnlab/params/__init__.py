"""params.yaml as strict typed objects: unknown keys and impossible values are errors that say what is valid."""

from itertools import chain
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cnnlab.data.catalog import ARCHIVES, CATALOG
from cnnlab.errors import UserError
from cnnlab.files import REPORTS
from cnnlab.params.mistakes import explain
from cnnlab.params.recipe import (
    Augment,
    HomeworkNetwork,
    LessonNetwork,
    Name,
    Optimizer,
    Recipe,
    Run,
    Schedule,
    Section,
    SpeedrunNetwork,
    Start,
    Variant,
    Views,
)
from cnnlab.params.stages import (
    Ablation,
    AblationBudget,
    Budget,
    DataSource,
    Fetch,
    Preprocess,
    Report,
    Searched,
    Strategy,
    Sweep,
    SweepBudget,
    Train,
    Transfer,
    TransferBudget,
)

__all__ = [
    "Ablation",
    "AblationBudget",
    "Augment",
    "Budget",
    "DataSource",
    "HomeworkNetwork",
    "LessonNetwork",
    "Optimizer",
    "Params",
    "Recipe",
    "Report",
    "Run",
    "Schedule",
    "Searched",
    "Section",
    "SpeedrunNetwork",
    "Start",
    "Strategy",
    "Sweep",
    "SweepBudget",
    "Train",
    "Transfer",
    "TransferBudget",
    "Variant",
    "Views",
    "load",
    "runs",
    "set_aside",
    "variant",
    "variants",
]

PARAMS = Path("params.yaml")
TUNED, BEST = "tuned", REPORTS / "sweep/best.yaml"  # the variant that a sweep found, and where it stands


class Params(Section):
    """The whole of params.yaml."""

    budget: Literal["smoke", "laptop", "full"]
    budgets: dict[Literal["smoke", "laptop", "full"], Budget]
    data: dict[Name, DataSource] = Field(min_length=1)
    optional_data: dict[Name, DataSource] = Field(default_factory=dict)
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

    @model_validator(mode="after")
    def _data_known(self) -> Self:
        for section, sources in (("data", self.data), ("optional_data", self.optional_data)):
            for name, source in sources.items():
                where = f"{section}.{name}"
                if name in CATALOG and source != DataSource():
                    raise ValueError(f"nothing in {where}, as the catalog knows the set")
                if name not in (*CATALOG, *ARCHIVES) and source.path is None:
                    known = ", ".join([*CATALOG, *ARCHIVES])
                    raise ValueError(f"in {section} one of {known}, or a path for {name}, a folder of pictures")
                if name not in CATALOG and source.size is None:
                    raise ValueError(f"a size in {where}, the side in pixels that its pictures are trained at")
        if twice := self.data.keys() & self.optional_data.keys():
            raise ValueError(f"{min(twice)} in either data or optional_data")
        # What may be out of reach must not stop the pipeline.
        allowed = {"variants": [*self.data], "on_demand": [*self.data, *self.optional_data]}
        for section, entries in (("variants", self.variants), ("on_demand", self.on_demand)):
            for name, variant in entries.items():
                if variant.data not in allowed[section]:
                    known = ", ".join(allowed[section])
                    raise ValueError(f"one of {known} in {section}.{name}.data, not {variant.data!r}")
                if variant.augment.crop and variant.data in CATALOG:
                    raise ValueError(f"no augment.crop in {section}.{name}: it belongs to folders of pictures")
        return self

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
            if known[rung].start:
                raise ValueError(f"variants without start in ablation.ladder, not {rung!r}")
        if twice := self.variants.keys() & self.on_demand.keys():
            raise ValueError(f"{min(twice)} in either variants or on_demand")
        for section, entries in (("variants", self.variants), ("on_demand", self.on_demand)):
            if TUNED in entries:
                raise ValueError(f"no variant {TUNED}, which is the name of the one that the sweep finds")
            for name, variant in entries.items():
                if variant.start and section == "variants":  # DVC cannot know that the other one comes first
                    raise ValueError(f"no start in variants.{name}: it belongs to on_demand")
                if variant.start and variant.start.variant not in known.keys() - {name}:
                    raise ValueError(f"another variant in {section}.{name}.start, not {variant.start.variant!r}")
        return self

    @model_validator(mode="after")
    def _transfers_agree(self) -> Self:
        if self.budget not in self.transfer.budgets:
            raise ValueError(f"a section transfer.budgets.{self.budget}, because budget is {self.budget}")
        budget, where = self.transfer.budgets[self.budget], f"transfer.budgets.{self.budget}"
        for target in budget.targets:
            if target not in {**self.data, **self.optional_data}:
                raise ValueError(f"sets of data or optional_data in {where}.targets, not {target!r}")
        if len({*budget.targets}) < len(budget.targets):
            raise ValueError(f"each data set once in {where}.targets")
        known = {**self.variants, **self.on_demand}
        for name in [*budget.variants, *chain.from_iterable(budget.variants.values())]:
            if name not in known:
                raise ValueError(f"variants in {where}.variants, not {name!r}")
        for name in budget.variants:
            if not isinstance(known[name].network, HomeworkNetwork) or known[name].start:
                raise ValueError(f"variants with network homework and without start in {where}.variants, not {name!r}")
        return self


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
        raise UserError("\n".join(f"{path}: {explain(e, tree, Params)}" for e in error.errors())) from error


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
    origin = f"{variant(params, chosen.start.variant).data}/{chosen.start.variant}" if chosen.start else None
    return [
        Run(
            **recipe,
            variant=name,
            seed=seed,
            validation=set_aside(params, chosen),
            train_images=budget.train_images,
            origin=origin,
        )
        for seed in range(seeds or budget.seeds)
    ]


def set_aside(params: Params, variant: Variant) -> int:
    """How many training images of its data set a variant keeps for validation."""
    source = {**params.data, **params.optional_data}[variant.data]
    return variant.validation or source.validation or params.preprocess.validation
