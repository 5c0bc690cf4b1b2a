"""params.yaml as strict typed objects: unknown keys and impossible values are errors that say what is valid."""

import difflib
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cnnlab.data.catalog import CATALOG
from cnnlab.errors import UserError, run

PARAMS = Path("params.yaml")

Count = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _known_data_set(name: str) -> str:
    if name not in CATALOG:
        raise ValueError(f"one of: {', '.join(CATALOG)}")
    return name


DataSetName = Annotated[str, AfterValidator(_known_data_set)]


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
    """Which devices train together."""

    replicas: Count


class LessonNetwork(Section):
    """A network of the course without knobs."""

    name: Literal["lenet5", "slides"]


class HomeworkNetwork(Section):
    """The configurable CIFAR-10 network; `filters` has one entry a stage of two convolutions."""

    name: Literal["homework"]
    filters: list[Count] = Field(min_length=1)
    conv_dropout: Fraction
    dense_units: Count
    dense_dropout: Fraction


NETWORKS = (LessonNetwork, HomeworkNetwork)
Network = Annotated[LessonNetwork | HomeworkNetwork, Field(discriminator="name")]


class Optimizer(Section):
    """A Keras optimizer with its learning rate, optionally with the lesson's inverse-time decay a step."""

    name: Literal["sgd", "adam", "rmsprop"]
    learning_rate: Positive
    decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Augment(Section):
    """Random changes of each training image; `shift` is the largest shift as a share of height and width."""

    shift: Fraction = 0.0
    flip: bool = False


class Variant(Section):
    """One network with one recipe on one data set."""

    data: DataSetName
    network: Network
    validation: Count | None = None
    epochs: Count
    batch_size: Count
    optimizer: Optimizer
    augment: Augment = Augment()


class Params(Section):
    """The whole of params.yaml."""

    budget: Literal["smoke", "laptop", "full"]
    budgets: dict[Literal["smoke", "laptop", "full"], Budget]
    fetch: Fetch
    preprocess: Preprocess
    strategy: Strategy
    variants: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], Variant] = Field(min_length=1)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.budget not in self.budgets:
            raise ValueError(f"a section budgets.{self.budget}, because budget is {self.budget}")
        for name, variant in self.variants.items():
            if variant.data not in self.fetch.sets:
                raise ValueError(f"{variant.data} in fetch.sets, because variants.{name} trains on it")
        return self


class Run(Section):
    """One training: a variant under a budget with a seed, everything that decides its result."""

    variant: str
    seed: Seed
    data: DataSetName
    network: Network
    validation: Count
    train_images: Count | None
    epochs: Count
    batch_size: Count
    optimizer: Optimizer
    augment: Augment
    replicas: Count


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


def variant(params: Params, name: str) -> Variant:
    """The variant called `name`; UserError with the known names if there is none."""
    if name not in params.variants:
        raise UserError(f"Unknown variant. Expected one of: {', '.join(params.variants)}. Received: {name!r}.")
    return params.variants[name]


def runs(params: Params, name: str) -> list[Run]:
    """The runs of variant `name` under the chosen budget: seeds 0, 1, … of one recipe.

    The budget caps epochs and training images; it never raises them.
    """
    chosen, budget = variant(params, name), params.budgets[params.budget]
    epochs = chosen.epochs if budget.epochs is None else min(chosen.epochs, budget.epochs)
    return [
        Run(
            variant=name,
            seed=seed,
            data=chosen.data,
            network=chosen.network,
            validation=chosen.validation or params.preprocess.validation,
            train_images=budget.train_images,
            epochs=epochs,
            batch_size=chosen.batch_size,
            optimizer=chosen.optimizer,
            augment=chosen.augment,
            replicas=params.strategy.replicas,
        )
        for seed in range(budget.seeds)
    ]


def _explain(error: Any, tree: Any) -> str:
    """One line for one pydantic error: key, what is invalid, what is valid, what was received."""
    key, received, valid_keys = _locate(error["loc"], tree)
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
            expected = re.sub(r"^\w+ should (be )?", "", error["msg"])
            return f"Invalid {key or 'file'}. Expected: {expected}. Received: {received!r}."


def _locate(location: tuple[Any, ...], tree: Any) -> tuple[str, Any, list[str]]:
    """The dotted key of an error, the value received there, and the keys valid in the innermost section around it."""
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
        return ".".join(keys[:-1]), keys[-1], valid
    return ".".join(keys), tree, valid


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
