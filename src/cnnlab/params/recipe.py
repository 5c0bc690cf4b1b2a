"""What a training is made of: data, network, optimizer, augmentation; sections of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no silent conversion, no change after reading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class LessonNetwork(Section):
    """A network of the course without knobs."""

    name: Literal["lenet5", "slides"]


class HomeworkNetwork(Section):
    """The configurable CIFAR-10 network; the defaults are the lesson's.

    `filters`, `blocks` (number of convolutions) and `conv_dropout` (after the pool) have one entry a stage. `kernel` is
    the side of every convolution. The first has stride `stem_stride`, and a kernel that leaves out no pixel. `padding`
    is that of a stage's last one; the others are same. `batch_norm` puts a normalisation between each hidden layer and
    its `activation`. `pooling` stride is a 2×2 convolution with stride 2. `dense_units` 0 is no hidden dense layer
    after the `head`, and no `dense_dropout`. `inputs` are pixels in [0, 1], in [0, 255], or with mean 0 and deviation 1
    in each channel of the training images.
    """

    name: Literal["homework"]
    filters: list[Count] = Field(min_length=1)
    blocks: list[Count]
    conv_dropout: list[Fraction]
    kernel: Count = 3
    stem_stride: Count = 1
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
    0 for none. Three are muon's: `adam_share` is the rate of what it leaves to Adam, as a share of its own; `rms_rate`
    the root mean square of a step at rate 1, None for steps whose filters have norm 1 at most; `ns_steps` how many
    Newton–Schulz steps make it orthogonal: of few, directions with a small gradient stay small.
    """

    name: Literal["sgd", "adam", "rmsprop", "muon"]
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
    def _knobs_belong(self) -> Self:
        if self.momentum and self.name not in ("sgd", "muon"):
            raise ValueError("no momentum, which belongs to optimizers sgd and muon")
        for knob in ("adam_share", "rms_rate", "ns_steps"):
            if getattr(self, knob) != type(self).model_fields[knob].default and self.name != "muon":
                raise ValueError(f"no {knob}, which belongs to optimizer muon")
        return self


class Augment(Section):
    """Random changes of each training image.

    `crop` is the smallest area of a random crop, as a share of a picture from a folder, 0 for the centre square; its
    sides have a ratio of 3:4 to 4:3 (Szegedy et al. 2015, arXiv:1409.4842, section 6). `shift` is the largest shift as
    a share of height and width, fractions of a pixel included unless `whole_pixels`; what it uncovers is filled by the
    `fill`. `flip` mirrors left to right: by chance, or every other epoch. `rotation` is the largest angle in degrees.
    `brightness` is the largest change of every pixel (white is 1), `contrast` the largest relative change of the
    distance to the image's mean. `cutout` is the side of a square set to the image's mean, as a share of the height.
    `mixup` and `cutmix` are the α of their Beta(α, α), 0 for none.
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


class Views(Section):
    """Test-time views whose logits are averaged: mirrored, and shifted by `shift` pixels along both diagonals' ends."""

    flip: bool = False
    shift: Annotated[int, Field(ge=0)] = 0


class Start(Section):
    """Weights to begin with: those of another variant, trained before, in the layers that are alike.

    Where `frozen`, these stay as they are, and the rest alone is trained.
    """

    variant: Name
    frozen: bool = False


class Recipe(Section):
    """What is trained on which data, and how."""

    data: str
    network: Network
    epochs: Count
    batch_size: Count
    optimizer: Optimizer
    augment: Augment = Augment()
    label_smoothing: Fraction = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    early_stopping: Count | None = None  # epochs without a better validation loss
    views: Views = Views()
    start: Start | None = None


class Variant(Recipe):
    """An entry of `variants`, which the pipeline trains, or of `on_demand`, which `make train VARIANT=…` does."""

    validation: Count | None = None


class Run(Recipe):
    """One training: a variant under a budget with a seed, everything that decides its result."""

    variant: str
    seed: Seed
    validation: Count
    train_images: Count | None
    passes: Count = 1  # over the training images in an epoch
    origin: str | None = None  # the folder below models/ of the variant that `start` names
