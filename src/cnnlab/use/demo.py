"""A page, on this machine only, that tells what a dropped picture shows and where the network sees it."""

import json
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
from cnnlab.classifier import Classifier, fitted
from cnnlab.data.decode import any_picture
from cnnlab.data.store import open_processed
from cnnlab.errors import UserError, on_interrupt
from cnnlab.files import MODELS
from cnnlab.see import attribution, draw, layers
from cnnlab.use.network import Network, asked
from cnnlab.use.port import HOST, check_free

SIDE = 384  # pixels at least of a picture that is enlarged
EXAMPLES = 4  # classes of a data set of which a picture is offered
NAMED = 12  # classes at most that are listed
TOP = 5  # classes whose probabilities are shown
LOADED = 4  # networks at most that stay in memory
HEAT = 0.6  # how much the heat of Grad-CAM covers the picture

TITLE = """<h1>What does the network see?</h1>
<p>Drop a picture. A network that was trained here tells what it shows, where in the picture it finds that, and what
each of its layers answers. The picture stays on this machine.</p>"""
STYLE = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
h1 {font-size: 1.9rem; font-weight: 650; margin: .4rem 0 .2rem}
#mistake p {border-left: 4px solid #b5442e; background: #fbeeea; color: #5c1d10; padding: .6rem .9rem}
#mistake:not(:has(p)) {display: none}
#seen, #cam, #maps {padding-top: 2.2rem}
#seen img, #cam img, .gallery img {image-rendering: pixelated}
#picture img {width: 100%; height: 100%; object-fit: contain}
#maps img {background: white}
"""


@dataclass(frozen=True)
class Choice:
    """A trained variant, with what metrics.json says of it."""

    variant: str
    data: str
    metrics: Mapping[str, float]


Load = Callable[[str], Network]  # from a variant's name; raises UserError where its files are gone or damaged


def trained(parameters: params.Params) -> dict[str, Choice]:
    """Every network that is trained, by the name it has on the page: set by set, from the worst to the best.

    Raises UserError where there is none, and where a metrics.json is damaged.
    """
    known = {**params.variants(parameters), **parameters.on_demand}
    choices = []
    for name, variant in known.items():
        path = MODELS / variant.data / name / "metrics.json"
        try:
            choices.append(Choice(name, variant.data, json.loads(path.read_text())))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise UserError(
                f"Invalid {path}. Expected JSON, as training writes it. Received: {error}. "
                f"Run: make train VARIANT={name}"
            ) from error
    if not choices:
        raise UserError(
            f"No trained network in {MODELS}. Expected one of: {', '.join(known)}. "
            "Run: make repro, or make train VARIANT=improved"
        )
    sets = [*parameters.data, *parameters.optional_data]
    choices.sort(key=lambda choice: (sets.index(choice.data), choice.metrics["validation_accuracy"]))
    return {f"{choice.data} / {choice.variant}": choice for choice in choices}


def about(choice: Choice, classes: Sequence[str]) -> str:
    """A paragraph of HTML on a network: its size, how often it is right, what it knows."""
    metrics = choice.metrics
    listed = ", ".join(classes[:NAMED]) + (f" and {len(classes) - NAMED} more" if len(classes) > NAMED else "")
    return (
        f"<p>{metrics['parameters']:,} parameters. Right for {100 * metrics['validation_accuracy']:.1f} % of the "
        f"validation images and {100 * metrics['test_accuracy']:.1f} % of the test images. "
        f"It knows {len(classes)} classes and nothing else: {escape(listed)}.</p>"
    )


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A uint8 picture, grey or RGB, as RGB with every pixel repeated until a side has `SIDE` or more."""
    times = -(-SIDE // max(picture.shape[:2]))
    height, width, _ = picture.shape
    return np.broadcast_to(picture, (height, width, 3)).repeat(times, axis=0).repeat(times, axis=1)


def heated(picture: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Grad-CAM (height, width) from black over red to yellow upon the grey of a uint8 picture; uint8 RGB."""
    grey = picture.mean(axis=2, keepdims=True) / 255
    heat = colormaps["inferno"](cam / max(float(cam.max()), 1e-12))[..., :3]
    return np.asarray(np.round(255 * ((1 - HEAT) * grey + HEAT * heat)), np.uint8)


def drawn_maps(model: keras.Model, picture: np.ndarray) -> Image.Image:
    """The figure of `draw.maps`: the uint8 picture and the strongest maps of each layer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maps.png"
        draw.maps(path, picture, layers.feature_maps(model, picture))
        with Image.open(path) as figure:
            return figure.convert("RGB")


def look(classifier: Classifier, dropped: np.ndarray) -> list[Any]:
    """What the page shows of a picture, uint8 (height, width, 3) of any size: probabilities, input, Grad-CAM, maps."""
    whole = classifier.network
    model = whole.get_layer(whole.name)  # the network alone, within what `nets.whole` adds to it
    picture = fitted(dropped, whole.input_shape[1:])
    (probabilities,) = classifier.probabilities([dropped])
    label = int(probabilities.argmax())
    (cam,) = attribution.grad_cam(model, picture[None], np.array([label]))
    size = f"{picture.shape[1]}×{picture.shape[0]}"
    return [
        dict(zip(classifier.classes, probabilities.tolist(), strict=True)),
        gr.update(value=enlarged(picture), label=f"The network gets {size} pixels"),
        gr.update(value=enlarged(heated(picture, cam)), label=f"Grad-CAM: what speaks for {classifier.classes[label]}"),
        drawn_maps(model, picture),
    ]


def answer(choice: Choice, load: Load, dropped: Mapping[str, Any] | None) -> list[Any]:
    """Values of the page's outputs: about the network, a mistake, and `look`'s, which are empty without a picture."""
    facts, shown = "", [gr.update(value=None)] * 4
    try:
        classifier = load(choice.variant).classifier
        facts = about(choice, classifier.classes)
        if dropped is not None:
            shown = look(classifier, any_picture(Path(dropped["path"])))
    except UserError as error:
        told = str(error) if dropped is None else str(error).replace(dropped["path"], dropped["orig_name"] or "picture")
        return [facts, _mistake(told), *shown]
    return [facts, "", *shown]


def _mistake(told: str) -> str:
    return f'<p role="alert">{escape(told)}</p>'


def write_examples(sets: Sequence[str], folder: Path) -> list[str]:
    """Write a test picture of each of the first classes of data sets into `folder`; returns the files."""
    files = []
    for name in sets:
        data = open_processed(name)
        for label in np.unique(data.test_labels)[:EXAMPLES]:
            row = np.flatnonzero(data.test_labels == label)[:1]
            (picture,) = np.asarray(data.test_images[row])
            path = folder / f"{name}-{label}.png"
            Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(path)
            files.append(str(path))
    return files


def build(choices: Mapping[str, Choice], load: Load, examples: Sequence[str]) -> gr.Blocks:
    """The page: one of `choices` above, a picture on the left, what the network sees on the right and below."""
    page = gr.Blocks(title="What does the network see?", analytics_enabled=False)
    with page:
        gr.HTML(TITLE)
        network = gr.Radio([*choices], value=[*choices][-1], label="Data set / network", elem_id="network")
        facts = gr.HTML(elem_id="facts")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    label="Your picture",
                    type="filepath",
                    sources=["upload", "clipboard"],
                    buttons=[],
                    height=320,
                    elem_id="picture",
                )
                gr.Examples([*examples], picture, label="Or a test image, which no network learnt from")
            with gr.Column(scale=3, min_width=320):
                mistake = gr.HTML(elem_id="mistake")
                told = gr.Label(label="It shows", num_top_classes=TOP, elem_id="told")
                with gr.Row():
                    seen, cam = (
                        gr.Image(label=label, format="png", buttons=[], min_width=240, elem_id=name)
                        for name, label in (("seen", "What the network gets"), ("cam", "Grad-CAM"))
                    )
        maps = gr.Image(
            label="What the layers answer: the strongest maps of each, first layer on top; white is much",
            format="png",
            buttons=["fullscreen"],
            elem_id="maps",
        )
        # preprocess=False, the file as it came: Gradio's reading forgets what is transparent, and fails without words.
        gr.on(
            [page.load, network.change, picture.change],
            lambda title, dropped: answer(choices[title], load, dropped),
            [network, picture],
            [facts, mistake, told, seen, cam, maps],
            preprocess=False,
            show_progress="minimal",
            trigger_mode="always_last",
            api_visibility="private",
        )
    return page


def serve(parameters: params.Params, port: int) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; dropped pictures are removed then.

    Raises UserError where no network is trained, and where the port is taken.
    """
    check_free(port)
    choices = trained(parameters)
    load = lru_cache(LOADED)(lambda variant: asked(parameters, variant, ""))
    # Gradio would report its use and look for a newer version; and it asks itself, which a proxy would not let it.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": HOST, "no_proxy": HOST}
    with tempfile.TemporaryDirectory(prefix="cnnlab-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/dropped"
        examples = write_examples([*dict.fromkeys(choice.data for choice in choices.values())], Path(folder))
        _launch(build(choices, load, examples), port)
        print(f"The page: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
        done = threading.Event()
        with on_interrupt(done.set, "the page is closed"):
            done.wait()


def _launch(page: gr.Blocks, port: int) -> None:
    system = ["system-ui", "sans-serif"]  # others would come from another host
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
