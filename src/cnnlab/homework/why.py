"""Why changes help or hurt: the mechanism of each factor, step and ingredient of the ablation, with its source."""

from dataclasses import dataclass

from cnnlab.evaluation.effects import IMPROVES, WORSENS


@dataclass(frozen=True)
class Mechanism:
    """Two sentences on what a change does, the `source`, and the verdict `expected` in a short training, if any.

    `names` are factors, steps and ingredients in params.yaml that this change is called.
    """

    names: tuple[str, ...]
    text: str
    source: str
    expected: str | None = None


MECHANISMS = (
    Mechanism(
        ("batch normalisation", "normalised"),
        "Activations keep mean 0 and variance 1 in every batch, so gradients neither vanish nor explode and the loss "
        "is smoother. The network tolerates larger rates and learns in fewer steps.",
        "Ioffe & Szegedy 2015, arXiv:1502.03167; Santurkar et al. 2018, arXiv:1805.11604",
        IMPROVES,
    ),
    Mechanism(
        ("no dropout", "undropped"),
        "Dropout prevents overfitting by training a random half of the network in each step. A training of a few "
        "epochs does not overfit yet, so it only makes gradients noisier.",
        "Srivastava et al. 2014, JMLR 15, 1929–1958",
        IMPROVES,
    ),
    Mechanism(
        ("double dropout",),
        "More units are dropped, so fewer of them learn from each image. In a short training this is underfitting, "
        "not protection from overfitting.",
        "Srivastava et al. 2014, JMLR 15, 1929–1958",
        WORSENS,
    ),
    Mechanism(
        ("no augmentation", "flip only", "shift only"),
        "Shifts and flips show the network new versions of the same images, which pays when images are seen many "
        "times. When each is seen once or twice, they only make the task harder.",
        "Shorten & Khoshgoftaar 2019, J. Big Data 6:60",
    ),
    Mechanism(
        ("and cutout", "and mixup"),
        "Hiding a part of each image or mixing two images is a strong regulariser. It costs accuracy until the "
        "network would overfit without it.",
        "DeVries & Taylor 2017, arXiv:1708.04552; Zhang et al. 2017, arXiv:1710.09412",
        WORSENS,
    ),
    Mechanism(
        ("half the filters",),
        "Fewer filters can describe fewer patterns. The network is cheaper, but underfits.",
        "Zagoruyko & Komodakis 2016, arXiv:1605.07146",
        WORSENS,
    ),
    Mechanism(
        ("double filters",),
        "More filters describe more patterns, and wide layers are easier to optimise. The price is about four times "
        "the operations.",
        "Zagoruyko & Komodakis 2016, arXiv:1605.07146",
        IMPROVES,
    ),
    Mechanism(
        ("one convolution a block", "three convolutions a block", "one convolution first"),
        "Several 3×3 convolutions in a row see as much as a large one with fewer weights and more non-linearities. "
        "Without normalisation, each further layer also makes gradients smaller and learning slower.",
        "Simonyan & Zisserman 2014, arXiv:1409.1556",
    ),
    Mechanism(
        ("kernel 5×5",),
        "A larger kernel sees more of the image in one layer. It has 25 weights per pair of channels instead of 9, "
        "which are learnt more slowly.",
        "Simonyan & Zisserman 2014, arXiv:1409.1556",
    ),
    Mechanism(
        ("average pooling", "strided convolution"),
        "Max pooling keeps the strongest response and tolerates small shifts. An average dilutes it, and a strided "
        "convolution has to learn how to summarise.",
        "Scherer et al. 2010, ICANN; Springenberg et al. 2014, arXiv:1412.6806",
    ),
    Mechanism(
        ("sigmoid", "softplus"),
        "The outputs are positive and far from 0, and the slope of the sigmoid is at most 1/4. Gradients shrink from "
        "layer to layer, and the first layers hardly learn.",
        "Glorot & Bengio 2010, AISTATS",
        WORSENS,
    ),
    Mechanism(
        ("tanh", "softsign"),
        "Outputs around 0 let the first steps be larger than with ReLU. For large inputs the slope vanishes, which "
        "costs accuracy in long trainings.",
        "LeCun et al. 1998, Efficient BackProp",
    ),
    Mechanism(
        ("leaky ReLU", "ELU"),
        "Units with negative inputs still pass a gradient, so none of them dies. The outputs of ELU are also closer "
        "to mean 0, which speeds up learning.",
        "Maas et al. 2013, ICML; Clevert et al. 2015, arXiv:1511.07289",
        IMPROVES,
    ),
    Mechanism(
        ("SGD",),
        "All weights share one rate, while RMSprop and Adam scale it by the size of each weight's gradients. SGD "
        "needs a rate tuned for the network.",
        "Choi et al. 2019, arXiv:1910.05446",
    ),
    Mechanism(
        ("Adam",),
        "Adam adds momentum and a bias correction to RMSprop. With the same rate, this mostly changes the first steps.",
        "Kingma & Ba 2014, arXiv:1412.6980",
    ),
    Mechanism(
        ("Muon", "muon"),
        "Muon makes the step of each weight matrix orthogonal, so all directions are learnt equally fast. It needs "
        "normalised activations, as its steps do not shrink with the gradient.",
        "Jordan et al. 2024, kellerjordan.github.io/posts/muon",
    ),
    Mechanism(
        ("learning rate 0.00003", "learning rate 0.0003"),
        "The learning rate is the length of a step. If it is below the best one, a short training ends on its way.",
        "Goodfellow et al. 2016, Deep Learning, section 11.4.1",
    ),
    Mechanism(
        ("learning rate 0.001", "learning rate 0.003"),
        "Longer steps learn faster, until they overshoot and the loss rises. The best rate depends on the number of "
        "steps.",
        "Goodfellow et al. 2016, Deep Learning, section 11.4.1",
    ),
    Mechanism(
        ("cosine schedule",),
        "A rate that falls to 0 averages out the noise of the last batches. If the training is short, it also loses "
        "part of its progress.",
        "Loshchilov & Hutter 2016, arXiv:1608.03983",
    ),
    Mechanism(
        ("one_cycle", "one cycle"),
        "The rate rises during a warm-up, when gradients are unreliable, and then falls to 0, which averages out "
        "noise. The peak may be higher than any constant rate that works.",
        "Smith & Topin 2017, arXiv:1708.07120",
        IMPROVES,
    ),
    Mechanism(
        ("batch 128", "batch 512", "batch_128"),
        "At the same rate, larger batches learn less, because an epoch has fewer steps. Each step has less noise and "
        "an epoch is faster, so a higher rate can make up for it.",
        "Goyal et al. 2017, arXiv:1706.02677",
        WORSENS,
    ),
    Mechanism(
        ("label smoothing", "smoothed"),
        "Targets of less than 1 stop the logits from growing, a mild regularisation. It makes the network less "
        "confident, and pays when it would otherwise overfit.",
        "Szegedy et al. 2015, arXiv:1512.00567; Müller et al. 2019, arXiv:1906.02629",
    ),
    Mechanism(
        ("weight decay",),
        "Weights shrink a little in each step, which prevents large ones. In a short training they do not "
        "become large.",
        "Loshchilov & Hutter 2017, arXiv:1711.05101",
    ),
    Mechanism(
        ("global pooling", "pooled"),
        "The hidden dense layer, which has most of the parameters, is replaced by one number per channel. The place "
        "of a feature is lost, and with it some accuracy in small networks.",
        "Lin et al. 2013, arXiv:1312.4400",
    ),
    Mechanism(
        ("standardised inputs",),
        "Inputs with mean 0 and variance 1 make the loss equally steep in all directions. The first layer learns "
        "faster.",
        "LeCun et al. 1998, Efficient BackProp",
        IMPROVES,
    ),
    Mechanism(
        ("inputs 0 to 255",),
        "Inputs that are 255 times as large make the first activations and gradients as large. Optimisers that scale "
        "their steps tolerate it; plain SGD diverges.",
        "LeCun et al. 1998, Efficient BackProp",
    ),
    Mechanism(
        ("augmented", "shifts with reflection"),
        "Shifts by whole pixels need no interpolation, reflection leaves no smeared edges, and alternating flips show"
        " each image and its mirror image equally often.",
        "Jordan 2024, arXiv:2404.00498",
        IMPROVES,
    ),
    Mechanism(
        ("deeper", "third stage"),
        "A third stage sees most of the image and describes larger parts of objects. Padding keeps the border, and "
        "the first stage, the most expensive one, is smaller.",
        "Simonyan & Zisserman 2014, arXiv:1409.1556",
        IMPROVES,
    ),
    Mechanism(
        ("improved", "test-time augmentation"),
        "A prediction is the mean over the image and its mirror image, whose errors differ. It costs twice the time "
        "of a prediction, and no training.",
        "Krizhevsky et al. 2012, NeurIPS",
        IMPROVES,
    ),
)
BY_NAME = {name: mechanism for mechanism in MECHANISMS for name in mechanism.names}
