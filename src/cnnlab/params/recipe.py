"""The sections of params.yaml that define a training: data, network, optimizer, augmentation."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, SerializeAsAny, model_validator
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Section(BaseModel):
    """A section of params.yaml: immutable, without unknown keys or implicit conversions."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Network(Section):
    """The settings of a network family: a subclass in `nets/families` that is registered with `family`."""

    name: str

    adaptable: ClassVar[bool] = False  # whether its stages and head can be adapted to other data sets
    initial_images: ClassVar[int] = 0  # the number of training images that `initialise` needs

    def scaling(self, mean: list[float], std: list[float]) -> dict[str, Any]:
        """Arguments of `keras.layers.Rescaling` for pixels in [0, 1], given the mean and deviation of each channel."""
        del mean, std
        return {}

    def model(self, shape: tuple[int, ...], classes: int, **scaling: Any) -> Any:
        """The Keras model: (batch, height, width, channels) floats to (batch, classes) logits.

        Raises ValueError, which names the layer, if the images are too small.
        """
        raise NotImplementedError

    def initialise(self, model: Any, images: Any) -> None:
        """Initialise weights from training images, uint8 (n, height, width, channels)."""


FAMILIES: dict[str, type[Network]] = {}


def family(network: type[Network]) -> type[Network]:
    """Register a network family under all values that its `name` may have."""
    FAMILIES.update(dict.fromkeys(get_args(network.model_fields["name"].annotation), network))
    return network


def _of_family(value: Any) -> Network:
    if isinstance(value, Network):
        return value
    name = value.get("name") if isinstance(value, dict) else value
    if not isinstance(name, str) or name not in FAMILIES:
        raise PydanticCustomError("unknown_network", "one of {known}", {"known": ", ".join(FAMILIES)})
    return FAMILIES[name].model_validate(value)


AnyNetwork = Annotated[SerializeAsAny[Network], PlainValidator(_of_family)]


class Schedule(Section):
    """The learning rate of each step relative to its peak; `warm_up` is a share of all steps.

    `decay` is a setting of inverse_time, the lesson's schedule, and `final`, the relative rate of the last step, of
    cosine and linear. one_cycle rises during its warm_up and falls afterwards.
    """

    name: Literal["constant", "inverse_time", "cosine", "linear", "one_cycle"] = "constant"
    warm_up: Fraction = 0.0
    decay: NonNegative = 0.0
    final: Fraction = 0.0

    @model_validator(mode="after")
    def _settings_apply(self) -> Self:
        if self.decay and self.name != "inverse_time":
            raise ValueError("no decay, a setting of schedule inverse_time")
        if self.final and self.name not in ("cosine", "linear"):
            raise ValueError("no final, a setting of schedules cosine and linear")
        if self.name == "one_cycle" and not self.warm_up:
            raise ValueError("a warm_up above 0, because one_cycle rises before it falls")
        return self


# By name: the class in `keras.optimizers` (or in OWN of train/optimizers.py), and the settings of `Optimizer` that not
# every optimizer has, each with the argument of the class that it sets.
OPTIMIZERS: dict[str, tuple[str, dict[str, str]]] = {
    "sgd": ("SGD", {"momentum": "momentum"}),
    "adam": ("Adam", {}),
    "rmsprop": ("RMSprop", {}),
    "muon": (
        "Muon",
        {"momentum": "momentum", "adam_share": "adam_lr_ratio", "rms_rate": "rms_rate", "ns_steps": "ns_steps"},
    ),
}


def _known_optimizer(name: str) -> str:
    if name not in OPTIMIZERS:
        raise ValueError(f"one of: {', '.join(OPTIMIZERS)}")
    return name


class Optimizer(Section):
    """An optimizer and its learning rate schedule.

    `momentum` is Nesterov's (sgd, muon); `weight_decay` is decoupled and skips biases and normalisations (with adam,
    this is AdamW); `clip_norm` bounds the global norm of the gradient; `ema` is the momentum of a moving average of the
    weights, 0 for none. Settings of muon: `adam_share`, the relative learning rate of the weights that Adam updates;
    `rms_rate`, the root mean square of a step at rate 1, or None to limit the norm of each filter's step to 1;
    `ns_steps`, the number of Newton–Schulz iterations: with few, directions with small gradients stay small.
    """

    name: Annotated[str, AfterValidator(_known_optimizer)]
    learning_rate: Positive
    schedule: Schedule = Schedule()
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    ema: Fraction = 0.0
    adam_share: Positive = 1.0
    rms_rate: Positive | None = 0.2
    ns_steps: Count = 5

    @model_validator(mode="after")
    def _settings_apply(self) -> Self:
        for setting in dict.fromkeys(key for _, own in OPTIMIZERS.values() for key in own):
            owners = [name for name, (_, own) in OPTIMIZERS.items() if setting in own]
            if self.name not in owners and getattr(self, setting) != type(self).model_fields[setting].default:
                kind = "optimizer" if len(owners) == 1 else "optimizers"
                raise ValueError(f"no {setting}, a setting of {kind} {' and '.join(owners)}")
        return self


class Transform(NamedTuple):
    """An augmentation as metadata of its setting in `Augment`; 0 switches it off.

    `function(images, setting, *draws)` returns the changed images, which are then clipped to [0, 1]. `images` are
    floats (batch, height, width, channels) in [0, 1]; each of the draws is uniform in [0, 1), (batch, 1, 1, 1).
    """

    function: Callable[..., Any]
    draws: int = 1


class Augment(Section):
    """Augmentation of training images.

    `crop` is the smallest area of a random crop relative to the image, for image folders only; 0 uses the centre
    square; aspect ratios are 3:4 to 4:3 (Szegedy et al. 2015, arXiv:1409.4842, section 6). `shift` is the largest shift
    relative to height and width, by fractions of a pixel unless `whole_pixels`; `fill` determines the uncovered pixels.
    `flip` mirrors images horizontally, at random or in alternating epochs. `rotation` is the largest angle in degrees.
    `brightness` is the largest change of all pixels (white is 1), `contrast` the largest relative change of the
    distances to the image's mean. `cutout` is the side of a square set to the image's mean, relative to the height.
    `mixup` and `cutmix` are the α of their Beta(α, α) distributions, 0 for none.
    """

    crop: Fraction = 0.0
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


class TTA(Section):
    """Test-time augmentation: logits are averaged over mirrored views and diagonal shifts by `shift` pixels."""

    flip: bool = False
    shift: Annotated[int, Field(ge=0)] = 0


class InitFrom(Section):
    """Initialisation with the weights of another, trained variant, in the layers that match.

    If `frozen`, these layers are not trained.
    """

    variant: Name
    frozen: bool = False


class Recipe(Section):
    """The data, network and hyperparameters of a training."""

    data: str
    network: AnyNetwork
    epochs: Count
    batch_size: Count
    optimizer: Optimizer
    augment: Augment = Augment()
    label_smoothing: Fraction = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    early_stopping: Count | None = None  # epochs without improvement of the validation loss
    tta: TTA = TTA()
    init_from: InitFrom | None = None


class Variant(Recipe):
    """An entry of `variants`, which the pipeline trains, or of `on_demand`, for `make train VARIANT=…`."""

    validation: Count | None = None


class Run(Recipe):
    """One training: a variant under a budget with a seed. It contains everything that determines the result."""

    variant: str
    seed: Seed
    validation: Count
    train_images: Count | None
    fold: Seed = 0  # which of the training images are set aside for validation
    passes: Count = 1  # over the training images per epoch
    origin: str | None = None  # the folder below models/ of the variant in `init_from`
