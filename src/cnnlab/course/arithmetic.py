"""Sections of the lesson that compute what the slides show, from images as numbers to the anatomy of networks."""

import json
from collections.abc import Sequence

from cnnlab.course.tables import Course, Row
from cnnlab.report.document import Page


def write(course: Course, page: Page) -> None:
    """Write the sections on tensors, convolution, sizes, activations and pooling to `page`."""
    for section in (tensors, convolution, sizes, activations):
        section(course, page)


def tensors(course: Course, page: Page) -> None:
    """Images as arrays of numbers."""
    page.heading("An image is an array of numbers")
    rows = [
        {**row, "value": json.dumps(row["value"]), "shape": " × ".join(map(str, row["shape"])) or "–"}
        for row in course.examples["tensors"]
    ]
    page.records(rows, {"name": "{name:message}", "value": "`{value}`", "shape": "{shape}"}, 3)
    page.text(
        "An image is a tensor of height × width × channels: 28×28×1 in greyscale, 32×32×3 in colour. A batch of images "
        "has one more axis."
    )
    for name in course.coloured():
        page.picture(
            f"channels-{name}.png",
            "The reddest, the greenest and the bluest of 500 images, and their three channels; brighter is larger",
        )
        page.text(
            "Each channel is a matrix of its own, here shown in grey. A red object is bright in the red channel and "
            "dark in the others; grey, white and black are the same in all three. A filter of the first layer has a "
            "3×3 matrix for each channel and adds up the three results."
        )


def convolution(course: Course, page: Page) -> None:
    """The operation itself, the filter that detects a vertical line, and the parameters of the slides' convolutions."""
    example = course.examples["convolution"]
    page.heading("Convolution")
    page.text(
        "The filter is placed over a patch of the image, the numbers are multiplied element by element, and their sum "
        "is one element of the output. Then the filter moves on by the stride."
    )
    page.picture("convolution.png", "The slide's convolution: its output with stride 1 and with stride 2")
    printed, output = (f"`{json.dumps(rows)}`" for rows in (example["printed"], example["outputs"]["2"]))
    english = (
        "The slide prints {printed} for stride 2. These are the first three rows and columns of the output with stride "
        "1 (dashed); with stride 2, this image and this filter give {output}. The output size on the slide, "
        "{size}×{size}, is correct."
    )
    page.text(english, printed=printed, output=output, size=example["size"])
    page.text(
        "The handout's filter for a vertical line outputs 3 wherever it covers three pixels of the line; the maximum, "
        "{output:count}, is what the handout prints.",
        output=course.examples["detector"]["output"],
    )
    page.picture("detector.png", "The handout's image of a vertical line, the filter, and its feature map")
    page.heading("Convolution or cross-correlation?", 3)
    page.text(
        "In mathematics, a convolution flips the filter along both axes first. Layers of neural networks do not: they "
        "compute a cross-correlation (Goodfellow et al. 2016, Deep Learning, section 9.1). The filter is learnt, so a "
        "network that flipped it would learn the flipped one. SciPy agrees: `correlate2d(image, filter)` gives the "
        "layer's output, and so does `convolve2d(image, flipped)`; `convolve2d(image, filter)` gives other numbers."
    )
    page.picture(
        "flipped.png",
        "The slide's filter and the flipped one; the layer's output and that of a mathematical convolution, unpadded",
    )
    page.heading("Parameters of a convolution: 3 × 3 × N × K", 3)
    page.text(
        "Each of the K filters has 3 × 3 weights for each of the N input channels, and a bias. Each filter produces "
        "one feature map, whatever the size of the image."
    )
    rows = [row for row in course.networks["slides"]["layers"] if row["layer"] == "Conv2D"]
    filters = [int(row["output"].split("×")[2]) for row in rows]
    rows = [row | {"n": n, "k": k} for row, n, k in zip(rows, [1, *filters], filters, strict=False)]
    columns = {
        "layer": "{layer}",
        "N": "{n}",
        "K": "{k}",
        "weights and biases": "3 × 3 × {n} × {k} + {k}",
        "parameters": "{parameters:count}",
    }
    page.records(rows, columns, 1)


def sizes(course: Course, page: Page) -> None:
    """The slides' formula of the output size and exercise on receptive fields, and the values of the networks."""
    page.heading("Stride, padding and output size")
    page.text(
        "W₂ = (W₁ − F + 2P) / S + 1, rounded down, for W₁ pixels in a row, filter width F, 2P pixels of padding in "
        "total at both edges, and stride S; there are as many maps as filters. Padding `same` is chosen so that "
        "W₂ = ⌈W₁ / S⌉; `valid` adds none."
    )
    networks = course.networks.values()
    rows = [row | {"title": n["title"]} for n in networks for row in n["layers"] if row["window"]]
    columns = {"network": "{title:name}", "layer": "{layer}", "(W₁ − F + 2P) / S + 1": "{window}", "output": "{output}"}
    page.records(rows, columns, 4)
    page.heading("Padding with zeros or otherwise", 3)
    page.text(
        "`same` and `valid` say how much is padded, not with what: zeros «or otherwise», say the slides. The fillings "
        "change the output only where the filter extends beyond the image. Zeros are a dark frame that the filter "
        "takes for an edge; repeated or reflected pixels look like more of the image. Keras's `Conv2D` pads with "
        'zeros; for reflection, `keras.ops.pad(image, width, mode="reflect")` comes before a `valid` convolution.'
    )
    page.picture(
        "padding.png",
        "The slide's image (framed) padded in three ways, and the outputs of its filter, which agree inside the frame",
    )
    for name in course.coloured():
        page.picture(
            f"padding-{name}.png", "The same fillings around a photograph, a quarter of its width at each edge"
        )
    page.heading("Receptive field: how many pixels does a neuron of each layer see?")
    page.text(
        "Each 3×3 layer extends the field by one pixel on every side: 3×3, 5×5, 7×7, 9×9. A convolution or pooling "
        "with stride S multiplies the step of all later layers by S."
    )
    page.picture(
        "exercise.png",
        "Receptive field of one neuron in each of four 3×3 layers; darker pixels are in the fields of more layers",
    )
    for row in course.seen:
        name = row["variant"]
        page.picture(f"../see/{name}/fields.png", "Receptive field of the middle unit of each layer", name)


def activations(course: Course, page: Page) -> None:
    """The slides' table of activation functions, and their pooling of a 4×4 map."""
    page.heading("Activation functions")
    rows = [{key: cell.replace("|", "\\|") for key, cell in row.items()} for row in course.activations]
    columns = {
        "name": "{name:name}",
        "function": "{function:value}",
        "derivative": "{derivative:value}",
        "range": "{range}",
    }
    page.records(rows, columns, 4)
    page.picture("activations.png", "The seven activation functions and their derivatives (dashed)")
    page.text(
        "Misprints in the slides: leaky ReLU is max(0.1x, x), not max(−0.1x, x); softsign lacks the bars of |x|; ELU "
        "approaches −α but never reaches it, so its range is open."
    )
    page.heading("Pooling")
    page.text(
        "Each 2×2 window of the map is reduced to one number: its maximum, mean or sum. This halves the height and the "
        "width, has no parameters, and discards the position within the window."
    )
    page.picture("pooling.png", "The slide's 4×4 feature map and its max, average and sum pooling")


def anatomy(course: Course, page: Page) -> None:
    """All networks of the project in one table."""
    page.heading("Anatomy of all networks")
    page.text(
        "For one image and one forward pass; memory is that of all outputs in float32. The receptive field is that of "
        "a unit before the head; if it is larger than the image, it includes padding. `make anatomy NET=name` prints "
        "all layers."
    )
    rows = [_totals(name, layers) for name, layers in course.anatomy.items()]
    columns = {
        "network": "{name}",
        "layers": "{layers}",
        "parameters": "{parameters:count}",
        "MFLOP": "{mflop:number.1}",
        "memory, KiB": "{kib:count}",
        "units, first layer": "{first:count}",
        "units, last hidden layer": "{last:count}",
        "receptive field": "{field}×{field}",
    }
    page.records(rows, columns, 1)
    if all(row["first"] > row["last"] for row in rows):
        page.text("The handout's pyramid: each network has fewer units in its last hidden layer than in its first.")


def _totals(name: str, layers: Sequence[Row]) -> Row:
    first = next(row for row in layers if row["layer"] == "Conv2D")
    classifier = max(index for index, row in enumerate(layers) if row["layer"] == "Dense")
    return {
        "name": name,
        "layers": len(layers),
        "parameters": sum(row["parameters"] for row in layers),
        "mflop": sum(row["flop"] for row in layers) / 1e6,
        "kib": sum(row["bytes"] for row in layers) / 1024,
        "first": first["bytes"] // 4,
        "last": layers[classifier - 1]["bytes"] // 4,
        "field": [row["receptive_field"] for row in layers if row["receptive_field"]][-1],
    }
