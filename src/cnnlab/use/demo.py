"""A local page that classifies an image dropped on it, and shows what the network sees."""

import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import keras
import numpy as np
from matplotlib import colormaps
from PIL import Image

from cnnlab import params
from cnnlab.data.decode import read_image
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError, on_interrupt
from cnnlab.files import MODELS
from cnnlab.see import attribution, layers, plots
from cnnlab.tracking.classifier import Classifier, fitted
from cnnlab.train.outputs import Outputs
from cnnlab.use import network
from cnnlab.use.port import HOST, check_free

SIDE = 384  # pixels: small images are enlarged at least to this
EXAMPLES = 4  # example images per data set, of different classes
LISTED = 12  # class names at most
TOP = 5  # classes with probabilities
CACHED = 4  # networks in memory
OPACITY = 0.6  # of Grad-CAM over the image

TITLE = """<h1>What does the network see?</h1>
<p>Drop an image. A network trained on this machine classifies it, and shows where in the image it finds the class and
what its layers compute. The image stays on this machine.</p>"""
STYLE = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
h1 {font-size: 1.9rem; font-weight: 650; margin: .4rem 0 .2rem}
#error p {border-left: 4px solid #b5442e; background: #fbeeea; color: #5c1d10; padding: .6rem .9rem}
#error:not(:has(p)) {display: none}
#input, #cam, #maps {padding-top: 2.2rem}
#input img, #cam img, .gallery img {image-rendering: pixelated}
#image img {width: 100%; height: 100%; object-fit: contain}
#maps img {background: white}
"""


@dataclass(frozen=True)
class Choice:
    """A trained variant with its metrics."""

    variant: str
    data: str
    metrics: Mapping[str, float]


Load = Callable[[str], network.TrainedNetwork]  # of a variant; raises UserError if its files are missing or damaged


def trained(parameters: params.Params) -> dict[str, Choice]:
    """All trained networks by their names on the page: by data set, and within one from the worst to the best.

    Raises UserError if there are none, or if a metrics.json is damaged.
    """
    known = {**params.variants(parameters), **parameters.on_demand}
    choices = []
    for name, variant in known.items():
        outputs = Outputs(variant.data, name)
        if outputs.exist():
            choices.append(Choice(name, variant.data, outputs.metrics()))
    if not choices:
        raise UserError(
            f"No trained network in {MODELS}. Expected one of: {', '.join(known)}. "
            "To fix this, run: make repro, or make train VARIANT=improved"
        )
    sets = [*parameters.data]
    choices.sort(key=lambda choice: (sets.index(choice.data), choice.metrics["validation_accuracy"]))
    return {f"{choice.data} / {choice.variant}": choice for choice in choices}


def about(choice: Choice, classes: Sequence[str]) -> str:
    """An HTML paragraph: the network's size, accuracies and classes."""
    metrics = choice.metrics
    listed = ", ".join(classes[:LISTED]) + (f" and {len(classes) - LISTED} more" if len(classes) > LISTED else "")
    return (
        f"<p>{metrics['parameters']:,} parameters, {100 * metrics['validation_accuracy']:.1f} % validation accuracy, "
        f"{100 * metrics['test_accuracy']:.1f} % test accuracy. "
        f"It knows {len(classes)} classes and nothing else: {escape(listed)}.</p>"
    )


def enlarged(image: np.ndarray) -> np.ndarray:
    """Repeat the pixels of a uint8 image (height, width, 1 or 3) until a side has `SIDE` or more; returns RGB."""
    times = -(-SIDE // max(image.shape[:2]))
    return np.broadcast_to(image, (*image.shape[:2], 3)).repeat(times, axis=0).repeat(times, axis=1)


def overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Grad-CAM (height, width), black to yellow, over a uint8 image in grey; returns uint8 RGB."""
    grey = image.mean(axis=2, keepdims=True) / 255
    heat = colormaps["inferno"](cam / max(float(cam.max()), 1e-12))[..., :3]
    return np.asarray(np.round(255 * ((1 - OPACITY) * grey + OPACITY * heat)), np.uint8)


def feature_maps(model: keras.Model, image: np.ndarray) -> Image.Image:
    """A figure of a uint8 image and the strongest feature maps of each layer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.png"
        plots.maps(path, image, layers.feature_maps(model, image))
        with Image.open(path) as figure:
            return figure.convert("RGB")


def explain(classifier: Classifier, dropped: np.ndarray) -> list[Any]:
    """Probabilities, network input, Grad-CAM and feature maps of a uint8 image (height, width, 3) of any size."""
    complete = classifier.network
    model = complete.get_layer(complete.name)  # without the preprocessing that `nets.inference` adds
    image = fitted(dropped, complete.input_shape[1:])
    (probabilities,) = classifier.probabilities([dropped])
    label = int(probabilities.argmax())
    (cam,) = attribution.grad_cam(model, image[None], np.array([label]))
    size = f"{image.shape[1]}×{image.shape[0]}"
    return [
        dict(zip(classifier.classes, probabilities.tolist(), strict=True)),
        gr.update(value=enlarged(image), label=f"Network input, {size} pixels"),
        gr.update(value=enlarged(overlay(image, cam)), label=f"Grad-CAM: evidence for {classifier.classes[label]}"),
        feature_maps(model, image),
    ]


def respond(choice: Choice, load: Load, dropped: Mapping[str, Any] | None) -> list[Any]:
    """Values of the page's outputs: `about`, an error message, and those of `explain`, empty without an image."""
    description, message, shown = "", "", [gr.update(value=None)] * 4
    try:
        classifier = load(choice.variant).classifier
        description = about(choice, classifier.classes)
        if dropped is not None:
            shown = explain(classifier, read_image(Path(dropped["path"])))
    except UserError as error:
        message = str(error)
        if dropped is not None:
            message = message.replace(dropped["path"], dropped["orig_name"] or "image")
        message = f'<p role="alert">{escape(message)}</p>'
    return [description, message, *shown]


def write_examples(sets: Sequence[str], folder: Path) -> list[str]:
    """Write one test image for each of the first classes of the data sets into `folder`; returns the paths."""
    paths = []
    for name in sets:
        data = open_processed(name)
        for label in np.unique(data.test_labels)[:EXAMPLES]:
            row = np.flatnonzero(data.test_labels == label)[:1]
            (image,) = np.asarray(data.test_images[row])
            path = folder / f"{name}-{label}.png"
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
            paths.append(str(path))
    return paths


def build(choices: Mapping[str, Choice], load: Load, examples: Sequence[str]) -> gr.Blocks:
    """The page: choice of a network, an image on the left, what the network sees on the right and below."""
    page = gr.Blocks(title="What does the network see?", analytics_enabled=False)
    with page:
        gr.HTML(TITLE)
        chosen = gr.Radio([*choices], value=[*choices][-1], label="Data set / network", elem_id="network")
        description = gr.HTML(elem_id="about")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = gr.Image(
                    label="Your image",
                    type="filepath",
                    sources=["upload", "clipboard"],
                    buttons=[],
                    height=320,
                    elem_id="image",
                )
                gr.Examples([*examples], image, label="Or a test image, not used in training")
            with gr.Column(scale=3, min_width=320):
                message = gr.HTML(elem_id="error")
                label = gr.Label(label="Prediction", num_top_classes=TOP, elem_id="prediction")
                with gr.Row():
                    network_input, cam = (
                        gr.Image(label=title, format="png", buttons=[], min_width=240, elem_id=name)
                        for name, title in (("input", "Network input"), ("cam", "Grad-CAM"))
                    )
        maps = gr.Image(
            label="Activations: the strongest feature maps of each layer, first layer on top; brighter is larger",
            format="png",
            buttons=["fullscreen"],
            elem_id="maps",
        )
        # preprocess=False, the file as uploaded: Gradio's own decoder drops transparency and hides why it fails.
        gr.on(
            [page.load, chosen.change, image.change],
            lambda title, dropped: respond(choices[title], load, dropped),
            [chosen, image],
            [description, message, label, network_input, cam, maps],
            preprocess=False,
            show_progress="minimal",
            trigger_mode="always_last",
            api_visibility="private",
        )
    return page


def serve(parameters: params.Params, port: int) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; uploaded images are removed then.

    Raises UserError if no network is trained or the port is in use.
    """
    check_free(port)
    choices = trained(parameters)
    load = lru_cache(CACHED)(lambda variant: network.load(parameters, variant, ""))
    # Gradio would report its use and check for updates; it also calls itself, which must not go through a proxy.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": HOST, "no_proxy": HOST}
    with tempfile.TemporaryDirectory(prefix="cnnlab-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/uploads"
        examples = write_examples([*dict.fromkeys(choice.data for choice in choices.values())], Path(folder))
        _launch(build(choices, load, examples), port)
        print(f"The page: http://{HOST}:{port} (Ctrl-C stops it)", flush=True)
        done = threading.Event()
        with on_interrupt(done.set, "the page is closed"):
            done.wait()


def _launch(page: gr.Blocks, port: int) -> None:
    system = ["system-ui", "sans-serif"]  # web fonts would be loaded from another host
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        theme=gr.themes.Default(primary_hue="teal", font=system, font_mono=system),
        css=STYLE,
    )
