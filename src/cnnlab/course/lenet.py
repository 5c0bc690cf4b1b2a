"""The section of the lesson on LeNet-5: the network published in 1998 beside the handout's."""

from cnnlab.course.tables import Course, Row
from cnnlab.report.document import Page

# Layer, output and trainable parameters in LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86(11), section II.B,
# doi:10.1109/5.726791. The 840 weights of the output layer were fixed.
PUBLISHED = (
    ("C1", "28×28×6", 156),
    ("S2", "14×14×6", 12),
    ("C3", "10×10×16", 1_516),
    ("S4", "5×5×16", 32),
    ("C5", "1×1×120", 48_120),
    ("F6", "84", 10_164),
    ("output", "10", 0),
)


def write(course: Course, page: Page) -> None:
    """Write the section to `page`."""
    page.heading("LeNet-5 in 1998 and in the handout", 3)
    networks = course.networks["lenet5"]["layers"], course.lenet
    printed, halved = ([row for row in layers if row["layer"] != "Flatten"] for layers in networks)
    rows: list[Row] = [
        {"name": name, "output": output, "parameters": parameters, "handout": ours, "halved": theirs}
        for (name, output, parameters), ours, theirs in zip(PUBLISHED, printed, halved, strict=True)
    ]
    columns = {
        "layer": "{name:name}",
        "output, 1998": "{output}",
        "parameters, 1998": "{parameters:count}",
        "output, handout": "{handout[output]}",
        "parameters, handout": "{handout[parameters]:count}",
        "output, stride 2": "{halved[output]}",
        "parameters, stride 2": "{halved[parameters]:count}",
    }
    page.records(rows, columns, 1)
    totals = [sum(row["parameters"] for row in layers) for layers in (rows, printed, halved)]
    page.text(
        "Trainable parameters: {published:count} in 1998 (LeCun et al., doi:10.1109/5.726791, section II.B), "
        "{printed:count} in the handout. Its first pooling has stride 1, where both had stride 2 in 1998. The maps "
        "therefore stay large, and the layer of 84 units has {inputs:count} inputs in place of 120: {dense:count} "
        "parameters. With stride 2 in both, the handout's network has {halved:count} parameters.",
        published=totals[0],
        printed=totals[1],
        halved=totals[2],
        inputs=printed[5]["parameters"] // 84 - 1,
        dense=printed[5]["parameters"],
    )
    page.text(
        "Further differences in 1998: images of 32×32 pixels in place of padding; a trainable factor and bias per map "
        "in the pooling; maps of C3 that each read 3, 4 or 6 of the 6 maps of S2; the activation 1.7159 tanh(2x/3); "
        "and an output of distances to fixed codes in place of softmax."
    )
